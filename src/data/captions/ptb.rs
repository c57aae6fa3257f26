//! Sentences cut into words for scoring, as the tokenizer of the COCO caption tools does it: Penn Treebank rules, lower case,
//! punctuation left out.
//!
//! Of all rules that fit where a token begins, the one counts that takes most of the text, what has to follow included; of
//! several such, the first. The rules were found by comparing with that tokenizer over captions and mutated captions;
//! docs/fidelity.md lists what still differs.

mod rules;

use super::words::is_python_space as is_space;
use rules::{Make, longest};

/// Tokens that do not count. Brackets are written out (`-lrb-`), and so they count.
const LEFT_OUT: [&str; 17] =
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// A sentence's words with single spaces between them, lower-cased, without punctuation.
pub fn tokenize(text: &str) -> String {
    // The tools put one caption on a line; what ends a line is a space within it.
    let mut line =
        text.replace(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'], " ").trim_end().to_owned();
    line.push('\n');
    let mut tokens = Vec::new();
    let mut rest = line.as_str();
    while let Some(first) = rest.chars().next() {
        if first == ' ' || first == '\n' {
            rest = &rest[1..];
            continue;
        }
        let plain = plain_word(rest);
        if plain > 0 {
            tokens.push(rest[..plain].to_ascii_lowercase());
            rest = &rest[plain..];
            continue;
        }
        let Some((length, make)) = longest(rest) else {
            rest = &rest[first.len_utf8()..];
            continue;
        };
        // A space within a token is one that does not separate.
        let token = rest[..length].to_lowercase().replace(' ', "\u{a0}");
        match make {
            Make::Itself => tokens.push(token.replace('\u{ad}', "").replace("&amp;", "&")),
            Make::Plain => tokens.push(token.replace("&apos;", "'").replace(['’', '\u{92}'], "'")),
            Make::Quotes => tokens.push(
                token
                    .replace(['‘', '‹', '\u{91}'], "`")
                    .replace(['’', '›', '\u{92}'], "'")
                    .replace(['“', '«', '\u{93}'], "``")
                    .replace(['”', '»', '\u{94}'], "''"),
            ),
            Make::Brackets => tokens.push(token.replace('(', "-lrb-").replace(')', "-rrb-")),
            Make::Other(other) => tokens.push((*other).to_owned()),
            Make::Nothing => {}
        }
        rest = &rest[length..];
    }
    counted(tokens.into_iter())
}

/// Length of a word of plain letters that nothing could be joined to, or 0: most words of captions, found without rules.
fn plain_word(rest: &str) -> usize {
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let ends = rest.as_bytes().get(letters).is_some_and(|byte| matches!(byte, b' ' | b'\n'));
    // Six letters and fewer may be two words.
    if ends && !rules::is_pair(&rest[..letters]) { letters } else { 0 }
}

/// A sentence split at white space, lower-cased, without punctuation: enough for captions that a network wrote.
pub fn simple(text: &str) -> String {
    counted(text.to_lowercase().split(is_space).filter(|word| !word.is_empty()).map(str::to_owned))
}

fn counted(tokens: impl Iterator<Item = String>) -> String {
    let counts = |token: &String| !token.is_empty() && !LEFT_OUT.contains(&token.as_str());
    tokens.filter(counts).collect::<Vec<_>>().join(" ")
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
            ("She's ne'er-do-well, isn't she", "she 's ne'er do-well is n't she"),
            ("@home", "@home"),
            ("in the U. S. A.", "in the u. s. a"),
            ("' '' ... '", ""),
            ("ends in an apostrophe'", "ends in an apostrophe"),
            ("dots at the end of http://a.b/c.", "dots at the end of http://a.b/c"),
        ] {
            assert_eq!(tokenize(text), words);
        }
        assert_eq!(simple("A \"dog\" , runs ."), "a \"dog\" runs");
    }

    /// What the tokenizer of the COCO tools makes of captions, each after a tab.
    #[test]
    fn cases_are_cut_as_there() {
        let cases = include_str!("../../../tests/cases/ptb.tsv");
        for (caption, words) in cases.lines().filter_map(|line| line.split_once('\t')) {
            assert_eq!(tokenize(caption), words, "{caption}");
        }
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
