//! How sequences of tokens are decoded from a network, and what a decoded one is.

/// The widest beam: each of its sentences takes as many numbers as the vocabulary has words, a image and step.
pub const WIDEST_BEAM: usize = 1000;

/// How the next word is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// The likeliest word, always; of equally likely ones that with the lowest id.
    Greedy,
    /// The best of many sentences, by the mean log-probability of a token ([`Decoded::score`]), so that a sentence is not better
    /// for being short. Each step keeps the `width` likeliest unfinished sentences; a sentence that ends among the `width`
    /// likeliest of its step joins the finished ones, of which the `width` best are kept. A search is over when there are
    /// that many and no unfinished sentence scores more than the last of them. A beam of one is greedy.
    Beam {
        /// Sentences kept, 1 to [`WIDEST_BEAM`].
        width: usize,
    },
    /// Words are drawn by their probabilities.
    Sample {
        /// Logits are divided by this, above 0: below 1 likely words become likelier; towards 0 it is greedy.
        temperature: f64,
        /// Words are drawn from the likeliest alone whose probabilities, after the temperature, first reach this sum: above
        /// 0, up to 1 (every word).
        top_p: f64,
        /// The seed of the draws.
        seed: u64,
        /// The number of the first image. A image's draws depend on the seed, its number and the step, so that it gets the
        /// same sentence in whatever batch it comes.
        first: usize,
    },
}

impl Strategy {
    /// The same for images of which the first has this number.
    pub fn from(self, number: usize) -> Strategy {
        match self {
            Strategy::Sample { temperature, top_p, seed, .. } => {
                Strategy::Sample { temperature, top_p, seed, first: number }
            }
            other => other,
        }
    }
}

/// Where sentences begin and end, and what is never said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The token that is fed behind the feature.
    pub start: u32,
    /// The token that ends a sentence.
    pub end: u32,
    /// Tokens that are never chosen (padding, the unknown word, the start). The probabilities that are told remain those that
    /// the network gives, over all tokens.
    pub never: Vec<u32>,
    /// The most tokens that are chosen for a sentence, the end included: a sentence that has not ended by then is cut.
    pub steps: usize,
}

impl Limits {
    /// The usual limit of steps.
    pub const STEPS: usize = 20;
}

/// A sentence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoded {
    /// The tokens, without start and end.
    pub ids: Vec<u32>,
    /// The log-probability (natural, over all tokens, at temperature 1) of each token, and of the end where it was
    /// reached.
    pub log_probabilities: Vec<f64>,
    /// Whether the end was reached, rather than the limit.
    pub ended: bool,
}

impl Decoded {
    /// The mean log-probability of a token, the end included: what a beam searches the maximum of.
    pub fn score(&self) -> f64 {
        self.log_probabilities.iter().sum::<f64>() / self.log_probabilities.len().max(1) as f64
    }
}
