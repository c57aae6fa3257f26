//! The feed-forward part of a network: blocks, and the interfaces between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{is_mlp, mlp, one, yes};
use super::{Context, DniSpec, TargetScale};
use crate::plugins::Keys;

/// One layer of a feed-forward network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BlockSpec {
    /// The kind of block, which may have its own keys.
    pub kind: String,
    /// The block's own keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// The interface at the output of this block, which decouples it from the blocks above; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dni: Option<InterfaceSpec>,
}

/// An interface between two blocks: the one below does not wait for the gradient from above, and the one above need not wait for its
/// input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceSpec {
    /// The kind of synthesizer of gradients, which may have its own keys.
    #[serde(default = "mlp", skip_serializing_if = "is_mlp")]
    #[schemars(extend("default" = "mlp"))]
    pub kind: String,
    /// The synthesizer's own keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// What is decoupled.
    #[serde(default)]
    pub unlock: Unlock,
    /// The synthesizer of inputs, with `unlock: both` or `forward`; by default as that of gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<SynthesizerSpec>,
    /// Factor on the synthetic gradient.
    #[serde(default = "one")]
    pub scale: f64,
    /// Input of the synthesizers besides their trigger.
    #[serde(default)]
    pub context: InterfaceContext,
    /// Whether the synthesizers are trained; `false` for fixed random ones.
    #[serde(default = "yes")]
    pub learn: bool,
    /// Number of batches after which a true gradient arrives at the synthesizer.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 1000), extend("default" = 0))]
    pub delay: usize,
    /// Epoch at the start of which the interface is removed: gradients and activities pass from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub lesion_at: Option<usize>,
    /// Epoch at the start of which the synthesizers are frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub freeze_at: Option<usize>,
}

/// A synthesizer of inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SynthesizerSpec {
    /// The kind of synthesizer, which may have its own keys.
    #[serde(default = "mlp", skip_serializing_if = "is_mlp")]
    #[schemars(extend("default" = "mlp"))]
    pub kind: String,
    /// The synthesizer's own keys.
    #[serde(flatten)]
    pub keys: Keys,
}

/// What an interface decouples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlock {
    /// The update below (update unlock): the blocks below learn from a synthetic gradient.
    #[default]
    Backward,
    /// The blocks above: they read a synthetic input, predicted from the network's input. The blocks below do not learn.
    Forward,
    /// Both (full unlock): synthetic gradients below, synthetic inputs above.
    Both,
}

impl Unlock {
    /// Whether the blocks below learn from synthetic gradients.
    pub fn has_gradients(self) -> bool {
        self != Unlock::Forward
    }

    /// Whether the blocks above read synthetic inputs.
    pub fn has_inputs(self) -> bool {
        self != Unlock::Backward
    }
}

/// Input of an interface's synthesizers besides their trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceContext {
    /// None.
    #[default]
    None,
    /// The target, classes as one-hot (cDNI).
    Target,
    /// The input of the network.
    Input,
}

impl InterfaceSpec {
    /// The synthesizer of gradients, in the terms of a recurrent layer's.
    pub fn gradients(&self) -> DniSpec {
        self.synthesizer(&self.kind, &self.keys)
    }

    /// The synthesizer of inputs, in the terms of a recurrent layer's.
    pub fn inputs(&self) -> DniSpec {
        match &self.forward {
            Some(forward) => self.synthesizer(&forward.kind, &forward.keys),
            None => self.gradients(),
        }
    }

    fn synthesizer(&self, kind: &str, keys: &Keys) -> DniSpec {
        DniSpec {
            scale: self.scale,
            context: if self.context == InterfaceContext::Target { Context::Target } else { Context::None },
            learn: self.learn,
            lesion_at: self.lesion_at,
            freeze_at: self.freeze_at,
            target_scale: TargetScale::Batch,
            ..DniSpec::of(kind, keys.clone())
        }
    }
}

fn is_zero(delay: &usize) -> bool {
    *delay == 0
}
