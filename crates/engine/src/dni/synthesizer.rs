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
    /// Width of a state: the numbers of its trigger.
    pub state: usize,
    /// Width of a prediction: for gradients that of the state.
    pub output: usize,
    /// Channels, height and width, if states are feature maps.
    pub map: Option<[usize; 3]>,
    /// Width of the context, if there is one.
    pub context: Option<usize>,
    /// Whether it learns.
    pub learns: bool,
}

impl Site {
    /// Predicts gradients at vectors of `state` numbers.
    pub fn of_state(state: usize, context: Option<usize>, learns: bool) -> Site {
        Site { state, output: state, map: None, context, learns }
    }

    /// Predicts gradients at messages between two blocks of a network, `[features]` or `[channels, height, width]`.
    pub fn of_message(message: &[usize], context: Option<usize>, learns: bool) -> Site {
        let map = match *message {
            [channels, height, width] => Some([channels, height, width]),
            _ => None,
        };
        Site { map, ..Site::of_state(message.iter().product(), context, learns) }
    }

    /// Predicts such messages from an input of `trigger` numbers.
    pub fn of_trigger(trigger: usize, message: &[usize], context: Option<usize>, learns: bool) -> Site {
        Site { output: message.iter().product(), ..Site::of_state(trigger, context, learns) }
    }
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

/// A synthesizer (`model.layers[].dni`, `model.blocks[].dni`): predicts gradients, or inputs, `S(s, ctx)` from states and an
/// optional context. It does not own its parameters.
pub trait Synthesizer: Debug + Send + Sync {
    /// Its parameters, in order.
    fn parameters(&self, site: Site) -> Vec<ParameterShape>;

    /// States `[rows, state]` and context `[rows, context]` to predictions `[rows, output]`, row by row; differentiable in the
    /// parameters. Where it reads feature maps, states and predictions are `[rows, channels, height, width]`.
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

    /// Whether states and predictions are feature maps, which keep their axes; vectors by default.
    fn reads_maps(&self) -> bool {
        false
    }

    /// Normalises its keys for a place and returns problems, whose keys are relative to the plug-in's table.
    fn normalise(&self, _keys: &mut Keys, _site: Site) -> Vec<Problem> {
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
    /// Threads to divide rows among.
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
    /// The values at states, constants; shapes as in [`Synthesizer::forward`].
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn values(&self, states: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.synthesizer.forward(&self.parameters(), &states.detach(), context)?.detach())
    }

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
        let tracked = self.track(states, context)?;
        let values = tracked.values();
        let pullback = move |cotangent: &Tensor, gradients: &mut Gradients| {
            tracked.pull_back(cotangent)?.iter().try_for_each(|(index, gradient)| gradients.add(*index, gradient))
        };
        Ok(Prediction { values, pullback: Box::new(pullback) })
    }

    /// [`StoredSynthesizer::predict`], with a backward pass that may run on another thread.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn track(self, states: &Tensor, context: Option<&Tensor>) -> Result<Tracked<'a>> {
        let variable = |value: &Tensor| Ok(Var::from_tensor(value)?.into_inner());
        let variables = self.parameters().iter().map(variable).collect::<Result<Vec<Tensor>>>()?;
        let output = self.synthesizer.forward(&variables, &states.detach(), context)?;
        Ok(Tracked { stored: self, variables, output })
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

/// Predictions as a function of the synthesizer's parameters.
pub struct Tracked<'a> {
    stored: StoredSynthesizer<'a>,
    variables: Vec<Tensor>,
    output: Tensor,
}

impl Tracked<'_> {
    /// The predictions, constants.
    pub fn values(&self) -> Tensor {
        self.output.detach()
    }

    /// The gradients of the synthesizer's parameters by their index in the store, given the cotangent of the first rows of the
    /// predictions. The gradients of masked weights are exactly zero.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn pull_back(&self, cotangent: &Tensor) -> Result<Vec<(usize, Tensor)>> {
        let StoredSynthesizer { indices, params, kept, .. } = self.stored;
        let found = (self.output.narrow(0, 0, cotangent.dim(0)?)? * cotangent.detach())?.backward()?;
        let gradient = |(place, (&index, variable)): (usize, (&usize, &Tensor))| {
            let gradient = found.get(variable).ok_or_else(|| {
                let name = &params.get(index).name;
                Error::Training(format!("the predictions of a synthesizer do not depend on its parameter `{name}`"))
            })?;
            match kept {
                Some(kept) if place == 0 => Ok((index, (gradient * kept)?)),
                _ => Ok((index, gradient.clone())),
            }
        };
        indices.iter().zip(&self.variables).enumerate().map(gradient).collect()
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
