//! The unrolled backend: tensor operations on any device, with a backward pass in closed form. It is designed for GPUs,
//! where the number of operations dominates the cost.
//!
//! Inputs are projected for all steps at once, a step has one product for all its gates, and the backward pass runs through
//! all windows side by side. Local derivatives are computed for all steps at once, and so are the gradients of weights.
//! Nothing blocks on the device.

mod backward;
mod cells;
mod steps;

use candle_core::Tensor;

use self::cells::Trace;
use super::{Backend, Cotangents, InputGradients, Outputs, Plan, Pullback};
use crate::error::Result;
use crate::model::{Model, Weights};
use crate::nn::Gradients;
use crate::nn::cells::State;
use crate::train::device_batch::DeviceBatch;

/// Tensor operations, and a backward pass in closed form.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unrolled;

/// A forward pass, with what its backward pass needs.
struct Pass<'a> {
    model: &'a Model,
    sequence: &'a DeviceBatch,
    plan: Plan<'a>,
    traces: Vec<Trace>,
    /// The top layer's output at the steps with outputs, `[outputs, batch, hidden]`.
    top: Option<Tensor>,
}

impl Backend for Unrolled {
    fn forward<'a>(
        &'a self,
        model: &'a Model,
        sequence: &'a DeviceBatch,
        plan: Plan<'a>,
        start: &[Tensor],
    ) -> Result<(Outputs, Box<dyn Pullback + 'a>)> {
        let (span, rows) = (plan.span(), sequence.rows().count);
        let keep = plan.needs_backward.contains(&true);
        let mut inputs = sequence.inputs(span.clone(), model.embedding(Weights::Constant).as_ref())?;
        let mut traces = Vec::with_capacity(model.layers.len());
        for (k, layer) in model.layers.iter().enumerate() {
            let weights = model.cell_weights(k, Weights::Constant);
            let start = State::split(&start[k], layer.hidden)?;
            let trace = cells::forward(layer, &weights, inputs, &start, keep)?;
            let outputs = trace.h.narrow(0, 1, span.len())?;
            inputs = match sequence.layer_mask(k) {
                Some(mask) => (outputs * mask.narrow(0, span.start, span.len())?)?,
                None => outputs,
            };
            traces.push(trace);
        }
        let places: Vec<u32> = plan.outputs.iter().map(|step| (step - span.start) as u32).collect();
        let (mut top, mut readout) = (None, None);
        if !places.is_empty() {
            let read = steps::select(&inputs, &places)?;
            let hidden = read.dim(2)?;
            let computed = model.readout(Weights::Constant)?.forward(&read.reshape((places.len() * rows, hidden))?)?;
            readout = Some(computed.reshape((places.len(), rows, computed.dim(1)?))?);
            top = Some(read);
        }
        let boundaries: Vec<u32> =
            plan.windows.iter().map(|w| (w.start - span.start) as u32).chain([span.len() as u32]).collect();
        let joined = |trace: &Trace| -> Result<Tensor> {
            let h = steps::select(&trace.h, &boundaries)?;
            match &trace.c {
                Some(c) => Ok(Tensor::cat(&[h, steps::select(c, &boundaries)?], 2)?),
                None => Ok(h.contiguous()?),
            }
        };
        let boundaries = traces.iter().map(joined).collect::<Result<_>>()?;
        Ok((
            Outputs { readout, boundaries, feedback: Vec::new() },
            Box::new(Pass { model, sequence, plan, traces, top }),
        ))
    }
}

impl Pullback for Pass<'_> {
    fn backward(self: Box<Self>, cotangents: &Cotangents, gradients: Option<&mut Gradients>) -> Result<InputGradients> {
        backward::run(&self, cotangents, gradients)
    }
}
