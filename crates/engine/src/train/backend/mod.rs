//! Backends compute the network: forward and backward passes of the recurrent stack over a span of steps, with windows side
//! by side, and the synthesizers.
//!
//! The engine is independent of how a backend computes; a backend is independent of losses, optimizers and the use of
//! synthesizers.

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

/// The steps of a forward pass.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Consecutive windows of equal length, except that the last may be shorter.
    pub windows: &'a [Range<usize>],
    /// Per window, whether a backward pass follows; nothing is saved of the others.
    pub needs_backward: &'a [bool],
    /// The steps of the sequence at which outputs are needed, ascending. If a backward pass follows, they lie in windows
    /// that need it.
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

/// The results of a forward pass.
pub struct Outputs {
    /// `[outputs, batch, width]`: the readout at each step of [`Plan::outputs`]; `None` if there are none.
    pub readout: Option<Tensor>,
    /// Per layer, the joined states at the boundaries of the windows, `[windows + 1, batch, width]`.
    pub boundaries: Vec<Tensor>,
    /// Per layer with activity feedback, the outputs of its network at every step, `[steps, batch, width]`; empty if no layer has any.
    pub feedback: Vec<Option<Tensor>>,
}

impl Outputs {
    /// The joined states at the end of the span, `[batch, width]` per layer.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn end(&self) -> Result<Vec<Tensor>> {
        let last = |boundaries: &Tensor| Ok(boundaries.get(boundaries.dim(0)? - 1)?);
        self.boundaries.iter().map(last).collect()
    }
}

/// Gradients of the loss with respect to the results of a forward pass. All are per sequence: if a row of the batch stands
/// for several sequences, they apply to each.
#[derive(Debug, Default)]
pub struct Cotangents {
    /// At the outputs, shaped like [`Outputs::readout`].
    pub outputs: Option<Tensor>,
    /// At the outputs of layers' feedback networks: the layer, the steps, and the gradient there, `[steps, batch, width]`.
    pub feedback: Vec<(usize, Vec<usize>, Tensor)>,
    /// Per layer, at the ends of the windows that need a backward pass, `[windows · batch, width]`, if any.
    pub ends: Vec<Option<Tensor>>,
    /// `a` in `a · mean(h²)`, the mean over a window's steps, batch and units; summed over layers and windows.
    pub activity: f64,
    /// Whether gradients at the starts of the windows are needed.
    pub starts: bool,
}

/// Gradients with respect to the inputs of a forward pass, per sequence.
#[derive(Debug, Default)]
pub struct InputGradients {
    /// Per layer, at the starts of the windows that need a backward pass, `[windows · batch, width]`; empty if not
    /// requested.
    pub starts: Vec<Tensor>,
    /// At the feature before the tokens, `[batch, width]`, if an encoder learns from it ([`DeviceBatch::learned_feature`]),
    /// its window needs a backward pass, and parameter gradients are requested.
    pub feature: Option<Tensor>,
    /// At the inputs, if blocks learn from them ([`DeviceBatch::reads_blocks`]): steps of the windows that need a backward pass,
    /// each with the gradient there, `[batch, width]`.
    pub inputs: Vec<(usize, Tensor)>,
}

/// The backward pass of one forward pass. It owns the saved activations and runs once.
pub trait Pullback {
    /// The vector-Jacobian product of the windows that need it, each with its start state held constant: accumulates the
    /// gradients of embedding, stack and readout, weighted by row multiplicity, and returns those at the inputs.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn backward(self: Box<Self>, cotangents: &Cotangents, gradients: Option<&mut Gradients>) -> Result<InputGradients>;
}

/// Computes the network.
pub trait Backend {
    /// Runs over the windows of a plan from the joined states `start`, `[batch, width]` per layer.
    ///
    /// # Errors
    /// Fails on a tensor error, or if the sequence does not fit the model.
    fn forward<'a>(
        &'a self,
        model: &'a Model,
        sequence: &'a DeviceBatch,
        plan: Plan<'a>,
        start: &[Tensor],
    ) -> Result<(Outputs, Box<dyn Pullback + 'a>)>;

    /// Predicts the gradients at states `[rows, width]` with a synthesizer, given its context `[rows, context]`; by tensor
    /// operations, unless the backend has a faster way.
    ///
    /// # Errors
    /// Fails on a tensor error, or if the context is missing or unexpected.
    fn predict<'a>(
        &'a self,
        model: &'a Model,
        synthesizer: usize,
        states: &Tensor,
        context: Option<&Tensor>,
    ) -> Result<Prediction<'a>> {
        model.synthesizer(synthesizer).predict(states, context)
    }
}

