//! RMSprop with momentum.
//!
//! `v = α v + (1 − α) g²`, `b = μ b + g / (√v + ε)`, `p -= lr · b` (Tieleman and Hinton 2012, with PyTorch's momentum).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Number, UpdateRule};
use crate::plugins::Plugin;

/// RMSprop with momentum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RmsProp {
    /// Learning rate.
    #[serde(default = "super::default_lr")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f64,
    /// Weight decay.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Decay of the mean of squares.
    #[serde(default = "alpha")]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub alpha: f64,
    /// Added to the root of the mean of squares.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
    /// Momentum.
    #[serde(default = "super::default_momentum")]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub momentum: f64,
}

fn alpha() -> f64 {
    0.99
}
fn eps() -> f64 {
    1e-10
}

impl Plugin for RmsProp {
    const KIND: &'static str = "rmsprop";
    const ABOUT: &'static str = "RMSprop with momentum";
}

impl UpdateRule for RmsProp {
    type Slots<T> = [T; 2];
    const SLOTS: [&'static str; 2] = ["square_avg", "momentum_buffer"];

    fn lr(&self) -> f64 {
        self.lr
    }

    fn step<N: Number>(&self, lr: f64, _t: u64) -> impl Fn(N, N, [N; 2]) -> (N, [N; 2]) + Copy {
        let RmsProp { weight_decay, alpha, eps, momentum, .. } = *self;
        #[inline(always)]
        move |p, g, [v, b]| {
            let g = g.with_decay(weight_decay, &p);
            let v = v.running_mean(alpha, g.square());
            let b = b.scale(momentum) + g / v.sqrt().plus(eps);
            (p - b.scale(lr), [v, b])
        }
    }
}
