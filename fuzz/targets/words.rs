//! Captions as words: the tokenizers, the vocabulary, and the scores.
#![no_main]

use ccdni::data::captions::ptb;
use ccdni::data::captions::scores::{Scored, all};
use ccdni::data::captions::vocabulary::{Vocabulary, WordCounts};
use ccdni::data::captions::words::WordTokenizer;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let lines: Vec<&str> = text.lines().collect();
    let mut tokenizer = WordTokenizer::new();
    for line in &lines {
        assert!(tokenizer.words(line).iter().all(|word| !word.is_empty()));
        let _ = ptb::simple(line);
    }
    let vocabulary = Vocabulary::new(&WordCounts::of(&lines), 1);
    let ids = vocabulary.encode(&mut tokenizer, text);
    let _ = vocabulary.decode(&ids);
    if let Some((candidate, references @ [_, ..])) = lines.split_first() {
        let references: Vec<String> = references.iter().map(|line| ptb::tokenize(line)).collect();
        let scored = Scored { candidate: ptb::tokenize(candidate), references };
        assert!(all(&[scored]).iter().all(|score| score.corpus.is_finite()));
    }
});
