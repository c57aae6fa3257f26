//! The passes that split a lower-cased text into words; their order matters.
//!
//! Each pass is a left-to-right substitution without overlaps; most of them pad something with spaces. Character classes are
//! those of NLTK's regular expressions: Python's `re` for contractions and for white space, otherwise the `regex` package,
//! in which a combining mark is part of a word.

use std::sync::LazyLock;

use regex::Regex;

/// Contractions: both words, and whether white space has to follow.
const PAIRS: [(&str, &str, bool); 8] = [
    ("can", "not", false),
    ("d", "'ye", false),
    ("gim", "me", false),
    ("gon", "na", false),
    ("got", "ta", false),
    ("lem", "me", false),
    ("more", "'n", false),
    ("wan", "na", true),
];

/// Clitics after an apostrophe; before any other word an apostrophe opens a quotation.
const CLITICS: [&str; 8] = ["re", "ve", "ll", "m", "t", "s", "d", "n"];

/// The passes and their buffers.
#[derive(Debug, Default)]
pub(super) struct Rules {
    text: Vec<char>,
    next: Vec<char>,
    done: String,
}

impl Rules {
    /// The words of a lower-cased text.
    pub(super) fn apply(&mut self, lower: &str) -> impl Iterator<Item = &str> {
        self.text.clear();
        self.text.extend(lower.chars());
        self.opening_quotes();
        self.punctuation();
        self.closing_quotes_and_clitics();
        self.pairs();
        self.done.clear();
        self.done.extend(self.text.iter());
        self.done.split(is_space).filter(|word| !word.is_empty())
    }

    /// One pass: at every position `rule` writes a replacement and returns the number of characters consumed, or returns 0.
    fn pass(&mut self, rule: impl Fn(&[char], usize, &mut Vec<char>) -> usize) {
        self.next.clear();
        let mut at = 0;
        while at < self.text.len() {
            let taken = rule(&self.text, at, &mut self.next);
            if taken == 0 {
                self.next.push(self.text[at]);
            }
            at += taken.max(1);
        }
        std::mem::swap(&mut self.text, &mut self.next);
    }

    /// Puts spaces around single characters.
    fn pad(&mut self, which: impl Fn(char) -> bool) {
        if self.text.iter().any(|&c| which(c)) {
            self.pass(|text, at, out| if which(text[at]) { padded(out, &text[at..=at]) } else { 0 });
        }
    }

    /// Puts spaces around every occurrence of a string.
    fn pad_all(&mut self, what: &[char]) {
        self.pass(|text, at, out| if text[at..].starts_with(what) { padded(out, what) } else { 0 });
    }

    fn opening_quotes(&mut self) {
        self.pass(|text, at, out| match text[at] {
            '«' | '“' | '‘' | '„' => padded(out, &text[at..=at]),
            '`' => padded(out, &text[at..at + run(text, at, '`')]),
            _ => 0,
        });
        if self.text.first() == Some(&'"') {
            self.text.splice(..1, ['`', '`']);
        }
        self.pad_all(&['`', '`']);
        self.pass(|text, at, out| {
            let quote = match text.get(at + 1..).unwrap_or_default() {
                ['"', ..] => 1,
                ['\'', '\'', ..] => 2,
                _ => return 0,
            };
            if !matches!(text[at], ' ' | '(' | '[' | '{' | '<') {
                return 0;
            }
            out.push(text[at]);
            out.extend([' ', '`', '`', ' ']);
            1 + quote
        });
        self.pass(|text, at, out| {
            let opens = text[at] == '\''
                && (at == 0 || !is_word_or_mark(text[at - 1]))
                && text.get(at + 1).is_some_and(|&c| is_word_or_mark(c))
                && !CLITICS.iter().any(|clitic| is_clitic(text, at + 1, clitic));
            if !opens {
                return 0;
            }
            out.extend(['\'', ' ']);
            1
        });
    }

    fn punctuation(&mut self) {
        self.final_period(&[']', ')', '}', '>', '"', '\'', '»', '”', '’', ' '], true);
        self.pass(|text, at, out| match (text[at], text.get(at + 1)) {
            (':' | ',', Some(&after)) if !is_digit(after) => {
                out.extend([' ', text[at], ' ', after]);
                2
            }
            _ => 0,
        });
        self.pass(|text, at, out| {
            let last = at + 1 == text.len() || (at + 2 == text.len() && text[at + 1] == '\n');
            if last && matches!(text[at], ':' | ',') { padded(out, &text[at..=at]) } else { 0 }
        });
        self.pass(|text, at, out| match run(text, at, '.') {
            0 | 1 => 0,
            dots => padded(out, &text[at..at + dots]),
        });
        self.pad(|c| matches!(c, ';' | '@' | '#' | '$' | '%' | '&' | '\u{2012}'..='\u{2015}'));
        self.final_period(&[']', ')', '}', '>', '"', '\''], false);
        self.pad(|c| matches!(c, '?' | '!'));
        self.pass(|text, at, out| match text[at..] {
            [before, '\'', ' ', ..] if before != '\'' => {
                out.extend([before, ' ', '\'', ' ']);
                3
            }
            _ => 0,
        });
        self.pad(|c| matches!(c, '*' | '[' | ']' | '(' | ')' | '{' | '}' | '<' | '>'));
        self.pad_all(&['-', '-']);
    }

