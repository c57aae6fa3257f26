//! One parameter of a model, before it has numbers.

use crate::nn::Part;
use crate::nn::backbone::TensorKind;
use crate::nn::cells::CellParameter;

/// One parameter to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Name in files, as PyTorch has it.
    pub name: String,
    /// Its role, which names its random stream (`init.<role>`) and is the same in every stack.
    pub role: String,
    /// The part of the model it belongs to.
    pub part: Part,
    /// Its shape.
    pub dims: Vec<usize>,
    /// How it starts.
    pub start: Start,
}

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// Standard normal.
    Embedding,
    /// As the cell of the layer of this index has it.
    Recurrent(usize, CellParameter),
    /// Uniform within `±bound`.
    Uniform {
        /// The bound; `1/√fan_in` for linear layers.
        bound: f64,
    },
    /// As a backbone's tensors of this kind start.
    Backbone(TensorKind),
    /// Zero.
    Zero,
    /// One.
    One,
}

impl Start {
    /// As PyTorch's linear layers with so many inputs: uniform within `1/√fan_in`.
    pub fn linear(fan_in: usize) -> Start {
        Start::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }
    }
}
