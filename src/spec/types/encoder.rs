//! What reads images: a convolutional backbone, and the projection that makes the first input of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What reads images. Behind its backbone come a linear layer of the embedding's width and batch normalisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EncoderSpec {
    /// A residual network without its last layer (He et al. 2016), with torchvision's names.
    Resnet {
        /// Number of layers: 18, 34, 50, 101 or 152.
        depth: usize,
        /// Where the weights come from: `hub:<owner>/<repository>`, perhaps with `/<file>`; a file of safetensors
        /// or of PyTorch's `save`; or `random`.
        #[schemars(regex(pattern = r"^(hub:[^/]+/[^/]+(/.+)?|[^:]+|[./~A-Z].*)$"))]
        weights: String,
        /// What of it learns.
        #[serde(default)]
        trainable: Trainable,
    },
    /// A small network of 3 x 3 convolutions that halve the image, for drawn scenes.
    Conv {
        /// Channels of each convolution.
        #[serde(default = "channels")]
        #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 4096)))]
        channels: Vec<usize>,
        /// Where the weights come from: a file of safetensors or of PyTorch's `save`, or `random`.
        #[serde(default = "random")]
        #[schemars(regex(pattern = r"^(hub:[^/]+/[^/]+(/.+)?|[^:]+|[./~A-Z].*)$"))]
        weights: String,
        /// What of it learns.
        #[serde(default = "all")]
        trainable: Trainable,
    },
}

/// What of an encoder learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trainable {
    /// Nothing, and no statistics of batch normalisation move.
    None,
    /// The linear layer and the batch normalisation behind the backbone.
    #[default]
    Projection,
    /// The backbone too: images are read anew in every batch.
    All,
}

impl EncoderSpec {
    /// The depths that there are residual networks of.
    pub const DEPTHS: [usize; 5] = [18, 34, 50, 101, 152];

    /// What of it learns.
    pub fn trainable(&self) -> Trainable {
        match self {
            EncoderSpec::Resnet { trainable, .. } | EncoderSpec::Conv { trainable, .. } => *trainable,
        }
    }

    /// Whether weights that were trained behind `other` mean the same here: behind the same backbone, or with one that was
    /// trained with them and learns on.
    pub fn carries_on(&self, other: &EncoderSpec) -> bool {
        let kind = |encoder: &EncoderSpec| match encoder {
            EncoderSpec::Resnet { depth, .. } => (Some(*depth), Vec::new()),
            EncoderSpec::Conv { channels, .. } => (None, channels.clone()),
        };
        kind(self) == kind(other)
            && match (self.trainable(), other.trainable()) {
                (Trainable::All, Trainable::All) => true,
                (_, Trainable::All) => false,
                _ => self.weights() == other.weights(),
            }
    }

    /// Says that the backbone's weights come from somewhere else.
    pub fn set_weights(&mut self, from: &str) {
        match self {
            EncoderSpec::Resnet { weights, .. } | EncoderSpec::Conv { weights, .. } => *weights = from.into(),
        }
    }

    /// Where the backbone's weights come from.
    pub fn weights(&self) -> &str {
        match self {
            EncoderSpec::Resnet { weights, .. } | EncoderSpec::Conv { weights, .. } => weights,
        }
    }
}

fn channels() -> Vec<usize> {
    vec![16, 32, 64, 128]
}
fn random() -> String {
    "random".into()
}
fn all() -> Trainable {
    Trainable::All
}
