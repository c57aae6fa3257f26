//! A training step of a feed-forward network with interfaces between its blocks (Jaderberg et al. 2017; the examples of
//! koz4k/dni-pytorch).
//!
//! Interfaces cut the network into *segments*. The gradient of a step is the gradient of
//!
//! `task + Σ_i ⟨ĝ_i, a_i⟩ + Σ_i forward_loss_i + Σ_i backward_loss_i`
//!
//! over the interfaces `i`, with the terms of [`crate::dni::Interface`] and every synthetic quantity a constant. All are computed with
//! the parameters before the step. So the segments depend on one another only through what the interfaces do not decouple:
//!
//! 1. *forward*: a segment above a synthetic input does not wait for the one below;
//! 2. *backward*: no segment below an interface waits for the one above. With a segment's gradient, the synthesizers of the interface
//!    below it learn.
//!
//! Below recurrent layers, every step of every sequence is a row, or the image before the tokens if the blocks encode images, and the
//! gradient at the outputs is that at the layers' inputs.
//!
//! On the CPU each phase runs its independent parts on the threads of the current pool; what they compute does not depend on it.

mod delay;
mod segment;

use std::ops::Range;

use candle_core::Tensor;
use rayon::prelude::*;

pub use self::delay::Delays;
use self::segment::{Learned, Sent, Step};
use super::engine::Role;
use super::loss::{Feedback, Losses};
use crate::error::{Error, Result};
use crate::model::{DrawMasks, FeedForward, Model};
use crate::nn::kernel::alone;
use crate::nn::{Gradients, Mode};

/// A batch, and how to train on it.
pub struct Batch<'a> {
    /// The input, `[rows, ...]`.
    pub input: &'a Tensor,
    /// The targets.
    pub feedback: &'a Feedback,
    /// One role per synthesizer.
    pub roles: &'a [Role],
    /// The dropout masks.
    pub masks: &'a DrawMasks<'a>,
    /// Whether the quantities at interfaces are returned.
    pub trace: bool,
}

/// The results of a step, besides gradients.
pub struct Done {
    /// The loss of the task.
    pub losses: Losses,
    /// The network's outputs, `[rows, width]`, in training mode.
    pub outputs: Tensor,
    /// New running statistics, by index of their parameter.
    pub statistics: Vec<(usize, Tensor)>,
    /// One per interface, from below, if requested.
    pub traces: Vec<InterfaceTrace>,
}

/// The quantities at an interface in a step; those are absent that its kind does not have.
#[derive(Debug, Clone)]
pub struct InterfaceTrace {
    /// The block at whose output it is.
    pub block: usize,
    /// The real message `a`, `[rows, ...]`.
    pub message: Tensor,
    /// `ĝ`, injected below.
    pub synthetic_gradient: Option<Tensor>,
    /// `â`, which went on.
    pub synthetic_input: Option<Tensor>,
    /// The synthetic gradient at the synthetic input, which is where its synthesizer learns.
    pub gradient_at_synthetic_input: Option<Tensor>,
    /// `δ`, the gradient that arrived from above.
    pub arrived: Tensor,
    /// The loss of the synthesizer of gradients, if it learned.
    pub backward_loss: Option<Tensor>,
    /// The loss of the synthesizer of inputs, if it learned.
    pub forward_loss: Option<Tensor>,
}

/// Runs a batch of a network of blocks alone: accumulates the gradients of blocks and synthesizers.
///
/// # Errors
/// Fails on a tensor error, or if the model has no blocks.
pub fn run(model: &Model, batch: &Batch<'_>, delays: &mut Delays, gradients: &mut Gradients) -> Result<Done> {
    let pass = Pass::forward(model, batch)?;
    let outputs = pass.outputs()?;
    let (losses, cotangent) =
        batch.feedback.losses(Some(&outputs.unsqueeze(0)?), &[0], std::slice::from_ref(&(0..1)))?;
    let cotangent = cotangent.ok_or_else(|| Error::Training("a batch without targets".into()))?.squeeze(0)?;
    let Learning { statistics, traces } = pass.learn(&cotangent, delays, gradients)?;
    Ok(Done { losses, outputs, statistics, traces })
}

/// A forward pass of the blocks in training, before anything learns from it.
pub struct Pass<'a> {
    step: Step<'a>,
    sent: Vec<Sent<'a>>,
}

/// The results of a backward pass of the blocks, besides gradients.
pub struct Learning {
    /// New running statistics, by index of their parameter.
    pub statistics: Vec<(usize, Tensor)>,
    /// One per interface, from below, if requested.
    pub traces: Vec<InterfaceTrace>,
}

