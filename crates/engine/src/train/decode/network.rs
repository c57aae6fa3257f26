//! Runs the network on sentences: one step of all of them at a time, keeping the states.

use candle_core::{DType, Device, Tensor};
use pulp::Arch;

use crate::data::{Batch, Inputs, Targets};
use crate::error::{Error, Result};
use crate::model::{Model, Weights};
use crate::nn::cells::State;
use crate::nn::kernel::few_rows;
use crate::nn::slices;
use crate::train::backend::{Backend, Composed, Plan};
use crate::train::device_batch::DeviceBatch;
use crate::train::engine;

/// Up to this many rows, weights are read in place: training backends repack them at every call, which dominates the cost of
/// a step of one sentence.
const FEW: usize = 8;

pub(super) struct Network<'a> {
    model: &'a Model,
    backend: &'a dyn Backend,
    /// The joined states, `[rows, width]` for each layer.
    states: Vec<Tensor>,
    /// The next token's logits, `[rows, vocabulary]`.
    logits: Vec<f32>,
    rows: usize,
}

impl<'a> Network<'a> {
    /// Feeds features `[images, width]`, or the input of the encoder, then the start token: one row per image.
    pub(super) fn begin(model: &'a Model, backend: &'a dyn Backend, features: &Tensor, start: u32) -> Result<Self> {
        let rows = features.dim(0)?;
        let states = model.zero_state(rows)?;
        let ids = Tensor::from_vec(vec![start; rows], (rows, 1), &Device::Cpu)?;
        let mut network = Network { model, backend, states, logits: Vec::new(), rows };
        network.run(Inputs::Tokens { feature: Some(features.clone()), ids })?;
        Ok(network)
    }

    /// Feeds the tokens of a prompt: one row.
    pub(super) fn begin_with(model: &'a Model, backend: &'a dyn Backend, prompt: &[u32]) -> Result<Self> {
        let states = model.zero_state(1)?;
        let ids = Tensor::from_slice(prompt, (1, prompt.len()), &Device::Cpu)?;
        let mut network = Network { model, backend, states, logits: Vec::new(), rows: 1 };
        network.run(Inputs::Tokens { feature: None, ids })?;
        Ok(network)
    }

    pub(super) fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Selects rows (each may occur several times), and feeds one token to each.
    pub(super) fn step(&mut self, rows: &[u32], ids: &[u32]) -> Result<()> {
        let unchanged = rows.iter().copied().eq(0..self.rows as u32);
        if !unchanged {
            let rows = Tensor::from_slice(rows, rows.len(), self.model.device())?;
            self.states = self.states.iter().map(|state| state.index_select(&rows, 0)).collect::<Result<_, _>>()?;
        }
        self.rows = rows.len();
        self.run(Inputs::Tokens { feature: None, ids: Tensor::from_slice(ids, (ids.len(), 1), &Device::Cpu)? })
    }

    /// Runs the inputs as one window, and keeps the states and the logits at its end.
    fn run(&mut self, inputs: Inputs) -> Result<()> {
        let model = self.model;
        // Targets are irrelevant at inference.
        let targets = Targets::FinalClass(Tensor::zeros(self.rows, DType::U32, &Device::Cpu)?);
        let sequence = DeviceBatch::new(model, &Batch::new(inputs, targets), None)?;
        let sequence = engine::through_blocks(model, &sequence)?.unwrap_or(sequence);
        let (span, last) = (0..sequence.steps(), [sequence.steps() - 1]);
        let few = self.rows <= FEW && model.device().is_cpu();
        let (backend, outputs): (&dyn Backend, &[usize]) = if few { (&Composed, &[]) } else { (self.backend, &last) };
        let plan = Plan { windows: std::slice::from_ref(&span), needs_backward: &[false], outputs };
        let (computed, _) = backend.forward(model, &sequence, plan, &self.states)?;
        self.states = computed.end()?;
        self.logits = match computed.readout {
            Some(logits) => logits.flatten_all()?.to_vec1()?,
            None => self.read_out()?,
        };
        Ok(())
    }

    /// The logits of up to [`FEW`] rows.
    fn read_out(&self) -> Result<Vec<f32>> {
        let (Some(layer), Some(joined)) = (self.model.layers.last(), self.states.last()) else {
            return Err(Error::Training("sentences from a model without layers".into()));
        };
        let top = State::split(joined, layer.hidden)?.h.contiguous()?;
        let readout = self.model.readout(Weights::Constant)?;
        let (weight, bias) = (slices::read(&readout.weight)?, slices::read(&readout.bias)?);
        let mut logits = vec![0.0; self.rows * bias.len()];
        few_rows(Arch::new(), &mut logits, &slices::read(&top)?, &weight, &bias);
        Ok(logits)
    }
}
