//! e-prop (Bellec et al. 2020), with symmetric or random feedback: the gradient along the path within each unit. Other
//! recurrent paths are cut, so that each weight has one trace for each part of its unit's state:
//!
//! ```text
//! ε[k]' = Σ_l ∂s'[k]/∂s[l] ε[l] + ∂s'[k]/∂(sum) · (h before, input, 1)        gradient += q' ε[h]'
//! ```
//!
//! That is the derivative of the network in which `h` before a step is a constant where it enters the sums. With `filter`, the
//! traces are instead those of low-pass filtered presynaptic activity in a plain network, `ε' = filter · ε + (h, input, 1)`,
//! times the slope of the step; that is the derivative of no such network, but the approximation that is often meant.

use std::collections::HashMap;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::{Sizes, add_outer};
use super::{Cells, Learner, LearningRule, Noise, Scaling, Site, Step, Stored, misfit, restore_to};
use crate::error::Result;
use crate::plugins::Plugin;
use crate::spec::RuleVariant;

/// e-prop.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EProp {
    /// Decay of filtered presynaptic activity, in place of the traces of the units themselves (eprop only).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub filter: Option<f64>,
}

impl Plugin for EProp {
    const KIND: &'static str = "eprop";
    const ABOUT: &'static str = "e-prop: the gradient along the path within each unit";
}

impl LearningRule for EProp {
    fn cells(&self, _variant: RuleVariant) -> Cells {
        if self.filter.is_some() { Cells::RateUnits } else { Cells::Pointwise }
    }

    fn open(&self, site: &Site<'_>) -> Result<Option<Box<dyn Learner>>> {
        Ok(Some(match self.filter {
            None => Box::new(Eligibility::new(site.sizes)),
            Some(decay) => Box::new(Filtered(Filter::new(decay as f32, site.sizes))),
        }))
    }
}

/// Traces of the weights within each unit.
pub(super) struct Eligibility {
    sizes: Sizes,
    /// `[rows, parts, weights]`
    traces: Vec<f32>,
}

impl Eligibility {
    pub(super) fn new(sizes: Sizes) -> Eligibility {
        Eligibility { sizes, traces: Vec::new() }
    }

    pub(super) fn begin(&mut self, rows: usize) {
        self.traces = vec![0.0; rows * self.sizes.parts * self.sizes.weights()];
    }

    /// The traces after a step.
    pub(super) fn follow(&mut self, step: &Step<'_>) {
        let (Sizes { hidden, gates, parts, .. }, width) = (self.sizes, self.sizes.width());
        let (weights, slopes) = (self.sizes.weights(), &step.forward.slopes);
        for (row, traces) in self.traces.chunks_exact_mut(parts * weights).enumerate() {
            let presynaptic = &step.forward.presynaptic[row * width..][..width];
            for place in 0..gates * hidden {
                let at = row * hidden + place % hidden;
                let before: Vec<f32> =
                    (0..parts).flat_map(|l| &traces[l * weights + place * width..][..width]).copied().collect();
                for k in 0..parts {
                    let slope = slopes.by_sum(k, place / hidden)[at];
                    let to = &mut traces[k * weights + place * width..][..width];
                    to.iter_mut().zip(presynaptic).for_each(|(to, x)| *to = slope * x);
                    for (l, before) in before.chunks_exact(width).enumerate() {
                        let slope = slopes.by_part(k, l)[at];
                        to.iter_mut().zip(before).for_each(|(to, trace)| *to += slope * trace);
                    }
                }
            }
        }
    }

    /// Adds the traces of `h`, times a signal at `h`, `[rows, hidden]`, to a gradient.
    pub(super) fn add(&self, signal: &[f32], gradient: &mut [f32]) {
        let (Sizes { hidden, parts, .. }, width) = (self.sizes, self.sizes.width());
        let rows = self.traces.chunks_exact(parts * self.sizes.weights()).zip(signal.chunks_exact(hidden));
        for (traces, signal) in rows {
            let places = gradient.chunks_exact_mut(width).zip(traces.chunks_exact(width)).zip(signal.iter().cycle());
            for ((to, trace), signal) in places {
                to.iter_mut().zip(trace).for_each(|(to, trace)| *to += signal * trace);
            }
        }
    }

    pub(super) fn state(&self) -> Stored {
        let row = self.sizes.parts * self.sizes.weights();
        Stored::new("eligibility", &[self.traces.len() / row, self.sizes.parts, self.sizes.weights()], &self.traces)
    }

    pub(super) fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        restore_to(stored, "eligibility", &mut self.traces)?;
        match self.traces.len().is_multiple_of(self.sizes.parts * self.sizes.weights()) {
            true => Ok(()),
            false => Err(misfit("eligibility")),
        }
    }
}

impl Learner for Eligibility {
    fn scaling(&self, variant: RuleVariant) -> Scaling {
        averaged(variant)
    }

    fn begin(&mut self, rows: usize, _state: &[f32], _noise: &mut dyn Noise) {
        self.begin(rows);
    }

    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool> {
        self.follow(step);
        if let Some(credit) = step.credit {
            self.add(credit, gradient);
        }
        Ok(step.credit.is_some())
    }

    fn state(&self) -> Vec<Stored> {
        vec![self.state()]
    }

    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        self.restore(stored)
    }
}

/// The scaling of the code that published BP(λ) and e-prop together.
pub(super) fn averaged(variant: RuleVariant) -> Scaling {
    match variant {
        RuleVariant::Exact => Scaling::Exact,
        RuleVariant::Published => Scaling::PublishedAveraged,
    }
}

/// Filtered presynaptic activity.
pub(super) struct Filter {
    decay: f32,
    sizes: Sizes,
    /// `[rows, width]`
    filtered: Vec<f32>,
}

impl Filter {
    pub(super) fn new(decay: f32, sizes: Sizes) -> Filter {
        Filter { decay, sizes, filtered: Vec::new() }
    }

    pub(super) fn begin(&mut self, rows: usize) {
        self.filtered = vec![0.0; rows * self.sizes.width()];
    }

    /// Filters the presynaptic rows of a step; returns the filtered ones.
    pub(super) fn follow(&mut self, presynaptic: &[f32]) -> &[f32] {
        let decay = self.decay;
        self.filtered.iter_mut().zip(presynaptic).for_each(|(trace, x)| *trace = decay * *trace + x);
        &self.filtered
    }

    pub(super) fn state(&self) -> Stored {
        Stored::new("filtered", &[self.filtered.len() / self.sizes.width(), self.sizes.width()], &self.filtered)
    }

    pub(super) fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        restore_to(stored, "filtered", &mut self.filtered)?;
        if self.filtered.len().is_multiple_of(self.sizes.width()) { Ok(()) } else { Err(misfit("filtered")) }
    }
}

/// e-prop with filtered presynaptic activity.
struct Filtered(Filter);

impl Learner for Filtered {
    fn scaling(&self, variant: RuleVariant) -> Scaling {
        averaged(variant)
    }

    fn begin(&mut self, rows: usize, _state: &[f32], _noise: &mut dyn Noise) {
        self.0.begin(rows);
    }

    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool> {
        let sizes = self.0.sizes;
        let filtered = self.0.follow(&step.forward.presynaptic);
        if let Some(credit) = step.credit {
            add_outer(&step.forward.slopes.at_sums(credit), filtered, sizes, gradient);
        }
        Ok(step.credit.is_some())
    }

    fn state(&self) -> Vec<Stored> {
        vec![self.0.state()]
    }

    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        self.0.restore(stored)
    }
}
