//! The composed backend: plain tensor operations and automatic differentiation, on any device: the reference implementation.
//!
//! The forward pass builds no graph. The backward pass recomputes its windows side by side from the states at their starts,
//! so that the graph is only one window deep.

use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::{Backend, Cotangents, InputGradients, Outputs, Plan, Pullback};
use crate::error::{Error, Result};
use crate::model::{Model, Weights};
use crate::nn::cells::State;
use crate::nn::{Gradients, Leaves, Part};
use crate::train::device_batch::{DeviceBatch, stack_rows};

/// Plain tensor operations and automatic differentiation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Composed;

/// A run over windows of one length, side by side.
struct Run {
    /// `states[layer][t]`, `t` steps after the windows' start.
    states: Vec<Vec<State>>,
    /// The top layer's `h` at every step, `[windows · batch, hidden]`.
    top: Vec<Tensor>,
    /// `feedback[layer][t]`, the outputs of the layer's feedback network in step t; empty without one.
    feedback: Vec<Vec<Tensor>>,
}

/// The inputs of windows of one length at each of their steps, `[windows · batch, width]`. `feature` replaces the input before the
/// tokens if its gradient is tracked.
fn inputs(
    model: &Model,
    sequence: &DeviceBatch,
    windows: &[Range<usize>],
    weights: Weights<'_>,
    feature: Option<&Tensor>,
) -> Result<Vec<Tensor>> {
    let length = windows.first().map_or(0, |window| window.len());
    let table = model.embedding(weights);
    (0..length).map(|offset| sequence.input(windows, offset, table.as_ref(), feature)).collect()
}

/// Runs windows of one length side by side from `start`, `[windows · batch, width]` per layer, on these inputs.
fn run(
    model: &Model,
    sequence: &DeviceBatch,
    windows: &[Range<usize>],
    start: &[Tensor],
    weights: Weights<'_>,
    mut inputs: Vec<Tensor>,
) -> Result<Run> {
    let mut states = Vec::with_capacity(model.layers.len());
    let mut feedback = Vec::with_capacity(model.layers.len());
    for (k, layer) in model.layers.iter().enumerate() {
        let (all, weights) = (weights, model.cell_weights(k, weights));
        let mut fed_back = Vec::new();
        let mut trace = vec![State::split(&start[k], layer.hidden)?];
        for (offset, input) in inputs.iter_mut().enumerate() {
            if let Some(feedback) = &layer.feedback {
                let outputs = feedback.outputs(model, &trace[offset].h.detach(), all)?;
                let rows = outputs.dim(0)? / windows.len();
                let steps: Vec<usize> =
                    windows.iter().flat_map(|w| std::iter::repeat_n(w.start + offset, rows)).collect();
                *input = Tensor::cat(&[&*input, &feedback.message(&outputs, &steps)?], 1)?;
                fed_back.push(outputs);
            }
            let next = layer.cell.step(&weights, input, &trace[offset])?;
            *input = sequence.drop_out(k, windows, offset, &next.h)?;
            trace.push(next);
        }
        states.push(trace);
        feedback.push(fed_back);
    }
    Ok(Run { states, top: inputs, feedback })
}

/// The model's outputs over a run at some steps of its windows, `[steps · batch, width]`, and the index of each step in
/// `outputs`; `None` if there is no such step.
fn read_out(
    model: &Model,
    run: &Run,
    windows: &[Range<usize>],
    outputs: &[usize],
    rows: usize,
    weights: Weights<'_>,
) -> Result<Option<(Tensor, Vec<usize>)>> {
    let (mut top, mut places) = (Vec::new(), Vec::new());
    for (place, step) in outputs.iter().enumerate() {
        let Some(at) = windows.iter().position(|window| window.contains(step)) else { continue };
        top.push(run.top[step - windows[at].start].narrow(0, at * rows, rows)?);
        places.push(place);
    }
    if top.is_empty() {
        return Ok(None);
    }
    let outputs = model.readout(weights)?.forward(&stack_rows(&top)?.contiguous()?)?;
    Ok(Some((outputs, places)))
}

