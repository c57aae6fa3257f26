//! The update rules of [`super::rules`] on slices, in one pass: the same operations in the same order, and so the same bits.

use pulp::Arch;

use super::rules::bias_correction;
use crate::spec::{AdamSpec, OptimizerSpec};

/// What a step changes.
pub(super) struct State<'a> {
    /// The parameters.
    pub p: &'a mut [f32],
    /// The rule's first slot.
    pub first: &'a mut [f32],
    /// The rule's second slot; empty where there is none.
    pub second: &'a mut [f32],
}

/// Step number `t`, counted from 1, on `coefficient` times the gradient.
pub(super) fn step(spec: &OptimizerSpec, lr: f64, t: u64, coefficient: f64, gradient: &[f32], state: State<'_>) {
    let decay = spec.weight_decay();
    let (coefficient, l2) = (coefficient as f32, decay as f32);
    // A zero decay adds nothing, not even a negative zero: g + 0 · p is g.
    let with_decay = move |p: f32, g: f32| if decay == 0.0 { g * coefficient } else { g * coefficient + p * l2 };
    match *spec {
        OptimizerSpec::Adam(ref spec) => {
            let rule = Adam::new(spec, lr, t);
            two(gradient, state, move |p, g, m, v| rule.step(*p, with_decay(*p, g), p, m, v));
        }
        OptimizerSpec::Adamw(ref spec) => {
            let rule = Adam::new(spec, lr, t);
            let keep = (1.0 - lr * decay) as f32;
            two(gradient, state, move |p, g, m, v| rule.step(*p * keep, g * coefficient, p, m, v));
        }
        OptimizerSpec::Adamax(ref spec) => {
            let [m_keep, u_keep] = spec.betas.map(|beta| beta as f32);
            let (m_take, eps) = ((1.0 - spec.betas[0]) as f32, spec.eps as f32);
            let rate = (lr / bias_correction(spec.betas[0], t)) as f32;
            two(gradient, state, move |p, g, m, u| {
                let g = with_decay(*p, g);
                *m = *m * m_keep + g * m_take;
                let (old, new) = (*u * u_keep, g.abs() + eps);
                *u = if old > new { old } else { new };
                *p -= *m / *u * rate;
            });
        }
        OptimizerSpec::Rmsprop { alpha, eps, momentum, .. } => {
            let (keep, take) = (alpha as f32, (1.0 - alpha) as f32);
            let (eps, momentum, lr) = (eps as f32, momentum as f32, lr as f32);
            two(gradient, state, move |p, g, v, b| {
                let g = with_decay(*p, g);
                *v = *v * keep + g * g * take;
                *b = *b * momentum + g / (v.sqrt() + eps);
                *p -= *b * lr;
            });
        }
        OptimizerSpec::Sgd { momentum, .. } => {
            let (momentum, lr) = (momentum as f32, lr as f32);
            one(gradient, state, move |p, g, b| {
                *b = *b * momentum + with_decay(*p, g);
                *p -= *b * lr;
            });
        }
        OptimizerSpec::Adagrad { lr_decay, eps, .. } => {
            let (rate, eps) = ((lr / (1.0 + lr_decay * (t - 1) as f64)) as f32, eps as f32);
            one(gradient, state, move |p, g, v| {
                let g = with_decay(*p, g);
                *v += g * g;
                *p -= g / (v.sqrt() + eps) * rate;
            });
        }
        OptimizerSpec::Adadelta { rho, eps, .. } => {
            let (keep, take) = (rho as f32, (1.0 - rho) as f32);
            let (eps, lr) = (eps as f32, lr as f32);
            two(gradient, state, move |p, g, v, a| {
                let g = with_decay(*p, g);
                *v = *v * keep + g * g * take;
                let d = (*a + eps).sqrt() / (*v + eps).sqrt() * g;
                *a = *a * keep + d * d * take;
                *p -= d * lr;
            });
        }
    }
}

/// Adam's numbers for one step.
#[derive(Clone, Copy)]
struct Adam {
    keep: [f32; 2],
    take: [f32; 2],
    root: f32,
    eps: f32,
    rate: f32,
}

impl Adam {
    fn new(spec: &AdamSpec, lr: f64, t: u64) -> Self {
        let [beta1, beta2] = spec.betas;
        Adam {
            keep: [beta1 as f32, beta2 as f32],
            take: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
            root: (1.0 / bias_correction(beta2, t).sqrt()) as f32,
            eps: spec.eps as f32,
            rate: (lr / bias_correction(beta1, t)) as f32,
        }
    }

    #[inline(always)]
    fn step(&self, base: f32, g: f32, p: &mut f32, m: &mut f32, v: &mut f32) {
        *m = *m * self.keep[0] + g * self.take[0];
        *v = *v * self.keep[1] + g * g * self.take[1];
        *p = base - *m / (v.sqrt() * self.root + self.eps) * self.rate;
    }
}

/// A pass for a rule with one slot.
#[inline(always)]
fn one(gradient: &[f32], state: State<'_>, rule: impl Fn(&mut f32, f32, &mut f32) + Copy) {
    Arch::new().dispatch(
        #[inline(always)]
        move || {
            // A copy of its own: of numbers that lie in memory the compiler could not know that no parameter lies there.
            let (rule, State { p, first, .. }) = (rule, state);
            for ((p, g), first) in p.iter_mut().zip(gradient).zip(first) {
                rule(p, *g, first);
            }
        },
    );
}

/// A pass for a rule with two slots.
#[inline(always)]
fn two(gradient: &[f32], state: State<'_>, rule: impl Fn(&mut f32, f32, &mut f32, &mut f32) + Copy) {
    Arch::new().dispatch(
        #[inline(always)]
        move || {
            let (rule, State { p, first, second }) = (rule, state);
            for ((p, g), (first, second)) in p.iter_mut().zip(gradient).zip(first.iter_mut().zip(second)) {
                rule(p, *g, first, second);
            }
        },
    );
}
