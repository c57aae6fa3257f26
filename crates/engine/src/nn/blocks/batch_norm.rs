//! Batch normalisation.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Block, BlockParameter, BlockPass, Initial};
use crate::error::Result;
use crate::nn::{self, Statistics, batch_norm};
use crate::plugins::Plugin;

/// Batch normalisation per feature or channel (Ioffe and Szegedy 2015), as in PyTorch: statistics of the batch in training,
/// running statistics in evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Weight of a batch in the running statistics.
    #[serde(default = "tenth")]
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub running_momentum: f64,
}

fn tenth() -> f64 {
    0.1
}

impl Plugin for BatchNorm {
    const KIND: &'static str = "batch_norm";
    const ABOUT: &'static str = "batch normalisation per feature or channel";
}

impl Block for BatchNorm {
    fn output(&self, input: &[usize], _: usize) -> Result<Vec<usize>, String> {
        Ok(input.to_vec())
    }

    fn parameters(&self, input: &[usize], _: usize) -> Vec<BlockParameter> {
        let channels = input.first().copied().unwrap_or(1);
        let all =
            [("weight", 1.0, true), ("bias", 0.0, true), ("running_mean", 0.0, false), ("running_var", 1.0, false)];
        let parameter = |(name, value, learned)| BlockParameter {
            name,
            dims: vec![channels],
            initial: Initial::Constant(value),
            learned,
        };
        all.map(parameter).into()
    }

    fn forward(&self, parameters: &[Tensor], x: &Tensor, pass: &mut BlockPass<'_>) -> Result<Tensor> {
        let [scale, shift, mean, variance] = [0, 1, 2, 3].map(|place| &parameters[place]);
        let norm = nn::BatchNorm { scale, shift, mean, variance };
        let (y, statistics) = batch_norm(x, norm, pass.mode, self.running_momentum)?;
        if let Some(Statistics { mean, variance }) = statistics {
            pass.note(2, mean);
            pass.note(3, variance);
        }
        Ok(y)
    }
}
