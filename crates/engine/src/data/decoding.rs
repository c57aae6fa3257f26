//! Decoding strategies for sequences of tokens, and their result.

/// The widest beam: every beam holds one number per word of the vocabulary, per image and step.
pub const WIDEST_BEAM: usize = 1000;

/// How the next word is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Always the most likely word; ties go to the lowest id.
    Greedy,
    /// Beam search by the mean log-probability per token ([`Decoded::score`]), which does not favour short sentences. Each
    /// step keeps the `width` most likely unfinished sentences; a sentence that ends among the `width` most likely of its
    /// step joins the finished ones, of which the `width` best are kept. The search ends when there are that many and no
    /// unfinished sentence scores higher than the worst of them. A beam of width 1 is greedy.
    Beam {
        /// Beam width, 1 to [`WIDEST_BEAM`].
        width: usize,
    },
    /// Words are sampled from the predicted distribution.
    Sample {
        /// Logits are divided by this, above 0; values below 1 sharpen the distribution, greedy in the limit of 0.
        temperature: f64,
        /// Nucleus sampling: only the most likely words whose probabilities, after the temperature, first reach this sum;
        /// above 0, up to 1 (every word).
        top_p: f64,
        /// The seed of the draws.
        seed: u64,
        /// The number of the first image. Draws depend on the seed, the image's number and the step, not on the batch.
        first: usize,
    },
}

impl Strategy {
    /// The same strategy for images numbered from `number`.
    pub fn from(self, number: usize) -> Strategy {
        match self {
            Strategy::Sample { temperature, top_p, seed, .. } => {
                Strategy::Sample { temperature, top_p, seed, first: number }
            }
            other => other,
        }
    }
}

/// Where sentences begin and end, and which tokens are excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The token that is fed after the feature.
    pub start: u32,
    /// The token that ends a sentence.
    pub end: u32,
    /// Tokens that are never chosen (padding, the unknown word, the start). Reported probabilities remain those of the
    /// network, over all tokens.
    pub never: Vec<u32>,
    /// Maximum number of tokens per sentence, the end included; longer sentences are truncated.
    pub steps: usize,
}

impl Limits {
    /// The default number of steps.
    pub const STEPS: usize = 20;
}

/// A decoded sentence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoded {
    /// The tokens, without start and end.
    pub ids: Vec<u32>,
    /// The log-probability (natural, over all tokens, at temperature 1) of each token, and of the end where it was reached.
    pub log_probabilities: Vec<f64>,
    /// Whether the end was reached, rather than the limit.
    pub ended: bool,
}

impl Decoded {
    /// The mean log-probability per token, the end included: the objective of beam search.
    pub fn score(&self) -> f64 {
        self.log_probabilities.iter().sum::<f64>() / self.log_probabilities.len().max(1) as f64
    }
}
