//! Dropout.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Block, BlockPass, map};
use crate::error::Result;
use crate::nn::Mode;
use crate::plugins::Plugin;

/// Sets units to zero at random in training, and scales the others by `1/(1 − p)` (Srivastava et al. 2014).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Probability that a unit is set to zero.
    #[serde(default = "half")]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub p: f64,
    /// Whether whole channels are dropped, in place of single units.
    #[serde(default)]
    pub channels: bool,
}

fn half() -> f64 {
    0.5
}

impl Plugin for Dropout {
    const KIND: &'static str = "dropout";
    const ABOUT: &'static str = "dropout of units or channels";
}

impl Block for Dropout {
    fn output(&self, input: &[usize], _: usize) -> Result<Vec<usize>, String> {
        if self.channels {
            map(input)?;
        }
        Ok(input.to_vec())
    }

    fn forward(&self, _: &[Tensor], x: &Tensor, pass: &mut BlockPass<'_>) -> Result<Tensor> {
        if pass.mode == Mode::Evaluate || self.p == 0.0 {
            return Ok(x.clone());
        }
        if !self.channels {
            return Ok((x * pass.mask(self.p, x.dims())?)?);
        }
        let (batch, channels) = (x.dim(0)?, x.dim(1)?);
        Ok(x.broadcast_mul(&pass.mask(self.p, &[batch, channels])?.reshape((batch, channels, 1, 1))?)?)
    }
}