/// Resolves `run.backend` for these cells on a device. `auto` is the fused backend on the CPU and the unrolled one
/// elsewhere, or the composed one if a cell lacks the fast path or there is none, or for what it alone computes (`needs_composed`, as
/// [`Model::needs_composed`]).
///
/// # Errors
/// [`Error::Usage`] if the backend does not support the device or a cell.
pub fn choose(
    kind: BackendKind,
    cells: &[Arc<dyn Cell>],
    needs_composed: Option<&str>,
    device: &Device,
) -> Result<BackendKind> {
    let fastest = if device.is_cpu() { BackendKind::Fused } else { BackendKind::Unrolled };
    let unsupported = |kind| {
        cells.iter().position(|cell| match kind {
            BackendKind::Fused => cell.kernels().is_none(),
            BackendKind::Unrolled => cell.closed_form().is_none(),
            BackendKind::Composed | BackendKind::Auto => false,
        })
    };
    match kind {
        BackendKind::Auto if cells.is_empty() || needs_composed.is_some() => Ok(BackendKind::Composed),
        BackendKind::Fused | BackendKind::Unrolled if cells.is_empty() => Err(Error::Usage(format!(
            "`run.backend: {}` is for recurrent layers, and this network has none; use `auto`",
            name(kind)
        ))),
        BackendKind::Fused | BackendKind::Unrolled if let Some(what) = needs_composed => {
            Err(Error::Usage(format!("`run.backend: {}` does not compute {what}; use `auto`", name(kind))))
        }
        BackendKind::Auto => Ok(unsupported(fastest).map_or(fastest, |_| BackendKind::Composed)),
        BackendKind::Fused if !device.is_cpu() => Err(Error::Usage(format!(
            "`run.backend: fused` is for the CPU, and this is {}; use `auto`",
            crate::device::name(device)
        ))),
        kind => match unsupported(kind) {
            None => Ok(kind),
            Some(layer) => Err(Error::Usage(format!(
                "`run.backend: {}` does not support the cell of `model.layers.{layer}`; use `auto`",
                name(kind)
            ))),
        },
    }
}

/// Creates the backend that [`choose`] resolves; `threads` is `run.threads`.
///
/// # Errors
/// As [`choose`].
pub fn open(kind: BackendKind, threads: usize, model: &Model) -> Result<Box<dyn Backend>> {
    let cells: Vec<_> = model.layers.iter().map(|layer| layer.cell.clone()).collect();
    Ok(match choose(kind, &cells, model.needs_composed(), model.device())? {
        BackendKind::Fused => Box::new(Fused::new(threads)),
        BackendKind::Unrolled => Box::new(Unrolled),
        BackendKind::Composed | BackendKind::Auto => Box::new(Composed),
    })
}

/// A backend's name, as recorded in units.
pub fn name(kind: BackendKind) -> &'static str {
    match kind {
        BackendKind::Auto => "auto",
        BackendKind::Composed => "composed",
        BackendKind::Unrolled => "unrolled",
        BackendKind::Fused => "fused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::cells::{CellWeights, State, Tanh};

    /// A cell that has a step and nothing else.
    #[derive(Debug)]
    struct Plain;

    impl Cell for Plain {
        fn gates(&self) -> usize {
            1
        }

        fn step(&self, _: &CellWeights, _: &Tensor, state: &State) -> Result<State> {
            Ok(state.clone())
        }
    }

    #[test]
    fn a_cell_without_the_fast_path_is_named() -> Result<()> {
        let cells: [Arc<dyn Cell>; 2] = [Arc::new(Tanh {}), Arc::new(Plain)];
        let choose = |kind, cells| choose(kind, cells, None, &Device::Cpu);
        assert_eq!(choose(BackendKind::Auto, &cells[..1])?, BackendKind::Fused);
        assert_eq!(choose(BackendKind::Auto, &cells)?, BackendKind::Composed);
        for kind in [BackendKind::Fused, BackendKind::Unrolled] {
            assert_eq!(choose(kind, &cells[..1])?, kind);
            let error = choose(kind, &cells).unwrap_err().to_string();
            assert!(error.contains(name(kind)) && error.contains("`model.layers.1`"), "{error}");
        }
        Ok(())
    }
}
