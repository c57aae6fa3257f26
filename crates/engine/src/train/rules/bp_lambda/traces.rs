//! The eligibility traces of a linear layer `S = W f`, `f` with a 1 for the bias: `e[i, k, l]` is the trace of output i's derivative in
//! `W[k, l]`, and follows
//!
//! ```text
//! e ← γλ J e + ∂S/∂W,    ∂Sᵢ/∂W[k, l] = [i = k] f[l]
//! ```
//!
//! so after the steps `1 … t`, with `P_s = γλ J_t ⋯ γλ J_{s+1}`, it is `e[i, k, l] = Σ_s P_s[i, k] f_s[l]`. What is needed of it is
//! `Σᵢ δᵢ e[i, ·, ·] = Σ_s (δ P_s) f_sᵀ`: n² multiplications per step of the past in place of n³ (n + 1) for the whole of `e`. The steps
//! are therefore kept as they are while there are at most as many as a row of `W` has numbers, and then added up in `e`.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::error::Result;
use crate::nn::kernel::{Matrix, MatrixMut, Threads, product};
use crate::train::rules::{Stored, restore_to};

/// The traces of all rows.
pub(super) struct Traces {
    rows: usize,
    /// Outputs of the layer.
    n: usize,
    /// Width of `f`.
    width: usize,
    /// γλ
    decay: f32,
    /// The traces up to the first of `steps`, `[rows, n, n, width]`; empty for zeros.
    sum: Vec<f32>,
    steps: Vec<TraceStep>,
}

/// What a step adds.
#[derive(Clone)]
struct TraceStep {
    /// γλ J, `[rows, n, n]`
    jacobians: Vec<f32>,
    /// `[rows, width]`
    features: Vec<f32>,
}

impl Traces {
    pub(super) fn new(n: usize, decay: f32) -> Traces {
        Traces { rows: 0, n, width: 0, decay, sum: Vec::new(), steps: Vec::new() }
    }

    /// Traces of zero.
    pub(super) fn begin(&mut self, rows: usize, width: usize) {
        (self.rows, self.width) = (rows, width);
        self.sum.clear();
        self.steps.clear();
    }

    /// Whether they depend on earlier steps.
    pub(super) fn pass_on(&self) -> bool {
        self.decay != 0.0
    }

    /// One step, with the Jacobians `J` of all rows, `[rows, n, n]`, and `f`, `[rows, width]`.
    pub(super) fn follow(&mut self, jacobians: &[f32], features: &[f32]) {
        if !self.pass_on() {
            self.steps.clear();
        } else if self.steps.len() >= self.width {
            self.add_up();
        }
        let jacobians = jacobians.iter().map(|j| self.decay * j).collect();
        self.steps.push(TraceStep { jacobians, features: features.to_vec() });
    }

    /// Adds `Σᵢ δᵢ e[i, ·, ·]`, summed over rows, to an update `[n, width]`; the errors δ are `[rows, n]`.
    pub(super) fn add_update(&self, errors: &[f32], update: &mut [f32]) {
        let (rows, n, width) = (self.rows, self.n, self.width);
        let mut errors = errors.to_vec();
        for (at, step) in self.steps.iter().enumerate().rev() {
            let (a, b) = (Matrix::new(&errors, rows, n).t(), Matrix::new(&step.features, rows, width));
            product(MatrixMut::new(update, n, width), a, b, true, Threads(1));
            if self.pass_on() && (at > 0 || !self.sum.is_empty()) {
                errors = pulled(&errors, &step.jacobians, n);
            }
        }
        for (errors, traces) in errors.chunks_exact(n).zip(self.sum.chunks_exact(n * n * width)) {
            let (a, b) = (Matrix::new(errors, 1, n), Matrix::new(traces, n, n * width));
            product(MatrixMut::new(update, 1, n * width), a, b, true, Threads(1));
        }
    }

    /// Adds the steps up.
    fn add_up(&mut self) {
        let (n, width) = (self.n, self.width);
        let size = n * n * width;
        self.sum.resize(self.rows * size, 0.0);
        let mut next = vec![0.0; size];
        for step in std::mem::take(&mut self.steps) {
            let of_rows = step.jacobians.chunks_exact(n * n).zip(step.features.chunks_exact(width));
            for (traces, (jacobian, features)) in self.sum.chunks_exact_mut(size).zip(of_rows) {
                let (a, b) = (Matrix::new(jacobian, n, n), Matrix::new(traces, n, n * width));
                product(MatrixMut::new(&mut next, n, n * width), a, b, false, Threads(1));
                traces.copy_from_slice(&next);
                for (i, of_output) in traces.chunks_exact_mut(n * width).enumerate() {
                    let own = &mut of_output[i * width..][..width];
                    own.iter_mut().zip(features).for_each(|(trace, feature)| *trace += feature);
                }
            }
        }
    }

