//! Truncated backpropagation through time with synthetic gradients (Jaderberg et al. 2017, "Decoupled Neural Interfaces
//! using Synthetic Gradients", section 2.1; Pemberton, Boven et al. 2021, "Cortico-cerebellar networks as decoupling neural
//! interfaces").
//!
//! A sequence is cut into windows. The state flows across a cut by value; no gradient does, except what a synthesizer `S`
//! predicts. With `s₀` a window's first state, a constant, `s₁(s₀, θ)` its last one and `ℓ` its loss:
//!
//! - the network's parameters receive `∂/∂θ [ℓ + ⟨e, s₁⟩]`, where `e = scale · S(s₁)` is a constant: the injected synthetic
//!   gradient, without which there is only the loss of the window;
//! - the synthesizer's parameters receive the gradient of `factor / 2 · Σ (S(s₀) − δ)²`, where its target
//!   `δ = ∂/∂s₀ [ℓ + ⟨e, s₁⟩]` is a constant, too. It contains `e`, which accounts for the losses beyond the window.
//!
//! The gradients of all windows are summed. Windows of one batch depend on one another only through the states at their
//! boundaries, so they can run one after the other or all side by side. Both orders are the same code over *groups* of
//! windows: groups of one, or one group of all.

mod boundaries;
mod targets;

use std::ops::Range;

use candle_core::Tensor;

use self::boundaries::WindowBoundaries;
use super::backend::{Backend, Cotangents, InputGradients, Plan};
use super::device_batch::DeviceBatch;
use super::feedforward;
use super::loss::{Feedback, Losses};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::{Gradients, constant};
use crate::spec::task_shape::When;

/// How the windows of a batch are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other: the original's order, and the only one where the optimizer steps after every window.
    Sequential,
    /// All at once, as one large batch.
    SideBySide,
}

/// A synthesizer's role in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It injects gradients and learns.
    Learning,
    /// It injects gradients; its own are not computed.
    Fixed,
    /// It injects gradients; its own are computed and count in the clip norm, but it does not change.
    Accumulating,
    /// It is lesioned: the layers learn as if there were none.
    Lesioned,
}

/// A batch, and how to train on it.
pub struct Batch<'a> {
    /// The inputs.
    pub sequence: &'a DeviceBatch,
    /// The targets.
    pub feedback: &'a Feedback,
    /// Window length in steps.
    pub window: usize,
    /// One role per synthesizer.
    pub roles: &'a [Role],
    /// `train.activity_l2`
    pub activity: f64,
    /// Whether states, synthetic and target gradients are returned.
    pub trace: bool,
}

/// The results of a group of windows, besides gradients.
pub struct Group {
    /// Losses of its windows.
    pub losses: Losses,
    /// One per window, if requested.
    pub traces: Vec<Trace>,
    /// The gradients at the inputs, by step, if blocks or an encoder learn from them.
    pub inputs: Vec<(usize, Tensor)>,
}

/// States and gradients at a window's boundaries. Everything is per layer, `[batch, width]` (a row of the batch may stand
/// for several sequences); gradients of layers without a synthesizer are absent.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Joined state at its start.
    pub start: Vec<Tensor>,
    /// Joined state at its end.
    pub end: Vec<Tensor>,
    /// `S` at its start, unscaled.
    pub synthetic_start: Vec<Option<Tensor>>,
    /// `S` at its end, unscaled.
    pub synthetic_end: Vec<Option<Tensor>>,
    /// The gradient at its start: the synthesizer's target.
    pub target: Vec<Tensor>,
}

/// The windows of a sequence; the last may be shorter.
pub fn windows(steps: usize, window: usize) -> Vec<Range<usize>> {
    (0..steps).step_by(window.max(1)).map(|start| start..(start + window.max(1)).min(steps)).collect()
}

/// Runs a batch from the joined states `start` (zero if `None`). Gradients are accumulated in `gradients`, and `each` is
/// called for every completed group of windows; with [`Order::Sequential`], it may change the parameters and clear the
/// gradients. Returns the states at the end.
///
/// # Errors
/// Fails if `each` does, or on a tensor error.
pub fn run(
    model: &Model,
    backend: &dyn Backend,
    order: Order,
    batch: &Batch<'_>,
    start: Option<&[Tensor]>,
    gradients: &mut Gradients,
    each: &mut dyn FnMut(Group, &mut Gradients) -> Result<()>,
) -> Result<Vec<Tensor>> {
    let windows = windows(batch.sequence.steps(), batch.window);
    let size = match order {
        Order::Sequential => 1,
        Order::SideBySide => windows.len().max(1),
    };
    let zero = model.zero_state(batch.sequence.rows().count)?;
    let mut state = start.unwrap_or(&zero).to_vec();
    let mut at_zero = start.is_none();
    for group in windows.chunks(size) {
        let targets = targets::of(model, backend, batch, group, &state)?;
        let (done, end) = run_group(model, backend, batch, (group, targets), &state, at_zero, gradients)?;
        (state, at_zero) = (end, false);
        each(done, gradients)?;
    }
    Ok(state)
}

