//! A custom recurrent cell in a custom program: a leaky rate unit, as in models of cortical networks.
//!
//! ```text
//! h' = (1 - 1/tau) h + φ(W x + U h + b) / tau
//! cargo run --release --example custom_cell -- run examples/leaky_rate.yaml
//! ```
//!
//! It has a step and nothing else. That is enough to train it, on every device and with synthesizers; a closed form and
//! kernels, which make it fast, can be added later.

use candle_core::Tensor;
use ccdni::nn::cells::{Cell, CellWeights, State};
use ccdni::plugins::Plugin;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A leaky rate unit. The fields are its keys in a layer's table; editors show their doc comments.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeakyRate {
    /// Time constant of the leak, in steps.
    #[schemars(range(min = 1.0, max = 1e6))]
    tau: f64,
    /// From the sum of inputs to the rate.
    phi: Phi,
}

/// From the sum of inputs to the rate.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phi {
    /// Rectification.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

impl Default for LeakyRate {
    fn default() -> Self {
        LeakyRate { tau: 2.0, phi: Phi::Relu }
    }
}

impl Plugin for LeakyRate {
    const KIND: &'static str = "leaky_rate";
    const ABOUT: &'static str = "Leaky rate unit with a nonlinearity to choose.";
}

impl Cell for LeakyRate {
    fn gates(&self) -> usize {
        1
    }

    fn step(&self, weights: &CellWeights, input: &Tensor, state: &State) -> ccdni::Result<State> {
        let (of_input, of_state) = weights.sums(input, &state.h)?;
        let sum = (of_input + of_state)?;
        let rate = match self.phi {
            Phi::Relu => ccdni::nn::relu(&sum)?,
            Phi::Tanh => sum.tanh()?,
        };
        let share = 1.0 / self.tau;
        Ok(State { h: (state.h.affine(1.0 - share, 0.0)? + rate.affine(share, 0.0)?)?, c: None })
    }
}

fn main() -> std::process::ExitCode {
    ccdni::App::new().cell::<LeakyRate>().main()
}
