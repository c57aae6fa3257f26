//! NLTK's word tokenisation of captions: `word_tokenize(text.lower(), preserve_line=True)`.
//!
//! `words/rules.rs` defines the result as a sequence of passes. Captions of letters, digits, hyphens, commas and a final
//! period only, nearly all of them, take a single-pass fast path, which a property test compares with the rules.

mod rules;

pub(super) use rules::is_space as is_python_space;

/// Splits captions into words, reusing its buffers.
#[derive(Debug, Default)]
pub struct WordTokenizer {
    lower: String,
    rules: rules::Rules,
}

impl WordTokenizer {
    /// A tokeniser.
    pub fn new() -> Self {
        WordTokenizer::default()
    }

    /// Calls `each` with every word of the lower-cased text, in order, and returns their number.
    pub fn for_each(&mut self, text: &str, mut each: impl FnMut(&str)) -> usize {
        self.lower.clear();
        if text.is_ascii() {
            self.lower.push_str(text);
            self.lower.make_ascii_lowercase();
            if is_plain(self.lower.as_bytes()) {
                return plain(&self.lower, each);
            }
        } else {
            // Handles a final sigma, and the dotted capital I that becomes two characters.
            self.lower.push_str(&text.to_lowercase());
        }
        let mut count = 0;
        for word in self.rules.apply(&self.lower) {
            each(word);
            count += 1;
        }
        count
    }

    /// The words of a text, lower-cased.
    pub fn words(&mut self, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        self.for_each(text, |word| words.push(word.to_owned()));
        words
    }
}

/// Whether [`plain`] applies to a lower-cased text; conservative.
fn is_plain(text: &[u8]) -> bool {
    let mut before = b' ';
    for (at, &byte) in text.iter().enumerate() {
        let fits = match byte {
            // Initials of the contractions that are split: cannot, gimme, gonna, gotta, lemme, wanna.
            b'c' | b'g' | b'l' | b'w' => before.is_ascii_alphanumeric() || !begins_with_a_pair(&text[at..]),
            b'a'..=b'z' | b'0'..=b'9' | b' ' => true,
            b'-' | b',' | b'.' => before != byte,
            _ => false,
        };
        if !fits {
            return false;
        }
        before = byte;
    }
    // A leading period does not end the text.
    text.first() != Some(&b'.')
}

fn begins_with_a_pair(text: &[u8]) -> bool {
    [&b"cannot"[..], b"gimme", b"gonna", b"gotta", b"lemme", b"wanna"].iter().any(|pair| text.starts_with(pair))
}

/// Splits a text that [`is_plain`].
fn plain(text: &str, mut each: impl FnMut(&str)) -> usize {
    let bytes = text.as_bytes();
    let end = text.trim_end_matches(' ').len();
    let final_period = end > 0 && bytes[end - 1] == b'.';
    let body = if final_period { end - 1 } else { end };
    let (mut start, mut count) = (0, 0);
    let mut emit = |from: usize, to: usize| {
        if from < to {
            each(&text[from..to]);
            count += 1;
        }
    };
    for at in 0..body {
        match bytes[at] {
            b' ' => {
                emit(start, at);
                start = at + 1;
            }
            // A comma before a digit is part of the word.
            b',' if bytes.get(at + 1).is_none_or(|next| !next.is_ascii_digit()) => {
                emit(start, at);
                emit(at, at + 1);
                start = at + 1;
            }
            _ => {}
        }
    }
    emit(start, body);
    if final_period {
        emit(body, end);
    }
    count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        WordTokenizer::new().words(text)
    }

    #[test]
    fn captions_are_split_into_words() {
        assert_eq!(
            words("A dog, a cat and 1,000 birds ."),
            ["a", "dog", ",", "a", "cat", "and", "1,000", "birds", "."]
        );
        assert_eq!(words("They can't; \"stop\"!"), ["they", "ca", "n't", ";", "``", "stop", "''", "!"]);
        assert_eq!(words("  "), Vec::<String>::new());
        // A mark is part of a word and a small 2 is not; a separator of files is white space.
        assert_eq!(words("gi\u{307}'llgo ²'a x\u{1c}y"), ["gi\u{307}'llgo", "²", "'", "a", "x", "y"]);
    }

    #[test]
    fn buffers_carry_nothing_over() {
        let mut tokenizer = WordTokenizer::new();
        for text in ["a (very) \"long\" one", "short", "", "it's", "a b."] {
            assert_eq!(tokenizer.words(text), words(text));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn the_fast_path_agrees_with_the_rules(text in "([acgotn]|cannot|gonna|wanna|[ .,-]|[ 5]){0,14}") {
            let long: Vec<String> = rules::Rules::default().apply(&text).map(str::to_owned).collect();
            prop_assert_eq!(words(&text), long);
        }
    }
}