fn run_group(
    model: &Model,
    backend: &dyn Backend,
    batch: &Batch<'_>,
    (windows, targets): (&[Range<usize>], Option<Vec<Tensor>>),
    start: &[Tensor],
    at_zero: bool,
    gradients: &mut Gradients,
) -> Result<(Group, Vec<Tensor>)> {
    let (sequence, feedback) = (batch.sequence, batch.feedback);
    let counts: Vec<usize> = windows.iter().map(|window| feedback.count(window)).collect();
    let mut roles = batch.roles.iter().zip(&model.synthesizers);
    let injecting = roles.any(|(&role, slot)| role != Role::Lesioned && !slot.layers.is_empty());
    // Without a synthesizer, a window has gradients only if it has a loss.
    let needs = |&targets: &usize| injecting || targets > 0 || batch.activity > 0.0;
    let needs_backward: Vec<bool> = counts.iter().map(needs).collect();
    let span = windows[0].start..windows[windows.len() - 1].end;
    let steps = feedback.steps(&span);
    let plan = Plan { windows, needs_backward: &needs_backward, outputs: &steps };
    let (computed, pullback) = backend.forward(model, sequence, plan, start)?;
    let (losses, outputs) = feedback.losses(computed.readout.as_ref(), &steps, windows)?;
    let boundaries = WindowBoundaries::predict(model, backend, batch, windows, &computed.boundaries, at_zero)?;
    let mut inputs = InputGradients::default();
    if needs_backward.contains(&true) {
        let cotangents = Cotangents {
            outputs,
            feedback: feedback_gradients(model, feedback, &computed.feedback, windows)?,
            ends: boundaries.inject_synthetic_gradients(model)?,
            activity: batch.activity,
            starts: batch.trace || batch.roles.iter().any(|role| matches!(role, Role::Learning | Role::Accumulating)),
        };
        inputs = pullback.backward(&cotangents, Some(gradients))?;
        if let Some(feature) = inputs.feature.take() {
            sequence.add_encoder_gradients(&feature, gradients)?;
            inputs.inputs.push((0, feature));
        }
    }
    inputs.starts = targets.unwrap_or(inputs.starts);
    let traces = match batch.trace {
        true => boundaries.traces(model, &computed.boundaries, &needs_backward, &inputs.starts)?,
        false => Vec::new(),
    };
    boundaries.learn(model, batch, &inputs.starts, gradients)?;
    Ok((Group { losses, traces, inputs: inputs.inputs }, computed.end()?))
}

/// The gradients at the outputs of the layers' feedback networks, which learn to predict the task's target, with its delay.
fn feedback_gradients(
    model: &Model,
    targets: &Feedback,
    outputs: &[Option<Tensor>],
    windows: &[Range<usize>],
) -> Result<Vec<(usize, Vec<usize>, Tensor)>> {
    let span = windows[0].start..windows[windows.len() - 1].end;
    let mut gradients = Vec::new();
    for (k, (layer, outputs)) in model.layers.iter().zip(outputs).enumerate() {
        let (Some(feedback), Some(outputs)) = (layer.feedback.as_ref().filter(|one| one.learns()), outputs) else {
            continue;
        };
        let targets = targets.delayed(feedback.spec.delay)?;
        let steps = targets.steps(&span);
        if steps.is_empty() {
            continue;
        }
        let places: Vec<u32> = steps.iter().map(|step| (step - span.start) as u32).collect();
        let outputs = outputs.index_select(&constant(places, &[steps.len()], outputs.device())?, 0)?;
        let (_, gradient) = targets.losses(Some(&outputs), &steps, windows)?;
        gradients.extend(gradient.map(|gradient| (k, steps, gradient)));
    }
    Ok(gradients)
}

