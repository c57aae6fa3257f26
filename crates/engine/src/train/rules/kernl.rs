//! Kernel RNN learning (Roth, Kanitscheider and Fiete 2019) for rate units: the influence of a weight on later states is taken
//! as a sensitivity `A`, `[hidden, hidden]`, times a trace that decays with a rate of its unit, `β`. Both are learned from the
//! effect of noise ζ on a second network that gets the same inputs:
//!
//! ```text
//! ã ← F(ã + ζ)    k = max(0, 1 - β)    Γ ← k Γ - Ω    Ω ← k Ω + ζ (drawn anew)    B ← k B + φ'(sum) (h, input, 1)
//! e = A Ω - (ã - h')    A ← A - η e Ωᵀ    β ← β - η (e A) Γ    gradient += (q' A) B
//! ```
//!
//! With several sequences, `A` and `β` learn from the mean over them.

use std::collections::HashMap;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::Sizes;
use super::{Cells, Learner, LearningRule, Noise, Site, Step, Stored, misfit, restore_to};
use crate::error::Result;
use crate::plugins::Plugin;
use crate::spec::RuleVariant;

/// Kernel RNN learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kernl {
    /// Learning rate of sensitivities and decay rates (kernl only).
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Standard deviation of the noise (kernl only).
    #[schemars(range(min = 0.0))]
    pub noise: f64,
    /// Steps after which the second network and the traces start anew (kernl only); never within a sequence by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub reset_every: Option<usize>,
    /// Initial decay rate of every unit (kernl only).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub decay_rate: f64,
}

impl Default for Kernl {
    fn default() -> Self {
        Kernl { lr: 0.01, noise: 1e-5, reset_every: None, decay_rate: 0.8 }
    }
}

impl Plugin for Kernl {
    const KIND: &'static str = "kernl";
    const ABOUT: &'static str = "kernel RNN learning: sensitivities learned from the effect of noise";
}

impl LearningRule for Kernl {
    fn cells(&self, _variant: RuleVariant) -> Cells {
        Cells::RateUnits
    }

    fn is_stochastic(&self) -> bool {
        true
    }

    fn open(&self, site: &Site<'_>) -> Result<Option<Box<dyn Learner>>> {
        let hidden = site.sizes.hidden;
        let mut sensitivity = vec![0.0; hidden * hidden];
        sensitivity.iter_mut().step_by(hidden + 1).for_each(|one| *one = 1.0);
        Ok(Some(Box::new(Kernels {
            keys: self.clone(),
            sizes: site.sizes,
            sensitivity,
            decay_rates: vec![self.decay_rate; hidden],
            steps: 0.0,
            quiet: Vec::new(),
            noisy: Vec::new(),
            noise: Vec::new(),
            accumulated: Vec::new(),
            slopes: Vec::new(),
            traces: Vec::new(),
        })))
    }
}

/// Differences of two nearby states are small, hence double precision; so the states of both networks are computed here.
struct Kernels {
    keys: Kernl,
    sizes: Sizes,
    /// `A`, `[hidden, hidden]`
    sensitivity: Vec<f64>,
    /// `β`, `[hidden]`
    decay_rates: Vec<f64>,
    /// Steps since the start of the sequences.
    steps: f64,
    /// The state of the network without noise, `[rows, hidden]`.
    quiet: Vec<f64>,
    /// `ã`
    noisy: Vec<f64>,
    /// `ζ` for the next step
    noise: Vec<f64>,
    /// `Ω`
    accumulated: Vec<f64>,
    /// `Γ`
    slopes: Vec<f64>,
    /// `B`, `[rows, hidden, width]`
    traces: Vec<f32>,
}

impl Kernels {
    fn draw(&mut self, noise: &mut dyn Noise) {
        let mut drawn = vec![0f32; self.noise.len()];
        noise.normals(&mut drawn);
        self.noise.iter_mut().zip(drawn).for_each(|(to, z)| *to = self.keys.noise * f64::from(z));
    }

    /// Moves both networks on, and starts anew where it is time to.
    fn advance(&mut self, step: &Step<'_>) {
        let (hidden, inputs) = (self.sizes.hidden, self.sizes.inputs);
        let is_reset = self.keys.reset_every.is_some_and(|every| (self.steps as usize).is_multiple_of(every));
        for row in 0..step.rows() {
            let (range, input) = (row * hidden..(row + 1) * hidden, &step.input[row * inputs..][..inputs]);
            let after = step.network.step_precisely(&self.quiet[range.clone()], input);
            self.quiet[range.clone()].copy_from_slice(&after);
            if is_reset {
                // One step ahead, as published: the state copied has seen this input.
                self.noisy[range.clone()].copy_from_slice(&after);
            }
            let moved: Vec<f64> =
                self.noisy[range.clone()].iter().zip(&self.noise[range.clone()]).map(|(a, z)| a + z).collect();
            self.noisy[range].copy_from_slice(&step.network.step_precisely(&moved, input));
        }
        if is_reset {
            self.accumulated.fill(0.0);
            self.slopes.fill(0.0);
            self.traces.fill(0.0);
        }
        self.steps += 1.0;
    }

