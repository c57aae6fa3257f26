//! The network: recurrent layers, synthesizers, embedding and readout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EncoderSpec;

/// The model graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The recurrent stack, bottom to top.
    #[schemars(length(min = 1))]
    pub layers: Vec<LayerSpec>,
    /// What reads the top layer.
    #[serde(default)]
    pub readout: Readout,
    /// What reads pictures; required by tasks with pictures, refused elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderSpec>,
    /// The embedding of token inputs; required by tasks that read tokens, refused elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed: Option<EmbedSpec>,
    /// Dropout on the input of the first layer.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub input_dropout: f64,
}

/// What reads the top layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readout {
    /// A linear layer on the top layer's output.
    #[default]
    Linear,
}

/// The embedding of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedSpec {
    /// Numbers a token.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub size: usize,
}

/// One recurrent layer ("cerebral cortex").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerSpec {
    /// The kind of recurrent unit.
    pub cell: Cell,
    /// Number of units.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub hidden: usize,
    /// Dropout on this layer's output, between layers only (the top layer has none).
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Distribution of the cell's initial weights.
    #[serde(default)]
    pub init: Init,
    /// Factor on the cell's initial weights and biases.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub init_scale: f64,
    /// Initial forget-gate biases clamped into -10..0 and weights into 0..0.1 (lstm only; not enforced later).
    #[serde(default)]
    pub force_forget: bool,
    /// Added to the initial forget-gate biases, so that the state lasts from the start (lstm only; 0 is PyTorch's).
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = -100.0, max = 100.0))]
    pub forget_bias: f64,
    /// The synthesizer on this layer ("cerebellum"): leave out for a plain layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-figure" = "NeurIPS 2021, Fig. 2 and S3; Nature Communications 2023, Fig. 3 and 8"))]
    pub dni: Option<DniSpec>,
}

/// The kind of recurrent unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Long short-term memory.
    Lstm,
    /// Gated recurrent unit.
    Gru,
    /// Plain recurrent unit with tanh.
    Tanh,
    /// Plain recurrent unit with rectification.
    Relu,
}

/// Distribution of initial weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// PyTorch's: weights and biases uniform within 1/sqrt(hidden).
    #[default]
    Uniform,
    /// Weights by Glorot and Bengio's uniform rule, gate by gate; biases as `uniform`.
    Xavier,
    /// Weights orthogonal, gate by gate; biases as `uniform`.
    Orthogonal,
    /// Weights by He's uniform rule with gain sqrt 2, gate by gate; biases as `uniform`.
    Kaiming,
}

/// A synthesizer: a network that predicts the gradient which truncation cuts off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DniSpec {
    /// Sizes of its hidden layers; an empty list is a linear synthesizer.
    #[serde(default)]
    #[schemars(inner(range(min = 1, max = 1_000_000)))]
    pub hidden: Vec<usize>,
    /// Factor on an injected synthetic gradient.
    #[serde(default = "tenth")]
    pub scale: f64,
    /// What the synthesizer sees besides the state.
    #[serde(default)]
    pub context: Context,
    /// Inputs that each unit of the first layer keeps (mossy fibres); all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub fibres: Option<usize>,
    /// Initial values of the last layer: `zero` where the synthesizer learns, `uniform` where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_last: Option<InitLast>,
    /// Whether it learns; `false` is a fixed random synthesizer.
    #[serde(default = "yes")]
    pub learn: bool,
    /// Epoch at whose start the interface is cut (cerebellar lesion).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub lesion_at: Option<usize>,
    /// Epoch at whose start the synthesizer stops learning (inferior-olive lesion).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub freeze_at: Option<usize>,
    /// Whether gradients of a synthesizer that does not learn count in the clip norm.
    #[serde(default)]
    pub frozen_in_norm: FrozenInNorm,
    /// Factor on the synthesizer's own gradient.
    #[serde(default)]
    pub target_scale: TargetScale,
    /// Layers with the same name share one synthesizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
}

/// What the synthesizer sees besides the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// Only the state.
    #[default]
    None,
    /// The target of the step that produced the state, classes as one-hot (cDNI).
    Target,
}

/// Initial values of the synthesizer's last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitLast {
    /// Weight and bias zero: the synthesizer starts silent.
    Zero,
    /// As every other layer.
    Uniform,
}

/// Whether gradients of a synthesizer that does not learn count in the clip norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FrozenInNorm {
    /// They are not even computed.
    #[default]
    Exclude,
    /// They pile up from batch to batch, as in the original.
    Accumulate,
}

/// Factor on the synthesizer's own gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetScale {
    /// 2 / (layers that share the synthesizer), as in the original.
    #[default]
    Layers,
    /// 2 / batch.
    Batch,
}

impl DniSpec {
    /// The initial values of the last layer, its default resolved.
    pub fn init_last(&self) -> InitLast {
        self.init_last.unwrap_or(if self.learn { InitLast::Zero } else { InitLast::Uniform })
    }

    /// Whether there is an epoch in which the synthesizer is used and does not learn.
    pub fn is_ever_frozen(&self) -> bool {
        !self.learn || self.freeze_at.is_some()
    }
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}
fn yes() -> bool {
    true
}
fn one() -> f64 {
    1.0
}
fn tenth() -> f64 {
    0.1
}
