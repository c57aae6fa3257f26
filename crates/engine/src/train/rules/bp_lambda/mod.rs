//! Accumulate BP(λ) (Pemberton and Costa 2024): a synthesizer S learns, by temporal differences and eligibility traces, to
//! predict from the state `s` after a step the gradient of all later losses, `S(s_t) ≈ Σ_{u>t} γ^{u-t-1} ∂ℓ_u/∂s_t`. Nothing is
//! propagated back over more than one step. With `g` the gradient of a step's own loss at its state:
//!
//! ```text
//! δ = (g' + γ S(s')) J - S(s)        e ← γ λ J_before e + ∂S(s)/∂θ        Δθ = mean over the batch of δ e
//! gradient += (g' + σ S(s')) ∂s'/∂(sums) · (h before, input, 1)
//! ```
//!
//! `J = ∂s'/∂s`, σ is `dni.scale`, and the prediction after the last step is 0. Only the synthesizer's last layer learns.
//! `variant: published` is what the published code computes: updates of S are capped at norm 1 per step and parameter, and in
//! an LSTM the immediate gradient reaches c twice and the path through the output gate is left out.

mod head;
mod traced;
mod traces;

use std::collections::HashMap;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::head::{Head, Learning};
use self::traced::Traced;
use super::eprop::{Filter, averaged};
use super::network::{Sizes, Slopes, add_outer};
use super::{Cells, Learner, LearningRule, Noise, Scaling, Site, Step, Stored, misfit, restore_to};
use crate::error::{Error, Result};
use crate::nn::{Gradients, ParamStore};
use crate::plugins::Plugin;
use crate::spec::RuleVariant;
use crate::train::engine::Role;

/// Accumulate BP(λ).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BpLambda {
    /// λ: the share of later predictions that are passed on in the traces (bp_lambda only).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: f64,
    /// γ: the discount of later losses (bp_lambda only).
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gamma: f64,
    /// Rate of gradient descent of the synthesizer at every step, in place of the optimizer (bp_lambda only).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub own_sgd: Option<f64>,
    /// Decay of filtered presynaptic activity in the gradients of the recurrent weights (bp_lambda only); none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub filter: Option<f64>,
    /// Combine it with the traces of e-prop: the synthesizer predicts for `c` alone (bp_lambda, lstm, published only).
    pub traces: bool,
}

impl Default for BpLambda {
    fn default() -> Self {
        BpLambda { lambda: 1.0, gamma: 1.0, own_sgd: None, filter: None, traces: false }
    }
}

impl Plugin for BpLambda {
    const KIND: &'static str = "bp_lambda";
    const ABOUT: &'static str = "accumulate BP(λ): a synthesizer learned with eligibility traces";
}

impl LearningRule for BpLambda {
    fn cells(&self, variant: RuleVariant) -> Cells {
        match (self.traces, self.filter, variant) {
            (true, ..) => Cells::Lstm,
            (_, Some(_), _) => Cells::RateUnits,
            _ => Cells::Pointwise,
        }
    }

    fn has_synthesizer(&self) -> bool {
        true
    }

    fn predicts_at_state(&self) -> bool {
        // With traces, it predicts for the `c` of the next step.
        !self.traces
    }

    fn open(&self, site: &Site<'_>) -> Result<Option<Box<dyn Learner>>> {
        let Some((indices, scale)) = site.synthesizer else {
            return Err(Error::Usage(
                "`train.rule: {kind: bp_lambda}` learns with a synthesizer: add a `dni` table".into(),
            ));
        };
        let (sizes, is_published) = (site.sizes, site.variant == RuleVariant::Published);
        let learning = Learning {
            decay: (self.lambda * self.gamma) as f32,
            capped: is_published,
            own_sgd: self.own_sgd.map(|rate| rate as f32),
        };
        let (gamma, scale) = (self.gamma as f32, scale as f32);
        if self.traces {
            if !is_published || sizes.parts != 2 {
                return Err(Error::Usage("`train.rule.traces` is defined for an LSTM and `variant: published`".into()));
            }
            let head = Head::new(indices, learning, sizes.hidden, sizes.hidden);
            return Ok(Some(Box::new(Traced::new(head, sizes, gamma, scale))));
        }
        Ok(Some(Box::new(Accumulate {
            sizes,
            is_published,
            gamma,
            scale,
            head: Head::new(indices, learning, 0, sizes.state()),
            filter: self.filter.map(|decay| Filter::new(decay as f32, sizes)),
            before: None,
        })))
    }
}

/// What a step leaves for the next one.
struct Before {
    /// The inputs of the synthesizer's last layer.
    features: Vec<f32>,
    /// `[rows, n, n]`; empty where no trace is passed on.
    jacobians: Vec<f32>,
    /// The predictions, `[rows, n]`.
    synthetic: Vec<f32>,
}

struct Accumulate {
    sizes: Sizes,
    is_published: bool,
    gamma: f32,
    scale: f32,
    head: Head,
    filter: Option<Filter>,
    before: Option<Before>,
}

impl Accumulate {
    fn is_published_lstm(&self) -> bool {
        self.is_published && self.sizes.parts > 1
    }