    pub(super) fn state(&self) -> Vec<Stored> {
        let (rows, n, width, steps) = (self.rows, self.n, self.width, self.steps.len());
        let all =
            |part: fn(&TraceStep) -> &Vec<f32>| -> Vec<f32> { self.steps.iter().flat_map(part).copied().collect() };
        let (jacobians, features) = (all(|step| &step.jacobians), all(|step| &step.features));
        let of_sum = if self.sum.is_empty() { 0 } else { rows };
        let of_jacobians = if jacobians.is_empty() { 0 } else { rows };
        vec![
            Stored::new("synthesizer_traces", &[of_sum, n, n, width], &self.sum),
            Stored::new("trace_jacobians", &[steps, of_jacobians, n, n], &jacobians),
            Stored::new("trace_features", &[steps, rows, width], &features),
        ]
    }

    pub(super) fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        restore_to(stored, "synthesizer_traces", &mut self.sum)?;
        let (mut jacobians, mut features) = (Vec::new(), Vec::new());
        restore_to(stored, "trace_jacobians", &mut jacobians)?;
        restore_to(stored, "trace_features", &mut features)?;
        if let Some(Ok((_, rows, width))) = stored.get("trace_features").map(Tensor::dims3) {
            (self.rows, self.width) = (rows, width);
        } else if let Some(Ok((rows, .., width))) = stored.get("synthesizer_traces").map(Tensor::dims4) {
            (self.rows, self.width) = (rows, width);
        }
        let steps = features.len() / (self.rows * self.width).max(1);
        self.steps = (0..steps)
            .map(|step| {
                let part = |all: &[f32]| all[step * (all.len() / steps)..][..all.len() / steps].to_vec();
                TraceStep { jacobians: part(&jacobians), features: part(&features) }
            })
            .collect();
        Ok(())
    }
}

/// Covectors times Jacobians, row by row: `[rows, n]` and `[rows, n, n]`.
fn pulled(covectors: &[f32], jacobians: &[f32], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; covectors.len()];
    for ((out, covector), jacobian) in
        out.chunks_exact_mut(n).zip(covectors.chunks_exact(n)).zip(jacobians.chunks_exact(n * n))
    {
        for (x, row) in covector.iter().zip(jacobian.chunks_exact(n)) {
            out.iter_mut().zip(row).for_each(|(to, j)| *to += x * j);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    /// The recursion in the module's documentation, for one row.
    fn whole(e: &[f64], decay: f64, jacobian: &[f32], features: &[f32], n: usize) -> Vec<f64> {
        let width = features.len();
        let mut next = vec![0.0; e.len()];
        for i in 0..n {
            for k in 0..n {
                for l in 0..width {
                    let from = |j: usize| f64::from(jacobian[i * n + j]) * e[(j * n + k) * width + l];
                    let own = if i == k { f64::from(features[l]) } else { 0.0 };
                    next[(i * n + k) * width + l] = decay * (0..n).map(from).sum::<f64>() + own;
                }
            }
        }
        next
    }

    #[test]
    fn updates_are_those_of_the_whole_traces_before_and_after_they_are_added_up() {
        let (rows, n, width, decay) = (2, 3, 4, 0.9);
        let mut stream = Stream::new(1, "test", 0, 0);
        let mut random = |count: usize| -> Vec<f32> { (0..count).map(|_| 0.5 * stream.normal()).collect() };
        let mut traces = Traces::new(n, decay as f32);
        traces.begin(rows, width);
        let mut expected = vec![vec![0.0; n * n * width]; rows];
        for step in 0..11 {
            let (jacobians, features, errors) = (random(rows * n * n), random(rows * width), random(rows * n));
            traces.follow(&jacobians, &features);
            let mut update = vec![0.0; n * width];
            traces.add_update(&errors, &mut update);
            let mut sum = vec![0.0; n * width];
            for (row, e) in expected.iter_mut().enumerate() {
                let (jacobian, features) = (&jacobians[row * n * n..][..n * n], &features[row * width..][..width]);
                *e = whole(e, decay, jacobian, features, n);
                for i in 0..n {
                    let of_output = &e[i * n * width..][..n * width];
                    sum.iter_mut().zip(of_output).for_each(|(to, x)| *to += f64::from(errors[row * n + i]) * x);
                }
            }
            let close = update.iter().zip(&sum).all(|(found, expected)| (f64::from(*found) - expected).abs() < 1e-4);
            assert!(close, "step {step}: {update:?} {sum:?}");
            assert_eq!(traces.sum.is_empty(), step < width);
        }
    }
}
