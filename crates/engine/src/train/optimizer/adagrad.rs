//! Adagrad.
//!
//! `v += g²`, `p -= lr / (1 + (t − 1) · lr_decay) · g / (√v + ε)` (Duchi, Hazan and Singer 2011).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Number, UpdateRule};
use crate::plugins::Plugin;

/// Adagrad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adagrad {
    /// Learning rate.
    #[serde(default = "super::default_lr")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f64,
    /// Weight decay.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Decay of the learning rate over steps.
    #[serde(default = "lr_decay")]
    #[schemars(range(min = 0.0))]
    pub lr_decay: f64,
    /// Added to the root of the sum of squares.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
}

fn lr_decay() -> f64 {
    0.9
}
fn eps() -> f64 {
    1e-10
}

impl Plugin for Adagrad {
    const KIND: &'static str = "adagrad";
    const ABOUT: &'static str = "Adagrad";
}

impl UpdateRule for Adagrad {
    type Slots<T> = [T; 1];
    const SLOTS: [&'static str; 1] = ["sum"];

    fn lr(&self) -> f64 {
        self.lr
    }

    fn step<N: Number>(&self, lr: f64, t: u64) -> impl Fn(N, N, [N; 1]) -> (N, [N; 1]) + Copy {
        let Adagrad { weight_decay, eps, .. } = *self;
        let rate = lr / (1.0 + self.lr_decay * (t - 1) as f64);
        #[inline(always)]
        move |p, g, [v]| {
            let g = g.with_decay(weight_decay, &p);
            let v = v + g.square();
            (p - (g / v.sqrt().plus(eps)).scale(rate), [v])
        }
    }
}
