//! The composed backend: plain tensor operations and automatic differentiation, on any device. It is the definition.
//!
//! The forward pass builds no graph. The backward pass runs its windows again, side by side and from the states that
//! the forward pass left at their starts, so that the graph is only as deep as one window is long.

use std::ops::Range;

use candle_core::{Tensor, Var};

use super::{Backend, Backward, Cotangents, Forward, Outputs};
use crate::error::{Error, Result};
use crate::model::{Model, Tracking};
use crate::nn::Gradients;
use crate::nn::cell::{self, State};
use crate::train::sequence::{Sequence, stack_rows};

/// Plain tensor operations and automatic differentiation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Composed;

/// A run over windows of one length, side by side.
struct Run {
    /// `states[layer][t]`, `t` steps after the windows' start.
    states: Vec<Vec<State>>,
    /// The top layer's `h` at every step, `[windows · batch, hidden]`.
    top: Vec<Tensor>,
}

/// Runs windows of one length side by side from `start`, `[windows · batch, width]` for each layer.
fn run(
    model: &Model,
    sequence: &Sequence,
    windows: &[Range<usize>],
    start: &[Tensor],
    tracking: Tracking,
) -> Result<Run> {
    let length = windows.first().map_or(0, |window| window.len());
    let table = model.embedding(tracking);
    let mut inputs: Vec<Tensor> =
        (0..length).map(|offset| sequence.input(windows, offset, table.as_ref())).collect::<Result<_>>()?;
    let mut states = Vec::with_capacity(model.layers.len());
    for (k, layer) in model.layers.iter().enumerate() {
        let weights = model.cell_weights(k, tracking);
        let mut trace = vec![State::split(layer.cell, &start[k])?];
        for (offset, input) in inputs.iter_mut().enumerate() {
            let next = cell::step(layer.cell, &weights, input, &trace[offset])?;
            *input = sequence.drop_out(k, windows, offset, &next.h)?;
            trace.push(next);
        }
        states.push(trace);
    }
    Ok(Run { states, top: inputs })
}

/// The model's outputs over a run, `[steps, windows · batch, width]`, or `[1, batch, width]` for the last step alone.
fn read_out(
    model: &Model,
    run: &Run,
    windows: &[Range<usize>],
    outputs: Outputs,
    last_step: usize,
    rows: usize,
    tracking: Tracking,
) -> Result<Option<Tensor>> {
    let readout = model.readout(tracking);
    match outputs {
        Outputs::EveryStep => Ok(Some(readout.forward(&Tensor::stack(&run.top, 0)?)?)),
        Outputs::LastStep => {
            let Some(at) = windows.iter().position(|window| window.end == last_step) else { return Ok(None) };
            let Some(top) = run.top.last() else { return Ok(None) };
            Ok(Some(readout.forward(&top.narrow(0, at * rows, rows)?.contiguous()?)?.unsqueeze(0)?))
        }
    }
}

impl Backend for Composed {
    fn forward(
        &self,
        model: &Model,
        sequence: &Sequence,
        span: Range<usize>,
        start: &[Tensor],
        outputs: Outputs,
    ) -> Result<Forward> {
        let whole = std::slice::from_ref(&span);
        let run = run(model, sequence, whole, start, Tracking::Constant)?;
        let outputs = read_out(model, &run, whole, outputs, sequence.steps(), sequence.rows(), Tracking::Constant)?;
        let states = run
            .states
            .iter()
            .map(|trace| trace.iter().map(State::join).collect::<Result<Vec<_>>>())
            .collect::<Result<_>>()?;
        Ok(Forward { span, outputs, states, saved: Box::new(()) })
    }

