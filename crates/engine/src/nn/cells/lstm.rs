//! Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), as in PyTorch:
//!
//! ```text
//! i, f, o = σ(W x + U h + b)    g = tanh(W x + U h + b)    (weights in the order i, f, g, o)
//! c' = f c + i g                h' = o tanh c'
//! ```

use candle_core::Tensor;
use candle_nn::ops::sigmoid;
use pulp::Simd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    BackwardStep, Cell, CellParameter, CellWeights, ClosedForm, MAX_PARTS, Past, Pointwise, State, StepGradients,
    UnitStep,
};
use super::{gate, sigmoid_slope, tanh_slope};
use crate::error::{Problem, Result};
use crate::nn::kernel::activation;
use crate::nn::kernel::cells::{
    self, Blocks, Kept, Kernels, SimdKernels, StepBack, StepMut, each, four_mut, load, store,
};
use crate::plugins::Plugin;

const GATES: usize = 4;

/// Long short-term memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lstm {
    /// Initial forget-gate biases clamped into -10..0 and weights into 0..0.1 (lstm only; not enforced later).
    #[serde(default)]
    pub force_forget: bool,
    /// Added to the initial forget-gate biases, so that the state lasts from the start (lstm only; 0 is PyTorch's).
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = -100.0, max = 100.0), extend("default" = 0.0))]
    pub forget_bias: f64,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Plugin for Lstm {
    const KIND: &'static str = "lstm";
    const ABOUT: &'static str = "Long short-term memory.";

    fn check(&self) -> Vec<Problem> {
        let both = self.force_forget && self.forget_bias != 0.0;
        let message = "forget-gate biases cannot be both clamped below 0 (`force_forget`) and raised (`forget_bias`)";
        Vec::from_iter(both.then(|| Problem::new("forget_bias", message).help("leave one of the two out")))
    }
}

impl Cell for Lstm {
    fn gates(&self) -> usize {
        GATES
    }

    fn state_width(&self, hidden: usize) -> usize {
        hidden.saturating_mul(2)
    }

    fn initialise(&self, parameter: CellParameter, values: &mut [f32]) {
        let block = values.len() / GATES;
        let forget = &mut values[block..2 * block];
        let bias = matches!(parameter, CellParameter::BiasIh | CellParameter::BiasHh);
        if self.force_forget {
            let (least, most) = if bias { (-10.0, 0.0) } else { (0.0, 0.1) };
            forget.iter_mut().for_each(|value| *value = value.clamp(least, most));
        }
        if parameter == CellParameter::BiasIh {
            forget.iter_mut().for_each(|bias| *bias += self.forget_bias as f32);
        }
    }

