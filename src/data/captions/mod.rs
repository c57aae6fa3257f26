//! Pictures and the sentences that people wrote about them: files of captions, words, vocabularies, batches, scores.
//!
//! [`CaptionSet::open`] reads what others publish; [`words`] and [`vocabulary`] turn sentences into ids; [`sampler`] puts
//! captions of one length into batches and [`windows`] cuts a caption into what a network sees at a time; [`ptb`] and
//! [`scores`] compare sentences with those of people.

mod coco;
mod flickr;
pub mod ptb;
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

/// A picture, by the id and the file name that the caption file gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The id; of a format without ids, 1, 2, ... in order of first appearance.
    pub id: u64,
    /// The file's name, relative to the folder of the pictures.
    pub file_name: String,
}

/// A sentence about a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// The id; of a format without ids, 1, 2, ... in order of appearance.
    pub id: u64,
    /// The position of its picture in [`CaptionSet::images`].
    pub image: usize,
    /// The sentence as it was written.
    pub text: String,
}

/// A file of captions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptionSet {
    /// Every picture once. One without captions is allowed.
    pub images: Vec<Image>,
    /// The sentences in the order of the file.
    pub captions: Vec<Caption>,
}

impl CaptionSet {
    /// Reads a caption file: COCO's JSON, or the text tables of Flickr8k and Flickr30k. The content says which it is.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Data`] with the place if it is neither, is not UTF-8, misses ids, has
    /// an id twice, or has captions of pictures that it does not list.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => Err(Error::data(path, "is empty; expected a file of captions")),
            Some(b'{' | b'[') => coco::read(path, bytes),
            Some(_) => flickr::read(path, bytes),
        }
    }

    /// Only the pictures that a list names (a file name a line, as the splits of Flickr8k have it), and their captions.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] if the list is empty or names a picture that is not there.
    pub fn only(mut self, list: &Path) -> Result<Self> {
        let bytes = std::fs::read(list).map_err(Error::io("read", list))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| not_utf8(list, &bytes, error.valid_up_to()))?;
        let places: HashMap<&str, usize> =
            self.images.iter().enumerate().map(|(place, image)| (image.file_name.as_str(), place)).collect();
        let mut wanted = vec![false; self.images.len()];
        for (number, line) in text.lines().enumerate() {
            let name = line.trim();
            match places.get(name) {
                _ if name.is_empty() => {}
                Some(&place) => wanted[place] = true,
                None => {
                    let what = format!("line {}: there is no picture `{name}` in the captions", number + 1);
                    return Err(Error::data(list, what));
                }
            }
        }
        if !wanted.contains(&true) {
            return Err(Error::data(list, "names no picture; expected one file name a line"));
        }
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
        Ok(self)
    }

    /// How many pictures have no caption.
    pub fn images_without_captions(&self) -> usize {
        let mut with = vec![false; self.images.len()];
        self.captions.iter().for_each(|caption| with[caption.image] = true);
        with.into_iter().filter(|with| !with).count()
    }
}

/// A file that is no text: says at which line.
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
    fn what_is_wrong_is_said_with_its_place() {
        let of =
            |images: &str, annotations: &str| format!(r#"{{"images": [{images}], "annotations": [{annotations}]}}"#);
        let image = r#"{"id": 1, "file_name": "a.jpg"}"#;
        let caption = r#"{"id": 2, "image_id": 1, "caption": "x"}"#;
        for (content, says) in [
            (String::new(), "is empty"),
            ("{\"images\": [".into(), "line 1"),
            (r#"{"annotations": []}"#.into(), "`images`"),
            (r#"{"images": []}"#.into(), "`annotations`"),
            ("[]".into(), "expected an object"),
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
            (format!("{{\"images\": {}", "[".repeat(100_000)), "line 1"),
            ("b.jpg#0\tfine\nb.jpg a dog\n".into(), "line 2: "),
            ("b.jpg#x\ta dog\n".into(), "line 1: "),
            ("just a text\n".into(), "line 1: "),
            ("image,caption\na.jpg\n".into(), "line 2"),
        ] {
            let error = open(content.as_bytes()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{content}");
            assert!(error.to_string().contains(says), "{content}: {error}");
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
    fn a_list_selects_pictures() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("list.txt");
        fs::write(&list, "c.jpg\na.jpg\r\n\n").unwrap();
        let set = open(COCO.as_bytes()).unwrap().only(&list).unwrap();
        assert_eq!(set.images.iter().map(|image| image.id).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(set.captions.iter().map(|c| (c.id, c.image)).collect::<Vec<_>>(), [(70, 0), (71, 0)]);
        for (content, says) in [("d.jpg\n", "line 1: there is no picture `d.jpg`"), ("\n", "names no picture")] {
            fs::write(&list, content).unwrap();
            let error = open(COCO.as_bytes()).unwrap().only(&list).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
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
