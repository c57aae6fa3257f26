//! Text for language models: streams of tokens, from files in the layout of the Penn Treebank or from a grammar.

mod files;
mod grammar;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use files::{FILES, read_lines};
pub use grammar::Grammar;

use crate::error::{Error, Result};

/// The token at the end of every line.
pub const END_OF_LINE: &str = "<eos>";
/// The word for rare words in the Penn Treebank; an ordinary word.
pub const UNKNOWN_WORD: &str = "<unk>";

/// Largest number of different tokens.
const LARGEST_VOCABULARY: usize = 1_000_000;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A word: what stands between white space.
    #[default]
    Word,
    /// A character; white space within a line is one blank.
    Char,
}

impl Unit {
    /// Gives the tokens of a line, without its end, to `each`.
    pub fn split(self, line: &str, mut each: impl FnMut(&str)) {
        let words = line.split_whitespace();
        match self {
            Unit::Word => words.for_each(each),
            Unit::Char => {
                for (index, word) in words.enumerate() {
                    if index > 0 {
                        each(" ");
                    }
                    let mut bytes = [0; 4];
                    word.chars().for_each(|letter| each(letter.encode_utf8(&mut bytes)));
                }
            }
        }
    }

    /// Tokens as text, line ends as such.
    pub fn join<'a>(self, tokens: impl IntoIterator<Item = &'a str>) -> String {
        let (mut text, mut begins) = (String::new(), true);
        for token in tokens {
            match token {
                END_OF_LINE => text.push('\n'),
                word => {
                    text.push_str(if begins || self == Unit::Char { "" } else { " " });
                    text.push_str(word);
                }
            }
            begins = token == END_OF_LINE;
        }
        text
    }
}

/// Source of the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TextSource {
    /// Sentences made by the program from a small grammar of English; nothing is downloaded.
    Grammar(Grammar),
    /// The files `train.txt`, `valid.txt` and `test.txt` of a directory, one sentence per line, as those of the Penn Treebank.
    Files {
        /// The directory.
        #[schemars(length(min = 1))]
        dir: PathBuf,
    },
}

impl Default for TextSource {
    fn default() -> Self {
        TextSource::Grammar(Grammar::default())
    }
}

/// The three parts of a text as token ids, in the order of the text; every line ends with [`END_OF_LINE`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Corpus {
    /// The tokens, by id: in order of first appearance through training, validation and test.
    pub words: Vec<String>,
    /// Training, validation, test.
    pub parts: [Vec<u32>; 3],
}

impl Corpus {
    /// Reads or makes the text of a source.
    ///
    /// # Errors
    /// [`Error::Data`] naming a file that is missing, empty, or no text of lines.
    pub fn open(source: &TextSource, unit: Unit) -> Result<Corpus> {
        let mut builder = Builder { unit, corpus: Corpus::default(), ids: HashMap::new() };
        match source {
            TextSource::Grammar(grammar) => {
                for part in 0..3 {
                    grammar.sentences(part, |sentence| builder.line(part, sentence)).map_err(Error::Usage)?;
                }
            }
            TextSource::Files { dir } => {
                for (part, name) in FILES.iter().enumerate() {
                    let path = dir.join(name);
                    read_lines(&path, |line| builder.line(part, line))?;
                    if builder.corpus.parts[part].is_empty() {
                        return Err(Error::data(&path, "is empty; a language model needs text"));
                    }
                }
            }
        }
        Ok(builder.corpus)
    }

    /// The files of a source.
    pub fn files(source: &TextSource) -> Vec<PathBuf> {
        match source {
            TextSource::Grammar(_) => Vec::new(),
            TextSource::Files { dir } => {
                FILES.iter().map(|name| dir.join(name)).filter(|path| path.is_file()).collect()
            }
        }
    }

    /// Checks that the files of a source are there.
    ///
    /// # Errors
    /// [`Error::Data`] naming the first that is missing.
    pub fn find(source: &TextSource) -> Result<()> {
        let TextSource::Files { dir } = source else { return Ok(()) };
        let missing = |path: &Path| {
            Error::data(path, format!("there is no such file; `task.source.dir` needs {}", FILES.join(", ")))
        };
        FILES.iter().map(|name| dir.join(name)).find(|path| !path.is_file()).map_or(Ok(()), |path| Err(missing(&path)))
    }
}

