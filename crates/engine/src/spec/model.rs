//! The network: recurrent layers, synthesizers, embedding and readout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BlockSpec, EncoderSpec, FeedbackSpec};
use crate::plugins::Keys;

/// The network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The blocks of a feed-forward network, bottom to top: the whole network, or with `layers` what reads each step for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 1000))]
    pub blocks: Vec<BlockSpec>,
    /// The recurrent stack, bottom to top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 1000))]
    pub layers: Vec<LayerSpec>,
    /// The readout of the top layer.
    #[serde(default)]
    pub readout: Readout,
    /// The image encoder; required for tasks with images, an error otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<EncoderSpec>,
    /// The embedding of token inputs; required for tasks with token inputs, an error otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed: Option<EmbedSpec>,
    /// Dropout on the input of the first layer.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub input_dropout: f64,
    /// Dropout on the output of the top layer, before the readout.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0, "default" = 0.0))]
    pub output_dropout: f64,
    /// Initial weights of the readout are uniform within ± this, and its bias is zero; by default both as in PyTorch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub readout_range: Option<f64>,
}

/// The readout of the top layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readout {
    /// A linear layer.
    #[default]
    Linear,
    /// The embedding's weights, transposed, and a bias: for tokens, with an embedding as wide as the top layer.
    Tied,
}

/// The embedding of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedSpec {
    /// Width of the embedding.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub size: usize,
    /// Initial weights are uniform within ± this; standard normal by default, as in PyTorch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub range: Option<f64>,
}

/// One recurrent layer ("cerebral cortex").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LayerSpec {
    /// The kind of recurrent cell, which may have its own keys.
    pub cell: String,
    /// Number of units.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub hidden: usize,
    /// Dropout on this layer's output, between layers only (ignored for the top layer).
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Distribution of the cell's initial weights.
    #[serde(default)]
    pub init: Init,
    /// Factor on the cell's initial weights, and on its biases unless `init_scaled` excludes them.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub init_scale: f64,
    /// The initial values that `init_scale` scales. The original scales weights and biases of networks with a synthesizer, and
    /// weights alone of others.
    #[serde(default, skip_serializing_if = "InitScaled::is_all")]
    pub init_scaled: InitScaled,
    /// Whether its weights learn; `false` for a frozen layer.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[schemars(extend("default" = true))]
    pub learn: bool,
    /// Activity feedback from its own output into its input; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<FeedbackSpec>,
    /// The cell's own keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// The synthesizer of this layer ("cerebellum"); none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-figure" = "NeurIPS 2021, Fig. 2 and S3; Nature Communications 2023, Fig. 3 and 8"))]
    pub dni: Option<DniSpec>,
}

/// Distribution of initial weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// PyTorch's default: weights and biases uniform within ±1/sqrt(hidden).
    #[default]
    Uniform,
    /// Weights per gate by Glorot and Bengio's uniform rule; biases as for `uniform`.
    Xavier,
    /// Orthogonal weights per gate; biases as for `uniform`.
    Orthogonal,
    /// Weights per gate by He's uniform rule with gain sqrt(2); biases as for `uniform`.
    Kaiming,
}

/// The initial values of a recurrent layer that a factor scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitScaled {
    /// Weights and biases.
    #[default]
    All,
    /// Weights alone.
    Weights,
}

impl InitScaled {
    fn is_all(&self) -> bool {
        *self == InitScaled::All
    }
}

