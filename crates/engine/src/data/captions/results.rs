//! Generated captions in COCO's results format: a JSON list of `image_id` and `caption`.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::MAX_FILE;
use crate::error::{Error, Result};
use crate::files::{read_at_most, without_mark, write_atomically};

/// The file of the captions that a seed's network generates at the end of training.
pub const FILE: &str = "captions.json";

/// The caption of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaptionResult {
    /// Id of the image in the caption file.
    pub image_id: u64,
    /// The sentence.
    pub caption: String,
}

#[derive(Deserialize)]
struct Row {
    image_id: Option<u64>,
    caption: Option<String>,
}

/// Reads a results file.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] with the position if the file is malformed or an image is duplicate.
pub fn read(path: &Path) -> Result<Vec<CaptionResult>> {
    let bytes = read_at_most(path, MAX_FILE)?;
    let rows: Vec<Row> = serde_json::from_slice(without_mark(&bytes)).map_err(|error| {
        let wanted = r#"expected a list like [{"image_id": 42, "caption": "a dog"}]"#;
        Error::data(path, format!("is no file of results: {error}; {wanted}"))
    })?;
    let mut seen = HashSet::new();
    let check = |(item, row): (usize, Row)| {
        let wrong = |what: String| Error::data(path, format!("item {item}: {what}"));
        let image_id = row.image_id.ok_or_else(|| wrong("has no `image_id`".into()))?;
        let caption = row.caption.ok_or_else(|| wrong("has no `caption`".into()))?;
        if !seen.insert(image_id) {
            return Err(wrong(format!("the image {image_id} is there twice")));
        }
        Ok(CaptionResult { image_id, caption })
    };
    rows.into_iter().enumerate().map(check).collect()
}

/// Writes a results file, atomically.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, results: &[CaptionResult]) -> Result<()> {
    let mut text = serde_json::to_vec(results).map_err(|error| Error::data(path, error.to_string()))?;
    text.push(b'\n');
    write_atomically(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_as_written_and_mistakes_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.json");
        let result = |image_id, caption: &str| CaptionResult { image_id, caption: caption.into() };
        let results = [result(7, "a \"dog\" ."), result(3, "")];
        write(&path, &results).unwrap();
        assert_eq!(read(&path).unwrap(), results);
        // With a byte order mark, as some editors write it.
        std::fs::write(&path, b"\xef\xbb\xbf[{\"image_id\": 7, \"caption\": \"x\", \"id\": 1}]").unwrap();
        assert_eq!(read(&path).unwrap(), [result(7, "x")]);
        for (content, expected) in [
            ("{}", "expected a list"),
            ("", "expected a list"),
            (r#"[{"caption": "x"}]"#, "item 0: has no `image_id`"),
            (
                r#"[{"image_id": 1, "caption": "x"}, {"image_id": 1, "caption": "y"}]"#,
                "item 1: the image 1 is there twice",
            ),
            (r#"[{"image_id": 1}]"#, "item 0: has no `caption`"),
            (r#"[{"image_id": "1", "caption": "x"}]"#, "line 1 column 17"),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = read(&path).unwrap_err();
            assert!(error.to_string().contains(expected) && error.exit_code() == 2, "{error}");
        }
    }
}
