//! Sentences cut into words for scoring, as the tokeniser of the COCO caption tools does it (Penn Treebank rules, lower
//! case, punctuation left out), for what captions consist of.
//!
//! Covered are words with hyphens, slashes and apostrophes, contractions, numbers, abbreviations, quotation marks,
//! brackets, dashes, ellipses, addresses and tags. What is rarer may be cut in another way than there.

use super::words::is_python_space as is_space;

/// Tokens that do not count. Brackets are written out (`-lrb-`), and so they count.
const LEFT_OUT: [&str; 17] =
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// Words that are two.
const PAIRS: [(&str, &str); 8] = [
    ("can", "not"),
    ("gim", "me"),
    ("gon", "na"),
    ("got", "ta"),
    ("lem", "me"),
    ("wan", "na"),
    ("'t", "is"),
    ("'t", "was"),
];

/// Abbreviations that keep their period everywhere.
const ABBREVIATIONS: [&str; 38] = [
    "mr", "mrs", "ms", "dr", "prof", "jr", "sr", "st", "vs", "etc", "inc", "corp", "co", "ltd", "bros", "rev", "gov",
    "gen", "col", "capt", "lt", "sgt", "sen", "rep", "hon", "mt", "ft", "ave", "blvd", "rd", "hwy", "jan", "feb",
    "aug", "sept", "oct", "nov", "dec",
];

/// Abbreviations only before a number.
const BEFORE_NUMBERS: [&str; 4] = ["no", "nos", "art", "fig"];

/// A sentence's words with single spaces between them, lower-cased, without punctuation.
pub fn tokenize(text: &str) -> String {
    let mut tokens = Tokens { text: text.chars().map(plain_apostrophe).collect(), at: 0, out: Vec::new() };
    while tokens.at < tokens.text.len() {
        tokens.step();
    }
    counted(tokens.out.iter().map(|token| token.to_lowercase()))
}

/// A sentence split at white space, lower-cased, without punctuation: enough for captions that a network wrote.
pub fn simple(text: &str) -> String {
    counted(text.to_lowercase().split(is_space).filter(|word| !word.is_empty()).map(str::to_owned))
}

fn counted(tokens: impl Iterator<Item = String>) -> String {
    tokens.filter(|token| !LEFT_OUT.contains(&token.as_str())).collect::<Vec<_>>().join(" ")
}

fn plain_apostrophe(c: char) -> char {
    if matches!(c, '’' | '‘') { '\'' } else { c }
}

/// The text, how far it has been read, and what was found.
struct Tokens {
    text: Vec<char>,
    at: usize,
    out: Vec<String>,
}