impl Backend for Composed {
    fn forward<'a>(
        &'a self,
        model: &'a Model,
        sequence: &'a DeviceBatch,
        plan: Plan<'a>,
        start: &[Tensor],
    ) -> Result<(Outputs, Box<dyn Pullback + 'a>)> {
        let (span, rows) = (plan.span(), sequence.rows().count);
        let whole = std::slice::from_ref(&span);
        let inputs = inputs(model, sequence, whole, Weights::Constant, None)?;
        let run = run(model, sequence, whole, start, Weights::Constant, inputs)?;
        let readout = match read_out(model, &run, whole, plan.outputs, rows, Weights::Constant)? {
            Some((outputs, places)) => {
                let width = outputs.dim(1)?;
                Some(outputs.reshape((places.len(), rows, width))?)
            }
            None => None,
        };
        let boundaries = |states: &Vec<State>| {
            let steps = plan.windows.iter().map(|window| window.start).chain([span.end]);
            let joined = steps.map(|step| states[step - span.start].join()).collect::<Result<Vec<_>>>()?;
            Ok(Tensor::stack(&joined, 0)?)
        };
        let boundaries: Vec<Tensor> = run.states.iter().map(boundaries).collect::<Result<_>>()?;
        let at_steps = |all: &Vec<Tensor>| (!all.is_empty()).then(|| Tensor::stack(all, 0)).transpose();
        let feedback = run.feedback.iter().map(at_steps).collect::<Result<_, _>>()?;
        let pass = Pass { model, sequence, plan, boundaries: boundaries.clone() };
        Ok((Outputs { readout, boundaries, feedback }, Box::new(pass)))
    }
}

/// A forward pass, with the states at the boundaries of its windows.
struct Pass<'a> {
    model: &'a Model,
    sequence: &'a DeviceBatch,
    plan: Plan<'a>,
    /// Per layer, `[windows + 1, batch, width]`.
    boundaries: Vec<Tensor>,
}

impl Pullback for Pass<'_> {
    fn backward(
        self: Box<Self>,
        cotangents: &Cotangents,
        mut gradients: Option<&mut Gradients>,
    ) -> Result<InputGradients> {
        let Plan { windows, needs_backward, .. } = self.plan;
        let leaves = self.model.params.leaves(Part::Network)?;
        let wanted: Vec<usize> = (0..windows.len()).filter(|&w| needs_backward[w]).collect();
        let mut starts: Vec<Vec<Tensor>> = vec![Vec::new(); self.model.layers.len()];
        let (mut feature, mut at_inputs) = (None, Vec::new());
        // Windows of equal length run together; only the last of a sequence can be shorter.
        let mut first = 0;
        for group in wanted.chunk_by(|&a, &b| windows[a].len() == windows[b].len()) {
            let group = Group { pass: &self, windows: group, first, cotangents, leaves: &leaves };
            let inputs = group.backward(gradients.as_deref_mut())?;
            for (all, one) in starts.iter_mut().zip(inputs.starts) {
                all.push(one);
            }
            feature = feature.or(inputs.feature);
            at_inputs.extend(inputs.inputs);
            first += group.windows.len();
        }
        let starts = match cotangents.starts && first > 0 {
            true => starts.iter().map(|parts| stack_rows(parts)).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        Ok(InputGradients { starts, feature, inputs: at_inputs })
    }
}

/// The backward pass through windows of one length.
struct Group<'a> {
    pass: &'a Pass<'a>,
    /// Which windows, ascending.
    windows: &'a [usize],
    /// Number of windows with a backward pass before these.
    first: usize,
    cotangents: &'a Cotangents,
    leaves: &'a Leaves,
}

