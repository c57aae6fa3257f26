//! What a task's pictures become before a network sees them: pixels for a trunk that learns, stored features of one that is
//! frozen.
//!
//! A task names pictures by number. [`open`] puts a [`Seen`] around its data, which fills in what the model's encoder reads.
//! What is the same for every seed and epoch (decoded squares, features) is made once and kept in [`CACHE`], under a name
//! made of all that it depends on: the content of the pictures, the transform, the trunk and its weights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;
use serde_json::json;

use crate::counter::{Counter, eprint_line};
use crate::data::images::{self, View};
use crate::data::pictures::{self, Item, Pictures, Store, Viewing, Work};
use crate::data::{At, Batch, Dataset, Exam, Inputs, Metric, Showcase, Split, Vocabulary};
use crate::device;
use crate::error::{Error, Result};
use crate::model::encoder::{FrozenTrunk, RANDOM};
use crate::rng::Stream;
use crate::spec::{EncoderSpec, ModelSpec, Spec, Trainable};
use crate::tasks::Registry;

/// Where decoded pictures and features are kept, relative to the working directory.
pub const CACHE: &str = "datasets/cache";

/// Raised when decoding, resizing or a trunk changes what it makes of a picture.
const VERSION: u32 = 1;

/// The name under which the weights of an encoder are among a run's data.
pub const ENCODER: &str = "encoder";

/// Pictures that go through a frozen trunk together, on a device that has many arithmetic units.
const TOGETHER: usize = 32;

/// Opens a task's data for a seed, with whatever the model needs made of its pictures. Gives digests of that, by name, for
/// the run's manifest.
///
/// # Errors
/// Whatever the task reports; [`Error::Data`] if pictures are missing or none can be read.
pub fn open(
    registry: &Registry,
    spec: &Spec,
    seed: u64,
    device: &Device,
) -> Result<(Box<dyn Dataset>, BTreeMap<String, String>)> {
    see(registry.task(&spec.task)?.open(seed)?, &spec.model, seed, device)
}

/// A task's data with whatever a model needs made of its pictures; the data as they are where there are none.
///
/// # Errors
/// As [`open`].
pub fn see(
    data: Box<dyn Dataset>,
    model: &ModelSpec,
    seed: u64,
    device: &Device,
) -> Result<(Box<dyn Dataset>, BTreeMap<String, String>)> {
    match (&model.encoder, data.pictures().cloned()) {
        (Some(encoder), Some(pictures)) => {
            let seen = Seen::new(data, &pictures, encoder, model, seed, device)?;
            let digests = seen.digests.clone();
            Ok((Box::new(seen), digests))
        }
        _ => Ok((data, BTreeMap::new())),
    }
}

/// What the model reads of a picture.
enum Reads {
    /// Squares of bytes, `[pictures, side, side, 3]`: looks are taken and normalised batch by batch.
    Pixels,
    /// Features of a frozen trunk, `[pictures · variants, features]`.
    Features(usize),
}

/// A task's data, with what its pictures became.
pub struct Seen {
    data: Box<dyn Dataset>,
    view: Viewing,
    seed: u64,
    reads: Reads,
    /// Those of training, and those of validation.
    stores: [Store; 2],
    /// Number of pictures to train with.
    trained: usize,
    /// Views of a picture in the store of training.
    variants: usize,
    digests: BTreeMap<String, String>,
}

impl Seen {
    fn new(
        mut data: Box<dyn Dataset>,
        pictures: &Pictures,
        encoder: &EncoderSpec,
        model: &ModelSpec,
        seed: u64,
        device: &Device,
    ) -> Result<Seen> {
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
        digests.extend(weights.map(|digest| (ENCODER.to_string(), digest)));
        let stores: [Store; 2] =
            stores.try_into().map_err(|_| Error::Training("pictures to train and to validate with".into()))?;
        let good = [stores[0].good()?, stores[1].good()?].concat();
        if !good[..pictures.train.len()].contains(&true) {
            let folder = pictures.train.first().and_then(|path| path.parent()).unwrap_or(Path::new("."));
            return Err(Error::data(folder, "holds no picture that can be read"));
        }
        data.leave_out(&good);
        Ok(Seen {
            data,
            seed,
            reads: trunk.as_ref().map_or(Reads::Pixels, |trunk| Reads::Features(trunk.width())),
            stores,
            trained: pictures.train.len(),
            variants,
            view,
            digests,
        })
    }

