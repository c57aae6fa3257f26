//! Words and their ids in a pickled vocabulary.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::pickle::{Id, Object, Objects};
use super::torch::INSTEAD;
use crate::error::{Error, Result};

/// The attribute of a vocabulary object that maps words to ids.
const WORDS: &str = "word2idx";

/// Words and their ids in a pickle: a dictionary from words to numbers, or an object with such a dictionary as `word2idx`, as in
/// the `vocab.pkl` of the papers' code. No code in it is executed.
///
/// # Errors
/// [`Error::Data`] if the file cannot be read, or holds no such dictionary.
pub fn pickled_ids(path: &Path) -> Result<Vec<(u32, String)>> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::io("read", path))?);
    let no = |why: String| Error::data(path, format!("is not a pickled vocabulary, or is damaged: {why}"));
    let mut objects = Objects::default();
    // Advice about modules does not help here.
    let plain = |why: String| no(why.trim_end_matches(INSTEAD).trim_end_matches("; ").into());
    let root = objects.read(&mut reader).map_err(plain)?;
    let attributes = objects.iter().filter_map(|object| match object {
        Object::Dict(entries) => Some(entries),
        _ => None,
    });
    let named = attributes.flatten().find(|(key, _)| *objects.get(*key) == Object::Text(WORDS.into()));
    let dictionary = named.map_or(root, |(_, value)| *value);
    ids(&objects, dictionary).ok_or_else(|| no(format!("it has no dictionary `{WORDS}` from words to whole numbers")))
}

fn ids(objects: &Objects, dictionary: Id) -> Option<Vec<(u32, String)>> {
    let Object::Dict(entries) = objects.get(dictionary) else { return None };
    let entry = |(word, id): &(Id, Id)| match (objects.get(*word), objects.get(*id)) {
        (Object::Text(word), Object::Number(id)) => Some((u32::try_from(*id).ok()?, word.clone())),
        _ => None,
    };
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, String)>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vocab.pkl");
        std::fs::write(&path, bytes).unwrap();
        pickled_ids(&path)
    }

    #[test]
    fn words_are_found_in_a_dictionary_and_in_an_object() {
        let expected = vec![(0, "<pad>".to_string()), (300, "dog".to_string())];
        let dictionary = b"}(X\x05\0\0\0<pad>K\0X\x03\0\0\0dogM\x2c\x01u";
        let plain = [b"\x80\x02".as_slice(), dictionary, b"."].concat();
        assert_eq!(read(&plain).unwrap(), expected);
        // An object of a class that does not exist here, with attributes `idx` and `word2idx`.
        let start = b"\x80\x03cbuild_vocab\nVocabulary\n)\x81}(X\x03\0\0\0idxK\x02X\x08\0\0\0word2idx";
        let object = [start.as_slice(), dictionary, b"ub."].concat();
        assert_eq!(read(&object).unwrap(), expected);
    }

    #[test]
    fn other_pickles_are_refused() {
        let negative = b"\x80\x02}(X\x05\0\0\0<pad>J\xff\xff\xff\xffu.";
        for (bytes, expected) in [
            (b"\x80\x02]K\x01a.".as_slice(), "no dictionary `word2idx`"),
            (b"\x80\x02}(K\x01K\x02u.", "no dictionary `word2idx`"),
            (negative, "no dictionary `word2idx`"),
            (b"\x80\x02}(X", "cannot be read to its end"),
            (b"(lp0\n.", "opcode 0x6c, which files of weights do not use"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(expected), "{error}");
            assert!(!error.to_string().contains("module"), "{error}");
        }
    }
}
