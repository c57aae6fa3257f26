//! Truncated backpropagation with synthetic gradients, exactly as `golden/README.md` section 4 has it.
//!
//! A sequence is cut into windows. The state flows across a cut by value; no gradient does, except what a synthesizer
//! predicts. Windows of one batch need nothing from one another but the states at their borders, so they can run one
//! after the other or all side by side. Both orders are the same code over *groups* of windows: groups of one, or one
//! group of all.

use std::ops::Range;

use candle_core::Tensor;

use super::backend::{Backend, Cotangents, Forward};
use super::loss::{Feedback, WindowLoss};
use super::sequence::{Sequence, stack_rows};
use crate::dni::BackwardInterface;
use crate::error::Result;
use crate::model::{Model, Tracking};
use crate::nn::Gradients;
use crate::spec::TargetScale;

/// How the windows of a batch are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other: the original's order, and the only one where the optimizer steps after every window.
    Sequential,
    /// All at once, as one large batch.
    SideBySide,
}

/// What a synthesizer does in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It injects gradients and learns.
    Learning,
    /// It injects gradients; its own are not computed.
    Fixed,
    /// It injects gradients; its own are computed and count in the clip norm, but it does not change.
    Accumulating,
    /// The interface is cut: the layers learn as if there were none.
    Lesioned,
}

/// What is asked of the engine for a batch.
pub struct Batch<'a> {
    /// The inputs.
    pub sequence: &'a Sequence,
    /// The targets.
    pub feedback: &'a Feedback,
    /// Window length in steps.
    pub window: usize,
    /// One role a synthesizer.
    pub roles: &'a [Role],
    /// `train.activity_l2`
    pub activity: f64,
    /// Whether states, synthetic and target gradients are handed out.
    pub trace: bool,
}

/// What a group of windows gives.
pub struct Group {
    /// Losses of its windows.
    pub losses: Vec<WindowLoss>,
    /// Gradients of all parameters, synthesizers included, summed over its windows.
    pub gradients: Gradients,
    /// If asked for, one a window.
    pub traces: Vec<Trace>,
}

/// What passes a window's borders. Everything is per layer, `[batch, width]`; gradients of layers without a
/// synthesizer are absent.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Joined state at its start.
    pub start: Vec<Tensor>,
    /// Joined state at its end.
    pub end: Vec<Tensor>,
    /// `S` at its start, not scaled.
    pub synthetic_start: Vec<Option<Tensor>>,
    /// `S` at its end, not scaled.
    pub synthetic_end: Vec<Option<Tensor>>,
    /// What arrived at its start: the synthesizer's target.
    pub target: Vec<Tensor>,
}

/// The windows of a sequence; the last may be shorter.
pub fn windows(steps: usize, window: usize) -> Vec<Range<usize>> {
    (0..steps).step_by(window.max(1)).map(|start| start..(start + window.max(1)).min(steps)).collect()
}

/// A synthesizer at work on a group's boundary states.
struct Prediction {
    interface: BackwardInterface,
    /// `S` at the boundaries, `[layers · boundaries · batch, width]`.
    values: Tensor,
}

/// Runs a batch from the joined states `start` and hands every group of windows to `each` as soon as it is done; with
/// [`Order::Sequential`], `each` may change the parameters. Gives the states at the end.
///
/// # Errors
/// Fails if `each` does, or on a tensor error.
pub fn run(
    model: &Model,
    backend: &dyn Backend,
    order: Order,
    batch: &Batch<'_>,
    start: &[Tensor],
    each: &mut dyn FnMut(Group) -> Result<()>,
) -> Result<Vec<Tensor>> {
    let windows = windows(batch.sequence.steps(), batch.window);
    let size = match order {
        Order::Sequential => 1,
        Order::SideBySide => windows.len().max(1),
    };
    let mut state = start.to_vec();
    for group in windows.chunks(size) {
        let (done, end) = run_group(model, backend, batch, group, &state)?;
        state = end;
        each(done)?;
    }
    Ok(state)
}

