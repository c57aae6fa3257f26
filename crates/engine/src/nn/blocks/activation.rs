//! Activation functions.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Block, BlockPass};
use crate::error::Result;
use crate::nn::relu;
use crate::plugins::Plugin;

/// The rectifier, `max(x, 0)`; its derivative at 0 is 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relu {}

impl Plugin for Relu {
    const KIND: &'static str = "relu";
    const ABOUT: &'static str = "the rectifier";
}

impl Block for Relu {
    fn output(&self, input: &[usize], _: usize) -> Result<Vec<usize>, String> {
        Ok(input.to_vec())
    }

    fn forward(&self, _: &[Tensor], x: &Tensor, _: &mut BlockPass<'_>) -> Result<Tensor> {
        relu(x)
    }
}

/// The hyperbolic tangent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tanh {}

impl Plugin for Tanh {
    const KIND: &'static str = "tanh";
    const ABOUT: &'static str = "the hyperbolic tangent";
}

impl Block for Tanh {
    fn output(&self, input: &[usize], _: usize) -> Result<Vec<usize>, String> {
        Ok(input.to_vec())
    }

    fn forward(&self, _: &[Tensor], x: &Tensor, _: &mut BlockPass<'_>) -> Result<Tensor> {
        Ok(x.tanh()?)
    }
}
