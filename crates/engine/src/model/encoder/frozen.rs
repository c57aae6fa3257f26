//! A frozen backbone, from images to features.

use std::path::PathBuf;

use candle_core::{Device, Tensor};

use super::weights::{self, Loaded, WeightSource};
use super::{RANDOM, backbone};
use crate::error::{Error, Result};
use crate::nn::Mode;
use crate::nn::backbone::Backbone;
use crate::spec::ModelSpec;

/// A backbone with constant weights.
pub struct FrozenBackbone {
    backbone: Backbone,
    tensors: Vec<Tensor>,
    /// The BLAKE3 digest of the file of weights in hex, or [`RANDOM`].
    pub digest: String,
    /// The file of the weights.
    pub file: Option<PathBuf>,
}

impl FrozenBackbone {
    /// The backbone of a model's encoder, for squares of `side` pixels, with the weights named in the spec. Random weights
    /// are the same for every seed, so that features are computed once for all seeds.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model has no encoder; as [`weights::load`].
    pub fn load(model: &ModelSpec, side: usize, device: &Device) -> Result<FrozenBackbone> {
        let spec = model.encoder.as_ref().ok_or_else(|| Error::Usage("the model has no encoder".into()))?;
        let source: WeightSource =
            spec.weights().parse().map_err(|what| Error::Usage(format!("`model.encoder.weights`: {what}")))?;
        let backbone = backbone(spec, side);
        let backbone = backbone
            .ok_or_else(|| Error::Usage("`model.encoder`: blocks have no backbone that could be frozen".into()))?;
        let Loaded { tensors, digest, file } = weights::load(&backbone, &source, 0, device)?;
        Ok(FrozenBackbone { backbone, tensors, digest: digest.unwrap_or_else(|| RANDOM.into()), file })
    }

    /// The weights, in the order of [`Backbone::tensors`].
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Width of a feature vector.
    pub fn width(&self) -> usize {
        self.backbone.features()
    }

    /// Pixels `[batch, 3, height, width]` to features `[batch, features]`.
    ///
    /// # Errors
    /// Fails if the backbone cannot read images of this size.
    pub fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.backbone.forward(&self.tensors, pixels, Mode::Evaluate)?.features)
    }
}
