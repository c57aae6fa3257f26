//! The gated recurrent unit (Cho et al. 2014), as in PyTorch: the reset gate applies to the recurrent part and its bias.
//!
//! ```text
//! r, z = σ(W x + U h + b)    n = tanh(W x + b + r (U h + b'))    h' = (1 - z) n + z h
//! ```

use candle_core::Tensor;
use candle_nn::ops::sigmoid;
use pulp::Simd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BackwardStep, Cell, CellWeights, ClosedForm, Past, State, StepGradients};
use super::{gate, sigmoid_slope, tanh_slope};
use crate::error::Result;
use crate::nn::kernel::activation;
use crate::nn::kernel::cells::{
    self, Blocks, Kept, Kernels, SimdKernels, StepBack, StepMut, each, four_mut, load, store,
};
use crate::plugins::Plugin;

/// Gated recurrent unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gru {}

impl Plugin for Gru {
    const KIND: &'static str = "gru";
    const ABOUT: &'static str = "Gated recurrent unit.";
}

impl Cell for Gru {
    fn gates(&self) -> usize {
        3
    }

    fn step(&self, weights: &CellWeights, input: &Tensor, state: &State) -> Result<State> {
        let (a, b) = weights.sums(input, &state.h)?;
        let hidden = state.h.dim(1)?;
        let r = sigmoid(&(gate(&a, 0, hidden)? + gate(&b, 0, hidden)?)?)?;
        let z = sigmoid(&(gate(&a, 1, hidden)? + gate(&b, 1, hidden)?)?)?;
        let n = (gate(&a, 2, hidden)? + (r * gate(&b, 2, hidden)?)?)?.tanh()?;
        let h = ((z.affine(-1.0, 1.0)? * n)? + (z * &state.h)?)?;
        Ok(State { h, c: None })
    }

    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        Some(self)
    }

    fn kernels(&self) -> Option<&dyn Kernels> {
        Some(self)
    }
}

impl ClosedForm for Gru {
    fn separates_biases(&self) -> bool {
        true
    }

    fn forward(&self, input: Tensor, recurrent: Tensor, state: &State) -> Result<(State, Vec<Tensor>)> {
        let gates = sigmoid(&(input.narrow(0, 0, 2)? + recurrent.narrow(0, 0, 2)?)?)?;
        let (inner, z) = (recurrent.get(2)?, gates.get(1)?);
        let n = (input.get(2)? + (gates.get(0)? * &inner)?)?.tanh()?;
        let h = ((z.affine(-1.0, 1.0)? * &n)? + (z * &state.h)?)?;
        Ok((State { h, c: None }, vec![gates, n, inner]))
    }

    fn backward(&self, past: &Past<'_>) -> Result<Box<BackwardStep>> {
        let (gates, candidate) = (past.kept(0)?, past.kept(1)?);
        let [reset, update] = [gates.get(0)?, gates.get(1)?];
        let r = (sigmoid_slope(&reset)? * past.kept(2)?)?;
        let z = (sigmoid_slope(&update)? * (past.h_before()? - &candidate)?)?;
        let n = (tanh_slope(&candidate)? * update.affine(-1.0, 1.0)?)?;
        Ok(Box::new(move |step, dh, _| {
            let dn = (dh * n.get(step)?)?;
            let dr = (&dn * r.get(step)?)?;
            let dz = (dh * z.get(step)?)?;
            let inner = (&dn * reset.get(step)?)?;
            Ok(StepGradients {
                input: Tensor::cat(&[&dr, &dz, &dn], 1)?,
                recurrent: Some(Tensor::cat(&[&dr, &dz, &inner], 1)?),
                h: Some((dh * update.get(step)?)?),
                c: None,
            })
        }))
    }
}

/// Blocks n, r, z, b, where b is the recurrent part of n with its bias, which r multiplies. In this order the blocks of the
/// input's part (n, r, z) and those of the state's part (r, z, b) are adjacent.
const BLOCKS: usize = 4;

impl SimdKernels for Gru {
    fn blocks(&self) -> Blocks {
        Blocks { input: &[2, 0, 1], state: &[0, 1, 2], first: 1, passes_h: true }
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, n: usize, step: StepMut<'_>) {
        for (gates, h) in step.gates.chunks_exact_mut(BLOCKS * n).zip(step.h.chunks_exact_mut(n)) {
            let [n_in, r, z, b] = four_mut(gates, n);
            each(
                simd,
                n,
                #[inline(always)]
                |at| {
                    let r_ = activation::sigmoid(simd, load(simd, r, at));
                    let z_ = activation::sigmoid(simd, load(simd, z, at));
                    let b_ = simd.add_f32s(load(simd, b, at), load(simd, step.separate_bias, at));
                    let n_ = activation::tanh(simd, simd.mul_add_e_f32s(r_, b_, load(simd, n_in, at)));
                    // (1 − z) n + z h
                    let h_ = simd.mul_add_e_f32s(z_, simd.sub_f32s(load(simd, h, at), n_), n_);
                    store(simd, n_in, at, n_);
                    store(simd, r, at, r_);
                    store(simd, z, at, z_);
                    store(simd, b, at, b_);
                    store(simd, h, at, h_);
                },
            );
        }
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, n: usize, step: StepBack<'_>) {
        let one = simd.splat_f32s(1.0);
        let rows = step.gates.chunks_exact_mut(BLOCKS * n);
        let incoming = step.dh_here.chunks_exact(n).zip(step.dh.chunks_exact_mut(n));
        for ((gates, (dh_here, dh)), h_before) in rows.zip(incoming).zip(step.h_before.chunks(step.stride)) {
            let [n_in, r, z, b] = four_mut(gates, n);
            each(
                simd,
                n,
                #[inline(always)]
                |at| {
                    let dh_ = simd.add_f32s(load(simd, dh, at), load(simd, dh_here, at));
                    let (n_, r_) = (load(simd, n_in, at), load(simd, r, at));
                    let (z_, b_) = (load(simd, z, at), load(simd, b, at));
                    let d_n = simd.mul_f32s(simd.mul_f32s(dh_, simd.sub_f32s(one, z_)), cells::tanh_slope(simd, n_));
                    let d_z = simd.mul_f32s(dh_, simd.sub_f32s(load(simd, h_before, at), n_));
                    let d_r = simd.mul_f32s(simd.mul_f32s(d_n, b_), cells::sigmoid_slope(simd, r_));
                    store(simd, n_in, at, d_n);
                    store(simd, r, at, d_r);
                    store(simd, z, at, simd.mul_f32s(d_z, cells::sigmoid_slope(simd, z_)));
                    store(simd, b, at, simd.mul_f32s(d_n, r_));
                    store(simd, dh, at, simd.mul_f32s(dh_, z_));
                },
            );
        }
    }

    fn output(&self, kept: Kept<'_>, h: &mut [f32]) {
        let z = &kept.gates[2 * h.len()..];
        for (((h, before), n), z) in h.iter_mut().zip(kept.h_before).zip(kept.gates).zip(z) {
            *h = n + z * (before - n);
        }
    }
}
