//! The learning rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plugins::Keys;

/// How the network's parameters receive their gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleSpec {
    /// The rule, which may have its own keys.
    #[serde(default = "bptt")]
    #[schemars(extend("default" = "bptt"))]
    pub kind: String,
    /// The rule's own keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// What carries errors from the outputs back to the layer; for rules other than bptt.
    #[serde(default, skip_serializing_if = "RuleFeedback::is_symmetric")]
    pub feedback: RuleFeedback,
    /// The exact rule, or what its published code computes; for rules other than bptt.
    #[serde(default, skip_serializing_if = "RuleVariant::is_exact")]
    pub variant: RuleVariant,
}

/// What carries errors from the outputs back to the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleFeedback {
    /// The readout's weights.
    #[default]
    Symmetric,
    /// Fixed random weights, normal with variance 1 / outputs (feedback alignment).
    Random,
}

/// The exact rule, or what its published code computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleVariant {
    /// The rule's equations, for the losses that bptt is trained on.
    #[default]
    Exact,
    /// As in the published code: half squared errors, sums over steps, one bias, and the code's own deviations.
    Published,
}

impl RuleSpec {
    /// Whether it is backpropagation through time.
    pub fn is_bptt(&self) -> bool {
        self.kind == bptt()
    }
}

impl Default for RuleSpec {
    fn default() -> Self {
        let (feedback, variant) = (RuleFeedback::default(), RuleVariant::default());
        RuleSpec { kind: bptt(), keys: Keys::new(), feedback, variant }
    }
}

impl RuleFeedback {
    fn is_symmetric(&self) -> bool {
        *self == RuleFeedback::Symmetric
    }
}

impl RuleVariant {
    fn is_exact(&self) -> bool {
        *self == RuleVariant::Exact
    }
}

fn bptt() -> String {
    "bptt".into()
}
