//! Unbiased online recurrent optimization (Tallec and Ollivier 2017): a random rank-one estimate `a bᵀ` of the influence
//! matrix of [`super::Rtrl`], unbiased over its draws.
//!
//! With random signs ν, `N = νᵀ ∂s'/∂w` (the sums' own part) and `a' = J a`:
//!
//! ```text
//! p₀ = √(‖b‖ / ‖a'‖)    p₁ = √(‖N‖ / √n)    a ← p₀ a' + p₁ ν    b ← b / p₀ + N / p₁    gradient += (q' a) b
//! ```
//!
//! where n is the width of the state. A factor whose norms are 0 is 1.

use std::collections::HashMap;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::Sizes;
use super::{Cells, Learner, LearningRule, Noise, Site, Step, Stored, misfit, restore_to};
use crate::error::Result;
use crate::plugins::Plugin;
use crate::spec::RuleVariant;

/// Unbiased online recurrent optimization.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Uoro {
    /// Distribution of the random numbers ν (uoro only).
    pub noise: UoroNoise,
    /// Initial values of the two vectors (uoro only); only zero vectors, the default, give an unbiased gradient for one draw of
    /// them.
    pub start: UoroStart,
    /// Step of a forward difference in place of the Jacobian (uoro only); the Jacobian by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub epsilon: Option<f64>,
}

/// A distribution of mean 0 and variance 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UoroNoise {
    /// 1 or -1.
    #[default]
    Signs,
    /// Standard normal.
    Normal,
}

/// The vectors before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UoroStart {
    /// Zero.
    #[default]
    Zero,
    /// Standard normal, as in the published code.
    Normal,
}

impl Plugin for Uoro {
    const KIND: &'static str = "uoro";
    const ABOUT: &'static str = "unbiased online recurrent optimization: a random rank-one estimate of rtrl";
}

impl LearningRule for Uoro {
    fn cells(&self, variant: RuleVariant) -> Cells {
        match variant {
            RuleVariant::Exact => Cells::Pointwise,
            RuleVariant::Published => Cells::RateUnits,
        }
    }

    fn is_stochastic(&self) -> bool {
        true
    }

    fn open(&self, site: &Site<'_>) -> Result<Option<Box<dyn Learner>>> {
        let (state, weights) = (Vec::new(), Vec::new());
        Ok(Some(Box::new(RankOne { keys: self.clone(), sizes: site.sizes, state, weights })))
    }
}

/// The two vectors of every row.
struct RankOne {
    keys: Uoro,
    sizes: Sizes,
    /// `a`, `[rows, parts · hidden]`
    state: Vec<f32>,
    /// `b`, `[rows, weights]`
    weights: Vec<f32>,
}

impl RankOne {
    /// `a' = J a` of one row, or its forward difference.
    fn propagated(&self, step: &Step<'_>, row: usize, a: &[f32]) -> Vec<f32> {
        let Some(epsilon) = self.keys.epsilon else { return step.forward.slopes.push(row, a, step.network) };
        let before = &step.before[row * a.len()..][..a.len()];
        let input = &step.input[row * self.sizes.inputs..][..self.sizes.inputs];
        let moved = |by: f64| -> Vec<f64> {
            let state: Vec<f64> = before.iter().zip(a).map(|(s, a)| f64::from(*s) + by * f64::from(*a)).collect();
            step.network.step_precisely(&state, input)
        };
        let difference = |(there, here): (f64, f64)| ((there - here) / epsilon) as f32;
        moved(epsilon).into_iter().zip(moved(0.0)).map(difference).collect()
    }
}

/// The factors `p₀` and `p₁`, from the norms of `b`, `a'` and `N`, and the width of the state.
fn factors(epsilon: f64, [b, a, n]: [f64; 3], width: usize) -> [f64; 2] {
    let factor = |numerator: f64, denominator: f64| match numerator == 0.0 || denominator == 0.0 {
        true => 1.0,
        false => (numerator / (denominator + epsilon)).sqrt() + epsilon,
    };
    [factor(b, a), factor(n, (width as f64).sqrt())]
}

fn norm(numbers: &[f32]) -> f64 {
    numbers.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt()
}

impl Learner for RankOne {
    fn begin(&mut self, rows: usize, _state: &[f32], noise: &mut dyn Noise) {
        self.state = vec![0.0; rows * self.sizes.state()];
        self.weights = vec![0.0; rows * self.sizes.weights()];
        if self.keys.start == UoroStart::Normal {
            noise.normals(&mut self.state);
            noise.normals(&mut self.weights);
        }
    }

    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool> {
        let (Sizes { hidden, gates, .. }, width) = (self.sizes, self.sizes.width());
        let (n, weights) = (self.sizes.state(), self.sizes.weights());
        let mut random = vec![0.0; step.rows() * n];
        match self.keys.noise {
            UoroNoise::Signs => step.noise.signs(&mut random),
            UoroNoise::Normal => step.noise.normals(&mut random),
        }
        let slopes = &step.forward.slopes;
        let at_sums = slopes.at_sums(&random);
        let epsilon = self.keys.epsilon.unwrap_or(0.0);
        for row in 0..step.rows() {
            let propagated = self.propagated(step, row, &self.state[row * n..][..n]);
            let signals = &at_sums[row * gates * hidden..][..gates * hidden];
            let presynaptic = &step.forward.presynaptic[row * width..][..width];
            let own_norm = norm(signals) * norm(presynaptic);
            let b = &mut self.weights[row * weights..][..weights];
            let [p0, p1] = factors(epsilon, [norm(b), norm(&propagated), own_norm], n);
            for (b, signal) in b.chunks_exact_mut(width).zip(signals) {
                let signal = f64::from(*signal) / p1;
                b.iter_mut()
                    .zip(presynaptic)
                    .for_each(|(b, x)| *b = (f64::from(*b) / p0 + signal * f64::from(*x)) as f32);
            }
            let a = &mut self.state[row * n..][..n];
            for (a, (propagated, random)) in a.iter_mut().zip(propagated.iter().zip(&random[row * n..])) {
                *a = (p0 * f64::from(*propagated) + p1 * f64::from(*random)) as f32;
            }
            if let Some(credit) = step.credit {
                let share: f32 = credit[row * hidden..][..hidden].iter().zip(a.iter()).map(|(q, a)| q * a).sum();
                gradient.iter_mut().zip(b.iter()).for_each(|(to, b)| *to += share * b);
            }
        }
        Ok(step.credit.is_some())
    }

    fn state(&self) -> Vec<Stored> {
        let (n, weights) = (self.sizes.state(), self.sizes.weights());
        let rows = self.state.len() / n;
        vec![Stored::new("a", &[rows, n], &self.state), Stored::new("b", &[rows, weights], &self.weights)]
    }

    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        restore_to(stored, "a", &mut self.state)?;
        restore_to(stored, "b", &mut self.weights)?;
        match self.state.len() * self.sizes.weights() == self.weights.len() * self.sizes.state() {
            true => Ok(()),
            false => Err(misfit("a")),
        }
    }
}
