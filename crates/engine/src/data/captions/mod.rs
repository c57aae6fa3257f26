//! Image captions: files, tokenisation, vocabularies, batches, scores.
//!
//! [`CaptionSet::open`] reads published formats; [`words`] and [`vocabulary`] convert sentences to ids; [`sampler`] forms
//! batches of captions of one length; [`windows`] splits a caption into truncation windows; [`ptb`] and [`scores`] compare
//! sentences with references.

mod coco;
mod flickr;
mod karpathy;
pub mod ptb;
mod records;
pub mod results;
pub mod sampler;
pub mod scores;
pub mod vocabulary;
pub mod windows;
pub mod words;

use std::collections::HashMap;
use std::path::Path;

pub use coco::write as write_coco;

use crate::error::{Error, Result};
use crate::files::{read_at_most, without_mark};

/// Most bytes of a file of captions, of results or of words; the captions of COCO 2014 have 67 MB, those of Karpathy's splits 144 MB.
const MAX_FILE: u64 = 1 << 30;

/// An image of a caption file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The id; in formats without ids 1, 2, ... in order of first appearance.
    pub id: u64,
    /// The file's name, relative to the folder of the images.
    pub file_name: String,
    /// The part of the data set (such as `train`), if the file has splits.
    pub split: Option<String>,
}

/// A caption of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// The id; in formats without ids 1, 2, ... in order of appearance.
    pub id: u64,
    /// Index of its image in [`CaptionSet::images`].
    pub image: usize,
    /// The sentence, unprocessed.
    pub text: String,
}

/// The content of a caption file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptionSet {
    /// Every image once; images may have no captions.
    pub images: Vec<Image>,
    /// The captions in the order of the file.
    pub captions: Vec<Caption>,
}

