//! Adamax.
//!
//! `m = β₁ m + (1 − β₁) g`, `u = max(β₂ u, |g| + ε)`, `p -= lr / (1 − β₁ᵗ) · m / u` (Kingma and Ba 2015, section 7.1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adam::AdamKeys;
use super::{Number, UpdateRule, bias_correction};
use crate::plugins::Plugin;

/// Adam with the infinity norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Adamax(pub AdamKeys);

impl Plugin for Adamax {
    const KIND: &'static str = "adamax";
    const ABOUT: &'static str = "Adam with the infinity norm";
}

impl UpdateRule for Adamax {
    type Slots<T> = [T; 2];
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_inf"];

    fn lr(&self) -> f64 {
        self.0.lr
    }

    fn step<N: Number>(&self, lr: f64, t: u64) -> impl Fn(N, N, [N; 2]) -> (N, [N; 2]) + Copy {
        let AdamKeys { weight_decay, betas: [beta1, beta2], eps, .. } = self.0;
        let rate = lr / bias_correction(beta1, t);
        #[inline(always)]
        move |p, g, [m, u]| {
            let g = g.with_decay(weight_decay, &p);
            let u = u.scale(beta2).maximum(g.abs().plus(eps));
            let m = m.running_mean(beta1, g);
            (p - (m.clone() / u.clone()).scale(rate), [m, u])
        }
    }
}
