//! What computes the recurrent stack: a forward pass over a span of steps, and a backward pass in which windows lie
//! side by side.
//!
//! The engine never sees how; a backend never sees losses, synthesizers or optimizers.

mod composed;

pub use composed::Composed;

use std::any::Any;
use std::ops::Range;

use candle_core::Tensor;

use super::sequence::Sequence;
use crate::error::Result;
use crate::model::Model;
use crate::nn::Gradients;

/// At which steps outputs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outputs {
    /// At every step of the span.
    EveryStep,
    /// Only at the last step of the sequence.
    LastStep,
}

/// What a forward pass over a span gives.
pub struct Forward {
    /// The steps it covers.
    pub span: Range<usize>,
    /// `[steps, batch, width]` as asked for (one step for the last); none where the span has no such step.
    pub outputs: Option<Tensor>,
    /// Joined states, `states[layer][t]` is `[batch, width]` after `t` steps of the span; `t = 0` is its start.
    pub states: Vec<Vec<Tensor>>,
    /// Whatever the backend wants to find again in its backward pass.
    pub saved: Box<dyn Any>,
}

impl Forward {
    /// The joined states of a layer at some steps of the sequence (the state *before* that step), one below the other.
    pub fn states_at(&self, layer: usize, steps: impl Iterator<Item = usize>) -> Result<Tensor> {
        let parts: Vec<Tensor> = steps.map(|step| self.states[layer][step - self.span.start].clone()).collect();
        super::sequence::stack_rows(&parts)
    }

    /// The joined states at the end of the span.
    pub fn end(&self) -> Vec<Tensor> {
        self.states.iter().filter_map(|states| states.last().cloned()).collect()
    }
}

/// What arrives from outside in a backward pass.
#[derive(Debug, Default)]
pub struct Cotangents {
    /// Gradient at the outputs, shaped like [`Forward::outputs`].
    pub outputs: Option<Tensor>,
    /// For each layer, what is injected at the ends of the windows, `[windows · batch, width]`, if anything.
    pub ends: Vec<Option<Tensor>>,
    /// `a` in `a · mean(h²)`, the mean over a window's steps, batch and units; summed over layers and windows.
    pub activity: f64,
    /// Whether gradients at the starts of the windows are wanted.
    pub starts: bool,
}

/// What a backward pass gives.
pub struct Backward {
    /// Gradients of embedding, stack and readout, summed over the windows.
    pub gradients: Gradients,
    /// For each layer, the gradient at the starts of the windows, `[windows · batch, width]`; empty if not wanted.
    pub starts: Vec<Tensor>,
}

/// Computes the recurrent stack.
pub trait Backend {
    /// Runs over the steps of `span` from the joined states `start`, `[batch, width]` for each layer.
    fn forward(
        &self,
        model: &Model,
        sequence: &Sequence,
        span: Range<usize>,
        start: &[Tensor],
        outputs: Outputs,
    ) -> Result<Forward>;

    /// The vector-Jacobian product of `windows`, each by itself from its start state (a constant) to its end. Windows
    /// lie within the forward pass's span and ascend.
    fn backward(
        &self,
        model: &Model,
        sequence: &Sequence,
        forward: &Forward,
        windows: &[Range<usize>],
        outputs: Outputs,
        cotangents: &Cotangents,
    ) -> Result<Backward>;
}