fn run_group(
    model: &Model,
    backend: &dyn Backend,
    batch: &Batch<'_>,
    windows: &[Range<usize>],
    start: &[Tensor],
) -> Result<(Group, Vec<Tensor>)> {
    let (sequence, feedback) = (batch.sequence, batch.feedback);
    let span = windows[0].start..windows[windows.len() - 1].end;
    let forward = backend.forward(model, sequence, span.clone(), start, feedback.outputs())?;
    let (losses, outputs) = feedback.losses(forward.outputs.as_ref(), &span, windows)?;
    let predictions = predict(model, batch, windows, &forward)?;
    let injecting = predictions.iter().any(Option::is_some);

    // Without a synthesizer, a window in which nothing arrives has nothing to teach.
    let taught: Vec<usize> =
        (0..windows.len()).filter(|&w| injecting || losses[w].targets > 0 || batch.activity > 0.0).collect();
    let mut gradients = Gradients::none(model.params.len());
    let mut arrived: Vec<Tensor> = Vec::new();
    if !taught.is_empty() {
        let rows = sequence.rows();
        let cotangents = Cotangents {
            outputs,
            ends: injections(model, &predictions, windows.len(), rows)?,
            activity: batch.activity,
            starts: injecting || batch.trace,
        };
        let chosen: Vec<Range<usize>> = taught.iter().map(|&w| windows[w].clone()).collect();
        let backward = backend.backward(model, sequence, &forward, &chosen, feedback.outputs(), &cotangents)?;
        gradients = backward.gradients;
        arrived = backward.starts;
        for (index, prediction) in predictions.iter().enumerate() {
            if let Some(prediction) = prediction {
                learn(model, batch, index, prediction, windows.len(), &arrived, &mut gradients)?;
            }
        }
    }
    let traces = match batch.trace {
        true => traces(model, &predictions, &forward, windows, &taught, &arrived, sequence.rows())?,
        false => Vec::new(),
    };
    Ok((Group { losses, gradients, traces }, forward.end()))
}

/// Asks every synthesizer that is not cut off about the states at the windows' borders: one row a (layer, border,
/// sequence). A border between two windows is one state, and is asked about once.
fn predict(
    model: &Model,
    batch: &Batch<'_>,
    windows: &[Range<usize>],
    forward: &Forward,
) -> Result<Vec<Option<Prediction>>> {
    let borders: Vec<usize> = windows.iter().map(|w| w.start).chain(windows.last().map(|w| w.end)).collect();
    let mut predictions = Vec::with_capacity(model.synthesizers.len());
    for (index, slot) in model.synthesizers.iter().enumerate() {
        let tracking = match batch.roles[index] {
            Role::Lesioned => {
                predictions.push(None);
                continue;
            }
            Role::Fixed => Tracking::Constant,
            Role::Learning | Role::Accumulating => Tracking::Tracked,
        };
        let states = slot
            .layers
            .iter()
            .map(|&layer| forward.states_at(layer, borders.iter().copied()))
            .collect::<Result<Vec<_>>>()?;
        let context = match slot.shape.context {
            Some(_) => {
                let one_layer = borders.iter().map(|&step| batch.feedback.context(step)).collect::<Result<Vec<_>>>()?;
                Some(stack_rows(&vec![stack_rows(&one_layer)?; slot.layers.len()])?)
            }
            None => None,
        };
        let interface = model.backward_interface(index, tracking)?;
        let values = interface.predict(&stack_rows(&states)?, context.as_ref())?;
        predictions.push(Some(Prediction { interface, values }));
    }
    Ok(predictions)
}

/// For each layer, what its synthesizer injects at the ends of the windows: `[windows · batch, width]`.
fn injections(
    model: &Model,
    predictions: &[Option<Prediction>],
    windows: usize,
    rows: usize,
) -> Result<Vec<Option<Tensor>>> {
    let mut ends = vec![None; model.layers.len()];
    for (slot, prediction) in model.synthesizers.iter().zip(predictions) {
        let Some(prediction) = prediction else { continue };
        let injected = prediction.interface.injection(&prediction.values)?;
        for (place, &layer) in slot.layers.iter().enumerate() {
            ends[layer] = Some(injected.narrow(0, (place * (windows + 1) + 1) * rows, windows * rows)?);
        }
    }
    Ok(ends)
}

/// The synthesizer's own gradients: at the starts of the windows, towards what arrived there.
fn learn(
    model: &Model,
    batch: &Batch<'_>,
    index: usize,
    prediction: &Prediction,
    windows: usize,
    arrived: &[Tensor],
    gradients: &mut Gradients,
) -> Result<()> {
    if batch.roles[index] == Role::Fixed {
        return Ok(());
    }
    let slot = &model.synthesizers[index];
    let rows = batch.sequence.rows();
    let starts = (0..slot.layers.len())
        .map(|place| prediction.values.narrow(0, place * (windows + 1) * rows, windows * rows))
        .collect::<Result<Vec<_>, _>>()?;
    let targets: Vec<Tensor> = slot.layers.iter().map(|&layer| arrived[layer].clone()).collect();
    let factor = match slot.spec.target_scale {
        TargetScale::Layers => 2.0 / slot.layers.len() as f64,
        TargetScale::Batch => 2.0 / rows as f64,
    };
    let learned = prediction.interface.learn(&stack_rows(&starts)?, &stack_rows(&targets)?, factor)?;
    for (&parameter, gradient) in slot.params.iter().zip(&learned) {
        gradients.add(parameter, gradient)?;
    }
    Ok(())
}

