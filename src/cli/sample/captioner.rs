//! A trained captioning network, and what it needs to describe any picture.

use candle_core::{Device, Tensor};
use image::RgbImage;

use crate::data::Vocabulary;
use crate::data::images::resize_square;
use crate::data::pictures::Viewing;
use crate::error::{Error, Result};
use crate::model::encoder::FrozenTrunk;
use crate::run::trained_network::{Beside, TrainedNetwork};
use crate::run::weights;
use crate::spec::Trainable;
use crate::tasks::Registry;
use crate::tasks::captioning::limits;
use crate::train::decode::{Decoded, Strategy};

/// A captioning network with everything that it needs to look at a picture.
pub struct Captioner {
    network: TrainedNetwork,
    vocabulary: Vocabulary,
    view: Viewing,
    /// The trunk, where it is frozen.
    trunk: Option<FrozenTrunk>,
}

impl Captioner {
    /// Reads a network, its words and its encoder. `trunk` stands in for the weights of the frozen trunk that the spec names.
    ///
    /// # Errors
    /// [`Error::Usage`] if the network is for another task than captioning; [`Error::Data`] naming what is missing, with
    /// the flag that would say where it is.
    pub fn load(beside: &Beside, trunk: Option<&str>, device: &Device, registry: &Registry) -> Result<Captioner> {
        let mut network = TrainedNetwork::load(beside, device, registry)?;
        let spec = &mut network.resolved.spec;
        let view = registry.task(&spec.task)?.view();
        let (Some(view), Some(encoder), Some(vocabulary)) = (view, &mut spec.model.encoder, &network.vocabulary) else {
            return Err(Error::Usage(format!(
                "`--image` is for captioning, and this network was trained on `{}`; leave it out",
                spec.task.kind
            )));
        };
        if let Some(trunk) = trunk {
            encoder.set_weights(trunk);
        }
        let frozen = encoder.trainable() != Trainable::All;
        let side = view.trained_side() as usize;
        let trunk = frozen.then(|| FrozenTrunk::load(&spec.model, side, device)).transpose();
        let trunk = trunk.map_err(|error| match error {
            Error::Data { path, what } => {
                Error::Data { path, what: format!("{what}; `--trunk FILE` says where the encoder's weights are") }
            }
            other => other,
        })?;
        if let Some(trunk) = trunk.as_ref().filter(|trunk| trunk.file.is_some()) {
            let encoder = network.encoder.as_deref().map(weights::trunk_digest).transpose()?.flatten();
            if encoder.is_some_and(|digest| digest != trunk.digest) {
                let what =
                    "holds other weights than those that this network was trained on; name these with `--trunk FILE`";
                return Err(Error::data(trunk.file.as_deref().unwrap_or(&beside.decoder), what));
            }
        }
        Ok(Captioner { vocabulary: vocabulary.clone(), view, trunk, network })
    }

    /// The words.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Sentences for pictures, of which the first is number `first`: for each one, or for a beam several, the best first. A
    /// picture that is not there gets none, and keeps its place: what is drawn for those behind it stays the same.
    ///
    /// # Errors
    /// [`Error::Usage`] for a strategy that cannot be; fails if the weights give something that is no number.
    pub fn caption(
        &self,
        pictures: &[Option<RgbImage>],
        strategy: &Strategy,
        steps: usize,
    ) -> Result<Vec<Option<Vec<Decoded>>>> {
        let view = self.view.measured()?;
        let mut numbers = vec![0.0; pictures.len() * view.numbers()];
        for (picture, out) in pictures.iter().zip(numbers.chunks_mut(view.numbers())) {
            if let Some(picture) = picture {
                view.write(&resize_square(picture, self.view.resize)?, out)?;
            }
        }
        let shape = (pictures.len(), 3, view.size, view.size);
        let pixels = Tensor::from_vec(numbers, shape, self.network.device())?;
        let seen = match &self.trunk {
            Some(trunk) => trunk.features(&pixels)?,
            None => pixels,
        };
        let said = self.network.decode(&seen, strategy, &limits(steps))?;
        Ok(pictures.iter().zip(said).map(|(picture, said)| picture.as_ref().map(|_| said)).collect())
    }
}