    /// Separates the final period, which only closing characters and white space may follow.
    fn final_period(&mut self, closing: &[char], is_apart: bool) {
        let text = &self.text;
        let ends = |at: usize| {
            let mut after = at + 1;
            while after < text.len() && closing.contains(&text[after]) {
                after += 1;
            }
            text[after..].iter().all(|c| c.is_whitespace()).then_some(after)
        };
        // Only the last other character can be that period.
        let Some(at) = text.iter().rposition(|&c| !c.is_whitespace() && !closing.contains(&c)) else { return };
        if at == 0 || text[at] != '.' || text[at - 1] == '.' {
            return;
        }
        let Some(after) = ends(at) else { return };
        let mut tail = vec![' ', '.'];
        tail.extend(is_apart.then_some(' '));
        tail.extend(&text[at + 1..after]);
        tail.extend(is_apart.then_some(' '));
        tail.push(' ');
        self.text.truncate(at);
        self.text.extend(tail);
    }

    fn closing_quotes_and_clitics(&mut self) {
        self.text.insert(0, ' ');
        self.text.push(' ');
        self.pad(|c| matches!(c, '»' | '”' | '’'));
        self.pad_all(&['\'', '\'']);
        self.pass(|text, at, out| if text[at] == '"' { padded(out, &['\'', '\'']) / 2 } else { 0 });
        self.next.clear();
        for &c in &self.text {
            if !c.is_whitespace() {
                self.next.push(c);
            } else if self.next.last() != Some(&' ') {
                self.next.push(' ');
            }
        }
        std::mem::swap(&mut self.text, &mut self.next);
        self.cut_before(&["'s ", "'m ", "'d ", "' "]);
        self.cut_before(&["'ll ", "'re ", "'ve ", "n't "]);
    }

    /// Inserts a space before any of these endings unless a space or an apostrophe precedes it.
    fn cut_before(&mut self, endings: &[&str]) {
        self.pass(|text, at, out| {
            if matches!(text[at], '\'' | ' ') {
                return 0;
            }
            let Some(ending) = endings.iter().find(|ending| exactly(text, at + 1, ending)) else { return 0 };
            out.extend([text[at], ' ']);
            out.extend(ending.chars());
            1 + ending.len()
        });
    }

    fn pairs(&mut self) {
        for (first, second, before_space) in PAIRS {
            self.pass(|text, at, out| {
                let (middle, end) = (at + first.len(), at + first.len() + second.len());
                let found = matches(text, at, first) && matches(text, middle, second) && is_edge(text, at);
                let ends = if before_space { text.get(end).is_some_and(|&c| is_space(c)) } else { is_edge(text, end) };
                if found && ends { two(out, &text[at..middle], &text[middle..end]) } else { 0 }
            });
        }
        for verb in ["is", "was"] {
            self.pass(|text, at, out| {
                let end = at + 3 + verb.len();
                let found = exactly(text, at, " '") && matches(text, at + 2, "t") && matches(text, at + 3, verb);
                if found && is_edge(text, end) { two(out, &text[at + 1..at + 3], &text[at + 3..end]) + 1 } else { 0 }
            });
        }
    }
}

/// Writes a string padded with spaces; returns its length.
fn padded(out: &mut Vec<char>, what: &[char]) -> usize {
    out.push(' ');
    out.extend(what);
    out.push(' ');
    what.len()
}

/// Writes two words; returns their length without the spaces.
fn two(out: &mut Vec<char>, first: &[char], second: &[char]) -> usize {
    let taken = padded(out, first);
    out.extend(second);
    out.push(' ');
    taken + second.len()
}

/// Length of the run of a character at a position.
fn run(text: &[char], at: usize, c: char) -> usize {
    text[at..].iter().take_while(|&&other| other == c).count()
}

/// Whether the text has an ASCII string at a position.
fn exactly(text: &[char], at: usize, what: &str) -> bool {
    text.get(at..at + what.len()).is_some_and(|part| part.iter().copied().eq(what.chars()))
}

/// As [`exactly`], but also matches letters that are equal under case folding: a long s, a dotless i.
fn matches(text: &[char], at: usize, what: &str) -> bool {
    let same = |(&c, wanted): (&char, char)| c == wanted || matches!((c, wanted), ('ſ', 's') | ('ı', 'i'));
    text.get(at..at + what.len()).is_some_and(|part| part.iter().zip(what.chars()).all(same))
}

/// Whether a position is a word boundary.
fn is_edge(text: &[char], at: usize) -> bool {
    let word = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(|&c| is_word(c));
    word(at.checked_sub(1)) != word(Some(at))
}

/// Whether a clitic is at a position and ends the word.
fn is_clitic(text: &[char], at: usize, clitic: &str) -> bool {
    matches(text, at, clitic) && !text.get(at + clitic.len()).is_some_and(|&c| is_word_or_mark(c))
}

/// Letters, decimal digits, marks, connectors, and `_`.
fn is_word_or_mark(c: char) -> bool {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\w$").ok());
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    WORD.as_ref().map_or(c.is_alphanumeric(), |word| word.is_match(c.encode_utf8(&mut [0; 4])))
}

/// Letters, numeric characters and `_`; no combining marks.
fn is_word(c: char) -> bool {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}]$").ok());
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    WORD.as_ref().map_or(c.is_alphanumeric(), |word| word.is_match(c.encode_utf8(&mut [0; 4])))
}

/// Decimal digits of any script.
fn is_digit(c: char) -> bool {
    static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());
    if c.is_ascii() {
        return c.is_ascii_digit();
    }
    DIGIT.as_ref().is_some_and(|digit| digit.is_match(c.encode_utf8(&mut [0; 4])))
}

/// White space, including the four ASCII separators of files, groups, records and units.
pub(in crate::data::captions) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}
