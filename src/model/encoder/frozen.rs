//! A trunk that does not learn: pictures in, features out.

use std::path::PathBuf;

use candle_core::{Device, Tensor};

use super::weights::{self, Loaded, WeightSource};
use super::{RANDOM, trunk};
use crate::error::{Error, Result};
use crate::nn::Mode;
use crate::nn::trunk::Trunk;
use crate::spec::ModelSpec;

/// A trunk with its weights, which never change.
pub struct FrozenTrunk {
    trunk: Trunk,
    tensors: Vec<Tensor>,
    /// What the weights are: BLAKE3 of their file in hex, or [`RANDOM`].
    pub digest: String,
    /// The file of the weights.
    pub file: Option<PathBuf>,
}

impl FrozenTrunk {
    /// The trunk of a model's encoder, for squares of `side` pixels, with the weights that the spec names. Random weights are the
    /// same for every seed: what a frozen trunk makes of pictures is computed once for all.
    ///
    /// # Errors
    /// [`Error::Usage`] where the model has no encoder; whatever is wrong with the weights.
    pub fn load(model: &ModelSpec, side: usize, device: &Device) -> Result<FrozenTrunk> {
        let spec = model.encoder.as_ref().ok_or_else(|| Error::Usage("the model has no encoder".into()))?;
        let source: WeightSource =
            spec.weights().parse().map_err(|what| Error::Usage(format!("`model.encoder.weights`: {what}")))?;
        let trunk = trunk(spec, side);
        let Loaded { tensors, digest, file } = weights::load(&trunk, &source, 0, device)?;
        Ok(FrozenTrunk { trunk, tensors, digest: digest.unwrap_or_else(|| RANDOM.into()), file })
    }

    /// The weights, in the order of [`Trunk::tensors`].
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Numbers that make a feature vector.
    pub fn width(&self) -> usize {
        self.trunk.features()
    }

    /// Pixels `[batch, 3, height, width]` to features `[batch, features]`.
    ///
    /// # Errors
    /// Fails if the pictures have another size than the trunk can read.
    pub fn features(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(self.trunk.forward(&self.tensors, pixels, Mode::Evaluate)?.features)
    }
}
