//! The network at work on sentences: one step of all of them at a time, and the states between.

use candle_core::{DType, Device, Tensor};

use crate::data::{Batch, Inputs, Targets};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::train::backend::{Backend, Plan};
use crate::train::sequence::Sequence;

pub(super) struct Network<'a> {
    model: &'a Model,
    backend: &'a dyn Backend,
    /// The joined states, `[rows, width]` for each layer.
    states: Vec<Tensor>,
    /// `[1, rows, vocabulary]`
    logits: Tensor,
}

impl<'a> Network<'a> {
    /// Feeds features `[pictures, width]`, then the start token: a row for every picture.
    pub(super) fn begin(model: &'a Model, backend: &'a dyn Backend, features: &Tensor, start: u32) -> Result<Self> {
        let pictures = features.dim(0)?;
        let ids = Tensor::from_vec(vec![start; pictures], (pictures, 1), &Device::Cpu)?;
        let inputs = Inputs::Tokens { feature: Some(features.clone()), ids };
        let (states, logits) = run(model, backend, inputs, pictures, &model.zero_state(pictures)?)?;
        Ok(Network { model, backend, states, logits })
    }

    /// What follows each row: `[rows, vocabulary]` logits.
    pub(super) fn logits(&self) -> Result<Vec<f32>> {
        Ok(self.logits.flatten_all()?.to_vec1()?)
    }

    /// Makes a batch of some of the rows (each may occur several times), and feeds one token to each.
    pub(super) fn step(&mut self, rows: &[u32], ids: &[u32]) -> Result<()> {
        let count = rows.len();
        let as_they_are = self.logits.dim(1)? == count && rows.iter().copied().eq(0..count as u32);
        if !as_they_are {
            let rows = Tensor::from_slice(rows, count, self.model.device())?;
            self.states = self.states.iter().map(|state| state.index_select(&rows, 0)).collect::<Result<_, _>>()?;
        }
        let ids = Tensor::from_slice(ids, (count, 1), &Device::Cpu)?;
        let inputs = Inputs::Tokens { feature: None, ids };
        (self.states, self.logits) = run(self.model, self.backend, inputs, count, &self.states)?;
        Ok(())
    }
}

/// Runs over a batch of `rows` rows as one window; gives the states and the logits at its end.
fn run(
    model: &Model,
    backend: &dyn Backend,
    inputs: Inputs,
    rows: usize,
    states: &[Tensor],
) -> Result<(Vec<Tensor>, Tensor)> {
    // Nothing is learned, so that targets do not matter.
    let targets = Targets::FinalClass(Tensor::zeros(rows, DType::U32, &Device::Cpu)?);
    let sequence = Sequence::new(model, &Batch::new(inputs, targets), None)?;
    let steps = sequence.steps();
    let whole = 0..steps;
    let plan = Plan { windows: std::slice::from_ref(&whole), taught: &[false], outputs: &[steps - 1] };
    let forward = backend.forward(model, &sequence, plan, states)?;
    let states = forward.end()?;
    let logits = forward.outputs.ok_or_else(|| Error::Training("a step without an answer".into()))?;
    Ok((states, logits))
}