impl Group<'_> {
    fn backward(&self, gradients: Option<&mut Gradients>) -> Result<InputGradients> {
        let Pass { model, sequence, plan, boundaries } = self.pass;
        let (cotangents, rows) = (self.cotangents, sequence.rows());
        let multiplicity = rows.column(model.device())?;
        // Cotangents are per sequence, and parameters receive them from every sequence: rows are weighted by multiplicity.
        // Gradients at the starts are divided by it again.
        let weighted = |tensor: Tensor| -> Result<Tensor> {
            let Some(weights) = &multiplicity else { return Ok(tensor) };
            let (all, width) = tensor.dims2()?;
            Ok(tensor.reshape((all / rows.count, rows.count, width))?.broadcast_mul(weights)?.reshape((all, width))?)
        };
        let windows: Vec<Range<usize>> = self.windows.iter().map(|&w| plan.windows[w].clone()).collect();
        let starts = (boundaries.iter())
            .map(|states| {
                let parts = self.windows.iter().map(|&w| states.get(w)).collect::<Result<Vec<_>, _>>()?;
                Ok(Var::from_tensor(&stack_rows(&parts)?)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let start: Vec<Tensor> = starts.iter().map(|start| start.as_tensor().clone()).collect();
        let weights = Weights::Leaves(self.leaves);
        let feature = sequence.learned_feature().filter(|_| gradients.is_some() && windows[0].start == 0);
        let feature = feature.map(Var::from_tensor).transpose()?;
        let read = inputs(model, sequence, &windows, weights, feature.as_ref().map(Var::as_tensor))?;
        let read: Vec<Tensor> = match sequence.reads_blocks() {
            true => read.iter().map(|x| Ok(Var::from_tensor(x)?.into_inner())).collect::<Result<_>>()?,
            false => read,
        };
        let run = run(model, sequence, &windows, &start, weights, read.clone())?;

        let mut terms = Vec::new();
        if let Some(outputs) = &cotangents.outputs
            && let Some((computed, places)) = read_out(model, &run, &windows, plan.outputs, rows.count, weights)?
        {
            let parts = places.iter().map(|&place| outputs.get(place)).collect::<Result<Vec<_>, _>>()?;
            terms.push((computed * weighted(stack_rows(&parts)?)?)?.sum_all()?);
        }
        for (layer, steps, gradient) in &cotangents.feedback {
            for (place, step) in steps.iter().enumerate() {
                let Some(at) = windows.iter().position(|window| window.contains(step)) else { continue };
                let outputs = run.feedback[*layer][step - windows[at].start].narrow(0, at * rows.count, rows.count)?;
                terms.push((outputs * weighted(gradient.get(place)?)?)?.sum_all()?);
            }
        }
        for (k, injected) in cotangents.ends.iter().enumerate() {
            if let (Some(injected), Some(end)) = (injected, run.states[k].last()) {
                let here = injected.narrow(0, self.first * rows.count, windows.len() * rows.count)?;
                terms.push((end.join()? * weighted(here)?)?.sum_all()?);
            }
        }
        if cotangents.activity > 0.0 {
            for (trace, layer) in run.states.iter().zip(&model.layers) {
                let count = (trace.len() - 1) * rows.sequences * layer.hidden;
                for state in &trace[1..] {
                    let squares = weighted(state.h.sqr()?)?.sum_all()?;
                    terms.push((squares * (cotangents.activity / count as f64))?);
                }
            }
        }
        let Some(total) = terms.into_iter().map(Ok).reduce(|sum, term| sum? + term?).transpose()? else {
            return Err(Error::Training("a backward pass without cotangents".into()));
        };
        let store = total.backward()?;
        let looked_up = windows.iter().cloned().flatten().any(|step| sequence.looks_up(step));
        if let Some(gradients) = gradients {
            for (index, leaf) in self.leaves.iter() {
                match store.get(leaf) {
                    Some(gradient) => gradients.add(index, gradient)?,
                    // As in PyTorch, an embedding that was looked up has a gradient, even if it is zero.
                    None if Some(index) == model.embedding_index() && looked_up => {
                        gradients.add(index, &leaf.zeros_like()?)?;
                    }
                    None => {}
                }
            }
        }
        let inverse = multiplicity.as_ref().map(|weights| weights.recip()).transpose()?;
        let gradient = |input: &Var| -> Result<Tensor> {
            let gradient = match store.get(input) {
                Some(gradient) => gradient.detach(),
                None => input.as_tensor().detach().zeros_like()?,
            };
            let (Some(inverse), (all, width)) = (&inverse, gradient.dims2()?) else { return Ok(gradient) };
            Ok(gradient
                .reshape((all / rows.count, rows.count, width))?
                .broadcast_mul(inverse)?
                .reshape((all, width))?)
        };
        Ok(InputGradients {
            starts: starts.iter().filter(|_| cotangents.starts).map(gradient).collect::<Result<_>>()?,
            feature: feature.as_ref().map(gradient).transpose()?,
            inputs: if sequence.reads_blocks() { at_inputs(&store, &read, &windows, rows.count)? } else { Vec::new() },
        })
    }
}

/// The gradient at each step of windows, `[batch, width]`, given that at their inputs `read`.
fn at_inputs(
    store: &GradStore,
    read: &[Tensor],
    windows: &[Range<usize>],
    rows: usize,
) -> Result<Vec<(usize, Tensor)>> {
    let mut all = Vec::with_capacity(windows.len() * read.len());
    for (offset, input) in read.iter().enumerate() {
        let gradient = store.get(input).map_or_else(|| input.zeros_like(), |gradient| Ok(gradient.detach()))?;
        for (at, window) in windows.iter().enumerate() {
            all.push((window.start + offset, gradient.narrow(0, at * rows, rows)?));
        }
    }
    Ok(all)
}