impl Tokens {
    fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\n')
    }

    /// Takes the next `count` characters as a token.
    fn take(&mut self, count: usize) {
        let end = (self.at + count).min(self.text.len());
        self.out.push(self.text[self.at..end].iter().collect());
        self.at = end;
    }

    /// Writes `token` for the next `count` characters.
    fn write(&mut self, token: &str, count: usize) {
        self.out.push(token.into());
        self.at += count;
    }

    /// How many of the next characters satisfy a condition.
    fn run(&self, from: usize, which: impl Fn(char) -> bool) -> usize {
        self.text[(self.at + from).min(self.text.len())..].iter().take_while(|&&c| which(c)).count()
    }

    fn step(&mut self) {
        let (c, next) = (self.peek(0), self.peek(1));
        match c {
            _ if is_space(c) => self.at += 1,
            '<' if self.tag() > 0 => self.take(self.tag()),
            ':' | ';' | '=' if self.face() > 0 => {
                let count = self.face();
                let face: String = self.text[self.at..self.at + count].iter().collect();
                self.write(&face.replace('(', "-lrb-").replace(')', "-rrb-"), count);
            }
            '.' if next == '.' => self.write("...", self.run(0, |c| c == '.')),
            '…' => self.write("...", 1),
            '-' if next == '-' => self.write("--", self.run(0, |c| c == '-')),
            '\u{2012}'..='\u{2015}' => self.write("--", 1),
            '.' | ',' | ':' if next.is_ascii_digit() => self.number(1),
            '-' | '+' if next.is_ascii_digit() => self.number(1),
            '?' | '!' => self.take(self.run(0, |c| matches!(c, '?' | '!'))),
            '*' => self.take(self.run(0, |c| c == '*')),
            '(' => self.write("-lrb-", 1),
            ')' => self.write("-rrb-", 1),
            '[' => self.write("-lsb-", 1),
            ']' => self.write("-rsb-", 1),
            '{' => self.write("-lcb-", 1),
            '}' => self.write("-rcb-", 1),
            '"' | '“' | '”' | '«' | '»' => self.write("''", 1),
            '`' => self.write("``", self.run(0, |c| c == '`').min(2)),
            '\'' => self.apostrophe(),
            _ if is_word(c) => self.word(),
            _ if is_sign(c) => self.take(1),
            // Pictures and what joins them stand for nothing.
            _ => self.at += 1,
        }
    }

    /// Length of a tag that begins here, or 0.
    fn tag(&self) -> usize {
        let inside = self.run(1, |c| c != '>' && c != '<' && c != '\n');
        let opens = matches!(self.peek(1), 'a'..='z' | 'A'..='Z' | '/' | '!');
        if opens && self.peek(1 + inside) == '>' { inside + 2 } else { 0 }
    }

    /// Length of a face such as `:-)` that begins here, or 0.
    fn face(&self) -> usize {
        let mouth = |c: char| matches!(c, '(' | ')');
        match (self.peek(1), self.peek(2)) {
            (one, _) if mouth(one) => 2,
            ('-', two) if mouth(two) => 3,
            _ => 0,
        }
    }

    /// A number of which the first `from` characters are known.
    fn number(&mut self, from: usize) {
        let mut end = from + self.run(from, |c| c.is_ascii_digit());
        while matches!(self.peek(end), '.' | ',' | ':' | '/') && self.peek(end + 1).is_ascii_digit() {
            end += 1 + self.run(end + 1, |c| c.is_ascii_digit());
        }
        self.take(end);
    }

    /// An apostrophe that no word is before.
    fn apostrophe(&mut self) {
        let letters = self.run(1, is_word);
        let word: String =
            self.text[self.at + 1..self.at + 1 + letters].iter().flat_map(|c| c.to_lowercase()).collect();
        let years = word.strip_suffix('s').unwrap_or(&word);
        let is_years = years.len() == 2 && years.bytes().all(|byte| byte.is_ascii_digit());
        match word.as_str() {
            "tis" | "twas" => {
                self.take(2);
                self.take(letters - 1);
            }
            "n" if self.peek(2) == '\'' => self.take(3),
            "n" | "em" | "till" | "til" => self.take(1 + letters),
            "s" | "m" | "d" | "ll" | "re" | "ve" => self.take(1 + letters),
            _ if is_years => self.take(1 + letters),
            _ => self.write("'", self.run(0, |c| c == '\'').min(2)),
        }
    }

    /// A word, an address or a number, and what is cut off its end.
    fn word(&mut self) {
        if let Some(length) = self.address() {
            return self.take(length);
        }
        if self.peek(0).is_ascii_digit() {
            let digits = self.run(0, |c| c.is_ascii_digit());
            let more = matches!(self.peek(digits), '.' | ',' | ':' | '/') && self.peek(digits + 1).is_ascii_digit();
            if more || !(is_word(self.peek(digits)) || self.peek(digits) == '-') {
                return self.number(0);
            }
        }
        let mut end = self.run(0, is_word);
        let mut slashes = 0;
        loop {
            let (c, after) = (self.peek(end), self.peek(end + 1));
            let joins = match c {
                '-' => is_word(after),
                '/' => {
                    slashes += 1;
                    is_word(after) && slashes <= 2
                }
                '.' => self.peek(end - 1).is_alphabetic() && after.is_alphabetic(),
                '&' => self.is_upper(end) && after.is_uppercase(),
                '\'' => self.joins_apostrophe(end),
                _ => false,
            };
            if !joins {
                break;
            }
            end += 1 + self.run(end + 1, is_word);
        }
        self.cut(end);
    }

    fn is_upper(&self, end: usize) -> bool {
        self.text[self.at..self.at + end].iter().all(|c| c.is_uppercase())
    }

    /// Whether an apostrophe behind `end` characters is inside a word: o'clock, d'ye, ma'am.
    fn joins_apostrophe(&self, end: usize) -> bool {
        let after = self.peek(end + 1);
        if !after.is_alphabetic() || self.clitic(end).is_some() {
            return false;
        }
        let vowel = |c: char| matches!(c.to_ascii_lowercase(), 'a' | 'e' | 'i' | 'o' | 'u');
        let before = self.peek(end - 1);
        let prefix = end == 1 && matches!(before, 'd' | 'D' | 'o' | 'O' | 'l' | 'L');
        prefix || (end > 1 && (vowel(before) || before.eq_ignore_ascii_case(&'y')) && vowel(after))
    }

    /// The letters behind the apostrophe at `end`, if they are a clitic.
    fn clitic(&self, end: usize) -> Option<usize> {
        if self.peek(end) != '\'' {
            return None;
        }
        let letters = self.run(end + 1, is_word);
        let clitic: String = self.text[self.at + end + 1..self.at + end + 1 + letters].iter().collect();
        ["s", "m", "d", "ll", "re", "ve"].contains(&clitic.to_lowercase().as_str()).then_some(letters)
    }

    /// Takes a word of `end` characters: with its period, or in parts, or as it is; and the clitic behind it.
    fn cut(&mut self, end: usize) {
        let word: String = self.text[self.at..self.at + end].iter().flat_map(|c| c.to_lowercase()).collect();
        if self.peek(end) == '.' && self.keeps_period(&word, end) {
            return self.take(end + 1);
        }
        // don't, can't, won't: the letter before the apostrophe belongs to what follows.
        let negated = self.peek(end) == '\'' && self.peek(end + 1).eq_ignore_ascii_case(&'t') && word.ends_with('n');
        if negated && !is_word(self.peek(end + 2)) {
            if end > 1 {
                self.take(end - 1);
            }
            return self.take(3);
        }
        if word == "y" && self.peek(end) == '\'' {
            return self.take(end + 1);
        }
        match PAIRS.iter().find(|(first, second)| word.strip_prefix(first) == Some(*second)) {
            Some((first, second)) => {
                self.take(first.len());
                self.take(second.len());
            }
            None => self.take(end),
        }
        if let Some(letters) = self.clitic(0) {
            self.take(1 + letters);
        }
    }

    /// Whether the period behind a word is part of it.
    fn keeps_period(&self, word: &str, end: usize) -> bool {
        let number_follows =
            self.text[self.at + end + 1..].iter().find(|c| !is_space(**c)).is_some_and(char::is_ascii_digit);
        let something_follows = self.text[self.at + end + 1..].iter().any(|&c| is_word(c));
        let letters_and_periods = word.contains('.') && word.split('.').all(|part| part.chars().count() == 1);
        let initial = end == 1 && self.peek(0).is_uppercase() && something_follows;
        ABBREVIATIONS.contains(&word)
            || (BEFORE_NUMBERS.contains(&word) && number_follows)
            || letters_and_periods
            || initial
    }

    /// Length of an address that begins here: of a page or of a person.
    fn address(&self) -> Option<usize> {
        let part = |c: char| {
            c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '/' | ':' | '~' | '%' | '?' | '=' | '&')
        };
        let mut end = self.run(0, part);
        let text: String = self.text[self.at..self.at + end].iter().collect();
        end -= text.chars().rev().take_while(|c| matches!(c, '.' | '?' | ':' | ',')).count();
        let lower = text.to_lowercase();
        let page = lower.starts_with("http://") || lower.starts_with("https://") || lower.starts_with("www.");
        let person =
            lower.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.trim_matches('.').contains('.'));
        (page || person).then_some(end)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || matches!(c, '\u{300}'..='\u{36f}')
}

