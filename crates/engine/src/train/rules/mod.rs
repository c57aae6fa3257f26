//! Learning rules: how the parameters of a network receive their gradients.
//!
//! Backpropagation through time ([`Bptt`]) is the engine's ([`super::engine`]). All other rules go forward in time: after each
//! step they add to the gradients what they know of it, and keep what they will need of the past in traces. They are defined
//! for one recurrent layer and a linear readout; what they have in common is in `online.rs`, and each rule is a file.
//!
//! With `d` the gradient of a step's loss at the outputs, the *credit* `q = d W_out` is the gradient at the layer's output `h`
//! of that step. A rule turns credit into a gradient of the recurrent weights, `[gates · hidden, hidden + inputs + 1]`.

mod bp_lambda;
mod dni;
mod eprop;
mod kernl;
mod network;
mod online;
mod rflo;
mod rtrl;
mod uoro;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Debug;

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use bp_lambda::BpLambda;
pub use dni::OnlineDni;
pub use eprop::EProp;
pub use kernl::Kernl;
pub use network::{Forward, Network, Sizes, Slopes};
pub use online::{Errors, Online, Sequence, WindowEnd};
pub use rflo::Rflo;
pub use rtrl::Rtrl;
pub use uoro::Uoro;

use super::engine::Role;
use crate::error::{Error, Result};
use crate::nn::{Gradients, ParamStore};
use crate::plugins::{Kinds, Plugin};
use crate::rng::Stream;
use crate::spec::task_shape::RuleCells as Cells;
use crate::spec::{RuleSpec, RuleVariant};

/// The rules of this crate.
pub fn built_in() -> Kinds<dyn LearningRule> {
    let mut rules = Kinds::<dyn LearningRule>::new::<RuleSpec>("learning rule");
    rules.register::<Bptt>(|rule| Box::new(rule));
    rules.register::<BpLambda>(|rule| Box::new(rule));
    rules.register::<Rtrl>(|rule| Box::new(rule));
    rules.register::<Uoro>(|rule| Box::new(rule));
    rules.register::<Rflo>(|rule| Box::new(rule));
    rules.register::<EProp>(|rule| Box::new(rule));
    rules.register::<Kernl>(|rule| Box::new(rule));
    rules.register::<OnlineDni>(|rule| Box::new(rule));
    rules
}

/// A learning rule (`train.rule`).
pub trait LearningRule: Debug + Send + Sync {
    /// The cells that it is defined for.
    fn cells(&self, variant: RuleVariant) -> Cells;

    /// Whether it learns with the layer's synthesizer (`dni`), which no other rule than `bptt` may have.
    fn has_synthesizer(&self) -> bool {
        false
    }

    /// Whether the synthesizer predicts gradients at the state at a window's start, so that they can be recorded.
    fn predicts_at_state(&self) -> bool {
        self.has_synthesizer()
    }

    /// Whether its gradients are random.
    fn is_stochastic(&self) -> bool {
        false
    }

    /// The rule at its start; `None` for backpropagation through time, which the engine does.
    ///
    /// # Errors
    /// Fails if the rule is not defined for the network.
    fn open(&self, site: &Site<'_>) -> Result<Option<Box<dyn Learner>>>;
}

/// Where a rule is used.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The network.
    pub sizes: Sizes,
    /// Exact, or as published.
    pub variant: RuleVariant,
    /// The synthesizer's parameters, in pairs of weight and bias, and the factor on its predictions.
    pub synthesizer: Option<(&'a [usize], f64)>,
}

/// How losses and gradients are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// The gradients of the losses that the engine trains on.
    Exact,
    /// Sums over steps and half squared errors, with one bias.
    Published,
    /// The same, with the readout's gradients averaged over the steps that carry a target.
    PublishedAveraged,
}

impl Scaling {
    /// Whether it is that of the published codes.
    pub fn is_published(self) -> bool {
        self != Scaling::Exact
    }
}

/// A rule in use: its traces, and the parameters of its own.
pub trait Learner {
    /// How losses and gradients are scaled under a variant.
    fn scaling(&self, variant: RuleVariant) -> Scaling {
        match variant {
            RuleVariant::Exact => Scaling::Exact,
            RuleVariant::Published => Scaling::Published,
        }
    }

    /// Starts sequences, after [`Learner::load`]: all traces as before the first step. `state` is `[rows, parts · hidden]`.
    fn begin(&mut self, rows: usize, state: &[f32], noise: &mut dyn Noise);

    /// Takes over parameters that may have changed since the last step.
    ///
    /// # Errors
    /// Fails if they are not on the CPU.
    fn load(&mut self, _params: &ParamStore) -> Result<()> {
        Ok(())
    }

