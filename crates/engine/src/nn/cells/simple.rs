//! Plain recurrent units (Elman 1990), as in PyTorch: `h' = φ(W x + U h + b)`, where φ is tanh or ReLU.

use candle_core::Tensor;
use pulp::Simd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pointwise::rate_unit;
use super::{
    Activation, BackwardStep, Cell, CellWeights, ClosedForm, MAX_PARTS, Past, Pointwise, State, StepGradients,
    UnitStep, tanh_slope,
};
use crate::error::Result;
use crate::nn::kernel::activation;
use crate::nn::kernel::cells::{self, Blocks, Kept, Kernels, SimdKernels, StepBack, StepMut, each, load, store};
use crate::nn::relu;
use crate::plugins::Plugin;

/// Plain recurrent unit with tanh.
pub type Tanh = Simple<false>;

/// Plain recurrent unit with rectification.
pub type Relu = Simple<true>;

/// Plain recurrent unit, with rectification or with tanh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Simple<const RELU: bool> {}

impl Plugin for Tanh {
    const KIND: &'static str = "tanh";
    const ABOUT: &'static str = "Plain recurrent unit with tanh.";
}

impl Plugin for Relu {
    const KIND: &'static str = "relu";
    const ABOUT: &'static str = "Plain recurrent unit with rectification.";
}

impl<const RELU: bool> Simple<RELU> {
    fn activate(sum: &Tensor) -> Result<Tensor> {
        if RELU { Ok(relu(sum)?) } else { Ok(sum.tanh()?) }
    }
}

impl<const RELU: bool> Cell for Simple<RELU> {
    fn gates(&self) -> usize {
        1
    }

    fn step(&self, weights: &CellWeights, input: &Tensor, state: &State) -> Result<State> {
        let (of_input, of_state) = weights.sums(input, &state.h)?;
        Ok(State { h: Self::activate(&(of_input + of_state)?)?, c: None })
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

impl<const RELU: bool> Pointwise for Simple<RELU> {
    fn unit(&self, sums: &[f64], state: [f64; MAX_PARTS]) -> UnitStep {
        let activation = if RELU { Activation::Relu } else { Activation::Tanh };
        rate_unit(1.0, activation.value_and_slope(sums[0]), state[0])
    }
}

impl<const RELU: bool> ClosedForm for Simple<RELU> {
    fn forward(&self, input: Tensor, recurrent: Tensor, _: &State) -> Result<(State, Vec<Tensor>)> {
        let h = Self::activate(&(input + recurrent)?.squeeze(0)?)?;
        Ok((State { h, c: None }, Vec::new()))
    }

    fn backward(&self, past: &Past<'_>) -> Result<Box<BackwardStep>> {
        let h = past.h_after()?;
        // A rectified value is never negative, so its sign is the slope.
        let slope = if RELU { h.sign()? } else { tanh_slope(&h)? };
        Ok(Box::new(move |step, dh, _| {
            Ok(StepGradients { input: (dh * slope.get(step)?)?, recurrent: None, h: None, c: None })
        }))
    }
}

impl<const RELU: bool> SimdKernels for Simple<RELU> {
    fn blocks(&self) -> Blocks {
        Blocks { input: &[0], state: &[0], first: 0, passes_h: false }
    }

    /// Replaces the only block by `h`.
    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, n: usize, step: StepMut<'_>) {
        for (gates, h) in step.gates.chunks_exact_mut(n).zip(step.h.chunks_exact_mut(n)) {
            each(
                simd,
                n,
                #[inline(always)]
                |at| {
                    let x = load(simd, gates, at);
                    let h_ = if RELU { activation::relu(simd, x) } else { activation::tanh(simd, x) };
                    store(simd, gates, at, h_);
                    store(simd, h, at, h_);
                },
            );
        }
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, n: usize, step: StepBack<'_>) {
        let zero = simd.splat_f32s(0.0);
        let incoming = step.dh_here.chunks_exact(n).zip(step.dh.chunks_exact(n));
        for (gates, (dh_here, dh)) in step.gates.chunks_exact_mut(n).zip(incoming) {
            each(
                simd,
                n,
                #[inline(always)]
                |at| {
                    let dh_ = simd.add_f32s(load(simd, dh, at), load(simd, dh_here, at));
                    let h_ = load(simd, gates, at);
                    let d_ = match RELU {
                        // The slope at 0 is 0, as in PyTorch.
                        true => simd.select_f32s(simd.greater_than_f32s(h_, zero), dh_, simd.mul_f32s(dh_, zero)),
                        false => simd.mul_f32s(dh_, cells::tanh_slope(simd, h_)),
                    };
                    store(simd, gates, at, d_);
                },
            );
        }
    }

    fn output(&self, kept: Kept<'_>, h: &mut [f32]) {
        h.copy_from_slice(kept.gates);
    }
}