impl CaptionSet {
    /// Fails for a missing caption file of COCO, naming the command that downloads it.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub fn find(path: &Path) -> Result<()> {
        let what = "is not there; `ccdni data coco` gets the captions and images of COCO 2014";
        if is_of_coco(path) && !path.exists() { Err(Error::data(path, what)) } else { Ok(()) }
    }

    /// Reads a caption file: COCO's JSON, the JSON of Karpathy's splits, or the text tables of Flickr8k and Flickr30k. The
    /// format is detected from the content.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Data`] with the position if the format is unknown, the text is not
    /// UTF-8, an id is missing or duplicate, or a caption refers to an unknown image; also for a missing file of COCO.
    pub fn open(path: &Path) -> Result<Self> {
        Self::find(path)?;
        let bytes = read_at_most(path, MAX_FILE)?;
        let bytes = without_mark(&bytes);
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => Err(Error::data(path, "is empty; expected a file of captions")),
            Some(b'{') => coco::read(path, bytes),
            Some(b'[') => karpathy::read_list(path, bytes),
            Some(_) => flickr::read(path, bytes),
        }
    }

    /// Restricts the set to the images in a list (one file name per line, as in the splits of Flickr8k).
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] if the list is empty or names an unknown image.
    pub fn only(self, list: &Path) -> Result<Self> {
        let bytes = read_at_most(list, MAX_FILE)?;
        let bytes = without_mark(&bytes);
        let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(list, bytes, error.valid_up_to()))?;
        let places: HashMap<&str, usize> =
            self.images.iter().enumerate().map(|(place, image)| (image.file_name.as_str(), place)).collect();
        let mut wanted = vec![false; self.images.len()];
        for (number, line) in text.lines().enumerate() {
            let name = line.trim();
            match places.get(name) {
                _ if name.is_empty() => {}
                Some(&place) => wanted[place] = true,
                None => {
                    let hint =
                        self.nearly_called(name).map_or_else(String::new, |other| format!("; did you mean `{other}`?"));
                    let what = format!("line {}: there is no image `{name}` in the captions{hint}", number + 1);
                    return Err(Error::data(list, what));
                }
            }
        }
        if !wanted.contains(&true) {
            return Err(Error::data(list, "names no image; expected one file name per line"));
        }
        Ok(self.keep(&wanted))
    }

    /// Restricts the set to some splits: `train`, or several joined by a plus sign, `train+restval`.
    ///
    /// # Errors
    /// [`Error::Data`] for the file `path`, listing its splits, if one does not exist.
    pub fn split(self, parts: &str, path: &Path) -> Result<Self> {
        let parts: Vec<&str> = parts.split('+').map(str::trim).collect();
        let there = self.splits();
        if let Some(part) = parts.iter().find(|part| !there.contains(part)) {
            let what = match there.is_empty() {
                true => format!("has no splits, and so no `{part}`"),
                false => format!("has no split `{part}`; it has {}", there.join(", ")),
            };
            return Err(Error::data(path, what));
        }
        let of = |image: &Image| image.split.as_deref().is_some_and(|split| parts.contains(&split));
        let wanted: Vec<bool> = self.images.iter().map(of).collect();
        Ok(self.keep(&wanted))
    }

    /// As [`CaptionSet::split`] if `parts` is given; otherwise the file may have at most one split.
    ///
    /// # Errors
    /// As there; [`Error::Data`] with an `example` of a choice if one is required.
    pub fn chosen(self, parts: Option<&str>, path: &Path, example: &str) -> Result<Self> {
        match (parts, self.splits().as_slice()) {
            (Some(parts), _) => self.split(parts, path),
            (None, splits @ [_, _, ..]) => {
                Err(Error::data(path, format!("has the splits {}; choose, as in `{example}`", splits.join(", "))))
            }
            (None, _) => Ok(self),
        }
    }

    /// The splits of the file, sorted.
    fn splits(&self) -> Vec<&str> {
        let names: std::collections::BTreeSet<&str> =
            self.images.iter().filter_map(|image| image.split.as_deref()).collect();
        names.into_iter().collect()
    }

    /// The image that is probably meant: in another folder or with another extension.
    fn nearly_called(&self, name: &str) -> Option<&str> {
        let file = |name: &str| Path::new(name).file_name().map(|name| name.to_ascii_lowercase());
        let stem = |name: &str| Path::new(name).file_stem().map(|name| name.to_ascii_lowercase());
        let like = |same: &dyn Fn(&str) -> bool| {
            self.images.iter().map(|image| image.file_name.as_str()).find(|other| same(other))
        };
        like(&|other| file(other) == file(name)).or_else(|| like(&|other| stem(other) == stem(name)))
    }

    /// Keeps the images at the marked indices, and their captions.
    fn keep(mut self, wanted: &[bool]) -> Self {
        let mut places = vec![0; self.images.len()];
        let mut kept = Vec::new();
        for (place, image) in self.images.into_iter().enumerate().filter(|(place, _)| wanted[*place]) {
            places[place] = kept.len();
            kept.push(image);
        }
        self.images = kept;
        self.captions.retain(|caption| wanted[caption.image]);
        for caption in &mut self.captions {
            caption.image = places[caption.image];
        }
        self
    }

    /// Number of images without a caption.
    pub fn images_without_captions(&self) -> usize {
        let mut with = vec![false; self.images.len()];
        self.captions.iter().for_each(|caption| with[caption.image] = true);
        with.into_iter().filter(|with| !with).count()
    }
}

/// Whether a file has a name of COCO's caption files.
fn is_of_coco(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ["captions_train20", "captions_val20"].iter().any(|start| name.starts_with(start))
}

/// The error for invalid JSON, which distinguishes truncation.
fn not_json(path: &Path, error: &serde_json::Error) -> Error {
    let what = match error.is_eof() {
        true => format!("ends early, at line {} column {}: is the copy whole?", error.line(), error.column()),
        false => format!("is no file of captions in COCO's format: {error}"),
    };
    Error::data(path, what)
}

