//! Random-feedback local online learning (Murray 2019) for rate units:
//!
//! ```text
//! B' = (1 - r) B + r φ'(sum) (h before, input, 1)        gradient += q' B'
//! ```
//!
//! r is the share of the rate in the next state, `1/tau`. With symmetric feedback that is e-prop ([`super::EProp`]); the
//! original has `feedback: random`.

use std::collections::HashMap;

use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::Sizes;
use super::{Cells, Learner, LearningRule, Noise, Site, Step, Stored, misfit, restore_to};
use crate::error::Result;
use crate::plugins::Plugin;
use crate::spec::RuleVariant;

/// Random-feedback local online learning.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rflo {
    /// The share r of a step in the traces (rflo only); that of the units by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1.0))]
    pub rate: Option<f64>,
}

impl Plugin for Rflo {
    const KIND: &'static str = "rflo";
    const ABOUT: &'static str = "random-feedback local online learning";
}

impl LearningRule for Rflo {
    fn cells(&self, _variant: RuleVariant) -> Cells {
        Cells::RateUnits
    }

    fn open(&self, site: &Site<'_>) -> Result<Option<Box<dyn Learner>>> {
        let rate = self.rate.map(|rate| rate as f32);
        Ok(Some(Box::new(Traces { rate, sizes: site.sizes, traces: Vec::new() })))
    }
}

struct Traces {
    rate: Option<f32>,
    sizes: Sizes,
    /// `[rows, hidden, width]`
    traces: Vec<f32>,
}

impl Learner for Traces {
    fn begin(&mut self, rows: usize, _state: &[f32], _noise: &mut dyn Noise) {
        self.traces = vec![0.0; rows * self.sizes.weights()];
    }

    fn step(&mut self, step: &mut Step<'_>, gradient: &mut [f32]) -> Result<bool> {
        let (hidden, width) = (self.sizes.hidden, self.sizes.width());
        let slopes = step.forward.slopes.by_sum(0, 0).iter().zip(step.forward.slopes.by_part(0, 0));
        for (at, (traces, (slope, kept))) in self.traces.chunks_exact_mut(width).zip(slopes).enumerate() {
            let own = 1.0 - kept;
            let rate = self.rate.unwrap_or(own);
            let (kept, slope) = (1.0 - rate, rate / own * slope);
            let presynaptic = &step.forward.presynaptic[at / hidden * width..][..width];
            traces.iter_mut().zip(presynaptic).for_each(|(trace, x)| *trace = kept * *trace + slope * x);
            let Some(credit) = step.credit else { continue };
            let to = &mut gradient[at % hidden * width..][..width];
            to.iter_mut().zip(traces.iter()).for_each(|(to, trace)| *to += credit[at] * trace);
        }
        Ok(step.credit.is_some())
    }

    fn state(&self) -> Vec<Stored> {
        let rows = self.traces.len() / self.sizes.weights();
        vec![Stored::new("traces", &[rows, self.sizes.hidden, self.sizes.width()], &self.traces)]
    }

    fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        restore_to(stored, "traces", &mut self.traces)?;
        if self.traces.len().is_multiple_of(self.sizes.weights()) { Ok(()) } else { Err(misfit("traces")) }
    }
}
