//! The convolutional synthesizer, for feature maps.

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::mlp::InitLast;
use super::{ParameterShape, Site, Synthesizer};
use crate::error::{Error, Problem, Result};
use crate::nn::{Linear, conv2d, relu};
use crate::plugins::{Keys, Plugin};

/// `S(x, ctx) = output(relu(hidden(relu(input_trigger(x) [+ input_context(ctx)]))))`: three convolutions that keep channels, height
/// and width; the context is added at every pixel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvSynthesizer {
    /// Width and height of the kernels, in pixels; odd.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 255))]
    pub kernel: usize,
    /// Initial values of the last convolution's weight: `zero` where the synthesizer learns, `uniform` where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_last: Option<InitLast>,
    /// Initial values of its bias; as its weight by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_last_bias: Option<InitLast>,
}

fn five() -> usize {
    5
}

impl Plugin for ConvSynthesizer {
    const KIND: &'static str = "conv";
    const ABOUT: &'static str = "three convolutions, for feature maps";

    fn check(&self) -> Vec<Problem> {
        let even = self.kernel.is_multiple_of(2);
        let problem = Problem::new("kernel", "expected an odd number, so that predictions are as large as the map");
        even.then(|| problem.help("for example 3 or 5")).into_iter().collect()
    }
}

impl ConvSynthesizer {
    fn init_last(&self, learns: bool) -> InitLast {
        self.init_last.unwrap_or(if learns { InitLast::Zero } else { InitLast::Uniform })
    }
}

impl Synthesizer for ConvSynthesizer {
    /// Weight and bias of `input_trigger`, `input_context` (a linear layer), `hidden` and `output`: uniform within `±1/√fan_in`, as in
    /// PyTorch.
    fn parameters(&self, site: Site) -> Vec<ParameterShape> {
        let channels = site.map.map_or(1, |[channels, ..]| channels);
        let of_weight = self.init_last(site.learns);
        let of_bias = self.init_last_bias.unwrap_or(of_weight);
        let kernel = vec![channels, channels, self.kernel, self.kernel];
        let mut layers = vec![("input_trigger", kernel.clone())];
        layers.extend(site.context.map(|context| ("input_context", vec![channels, context])));
        layers.extend([("hidden", kernel.clone()), ("output", kernel)]);
        let shapes = layers.into_iter().flat_map(|(name, weight)| {
            let fan_in: usize = weight[1..].iter().product();
            let parts = [("weight", weight, of_weight), ("bias", vec![channels], of_bias)];
            parts.map(|(part, dims, init)| ParameterShape {
                name: format!("{name}.{part}"),
                dims,
                bound: if name == "output" && init == InitLast::Zero { 0.0 } else { 1.0 / (fan_in as f64).sqrt() },
            })
        });
        shapes.collect()
    }

    fn forward(&self, parameters: &[Tensor], states: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let expected = 6 + 2 * usize::from(context.is_some());
        if parameters.len() != expected {
            let found = parameters.len();
            return Err(Error::Training(format!("expected {expected} synthesizer parameters, got {found}")));
        }
        let channels = states.dim(1)?;
        let convolve = |x: &Tensor, place: usize| -> Result<Tensor> {
            let bias = parameters[place + 1].reshape((1, channels, 1, 1))?;
            Ok(conv2d(x, &parameters[place], 1, self.kernel / 2)?.broadcast_add(&bias)?)
        };
        let mut v = convolve(states, 0)?;
        if let Some(context) = context {
            let layer = Linear { weight: parameters[2].clone(), bias: parameters[3].clone() };
            v = v.broadcast_add(&layer.forward(context)?.reshape((context.dim(0)?, channels, 1, 1))?)?;
        }
        convolve(&relu(&convolve(&relu(&v)?, expected - 4)?)?, expected - 2)
    }

    fn reads_maps(&self) -> bool {
        true
    }

    fn normalise(&self, keys: &mut Keys, site: Site) -> Vec<Problem> {
        keys.insert("init_last".into(), json!(self.init_last(site.learns)));
        if self.init_last_bias == Some(self.init_last(site.learns)) {
            keys.remove("init_last_bias");
        }
        let mut problems = Vec::new();
        if site.map.is_none() || site.output != site.state {
            let message =
                "the synthesizer `conv` predicts feature maps from maps of the same shape, and there are vectors here";
            problems.push(Problem::new("kind", message).help("use `kind: mlp`"));
        }
        if !site.learns && self.init_last == Some(InitLast::Zero) && self.init_last_bias != Some(InitLast::Uniform) {
            let message = "a synthesizer that starts at zero and does not learn always predicts zero";
            let help = "leave `init_last` out (`uniform` for a fixed synthesizer), or let it learn";
            problems.push(Problem::new("init_last", message).help(help));
        }
        problems
    }
}
