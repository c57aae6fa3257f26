//! The multilayer perceptron, the synthesizer of Jaderberg et al. 2017 and of Boven, Pemberton et al. 2023.

mod kernels;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Cpu, ParameterShape, Prediction, Site, StoredSynthesizer, Synthesizer};
use crate::error::{Error, Problem, Result};
use crate::nn::{Linear, relu};
use crate::plugins::{Keys, Plugin};

/// `S(s, ctx)`: `v₀ = trigger(s) [+ context(ctx)]`, then `v_{k+1} = layers[k](relu(v_k))`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Sizes of its hidden layers; an empty list is a linear synthesizer.
    #[serde(default)]
    #[schemars(inner(range(min = 1, max = 1_000_000)))]
    pub hidden: Vec<usize>,
    /// Inputs that each unit of the first layer keeps (mossy fibres); all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub fibres: Option<usize>,
    /// Initial values of the last layer's weight: `zero` where the synthesizer learns, `uniform` where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_last: Option<InitLast>,
    /// Initial values of the last layer's bias; as its weight by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_last_bias: Option<InitLast>,
}

/// Initial values of the synthesizer's last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitLast {
    /// Zero: with weight and bias zero the synthesizer starts silent.
    Zero,
    /// As every other layer.
    Uniform,
}

impl Plugin for Mlp {
    const KIND: &'static str = "mlp";
    const ABOUT: &'static str = "a multilayer perceptron with rectified units";
}

impl Mlp {
    /// The initial values of the last layer, with the default resolved.
    fn init_last(&self, learns: bool) -> InitLast {
        self.init_last.unwrap_or(if learns { InitLast::Zero } else { InitLast::Uniform })
    }

    /// Width of the first layer.
    fn first(&self, site: Site) -> usize {
        self.hidden.first().copied().unwrap_or(site.output)
    }

    /// The output, and the activity `relu(v_k)` of every hidden layer.
    fn trace(&self, parameters: &[Tensor], states: &Tensor, context: Option<&Tensor>) -> Result<(Tensor, Vec<Tensor>)> {
        let expected = 2 * (1 + usize::from(context.is_some()) + self.hidden.len());
        if parameters.len() != expected {
            let found = parameters.len();
            return Err(Error::Training(format!("expected {expected} synthesizer parameters, got {found}")));
        }
        let mut layers =
            parameters.chunks_exact(2).map(|pair| Linear { weight: pair[0].clone(), bias: pair[1].clone() });
        let mut next = || layers.next().ok_or_else(|| Error::Training("a synthesizer without parameters".into()));
        let mut v = next()?.forward(states)?;
        if let Some(context) = context {
            v = (v + next()?.forward(context)?)?;
        }
        let mut activity = Vec::new();
        for layer in layers {
            let hidden = relu(&v)?;
            v = layer.forward(&hidden)?;
            activity.push(hidden);
        }
        Ok((v, activity))
    }
}

impl Synthesizer for Mlp {
    /// Weight and bias of `input_trigger`, `input_context`, `layers.0`, `layers.1`, ...: uniform within `±1/√fan_in`, as in
    /// PyTorch's linear layers.
    fn parameters(&self, site: Site) -> Vec<ParameterShape> {
        let (first, linear) = (self.first(site), self.hidden.is_empty());
        let mut layers = vec![("input_trigger".to_string(), site.state, first, linear)];
        layers.extend(site.context.map(|context| ("input_context".to_string(), context, first, linear)));
        for (k, &inputs) in self.hidden.iter().enumerate() {
            let out = self.hidden.get(k + 1).copied().unwrap_or(site.output);
            layers.push((format!("layers.{k}"), inputs, out, k + 1 == self.hidden.len()));
        }
        let of_weight = self.init_last(site.learns);
        let of_bias = self.init_last_bias.unwrap_or(of_weight);
        let shapes = layers.into_iter().flat_map(|(name, inputs, out, last)| {
            let parts = [("weight", vec![out, inputs], of_weight), ("bias", vec![out], of_bias)];
            parts.map(|(part, dims, init)| ParameterShape {
                name: format!("{name}.{part}"),
                dims,
                bound: if last && init == InitLast::Zero { 0.0 } else { 1.0 / (inputs as f64).sqrt() },
            })
        });
        shapes.collect()
    }

    fn forward(&self, parameters: &[Tensor], states: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.trace(parameters, states, context)?.0)
    }

    fn activity(&self, parameters: &[Tensor], states: &Tensor, context: Option<&Tensor>) -> Result<Vec<Tensor>> {
        Ok(self.trace(parameters, states, context)?.1)
    }

    fn fibres(&self) -> Option<usize> {
        self.fibres
    }

    fn normalise(&self, keys: &mut Keys, site: Site) -> Vec<Problem> {
        let Site { state, learns, .. } = site;
        if self.fibres == Some(state) {
            keys.remove("fibres");
        }
        keys.insert("init_last".into(), json!(self.init_last(learns)));
        if self.init_last_bias == Some(self.init_last(learns)) {
            keys.remove("init_last_bias");
        }
        let mut problems = Vec::new();
        if self.fibres.is_some_and(|fibres| fibres > state) {
            let message =
                format!("expected at most {state}: the synthesizer has as many inputs as the layer's state is wide");
            problems.push(Problem::new("fibres", message).help("leave `fibres` out to keep all inputs"));
        }
        if !learns && self.init_last == Some(InitLast::Zero) && self.init_last_bias != Some(InitLast::Uniform) {
            let message = "a synthesizer that starts at zero and does not learn always predicts zero";
            let help = "leave `init_last` out (`uniform` for a fixed synthesizer), or let it learn";
            problems.push(Problem::new("init_last", message).help(help));
        }
        problems
    }

    fn fused<'a>(
        &'a self,
        stored: StoredSynthesizer<'a>,
        cpu: Cpu<'a>,
        states: &Tensor,
        context: Option<&Tensor>,
    ) -> Option<Result<Prediction<'a>>> {
        Some(kernels::predict(self, stored, cpu, states, context))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::initial_parameters;
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn parameters_are_named_and_shaped_as_documented() {
        let mlp = Mlp { hidden: vec![6, 5], ..Mlp::default() };
        let shapes = mlp.parameters(Site::of_state(4, Some(3), true));
        let listed: Vec<_> = shapes.iter().map(|p| (p.name.as_str(), p.dims.as_slice(), p.bound == 0.0)).collect();
        assert_eq!(listed[0], ("input_trigger.weight", &[6, 4][..], false));
        assert_eq!(listed[2], ("input_context.weight", &[6, 3][..], false));
        assert_eq!(listed[4], ("layers.0.weight", &[5, 6][..], false));
        assert_eq!(listed[7], ("layers.1.bias", &[4][..], true));
    }

    #[test]
    fn a_synthesizer_that_learns_starts_at_zero() -> Result<()> {
        for hidden in [vec![], vec![7], vec![7, 3]] {
            let mlp = Mlp { hidden, ..Mlp::default() };
            let site = Site::of_state(4, None, true);
            let params = initial_parameters(&mlp, site, |name| Stream::new(1, name, 0, 0), &Device::Cpu)?;
            let parameters: Vec<Tensor> = params.iter().map(|parameter| parameter.value().clone()).collect();
            let out = mlp.forward(&parameters, &Tensor::new(&[[1f32, -2., 3., 4.]], &Device::Cpu)?, None)?;
            assert_eq!(out.to_vec2::<f32>()?, [[0.0; 4]]);
        }
        Ok(())
    }
}