fn traces(
    model: &Model,
    predictions: &[Option<Prediction>],
    forward: &Forward,
    windows: &[Range<usize>],
    taught: &[usize],
    arrived: &[Tensor],
    rows: usize,
) -> Result<Vec<Trace>> {
    let synthetic = |layer: usize, border: usize| -> Result<Option<Tensor>> {
        let Some(index) = model.layers[layer].synthesizer else { return Ok(None) };
        let place = model.synthesizers[index].layers.iter().position(|&l| l == layer).unwrap_or_default();
        let at = (place * (windows.len() + 1) + border) * rows;
        predictions[index].as_ref().map(|p| Ok(p.values.narrow(0, at, rows)?.detach())).transpose()
    };
    let layers = 0..model.layers.len();
    (0..windows.len())
        .map(|w| {
            let start: Vec<Tensor> =
                layers.clone().map(|l| forward.states_at(l, [windows[w].start].into_iter())).collect::<Result<_>>()?;
            let target = layers
                .clone()
                .map(|l| match taught.iter().position(|&t| t == w) {
                    Some(at) => Ok(arrived[l].narrow(0, at * rows, rows)?),
                    None => Ok(start[l].zeros_like()?),
                })
                .collect::<Result<_>>()?;
            Ok(Trace {
                end: layers
                    .clone()
                    .map(|l| forward.states_at(l, [windows[w].end].into_iter()))
                    .collect::<Result<_>>()?,
                synthetic_start: layers.clone().map(|l| synthetic(l, w)).collect::<Result<_>>()?,
                synthetic_end: layers.clone().map(|l| synthetic(l, w + 1)).collect::<Result<_>>()?,
                start,
                target,
            })
        })
        .collect()
}

/// The outputs for a whole sequence in one piece, batch first (`[batch, time, width]`, or `[batch, width]` for the last
/// step), and the states at its end. No synthesizer, no windows.
pub fn evaluate(
    model: &Model,
    backend: &dyn Backend,
    sequence: &Sequence,
    outputs: super::backend::Outputs,
) -> Result<(Tensor, Vec<Tensor>)> {
    let start = model.zero_state(sequence.rows())?;
    let forward = backend.forward(model, sequence, 0..sequence.steps(), &start, outputs)?;
    let end = forward.end();
    let time_first = forward.outputs.ok_or_else(|| crate::Error::Training("a forward pass without outputs".into()))?;
    let batch_first = match outputs {
        super::backend::Outputs::EveryStep => time_first.transpose(0, 1)?.contiguous()?,
        super::backend::Outputs::LastStep => time_first.squeeze(0)?,
    };
    Ok((batch_first, end))
}

/// The true gradients at the starts of the windows: of the sum of all windows' losses, in one backward pass that is not
/// cut and knows no synthesizer. `true[window][layer]` is `[batch, width]` (`golden/README.md` section 7).
pub fn true_gradients(
    model: &Model,
    backend: &dyn Backend,
    batch: &Batch<'_>,
    start: &[Tensor],
) -> Result<Vec<Vec<Tensor>>> {
    let outputs = batch.feedback.outputs();
    let mut state = start.to_vec();
    let mut passes = Vec::new();
    for window in windows(batch.sequence.steps(), batch.window) {
        let forward = backend.forward(model, batch.sequence, window.clone(), &state, outputs)?;
        state = forward.end();
        passes.push((window, forward));
    }
    // Backwards through the windows: what arrives at a start is what is injected at the end before it.
    let mut arrived: Vec<Tensor> = state.iter().map(Tensor::zeros_like).collect::<Result<_, _>>()?;
    let mut all = Vec::with_capacity(passes.len());
    for (window, forward) in passes.iter().rev() {
        let one = std::slice::from_ref(window);
        let (_, cotangent) = batch.feedback.losses(forward.outputs.as_ref(), window, one)?;
        let cotangents = Cotangents {
            outputs: cotangent,
            ends: arrived.into_iter().map(Some).collect(),
            activity: batch.activity,
            starts: true,
        };
        arrived = backend.backward(model, batch.sequence, forward, one, outputs, &cotangents)?.starts;
        all.push(arrived.clone());
    }
    all.reverse();
    Ok(all)
}
