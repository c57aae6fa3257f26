//! BP(λ) of an LSTM together with the traces of e-prop, as published: the traces carry the gradient along `c` of a unit, and a
//! linear synthesizer predicts, from the state before a step, the gradient of that step's and all later losses at the `c` after
//! it. Everything is one step late: the signal at a step is known at the next.

use std::collections::HashMap;

use candle_core::Tensor;

use super::head::Head;
use crate::error::Result;
use crate::nn::{Gradients, ParamStore};
use crate::spec::RuleVariant;
use crate::train::engine::Role;
use crate::train::rules::eprop::{Eligibility, averaged};
use crate::train::rules::network::Sizes;
use crate::train::rules::{Learner, Noise, Scaling, Step, Stored, restore_to};

pub(super) struct Traced {
    sizes: Sizes,
    gamma: f32,
    scale: f32,
    head: Head,
    eligibility: Eligibility,
    /// Whether there was a step before.
    started: bool,
    /// Of the step before, `[rows, hidden]` each: its credit, the slope of `h` in `c`, and the prediction made at it.
    credit: Vec<f32>,
    h_by_c: Vec<f32>,
    synthetic: Vec<f32>,
    /// `[rows, hidden, hidden]`: of `c` after in `c` before the step before.
    jacobians: Vec<f32>,
    /// The synthesizer's input at the step before.
    features: Vec<f32>,
}

impl Traced {
    pub(super) fn new(head: Head, sizes: Sizes, gamma: f32, scale: f32) -> Traced {
        Traced {
            sizes,
            gamma,
            scale,
            head,
            eligibility: Eligibility::new(sizes),
            started: false,
            credit: Vec::new(),
            h_by_c: Vec::new(),
            synthetic: Vec::new(),
            jacobians: Vec::new(),
            features: Vec::new(),
        }
    }

    /// A covector at `c` after the step to those at `h` and at `c` before it, `[rows, hidden]` each, by the paths through `c`.
    fn pull(&self, covector: &[f32], step: &Step<'_>) -> [Vec<f32>; 2] {
        let hidden = self.sizes.hidden;
        let at_c: Vec<f32> = covector.chunks_exact(hidden).flat_map(|row| [&vec![0.0; hidden], row].concat()).collect();
        let before = step.forward.slopes.pull(&at_c, step.network);
        let part = |k: usize| before.chunks_exact(2 * hidden).flat_map(move |row| row[k * hidden..][..hidden].to_vec());
        [part(0).collect(), part(1).collect()]
    }

    /// `g ∂h/∂c` of the step before.
    fn immediate(&self) -> Vec<f32> {
        self.credit.iter().zip(&self.h_by_c).map(|(g, d)| g * d).collect()
    }

    /// The Jacobians of `c` in `c` before, by way of `h` before and of the forget gate.
    fn jacobians(&self, step: &Step<'_>) -> Vec<f32> {
        let hidden = self.sizes.hidden;
        let all = step.forward.slopes.jacobians(step.network);
        let mut out = Vec::with_capacity(step.rows() * hidden * hidden);
        for (row, jacobian) in all.chunks_exact(4 * hidden * hidden).enumerate() {
            let d = &self.h_by_c[row * hidden..][..hidden];
            for of_c in jacobian.chunks_exact(2 * hidden).skip(hidden) {
                let (by_h, by_c) = of_c.split_at(hidden);
                out.extend(by_h.iter().zip(d).zip(by_c).map(|((h, d), c)| h * d + c));
            }
        }
        out
    }

    /// The last update and gradient of a sequence.
    fn end(&mut self, step: &Step<'_>, gradient: &mut [f32]) {
        let Some(credit) = step.credit else { return };
        if step.role == Role::Learning {
            let errors: Vec<f32> = self.immediate().iter().zip(&self.synthetic).map(|(m, s)| m - s).collect();
            self.head.learn(&errors, &self.jacobians, &self.features);
        }
        self.eligibility.add(credit, gradient);
    }
}

impl Learner for Traced {
    fn scaling(&self, variant: RuleVariant) -> Scaling {
        averaged(variant)
    }

    fn begin(&mut self, rows: usize, _state: &[f32], _noise: &mut dyn Noise) {
        let count = rows * self.sizes.hidden;
        self.eligibility.begin(rows);
        self.head.begin(rows);
        self.started = false;
        self.credit = vec![0.0; count];
        self.h_by_c = vec![0.0; count];
    }

    fn load(&mut self, params: &ParamStore) -> Result<()> {
        self.head.load(params)
    }

    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool> {
        let features = self.head.features(step.before, self.sizes.state());
        if self.started && step.role == Role::Learning {
            let predicted = self.head.predict(&features);
            let [by_h, by_c] = self.pull(&predicted, step);
            let mut errors = self.immediate();
            for (at, error) in errors.iter_mut().enumerate() {
                *error += self.gamma * (by_h[at] * self.h_by_c[at] + by_c[at]) - self.synthetic[at];
            }
            self.head.learn(&errors, &self.jacobians, &self.features);
        }
        let is_silent = step.role == Role::Lesioned;
        let count = step.rows() * self.sizes.hidden;
        let synthetic = if is_silent { vec![0.0; count] } else { self.head.predict(&features) };
        if self.started {
            let [by_h, _] = self.pull(&synthetic, step);
            let signal: Vec<f32> = self.credit.iter().zip(by_h).map(|(g, s)| g + self.scale * s).collect();
            self.eligibility.add(&signal, gradient);
        }
        self.eligibility.follow(step);
        self.jacobians = self.jacobians(step);
        self.h_by_c = step.forward.slopes.h_by_c().to_vec();
        self.credit = step.credit.map_or_else(|| vec![0.0; count], <[f32]>::to_vec);
        (self.synthetic, self.features, self.started) = (synthetic, features, true);
        if step.is_last {
            self.end(step, gradient);
        }
        Ok(true)
    }

    fn finish(&mut self, params: &ParamStore, gradients: &mut Gradients) -> Result<()> {
        self.head.finish(params, gradients)
    }

    fn state(&self) -> Vec<Stored> {
        let hidden = self.sizes.hidden;
        let rows = self.credit.len() / hidden;
        let mut stored = self.head.state();
        stored.extend([
            self.eligibility.state(),
            Stored::new("credit", &[rows, hidden], &self.credit),
            Stored::new("h_by_c", &[rows, hidden], &self.h_by_c),
        ]);
        if self.started {
            stored.push(Stored::new("synthetic", &[rows, hidden], &self.synthetic));
            stored.push(Stored::new("jacobians", &[rows, hidden, hidden], &self.jacobians));
            stored.push(Stored::new("features", &[rows, self.features.len() / rows.max(1)], &self.features));
        }
        stored
    }

    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        self.head.restore(stored)?;
        self.eligibility.restore(stored)?;
        restore_to(stored, "credit", &mut self.credit)?;
        restore_to(stored, "h_by_c", &mut self.h_by_c)?;
        restore_to(stored, "synthetic", &mut self.synthetic)?;
        restore_to(stored, "jacobians", &mut self.jacobians)?;
        restore_to(stored, "features", &mut self.features)?;
        self.started = stored.contains_key("features");
        Ok(())
    }
}