/// A synthesizer: a network that predicts the gradient beyond the end of the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DniSpec {
    /// The kind of synthesizer, which may have its own keys.
    #[serde(default = "mlp", skip_serializing_if = "is_mlp")]
    #[schemars(extend("default" = "mlp"))]
    pub kind: String,
    /// The synthesizer's own keys.
    #[serde(flatten)]
    pub keys: Keys,
    /// Factor on the synthetic gradient.
    #[serde(default = "tenth")]
    pub scale: f64,
    /// What the synthesizer learns to predict.
    #[serde(default, skip_serializing_if = "SynthesizerTarget::is_bootstrapped")]
    pub target: SynthesizerTarget,
    /// Discount of what lies beyond the end of the window in the synthesizer's target; `scale` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gamma: Option<f64>,
    /// Share of later targets, rather than predictions, in the target `lambda`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub lambda: Option<f64>,
    /// Number of windows whose losses are in the target `n_step`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub windows: Option<usize>,
    /// Input of the synthesizer besides the state.
    #[serde(default)]
    pub context: Context,
    /// Whether it is trained; `false` for a fixed random synthesizer.
    #[serde(default = "yes")]
    pub learn: bool,
    /// Epoch at the start of which the synthesizer is disconnected (cerebellar lesion).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub lesion_at: Option<usize>,
    /// Epoch at the start of which the synthesizer is frozen (inferior-olive lesion).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub freeze_at: Option<usize>,
    /// Whether the gradients of a frozen synthesizer count towards the clip norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "FrozenInNorm", extend("default" = "exclude"))]
    pub frozen_in_norm: Option<FrozenInNorm>,
    /// Factor on the synthesizer's own gradient.
    #[serde(default)]
    pub target_scale: TargetScale,
    /// Layers with the same name share one synthesizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
}

/// What a synthesizer learns to predict at the start of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SynthesizerTarget {
    /// The gradient of the window's loss, and its own prediction at the window's end.
    #[default]
    Bootstrapped,
    /// The gradient of the losses of `windows` windows, and its own prediction at the end of the last one.
    NStep,
    /// The gradient of all later losses, without predictions.
    MonteCarlo,
    /// The average of all of these, weighted by powers of `lambda`.
    Lambda,
}

impl SynthesizerTarget {
    fn is_bootstrapped(&self) -> bool {
        *self == SynthesizerTarget::Bootstrapped
    }
}

/// Input of the synthesizer besides the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// None.
    #[default]
    None,
    /// The target of the step that produced the state, classes as one-hot (cDNI).
    Target,
}

/// Whether the gradients of a frozen synthesizer count towards the clip norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FrozenInNorm {
    /// They are not computed.
    #[default]
    Exclude,
    /// They accumulate over batches, as in the original code.
    Accumulate,
}

/// Factor on the synthesizer's own gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetScale {
    /// 2 / (number of layers that share the synthesizer), as in the original code.
    #[default]
    Layers,
    /// 2 / batch.
    Batch,
}

impl DniSpec {
    /// The discount in the synthesizer's target.
    pub fn gamma(&self) -> f64 {
        self.gamma.unwrap_or(self.scale)
    }

    /// Whether the target is another than the gradient that the network's own backward pass arrives with.
    pub fn has_own_target(&self) -> bool {
        !self.target.is_bootstrapped() || self.gamma() != self.scale
    }

    /// A synthesizer of a kind with its own keys; everything else has its default.
    pub(crate) fn of(kind: &str, keys: Keys) -> DniSpec {
        DniSpec {
            kind: kind.into(),
            keys,
            scale: tenth(),
            target: SynthesizerTarget::default(),
            gamma: None,
            lambda: None,
            windows: None,
            context: Context::default(),
            learn: true,
            lesion_at: None,
            freeze_at: None,
            frozen_in_norm: None,
            target_scale: TargetScale::default(),
            share: None,
        }
    }

    /// Whether there is an epoch in which the synthesizer is used but not trained.
    pub fn is_ever_frozen(&self) -> bool {
        !self.learn || self.freeze_at.is_some()
    }
}

fn is_zero(p: &f64) -> bool {
    *p == 0.0
}
pub(super) fn mlp() -> String {
    "mlp".into()
}
pub(super) fn is_mlp(kind: &str) -> bool {
    kind == "mlp"
}
pub(super) fn yes() -> bool {
    true
}
fn is_yes(flag: &bool) -> bool {
    *flag
}
pub(super) fn one() -> f64 {
    1.0
}
fn tenth() -> f64 {
    0.1
}
