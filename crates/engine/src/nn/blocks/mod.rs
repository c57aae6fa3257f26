//! Blocks: the layers of a feed-forward network, one file per kind.
//!
//! A block is a type whose fields are its keys in a spec ([`Plugin`](crate::plugins::Plugin)) and that implements [`Block`]: the
//! shape of its output, its parameters, and its function on tensors, which is differentiated automatically. A sample has no batch
//! axis in shapes: `[features]`, or `[channels, height, width]`.

mod activation;
mod batch_norm;
mod conv;
mod dropout;
mod flatten;
mod linear;
mod pool;

use std::fmt::Debug;

use candle_core::Tensor;

use super::{Mode, init};
use crate::error::Result;
use crate::plugins::Kinds;
use crate::rng::Stream;
use crate::spec::BlockSpec;

pub use activation::{Relu, Tanh};
pub use batch_norm::BatchNorm;
pub use conv::Conv;
pub use dropout::Dropout;
pub use flatten::Flatten;
pub use linear::Linear;
pub use pool::Pool;

/// The blocks of this crate.
pub fn built_in() -> Kinds<dyn Block> {
    let mut blocks: Kinds<dyn Block> = Kinds::new::<BlockSpec>("block");
    blocks.register::<Linear>(|block| Box::new(block));
    blocks.register::<Conv>(|block| Box::new(block));
    blocks.register::<BatchNorm>(|block| Box::new(block));
    blocks.register::<Relu>(|block| Box::new(block));
    blocks.register::<Tanh>(|block| Box::new(block));
    blocks.register::<Pool>(|block| Box::new(block));
    blocks.register::<Dropout>(|block| Box::new(block));
    blocks.register::<Flatten>(|block| Box::new(block));
    blocks
}

/// One layer of a feed-forward network.
pub trait Block: Debug + Send + Sync {
    /// The shape of a sample after this block; `targets` is the width of the network's output that the task requires.
    ///
    /// # Errors
    /// Why the block cannot take samples of this shape.
    fn output(&self, input: &[usize], targets: usize) -> Result<Vec<usize>, String>;

    /// Its parameters and running statistics for samples of this shape, in order; none by default.
    fn parameters(&self, _input: &[usize], _targets: usize) -> Vec<BlockParameter> {
        Vec::new()
    }

    /// `[batch, ...input]` to `[batch, ...output]`; `parameters` are those of [`Block::parameters`].
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn forward(&self, parameters: &[Tensor], x: &Tensor, pass: &mut BlockPass<'_>) -> Result<Tensor>;
}

/// One parameter, or running statistic, of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockParameter {
    /// Its name within the block, as in PyTorch: `weight`, `running_mean`.
    pub name: &'static str,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its initial values.
    pub initial: Initial,
    /// Whether gradients change it; a running statistic is changed by [`BlockPass::note`].
    pub learned: bool,
}

/// The initial values of a block's parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// Uniform within `±bound`.
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// All the same.
    Constant(f32),
}

impl Initial {
    /// That of PyTorch's linear and convolutional layers, weight and bias: uniform within `±1/√fan_in`.
    pub fn of_fan_in(fan_in: usize) -> Initial {
        Initial::Uniform { bound: 1.0 / (fan_in.max(1) as f64).sqrt() }
    }

    /// `count` values.
    pub fn values(self, stream: &mut Stream, count: usize) -> Vec<f32> {
        match self {
            Initial::Uniform { bound } => init::uniform(stream, count, bound),
            Initial::Constant(value) => vec![value; count],
        }
    }
}

/// Draws a dropout mask of a shape, given the probability of a zero: 0 or `1/(1 − p)`.
pub type DrawMask<'a> = dyn Fn(f64, &[usize]) -> Result<Tensor> + Sync + 'a;

/// One pass through a block: training or evaluation, its dropout mask, and new running statistics.
pub struct BlockPass<'a> {
    /// Whether the network is trained.
    pub mode: Mode,
    draw: &'a DrawMask<'a>,
    statistics: Vec<(usize, Tensor)>,
}

impl<'a> BlockPass<'a> {
    /// A pass; `draw` is used in training alone.
    pub fn new(mode: Mode, draw: &'a DrawMask<'a>) -> BlockPass<'a> {
        BlockPass { mode, draw, statistics: Vec::new() }
    }

    /// The dropout mask of this pass.
    ///
    /// # Errors
    /// Fails if it cannot be allocated.
    pub fn mask(&self, p: f64, dims: &[usize]) -> Result<Tensor> {
        (self.draw)(p, dims)
    }

    /// Replaces a running statistic, by its place among the block's parameters, once the pass is over.
    pub fn note(&mut self, place: usize, value: Tensor) {
        self.statistics.push((place, value));
    }

    /// The new running statistics, by their place among the block's parameters.
    pub fn into_statistics(self) -> Vec<(usize, Tensor)> {
        self.statistics
    }
}

/// Refuses samples that are not vectors.
fn vector(input: &[usize]) -> Result<usize, String> {
    match *input {
        [width] => Ok(width),
        _ => Err(format!("expected vectors, and its input is {}; add a `flatten` block before it", shape(input))),
    }
}

/// Refuses samples that are not images or feature maps.
fn map(input: &[usize]) -> Result<[usize; 3], String> {
    match *input {
        [channels, height, width] => Ok([channels, height, width]),
        _ => Err(format!("expected images `[channels, height, width]`, and its input is {}", shape(input))),
    }
}

/// A shape in messages.
fn shape(input: &[usize]) -> String {
    match input {
        [width] => format!("vectors of {width} numbers"),
        dims => format!("of shape {dims:?}"),
    }
}

#[cfg(test)]
mod tests;
