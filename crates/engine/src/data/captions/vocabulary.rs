//! Vocabularies: words and their ids.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize, Serializer};
use tokenizers::Model as _;
use tokenizers::models::wordlevel::WordLevel;

use super::MAX_FILE;
use super::words::WordTokenizer;
use crate::data::text::{END_OF_LINE, UNKNOWN_WORD};
use crate::error::{Error, Result};
use crate::files::{read_at_most, without_mark, write_atomically};

/// The first words of every vocabulary, by id.
pub const SPECIAL: [&str; 4] = ["<pad>", "<start>", "<end>", "<unk>"];
/// Padding.
pub const PAD: u32 = 0;
/// Start of a caption.
pub const START: u32 = 1;
/// End of a caption.
pub const END: u32 = 2;
/// A word that is not in the vocabulary.
pub const UNKNOWN: u32 = 3;

/// The kind of model of a `tokenizer.json` of whole words.
const WORD_LEVEL: &str = "WordLevel";

/// Captions per parallel task: large enough that merging is cheap.
const CHUNK: usize = 4096;

/// Words and their ids, 0, 1, 2, ...
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
}

/// The frequencies of words, and the lengths of captions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WordCounts {
    /// All words with their counts, in order of first appearance.
    pub words: Vec<(String, u64)>,
    /// The length of each caption: words, punctuation, start and end.
    pub lengths: Vec<usize>,
}

impl WordCounts {
    /// Counts words on all threads of the current pool; the result does not depend on their number.
    pub fn of<T: AsRef<str> + Sync>(captions: &[T]) -> WordCounts {
        let parts: Vec<WordCounts> = captions.par_chunks(CHUNK).map(Counter::count).collect();
        let mut whole = Counter::default();
        for part in parts {
            whole.counts.lengths.extend(part.lengths);
            for (word, count) in part.words {
                whole.add(&word, count);
            }
        }
        whole.counts
    }

    /// Total number of words.
    pub fn total(&self) -> u64 {
        self.words.iter().map(|(_, count)| count).sum()
    }
}

#[derive(Default)]
struct Counter {
    places: HashMap<String, usize>,
    counts: WordCounts,
}

impl Counter {
    fn count<T: AsRef<str>>(captions: &[T]) -> WordCounts {
        let (mut tokenizer, mut counter) = (WordTokenizer::new(), Counter::default());
        for caption in captions {
            let length = tokenizer.for_each(caption.as_ref(), |word| counter.add(word, 1));
            counter.counts.lengths.push(length + 2);
        }
        counter.counts
    }

    fn add(&mut self, word: &str, count: u64) {
        let words = &mut self.counts.words;
        match self.places.get(word) {
            Some(&place) => words[place].1 += count,
            None => {
                self.places.insert(word.to_owned(), words.len());
                words.push((word.to_owned(), count));
            }
        }
    }
}

impl Vocabulary {
    /// The special words, then every word seen at least `threshold` times, in order of first appearance.
    pub fn new(counts: &WordCounts, threshold: u64) -> Vocabulary {
        let seen = counts.words.iter().filter(|(_, count)| *count >= threshold).map(|(word, _)| word.as_str());
        Vocabulary::of(SPECIAL.into_iter().chain(seen).map(str::to_owned).collect())
    }

    /// The tokens of a text for a language model, which have no special words but the end of a line.
    pub fn of_tokens(tokens: Vec<String>) -> Vocabulary {
        Vocabulary::of(tokens)
    }

    /// Whether these are the words of captions, which begin with [`SPECIAL`].
    fn is_of_captions(&self) -> bool {
        self.words.len() >= SPECIAL.len() && self.words.iter().zip(SPECIAL).all(|(word, special)| word == special)
    }

