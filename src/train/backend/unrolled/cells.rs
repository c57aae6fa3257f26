//! The cells over many steps: forward with all that the way back needs, and the way back in closed form.
//!
//! Gates are blocks of their own, `[gates, rows, hidden]`, not columns: every operation then goes over numbers that lie one
//! behind the other.

use candle_core::Tensor;
use candle_nn::ops::sigmoid;

use super::steps::Steps;
use crate::error::{Error, Result};
use crate::nn::cell::{self, CellWeights, State};
use crate::nn::relu;
use crate::spec::Cell;

/// What a layer did over the steps of a span.
pub(super) struct Trace {
    cell: Cell,
    /// What went in, `[steps, rows, in]`.
    pub inputs: Tensor,
    /// `h` before the first step and after each, `[steps + 1, rows, hidden]`.
    pub h: Tensor,
    /// The lstm's cell, likewise.
    pub c: Option<Tensor>,
    kept: Option<Kept>,
}

/// What happened within the steps.
struct Kept {
    /// lstm: the sigmoids of all four sums; gru: r, z. `[steps, gates, rows, hidden]`
    gates: Tensor,
    /// lstm: g; gru: n. `[steps, rows, hidden]`
    candidate: Tensor,
    /// gru: what r multiplies. `[steps, rows, hidden]`
    inner: Option<Tensor>,
}

/// The same, while it happens.
#[derive(Default)]
struct Keeper {
    gates: Vec<Tensor>,
    candidate: Vec<Tensor>,
    inner: Vec<Tensor>,
}

impl Keeper {
    fn kept(self) -> Result<Option<Kept>> {
        if self.gates.is_empty() {
            return Ok(None);
        }
        let inner = (!self.inner.is_empty()).then(|| Tensor::stack(&self.inner, 0)).transpose()?;
        Ok(Some(Kept { gates: Tensor::stack(&self.gates, 0)?, candidate: Tensor::stack(&self.candidate, 0)?, inner }))
    }
}

/// Runs a layer over inputs `[steps, rows, in]` from a state. `keep` where a way back follows.
pub(super) fn forward(cell: Cell, weights: &CellWeights, inputs: Tensor, start: &State, keep: bool) -> Result<Trace> {
    let (steps, rows, width) = inputs.dims3()?;
    let (hidden, gates) = (start.h.dim(1)?, cell::gates(cell));
    // The gru multiplies a part of the recurrent sum, bias included; elsewhere both biases are one.
    let bias = match cell {
        Cell::Gru => weights.bias_ih.clone(),
        _ => (&weights.bias_ih + &weights.bias_hh)?,
    };
    let all = inputs.reshape((steps * rows, width))?.matmul(&weights.weight_ih.t()?)?.broadcast_add(&bias)?;
    let all = all.reshape((steps, rows, gates, hidden))?.permute((0, 2, 1, 3))?.contiguous()?;
    let recurrent = weights.weight_hh.reshape((gates, hidden, hidden))?.transpose(1, 2)?;
    let recurrent_bias = match cell {
        Cell::Gru => {
            let bias = weights.bias_hh.reshape((gates, 1, hidden))?;
            Some(bias.broadcast_as((gates, rows, hidden))?.contiguous()?)
        }
        _ => None,
    };
    let mut keeper = Keeper::default();
    let mut states = vec![start.clone()];
    for step in 0..steps {
        let State { h, c } = &states[step];
        let ahead = all.get(step)?;
        let product = h.unsqueeze(0)?.broadcast_as((gates, rows, hidden))?.matmul(&recurrent)?;
        let next = match (cell, c, &recurrent_bias) {
            (Cell::Lstm, Some(c), _) => {
                let sums = (ahead + product)?;
                let (gate, g) = (sigmoid(&sums)?, sums.get(2)?.tanh()?);
                let c = ((gate.get(1)? * c)? + (gate.get(0)? * &g)?)?;
                let h = (gate.get(3)? * c.tanh()?)?;
                if keep {
                    keeper.gates.push(gate);
                    keeper.candidate.push(g);
                }
                State { h, c: Some(c) }
            }
            (Cell::Gru, _, Some(bias)) => {
                let product = (product + bias)?;
                let gate = sigmoid(&(ahead.narrow(0, 0, 2)? + product.narrow(0, 0, 2)?)?)?;
                let (inner, z) = (product.get(2)?, gate.get(1)?);
                let n = (ahead.get(2)? + (gate.get(0)? * &inner)?)?.tanh()?;
                let h = ((z.affine(-1.0, 1.0)? * &n)? + (z * h)?)?;
                if keep {
                    keeper.gates.push(gate);
                    keeper.candidate.push(n);
                    keeper.inner.push(inner);
                }
                State { h, c: None }
            }
            (Cell::Tanh, ..) => State { h: (ahead + product)?.squeeze(0)?.tanh()?, c: None },
            (Cell::Relu, ..) => State { h: relu(&(ahead + product)?.squeeze(0)?)?, c: None },
            _ => return Err(Error::Training("a state that is not one of its cell".into())),
        };
        states.push(next);
    }
    let stack = |part: fn(&State) -> Option<&Tensor>| -> Result<Option<Tensor>> {
        let parts: Option<Vec<&Tensor>> = states.iter().map(part).collect();
        Ok(parts.map(|parts| Tensor::stack(&parts, 0)).transpose()?)
    };
    let h = stack(|state| Some(&state.h))?.ok_or_else(|| Error::Training("a layer without a state".into()))?;
    Ok(Trace { cell, inputs, h, c: stack(|state| state.c.as_ref())?, kept: keeper.kept()? })
}

