//! A layer over many steps: the forward pass, and the backward pass in closed form ([`ClosedForm`]).
//!
//! Gates are separate blocks, `[gates, rows, hidden]`, not columns, so that every operation is on contiguous memory.

use candle_core::Tensor;

use super::steps::Steps;
use crate::error::{Error, Result};
use crate::model::Layer;
use crate::nn::cells::{CellWeights, ClosedForm, Past, State};

/// A layer's forward pass over a span of steps.
pub(super) struct Trace {
    /// The inputs, `[steps, rows, in]`.
    pub inputs: Tensor,
    /// `h` before the first step and after each, `[steps + 1, rows, hidden]`.
    pub h: Tensor,
    /// The rest of the state, likewise.
    pub c: Option<Tensor>,
    /// What [`ClosedForm::forward`] saved at each step, `[steps, ..]`.
    kept: Vec<Tensor>,
}

/// Runs a layer over inputs `[steps, rows, in]` from a state. `keep` if a backward pass follows.
pub(super) fn forward(
    layer: &Layer,
    weights: &CellWeights,
    inputs: Tensor,
    start: &State,
    keep: bool,
) -> Result<Trace> {
    let (steps, rows, width) = inputs.dims3()?;
    let (cell, hidden, gates) = (closed_form(layer)?, layer.hidden, layer.cell.gates());
    let (bias, recurrent_bias) = match cell.separates_biases() {
        true => {
            let bias = weights.bias_hh.reshape((gates, 1, hidden))?;
            (weights.bias_ih.clone(), Some(bias.broadcast_as((gates, rows, hidden))?.contiguous()?))
        }
        false => ((&weights.bias_ih + &weights.bias_hh)?, None),
    };
    let all = inputs.reshape((steps * rows, width))?.matmul(&weights.weight_ih.t()?)?.broadcast_add(&bias)?;
    let all = all.reshape((steps, rows, gates, hidden))?.permute((0, 2, 1, 3))?.contiguous()?;
    let recurrent = weights.weight_hh.reshape((gates, hidden, hidden))?.transpose(1, 2)?;
    let mut kept: Vec<Vec<Tensor>> = Vec::new();
    let mut states = vec![start.clone()];
    for step in 0..steps {
        let state = &states[step];
        let mut product = state.h.unsqueeze(0)?.broadcast_as((gates, rows, hidden))?.matmul(&recurrent)?;
        if let Some(bias) = &recurrent_bias {
            product = (product + bias)?;
        }
        let (next, keeps) = cell.forward(all.get(step)?, product, state)?;
        if keep {
            kept.resize_with(keeps.len(), Vec::new);
            kept.iter_mut().zip(keeps).for_each(|(kept, one)| kept.push(one));
        }
        states.push(next);
    }
    let stack = |part: fn(&State) -> Option<&Tensor>| -> Result<Option<Tensor>> {
        let parts: Option<Vec<&Tensor>> = states.iter().map(part).collect();
        Ok(parts.map(|parts| Tensor::stack(&parts, 0)).transpose()?)
    };
    let h = stack(|state| Some(&state.h))?.ok_or_else(|| Error::Training("a layer without a state".into()))?;
    let kept = kept.iter().map(|steps| Ok(Tensor::stack(steps, 0)?)).collect::<Result<_>>()?;
    Ok(Trace { inputs, h, c: stack(|state| state.c.as_ref())?, kept })
}

fn closed_form(layer: &Layer) -> Result<&dyn ClosedForm> {
    layer.cell.closed_form().ok_or_else(|| Error::Training("a cell without a backward pass in closed form".into()))
}

/// The gradients at a layer's sums and start state.
pub(super) struct LayerGradients {
    /// At the sums of the inputs, `[offsets · rows, gates · hidden]`.
    pub inputs: Tensor,
    /// At the recurrent sums, if different.
    pub recurrent: Option<Tensor>,
    /// At the joined state at the start, `[rows, width]`, if requested.
    pub start: Option<Tensor>,
}

/// The backward pass through windows of one length side by side, given the gradients at the output of every step,
/// `[offsets, rows, hidden]`, and at the joined state at the end, `[rows, width]`.
pub(super) fn backward(
    layer: &Layer,
    trace: &Trace,
    weight_hh: &Tensor,
    steps: &Steps,
    outputs: Option<&Tensor>,
    end: Option<&Tensor>,
    wants_start: bool,
) -> Result<LayerGradients> {
    let pick = |x: &Tensor| if x.rank() == 3 { steps.pick(x) } else { steps.pick_blocks(x) };
    let back =
        closed_form(layer)?.backward(&Past { h: &trace.h, c: trace.c.as_ref(), kept: &trace.kept, pick: &pick })?;
    let end = end.map(|end| State::split(end, layer.hidden)).transpose()?;
    let (mut dh, mut dc) = end.map_or((None, None), |end| (Some(end.h), end.c));
    let (mut inputs, mut recurrent) = (Vec::with_capacity(steps.length), Vec::new());
    for offset in (0..steps.length).rev() {
        let here = outputs.map(|outputs| outputs.get(offset)).transpose()?;
        let total = match (dh, here) {
            (Some(dh), Some(here)) => (dh + here)?,
            (Some(dh), None) => dh,
            (None, Some(here)) => here,
            (None, None) => return Err(Error::Training("a backward pass without cotangents".into())),
        };
        let step = back(offset, &total, dc.as_ref())?;
        let wanted = offset > 0 || wants_start;
        dh = match wanted {
            true => {
                let through = step.recurrent.as_ref().unwrap_or(&step.input).matmul(weight_hh)?;
                Some(step.h.map_or(Ok(through.clone()), |past| through + past)?)
            }
            false => None,
        };
        dc = step.c;
        inputs.push(step.input);
        recurrent.extend(step.recurrent);
    }
    let start = dh.filter(|_| wants_start).map(|h| State { h, c: dc }.join()).transpose()?;
    let in_order = |mut parts: Vec<Tensor>| {
        parts.reverse();
        Tensor::cat(&parts, 0)
    };
    let recurrent = (!recurrent.is_empty()).then(|| in_order(recurrent)).transpose()?;
    Ok(LayerGradients { inputs: in_order(inputs)?, recurrent, start })
}