    fn step(&self, weights: &CellWeights, input: &Tensor, state: &State) -> Result<State> {
        let (of_input, of_state) = weights.sums(input, &state.h)?;
        let sums = (of_input + of_state)?;
        let hidden = state.h.dim(1)?;
        let i = sigmoid(&gate(&sums, 0, hidden)?)?;
        let f = sigmoid(&gate(&sums, 1, hidden)?)?;
        let g = gate(&sums, 2, hidden)?.tanh()?;
        let o = sigmoid(&gate(&sums, 3, hidden)?)?;
        let c = ((f * state.c()?)? + (i * g)?)?;
        Ok(State { h: (o * c.tanh()?)?, c: Some(c) })
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

impl Pointwise for Lstm {
    fn unit(&self, sums: &[f64], [_, c]: [f64; MAX_PARTS]) -> UnitStep {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (i, f, g, o) = (sigmoid(sums[0]), sigmoid(sums[1]), sums[2].tanh(), sigmoid(sums[3]));
        let next = f * c + i * g;
        let tanh_c = next.tanh();
        let h_by_c = o * (1.0 - tanh_c * tanh_c);
        let c_by_sum = [g * i * (1.0 - i), c * f * (1.0 - f), i * (1.0 - g * g), 0.0];
        let mut h_by_sum = c_by_sum.map(|slope| h_by_c * slope);
        h_by_sum[3] = tanh_c * o * (1.0 - o);
        UnitStep {
            next: [o * tanh_c, next],
            by_sum: [h_by_sum, c_by_sum],
            by_part: [[0.0, h_by_c * f], [0.0, f]],
            h_by_c,
        }
    }
}

impl ClosedForm for Lstm {
    fn forward(&self, input: Tensor, recurrent: Tensor, state: &State) -> Result<(State, Vec<Tensor>)> {
        let sums = (input + recurrent)?;
        let (gates, g) = (sigmoid(&sums)?, sums.get(2)?.tanh()?);
        let c = ((gates.get(1)? * state.c()?)? + (gates.get(0)? * &g)?)?;
        let h = (gates.get(3)? * c.tanh()?)?;
        Ok((State { h, c: Some(c) }, vec![gates, g]))
    }

    fn backward(&self, past: &Past<'_>) -> Result<Box<BackwardStep>> {
        let (gates, candidate) = (past.kept(0)?, past.kept(1)?);
        let [input, forget, output] = [gates.get(0)?, gates.get(1)?, gates.get(3)?];
        let tanh_c = past.c_after()?.tanh()?;
        let through = (&output * tanh_slope(&tanh_c)?)?;
        let o = (sigmoid_slope(&output)? * tanh_c)?;
        let g = (tanh_slope(&candidate)? * &input)?;
        let i = (sigmoid_slope(&input)? * candidate)?;
        let f = (sigmoid_slope(&forget)? * past.c_before()?)?;
        Ok(Box::new(move |step, dh, dc| {
            let own = (dh * through.get(step)?)?;
            let dc = dc.map_or(Ok(own.clone()), |dc| dc + own)?;
            let [di, df, dg] = [&i, &f, &g].map(|factor| &dc * factor.get(step)?);
            let input = Tensor::cat(&[di?, df?, dg?, (dh * o.get(step)?)?], 1)?;
            Ok(StepGradients { input, recurrent: None, h: None, c: Some((dc * forget.get(step)?)?) })
        }))
    }
}

impl SimdKernels for Lstm {
    fn blocks(&self) -> Blocks {
        Blocks { input: &[0, 1, 2, 3], state: &[0, 1, 2, 3], first: 0, passes_h: false }
    }

    /// The blocks are i, f, g, o.
    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, n: usize, step: StepMut<'_>) {
        let rows = step.gates.chunks_exact_mut(GATES * n).zip(step.h.chunks_exact_mut(n));
        let cells = step.c.chunks_exact_mut(n).zip(step.tanh_c.chunks_exact_mut(n));
        for ((gates, h), (c, tanh_c)) in rows.zip(cells) {
            let [i, f, g, o] = four_mut(gates, n);
            each(
                simd,
                n,
                #[inline(always)]
                |at| {
                    let i_ = activation::sigmoid(simd, load(simd, i, at));
                    let f_ = activation::sigmoid(simd, load(simd, f, at));
                    let g_ = activation::tanh(simd, load(simd, g, at));
                    let o_ = activation::sigmoid(simd, load(simd, o, at));
                    let c_ = simd.mul_add_e_f32s(f_, load(simd, c, at), simd.mul_f32s(i_, g_));
                    let tanh_c_ = activation::tanh(simd, c_);
                    store(simd, i, at, i_);
                    store(simd, f, at, f_);
                    store(simd, g, at, g_);
                    store(simd, o, at, o_);
                    store(simd, c, at, c_);
                    store(simd, tanh_c, at, tanh_c_);
                    store(simd, h, at, simd.mul_f32s(o_, tanh_c_));
                },
            );
        }
    }

    #[inline(always)]
    fn backward<S: Simd>(&self, simd: S, n: usize, step: StepBack<'_>) {
        let rows = step.gates.chunks_exact_mut(GATES * n);
        let incoming = step.dh_here.chunks_exact(n).zip(step.dh.chunks_exact_mut(n));
        let cells = step.dc.chunks_exact_mut(n).zip(step.c_before.chunks_exact(n)).zip(step.tanh_c.chunks_exact(n));
        for ((gates, (dh_here, dh)), ((dc, c_before), tanh_c)) in rows.zip(incoming).zip(cells) {
            let [i, f, g, o] = four_mut(gates, n);
            each(
                simd,
                n,
                #[inline(always)]
                |at| {
                    let dh_ = simd.add_f32s(load(simd, dh, at), load(simd, dh_here, at));
                    let (i_, f_) = (load(simd, i, at), load(simd, f, at));
                    let (g_, o_) = (load(simd, g, at), load(simd, o, at));
                    let tanh_c_ = load(simd, tanh_c, at);
                    let through = simd.mul_f32s(simd.mul_f32s(dh_, o_), cells::tanh_slope(simd, tanh_c_));
                    let dc_ = simd.add_f32s(load(simd, dc, at), through);
                    let d_i = simd.mul_f32s(simd.mul_f32s(dc_, g_), cells::sigmoid_slope(simd, i_));
                    let d_f =
                        simd.mul_f32s(simd.mul_f32s(dc_, load(simd, c_before, at)), cells::sigmoid_slope(simd, f_));
                    let d_g = simd.mul_f32s(simd.mul_f32s(dc_, i_), cells::tanh_slope(simd, g_));
                    let d_o = simd.mul_f32s(simd.mul_f32s(dh_, tanh_c_), cells::sigmoid_slope(simd, o_));
                    store(simd, i, at, d_i);
                    store(simd, f, at, d_f);
                    store(simd, g, at, d_g);
                    store(simd, o, at, d_o);
                    store(simd, dc, at, simd.mul_f32s(dc_, f_));
                },
            );
        }
    }

    fn output(&self, kept: Kept<'_>, h: &mut [f32]) {
        let o = &kept.gates[3 * h.len()..];
        for ((h, o), tanh_c) in h.iter_mut().zip(o).zip(kept.tanh_c) {
            *h = o * tanh_c;
        }
    }
}
