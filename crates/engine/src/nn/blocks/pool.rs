//! Max pooling.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Block, BlockPass, map};
use crate::error::Result;
use crate::nn::max_pool_tiles;
use crate::plugins::Plugin;

/// The maximum of every square of `size` x `size` pixels; odd rows and columns at the end are dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Width and height of a square, in pixels.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 255))]
    pub size: usize,
}

fn two() -> usize {
    2
}

impl Plugin for Pool {
    const KIND: &'static str = "pool";
    const ABOUT: &'static str = "max pooling";
}

impl Block for Pool {
    fn output(&self, input: &[usize], _: usize) -> Result<Vec<usize>, String> {
        let [channels, height, width] = map(input)?;
        match [height / self.size, width / self.size] {
            [0, _] | [_, 0] => {
                Err(format!("squares of {0} x {0} do not fit into {height} x {width} pixels", self.size))
            }
            [height, width] => Ok(vec![channels, height, width]),
        }
    }

    fn forward(&self, _: &[Tensor], x: &Tensor, _: &mut BlockPass<'_>) -> Result<Tensor> {
        max_pool_tiles(x, self.size)
    }
}
