//! The linear layer.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Block, BlockParameter, BlockPass, Initial, vector};
use crate::error::Result;
use crate::nn;
use crate::plugins::Plugin;

/// `y = x Wᵀ + b`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Number of units; as many as the task has outputs if left out, or as the embedding is wide in an image encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub units: Option<usize>,
    /// Whether there is a bias.
    #[serde(default = "yes")]
    pub bias: bool,
}

fn yes() -> bool {
    true
}

impl Plugin for Linear {
    const KIND: &'static str = "linear";
    const ABOUT: &'static str = "a linear layer";
}

impl Block for Linear {
    fn output(&self, input: &[usize], targets: usize) -> Result<Vec<usize>, String> {
        vector(input)?;
        Ok(vec![self.units.unwrap_or(targets)])
    }

    fn parameters(&self, input: &[usize], targets: usize) -> Vec<BlockParameter> {
        let (inputs, units) = (input.iter().product(), self.units.unwrap_or(targets));
        let parameter = |name, dims| BlockParameter { name, dims, initial: Initial::of_fan_in(inputs), learned: true };
        let mut all = vec![parameter("weight", vec![units, inputs])];
        if self.bias {
            all.push(parameter("bias", vec![units]));
        }
        all
    }

    fn forward(&self, parameters: &[Tensor], x: &Tensor, _: &mut BlockPass<'_>) -> Result<Tensor> {
        match parameters {
            [weight, bias] => nn::Linear { weight: weight.clone(), bias: bias.clone() }.forward(x),
            _ => Ok(x.matmul(&parameters[0].t()?)?),
        }
    }
}