/// Signs that are tokens of their own; pictures, arrows and invisible characters are none.
fn is_sign(c: char) -> bool {
    c.is_ascii_graphic()
        || matches!(c, '\u{a1}'..='\u{bf}' | '„' | '€' | '\u{3000}'..='\u{303f}' | '\u{ff01}'..='\u{ff65}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_cut_as_in_the_treebank() {
        for (text, words) in [
            ("A man's dog can't jump, it's (very) old.", "a man 's dog ca n't jump it 's -lrb- very -rrb- old"),
            ("He said \"don't\" -- twice...", "he said do n't twice"),
            (
                "Two well-known U.S. cars at 5 o'clock; 1,000 people!",
                "two well-known u.s. cars at 5 o'clock 1,000 people",
            ),
            ("we cannot, we're gonna", "we can not we 're gon na"),
            ("", ""),
            ("' '' ... '", ""),
            ("ends in an apostrophe'", "ends in an apostrophe"),
            ("dots at the end of http://a.b/c.", "dots at the end of http://a.b/c"),
        ] {
            assert_eq!(tokenize(text), words);
        }
        assert_eq!(simple("A \"dog\" , runs ."), "a \"dog\" runs");
    }

    #[test]
    fn nothing_makes_it_stumble() {
        let pieces =
            ["'", "n't", ".", "-", "a", "A", "<", ">", "@", "/", "9", ",", ":", "(", "é", "😀", " ", "&", "y'"];
        let mut stream = crate::rng::Stream::new(1, "test", 0, 0);
        for _ in 0..20_000 {
            let text: String = (0..stream.below(9)).map(|_| pieces[stream.below(pieces.len())]).collect();
            let words = tokenize(&text);
            assert!(!words.contains("  ") && words.trim() == words, "{text:?}: {words:?}");
        }
    }
}
