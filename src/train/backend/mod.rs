//! What computes the network: the recurrent stack over a span of steps, forward and, with windows side by side, backward;
//! and the synthesizers.
//!
//! The engine never sees how; a backend never sees losses, optimizers or what a synthesizer is for.

mod composed;
mod fused;
mod unrolled;

pub use composed::Composed;
pub use fused::Fused;
pub use unrolled::Unrolled;

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::sequence::Sequence;
use crate::dni::Prediction;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::Gradients;
use crate::spec::BackendKind;

/// What a forward pass goes over.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The windows, one after the other. All have the same length, but for the last one, which may be shorter.
    pub windows: &'a [Range<usize>],
    /// For each window, whether a backward pass through it follows: nothing is kept of the others.
    pub needs_backward: &'a [bool],
    /// The steps of the sequence at which outputs are wanted, ascending. Where a backward pass follows, they lie in
    /// windows that need it.
    pub outputs: &'a [usize],
}

impl Plan<'_> {
    /// The steps that the windows cover.
    pub fn span(&self) -> Range<usize> {
        match self.windows {
            [] => 0..0,
            [first, .., last] => first.start..last.end,
            [one] => one.clone(),
        }
    }
}

/// What a forward pass computes.
pub struct Outputs {
    /// `[outputs, batch, width]`: the readout at each step that was asked for; none where there is no such step.
    pub readout: Option<Tensor>,
    /// For each layer the joined states at the boundaries of the windows, `[windows + 1, batch, width]`.
    pub boundaries: Vec<Tensor>,
}

impl Outputs {
    /// The joined states at the end of the span, `[batch, width]` for each layer.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn end(&self) -> Result<Vec<Tensor>> {
        let last = |boundaries: &Tensor| Ok(boundaries.get(boundaries.dim(0)? - 1)?);
        self.boundaries.iter().map(last).collect()
    }
}

/// Gradients of the loss at what a forward pass computed, from which a backward pass begins. All of them are for one
/// sequence: where a row of the batch stands for several, they hold for each of those.
#[derive(Debug, Default)]
pub struct Cotangents {
    /// At the outputs, shaped like [`Outputs::readout`].
    pub outputs: Option<Tensor>,
    /// For each layer, at the ends of the windows that need a backward pass, `[windows · batch, width]`, if anything.
    pub ends: Vec<Option<Tensor>>,
    /// `a` in `a · mean(h²)`, the mean over a window's steps, batch and units; summed over layers and windows.
    pub activity: f64,
    /// Whether gradients at the starts of the windows are wanted.
    pub starts: bool,
}

/// Gradients at the inputs of a forward pass; all of them for one sequence.
#[derive(Debug, Default)]
pub struct InputGradients {
    /// For each layer, at the starts of the windows that need a backward pass, `[windows · batch, width]`; nothing if it is
    /// not wanted.
    pub starts: Vec<Tensor>,
    /// At the feature before the tokens, `[batch, width]`, where an encoder learns from it
    /// ([`Sequence::learned_feature`]), its window needs a backward pass, and gradients are wanted.
    pub feature: Option<Tensor>,
}

/// The backward pass of one forward pass. It owns what the forward pass kept, and is consumed: it runs once.
pub trait Pullback {
    /// The vector-Jacobian product of the windows that need it, each by itself from its start state (a constant) to its
    /// end: adds the gradients of embedding, stack and readout, each row as often as it occurs, and gives those at the
    /// inputs.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn backward(self: Box<Self>, cotangents: &Cotangents, gradients: Option<&mut Gradients>) -> Result<InputGradients>;
}

/// Computes the network.
pub trait Backend {
    /// Runs over the windows of a plan from the joined states `start`, `[batch, width]` for each layer.
    ///
    /// # Errors
    /// Fails on a tensor error, or where the sequence is not one of the model's.
    fn forward<'a>(
        &'a self,
        model: &'a Model,
        sequence: &'a Sequence,
        plan: Plan<'a>,
        start: &[Tensor],
    ) -> Result<(Outputs, Box<dyn Pullback + 'a>)>;

    /// Predicts the gradients at states `[rows, width]` with context `[rows, context]` by a synthesizer.
    ///
    /// # Errors
    /// Fails on a tensor error, or where the context is missing or there should be none.
    fn predict<'a>(
        &'a self,
        model: &'a Model,
        synthesizer: usize,
        states: &Tensor,
        context: Option<&Tensor>,
    ) -> Result<Prediction<'a>>;
}

/// The backend that a spec asks for on a device: `auto` is the fused one on the CPU and the unrolled one elsewhere.
/// `threads` is `run.threads`.
///
/// # Errors
/// [`Error::Usage`] where there is no such backend for the device.
pub fn open(kind: BackendKind, threads: usize, device: &Device) -> Result<Box<dyn Backend>> {
    match (kind, device.is_cpu()) {
        (BackendKind::Composed, _) => Ok(Box::new(Composed)),
        (BackendKind::Unrolled, _) | (BackendKind::Auto, false) => Ok(Box::new(Unrolled)),
        (BackendKind::Fused | BackendKind::Auto, true) => Ok(Box::new(Fused::new(threads))),
        (BackendKind::Fused, false) => Err(Error::Usage(format!(
            "`run.backend: fused` is for the CPU, and this is {}; use `auto`",
            crate::device::name(device)
        ))),
    }
}

/// The backend's name, as units note it.
pub fn name(kind: BackendKind, device: &Device) -> &'static str {
    match (kind, device.is_cpu()) {
        (BackendKind::Composed, _) => "composed",
        (BackendKind::Unrolled, _) | (BackendKind::Auto, false) => "unrolled",
        (BackendKind::Fused | BackendKind::Auto, _) => "fused",
    }
}
