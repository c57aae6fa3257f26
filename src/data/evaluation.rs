//! The evaluation at the end of training: what a dataset asks of the trained network, and what comes of it.

use candle_core::Tensor;

use super::{Batch, Decoded, Limits, Strategy};
use crate::error::Result;

/// A trained network, as a dataset evaluates it.
pub trait Predictor {
    /// Its outputs at every step of a batch, one row per sequence: `[batch, time, size]`, f32; logits for classes.
    ///
    /// # Errors
    /// Fails where the batch is not of the shape that the network was trained on.
    fn predict(&self, batch: &Batch) -> Result<Tensor>;

    /// Sequences of tokens after `first`, `[batch, ...]`, the feature vectors that the first step reads (or what the
    /// model's encoder makes them of). For each row one, or for a beam up to `width` different ones, the best first.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for a strategy or limits that cannot be,
    /// [`Error::Training`](crate::Error::Training) where the model reads no tokens or does not answer with them.
    fn decode(&self, first: &Tensor, strategy: &Strategy, limits: &Limits) -> Result<Vec<Vec<Decoded>>>;
}

/// The result of an evaluation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evaluation {
    /// Numbers by name; they are part of a seed's results.
    pub scores: Vec<(String, f64)>,
    /// Files by name, with their content; they are written beside the weights.
    pub files: Vec<(String, Vec<u8>)>,
}
