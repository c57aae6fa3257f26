//! The leaky rate unit of models of cortical networks, discretised by Euler's method (Song, Yang and Wang 2016):
//!
//! ```text
//! h' = (1 - 1/tau) h + tanh(W x + U h + b) / tau
//! ```

use candle_core::Tensor;
use pulp::Simd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackwardStep, Cell, CellWeights, ClosedForm, Past, State, StepGradients, tanh_slope};
use crate::error::Result;
use crate::nn::kernel::activation;
use crate::nn::kernel::cells::{self, Blocks, Kept, Kernels, SimdKernels, StepBack, StepMut, each, load, store};
use crate::plugins::Plugin;

/// Leaky rate unit with tanh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Leaky {
    /// Time constant of the leak, in steps (leaky only); 1 is the plain tanh unit.
    #[schemars(range(min = 1.0, max = 1e6))]
    pub tau: f64,
}

impl Default for Leaky {
    fn default() -> Self {
        Leaky { tau: 2.0 }
    }
}

impl Plugin for Leaky {
    const KIND: &'static str = "leaky";
    const ABOUT: &'static str = "Leaky rate unit with tanh.";
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
        self.leak(&state.h, &(of_input + of_state)?.tanh()?)
    }

    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        Some(self)
    }

    fn kernels(&self) -> Option<&dyn Kernels> {
        Some(self)
    }
}

impl ClosedForm for Leaky {
    fn forward(&self, input: Tensor, recurrent: Tensor, state: &State) -> Result<(State, Vec<Tensor>)> {
        let rate = (input + recurrent)?.squeeze(0)?.tanh()?;
        Ok((self.leak(&state.h, &rate)?, vec![rate]))
    }

    fn backward(&self, past: &Past<'_>) -> Result<Box<BackwardStep>> {
        let share = 1.0 / self.tau;
        let slope = tanh_slope(&past.kept(0)?)?.affine(share, 0.0)?;
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
                    let (h_, rate) = (load(simd, h, at), activation::tanh(simd, load(simd, gates, at)));
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
                    let slope = cells::tanh_slope(simd, load(simd, gates, at));
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
