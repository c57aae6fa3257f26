//! A custom block in a custom program: layer normalisation (Ba, Kiros and Hinton 2016).
//!
//! ```text
//! y = (x - mean(x)) / √(var(x) + 1e-5) · weight + bias, mean and variance over the features of a sample
//! cargo run --release --example custom_block -- run examples/layer_norm.yaml
//! ```
//!
//! Like every block it can stand anywhere in `model.blocks`, with an interface at its output; its function is differentiated
//! automatically.

use candle_core::{D, Tensor};
use ccdni::nn::blocks::{Block, BlockParameter, BlockPass, Initial};
use ccdni::plugins::Plugin;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Layer normalisation of vectors. The fields are its keys in a block's table; editors show their doc comments.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LayerNorm {
    /// Whether each feature has a factor and a bias of its own, which are learned.
    affine: bool,
}

impl Default for LayerNorm {
    fn default() -> Self {
        LayerNorm { affine: true }
    }
}

impl Plugin for LayerNorm {
    const KIND: &'static str = "layer_norm";
    const ABOUT: &'static str = "Layer normalisation of vectors.";
}

impl Block for LayerNorm {
    fn output(&self, input: &[usize], _: usize) -> Result<Vec<usize>, String> {
        match input {
            [_] => Ok(input.to_vec()),
            _ => Err("expected vectors; add a `flatten` block before it".into()),
        }
    }

    fn parameters(&self, input: &[usize], _: usize) -> Vec<BlockParameter> {
        let parameter = |name, value| {
            let initial = Initial::Constant(value);
            BlockParameter { name, dims: input.to_vec(), initial, learned: true }
        };
        if self.affine { vec![parameter("weight", 1.0), parameter("bias", 0.0)] } else { Vec::new() }
    }

    fn forward(&self, parameters: &[Tensor], x: &Tensor, _: &mut BlockPass<'_>) -> ccdni::Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let y = centred.broadcast_div(&(variance + 1e-5)?.sqrt()?)?;
        match parameters {
            [weight, bias] => Ok(y.broadcast_mul(weight)?.broadcast_add(bias)?),
            _ => Ok(y),
        }
    }
}

fn main() -> std::process::ExitCode {
    ccdni::App::new().block::<LayerNorm>().main()
}
