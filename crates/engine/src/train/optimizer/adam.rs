//! Adam and AdamW.
//!
//! `m = β₁ m + (1 − β₁) g`, `v = β₂ v + (1 − β₂) g²`, `p -= lr · m̂ / (√v̂ + ε)` with `m̂ = m / (1 − β₁ᵗ)` and
//! `v̂ = v / (1 − β₂ᵗ)` (Kingma and Ba 2015). Adam adds weight decay to the gradient; AdamW takes `lr · decay · p` from the
//! parameter instead (Loshchilov and Hutter 2019).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Number, UpdateRule, bias_correction};
use crate::plugins::Plugin;

/// The keys of Adam and its relatives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamKeys {
    /// Learning rate.
    #[serde(default = "super::default_lr")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f64,
    /// Weight decay.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Decay of the first and second moment.
    #[serde(default = "betas")]
    #[schemars(extend("items" = serde_json::json!({ "type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0 })))]
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
}

fn betas() -> [f64; 2] {
    [0.9, 0.98]
}
fn eps() -> f64 {
    1e-9
}

/// Adam (Kingma and Ba 2015).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Adam(pub AdamKeys);

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AdamW(pub AdamKeys);

impl Plugin for Adam {
    const KIND: &'static str = "adam";
    const ABOUT: &'static str = "Adam";
}

impl Plugin for AdamW {
    const KIND: &'static str = "adamw";
    const ABOUT: &'static str = "Adam with decoupled weight decay";
}

impl UpdateRule for Adam {
    type Slots<T> = [T; 2];
    const SLOTS: [&'static str; 2] = ["exp_avg", "exp_avg_sq"];

    fn lr(&self) -> f64 {
        self.0.lr
    }

    fn step<N: Number>(&self, lr: f64, t: u64) -> impl Fn(N, N, [N; 2]) -> (N, [N; 2]) + Copy {
        let (decay, adam) = (self.0.weight_decay, self.0.step(lr, t));
        #[inline(always)]
        move |p, g, moments| {
            let g = g.with_decay(decay, &p);
            adam(p, g, moments)
        }
    }
}

impl UpdateRule for AdamW {
    type Slots<T> = [T; 2];
    const SLOTS: [&'static str; 2] = Adam::SLOTS;

    fn lr(&self) -> f64 {
        self.0.lr
    }

    fn step<N: Number>(&self, lr: f64, t: u64) -> impl Fn(N, N, [N; 2]) -> (N, [N; 2]) + Copy {
        let (decay, adam) = (self.0.weight_decay, self.0.step(lr, t));
        #[inline(always)]
        move |p, g, moments| {
            let p = if decay == 0.0 { p } else { p.scale(1.0 - lr * decay) };
            adam(p, g, moments)
        }
    }
}

impl AdamKeys {
    /// Adam without weight decay.
    fn step<N: Number>(&self, lr: f64, t: u64) -> impl Fn(N, N, [N; 2]) -> (N, [N; 2]) + Copy + use<N> {
        let (eps, [beta1, beta2]) = (self.eps, self.betas);
        let root = 1.0 / bias_correction(beta2, t).sqrt();
        let rate = lr / bias_correction(beta1, t);
        #[inline(always)]
        move |p, g, [m, v]| {
            let v = v.running_mean(beta2, g.square());
            let m = m.running_mean(beta1, g);
            let change = m.clone() / v.sqrt().affine(root, eps);
            (p - change.scale(rate), [m, v])
        }
    }
}
