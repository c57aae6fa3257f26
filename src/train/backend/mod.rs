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
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::device_batch::DeviceBatch;
use crate::dni::Prediction;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::Gradients;
use crate::nn::cells::Cell;
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
    /// ([`DeviceBatch::learned_feature`]), its window needs a backward pass, and gradients are wanted.
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
        sequence: &'a DeviceBatch,
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

/// The backend that computes these cells on a device, where a spec asks for `kind`. `auto` is the fused one on the CPU and
/// the unrolled one elsewhere, or the composed one where a cell has no fast path for that.
///
/// # Errors
/// [`Error::Usage`] where there is no such backend for the device or for a cell.
pub fn choose(kind: BackendKind, cells: &[Arc<dyn Cell>], device: &Device) -> Result<BackendKind> {
    let fastest = if device.is_cpu() { BackendKind::Fused } else { BackendKind::Unrolled };
    let computes = |kind| {
        cells.iter().all(|cell| match kind {
            BackendKind::Fused => cell.kernels().is_some(),
            BackendKind::Unrolled => cell.closed_form().is_some(),
            BackendKind::Composed | BackendKind::Auto => true,
        })
    };
    match kind {
        BackendKind::Auto => Ok(if computes(fastest) { fastest } else { BackendKind::Composed }),
        BackendKind::Fused if !device.is_cpu() => Err(Error::Usage(format!(
            "`run.backend: fused` is for the CPU, and this is {}; use `auto`",
            crate::device::name(device)
        ))),
        kind if computes(kind) => Ok(kind),
        kind => Err(Error::Usage(format!(
            "`run.backend: {}` has no way to compute one of the model's cells; use `auto`",
            name(kind)
        ))),
    }
}

/// The backend that computes a model, as [`choose`] has it; `threads` is `run.threads`.
///
/// # Errors
/// As [`choose`].
pub fn open(kind: BackendKind, threads: usize, model: &Model) -> Result<Box<dyn Backend>> {
    let cells: Vec<_> = model.layers.iter().map(|layer| layer.cell.clone()).collect();
    Ok(match choose(kind, &cells, model.device())? {
        BackendKind::Fused => Box::new(Fused::new(threads)),
        BackendKind::Unrolled => Box::new(Unrolled),
        BackendKind::Composed | BackendKind::Auto => Box::new(Composed),
    })
}

/// A backend's name, as units note it.
pub fn name(kind: BackendKind) -> &'static str {
    match kind {
        BackendKind::Auto => "auto",
        BackendKind::Composed => "composed",
        BackendKind::Unrolled => "unrolled",
        BackendKind::Fused => "fused",
    }
}
