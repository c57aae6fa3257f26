//! The image encoder: a convolutional backbone and a projection to the first input, or blocks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BlockSpec;

/// The value of `weights` for random initial weights.
pub const RANDOM: &str = "random";

/// The image encoder: a backbone, a linear layer to the embedding's width, and batch normalisation; or blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EncoderSpec {
    /// A residual network without its last layer (He et al. 2016), with torchvision's names.
    Resnet {
        /// Number of layers: 18, 34, 50, 101 or 152.
        depth: usize,
        /// Initial weights: `hub:<owner>/<repository>`, optionally with `/<file>`; a safetensors file or one of PyTorch's `save`;
        /// or `random`.
        #[schemars(regex(pattern = r"^(hub:[^/]+/[^/]+(/.+)?|[^:]+|[./~A-Z].*)$"))]
        weights: String,
        /// Which parts are trained.
        #[serde(default)]
        trainable: Trainable,
    },
    /// A small network of 3 x 3 convolutions, each of which halves the image, for generated scenes.
    Conv {
        /// Output channels of each convolution.
        #[serde(default = "channels")]
        #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 4096)))]
        channels: Vec<usize>,
        /// Initial weights: a safetensors file or one of PyTorch's `save`, or `random`.
        #[serde(default = "random")]
        #[schemars(regex(pattern = r"^(hub:[^/]+/[^/]+(/.+)?|[^:]+|[./~A-Z].*)$"))]
        weights: String,
        /// Which parts are trained.
        #[serde(default = "all")]
        trainable: Trainable,
    },
    /// Blocks from pixels to the first input, which are trained from scratch.
    Blocks {
        /// The blocks, bottom to top. The last one has as many outputs as the embedding is wide; `linear` without `units` has that many.
        #[schemars(length(min = 1, max = 1000))]
        blocks: Vec<BlockSpec>,
    },
}

/// Which parts of an encoder are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trainable {
    /// None; statistics of batch normalisation are frozen too.
    None,
    /// The linear layer and the batch normalisation after the backbone.
    #[default]
    Projection,
    /// The backbone too: images are encoded in every batch.
    All,
}

impl EncoderSpec {
    /// The supported depths of residual networks.
    pub const DEPTHS: [usize; 5] = [18, 34, 50, 101, 152];

    /// Which parts are trained.
    pub fn trainable(&self) -> Trainable {
        match self {
            EncoderSpec::Resnet { trainable, .. } | EncoderSpec::Conv { trainable, .. } => *trainable,
            EncoderSpec::Blocks { .. } => Trainable::All,
        }
    }

    /// The blocks, if it is made of blocks.
    pub fn blocks(&self) -> Option<&[BlockSpec]> {
        match self {
            EncoderSpec::Blocks { blocks } => Some(blocks),
            _ => None,
        }
    }

    /// Whether weights trained with the encoder `other` are valid with this one: with the same frozen backbone, or with a backbone
    /// that was trained together with them and is trained further. Blocks have to be the same; their interfaces may differ.
    pub fn carries_on(&self, other: &EncoderSpec) -> bool {
        let same = match (self, other) {
            (EncoderSpec::Resnet { depth: a, .. }, EncoderSpec::Resnet { depth: b, .. }) => a == b,
            (EncoderSpec::Conv { channels: a, .. }, EncoderSpec::Conv { channels: b, .. }) => a == b,
            (EncoderSpec::Blocks { blocks: a }, EncoderSpec::Blocks { blocks: b }) => {
                a.iter().map(|block| (&block.kind, &block.keys)).eq(b.iter().map(|block| (&block.kind, &block.keys)))
            }
            _ => false,
        };
        same && match (self.trainable(), other.trainable()) {
            (Trainable::All, Trainable::All) => true,
            (_, Trainable::All) => false,
            _ => self.weights() == other.weights(),
        }
    }

    /// Sets where the backbone's weights come from; blocks have no backbone.
    pub fn set_weights(&mut self, from: &str) {
        match self {
            EncoderSpec::Resnet { weights, .. } | EncoderSpec::Conv { weights, .. } => *weights = from.into(),
            EncoderSpec::Blocks { .. } => {}
        }
    }

    /// Where the backbone's weights come from.
    pub fn weights(&self) -> &str {
        match self {
            EncoderSpec::Resnet { weights, .. } | EncoderSpec::Conv { weights, .. } => weights,
            EncoderSpec::Blocks { .. } => RANDOM,
        }
    }
}

fn channels() -> Vec<usize> {
    vec![16, 32, 64, 128]
}
fn random() -> String {
    RANDOM.into()
}
fn all() -> Trainable {
    Trainable::All
}
