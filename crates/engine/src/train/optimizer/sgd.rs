//! Stochastic gradient descent with momentum.
//!
//! `b = μ b + g`, `p -= lr · b` (PyTorch's form: the rate is outside the momentum).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Number, UpdateRule};
use crate::plugins::Plugin;

/// Stochastic gradient descent with momentum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate.
    #[serde(default = "super::default_lr")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f64,
    /// Weight decay.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Momentum.
    #[serde(default = "super::default_momentum")]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
}

impl Plugin for Sgd {
    const KIND: &'static str = "sgd";
    const ABOUT: &'static str = "stochastic gradient descent with momentum";
}

impl UpdateRule for Sgd {
    type Slots<T> = [T; 1];
    const SLOTS: [&'static str; 1] = ["momentum_buffer"];

    fn lr(&self) -> f64 {
        self.lr
    }

    fn step<N: Number>(&self, lr: f64, _t: u64) -> impl Fn(N, N, [N; 1]) -> (N, [N; 1]) + Copy {
        let Sgd { weight_decay, momentum, .. } = *self;
        #[inline(always)]
        move |p, g, [b]| {
            let b = b.scale(momentum) + g.with_decay(weight_decay, &p);
            (p - b.scale(lr), [b])
        }
    }
}