/// The error for invalid UTF-8, with its line.
fn not_utf8(path: &Path, bytes: &[u8], at: usize) -> Error {
    let line = 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
    Error::data(path, format!("line {line}: is not UTF-8 (byte {at}); convert the file"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(content: &[u8]) -> Result<CaptionSet> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("captions");
        fs::write(&path, content).unwrap();
        CaptionSet::open(&path)
    }

    const COCO: &str = r#"{"info": {"year": 2014}, "images": [{"id": 9, "file_name": "b.jpg", "height": 4},
        {"id": 4, "file_name": "a.jpg"}, {"id": 5, "file_name": "c.jpg"}], "annotations": [
        {"image_id": 4, "id": 70, "caption": "A dog."}, {"image_id": 9, "id": 8, "caption": ""},
        {"image_id": 4, "id": 71, "caption": "naïve\n café"}], "licenses": []}"#;

    #[test]
    fn coco_is_read_in_its_order() {
        let set = open(COCO.as_bytes()).unwrap();
        let images: Vec<_> = set.images.iter().map(|image| (image.id, image.file_name.as_str())).collect();
        assert_eq!(images, [(9, "b.jpg"), (4, "a.jpg"), (5, "c.jpg")]);
        let captions: Vec<_> = set.captions.iter().map(|c| (c.id, c.image, c.text.as_str())).collect();
        assert_eq!(captions, [(70, 1, "A dog."), (8, 0, ""), (71, 1, "naïve\n café")]);
        assert_eq!(set.images_without_captions(), 1);
    }

    #[test]
    fn flickr_is_read_in_its_three_forms() {
        let token = "b.jpg#0\tA dog , running .\nb.jpg#1\tTwo\ta.jpg\r\na.jpg#0\tA \"cat\"";
        let table = "image,caption\nb.jpg,\"A dog , running .\"\nb.jpg,Two\ta.jpg\na.jpg,\"A \"\"cat\"\"\"\n";
        let bars = "image_name| comment_number| comment\nb.jpg| 0| A dog , running .\nb.jpg| 1| Two\ta.jpg\na.jpg| 0| A \"cat\"\n";
        for text in [token, table, bars] {
            let set = open(text.as_bytes()).unwrap();
            let images: Vec<_> = set.images.iter().map(|image| (image.id, image.file_name.as_str())).collect();
            assert_eq!(images, [(1, "b.jpg"), (2, "a.jpg")], "{text}");
            let captions: Vec<_> = set.captions.iter().map(|c| (c.id, c.image, c.text.as_str())).collect();
            assert_eq!(captions, [(1, 0, "A dog , running ."), (2, 0, "Two\ta.jpg"), (3, 1, "A \"cat\"")], "{text}");
        }
    }

    #[test]
    fn errors_name_their_position() {
        let of =
            |images: &str, annotations: &str| format!(r#"{{"images": [{images}], "annotations": [{annotations}]}}"#);
        let image = r#"{"id": 1, "file_name": "a.jpg"}"#;
        let caption = r#"{"id": 2, "image_id": 1, "caption": "x"}"#;
        for (content, expected) in [
            (String::new(), "is empty"),
            ("{\"images\": [".into(), "line 1"),
            (r#"{"annotations": []}"#.into(), "`images`"),
            (r#"{"images": []}"#.into(), "`annotations`"),
            ("[1]".into(), "line 1"),
            (r#"[{"image": "a.jpg"}]"#.into(), "item 0: has no `caption`"),
            (of(r#"{"file_name": "a.jpg"}"#, ""), "`images`, item 0: has no `id`"),
            (of(r#"{"id": 1}"#, ""), "`images`, item 0: has no `file_name`"),
            (of(&format!("{image}, {image}"), ""), "`images`, item 1: the id 1 is there twice"),
            (of(image, &format!("{caption}, {caption}")), "`annotations`, item 1: the id 2 is there twice"),
            (of(image, r#"{"image_id": 1, "caption": "x"}"#), "`annotations`, item 0: has no `id`"),
            (of(image, r#"{"id": 1, "caption": "x"}"#), "`annotations`, item 0: has no `image_id`"),
            (of(image, r#"{"id": 1, "image_id": 1}"#), "`annotations`, item 0: has no `caption`"),
            (of(image, r#"{"id": 1, "image_id": 3, "caption": "x"}"#), "item 0: there is no image 3"),
            (of(r#"{"id": "one", "file_name": "a.jpg"}"#, ""), "line 1"),
            (of(r#"{"id": -1, "file_name": "a.jpg"}"#, ""), "line 1"),
            (r#"[{"image": "a.jpg", "caption": "x"}, {"caption": "y"#.into(), "ends early, at line 1"),
            ("name,sentence_no\na.jpg,1\n".into(), "line 1: `name,sentence_no` is neither"),
            ("image,caption\na.jpg,x\nb.jpg,\"never closed\nc.jpg,y\n".into(), "line 3: begins a quotation"),
            (format!("{{\"images\": {}", "[".repeat(100_000)), "line 1"),
            ("b.jpg#0\tfine\nb.jpg a dog\n".into(), "line 2: "),
            ("b.jpg#x\ta dog\n".into(), "line 1: "),
            ("just a text\n".into(), "line 1: "),
            ("image,caption\na.jpg\n".into(), "line 2"),
        ] {
            let error = open(content.as_bytes()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{content}");
            assert!(error.to_string().contains(expected), "{content}: {error}");
        }
        let mut bytes = of(image, caption).into_bytes();
        let at = bytes.iter().position(|&byte| byte == b'x').unwrap();
        bytes[at] = 0xff;
        let error = open(&bytes).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
        let error = open(b"a.jpg#0\tfine\na.jpg#1\t\xff\n").unwrap_err().to_string();
        assert!(error.contains("line 2: is not UTF-8"), "{error}");
    }

    #[test]
    fn a_list_selects_images() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("list.txt");
        fs::write(&list, "c.jpg\na.jpg\r\n\n").unwrap();
        let set = open(COCO.as_bytes()).unwrap().only(&list).unwrap();
        assert_eq!(set.images.iter().map(|image| image.id).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(set.captions.iter().map(|c| (c.id, c.image)).collect::<Vec<_>>(), [(70, 0), (71, 0)]);
        for (content, expected) in [("d.jpg\n", "line 1: there is no image `d.jpg`"), ("\n", "names no image")] {
            fs::write(&list, content).unwrap();
            let error = open(COCO.as_bytes()).unwrap().only(&list).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// A caption file, or a list, as found in the wild.
    fn case(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases").join(name)
    }

    #[test]
    fn tables_are_read_with_any_delimiter_and_header() {
        let expected = CaptionSet::open(&case("filename.csv")).unwrap();
        assert_eq!(expected.images.len(), 2);
        assert_eq!(expected.captions[0].text, "Two men , one in red , talk .");
        assert_eq!(expected.captions.iter().map(|caption| caption.image).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1]);
        for name in ["flickr30k-commas.csv", "semicolon.csv", "tabs.tsv", "upper.csv"] {
            assert_eq!(CaptionSet::open(&case(name)).unwrap(), expected, "{name}");
        }
        // Columns in another order, numbered rows, quoted names of columns, captions with unquoted commas.
        let text = "\"\",\"Caption\",\"File Name\"\n1,Two men , one in red , talk .,10.jpg\n2,Men talk .,10.jpg\n";
        let set = open(text.as_bytes()).unwrap();
        assert_eq!((set.captions.len(), set.images[0].file_name.as_str()), (2, "10.jpg"));
        assert_eq!(set.captions[0].text, "Two men , one in red , talk .");
    }

    #[test]
    fn an_unclosed_quotation_is_an_error() {
        let error = CaptionSet::open(&case("quote.csv")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("quote.csv: line 3: begins a quotation"), "{error}");
    }

    #[test]
    fn a_column_of_splits_is_used() {
        let text =
            "split,filename,caption\ntrain,a.jpg,\"A dog, black.\"\nval,b.jpg,A cat, white.\ntrain,a.jpg,Dogs.\n";
        let set = open(text.as_bytes()).unwrap();
        let splits: Vec<_> = set.images.iter().map(|image| image.split.as_deref()).collect();
        assert_eq!(splits, [Some("train"), Some("val")]);
        assert_eq!(set.split("val", Path::new("x")).unwrap().captions[0].text, "A cat, white.");
        for (text, expected) in [
            ("image,caption,split\na.jpg,A dog,train\na.jpg,Dogs,val\n", "line 3: `a.jpg` is in another split"),
            ("image,caption,\"split\na.jpg,A dog,train\n", "line 1: begins a quotation"),
        ] {
            let error = open(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn long_lines_are_read() {
        let long = "\"a\"b,".repeat(100_000);
        let set = open(format!("image,caption\na.jpg,{long}\n").as_bytes()).unwrap();
        assert_eq!(set.captions[0].text, long);
        let error = open(format!("image,{long}caption\n").as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.len() < 1000, "{error}");
    }

    #[test]
    fn split_files_are_read_and_splits_chosen() {
        let set = CaptionSet::open(&case("karpathy.json")).unwrap();
        assert_eq!((set.images[0].file_name.as_str(), set.images[0].split.as_deref()), ("100_a.jpg", Some("train")));
        assert_eq!(set.captions[1].text, "A dog number 0 runs over the grass , take 1 .");
        let path = case("karpathy.json");
        let train = set.clone().split("train", &path).unwrap();
        assert!(!train.images.is_empty() && train.images.len() < set.images.len());
        let both = set.clone().chosen(Some("train+val"), &path, "split: train").unwrap();
        assert!(both.images.len() > train.images.len());
        let error = set.clone().chosen(None, &path, "split: train").unwrap_err().to_string();
        assert!(error.contains("has the splits ") && error.contains("`split: train`"), "{error}");
        let error = set.split("dev", &path).unwrap_err().to_string();
        assert!(error.contains("no split `dev`; it has ") && error.contains("train"), "{error}");
        let error = CaptionSet::open(&case("karpathy-cut.json")).unwrap_err().to_string();
        assert!(error.contains("ends early"), "{error}");
        let twice = r#"{"images": [{"imgid": 1, "filename": "a", "sentences": [{"sentid": 0, "raw": "b"}, {"sentid": 0, "raw": "c"}]}]}"#;
        assert!(open(twice.as_bytes()).unwrap_err().to_string().contains("the `sentid` 0 is there twice"));
        let partial = r#"{"images": [{"imgid": 1, "filename": "a", "sentences": []}, {"imgid": 2, "filename": "b"}]}"#;
        let error = open(partial.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("`images`, item 1: has no `sentences`"), "{error}");
        let coco = r#"{"images": [{"cocoid": 42, "imgid": 0, "filename": "x.jpg", "filepath": "val2014", "split": "restval",
            "sentences": [{"tokens": ["a", "dog"]}]}], "dataset": "coco"}"#;
        let set = open(coco.as_bytes()).unwrap();
        assert_eq!((set.images[0].id, set.images[0].file_name.as_str()), (42, "val2014/x.jpg"));
        assert_eq!(set.captions[0].text, "a dog");
    }

    #[test]
    fn a_list_with_similar_names_gets_a_suggestion() {
        let set = CaptionSet::open(&case("tokens.token")).unwrap();
        assert_eq!(set.clone().only(&case("split-bom.txt")).unwrap().images.len(), 2);
        for name in ["split-paths.txt", "split-ids.txt"] {
            let error = set.clone().only(&case(name)).unwrap_err().to_string();
            assert!(error.contains("did you mean `10.jpg`?"), "{error}");
        }
    }

    #[test]
    fn missing_captions_of_coco_name_the_command_that_downloads_them() {
        let error = CaptionSet::open(Path::new("nowhere/captions_train2014.json")).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("`ccdni data coco`"), "{error}");
    }

    #[test]
    fn a_written_file_reads_the_same() {
        let set = open(COCO.as_bytes()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("captions.json");
        write_coco(&path, "a description", &set).unwrap();
        assert_eq!(CaptionSet::open(&path).unwrap(), set);
    }
}
