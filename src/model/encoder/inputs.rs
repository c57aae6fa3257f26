//! What an encoder reads of a task's pictures: pixels where its trunk learns, stored features where that is frozen.
//!
//! What is the same for every seed and epoch (decoded squares, features) is made once and kept in [`CACHE`], under a name
//! made of all that it depends on: the content of the pictures, the transform, the trunk and its weights.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::maker::{Maker, write};
use super::{FrozenTrunk, RANDOM};
use crate::data::pictures::{Item, Pictures, Store, Viewing};
use crate::data::{At, Split};
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::spec::{EncoderSpec, ModelSpec, Trainable};

/// Where decoded pictures and features are kept, relative to the working directory.
pub const CACHE: &str = "datasets/cache";

/// The name of the digest of the encoder's weights.
const WEIGHTS: &str = "encoder";

/// What the model reads of a picture.
enum Reads {
    /// Squares of bytes, `[pictures, side, side, 3]`: looks are taken and normalised batch by batch.
    Pixels,
    /// Features of a frozen trunk, `[pictures · variants, features]`.
    Features(usize),
}

/// What a model's encoder reads of the pictures of a task.
pub struct EncoderInputs {
    view: Viewing,
    seed: u64,
    reads: Reads,
    /// Those of training, and those of validation.
    stores: [Store; 2],
    /// Number of pictures to train with.
    trained: usize,
    /// Views of a picture in the store of training.
    variants: usize,
    good: Vec<bool>,
    digests: BTreeMap<String, String>,
}

impl EncoderInputs {
    /// Opens what is stored of the pictures, and makes it where it is not there. `device` computes features.
    ///
    /// # Errors
    /// [`Error::Usage`] where the model's encoder cannot read such pictures; [`Error::Data`] if pictures or weights are
    /// missing, or no picture can be read.
    pub fn open(pictures: &Pictures, model: &ModelSpec, seed: u64, device: &Device) -> Result<EncoderInputs> {
        let encoder = model.encoder.as_ref().ok_or_else(|| Error::Usage("the model has no encoder".into()))?;
        let view = pictures.view.clone();
        if let EncoderSpec::Conv { .. } = encoder
            && view.measured_side() != view.trained_side()
        {
            return Err(Error::Usage(format!(
                "`model.encoder.kind: conv` reads squares of one size, and training shows {} pixels, validation {}: leave \
                 `task.eval_transform` out",
                view.trained_side(),
                view.measured_side()
            )));
        }
        // Also where the trunk learns from these weights on: what is wrong with them is found before anything is written.
        let learns = encoder.trainable() == Trainable::All;
        let loaded = match learns && encoder.weights() == RANDOM {
            true => None,
            false => Some(FrozenTrunk::load(model, view.trained_side() as usize, device)?),
        };
        let from_file = loaded.as_ref().filter(|loaded| loaded.file.is_some());
        let weights = from_file.map(|loaded| loaded.digest.clone());
        let trunk = loaded.filter(|_| !learns);
        if trunk.is_none() && view.variants > 0 {
            let why = "a trunk that learns (`model.encoder.trainable: all`) sees other views in every epoch";
            return Err(Error::Usage(format!("`task.variants`: {why}; leave it out")));
        }
        let variants = if trunk.is_some() { view.variants.max(1) } else { 1 };
        let mut digests = BTreeMap::new();
        let mut stores = Vec::new();
        for (name, files, variants) in [("train", &pictures.train, variants), ("validation", &pictures.validation, 1)] {
            let maker = Maker { files, view: &view, train: name == "train", trunk: trunk.as_ref(), device };
            let (store, digest) = maker.store(encoder, variants)?;
            digests.insert(format!("pictures/{name}"), digest);
            stores.push(store);
        }
        digests.extend(weights.map(|digest| (WEIGHTS.to_string(), digest)));
        let stores: [Store; 2] =
            stores.try_into().map_err(|_| Error::Training("pictures to train and to validate with".into()))?;
        let good = [stores[0].good()?, stores[1].good()?].concat();
        if !good[..pictures.train.len()].contains(&true) {
            let folder = pictures.train.first().and_then(|path| path.parent()).unwrap_or(Path::new("."));
            return Err(Error::data(folder, "holds no picture that can be read"));
        }
        Ok(EncoderInputs {
            seed,
            reads: trunk.as_ref().map_or(Reads::Pixels, |trunk| Reads::Features(trunk.width())),
            stores,
            trained: pictures.train.len(),
            variants,
            view,
            good,
            digests,
        })
    }

    /// For each picture, in the order of their numbers, whether it can be read.
    pub fn good(&self) -> &[bool] {
        &self.good
    }

    /// BLAKE3 digests, in hex, of the pictures and of the encoder's weights, by name.
    pub fn digests(&self) -> &BTreeMap<String, String> {
        &self.digests
    }

    /// The digest of the file of an encoder's weights, among the digests of a task's data.
    pub fn weights(digests: &BTreeMap<String, String>) -> Option<&String> {
        digests.get(WEIGHTS)
    }

    /// The store of a picture, and its place there.
    fn place(&self, picture: u32) -> (&Store, usize) {
        match (picture as usize).checked_sub(self.trained) {
            Some(picture) => (&self.stores[1], picture),
            None => (&self.stores[0], picture as usize),
        }
    }

    /// What the first step reads of the pictures of a batch, by number: `[pictures, features]`, or pixels `[pictures, 3,
    /// height, width]`. Training sees a view that is drawn for each picture, validation always the same.
    ///
    /// # Errors
    /// Fails if the store cannot be read.
    pub fn look(&self, pictures: &[u32], at: At) -> Result<Tensor> {
        let mut stream = Stream::new(self.seed, "data.look", at.epoch, at.index);
        let training = at.split == Split::Train;
        match self.reads {
            Reads::Features(width) => {
                let mut numbers = Vec::with_capacity(pictures.len() * width);
                for &picture in pictures {
                    let (store, picture) = self.place(picture);
                    let variant = if training { stream.below(self.variants) } else { 0 };
                    store.row(Item { picture, variant }, |row| {
                        numbers.extend(row.chunks_exact(4).map(|n| f32::from_le_bytes([n[0], n[1], n[2], n[3]])));
                    })?;
                }
                Ok(Tensor::from_vec(numbers, (pictures.len(), width), &Device::Cpu)?)
            }
            Reads::Pixels => {
                let side = if training { self.view.trained_side() } else { self.view.measured_side() } as usize;
                let mut numbers = vec![0.0; pictures.len() * 3 * side * side];
                for (&picture, out) in pictures.iter().zip(numbers.chunks_mut(3 * side * side)) {
                    let (store, picture) = self.place(picture);
                    let view = if training { self.view.trained(&mut stream) } else { self.view.measured() }?;
                    let square = self.view.resize;
                    store.row(Item { picture, variant: 0 }, |row| write(view, row, square, out))??;
                }
                Ok(Tensor::from_vec(numbers, (pictures.len(), 3, side, side), &Device::Cpu)?)
            }
        }
    }
}
