//! The synthesizer: a small network from a state to the gradient that will arrive at it.

use candle_core::{Device, Tensor, Var};

use crate::error::{Error, Result};
use crate::nn::{Linear, init, relu};
use crate::rng::Stream;

/// Sizes of a synthesizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynthesizerShape {
    /// Width of a state, and so of a gradient.
    pub state: usize,
    /// Sizes of the hidden layers; none is a linear synthesizer.
    pub hidden: Vec<usize>,
    /// Width of the context, if it sees one.
    pub context: Option<usize>,
}

/// One parameter of a synthesizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterShape {
    /// Its name below the synthesizer: `input_trigger.weight`, `layers.1.bias`.
    pub name: String,
    /// `[out, in]`, or `[out]`.
    pub dims: Vec<usize>,
    /// Inputs of the layer it belongs to.
    pub fan_in: usize,
    /// Whether it belongs to the last layer.
    pub last: bool,
}

impl SynthesizerShape {
    /// The parameters, in order: `input_trigger`, `input_context`, `layers.0`, `layers.1`, ..., each weight and bias.
    pub fn parameters(&self) -> Vec<ParameterShape> {
        let first = self.hidden.first().copied().unwrap_or(self.state);
        let linear = self.hidden.is_empty();
        let mut layers = vec![("input_trigger".to_string(), self.state, first, linear)];
        if let Some(context) = self.context {
            layers.push(("input_context".to_string(), context, first, linear));
        }
        for (k, &inputs) in self.hidden.iter().enumerate() {
            let out = self.hidden.get(k + 1).copied().unwrap_or(self.state);
            layers.push((format!("layers.{k}"), inputs, out, k + 1 == self.hidden.len()));
        }
        layers
            .into_iter()
            .flat_map(|(name, inputs, out, last)| {
                [
                    ParameterShape { name: format!("{name}.weight"), dims: vec![out, inputs], fan_in: inputs, last },
                    ParameterShape { name: format!("{name}.bias"), dims: vec![out], fan_in: inputs, last },
                ]
            })
            .collect()
    }
}

/// `S(s, ctx)`: `v₀ = trigger(s) [+ context(ctx)]`, then `v_{k+1} = layers[k](relu(v_k))`.
#[derive(Debug, Clone)]
pub struct Synthesizer {
    /// From the state.
    pub trigger: Linear,
    /// From the context, added before the first rectifier.
    pub context: Option<Linear>,
    /// The layers behind it; none in a linear synthesizer.
    pub layers: Vec<Linear>,
    /// Which weights of the trigger exist (1) and which do not (0), `[out, state]`; all where absent.
    pub kept: Option<Tensor>,
}

impl Synthesizer {
    /// Puts a synthesizer together from its parameters in the order of [`SynthesizerShape::parameters`].
    ///
    /// # Errors
    /// Fails if there are not as many as the shape says.
    pub fn from_parameters(shape: &SynthesizerShape, parameters: &[Tensor], kept: Option<Tensor>) -> Result<Self> {
        let expected = shape.parameters().len();
        if parameters.len() != expected {
            return Err(Error::Training(format!(
                "a synthesizer of this shape has {expected} parameters, not {}",
                parameters.len()
            )));
        }
        let mut layers =
            parameters.chunks_exact(2).map(|pair| Linear { weight: pair[0].clone(), bias: pair[1].clone() });
        let trigger = layers.next().ok_or_else(|| Error::Training("a synthesizer without parameters".into()))?;
        let context = shape.context.and_then(|_| layers.next());
        Ok(Synthesizer { trigger, context, layers: layers.collect(), kept })
    }