impl<'a> Pass<'a> {
    /// Runs the blocks forward.
    ///
    /// # Errors
    /// Fails on a tensor error, or if the model has no blocks.
    pub fn forward(model: &'a Model, batch: &'a Batch<'a>) -> Result<Pass<'a>> {
        let network = network(model)?;
        let segments = network.segments(|index| batch.roles[index] == Role::Lesioned);
        let leaves = model.params.leaves(network.part)?;
        let step = Step { model, network, batch, leaves, segments, x: shaped(network, batch.input)? };
        let sent: Vec<Vec<Sent<'a>>> = in_parallel(step.chains()?, model, |chain| step.forward(chain))?;
        Ok(Pass { sent: sent.into_iter().flatten().collect(), step })
    }

    /// The outputs of the last block, `[rows, ...]`; a constant.
    ///
    /// # Errors
    /// Fails if there are no blocks.
    pub fn outputs(&self) -> Result<Tensor> {
        let top = self.sent.last().ok_or_else(|| Error::Training("a network without blocks".into()))?;
        Ok(top.message.detach())
    }

    /// Runs the blocks backward from `cotangent`, the gradient at the outputs, and lets the synthesizers learn: accumulates the gradients
    /// of both.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn learn(self, cotangent: &Tensor, delays: &mut Delays, gradients: &mut Gradients) -> Result<Learning> {
        let Pass { step, sent } = self;
        let due = step.due(delays)?;
        let indices = (0..step.segments.len()).collect();
        let learn = |k: usize| step.learn(k, &sent, cotangent, due[k].as_ref());
        let learned: Vec<Learned> = in_parallel(indices, step.model, learn)?;
        let mut traces = Vec::new();
        for (k, part) in learned.into_iter().enumerate() {
            part.gradients.iter().try_for_each(|(index, gradient)| gradients.add(*index, gradient))?;
            traces.extend(part.trace);
            if let Some(late) = part.late {
                delays.push(step.segments[k].blocks.start - 1, late);
            }
        }
        let statistics = sent.into_iter().flat_map(|sent| sent.statistics).collect();
        Ok(Learning { statistics, traces })
    }
}

/// The outputs of the blocks in evaluation, `[rows, width]`, for inputs `[rows, ...]`: no interface is active.
///
/// # Errors
/// Fails on a tensor error, or if the model has no blocks.
pub fn evaluate(model: &Model, input: &Tensor) -> Result<Tensor> {
    let network = network(model)?;
    let value = |index: usize| model.params.get(index).value().clone();
    let nothing = |_: usize, _: f64, _: &[usize]| Err(Error::Training("dropout in evaluation".into()));
    let blocks = 0..network.blocks.len();
    Ok(network.forward(blocks, &shaped(network, input)?, Mode::Evaluate, &value, &nothing)?.0)
}

fn network(model: &Model) -> Result<&FeedForward> {
    model.blocks.as_ref().ok_or_else(|| Error::Training("the model has no blocks".into()))
}

/// The input as the first block reads it.
fn shaped(network: &FeedForward, input: &Tensor) -> Result<Tensor> {
    let mut dims = vec![input.dim(0)?];
    dims.extend(&network.input);
    Ok(input.reshape(dims)?)
}

/// Computes independent parts: on the CPU side by side if the current pool has several threads, and each on one if there are no more
/// threads than parts.
fn in_parallel<T: Send, R: Send>(
    parts: Vec<T>,
    model: &Model,
    compute: impl Fn(T) -> Result<R> + Sync + Send,
) -> Result<Vec<R>> {
    let threads = rayon::current_num_threads();
    match model.device().is_cpu() && parts.len() > 1 && threads > 1 {
        true if threads <= parts.len() => parts.into_par_iter().map(|part| alone(|| compute(part))).collect(),
        true => parts.into_par_iter().map(compute).collect(),
        false => parts.into_iter().map(compute).collect(),
    }
}

impl Step<'_> {
    /// Ranges of segments: the first of a range has its input before the step begins, and every other needs that of the one below.
    fn chains(&self) -> Result<Vec<Range<usize>>> {
        let mut chains: Vec<Range<usize>> = Vec::new();
        for (k, segment) in self.segments.iter().enumerate() {
            let starts = !segment.below || self.network.interface(segment.blocks.start - 1)?.inputs.is_some();
            match chains.last_mut() {
                Some(chain) if !starts => chain.end = k + 1,
                _ => chains.push(k..k + 1),
            }
        }
        Ok(chains)
    }
}
