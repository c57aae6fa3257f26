//! Weights of a trunk: drawn, from a local file, or from the Hugging Face hub.
//!
//! Files are safetensors (`safetensors.rs`) or what PyTorch's `save` writes (`torch.rs`, `pickle.rs`), of which nothing is
//! executed. Both are opened by their description alone; numbers are read for the tensors that are wanted, one at a time.
//! They are read and not mapped: a file that is cut short under a mapping ends the process.

mod pickle;
mod safetensors;
mod source;
mod stored;
mod torch;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

pub use source::WeightSource;
use stored::Stored;

use crate::error::{Error, Result};
use crate::nn::trunk::{Trunk, TrunkTensor, to_encoder_name};
use crate::rng::Stream;

/// Tensors of a trunk, and where they are from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// In the order of [`Trunk::tensors`], f32.
    pub tensors: Vec<Tensor>,
    /// The file's BLAKE3 in hexadecimal digits; nothing where weights were drawn.
    pub digest: Option<String>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// Draws the tensors of a trunk for `seed`, or reads them from a file, which is got from the hub if it has to be.
///
/// Names in a file may be torchvision's, or those of an encoder that keeps a ResNet's children in a sequence (`resnet.4.0..`), and
/// either behind a common prefix such as `module.` or `state_dict.model.`. Further tensors are left alone. Numbers of 16 and
/// 64 bits become f32.
///
/// # Errors
/// [`Error::Data`] naming a file that is missing, damaged, no file of weights, or without tensors that are wanted, and
/// those; what [`WeightSource::fetch`] fails with.
pub fn load(trunk: &Trunk, source: &WeightSource, seed: u64, device: &Device) -> Result<Loaded> {
    let wanted = trunk.tensors();
    let Some(path) = source.fetch()? else {
        let draw = |tensor: &TrunkTensor| {
            let mut stream = Stream::new(seed, &format!("init.encoder.{}", tensor.name), 0, 0);
            let values = tensor.kind.initial(tensor.dims.iter().product(), &mut stream);
            Ok(Tensor::from_vec(values, tensor.dims.as_slice(), device)?)
        };
        let tensors = wanted.iter().map(draw).collect::<Result<_>>()?;
        return Ok(Loaded { tensors, digest: None, file: None });
    };
    let (tensors, digest) = read(&path, &wanted).map_err(|what| Error::data(&path, what))?;
    let tensors = tensors.iter().map(|tensor| tensor.to_device(device)).collect::<candle_core::Result<_>>()?;
    Ok(Loaded { tensors, digest: Some(digest), file: Some(path) })
}

/// The wanted tensors of a file, and its digest.
fn read(path: &Path, wanted: &[TrunkTensor]) -> Result<(Vec<Tensor>, String), String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    // Before it is opened: that of a pipe would wait for a writer.
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err("is no file".into());
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let stored = match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => safetensors::open(&mut file, about.len()),
        _ => torch::open(&mut file, about.len()),
    }?;
    let names = names(&stored, wanted)?;
    let shapes = wanted.iter().zip(&names).filter_map(|(tensor, name)| {
        let dims = &stored[*name].dims;
        (*dims != tensor.dims).then(|| format!("`{name}` has shape {dims:?}, not {:?}", tensor.dims))
    });
    let shapes: Vec<String> = shapes.collect();
    if !shapes.is_empty() {
        return Err(format!("holds the weights of another network: {}", some(&shapes)));
    }
    let read = |name: &&str| stored[*name].read(&mut file).map_err(|what| format!("`{name}` {what}"));
    let tensors = names.iter().map(read).collect::<Result<_, _>>()?;
    let mut hasher = blake3::Hasher::new();
    let hashed = File::open(path).and_then(|file| hasher.update_reader(file).map(|hasher| hasher.finalize()));
    Ok((tensors, hashed.map_err(unreadable)?.to_hex().to_string()))
}

/// How the wanted tensors are called in the file.
fn names<'a>(stored: &'a BTreeMap<String, Stored>, wanted: &[TrunkTensor]) -> Result<Vec<&'a str>, String> {
    let plain = wanted.iter().map(|tensor| tensor.name.clone()).collect();
    let encoder: Option<Vec<String>> = wanted.iter().map(|tensor| to_encoder_name(&tensor.name)).collect();
    let mut best: Option<Vec<String>> = None;
    for scheme in std::iter::once(plain).chain(encoder) {
        for prefix in prefixes(stored, &scheme) {
            let missing = |name: &&String| !stored.contains_key(&format!("{prefix}{name}"));
            let missing: Vec<String> = scheme.iter().filter(missing).map(|name| format!("`{prefix}{name}`")).collect();
            if missing.is_empty() {
                let found = scheme.iter().filter_map(|name| stored.get_key_value(&format!("{prefix}{name}")));
                return Ok(found.map(|(name, _)| name.as_str()).collect());
            }
            if best.as_ref().is_none_or(|best| missing.len() < best.len()) {
                best = Some(missing);
            }
        }
    }
    let missing = best.unwrap_or_default();
    let all = match stored.keys().next() {
        Some(first) => format!("{} tensors, the first of which is `{first}`", stored.len()),
        None => "no tensors".into(),
    };
    Err(format!(
        "lacks {} of {} tensors of the network: {} (it holds {all})",
        missing.len(),
        wanted.len(),
        some(&missing)
    ))
}

/// What may stand before the names of a file: nothing, and what stands before the first wanted name anywhere.
fn prefixes<'a>(stored: &'a BTreeMap<String, Stored>, scheme: &[String]) -> Vec<&'a str> {
    let Some(first) = scheme.first() else { return vec![""] };
    let before = stored.keys().filter_map(|name| name.strip_suffix(first.as_str()));
    let mut prefixes: Vec<&str> = before.filter(|prefix| prefix.ends_with('.')).chain([""]).collect();
    prefixes.sort_by_key(|prefix| prefix.len());
    prefixes
}

/// The first few of a list, for a message.
fn some(items: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = items[..items.len().min(SHOWN)].join(", ");
    if items.len() > SHOWN { format!("{shown} and {} more", items.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests;