struct Builder {
    unit: Unit,
    corpus: Corpus,
    ids: HashMap<String, u32>,
}

impl Builder {
    fn line(&mut self, part: usize, line: &str) -> Result<(), String> {
        let (ids, Corpus { words, parts }) = (&mut self.ids, &mut self.corpus);
        let mut push = |token: &str| {
            let id = match ids.get(token) {
                Some(&id) => id,
                None => {
                    let id = words.len() as u32;
                    ids.insert(token.to_owned(), id);
                    words.push(token.to_owned());
                    id
                }
            };
            parts[part].push(id);
        };
        self.unit.split(line, &mut push);
        push(END_OF_LINE);
        match words.len() > LARGEST_VOCABULARY {
            true => Err(format!("there are more than {LARGEST_VOCABULARY} different tokens")),
            false => Ok(()),
        }
    }
}

/// A stream of tokens as `count` contiguous columns: column `b` holds tokens `b · rows .. (b + 1) · rows`, and the rest is dropped.
pub fn rows_of_columns(tokens: usize, count: usize) -> usize {
    tokens / count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(texts: [&[u8]; 3]) -> (tempfile::TempDir, TextSource) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in FILES.iter().zip(texts) {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let source = TextSource::Files { dir: dir.path().to_path_buf() };
        (dir, source)
    }

    #[test]
    fn words_are_numbered_by_first_appearance_and_lines_end() {
        let (_dir, source) = written([b"a  b\r\n\n <unk> a", b"c a\n", b"b <eos>\n"]);
        let corpus = Corpus::open(&source, Unit::Word).unwrap();
        assert_eq!(corpus.words, ["a", "b", "<eos>", "<unk>", "c"]);
        assert_eq!(corpus.parts, [vec![0, 1, 2, 2, 3, 0, 2], vec![4, 0, 2], vec![1, 2, 2]]);
        let letters = Corpus::open(&source, Unit::Char).unwrap();
        assert_eq!(letters.words[..4], ["a", " ", "b", "<eos>"]);
        assert_eq!(letters.parts[1], [9, 1, 0, 3]);
    }

    #[test]
    fn text_comes_back() {
        for (unit, tokens) in
            [(Unit::Word, vec!["a", "dog", "<eos>", "b"]), (Unit::Char, vec!["a", " ", "d", "<eos>", "b"])]
        {
            let text = unit.join(tokens);
            assert!(text.starts_with("a d") && text.ends_with("\nb"), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused_with_file_and_line() {
        for (train, says) in
            [(&b""[..], "is empty"), (b"a b\nc\0d\n", "line 2: a NUL byte"), (b"a\n\xff\xfe\n", "line 2: not UTF-8")]
        {
            let (_dir, source) = written([train, b"a\n", b"a\n"]);
            let error = Corpus::open(&source, Unit::Word).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(says), "{error}");
            assert!(error.to_string().contains("train.txt"), "{error}");
        }
        let long = vec![b'x'; files::LONGEST_LINE + 1];
        let (dir, source) = written([&long, b"a\n", b"a\n"]);
        let error = Corpus::open(&source, Unit::Word).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("bytes"), "{error}");
        std::fs::remove_file(dir.path().join("valid.txt")).unwrap();
        let error = Corpus::find(&source).unwrap_err().to_string();
        assert!(error.contains("valid.txt"), "{error}");
    }

    #[test]
    fn the_grammar_is_the_same_for_the_same_draw() {
        let open = |draw| {
            let grammar = Grammar { train: 200, valid: 20, test: 20, draw };
            Corpus::open(&TextSource::Grammar(grammar), Unit::Word).unwrap()
        };
        let (one, two) = (open(1), open(2));
        assert_eq!(one, open(1));
        assert_ne!(one.parts, two.parts);
        let lines = |part: &Vec<u32>| part.iter().filter(|&&id| one.words[id as usize] == END_OF_LINE).count();
        assert_eq!([lines(&one.parts[0]), lines(&one.parts[1]), lines(&one.parts[2])], [200, 20, 20]);
        assert!((40..120).contains(&one.words.len()), "{} words", one.words.len());
    }
}
