//! The leaky rate unit of models of cortical networks, discretised by Euler's method (Song, Yang and Wang 2016):
//!
//! ```text
//! h' = (1 - 1/tau) h + φ(W x + U h + b) / tau
//! ```
//!
//! φ is tanh unless `activation` names another function.

use candle_core::Tensor;
use candle_nn::ops;
use pulp::Simd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pointwise::rate_unit;
use super::{
    BackwardStep, Cell, CellWeights, ClosedForm, MAX_PARTS, Past, Pointwise, State, StepGradients, UnitStep,
    sigmoid_slope, tanh_slope,
};
use crate::error::Result;
use crate::nn::kernel::activation;
use crate::nn::kernel::cells::{self, Blocks, Kept, Kernels, SimdKernels, StepBack, StepMut, each, load, store};
use crate::nn::relu;
use crate::plugins::Plugin;

/// Leaky rate unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Leaky {
    /// Time constant of the leak, in steps (leaky only); 1 is the plain tanh unit.
    #[schemars(range(min = 1.0, max = 1e6))]
    pub tau: f64,
    /// The rate as a function of the sum of inputs (leaky only).
    #[serde(skip_serializing_if = "Activation::is_tanh")]
    pub activation: Activation,
}

impl Default for Leaky {
    fn default() -> Self {
        Leaky { tau: 2.0, activation: Activation::Tanh }
    }
}

/// A rate as a function of a sum of inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The hyperbolic tangent.
    #[default]
    Tanh,
    /// `max(x, 0)`, with slope 0 at 0.
    Relu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// The sum itself: a linear network.
    Identity,
}

impl Activation {
    fn is_tanh(&self) -> bool {
        *self == Activation::Tanh
    }

    fn of(self, sum: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Tanh => sum.tanh()?,
            Activation::Relu => relu(sum)?,
            Activation::Sigmoid => ops::sigmoid(sum)?,
            Activation::Identity => sum.clone(),
        })
    }

    /// The slope where the rate is `rate`.
    fn slope(self, rate: &Tensor) -> Result<Tensor> {
        match self {
            Activation::Tanh => tanh_slope(rate),
            // A rectified value is never negative, so its sign is the slope.
            Activation::Relu => Ok(rate.sign()?),
            Activation::Sigmoid => sigmoid_slope(rate),
            Activation::Identity => Ok(rate.ones_like()?),
        }
    }

    #[inline(always)]
    fn of_simd<S: Simd>(self, simd: S, sum: S::f32s) -> S::f32s {
        match self {
            Activation::Tanh => activation::tanh(simd, sum),
            Activation::Relu => activation::relu(simd, sum),
            Activation::Sigmoid => activation::sigmoid(simd, sum),
            Activation::Identity => sum,
        }
    }

    #[inline(always)]
    fn slope_simd<S: Simd>(self, simd: S, rate: S::f32s) -> S::f32s {
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        match self {
            Activation::Tanh => cells::tanh_slope(simd, rate),
            Activation::Relu => simd.select_f32s(simd.greater_than_f32s(rate, zero), one, zero),
            Activation::Sigmoid => cells::sigmoid_slope(simd, rate),
            Activation::Identity => one,
        }
    }

    /// The rate and its derivative in the sum.
    pub(super) fn value_and_slope(self, sum: f64) -> (f64, f64) {
        match self {
            Activation::Tanh => (sum.tanh(), 1.0 - sum.tanh().powi(2)),
            Activation::Relu => (sum.max(0.0), f64::from(u8::from(sum > 0.0))),
            Activation::Sigmoid => {
                let rate = 1.0 / (1.0 + (-sum).exp());
                (rate, rate * (1.0 - rate))
            }
            Activation::Identity => (sum, 1.0),
        }
    }
}

impl Plugin for Leaky {
    const KIND: &'static str = "leaky";
    const ABOUT: &'static str = "Leaky rate unit.";
}

