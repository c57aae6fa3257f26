//! A small grammar of English, for language models without a download: the verb agrees with a subject from which relative clauses
//! and prepositional phrases may separate it, so that a good model remembers its number over several words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rng::Stream;

/// Sentences from a grammar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grammar {
    /// Sentences for training.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub train: usize,
    /// Sentences for validation.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub valid: usize,
    /// Sentences for the test.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub test: usize,
    /// Seed of the sentences, independent of the seeds of a run, as for a text from files.
    pub draw: u64,
}

impl Default for Grammar {
    fn default() -> Self {
        Grammar { train: 4000, valid: 400, test: 400, draw: 1 }
    }
}

/// Singular and plural.
type Forms = [&'static str; 2];

const NOUNS: [Forms; 12] = [
    ["dog", "dogs"],
    ["cat", "cats"],
    ["child", "children"],
    ["teacher", "teachers"],
    ["farmer", "farmers"],
    ["bird", "birds"],
    ["river", "rivers"],
    ["boat", "boats"],
    ["garden", "gardens"],
    ["house", "houses"],
    ["letter", "letters"],
    ["song", "songs"],
];
const TRANSITIVE: [Forms; 8] = [
    ["sees", "see"],
    ["likes", "like"],
    ["follows", "follow"],
    ["finds", "find"],
    ["hears", "hear"],
    ["paints", "paint"],
    ["remembers", "remember"],
    ["needs", "need"],
];
const INTRANSITIVE: [Forms; 6] = [
    ["sleeps", "sleep"],
    ["waits", "wait"],
    ["moves", "move"],
    ["falls", "fall"],
    ["sings", "sing"],
    ["is here", "are here"],
];
const DETERMINERS: [[&str; 3]; 2] = [["the", "a", "every"], ["the", "some", "many"]];
const ADJECTIVES: [&str; 6] = ["old", "small", "green", "quiet", "clever", "strange"];
const PREPOSITIONS: [&str; 4] = ["near", "behind", "with", "under"];

/// Phrases within phrases, at most.
const DEPTH: usize = 2;

impl Grammar {
    /// Gives the sentences of a part (training, validation, test) to `each`.
    ///
    /// # Errors
    /// The first error of `each`.
    pub(super) fn sentences(
        &self,
        part: usize,
        mut each: impl FnMut(&str) -> Result<(), String>,
    ) -> Result<(), String> {
        let (count, purpose) = match part {
            0 => (self.train, "data.grammar.train"),
            1 => (self.valid, "data.grammar.valid"),
            _ => (self.test, "data.grammar.test"),
        };
        (0..count).try_for_each(|index| {
            let mut words = Words { stream: Stream::new(self.draw, purpose, 0, index), text: String::new() };
            let number = words.noun_phrase(0);
            words.verb_phrase(number, 0);
            words.add(".");
            each(&words.text)
        })
    }
}

struct Words {
    stream: Stream,
    text: String,
}

impl Words {
    fn add(&mut self, words: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(words);
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.stream.below(of.len())]
    }

    fn chance(&mut self, p: f64) -> bool {
        self.stream.unit_f64() < p
    }

    /// Returns its number: 0 singular, 1 plural.
    fn noun_phrase(&mut self, depth: usize) -> usize {
        let number = self.stream.below(2);
        let determiner = self.one(&DETERMINERS[number]);
        self.add(determiner);
        if self.chance(0.3) {
            let adjective = self.one(&ADJECTIVES);
            self.add(adjective);
        }
        let noun = self.one(&NOUNS);
        self.add(noun[number]);
        if depth < DEPTH && self.chance(0.25) {
            let preposition = self.one(&PREPOSITIONS);
            self.add(preposition);
            self.noun_phrase(depth + 1);
        }
        if depth < DEPTH && self.chance(0.3) {
            self.add("that");
            match self.chance(0.5) {
                true => self.verb_phrase(number, depth + 1),
                false => {
                    let subject = self.noun_phrase(depth + 1);
                    let verb = self.one(&TRANSITIVE);
                    self.add(verb[subject]);
                }
            }
        }
        number
    }

    fn verb_phrase(&mut self, number: usize, depth: usize) {
        if self.chance(0.4) {
            let verb = self.one(&INTRANSITIVE);
            return self.add(verb[number]);
        }
        let verb = self.one(&TRANSITIVE);
        self.add(verb[number]);
        self.noun_phrase(depth + 1);
    }
}
