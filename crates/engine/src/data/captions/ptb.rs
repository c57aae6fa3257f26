//! Tokenisation for scoring, as in the COCO caption tools: Penn Treebank rules, lower case, without punctuation.
//!
//! The rule with the longest match at a position applies, lookahead included; ties go to the first. The rules were derived
//! by comparison with that tokenizer on captions and mutated captions; docs/fidelity.md lists the remaining differences.

mod rules;

use super::words::is_python_space as is_space;
use rules::{Make, longest};

/// Tokens that are dropped. Brackets are spelled in lower case (`-lrb-`), so they are kept.
const DROPPED: [&str; 17] =
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// The words of a sentence, lower-cased, without punctuation, joined by single spaces.
pub fn tokenize(text: &str) -> String {
    // The tools process one caption per line, so line breaks become spaces.
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
        // Spaces within a token become non-breaking.
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
    kept(tokens.into_iter())
}

/// Length of a word of ASCII letters followed by white space, or 0: a fast path for most words of captions.
fn plain_word(rest: &str) -> usize {
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let ends = rest.as_bytes().get(letters).is_some_and(|byte| matches!(byte, b' ' | b'\n'));
    // Contractions such as `cannot` are two words.
    if ends && !rules::is_pair(&rest[..letters]) { letters } else { 0 }
}

/// As [`tokenize`], but splits at white space only: sufficient for generated captions.
pub fn simple(text: &str) -> String {
    kept(text.to_lowercase().split(is_space).filter(|word| !word.is_empty()).map(str::to_owned))
}

fn kept(tokens: impl Iterator<Item = String>) -> String {
    let counts = |token: &String| !token.is_empty() && !DROPPED.contains(&token.as_str());
    tokens.filter(counts).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_split_as_in_the_treebank() {
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

    /// Captions and, after a tab, the output of the tokenizer of the COCO tools.
    #[test]
    fn cases_are_split_as_there() {
        let cases = include_str!("../../../../../tests/cases/ptb.tsv");
        for (caption, words) in cases.lines().filter_map(|line| line.split_once('\t')) {
            assert_eq!(tokenize(caption), words, "{caption}");
        }
    }

    #[test]
    fn long_texts_are_split_as_short_ones() {
        // More than a window, so that every rule is tried at every place of it.
        for text in ["A man's dog can't jump, it's (very) old @ 9, ", "<a <b a,b c@d é\"x\" U. S. A. http://a.b/c, "] {
            let (short, long) = (tokenize(text), tokenize(&text.repeat(400)));
            assert_eq!(long, vec![short; 400].join(" "));
        }
        for word in ["b".repeat(20_000), "\u{e9}".repeat(9_001), format!("http://{}", "a.".repeat(4_000) + "b")] {
            assert_eq!(tokenize(&format!("a {word} dog")), format!("a {word} dog"));
        }
    }

    #[test]
    fn arbitrary_text_never_panics() {
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