/// What arrives at a layer's parameters and inputs.
pub(super) struct Delivered {
    /// At the sums of the inputs, `[offsets · rows, gates · hidden]`.
    pub inputs: Tensor,
    /// At the recurrent sums, where that is something else.
    pub recurrent: Option<Tensor>,
    /// At the joined state at the start, `[rows, width]`, if it was asked for.
    pub start: Option<Tensor>,
}

/// The way back through windows of one length side by side, given what arrives at the output of every step, `[offsets,
/// rows, hidden]`, and at the joined state at the end, `[rows, width]`.
pub(super) fn backward(
    trace: &Trace,
    weight_hh: &Tensor,
    steps: &Steps,
    outputs: Option<&Tensor>,
    end: Option<&Tensor>,
    wants_start: bool,
) -> Result<Delivered> {
    let factors = Factors::of(trace, steps)?;
    let end = end.map(|end| State::split(trace.cell, end)).transpose()?;
    let (mut dh, mut dc) = end.map_or((None, None), |end| (Some(end.h), end.c));
    let (mut inputs, mut recurrent) = (Vec::with_capacity(steps.length), Vec::new());
    for offset in (0..steps.length).rev() {
        let here = outputs.map(|outputs| outputs.get(offset)).transpose()?;
        let arriving = match (dh, here) {
            (Some(dh), Some(here)) => (dh + here)?,
            (Some(dh), None) => dh,
            (None, Some(here)) => here,
            (None, None) => return Err(Error::Training("a backward pass in which nothing arrives".into())),
        };
        let step = factors.step(offset, &arriving, dc.as_ref())?;
        let wanted = offset > 0 || wants_start;
        dh = match wanted {
            true => {
                let through = step.recurrent.as_ref().unwrap_or(&step.inputs).matmul(weight_hh)?;
                Some(step.past.map_or(Ok(through.clone()), |past| through + past)?)
            }
            false => None,
        };
        dc = step.cell;
        inputs.push(step.inputs);
        recurrent.extend(step.recurrent);
    }
    let start = dh.filter(|_| wants_start).map(|h| State { h, c: dc }.join()).transpose()?;
    let in_order = |mut parts: Vec<Tensor>| {
        parts.reverse();
        Tensor::cat(&parts, 0)
    };
    let recurrent = (!recurrent.is_empty()).then(|| in_order(recurrent)).transpose()?;
    Ok(Delivered { inputs: in_order(inputs)?, recurrent, start })
}

/// What a step's gradients are multiplied with, for all steps at once; each `[offsets, rows, hidden]`.
enum Factors {
    Lstm { through: Tensor, i: Tensor, f: Tensor, g: Tensor, o: Tensor, forget: Tensor },
    Gru { r: Tensor, z: Tensor, n: Tensor, reset: Tensor, update: Tensor },
    Simple { slope: Tensor },
}