/// The outputs for whole sequences, without windows or synthesizers, batch first (`[batch, time, width]`, or
/// `[batch, width]` for the last step), and the states at their end. They start from `start`, zero if `None`.
///
/// # Errors
/// Fails on a tensor error.
pub fn evaluate(
    model: &Model,
    backend: &dyn Backend,
    sequence: &DeviceBatch,
    start: Option<&[Tensor]>,
    when: When,
) -> Result<(Tensor, Vec<Tensor>)> {
    if model.feed_forward().is_some() {
        let outputs = feedforward::evaluate(model, &sequence.single_step()?)?;
        let outputs = if when == When::LastStep { outputs } else { outputs.unsqueeze(1)? };
        return Ok((outputs, Vec::new()));
    }
    let through_blocks = through_blocks(model, sequence)?;
    let sequence = through_blocks.as_ref().unwrap_or(sequence);
    let start = start.map_or_else(|| model.zero_state(sequence.rows().count), |start| Ok(start.to_vec()))?;
    let whole = 0..sequence.steps();
    let outputs: Vec<usize> = match when {
        When::EveryStep | When::LastSteps => whole.clone().collect(),
        When::LastStep => vec![whole.end - 1],
    };
    let plan = Plan { windows: std::slice::from_ref(&whole), needs_backward: &[false], outputs: &outputs };
    let (computed, _) = backend.forward(model, sequence, plan, &start)?;
    let end = computed.end()?;
    let time_first = computed.readout.ok_or_else(|| Error::Training("a forward pass without outputs".into()))?;
    let batch_first = match when {
        When::EveryStep | When::LastSteps => time_first.transpose(0, 1)?.contiguous()?,
        When::LastStep => time_first.squeeze(0)?,
    };
    Ok((batch_first, end))
}

/// A batch in evaluation as the recurrent layers read it, if there are blocks below them that read it first.
///
/// # Errors
/// Fails on a tensor error.
pub fn through_blocks(model: &Model, sequence: &DeviceBatch) -> Result<Option<DeviceBatch>> {
    let read = if model.blocks.is_some() { sequence.read_by_blocks()? } else { None };
    read.map(|x| sequence.of_blocks(&feedforward::evaluate(model, &x)?, false)).transpose()
}

/// The true gradients at the starts of the windows: of the sum of all windows' losses, by untruncated backpropagation
/// without synthesizers. `true[window][layer]` is `[batch, width]`. The loss at the last step of a window does not count at
/// the start of the next, although the state is the same. Those of the parameters are added to `gradients`, if it is given.
///
/// # Errors
/// Fails on a tensor error.
pub fn true_gradients(
    model: &Model,
    backend: &dyn Backend,
    batch: &Batch<'_>,
    start: Option<&[Tensor]>,
    gradients: Option<&mut Gradients>,
) -> Result<Vec<Vec<Tensor>>> {
    let windows = windows(batch.sequence.steps(), batch.window);
    let start = start.map_or_else(|| model.zero_state(batch.sequence.rows().count), |start| Ok(start.to_vec()))?;
    let through = |_: usize, next: &[Tensor]| Ok(next.iter().cloned().map(Some).collect());
    backwards(model, backend, batch, &windows, &start, &through, gradients)
}

/// From the index of a window and the gradients at the start of the next to the cotangents at its end, per layer.
type Ends<'a> = &'a dyn Fn(usize, &[Tensor]) -> Result<Vec<Option<Tensor>>>;

/// The gradients at the starts of windows, from the last to the first; `ends` has the cotangents at the end of a window, given
/// its index and the gradients at the start of the next (zero after the last). Those of the parameters are added to `of_parameters`.
fn backwards(
    model: &Model,
    backend: &dyn Backend,
    batch: &Batch<'_>,
    windows: &[Range<usize>],
    start: &[Tensor],
    ends: Ends<'_>,
    mut of_parameters: Option<&mut Gradients>,
) -> Result<Vec<Vec<Tensor>>> {
    let (sequence, feedback) = (batch.sequence, batch.feedback);
    let steps: Vec<Vec<usize>> = windows.iter().map(|window| feedback.steps(window)).collect();
    let mut state = start.to_vec();
    let mut passes = Vec::with_capacity(windows.len());
    for (window, outputs) in windows.iter().zip(&steps) {
        let plan = Plan { windows: std::slice::from_ref(window), needs_backward: &[true], outputs };
        let (computed, pullback) = backend.forward(model, sequence, plan, &state)?;
        state = computed.end()?;
        passes.push((plan, computed.readout, pullback));
    }
    let mut gradients: Vec<Tensor> = state.iter().map(Tensor::zeros_like).collect::<Result<_, _>>()?;
    let mut all = Vec::with_capacity(passes.len());
    for (index, (plan, readout, pullback)) in passes.into_iter().enumerate().rev() {
        let (_, outputs) = feedback.losses(readout.as_ref(), plan.outputs, plan.windows)?;
        let ends = ends(index, &gradients)?;
        let cotangents = Cotangents { outputs, ends, activity: batch.activity, starts: true, ..Cotangents::default() };
        gradients = pullback.backward(&cotangents, of_parameters.as_deref_mut())?.starts;
        all.push(gradients.clone());
    }
    all.reverse();
    Ok(all)
}