    /// The store of a picture, and its place there.
    fn place(&self, picture: u32) -> (&Store, usize) {
        match (picture as usize).checked_sub(self.trained) {
            Some(picture) => (&self.stores[1], picture),
            None => (&self.stores[0], picture as usize),
        }
    }

    /// What the first step reads.
    fn feature(&self, pictures: &[u32], at: At) -> Result<Tensor> {
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

    fn fill(&self, batch: Batch, at: At) -> Result<Batch> {
        let Inputs::Pictures { pictures, ids } = batch.inputs.clone() else { return Ok(batch) };
        let feature = Some(self.feature(&pictures, at)?);
        Ok(batch.reading(Inputs::Tokens { feature, ids }))
    }
}

impl Dataset for Seen {
    fn metrics(&self) -> Vec<Metric> {
        self.data.metrics()
    }

    fn batches(&self, split: Split, batch_size: usize) -> usize {
        self.data.batches(split, batch_size)
    }

    fn batch(&self, at: At) -> Result<Batch> {
        self.fill(self.data.batch(at)?, at)
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        self.data.vocabulary()
    }

    fn pictures(&self) -> Option<&Pictures> {
        self.data.pictures()
    }

    fn exam(&self) -> Option<Exam> {
        self.data.exam()
    }

    fn look(&self, pictures: &[u32]) -> Result<Tensor> {
        self.feature(pictures, At { split: Split::Validation, epoch: 0, index: 0, batch_size: pictures.len() })
    }

    fn check(&self, batch_size: usize) -> Result<()> {
        self.data.check(batch_size)
    }

    fn showcase(&self) -> Result<Option<Showcase>> {
        self.data.showcase()
    }
}

/// Makes a store of pictures.
struct Maker<'a> {
    files: &'a [PathBuf],
    view: &'a Viewing,
    /// Whether these are pictures to train with.
    train: bool,
    trunk: Option<&'a FrozenTrunk>,
    device: &'a Device,
}