    fn backward(
        &self,
        model: &Model,
        sequence: &Sequence,
        forward: &Forward,
        windows: &[Range<usize>],
        outputs: Outputs,
        cotangents: &Cotangents,
    ) -> Result<Backward> {
        let mut gradients = Gradients::none(model.params.len());
        let mut starts: Vec<Vec<Tensor>> = vec![Vec::new(); model.layers.len()];
        // Windows of one length go together; only the last of a sequence can be shorter.
        let mut first = 0;
        for group in windows.chunk_by(|a, b| a.len() == b.len()) {
            let part = self.group(model, sequence, forward, group, first, outputs, cotangents)?;
            gradients.add_all(&part.gradients)?;
            for (all, one) in starts.iter_mut().zip(part.starts) {
                all.push(one);
            }
            first += group.len();
        }
        let starts = match cotangents.starts {
            true => starts.iter().map(|parts| stack_rows(parts)).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        Ok(Backward { gradients, starts })
    }
}

impl Composed {
    /// The backward pass of windows of one length; `first` is the place of the first among all windows asked for.
    #[allow(clippy::too_many_arguments)]
    fn group(
        &self,
        model: &Model,
        sequence: &Sequence,
        forward: &Forward,
        windows: &[Range<usize>],
        first: usize,
        outputs: Outputs,
        cotangents: &Cotangents,
    ) -> Result<Backward> {
        let rows = sequence.rows();
        // The start states are variables of their own: their gradients are what arrives at the windows' starts.
        let starts: Vec<Var> = (0..model.layers.len())
            .map(|k| Ok(Var::from_tensor(&forward.states_at(k, windows.iter().map(|window| window.start))?)?))
            .collect::<Result<_>>()?;
        let start_tensors: Vec<Tensor> = starts.iter().map(|start| start.as_tensor().clone()).collect();
        let run = run(model, sequence, windows, &start_tensors, Tracking::Tracked)?;

        // The gradient of the sum of (what is computed × what arrives there) is the vector-Jacobian product.
        let mut terms = Vec::new();
        if let Some(cotangent) = &cotangents.outputs {
            let arriving = arriving(cotangent, forward, windows, outputs, sequence.steps())?;
            let computed = read_out(model, &run, windows, outputs, sequence.steps(), rows, Tracking::Tracked)?;
            if let (Some(computed), Some(arriving)) = (computed, arriving) {
                terms.push((computed * arriving)?.sum_all()?);
            }
        }
        for (k, injected) in cotangents.ends.iter().enumerate() {
            if let (Some(injected), Some(end)) = (injected, run.states[k].last()) {
                let here = injected.narrow(0, first * rows, windows.len() * rows)?;
                terms.push((end.join()? * here)?.sum_all()?);
            }
        }
        if cotangents.activity > 0.0 {
            for (trace, layer) in run.states.iter().zip(&model.layers) {
                let count = (trace.len() - 1) * rows * layer.hidden;
                for state in &trace[1..] {
                    terms.push((state.h.sqr()?.sum_all()? * (cotangents.activity / count as f64))?);
                }
            }
        }
        let Some(total) = terms.into_iter().map(Ok).reduce(|sum, term| sum? + term?).transpose()? else {
            return Err(Error::Training("a backward pass in which nothing arrives".into()));
        };
        let store = total.backward()?;
        let mut gradients = Gradients::none(model.params.len());
        for (index, parameter) in model.params.iter().enumerate() {
            if let Some(gradient) = store.get(parameter.tracked()) {
                gradients.add(index, gradient)?;
            }
        }
        let starts = match cotangents.starts {
            true => starts
                .iter()
                .map(|start| match store.get(start) {
                    Some(gradient) => Ok(gradient.detach()),
                    None => Ok(start.as_tensor().zeros_like()?),
                })
                .collect::<Result<_>>()?,
            false => Vec::new(),
        };
        Ok(Backward { gradients, starts })
    }
}

/// The part of the outputs' cotangent that belongs to `windows`, in the order of [`read_out`]; none where they have no
/// output.
fn arriving(
    cotangent: &Tensor,
    forward: &Forward,
    windows: &[Range<usize>],
    outputs: Outputs,
    last_step: usize,
) -> Result<Option<Tensor>> {
    if outputs == Outputs::LastStep {
        return Ok(windows.iter().any(|window| window.end == last_step).then(|| cotangent.clone()));
    }
    // [steps, batch, width] to [length, windows · batch, width]
    let parts = windows
        .iter()
        .map(|window| cotangent.narrow(0, window.start - forward.span.start, window.len()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Tensor::cat(&parts, 1)?))
}