impl Leaky {
    /// `(1 - 1/tau) h + rate / tau`.
    fn leak(&self, h: &Tensor, rate: &Tensor) -> Result<State> {
        let share = 1.0 / self.tau;
        Ok(State { h: (h.affine(1.0 - share, 0.0)? + rate.affine(share, 0.0)?)?, c: None })
    }
}

impl Cell for Leaky {
    fn gates(&self) -> usize {
        1
    }

    fn step(&self, weights: &CellWeights, input: &Tensor, state: &State) -> Result<State> {
        let (of_input, of_state) = weights.sums(input, &state.h)?;
        self.leak(&state.h, &self.activation.of(&(of_input + of_state)?)?)
    }

    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        Some(self)
    }

    fn kernels(&self) -> Option<&dyn Kernels> {
        Some(self)
    }

    fn pointwise(&self) -> Option<&dyn Pointwise> {
        Some(self)
    }
}

impl Pointwise for Leaky {
    fn unit(&self, sums: &[f64], state: [f64; MAX_PARTS]) -> UnitStep {
        rate_unit(1.0 / self.tau, self.activation.value_and_slope(sums[0]), state[0])
    }
}

impl ClosedForm for Leaky {
    fn forward(&self, input: Tensor, recurrent: Tensor, state: &State) -> Result<(State, Vec<Tensor>)> {
        let rate = self.activation.of(&(input + recurrent)?.squeeze(0)?)?;
        Ok((self.leak(&state.h, &rate)?, vec![rate]))
    }

    fn backward(&self, past: &Past<'_>) -> Result<Box<BackwardStep>> {
        let share = 1.0 / self.tau;
        let slope = self.activation.slope(&past.kept(0)?)?.affine(share, 0.0)?;
        Ok(Box::new(move |step, dh, _| {
            let h = Some(dh.affine(1.0 - share, 0.0)?);
            Ok(StepGradients { input: (dh * slope.get(step)?)?, recurrent: None, h, c: None })
        }))
    }
}

impl SimdKernels for Leaky {
    fn blocks(&self) -> Blocks {
        Blocks { input: &[0], state: &[0], first: 0, passes_h: true }
    }

    /// Replaces the only block by the rate.
    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, n: usize, step: StepMut<'_>) {
        let share = simd.splat_f32s(1.0 / self.tau as f32);
        for (gates, h) in step.gates.chunks_exact_mut(n).zip(step.h.chunks_exact_mut(n)) {
            each(
                simd,
                n,
                #[inline(always)]
                |at| {
                    let (h_, rate) = (load(simd, h, at), self.activation.of_simd(simd, load(simd, gates, at)));
                    store(simd, gates, at, rate);
                    store(simd, h, at, simd.mul_add_e_f32s(share, simd.sub_f32s(rate, h_), h_));
                },
            );
        }
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, n: usize, step: StepBack<'_>) {
        let share = 1.0 / self.tau as f32;
        let (share, kept) = (simd.splat_f32s(share), simd.splat_f32s(1.0 - share));
        let incoming = step.dh_here.chunks_exact(n).zip(step.dh.chunks_exact_mut(n));
        for (gates, (dh_here, dh)) in step.gates.chunks_exact_mut(n).zip(incoming) {
            each(
                simd,
                n,
                #[inline(always)]
                |at| {
                    let dh_ = simd.add_f32s(load(simd, dh, at), load(simd, dh_here, at));
                    let slope = self.activation.slope_simd(simd, load(simd, gates, at));
                    store(simd, gates, at, simd.mul_f32s(simd.mul_f32s(dh_, share), slope));
                    store(simd, dh, at, simd.mul_f32s(dh_, kept));
                },
            );
        }
    }

    fn output(&self, kept: Kept<'_>, h: &mut [f32]) {
        for ((h, before), rate) in h.iter_mut().zip(kept.h_before).zip(kept.gates) {
            *h = before + (rate - before) / self.tau as f32;
        }
    }
}
