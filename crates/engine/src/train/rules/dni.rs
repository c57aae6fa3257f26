//! Decoupled neural interfaces, learned online (Marschall, Cho and Savin 2020, after Jaderberg et al. 2017) for rate units: a
//! linear synthesizer `S = A (h', target, 1)` predicts the gradient of this and all later losses at `h'`, and learns one step
//! later:
//!
//! ```text
//! τ = q + (A* (h', target', 1)) J    A ← A - η (A (h, target, 1) - τ) (h, target, 1)ᵀ    gradient += S' φ'(sum) (h, input, 1)
//! ```
//!
//! where q is the credit of the step before, and `A*` a copy of A that is renewed every few steps. With several sequences, A
//! learns from the mean over them.

use std::collections::HashMap;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::{Sizes, add_outer};
use super::{Cells, Learner, LearningRule, Noise, Site, Step, Stored, misfit, restore_to};
use crate::error::Result;
use crate::plugins::Plugin;
use crate::spec::RuleVariant;

/// Decoupled neural interfaces, learned online.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnlineDni {
    /// Learning rate of the synthesizer (dni only).
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Steps after which the copy for the targets is renewed (dni only).
    #[schemars(range(min = 1))]
    pub copy_every: usize,
}

impl Default for OnlineDni {
    fn default() -> Self {
        OnlineDni { lr: 0.01, copy_every: 1 }
    }
}

impl Plugin for OnlineDni {
    const KIND: &'static str = "dni";
    const ABOUT: &'static str = "a linear synthesizer at every step, learned online";
}

impl LearningRule for OnlineDni {
    fn cells(&self, _variant: RuleVariant) -> Cells {
        Cells::RateUnits
    }

    fn open(&self, site: &Site<'_>) -> Result<Option<Box<dyn Learner>>> {
        let sizes = site.sizes;
        let zero = vec![0.0; sizes.hidden * (sizes.hidden + sizes.outputs + 1)];
        Ok(Some(Box::new(OnlineSynthesizer {
            keys: self.clone(),
            sizes,
            matrix: zero.clone(),
            copy: zero,
            credit: Vec::new(),
            before: Vec::new(),
            steps: 0.0,
        })))
    }
}

struct OnlineSynthesizer {
    keys: OnlineDni,
    sizes: Sizes,
    /// `A`, `[hidden, hidden + outputs + 1]`
    matrix: Vec<f64>,
    /// `A*`
    copy: Vec<f64>,
    /// The credit of the step before, `[rows, hidden]`.
    credit: Vec<f32>,
    /// The state before the first step, then the input of the synthesizer at the step before.
    before: Vec<f64>,
    /// Steps since the start.
    steps: f64,
}

impl OnlineSynthesizer {
    fn width(&self) -> usize {
        self.sizes.hidden + self.sizes.outputs + 1
    }

    /// The synthesizer's input `(h, target, 1)` per row.
    fn input<T: Copy + Into<f64>>(&self, state: &[T], target: &[f32]) -> Vec<f64> {
        let (hidden, outputs) = (self.sizes.hidden, self.sizes.outputs);
        let rows = state.chunks_exact(hidden).zip(target.chunks_exact(outputs));
        rows.flat_map(|(h, y)| {
            let h = h.iter().map(|&h| h.into());
            h.chain(y.iter().map(|&y| f64::from(y))).chain([1.0]).collect::<Vec<f64>>()
        })
        .collect()
    }

    fn predict(&self, matrix: &[f64], input: &[f64]) -> Vec<f32> {
        let width = self.width();
        let of_row = |row: &[f64]| -> Vec<f32> {
            let sum = |weights: &[f64]| weights.iter().zip(row).map(|(w, x)| w * x).sum::<f64>() as f32;
            matrix.chunks_exact(width).map(sum).collect()
        };
        input.chunks_exact(width).flat_map(of_row).collect()
    }

    /// Regression of the prediction at the step before on its target, `[rows, hidden]`.
    fn learn(&mut self, input: &[f64], target: &[f32]) {
        let (hidden, width) = (self.sizes.hidden, self.width());
        let predicted = self.predict(&self.matrix, input);
        let rate = self.keys.lr / (target.len() / hidden) as f64;
        for (at, (predicted, target)) in predicted.iter().zip(target).enumerate() {
            let error = rate * (f64::from(*predicted) - f64::from(*target));
            let weights = &mut self.matrix[at % hidden * width..][..width];
            weights.iter_mut().zip(&input[at / hidden * width..]).for_each(|(w, x)| *w -= error * x);
        }
    }
}

impl Learner for OnlineSynthesizer {
    fn begin(&mut self, _rows: usize, state: &[f32], _noise: &mut dyn Noise) {
        self.steps = 0.0;
        self.credit = vec![0.0; state.len()];
        self.before = state.iter().map(|&h| h.into()).collect();
    }

    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool> {
        let target = (step.target)()?;
        let input = self.input(&step.forward.after, &target);
        let before = match self.steps == 0.0 {
            true => self.input(&self.before, &target),
            false => std::mem::take(&mut self.before),
        };
        let later = self.predict(&self.copy, &input);
        let mut goal = step.forward.slopes.pull(&later, step.network);
        goal.iter_mut().zip(&self.credit).for_each(|(goal, q)| *goal += q);
        self.learn(&before, &goal);
        self.steps += 1.0;
        if (self.steps as usize).is_multiple_of(self.keys.copy_every) {
            self.copy.clone_from(&self.matrix);
        }
        let signals = step.forward.slopes.at_sums(&self.predict(&self.matrix, &input));
        add_outer(&signals, &step.forward.presynaptic, self.sizes, gradient);
        self.before = input;
        match step.credit {
            Some(credit) => self.credit.copy_from_slice(credit),
            None => self.credit.fill(0.0),
        }
        Ok(true)
    }

    fn state(&self) -> Vec<Stored> {
        let (hidden, width) = (self.sizes.hidden, self.width());
        let rows = self.credit.len() / hidden;
        let before = if self.steps == 0.0 { hidden } else { width };
        let stored =
            |name, dims: &[usize], values: &Vec<f64>| Stored { name, dims: dims.to_vec(), values: values.clone() };
        vec![
            stored("matrix", &[hidden, width], &self.matrix),
            stored("copy", &[hidden, width], &self.copy),
            stored("steps", &[1], &vec![self.steps]),
            stored("before", &[rows, before], &self.before),
            Stored::new("credit", &[rows, hidden], &self.credit),
        ]
    }

    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        let mut steps = vec![self.steps];
        restore_to(stored, "matrix", &mut self.matrix)?;
        restore_to(stored, "copy", &mut self.copy)?;
        restore_to(stored, "steps", &mut steps)?;
        restore_to(stored, "before", &mut self.before)?;
        restore_to(stored, "credit", &mut self.credit)?;
        self.steps = steps.first().copied().unwrap_or_default();
        let size = self.sizes.hidden * self.width();
        if self.matrix.len() == size && self.copy.len() == size { Ok(()) } else { Err(misfit("matrix")) }
    }
}