    /// One step: updates the traces and adds to the gradient of the recurrent weights, `[gates · hidden, width]`. Returns
    /// whether it added anything.
    ///
    /// # Errors
    /// Fails if parameters of its own cannot be changed.
    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool>;

    /// Adds the gradients of parameters other than the recurrent weights since the last call, or changes those that the rule
    /// updates by itself.
    ///
    /// # Errors
    /// Fails if they are not on the CPU.
    fn finish(&mut self, _params: &ParamStore, _gradients: &mut Gradients) -> Result<()> {
        Ok(())
    }

    /// The synthetic gradient at a state, `[rows, parts · hidden]`, if the rule has a synthesizer.
    fn synthetic(&self, _state: &[f32]) -> Option<Vec<f32>> {
        None
    }

    /// Traces and own parameters by name, with their shapes: what a checkpoint needs.
    fn state(&self) -> Vec<Stored>;

    /// Restores [`Learner::state`], or parts of it.
    ///
    /// # Errors
    /// Fails if a value does not fit.
    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()>;
}

/// One step, as a rule sees it. Rows are sequences.
pub struct Step<'a> {
    /// The network with its present weights.
    pub network: &'a Network,
    /// Index of the step in its sequence.
    pub index: usize,
    /// The input, `[rows, inputs]`.
    pub input: &'a [f32],
    /// The state before the step, `[rows, parts · hidden]`.
    pub before: &'a [f32],
    /// What the step computed.
    pub forward: &'a Forward,
    /// The gradient of the step's loss at `h`, `[rows, hidden]`; `None` without a target.
    pub credit: Option<&'a [f32]>,
    /// The target of the step as numbers, `[rows, outputs]`; classes are one-hot.
    pub target: &'a dyn Fn() -> Result<Vec<f32>>,
    /// Whether no step follows in the sequence.
    pub is_last: bool,
    /// What the synthesizer does in this epoch.
    pub role: Role,
    /// Random numbers.
    pub noise: &'a mut dyn Noise,
}

impl Step<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.forward.slopes.rows()
    }
}

/// A source of random numbers.
pub trait Noise {
    /// Signs: 1 or -1, equally likely.
    fn signs(&mut self, out: &mut [f32]);
    /// Standard normal numbers.
    fn normals(&mut self, out: &mut [f32]);
}

impl Noise for Stream {
    fn signs(&mut self, out: &mut [f32]) {
        out.iter_mut().for_each(|sign| *sign = if self.below(2) == 0 { -1.0 } else { 1.0 });
    }

    fn normals(&mut self, out: &mut [f32]) {
        out.iter_mut().for_each(|number| *number = self.normal());
    }
}

/// A tensor of a rule's state: name, shape and values.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its name.
    pub name: &'static str,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its values, each exact as f64.
    pub values: Vec<f64>,
}

impl Stored {
    /// From f32 values.
    pub fn new(name: &'static str, dims: &[usize], values: &[f32]) -> Stored {
        Stored { name, dims: dims.to_vec(), values: values.iter().map(|&value| value.into()).collect() }
    }

    /// As a tensor of f64.
    ///
    /// # Errors
    /// Fails if the shape has another number of elements.
    pub fn tensor(&self) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.values, self.dims.as_slice(), &Device::Cpu)?)
    }
}

/// Copies a stored tensor, if there is one of this name.
///
/// # Errors
/// Fails on a tensor error.
pub fn restore_to<T: candle_core::WithDType>(
    stored: &HashMap<String, Tensor>,
    name: &str,
    to: &mut Vec<T>,
) -> Result<()> {
    if let Some(tensor) = stored.get(name) {
        *to = tensor.to_dtype(T::DTYPE)?.flatten_all()?.to_vec1()?;
    }
    Ok(())
}

/// Backpropagation through time, in windows (`train.bptt`) and with synthetic gradients (`dni`) where the spec has them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bptt {}

impl Plugin for Bptt {
    const KIND: &'static str = "bptt";
    const ABOUT: &'static str = "backpropagation through time, in windows";
}

impl LearningRule for Bptt {
    fn cells(&self, _variant: RuleVariant) -> Cells {
        Cells::All
    }

    fn open(&self, _site: &Site<'_>) -> Result<Option<Box<dyn Learner>>> {
        Ok(None)
    }
}

/// The error for traces that do not belong to the network.
pub fn misfit(name: &str) -> Error {
    Error::Training(format!("the stored `{name}` of the learning rule does not fit the network"))
}
