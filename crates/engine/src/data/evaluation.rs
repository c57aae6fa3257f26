//! The evaluation at the end of training: the predictions that a dataset may request, and the result.

use candle_core::Tensor;

use super::{Batch, Decoded, Limits, Strategy};
use crate::error::Result;

/// The interface of a trained network to [`Dataset::evaluate`](super::Dataset::evaluate).
pub trait Predictor {
    /// Outputs at every step of a batch, one row per sequence: `[batch, time, size]`, f32; logits for classes.
    ///
    /// # Errors
    /// Fails if the batch does not have the shape that the network was trained on.
    fn predict(&self, batch: &Batch) -> Result<Tensor>;

    /// Decodes sequences of tokens after `first`, `[batch, ...]`: the feature vectors of the first step, or the input of the
    /// model's encoder. Returns one sequence per row, or up to `width` distinct ones for a beam, the best first.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for an invalid strategy or limits,
    /// [`Error::Training`](crate::Error::Training) if the model does not both read and predict tokens.
    fn decode(&self, first: &Tensor, strategy: &Strategy, limits: &Limits) -> Result<Vec<Vec<Decoded>>>;
}

/// The result of an evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// Scores by name; part of a seed's results.
    pub scores: Vec<(String, f64)>,
    /// Contents of files by name, written next to the weights.
    pub files: Vec<(String, Vec<u8>)>,
    /// Contents of files that show the inputs, by name: the same for all weights.
    pub inputs: Vec<(String, Vec<u8>)>,
}