    /// Fresh parameters: uniform within `1/√fan_in`, the last layer zero where `silent`.
    ///
    /// `stream` gives the random numbers for a parameter's name and index.
    pub fn random(
        shape: &SynthesizerShape,
        silent: bool,
        stream: &mut dyn FnMut(&str, usize) -> Stream,
        device: &Device,
    ) -> Result<Self> {
        let mut parameters = Vec::new();
        for (index, parameter) in shape.parameters().into_iter().enumerate() {
            let count = parameter.dims.iter().product();
            let values = if silent && parameter.last {
                vec![0.0; count]
            } else {
                init::uniform(&mut stream(&parameter.name, index), count, 1.0 / (parameter.fan_in as f64).sqrt())
            };
            parameters.push(Tensor::from_vec(values, parameter.dims, device)?);
        }
        Synthesizer::from_parameters(shape, &parameters, None)
    }

    /// A copy that can learn: its parameters are variables, which are given too, in the order of
    /// [`SynthesizerShape::parameters`].
    ///
    /// # Errors
    /// Fails if the device has no room for the copy.
    pub fn learning(&self) -> Result<(Synthesizer, Vec<Var>)> {
        let variables: Vec<Var> = self.parameters().into_iter().map(Var::from_tensor).collect::<Result<_, _>>()?;
        let mut copy = self.clone();
        let layers = std::iter::once(&mut copy.trigger).chain(&mut copy.context).chain(&mut copy.layers);
        for (layer, pair) in layers.zip(variables.chunks_exact(2)) {
            *layer = Linear { weight: pair[0].as_tensor().clone(), bias: pair[1].as_tensor().clone() };
        }
        Ok((copy, variables))
    }

    /// The parameters, in the order of [`SynthesizerShape::parameters`].
    pub fn parameters(&self) -> Vec<&Tensor> {
        std::iter::once(&self.trigger)
            .chain(&self.context)
            .chain(&self.layers)
            .flat_map(|layer| [&layer.weight, &layer.bias])
            .collect()
    }

    /// `[rows, state]` and context `[rows, context]` to predicted gradients `[rows, state]`.
    pub fn forward(&self, states: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.trace(states, context)?.0)
    }

    /// As [`Synthesizer::forward`], with the activity `relu(v_k)` of every hidden layer.
    pub fn trace(&self, states: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Vec<Tensor>)> {
        let mut v = self.trigger.forward(states)?;
        match (&self.context, context) {
            (Some(layer), Some(context)) => v = (v + layer.forward(context)?)?,
            (None, None) => {}
            (Some(_), None) => return Err(Error::Training("this synthesizer needs a context".into())),
            (None, Some(_)) => return Err(Error::Training("this synthesizer takes no context".into())),
        }
        let mut activity = Vec::new();
        for layer in &self.layers {
            let hidden = relu(&v)?;
            v = layer.forward(&hidden)?;
            activity.push(hidden);
        }
        Ok((v, activity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_and_shaped_as_documented() {
        let shape = SynthesizerShape { state: 4, hidden: vec![6, 5], context: Some(3) };
        let listed: Vec<_> = shape.parameters().into_iter().map(|p| (p.name, p.dims, p.last)).collect();
        let name = |n: &str| n.to_string();
        assert_eq!(listed[0], (name("input_trigger.weight"), vec![6, 4], false));
        assert_eq!(listed[2], (name("input_context.weight"), vec![6, 3], false));
        assert_eq!(listed[4], (name("layers.0.weight"), vec![5, 6], false));
        assert_eq!(listed[7], (name("layers.1.bias"), vec![4], true));
    }

    #[test]
    fn a_silent_synthesizer_says_nothing() -> Result<()> {
        for hidden in [vec![], vec![7], vec![7, 3]] {
            let shape = SynthesizerShape { state: 4, hidden, context: None };
            let s = Synthesizer::random(&shape, true, &mut |role, _| Stream::new(1, role, 0, 0), &Device::Cpu)?;
            let out = s.forward(&Tensor::new(&[[1f32, -2., 3., 4.]], &Device::Cpu)?, None)?;
            assert_eq!(out.to_vec2::<f32>()?, [[0.0; 4]]);
        }
        Ok(())
    }
}