    fn follow(&mut self, step: &Step<'_>, kept: &[f64]) {
        let (hidden, width) = (self.sizes.hidden, self.sizes.width());
        for (at, slope) in self.slopes.iter_mut().enumerate() {
            *slope = kept[at % hidden] * *slope - self.accumulated[at];
            self.accumulated[at] = kept[at % hidden] * self.accumulated[at] + self.noise[at];
        }
        let by_sum = step.forward.slopes.by_sum(0, 0);
        for (at, (traces, slope)) in self.traces.chunks_exact_mut(width).zip(by_sum).enumerate() {
            let kept = kept[at % hidden] as f32;
            let presynaptic = &step.forward.presynaptic[at / hidden * width..][..width];
            traces.iter_mut().zip(presynaptic).for_each(|(trace, x)| *trace = kept * *trace + slope * x);
        }
    }

    /// Learns sensitivities and decay rates.
    fn learn(&mut self) {
        let hidden = self.sizes.hidden;
        let rows = self.quiet.len() / hidden;
        let mut of_sensitivity = vec![0.0; hidden * hidden];
        let mut of_rates = vec![0.0; hidden];
        for row in 0..rows {
            let here = row * hidden..(row + 1) * hidden;
            let (accumulated, slopes) = (&self.accumulated[here.clone()], &self.slopes[here.clone()]);
            let differences =
                self.noisy[here.clone()].iter().zip(&self.quiet[here]).map(|(noisy, quiet)| noisy - quiet);
            for ((i, difference), row) in differences.enumerate().zip(self.sensitivity.chunks_exact(hidden)) {
                let predicted: f64 = row.iter().zip(accumulated).map(|(a, omega)| a * omega).sum();
                let error = predicted - difference;
                for j in 0..hidden {
                    of_sensitivity[i * hidden + j] += error * accumulated[j];
                    of_rates[j] += error * row[j] * slopes[j];
                }
            }
        }
        let rate = self.keys.lr / rows as f64;
        self.sensitivity.iter_mut().zip(of_sensitivity).for_each(|(to, by)| *to -= rate * by);
        self.decay_rates.iter_mut().zip(of_rates).for_each(|(to, by)| *to -= rate * by);
    }

    fn add(&self, credit: &[f32], gradient: &mut [f32]) {
        let (hidden, width) = (self.sizes.hidden, self.sizes.width());
        for (credit, traces) in credit.chunks_exact(hidden).zip(self.traces.chunks_exact(hidden * width)) {
            for (j, (to, traces)) in gradient.chunks_exact_mut(width).zip(traces.chunks_exact(width)).enumerate() {
                let of = |(i, q): (usize, &f32)| f64::from(*q) * self.sensitivity[i * hidden + j];
                let signal = credit.iter().enumerate().map(of).sum::<f64>() as f32;
                to.iter_mut().zip(traces).for_each(|(to, trace)| *to += signal * trace);
            }
        }
    }
}

impl Learner for Kernels {
    fn begin(&mut self, rows: usize, state: &[f32], noise: &mut dyn Noise) {
        let count = rows * self.sizes.hidden;
        self.steps = 0.0;
        self.quiet = state.iter().map(|&h| h.into()).collect();
        self.noisy = self.quiet.clone();
        (self.noise, self.accumulated, self.slopes) = (vec![0.0; count], vec![0.0; count], vec![0.0; count]);
        self.traces = vec![0.0; count * self.sizes.width()];
        self.draw(noise);
    }

    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool> {
        self.advance(step);
        let kept: Vec<f64> = self.decay_rates.iter().map(|rate| (1.0 - rate).max(0.0)).collect();
        self.draw(&mut *step.noise);
        self.follow(step, &kept);
        self.learn();
        if let Some(credit) = step.credit {
            self.add(credit, gradient);
        }
        Ok(step.credit.is_some())
    }

    fn state(&self) -> Vec<Stored> {
        let (hidden, width) = (self.sizes.hidden, self.sizes.width());
        let rows = self.quiet.len() / hidden;
        let stored =
            |name, dims: &[usize], values: &Vec<f64>| Stored { name, dims: dims.to_vec(), values: values.clone() };
        vec![
            stored("sensitivity", &[hidden, hidden], &self.sensitivity),
            stored("decay_rates", &[hidden], &self.decay_rates),
            stored("steps", &[1], &vec![self.steps]),
            stored("quiet", &[rows, hidden], &self.quiet),
            stored("noisy", &[rows, hidden], &self.noisy),
            stored("noise", &[rows, hidden], &self.noise),
            stored("accumulated", &[rows, hidden], &self.accumulated),
            stored("slopes", &[rows, hidden], &self.slopes),
            Stored::new("traces", &[rows, hidden, width], &self.traces),
        ]
    }

    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        let mut steps = vec![self.steps];
        restore_to(stored, "sensitivity", &mut self.sensitivity)?;
        restore_to(stored, "decay_rates", &mut self.decay_rates)?;
        restore_to(stored, "steps", &mut steps)?;
        restore_to(stored, "quiet", &mut self.quiet)?;
        restore_to(stored, "noisy", &mut self.noisy)?;
        restore_to(stored, "noise", &mut self.noise)?;
        restore_to(stored, "accumulated", &mut self.accumulated)?;
        restore_to(stored, "slopes", &mut self.slopes)?;
        restore_to(stored, "traces", &mut self.traces)?;
        self.steps = steps.first().copied().unwrap_or_default();
        let (hidden, count) = (self.sizes.hidden, self.quiet.len());
        let equal = [&self.noisy, &self.noise, &self.accumulated, &self.slopes].iter().all(|all| all.len() == count);
        let fits = self.sensitivity.len() == hidden * hidden && self.decay_rates.len() == hidden;
        match fits && equal && self.traces.len() == count * self.sizes.width() {
            true => Ok(()),
            false => Err(misfit("sensitivity")),
        }
    }
}
