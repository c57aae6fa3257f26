//! The inputs of an encoder: pixels if its backbone or its blocks learn, stored features if it is frozen.
//!
//! Decoded squares and features are the same for every seed and epoch. They are computed once and kept in [`CACHE`], named
//! by a hash of what they depend on: the content of the images, the transform, the backbone and its weights.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use candle_core::{Device, Tensor};

use super::maker::{Maker, write};
use super::{FrozenBackbone, RANDOM};
use crate::data::image_set::{Images, Item, Store, Viewing};
use crate::data::{BatchIndex, Split};
use crate::error::{Error, Result};
use crate::nn::kernel::{PASS, Threads, written};
use crate::rng::Stream;
use crate::spec::{EncoderSpec, ModelSpec, Trainable};

/// The directory of decoded images and features, relative to the working directory.
pub const CACHE: &str = "datasets/cache";

/// The name of the digest of the encoder's weights.
const WEIGHTS: &str = "encoder";

/// What the model reads per image.
enum Reads {
    /// Squares of bytes, `[images, side, side, 3]`; views are cropped and normalised per batch.
    Pixels,
    /// Features of a frozen backbone, `[images · variants, features]`.
    Features(usize),
}

/// The inputs of a model's encoder for the images of a task.
pub struct EncoderInputs {
    view: Viewing,
    seed: u64,
    reads: Reads,
    /// Training and validation.
    stores: [Store; 2],
    /// Number of training images.
    trained: usize,
    /// Views per image in the training store.
    variants: usize,
    good: Vec<bool>,
    digests: BTreeMap<String, String>,
}

impl EncoderInputs {
    /// Opens the stores of the images, computing those that do not exist, features on `device`.
    ///
    /// # Errors
    /// [`Error::Usage`] if the model's encoder cannot read such images; [`Error::Data`] if images or weights are missing, or
    /// no image can be read.
    pub fn open(images: &Images, model: &ModelSpec, seed: u64, device: &Device) -> Result<EncoderInputs> {
        let encoder = model.encoder.as_ref().ok_or_else(|| Error::Usage("the model has no encoder".into()))?;
        let view = images.view.clone();
        let of_one_size = match encoder {
            EncoderSpec::Conv { .. } => Some("conv"),
            EncoderSpec::Blocks { .. } => Some("blocks"),
            EncoderSpec::Resnet { .. } => None,
        };
        if let Some(kind) = of_one_size
            && view.measured_side() != view.trained_side()
        {
            return Err(Error::Usage(format!(
                "`model.encoder.kind: {kind}` reads squares of one size, and training shows {} pixels, validation {}: leave \
                 `task.eval_transform` out",
                view.trained_side(),
                view.measured_side()
            )));
        }
        // Also if the backbone is trained from these weights, so that errors are found before anything is written.
        let learns = encoder.trainable() == Trainable::All;
        let loaded = match learns && encoder.weights() == RANDOM {
            true => None,
            false => Some(FrozenBackbone::load(model, view.trained_side() as usize, device)?),
        };
        let from_file = loaded.as_ref().filter(|loaded| loaded.file.is_some());
        let weights = from_file.map(|loaded| loaded.digest.clone());
        let backbone = loaded.filter(|_| !learns);
        if backbone.is_none() && view.variants > 0 {
            let why =
                "an encoder that learns from pixels (`trainable: all`, or blocks) sees other views in every epoch";
            return Err(Error::Usage(format!("`task.variants`: {why}; leave it out")));
        }
        let variants = if backbone.is_some() { view.variants.max(1) } else { 1 };
        let mut digests = BTreeMap::new();
        let mut stores = Vec::new();
        for (name, files, variants) in [("train", &images.train, variants), ("validation", &images.validation, 1)] {
            let maker = Maker { files, view: &view, train: name == "train", backbone: backbone.as_ref(), device };
            let (store, digest) = maker.store(encoder, variants)?;
            digests.insert(format!("pictures/{name}"), digest);
            stores.push(store);
        }
        digests.extend(weights.map(|digest| (WEIGHTS.to_string(), digest)));
        let stores: [Store; 2] =
            stores.try_into().map_err(|_| Error::Training("expected images for training and validation".into()))?;
        let good = [stores[0].good()?, stores[1].good()?].concat();
        if !good[..images.train.len()].contains(&true) {
            let folder = images.train.first().and_then(|path| path.parent()).unwrap_or(Path::new("."));
            return Err(Error::data(folder, "holds no image that can be read"));
        }
        Ok(EncoderInputs {
            seed,
            reads: backbone.as_ref().map_or(Reads::Pixels, |backbone| Reads::Features(backbone.width())),
            stores,
            trained: images.train.len(),
            variants,
            view,
            good,
            digests,
        })
    }

    /// Whether each image can be read, by number.
    pub fn good(&self) -> &[bool] {
        &self.good
    }

    /// BLAKE3 digests in hex of the images and the encoder's weights, by name.
    pub fn digests(&self) -> &BTreeMap<String, String> {
        &self.digests
    }

    /// The digest of the encoder's file of weights among those of a task's data.
    pub fn weights(digests: &BTreeMap<String, String>) -> Option<&String> {
        digests.get(WEIGHTS)
    }

    /// The store of an image, and its index there.
    fn place(&self, image: u32) -> (&Store, usize) {
        match (image as usize).checked_sub(self.trained) {
            Some(image) => (&self.stores[1], image),
            None => (&self.stores[0], image as usize),
        }
    }

    /// The inputs for the images of a batch, by number: `[images, features]`, or pixels `[images, 3, height, width]`.
    /// Training draws a random view per image, validation always uses the same.
    ///
    /// # Errors
    /// Fails if the store cannot be read.
    pub fn look(&self, images: &[u32], at: BatchIndex) -> Result<Tensor> {
        let mut stream = Stream::new(self.seed, "data.look", at.epoch, at.index);
        let training = at.split == Split::Train;
        match self.reads {
            Reads::Features(width) => {
                let mut numbers = Vec::with_capacity(images.len() * width);
                for &image in images {
                    let (store, image) = self.place(image);
                    let variant = if training { stream.below(self.variants) } else { 0 };
                    store.row(Item { image, variant }, |row| {
                        numbers.extend(row.chunks_exact(4).map(|n| f32::from_le_bytes([n[0], n[1], n[2], n[3]])));
                    })?;
                }
                Ok(Tensor::from_vec(numbers, (images.len(), width), &Device::Cpu)?)
            }
            Reads::Pixels => {
                let side = if training { self.view.trained_side() } else { self.view.measured_side() } as usize;
                let mut view = || if training { self.view.trained(&mut stream) } else { self.view.measured() };
                let views = images.iter().map(|_| view()).collect::<Result<Vec<_>>>()?;
                let size = 3 * side * side;
                let (failed, threads) = (OnceLock::new(), Threads::of_pool().worth(images.len() * size * PASS));
                let numbers = written(images.len() * size, size, threads, |index, out| {
                    let ((store, image), square) = (self.place(images[index]), self.view.resize);
                    let read = store.row(Item { image, variant: 0 }, |row| write(views[index], row, square, out));
                    if let Err(error) = read.flatten() {
                        let _ = failed.set(error);
                    }
                });
                if let Some(error) = failed.into_inner() {
                    return Err(error);
                }
                Ok(Tensor::from_vec(numbers, (images.len(), 3, side, side), &Device::Cpu)?)
            }
        }
    }
}
