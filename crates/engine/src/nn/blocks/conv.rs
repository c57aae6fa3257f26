//! The convolution.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Block, BlockParameter, BlockPass, Initial, map};
use crate::error::Result;
use crate::nn::conv2d;
use crate::nn::kernel::window::Window;
use crate::plugins::Plugin;

/// A convolution with square kernels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Channels of the output.
    #[schemars(range(min = 1, max = 65_536))]
    pub channels: usize,
    /// Width and height of the kernel, in pixels.
    #[schemars(range(min = 1, max = 255))]
    pub kernel: usize,
    /// Pixels from one position of the kernel to the next.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 255))]
    pub stride: usize,
    /// Pixels of zeros on each side of the image.
    #[serde(default)]
    #[schemars(range(max = 255))]
    pub padding: usize,
    /// Whether there is a bias.
    #[serde(default = "yes")]
    pub bias: bool,
}

fn one() -> usize {
    1
}
fn yes() -> bool {
    true
}

impl Plugin for Conv {
    const KIND: &'static str = "conv";
    const ABOUT: &'static str = "a convolution with square kernels";
}

impl Block for Conv {
    fn output(&self, input: &[usize], _: usize) -> Result<Vec<usize>, String> {
        let [_, height, width] = map(input)?;
        let window = Window { size: self.kernel, stride: self.stride, padding: self.padding };
        match [window.count(height), window.count(width)] {
            [0, _] | [_, 0] => {
                Err(format!("a kernel of {0} x {0} does not fit into {height} x {width} pixels", self.kernel))
            }
            [height, width] => Ok(vec![self.channels, height, width]),
        }
    }

    fn parameters(&self, input: &[usize], _: usize) -> Vec<BlockParameter> {
        let channels = input.first().copied().unwrap_or(1);
        let initial = Initial::of_fan_in(channels * self.kernel * self.kernel);
        let parameter = |name, dims| BlockParameter { name, dims, initial, learned: true };
        let mut all = vec![parameter("weight", vec![self.channels, channels, self.kernel, self.kernel])];
        if self.bias {
            all.push(parameter("bias", vec![self.channels]));
        }
        all
    }

    fn forward(&self, parameters: &[Tensor], x: &Tensor, _: &mut BlockPass<'_>) -> Result<Tensor> {
        let y = conv2d(x, &parameters[0], self.stride, self.padding)?;
        match parameters.get(1) {
            Some(bias) => Ok(y.broadcast_add(&bias.reshape((1, self.channels, 1, 1))?)?),
            None => Ok(y),
        }
    }
}
