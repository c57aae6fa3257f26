//! A trained captioning network.

use std::path::Path;

use candle_core::{Device, Tensor};
use image::RgbImage;

use crate::data::Vocabulary;
use crate::data::image_set::Viewing;
use crate::data::images::resize_square;
use crate::error::{Error, Result};
use crate::model::encoder::{FrozenBackbone, RANDOM, WeightSource};
use crate::run::trained_network::{Beside, TrainedNetwork};
use crate::run::weights;
use crate::spec::{EncoderSpec, Trainable};
use crate::tasks::Registry;
use crate::tasks::captioning::limits;
use crate::train::decode::{Decoded, Strategy};

/// A captioning network with its vocabulary, transform and backbone.
pub struct Captioner {
    network: TrainedNetwork,
    vocabulary: Vocabulary,
    view: Viewing,
    /// The backbone if it is frozen.
    backbone: Option<FrozenBackbone>,
}

impl Captioner {
    /// Loads a network, its vocabulary and its encoder. `given` overrides the weights of the frozen backbone in the spec.
    ///
    /// # Errors
    /// [`Error::Usage`] if the network is for another task than captioning, or if `given` is no source of weights, gives other
    /// weights than those that the network was trained on, or is of no use; [`Error::Data`] naming what is missing, and the
    /// flag to set.
    pub fn load(beside: &Beside, given: Option<&str>, device: &Device, registry: &Registry) -> Result<Captioner> {
        let mut network = TrainedNetwork::load(beside, device, registry)?;
        let spec = &mut network.resolved.spec;
        let view = registry.task(&spec.task)?.view();
        let (Some(view), Some(encoder), Some(vocabulary)) = (view, &mut spec.model.encoder, &network.vocabulary) else {
            return Err(Error::Usage(format!(
                "`--image` is for captioning, and this network was trained on `{}`; leave it out",
                spec.task.kind
            )));
        };
        let frozen = encoder.trainable() != Trainable::All;
        if let Some(given) = given {
            if !frozen {
                let what =
                    "`--backbone` is for a frozen backbone, and this network's was trained with it; leave it out";
                return Err(Error::Usage(what.into()));
            }
            given.parse::<WeightSource>().map_err(|what| Error::Usage(format!("`--backbone`: {what}")))?;
            encoder.set_weights(given);
        }
        let side = view.trained_side() as usize;
        let backbone = frozen.then(|| FrozenBackbone::load(&spec.model, side, device)).transpose();
        let backbone = backbone.map_err(|error| match error {
            Error::Data { path, what } => {
                Error::Data { path, what: format!("{what}; `--backbone FILE` gives the encoder's weights") }
            }
            other => other,
        })?;
        if let (Some(backbone), Some(file)) = (&backbone, &network.encoder) {
            check_backbone(backbone, spec.model.encoder.as_ref().map_or("", EncoderSpec::weights), file)?;
        }
        Ok(Captioner { vocabulary: vocabulary.clone(), view, backbone, network })
    }

    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Sentences per image: one, or several for a beam, the best first. A missing image has none, but keeps its index, so that the
    /// draws for later images do not change.
    ///
    /// # Errors
    /// [`Error::Usage`] for an invalid strategy; fails if the outputs are not finite.
    pub fn caption(
        &self,
        images: &[Option<RgbImage>],
        strategy: &Strategy,
        steps: usize,
    ) -> Result<Vec<Option<Vec<Decoded>>>> {
        let view = self.view.measured()?;
        let mut numbers = vec![0.0; images.len() * view.numbers()];
        for (image, out) in images.iter().zip(numbers.chunks_mut(view.numbers())) {
            if let Some(image) = image {
                view.write(&resize_square(image, self.view.resize)?, out)?;
            }
        }
        let shape = (images.len(), 3, view.size, view.size);
        let pixels = Tensor::from_vec(numbers, shape, self.network.device())?;
        let inputs = match &self.backbone {
            Some(backbone) => backbone.features(&pixels)?,
            None => pixels,
        };
        let sentences = self.network.decode(&inputs, strategy, &limits(steps))?;
        Ok(images.iter().zip(sentences).map(|(image, sentences)| image.as_ref().map(|_| sentences)).collect())
    }
}

/// Fails if a backbone with the weights `named` is not the one that the encoder in `file` was trained with.
fn check_backbone(backbone: &FrozenBackbone, named: &str, file: &Path) -> Result<()> {
    let Some(trained) = weights::backbone_source(file)? else { return Ok(()) };
    match trained.blake3.as_deref().unwrap_or(RANDOM) == backbone.digest {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "`{named}` gives other weights than those that this network was trained on (`{}`); name these with `--backbone`",
            trained.weights
        ))),
    }
}
