//! Real-time recurrent learning (Williams and Zipser 1989): the exact gradient, forward in time.
//!
//! The influence matrix `M = ∂s/∂w` of all weights `w` on the state `s` follows the state:
//!
//! ```text
//! M' = κ J M + ∂s'/∂w (the sums' own part)        gradient += q' M'
//! ```
//!
//! with `J = ∂s'/∂s`; κ is 1, or below 1 for a damped variant. Memory per sequence is `parts · hidden · weights`, time per
//! step about `hidden⁴` for one gate.

use std::collections::HashMap;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::Sizes;
use super::{Cells, Learner, LearningRule, Noise, Site, Step, Stored, misfit, restore_to};
use crate::error::Result;
use crate::plugins::Plugin;
use crate::spec::RuleVariant;

/// Real-time recurrent learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rtrl {
    /// Factor on the influence of earlier steps (rtrl only); below 1 the gradient is no longer exact.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub decay: f64,
}

impl Default for Rtrl {
    fn default() -> Self {
        Rtrl { decay: 1.0 }
    }
}

impl Plugin for Rtrl {
    const KIND: &'static str = "rtrl";
    const ABOUT: &'static str = "real-time recurrent learning: the exact gradient, forward in time";
}

impl LearningRule for Rtrl {
    fn cells(&self, variant: RuleVariant) -> Cells {
        match variant {
            RuleVariant::Exact => Cells::Pointwise,
            RuleVariant::Published => Cells::RateUnits,
        }
    }

    fn open(&self, site: &Site<'_>) -> Result<Option<Box<dyn Learner>>> {
        Ok(Some(Box::new(Influence { decay: self.decay as f32, sizes: site.sizes, rows: 0, matrix: Vec::new() })))
    }
}

/// The influence matrices of all rows.
struct Influence {
    decay: f32,
    sizes: Sizes,
    rows: usize,
    /// `[rows, parts · hidden, weights]`
    matrix: Vec<f32>,
}

impl Learner for Influence {
    fn begin(&mut self, rows: usize, _state: &[f32], _noise: &mut dyn Noise) {
        self.rows = rows;
        self.matrix = vec![0.0; rows * self.sizes.state() * self.sizes.weights()];
    }

    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool> {
        let (Sizes { hidden, gates, parts, .. }, width) = (self.sizes, self.sizes.width());
        let (weights, slopes) = (self.sizes.weights(), &step.forward.slopes);
        for (row, matrix) in self.matrix.chunks_exact_mut(self.sizes.state() * weights).enumerate() {
            let mut next = slopes.push(row, matrix, step.network);
            if self.decay != 1.0 {
                next.iter_mut().for_each(|number| *number *= self.decay);
            }
            let presynaptic = &step.forward.presynaptic[row * width..][..width];
            for part in 0..parts {
                for gate in 0..gates {
                    for (unit, slope) in slopes.by_sum(part, gate)[row * hidden..][..hidden].iter().enumerate() {
                        let start = (part * hidden + unit) * weights + (gate * hidden + unit) * width;
                        let own = &mut next[start..][..width];
                        own.iter_mut().zip(presynaptic).for_each(|(to, x)| *to += slope * x);
                    }
                }
            }
            matrix.copy_from_slice(&next);
            let Some(credit) = step.credit else { continue };
            for (credit, influence) in credit[row * hidden..][..hidden].iter().zip(matrix.chunks_exact(weights)) {
                gradient.iter_mut().zip(influence).for_each(|(to, m)| *to += credit * m);
            }
        }
        Ok(step.credit.is_some())
    }

    fn state(&self) -> Vec<Stored> {
        vec![Stored::new("influence", &[self.rows, self.sizes.state(), self.sizes.weights()], &self.matrix)]
    }

    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        restore_to(stored, "influence", &mut self.matrix)?;
        let row = self.sizes.state() * self.sizes.weights();
        if !self.matrix.len().is_multiple_of(row) {
            return Err(misfit("influence"));
        }
        self.rows = self.matrix.len() / row;
        Ok(())
    }
}
