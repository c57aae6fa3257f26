//! A trained captioning network.

use candle_core::{Device, Tensor};
use image::RgbImage;

use crate::data::Vocabulary;
use crate::data::image_set::Viewing;
use crate::data::images::resize_square;
use crate::error::{Error, Result};
use crate::model::encoder::FrozenBackbone;
use crate::run::trained_network::{Beside, TrainedNetwork};
use crate::run::weights;
use crate::spec::Trainable;
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
    /// Loads a network, its vocabulary and its encoder. `backbone` overrides the weights of the frozen backbone in the spec.
    ///
    /// # Errors
    /// [`Error::Usage`] if the network is for another task than captioning; [`Error::Data`] naming what is missing, and
    /// the flag to set.
    pub fn load(beside: &Beside, backbone: Option<&str>, device: &Device, registry: &Registry) -> Result<Captioner> {
        let mut network = TrainedNetwork::load(beside, device, registry)?;
        let spec = &mut network.resolved.spec;
        let view = registry.task(&spec.task)?.view();
        let (Some(view), Some(encoder), Some(vocabulary)) = (view, &mut spec.model.encoder, &network.vocabulary) else {
            return Err(Error::Usage(format!(
                "`--image` is for captioning, and this network was trained on `{}`; leave it out",
                spec.task.kind
            )));
        };
        if let Some(backbone) = backbone {
            encoder.set_weights(backbone);
        }
        let frozen = encoder.trainable() != Trainable::All;
        let side = view.trained_side() as usize;
        let backbone = frozen.then(|| FrozenBackbone::load(&spec.model, side, device)).transpose();
        let backbone = backbone.map_err(|error| match error {
            Error::Data { path, what } => {
                Error::Data { path, what: format!("{what}; `--backbone FILE` gives the encoder's weights") }
            }
            other => other,
        })?;
        if let Some(backbone) = backbone.as_ref().filter(|backbone| backbone.file.is_some()) {
            let encoder = network.encoder.as_deref().map(weights::backbone_digest).transpose()?.flatten();
            if encoder.is_some_and(|digest| digest != backbone.digest) {
                let what = "holds other weights than those that this network was trained on; name these with `--backbone FILE`";
                return Err(Error::data(backbone.file.as_deref().unwrap_or(&beside.decoder), what));
            }
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