impl Maker<'_> {
    /// The store, made where it is not there, and the digest of its pictures.
    fn store(&self, encoder: &EncoderSpec, variants: usize) -> Result<(Store, String)> {
        let cache = Path::new(CACHE);
        std::fs::create_dir_all(cache).map_err(Error::io("create the directory", cache))?;
        let digest = pictures::digest(self.files, cache)?;
        // What is seen of the first picture says what is seen of all.
        let first = |variant| Ok(numbers(self.view_of(Item { picture: 0, variant })?));
        let seen = if self.trunk.is_some() { variants } else { 0 };
        let views = (0..seen).map(first).collect::<Result<Vec<_>>>()?;
        let made_of = json!({
            "version": VERSION, "pictures": digest, "resize": self.view.resize, "views": views,
            "flip": self.view.flip, "train": self.train && self.view.variants > 0,
            "trunk": self.trunk.map(|trunk| {
                json!({ "encoder": shape(encoder), "weights": trunk.digest, "computed_by": arithmetic(self.device) })
            }),
        });
        let name = &blake3::hash(made_of.to_string().as_bytes()).to_hex()[..16];
        let side = self.view.resize as usize;
        let work = Work {
            path: cache.join(format!("{name}.safetensors")),
            pictures: self.files.len(),
            variants,
            shape: self.trunk.map_or(vec![side, side, 3], |trunk| vec![trunk.width()]),
            dtype: if self.trunk.is_some() { "F32" } else { "U8" },
        };
        let counter = Counter::new(if self.trunk.is_some() { "features of pictures" } else { "pictures read" });
        let made = work.make(&mut |items| self.make(items), &|| false, &|done, of| counter.show(done, of));
        counter.end();
        made?;
        let store = Store::open(&work)?;
        self.tell_bad(&store)?;
        Ok((store, digest))
    }

    fn view_of(&self, item: Item) -> Result<View> {
        match self.train && self.view.variants > 0 {
            true => self.view.variant(item.picture, item.variant),
            false => self.view.measured(),
        }
    }

    /// The rows of some pictures.
    fn make(&self, items: &[Item]) -> Result<Vec<Result<Vec<u8>, String>>> {
        let square = |item: &Item| self.square(&self.files[item.picture]);
        let Some(trunk) = self.trunk else { return items.par_iter().map(square).collect() };
        let pixels = |item: &Item| -> Result<Result<Vec<f32>, String>> {
            let bytes = square(item)?;
            let view = self.view_of(*item)?;
            let mut numbers = vec![0.0; view.numbers()];
            match bytes {
                Ok(bytes) => write(view, &bytes, self.view.resize, &mut numbers).map(|()| Ok(numbers)),
                Err(why) => Ok(Err(why)),
            }
        };
        let pixels: Vec<Result<Vec<f32>, String>> = items.par_iter().map(pixels).collect::<Result<_>>()?;
        let good: Vec<&Vec<f32>> = pixels.iter().filter_map(|pixels| pixels.as_ref().ok()).collect();
        // On the CPU every core has a picture of its own.
        let size = if self.device.is_cpu() { 1 } else { TOGETHER };
        let features = |pixels: &[&Vec<f32>]| -> Result<Vec<Vec<f32>>> {
            let side = ((pixels.first().map_or(0, |one| one.len()) / 3) as f64).sqrt() as usize;
            let numbers: Vec<f32> = pixels.iter().flat_map(|one| one.iter().copied()).collect();
            let pixels = Tensor::from_vec(numbers, (pixels.len(), 3, side, side), self.device)?;
            // A store is shared with runs that do not want TF32.
            Ok(device::exactly(|| trunk.features(&pixels))?.to_vec2()?)
        };
        let features: Vec<Vec<Vec<f32>>> = match self.device.is_cpu() {
            true => good.par_chunks(size).map(features).collect::<Result<_>>()?,
            false => good.chunks(size).map(features).collect::<Result<_>>()?,
        };
        let mut features = features.into_iter().flatten();
        let row = |pixels: &Result<Vec<f32>, String>| match pixels {
            Err(why) => Err(why.clone()),
            Ok(_) => {
                features.next().map(|row| row.iter().flat_map(|n| n.to_le_bytes()).collect()).ok_or_else(String::new)
            }
        };
        Ok(pixels.iter().map(row).collect())
    }

    /// A picture as the bytes of a square, or why it cannot be read.
    fn square(&self, path: &Path) -> Result<Result<Vec<u8>, String>> {
        match images::read(path).and_then(|image| images::resize_square(&image, self.view.resize)) {
            Ok(image) => Ok(Ok(image.into_raw())),
            Err(error @ Error::Io { .. }) => Err(error),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Says which pictures were left out.
    fn tell_bad(&self, store: &Store) -> Result<()> {
        let good = store.good()?;
        let bad: Vec<&PathBuf> =
            self.files.iter().zip(&good).filter(|(_, good)| !**good).map(|(path, _)| path).collect();
        if let Some(first) = bad.first() {
            let why = images::read(first).err().map_or_else(String::new, |error| format!(" ({error})"));
            let count = bad.len();
            eprint_line(&format!(
                "{count} of {} pictures cannot be read, and their captions are left out: {}{}{why}; `ccdni data resize \
                 --strict` finds them one by one",
                self.files.len(),
                first.display(),
                if count > 1 { " and others" } else { "" },
            ));
        }
        Ok(())
    }
}

fn numbers(view: View) -> [usize; 4] {
    [view.left, view.top, view.size, usize::from(view.mirrored)]
}

/// Writes what is seen of a square of bytes as normalised numbers.
fn write(view: View, square: &[u8], side: u32, out: &mut [f32]) -> Result<()> {
    let image = RgbImage::from_raw(side, side, square.to_vec());
    view.write(&image.ok_or_else(|| Error::Training("a stored picture of another size".into()))?, out)
}

/// What decides the last bits of features: the processor's instructions, or the kind of another device.
fn arithmetic(device: &Device) -> String {
    match device.is_cpu() {
        true => device::instruction_set(),
        false => device::name(device).split(':').next().unwrap_or_default().to_string(),
    }
}

/// What of an encoder's spec decides which network its trunk is.
fn shape(encoder: &EncoderSpec) -> serde_json::Value {
    match encoder {
        EncoderSpec::Resnet { depth, .. } => json!({ "resnet": depth }),
        EncoderSpec::Conv { channels, .. } => json!({ "conv": channels }),
    }
}