    /// The id of a token, if it is there.
    pub fn find(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    fn of(words: Vec<String>) -> Vocabulary {
        let ids = (0..).zip(&words).map(|(id, word)| (word.clone(), id)).collect();
        Vocabulary { words, ids }
    }

    /// The words, indexed by id.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The id of a word, or [`UNKNOWN`].
    pub fn id(&self, word: &str) -> u32 {
        self.ids.get(word).copied().unwrap_or(UNKNOWN)
    }

    /// A caption as ids, with [`START`] first and [`END`] last.
    pub fn encode(&self, tokenizer: &mut WordTokenizer, text: &str) -> Vec<u32> {
        let mut ids = vec![START];
        tokenizer.for_each(text, |word| ids.push(self.id(word)));
        ids.push(END);
        ids
    }

    /// The words of ids up to the first [`END`], joined by spaces, without [`PAD`] and [`START`]. Ids beyond the vocabulary
    /// are unknown words.
    pub fn decode(&self, ids: &[u32]) -> String {
        let words = ids.iter().take_while(|&&id| id != END).filter(|&&id| id != PAD && id != START);
        let word = |&id: &u32| self.words.get(id as usize).map_or(SPECIAL[UNKNOWN as usize], String::as_str);
        words.map(word).collect::<Vec<_>>().join(" ")
    }

    /// Writes `tokenizer.json` for the tokenizers library: a word-level model of text whose words are separated by spaces.
    ///
    /// # Errors
    /// [`Error::Io`]; an existing file is then unchanged.
    pub fn save(&self, path: &Path) -> Result<()> {
        let special = |(id, content): (usize, &&str)| {
            serde_json::json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        };
        let special_words: &[&str] = if self.is_of_captions() { &SPECIAL } else { &[] };
        let file = File {
            version: "1.0",
            truncation: None,
            padding: None,
            added_tokens: special_words.iter().enumerate().map(special).collect(),
            normalizer: None,
            pre_tokenizer: serde_json::json!({ "type": "WhitespaceSplit" }),
            post_processor: None,
            decoder: None,
            model: Model { r#type: WORD_LEVEL, vocab: Ids(&self.words), unk_token: UNKNOWN_WORD },
        };
        let mut text = serde_json::to_vec_pretty(&file).map_err(|error| Error::data(path, error.to_string()))?;
        text.push(b'\n');
        write_atomically(path, &text)
    }

    /// BLAKE3 digest of the words in order, in hex.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for word in self.words() {
            hasher.update(word.as_bytes()).update(b"\n");
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Reads a file written by [`Vocabulary::save`].
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Data`] if it is no word-level vocabulary, lacks the special words, or has gaps in its ids.
    pub fn load(path: &Path) -> Result<Vocabulary> {
        let bytes = read_at_most(path, MAX_FILE)?;
        let damaged = |what: String| Error::data(path, format!("{what}; make it again with `ccdni data vocab`"));
        let no = |error: serde_json::Error| damaged(format!("is no tokenizer.json: {error}"));
        // The model alone: the library panics on some damaged files when it reads the whole.
        let Stored { model: Kind { r#type } } = serde_json::from_slice(without_mark(&bytes)).map_err(no)?;
        if r#type.as_deref() != Some(WORD_LEVEL) {
            return Err(damaged("is a tokenizer, but not one of whole words (WordLevel)".into()));
        }
        let Stored { model } = serde_json::from_slice::<Stored<WordLevel>>(without_mark(&bytes)).map_err(no)?;
        let words = model.get_vocab().into_iter().map(|(word, id)| (id, word)).collect();
        Vocabulary::from_ids(words).map_err(damaged)
    }

    /// The vocabulary of words with these ids.
    ///
    /// # Errors
    /// A description of the problem if ids have gaps, or the first words are not [`SPECIAL`] and there is no [`END_OF_LINE`].
    pub fn from_ids(mut words: Vec<(u32, String)>) -> Result<Vocabulary, String> {
        words.sort();
        if let Some(gap) = (0..).zip(&words).find_map(|(wanted, (id, _))| (wanted != *id).then_some(wanted)) {
            return Err(format!("has not exactly one word with the id {gap}"));
        }
        let vocabulary = Vocabulary::of(words.into_iter().map(|(_, word)| word).collect());
        match vocabulary.is_of_captions() || vocabulary.ids.contains_key(END_OF_LINE) {
            true => Ok(vocabulary),
            false => Err(format!("does not begin with {}", SPECIAL.join(" "))),
        }
    }
}

/// What is read of a `tokenizer.json`.
#[derive(Deserialize)]
struct Stored<M> {
    model: M,
}

#[derive(Deserialize)]
struct Kind {
    r#type: Option<String>,
}

#[derive(Serialize)]
struct File<'a> {
    version: &'a str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<serde_json::Value>,
    normalizer: Option<()>,
    pre_tokenizer: serde_json::Value,
    post_processor: Option<()>,
    decoder: Option<()>,
    model: Model<'a>,
}

#[derive(Serialize)]
struct Model<'a> {
    r#type: &'a str,
    vocab: Ids<'a>,
    unk_token: &'a str,
}

/// Words with their ids, serialised in the order of the ids.
struct Ids<'a>(&'a [String]);

impl Serialize for Ids<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().zip(0u32..))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokenizers::Tokenizer;

    use super::*;

    const CAPTIONS: [&str; 3] = ["A dog, a \"dog\".", "The <start> of a cat", "a Dog runs"];

    fn vocabulary(threshold: u64) -> Vocabulary {
        Vocabulary::new(&WordCounts::of(&CAPTIONS), threshold)
    }

    #[test]
    fn words_come_in_order_of_first_appearance() {
        let counts = WordCounts::of(&CAPTIONS);
        assert_eq!(counts.lengths, [10, 9, 5]);
        assert_eq!(counts.total(), 18);
        assert_eq!(vocabulary(2).words()[4..], ["a", "dog"]);
        assert_eq!(vocabulary(1).words()[4..11], ["a", "dog", ",", "``", "''", ".", "the"]);
    }

    #[test]
    fn many_captions_count_the_same_as_in_one_piece() {
        let texts: Vec<String> = (0..3 * CHUNK).map(|i| format!("word{} and word{}", i % 977, i % 13)).collect();
        assert_eq!(WordCounts::of(&texts), Counter::count(&texts));
    }

    #[test]
    fn captions_become_ids_and_back() {
        let vocabulary = vocabulary(2);
        let ids = vocabulary.encode(&mut WordTokenizer::new(), "A dog sits");
        assert_eq!(ids, [START, 4, 5, UNKNOWN, END]);
        assert_eq!(vocabulary.decode(&ids), "a dog <unk>");
        assert_eq!(vocabulary.decode(&[START, 5, 99, END, 4]), "dog <unk>");
    }

    #[test]
    fn the_tokenizers_library_reads_what_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenizer.json");
        let vocabulary = vocabulary(1);
        vocabulary.save(&path).unwrap();
        assert_eq!(Vocabulary::load(&path).unwrap(), vocabulary);
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        let text = WordTokenizer::new().words("a \"dog\", unheard").join(" ");
        let expected: Vec<u32> = text.split(' ').map(|word| vocabulary.id(word)).collect();
        assert_eq!(tokenizer.encode(text, false).unwrap().get_ids(), expected);
        assert_eq!(tokenizer.get_vocab_size(true), vocabulary.words().len());
    }

    #[test]
    fn other_tokenizers_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenizer.json");
        vocabulary(2).save(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        for (content, expected) in [
            ("{}".to_owned(), "is no tokenizer.json"),
            ("no".to_owned(), "is no tokenizer.json"),
            (good.replace("\"vocab\": {", "\"vocab\": 7, \"other\": {"), "is no tokenizer.json"),
            (good.replace("\"dog\": 5", "\"dog\": 9"), "the id 5"),
            (
                good.replace("\"WordLevel\"", "\"BPE\"").replace("\"unk_token\"", "\"merges\": [], \"unk_token\""),
                "WordLevel",
            ),
            (good.replace("\"<end>\": 2", "\"<stop>\": 2"), "begin with <pad> <start> <end> <unk>"),
        ] {
            fs::write(&path, content).unwrap();
            let error = Vocabulary::load(&path).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
