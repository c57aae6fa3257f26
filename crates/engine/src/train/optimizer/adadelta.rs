//! Adadelta.
//!
//! `v = ρ v + (1 − ρ) g²`, `d = √(a + ε) / √(v + ε) · g`, `a = ρ a + (1 − ρ) d²`, `p -= lr · d` (Zeiler 2012).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Number, UpdateRule};
use crate::plugins::Plugin;

/// Adadelta.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adadelta {
    /// Learning rate.
    #[serde(default = "super::default_lr")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lr: f64,
    /// Weight decay.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Decay of the running means.
    #[serde(default = "rho")]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub rho: f64,
    /// Added under both roots.
    #[serde(default = "eps")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub eps: f64,
}

fn rho() -> f64 {
    0.9
}
fn eps() -> f64 {
    1e-6
}

impl Plugin for Adadelta {
    const KIND: &'static str = "adadelta";
    const ABOUT: &'static str = "Adadelta";
}

impl UpdateRule for Adadelta {
    type Slots<T> = [T; 2];
    const SLOTS: [&'static str; 2] = ["square_avg", "acc_delta"];

    fn lr(&self) -> f64 {
        self.lr
    }

    fn step<N: Number>(&self, lr: f64, _t: u64) -> impl Fn(N, N, [N; 2]) -> (N, [N; 2]) + Copy {
        let Adadelta { weight_decay, rho, eps, .. } = *self;
        #[inline(always)]
        move |p, g, [v, a]| {
            let g = g.with_decay(weight_decay, &p);
            let v = v.running_mean(rho, g.square());
            let d = a.plus(eps).sqrt() / v.plus(eps).sqrt() * g;
            let a = a.running_mean(rho, d.square());
            (p - d.scale(lr), [v, a])
        }
    }
}
