//! Synthesizers: small networks that predict the gradient at a state.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use pulp::Arch;

use crate::error::{Error, Problem, Result};
use crate::nn::kernel::{Pool, Threads};
use crate::nn::{Gradients, NewParameter, ParamStore, Part, init};
use crate::plugins::Keys;
use crate::rng::Stream;

/// Where a synthesizer is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// Width of a state, and of its gradient.
    pub state: usize,
    /// Width of the context, if there is one.
    pub context: Option<usize>,
    /// Whether it learns.
    pub learns: bool,
}

/// One parameter of a synthesizer.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterShape {
    /// Its name within the synthesizer: `input_trigger.weight`, `layers.1.bias`.
    pub name: String,
    /// `[out, in]`, or `[out]`.
    pub dims: Vec<usize>,
    /// Initial values are uniform within `±bound`.
    pub bound: f64,
}

/// A synthesizer (`model.layers[].dni`): predicts gradients `S(s, ctx)` from states and an optional context. It does not own
/// its parameters.
pub trait Synthesizer: Debug + Send + Sync {
    /// Its parameters, in order.
    fn parameters(&self, site: Site) -> Vec<ParameterShape>;

    /// States `[rows, state]` and context `[rows, context]` to predicted gradients `[rows, state]`, row by row;
    /// differentiable in the parameters.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn forward(&self, parameters: &[Tensor], states: &Tensor, context: Option<&Tensor>) -> Result<Tensor>;

    /// Activity of its hidden layers, `[rows, units]` each, for recordings.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn activity(&self, _parameters: &[Tensor], _states: &Tensor, _context: Option<&Tensor>) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }

    /// Inputs that each unit of the first parameter, `[units, state]`, keeps (mossy fibres); the other weights are fixed at
    /// zero. All by default.
    fn fibres(&self) -> Option<usize> {
        None
    }

    /// Normalises its keys for a state of this width and returns problems, whose keys are relative to the plug-in's table.
    fn normalise(&self, _keys: &mut Keys, _state: usize, _learns: bool) -> Vec<Problem> {
        Vec::new()
    }

    /// A fast path on slices on the CPU, if there is one: equal to [`StoredSynthesizer::predict`] up to rounding.
    fn fused<'a>(
        &'a self,
        _stored: StoredSynthesizer<'a>,
        _cpu: Cpu<'a>,
        _states: &Tensor,
        _context: Option<&Tensor>,
    ) -> Option<Result<Prediction<'a>>> {
        None
    }
}

/// The resources of fast paths.
#[derive(Clone, Copy)]
pub struct Cpu<'a> {
    /// The instructions of this processor.
    pub arch: Arch,
    /// Threads for matrix products.
    pub threads: Threads,
    /// Buffers, reused between calls.
    pub buffers: &'a Pool<Vec<f32>>,
}

/// Synthetic gradients, and the backward pass to the synthesizer's parameters.
pub struct Prediction<'a> {
    /// Predicted gradients, `[rows, state]`; constants.
    pub values: Tensor,
    /// The backward pass.
    pub pullback: PredictionPullback<'a>,
}

/// Adds the gradients of a synthesizer's parameters, given the cotangent of the first rows of its output, `[rows, state]`.
/// The gradients of masked weights are exactly zero.
pub type PredictionPullback<'a> = Box<dyn FnOnce(&Tensor, &mut Gradients) -> Result<()> + 'a>;

/// A synthesizer with its parameters in a store.
#[derive(Clone, Copy)]
pub struct StoredSynthesizer<'a> {
    /// The synthesizer.
    pub synthesizer: &'a Arc<dyn Synthesizer>,
    /// Where it is used.
    pub site: Site,
    /// The store.
    pub params: &'a ParamStore,
    /// Indices of its parameters there, in the order of [`Synthesizer::parameters`].
    pub indices: &'a [usize],
    /// The fibre mask of its first parameter: 1 for weights that exist, 0 for others; all exist by default.
    pub kept: Option<&'a Tensor>,
}

impl<'a> StoredSynthesizer<'a> {
    /// The parameters; they share memory with the store.
    pub fn parameters(&self) -> Vec<Tensor> {
        self.indices.iter().map(|&index| self.params.get(index).value().clone()).collect()
    }

    /// Predicts the gradients at states `[rows, state]` with context `[rows, context]` by tensor operations, on any device.
    /// The states are detached: no gradient flows into them through the synthesizer.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn predict(self, states: &Tensor, context: Option<&Tensor>) -> Result<Prediction<'a>> {
        let variable = |value: &Tensor| Ok(Var::from_tensor(value)?.into_inner());
        let variables = self.parameters().iter().map(variable).collect::<Result<Vec<Tensor>>>()?;
        let tracked = self.synthesizer.forward(&variables, &states.detach(), context)?;
        let values = tracked.detach();
        let pullback = move |cotangent: &Tensor, gradients: &mut Gradients| {
            let found = (tracked.narrow(0, 0, cotangent.dim(0)?)? * cotangent.detach())?.backward()?;
            for (place, (&index, variable)) in self.indices.iter().zip(&variables).enumerate() {
                let gradient = found.get(variable).ok_or_else(|| {
                    let name = &self.params.get(index).name;
                    Error::Training(format!("the predictions of a synthesizer do not depend on its parameter `{name}`"))
                })?;
                match self.kept {
                    Some(kept) if place == 0 => gradients.add(index, &(gradient * kept)?)?,
                    _ => gradients.add(index, gradient)?,
                }
            }
            Ok(())
        };
        Ok(Prediction { values, pullback: Box::new(pullback) })
    }

    /// [`StoredSynthesizer::predict`] by the synthesizer's fast path, if it has one.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn predict_on_cpu(self, cpu: Cpu<'a>, states: &Tensor, context: Option<&Tensor>) -> Result<Prediction<'a>> {
        let fused = self.synthesizer.fused(self, cpu, states, context);
        fused.unwrap_or_else(|| self.predict(states, context))
    }
}

/// A store of the initial parameters of a synthesizer alone, in the order of [`Synthesizer::parameters`]; `stream` returns
/// the random stream for a parameter's name.
///
/// # Errors
/// Fails if they cannot be allocated.
pub fn initial_parameters(
    synthesizer: &dyn Synthesizer,
    site: Site,
    stream: impl Fn(&str) -> Stream,
    device: &Device,
) -> Result<ParamStore> {
    let parameter = |ParameterShape { name, dims, bound }: ParameterShape| {
        let count = dims.iter().product();
        let values = match bound {
            0.0 => vec![0.0; count],
            bound => init::uniform(&mut stream(&name), count, bound),
        };
        let value = Tensor::from_vec(values, dims, device)?;
        Ok(NewParameter { role: name.clone(), name, part: Part::Synthesizer(0), value })
    };
    ParamStore::new(synthesizer.parameters(site).into_iter().map(parameter).collect::<Result<_>>()?, device)
}
