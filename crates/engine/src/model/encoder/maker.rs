//! Computes the stores of a task's images: decoded squares, or features of a frozen backbone.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;
use serde_json::json;

use super::FrozenBackbone;
use super::inputs::CACHE;
use crate::counter::{Counter, eprint_line};
use crate::data::image_set::{self, Item, Store, Viewing, Work};
use crate::data::images::{self, View};
use crate::device;
use crate::error::{Error, Result};
use crate::nn::kernel::alone;
use crate::spec::EncoderSpec;

/// Incremented when the result of decoding, resizing or a backbone changes.
const VERSION: u32 = 1;

/// Batch size of a frozen backbone on a GPU.
const BATCH: usize = 32;

/// Computes a store of images.
pub(super) struct Maker<'a> {
    pub files: &'a [PathBuf],
    pub view: &'a Viewing,
    /// Whether these are training images.
    pub train: bool,
    pub backbone: Option<&'a FrozenBackbone>,
    pub device: &'a Device,
}

impl Maker<'_> {
    /// The store, computed if it does not exist, and the digest of its images.
    pub fn store(&self, encoder: &EncoderSpec, variants: usize) -> Result<(Store, String)> {
        let cache = Path::new(CACHE);
        std::fs::create_dir_all(cache).map_err(Error::io("create the directory", cache))?;
        let digest = image_set::digest(self.files, cache)?;
        // The views of the first image identify those of all.
        let first = |variant| Ok(numbers(self.view_of(Item { image: 0, variant })?));
        let seen = if self.backbone.is_some() { variants } else { 0 };
        let views = (0..seen).map(first).collect::<Result<Vec<_>>>()?;
        let made_of = json!({
            "version": VERSION, "pictures": digest, "resize": self.view.resize, "views": views,
            "flip": self.view.flip, "train": self.train && self.view.variants > 0,
            // This key is hashed into the names of existing stores, which may have taken hours to compute.
            (concat!("tr", "unk")): self.backbone.map(|backbone| {
                json!({ "encoder": shape(encoder), "weights": backbone.digest, "computed_by": arithmetic(self.device) })
            }),
        });
        let name = &blake3::hash(made_of.to_string().as_bytes()).to_hex()[..16];
        let side = self.view.resize as usize;
        let work = Work {
            path: cache.join(format!("{name}.safetensors")),
            images: self.files.len(),
            variants,
            shape: self.backbone.map_or(vec![side, side, 3], |backbone| vec![backbone.width()]),
            dtype: if self.backbone.is_some() { "F32" } else { "U8" },
        };
        let counter = Counter::new(if self.backbone.is_some() { "features of images" } else { "images read" });
        let made = work.make(&mut |items| self.make(items), &|| false, &|done, of| counter.show(done, of));
        counter.end();
        made?;
        let store = Store::open(&work)?;
        self.report_bad(&store)?;
        Ok((store, digest))
    }

    fn view_of(&self, item: Item) -> Result<View> {
        match self.train && self.view.variants > 0 {
            true => self.view.variant(item.image, item.variant),
            false => self.view.measured(),
        }
    }

    /// The rows of some images.
    fn make(&self, items: &[Item]) -> Result<Vec<Result<Vec<u8>, String>>> {
        let square = |item: &Item| self.square(&self.files[item.image]);
        let Some(backbone) = self.backbone else { return items.par_iter().map(square).collect() };
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
        // On the CPU every core processes its own image.
        let size = if self.device.is_cpu() { 1 } else { BATCH };
        let features = |pixels: &[&Vec<f32>]| -> Result<Vec<Vec<f32>>> {
            let side = ((pixels.first().map_or(0, |one| one.len()) / 3) as f64).sqrt() as usize;
            let numbers: Vec<f32> = pixels.iter().flat_map(|one| one.iter().copied()).collect();
            let pixels = Tensor::from_vec(numbers, (pixels.len(), 3, side, side), self.device)?;
            // A store is shared with runs that do not use TF32.
            Ok(device::exactly(|| alone(|| backbone.features(&pixels)))?.to_vec2()?)
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

    /// An image as the bytes of a square, or why it cannot be read.
    fn square(&self, path: &Path) -> Result<Result<Vec<u8>, String>> {
        match images::read_square(path, self.view.resize) {
            Ok(image) => Ok(Ok(image.into_raw())),
            Err(error @ Error::Io { .. }) => Err(error),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Reports images that cannot be read.
    fn report_bad(&self, store: &Store) -> Result<()> {
        let good = store.good()?;
        let bad: Vec<&PathBuf> =
            self.files.iter().zip(&good).filter(|(_, good)| !**good).map(|(path, _)| path).collect();
        if let Some(first) = bad.first() {
            let why = images::read(first).err().map_or_else(String::new, |error| format!(" ({error})"));
            let count = bad.len();
            eprint_line(&format!(
                "{count} of {} images cannot be read, and their captions are left out: {}{}{why}; `ccdni data resize \
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

/// Writes a view of a square of bytes as normalised values.
pub(super) fn write(view: View, square: &[u8], side: u32, out: &mut [f32]) -> Result<()> {
    let image = RgbImage::from_raw(side, side, square.to_vec());
    view.write(&image.ok_or_else(|| Error::Training("a stored image of another size".into()))?, out)
}

/// What rounding depends on: the processor's instructions, or the kind of another device.
fn arithmetic(device: &Device) -> String {
    match device.is_cpu() {
        true => device::instruction_set(),
        false => device::name(device).split(':').next().unwrap_or_default().to_string(),
    }
}

/// The part of an encoder's spec that determines the architecture of its backbone.
fn shape(encoder: &EncoderSpec) -> serde_json::Value {
    match encoder {
        EncoderSpec::Resnet { depth, .. } => json!({ "resnet": depth }),
        EncoderSpec::Conv { channels, .. } => json!({ "conv": channels }),
        EncoderSpec::Blocks { blocks } => json!({ "blocks": blocks }),
    }
}
