//! Optimizers and their state.
//!
//! candle's own optimizers keep their state private, so it could not be checkpointed. A parameter without a gradient is not
//! stepped: its moments and step count stay.
//!
//! A rule (`adam.rs`, `sgd.rs`, ...) is written once; `rule.rs` applies it in place on the CPU and by tensor operations
//! elsewhere, with identical bits on the CPU. Operations are in PyTorch's order. The state is a flat tensor like the
//! parameters, so that a step is one pass over adjacent parameters with the same step count.

mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod rmsprop;
mod rule;
mod sgd;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

pub use self::adadelta::Adadelta;
pub use self::adagrad::Adagrad;
pub use self::adam::{Adam, AdamKeys, AdamW};
pub use self::adamax::Adamax;
pub use self::rmsprop::RmsProp;
pub use self::rule::{Number, OptimizerRule, Slots, Step, UpdateRule};
pub use self::sgd::Sgd;
use crate::error::{Error, Result};
use crate::nn::kernel::{PASS, Threads, cut};
use crate::nn::{Gradients, ParamStore, reads_are_deferred, slices};
use crate::plugins::Kinds;
use crate::spec::PluginTable;

/// The built-in rules.
pub fn built_in() -> Kinds<dyn OptimizerRule> {
    let mut rules = Kinds::<dyn OptimizerRule>::new::<PluginTable>("optimizer");
    rules.register::<Adam>(|rule| Box::new(rule));
    rules.register::<AdamW>(|rule| Box::new(rule));
    rules.register::<Adamax>(|rule| Box::new(rule));
    rules.register::<RmsProp>(|rule| Box::new(rule));
    rules.register::<Sgd>(|rule| Box::new(rule));
    rules.register::<Adagrad>(|rule| Box::new(rule));
    rules.register::<Adadelta>(|rule| Box::new(rule));
    rules
}

/// An optimizer over the parameters of one store.
pub struct Optimizer {
    rule: Arc<dyn OptimizerRule>,
    lr: f64,
    /// Per parameter, the number of steps made.
    steps: Vec<u64>,
    /// Each parameter's range in the flat tensor, and its shape.
    places: Vec<(Range<usize>, Vec<usize>)>,
    /// The rule's slots, concatenated, each laid out as [`ParamStore::flat`].
    slots: Tensor,
    /// Length of a slot.
    numbers: usize,
}

/// The part of the state that is not a tensor.
#[derive(Serialize, Deserialize)]
struct Progress {
    lr: f64,
    steps: Vec<u64>,
}

/// Adjacent parameters with the same step count.
#[derive(Debug, PartialEq)]
struct Run {
    range: Range<usize>,
    step: Step,
}

impl Optimizer {
    /// An optimizer for the parameters of a store, before their first step.
    ///
    /// # Errors
    /// Fails if its state cannot be allocated.
    pub fn new(rule: Box<dyn OptimizerRule>, params: &ParamStore) -> Result<Self> {
        Optimizer::with(rule.into(), params)
    }

    fn with(rule: Arc<dyn OptimizerRule>, params: &ParamStore) -> Result<Self> {
        let places = params.iter().enumerate().map(|(index, p)| (params.range(index), p.dims().to_vec())).collect();
        let numbers = params.flat().elem_count();
        // Drivers refuse empty allocations.
        let slots = Tensor::zeros((rule.slot_names().len() * numbers).max(1), DType::F32, params.flat().device())?;
        Ok(Optimizer { lr: rule.initial_lr(), rule, steps: vec![0; params.len()], places, slots, numbers })
    }