    /// The gradient of the step's own loss at the state after it, `[rows, n]`: exact, `(g, 0)`.
    fn immediate(&self, step: &Step<'_>) -> Vec<f32> {
        let (Sizes { hidden, parts, .. }, n) = (self.sizes, self.sizes.state());
        let mut immediate = vec![0.0; step.rows() * n];
        let Some(credit) = step.credit else { return immediate };
        for (row, to) in immediate.chunks_exact_mut(n).enumerate() {
            let credit = &credit[row * hidden..][..hidden];
            to[..hidden].copy_from_slice(credit);
            if self.is_published && parts > 1 {
                let slopes = &step.forward.slopes.h_by_c()[row * hidden..];
                to[hidden..].iter_mut().zip(credit.iter().zip(slopes)).for_each(|(to, (g, d))| *to = g * d);
            }
        }
        immediate
    }

    /// The learning signals at the sums, `[rows, gates · hidden]`, of those at the state.
    fn at_sums(&self, signals: &[f32], slopes: &Slopes) -> Vec<f32> {
        if !self.is_published_lstm() {
            return slopes.at_sums(signals);
        }
        // As published: the signal at c acts through c alone, that at h through the output gate alone.
        let Sizes { hidden, gates, parts, .. } = self.sizes;
        let mut sums = vec![0.0; slopes.rows() * gates * hidden];
        for (at, sum) in sums.iter_mut().enumerate() {
            let (row, gate, unit) = (at / (gates * hidden), at / hidden % gates, at % hidden);
            let (place, signals) = (row * hidden + unit, &signals[row * parts * hidden..][..parts * hidden]);
            let of_c = slopes.by_sum(1, gate)[place];
            let own = slopes.by_sum(0, gate)[place] - slopes.h_by_c()[place] * of_c;
            *sum = signals[hidden + unit] * of_c + signals[unit] * own;
        }
        sums
    }
}

impl Learner for Accumulate {
    fn scaling(&self, variant: RuleVariant) -> Scaling {
        averaged(variant)
    }

    fn begin(&mut self, rows: usize, _state: &[f32], _noise: &mut dyn Noise) {
        self.head.begin(rows);
        if let Some(filter) = &mut self.filter {
            filter.begin(rows);
        }
        self.before = None;
    }

    fn load(&mut self, params: &ParamStore) -> Result<()> {
        self.head.load(params)
    }

    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool> {
        let n = self.sizes.state();
        let published = self.is_published_lstm().then(|| step.forward.slopes.through_c());
        let slopes = published.as_ref().unwrap_or(&step.forward.slopes);
        let immediate = self.immediate(step);
        let features = self.head.features(&step.forward.after, n);
        if let Some(before) = self.before.take().filter(|_| step.role == Role::Learning) {
            let mut later = immediate.clone();
            if !step.is_last {
                let predicted = self.head.predict(&features);
                later.iter_mut().zip(predicted).for_each(|(to, s)| *to += self.gamma * s);
            }
            let mut errors = slopes.pull(&later, step.network);
            errors.iter_mut().zip(&before.synthetic).for_each(|(error, s)| *error -= s);
            self.head.learn(&errors, &before.jacobians, &before.features);
        }
        let is_silent = step.is_last || step.role == Role::Lesioned;
        let synthetic = if is_silent { vec![0.0; immediate.len()] } else { self.head.predict(&features) };
        let signals: Vec<f32> = immediate.iter().zip(&synthetic).map(|(g, s)| g + self.scale * s).collect();
        let at_sums = self.at_sums(&signals, &step.forward.slopes);
        let presynaptic = match &mut self.filter {
            Some(filter) => filter.follow(&step.forward.presynaptic),
            None => &step.forward.presynaptic,
        };
        add_outer(&at_sums, presynaptic, self.sizes, gradient);
        let jacobians = if self.head.passes_on() { slopes.jacobians(step.network) } else { Vec::new() };
        self.before = Some(Before { features, jacobians, synthetic });
        Ok(step.credit.is_some() || !is_silent)
    }

    fn finish(&mut self, params: &ParamStore, gradients: &mut Gradients) -> Result<()> {
        self.head.finish(params, gradients)
    }

    fn synthetic(&self, state: &[f32]) -> Option<Vec<f32>> {
        Some(self.head.predict(&self.head.features(state, self.sizes.state())))
    }

    fn state(&self) -> Vec<Stored> {
        let mut stored = self.head.state();
        stored.extend(self.filter.as_ref().map(Filter::state));
        if let Some(before) = &self.before {
            let n = self.sizes.state();
            let rows = before.synthetic.len() / n;
            stored.push(Stored::new("features", &[rows, before.features.len() / rows.max(1)], &before.features));
            let sides = if before.jacobians.is_empty() { 0 } else { n };
            stored.push(Stored::new("jacobians", &[rows, sides, sides], &before.jacobians));
            stored.push(Stored::new("synthetic", &[rows, n], &before.synthetic));
        }
        stored
    }

    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        self.head.restore(stored)?;
        if let Some(filter) = &mut self.filter {
            filter.restore(stored)?;
        }
        let mut before = Before { features: Vec::new(), jacobians: Vec::new(), synthetic: Vec::new() };
        restore_to(stored, "features", &mut before.features)?;
        restore_to(stored, "jacobians", &mut before.jacobians)?;
        restore_to(stored, "synthetic", &mut before.synthetic)?;
        if !before.synthetic.len().is_multiple_of(self.sizes.state()) {
            return Err(misfit("synthetic"));
        }
        self.before = (!before.synthetic.is_empty()).then_some(before);
        Ok(())
    }
}
