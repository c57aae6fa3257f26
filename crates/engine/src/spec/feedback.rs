//! Activity feedback: a second network reads a layer's state and writes into its input.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Activity feedback into a recurrent layer (Pemberton, Chadderton and Costa 2024): beside its input, the layer receives `c = C(h)` of its
/// own output before the step. No gradient leads back through `c`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedbackSpec {
    /// The network C.
    pub kind: FeedbackKind,
    /// Hidden layers of a cerebellum, rectified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 1, max = 1_000_000)), extend("default" = []))]
    pub hidden: Vec<usize>,
    /// Steps after which a target reaches the cerebellum, which is then compared with its output of that step.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 1_000_000), extend("default" = 0))]
    pub delay: usize,
    /// Epoch at the start of which the feedback is cut: it is zero from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub lesion_at: Option<usize>,
    /// Step of every sequence, from 0, from which on the feedback is zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000))]
    pub lesion_at_step: Option<usize>,
}

/// A network that gives feedback; its outputs are as many as the task's, for classes their probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackKind {
    /// The network's own readout.
    Readout,
    /// Linear layers of its own, which learn to predict the task's target.
    Cerebellum,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