    /// The same rule for the parameters of another store, before their first step.
    ///
    /// # Errors
    /// As [`Optimizer::new`].
    pub fn of_store(&self, params: &ParamStore) -> Result<Self> {
        Optimizer::with(self.rule.clone(), params)
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Sets the learning rate.
    pub fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    /// Steps every parameter that has a gradient and a coefficient, by which the gradient is multiplied first (clipping).
    ///
    /// # Errors
    /// Fails if parameters and gradients belong to different stores.
    pub fn step(&mut self, params: &ParamStore, gradients: &Gradients, coefficients: &[Option<f64>]) -> Result<()> {
        self.check_count(params.len())?;
        self.check_count(coefficients.len())?;
        let mut runs: Vec<Run> = Vec::new();
        for (index, (range, _)) in self.places.iter().enumerate() {
            let (true, Some(coefficient)) = (gradients.present()[index], coefficients[index]) else { continue };
            self.steps[index] += 1;
            let step = Step { lr: self.lr, t: self.steps[index], coefficient };
            match runs.last_mut() {
                Some(run) if (run.range.end, run.step) == (range.start, step) => run.range.end = range.end,
                _ => runs.push(Run { range: range.clone(), step }),
            }
        }
        for run in runs {
            match reads_are_deferred(params.flat().device()) {
                true => self.step_by_tensors(params, gradients, &run)?,
                false => self.step_in_place(params, gradients, &run)?,
            }
        }
        Ok(())
    }

    fn step_in_place(&self, params: &ParamStore, gradients: &Gradients, Run { range, step }: &Run) -> Result<()> {
        let gradient = &slices::read(gradients.flat())?[range.clone()];
        slices::write(params.flat(), |p| {
            slices::write(&self.slots, |slots| {
                let threads = Threads::of_pool();
                let parts = threads.parts(range.len(), range.len() * 2 * PASS);
                let mut of_parts: Vec<Vec<&mut [f32]>> = parts.iter().map(|_| Vec::new()).collect();
                for slot in slots.chunks_exact_mut(self.numbers) {
                    of_parts
                        .iter_mut()
                        .zip(cut(&mut slot[range.clone()], 1, &parts))
                        .for_each(|(of, part)| of.push(part));
                }
                let parts = parts.iter().zip(cut(&mut p[range.clone()], 1, &parts)).zip(of_parts);
                threads.each(parts, |((part, p), slots)| {
                    self.rule.step_in_place(*step, p, &gradient[part.clone()], slots);
                });
            })
        })?
    }

    fn step_by_tensors(&self, params: &ParamStore, gradients: &Gradients, Run { range, step }: &Run) -> Result<()> {
        let here = |flat: &Tensor, start: usize| flat.narrow(0, start, range.len());
        let starts = || (0..self.rule.slot_names().len()).map(|slot| slot * self.numbers + range.start);
        let slots = starts().map(|start| here(&self.slots, start)).collect::<Result<Vec<_>, _>>()?;
        let (p, gradient) = (here(params.flat(), range.start)?, here(gradients.flat(), range.start)?);
        let (stepped, kept) = self.rule.step_by_tensors(*step, &p, &gradient, &slots)?;
        params.flat().slice_set(&stepped, 0, range.start)?;
        for (start, kept) in starts().zip(&kept) {
            self.slots.slice_set(kept, 0, start)?;
        }
        Ok(())
    }

    /// The state, on the CPU: tensors `optimizer.<slot>.<parameter>`, and the learning rate and step counts.
    ///
    /// `names` are the parameters', in the order of their indices. A parameter without steps has no tensors.
    ///
    /// # Errors
    /// Fails if the number of names is wrong.
    pub fn state(&self, names: &[String]) -> Result<(Vec<(String, Tensor)>, serde_json::Value)> {
        self.check_count(names.len())?;
        let mut tensors = Vec::new();
        let slots = self.slots.to_device(&Device::Cpu)?;
        for ((name, (range, dims)), &steps) in names.iter().zip(&self.places).zip(&self.steps) {
            for (slot, key) in self.rule.slot_names().iter().enumerate().filter(|_| steps > 0) {
                let value =
                    slots.narrow(0, slot * self.numbers + range.start, range.len())?.reshape(dims.as_slice())?;
                tensors.push((tensor_name(key, name), value.force_contiguous()?));
            }
        }
        let progress = Progress { lr: self.lr, steps: self.steps.clone() };
        let progress = serde_json::to_value(progress).map_err(|error| damaged(error.to_string()))?;
        Ok((tensors, progress))
    }

    /// Restores [`Self::state`]; `tensors` may contain others.
    ///
    /// # Errors
    /// Fails, without any change, if the state is of other parameters or of another rule.
    pub fn restore(
        &mut self,
        names: &[String],
        tensors: &HashMap<String, Tensor>,
        value: &serde_json::Value,
    ) -> Result<()> {
        self.check_count(names.len())?;
        let progress = Progress::deserialize(value).map_err(|error| damaged(error.to_string()))?;
        self.check_count(progress.steps.len())?;
        let slots = self.slots.zeros_like()?;
        for ((name, &steps), (range, dims)) in names.iter().zip(&progress.steps).zip(&self.places) {
            for (slot, key) in self.rule.slot_names().iter().enumerate().filter(|_| steps > 0) {
                let key = tensor_name(key, name);
                let value = tensors.get(&key).ok_or_else(|| damaged(format!("`{key}` is missing")))?;
                if value.dims() != dims {
                    return Err(damaged(format!("`{key}` has shape {:?}, not {dims:?}", value.dims())));
                }
                let value = value.to_device(slots.device())?.flatten_all()?.contiguous()?;
                slots.slice_set(&value, 0, slot * self.numbers + range.start)?;
            }
        }
        self.lr = progress.lr;
        self.steps = progress.steps;
        self.slots = slots;
        Ok(())
    }

    fn check_count(&self, count: usize) -> Result<()> {
        if count == self.steps.len() {
            return Ok(());
        }
        Err(damaged(format!("it has {count} parameters, the model {}", self.steps.len())))
    }
}

fn tensor_name(slot: &str, parameter: &str) -> String {
    format!("optimizer.{slot}.{parameter}")
}

fn damaged(what: String) -> Error {
    Error::Training(format!("the optimizer's state does not fit: {what}"))
}

/// Bias correction of a running mean after `t` steps: `1 − decayᵗ`.
fn bias_correction(decay: f64, t: u64) -> f64 {
    1.0 - decay.powf(t as f64)
}

fn default_lr() -> f64 {
    1e-3
}
fn default_momentum() -> f64 {
    0.9
}
