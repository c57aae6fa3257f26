//! One parameter of a model, before it has values.

use crate::nn::Part;
use crate::nn::backbone::TensorKind;
use crate::nn::blocks::Initial;
use crate::nn::cells::CellParameter;

/// One parameter of a layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Name in files, as in PyTorch.
    pub name: String,
    /// Its role, which names its random stream (`init.<role>`) and does not depend on the layout of files.
    pub role: String,
    /// The part of the model it belongs to.
    pub part: Part,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its initial distribution.
    pub start: Start,
}

/// An initial distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// Standard normal.
    Embedding,
    /// That of the cell of the layer of this index.
    Recurrent(usize, CellParameter),
    /// Uniform within `±bound`.
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// That of a backbone's tensors of this kind.
    Backbone(TensorKind),
    /// That of a block's parameter.
    Block(Initial),
    /// Zero.
    Zero,
    /// One.
    One,
}

impl Start {
    /// Uniform within `±bound`, or zero.
    pub fn of_bound(bound: f64) -> Start {
        match bound {
            0.0 => Start::Zero,
            bound => Start::Uniform { bound },
        }
    }

    /// That of PyTorch's linear layers: uniform within `±1/√fan_in`.
    pub fn linear(fan_in: usize) -> Start {
        Start::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }
    }
}