/// What a step delivers.
struct Step {
    /// At the sums of its inputs, `[rows, gates · hidden]`.
    inputs: Tensor,
    /// At its recurrent sums, where that is something else.
    recurrent: Option<Tensor>,
    /// At the `h` before it, beside what comes through the recurrent sums.
    past: Option<Tensor>,
    /// At the cell before it.
    cell: Option<Tensor>,
}

/// `x (1 - x)`: the slope of the sigmoid where it is `x`.
fn slope(x: &Tensor) -> Result<Tensor> {
    Ok((x - x.sqr()?)?)
}

/// `1 - x²`: the slope of the hyperbolic tangent where it is `x`.
fn slope_of_tanh(x: &Tensor) -> Result<Tensor> {
    Ok(x.sqr()?.affine(-1.0, 1.0)?)
}

impl Factors {
    fn of(trace: &Trace, steps: &Steps) -> Result<Factors> {
        let count = trace.inputs.dim(0)?;
        let before = |states: &Tensor| steps.pick(&states.narrow(0, 0, count)?);
        let after = |states: &Tensor| steps.pick(&states.narrow(0, 1, count)?);
        let missing = || Error::Training("a backward pass through windows that were not to be taught".into());
        match (trace.cell, &trace.kept, &trace.c) {
            (Cell::Lstm, Some(kept), Some(c)) => {
                let (gates, g) = (steps.pick_blocks(&kept.gates)?, steps.pick(&kept.candidate)?);
                let [i, f, o] = [gates.get(0)?, gates.get(1)?, gates.get(3)?];
                let c_after = after(c)?.tanh()?;
                Ok(Factors::Lstm {
                    through: (&o * slope_of_tanh(&c_after)?)?,
                    o: (slope(&o)? * c_after)?,
                    g: (slope_of_tanh(&g)? * &i)?,
                    i: (slope(&i)? * g)?,
                    f: (slope(&f)? * before(c)?)?,
                    forget: f,
                })
            }
            (Cell::Gru, Some(Kept { gates, candidate, inner: Some(inner) }), _) => {
                let (gates, n) = (steps.pick_blocks(gates)?, steps.pick(candidate)?);
                let [r, z] = [gates.get(0)?, gates.get(1)?];
                Ok(Factors::Gru {
                    r: (slope(&r)? * steps.pick(inner)?)?,
                    z: (slope(&z)? * (before(&trace.h)? - &n)?)?,
                    n: (slope_of_tanh(&n)? * z.affine(-1.0, 1.0)?)?,
                    reset: r,
                    update: z,
                })
            }
            (Cell::Tanh, ..) => Ok(Factors::Simple { slope: slope_of_tanh(&after(&trace.h)?)? }),
            // The state is never negative: its sign is the slope.
            (Cell::Relu, ..) => Ok(Factors::Simple { slope: after(&trace.h)?.sign()? }),
            _ => Err(missing()),
        }
    }

    /// What arrives at `h` after a step, and at the lstm's cell after it, to what leaves before it.
    fn step(&self, offset: usize, dh: &Tensor, dc: Option<&Tensor>) -> Result<Step> {
        match self {
            Factors::Lstm { through, i, f, g, o, forget } => {
                let own = (dh * through.get(offset)?)?;
                let dc = dc.map_or(Ok(own.clone()), |dc| dc + own)?;
                let [di, df, dg] = [i, f, g].map(|factor| &dc * factor.get(offset)?);
                let inputs = Tensor::cat(&[di?, df?, dg?, (dh * o.get(offset)?)?], 1)?;
                Ok(Step { inputs, recurrent: None, past: None, cell: Some((dc * forget.get(offset)?)?) })
            }
            Factors::Gru { r, z, n, reset, update } => {
                let dn = (dh * n.get(offset)?)?;
                let dr = (&dn * r.get(offset)?)?;
                let dz = (dh * z.get(offset)?)?;
                let inner = (&dn * reset.get(offset)?)?;
                Ok(Step {
                    inputs: Tensor::cat(&[&dr, &dz, &dn], 1)?,
                    recurrent: Some(Tensor::cat(&[&dr, &dz, &inner], 1)?),
                    past: Some((dh * update.get(offset)?)?),
                    cell: None,
                })
            }
            Factors::Simple { slope } => {
                Ok(Step { inputs: (dh * slope.get(offset)?)?, recurrent: None, past: None, cell: None })
            }
        }
    }
}
