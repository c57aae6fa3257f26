//! The head of a backbone: a linear layer and batch normalisation.

use candle_core::Tensor;

use super::{BatchNorm, Linear, Mode, Statistics, batch_norm};
use crate::error::Result;

/// Momentum of the running statistics.
const MOMENTUM: f64 = 0.01;

/// A linear layer followed by batch normalisation.
#[derive(Debug, Clone)]
pub struct Head {
    /// From features to outputs.
    pub linear: Linear,
    /// The normalisation's scale, `[outputs]`.
    pub scale: Tensor,
    /// Its shift, `[outputs]`.
    pub shift: Tensor,
    /// Its running mean, `[outputs]`.
    pub mean: Tensor,
    /// Its running variance, `[outputs]`.
    pub variance: Tensor,
}

impl Head {
    /// `[batch, features]` to `[batch, outputs]`; in training also the new running statistics.
    ///
    /// # Errors
    /// As [`batch_norm()`].
    pub fn forward(&self, features: &Tensor, mode: Mode) -> Result<(Tensor, Option<Statistics>)> {
        let norm = BatchNorm { scale: &self.scale, shift: &self.shift, mean: &self.mean, variance: &self.variance };
        batch_norm(&self.linear.forward(features)?, norm, mode, MOMENTUM)
    }
}
