//! Feature maps as vectors.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Block, BlockPass};
use crate::error::Result;
use crate::plugins::Plugin;

/// Images or feature maps as vectors, in the order channel, row, column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flatten {}

impl Plugin for Flatten {
    const KIND: &'static str = "flatten";
    const ABOUT: &'static str = "images or feature maps as vectors";
}

impl Block for Flatten {
    fn output(&self, input: &[usize], _: usize) -> Result<Vec<usize>, String> {
        Ok(vec![input.iter().product()])
    }

    fn forward(&self, _: &[Tensor], x: &Tensor, _: &mut BlockPass<'_>) -> Result<Tensor> {
        Ok(x.flatten_from(1)?)
    }
}
