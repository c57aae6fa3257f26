//! Weights of a backbone: random, from a local file, or from the Hugging Face hub.
//!
//! Files are safetensors (`safetensors.rs`) or written by `torch.save` (`torch.rs`, `pickle.rs`); no code in them is
//! executed. Opening one parses its header; then the required tensors are read one at a time. Files are not memory-mapped,
//! since truncating a mapped file kills the process.

mod content;
mod pickle;
mod safetensors;
mod source;
mod stored;
mod torch;
mod words;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use content::Content;
pub use source::WeightSource;
use stored::Stored;
pub use words::pickled_ids;

use crate::error::{Error, Result};
use crate::nn::backbone::{Backbone, BackboneTensor, Resnet, to_encoder_name};
use crate::rng::Stream;
use crate::spec::EncoderSpec;

/// Tensors of a backbone and their origin.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// In the order of [`Backbone::tensors`], f32.
    pub tensors: Vec<Tensor>,
    /// The file's BLAKE3 digest in hex; `None` for random weights.
    pub digest: Option<String>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// Draws the tensors of a backbone for `seed`, or reads them from a file, which is downloaded from the hub if necessary.
///
/// Names in a file may be torchvision's, or those of an encoder with the ResNet's children in a sequence (`resnet.4.0..`),
/// in either case after a common prefix such as `module.` or `state_dict.model.`. The only other tensors allowed under that
/// prefix are a head (`fc.*`, or an encoder's `linear.*` and `bn.*`) and `num_batches_tracked`. f16, bf16 and f64 become
/// f32.
///
/// # Errors
/// [`Error::Data`] naming the file and the tensors if it is missing, damaged, not a file of weights, lacks tensors, or has
/// those of a larger network or of several; as [`WeightSource::fetch`].
pub fn load(backbone: &Backbone, source: &WeightSource, seed: u64, device: &Device) -> Result<Loaded> {
    let wanted = backbone.tensors();
    let Some(path) = source.fetch()? else {
        let draw = |tensor: &BackboneTensor| {
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

/// An open file of tensors: safetensors, or written by `torch.save`.
pub struct TensorFile {
    path: PathBuf,
    file: File,
    stored: BTreeMap<String, Stored>,
}

impl TensorFile {
    /// Reads names and shapes. Names in nested dictionaries are joined: `state_dict.linear.weight`.
    ///
    /// # Errors
    /// [`Error::Data`] if the file is missing, damaged, or not a file of tensors.
    pub fn open(path: &Path) -> Result<TensorFile> {
        let (file, stored) = open(path).map_err(|what| Error::data(path, what))?;
        if stored.is_empty() {
            return Err(Error::data(path, format!("holds no tensors; {}", torch::INSTEAD)));
        }
        Ok(TensorFile { path: path.to_path_buf(), file, stored })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and shapes, by ascending name.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.stored.iter().map(|(name, stored)| (name.as_str(), stored.dims.as_slice()))
    }

    /// The values of a tensor as f32. Its shape must have been checked, since it bounds the memory used.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such tensor, or it has an unsupported type or is damaged.
    pub fn read(&mut self, name: &str) -> Result<Tensor> {
        let read = match self.stored.get(name) {
            Some(stored) => stored.read(&mut self.file),
            None => Err("is not in it".into()),
        };
        read.map_err(|what| Error::data(&self.path, format!("`{name}` {what}")))
    }
}

/// Opens a file of tensors of any format.
fn open(path: &Path) -> Result<(File, BTreeMap<String, Stored>), String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    // Before opening it, since opening a pipe blocks until there is a writer.
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err("is not a file".into());
    }
    let mut file = File::open(path).map_err(unreadable)?;
    let stored = match Content::of(&mut file).map_err(unreadable)? {
        Content::Safetensors => safetensors::open(&mut file, about.len()),
        Content::Torch => torch::open(&mut file, about.len()),
        Content::Other(what) => Err(format!("is not a file of weights: it is {what}")),
        Content::Unknown if path.extension().is_some_and(|extension| extension == "safetensors") => {
            safetensors::open(&mut file, about.len())
        }
        Content::Unknown => torch::open(&mut file, about.len()),
    }?;
    Ok((file, stored))
}

/// The required tensors of a file, and its digest.
fn read(path: &Path, wanted: &[BackboneTensor]) -> Result<(Vec<Tensor>, String), String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let (mut file, stored) = open(path).map_err(|what| match path.exists() {
        true => what,
        false => format!("{what} ({})", source::EXPECTED),
    })?;
    let names = names(&stored, wanted).map_err(|what| match standard_depth(&stored) {
        Some(depth) => format!("{what}; it looks like a ResNet-{depth} (`depth: {depth}`)"),
        None => what,
    })?;
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

/// The names of the required tensors in a file that has them once, and nothing else of a network.
fn names<'a>(stored: &'a BTreeMap<String, Stored>, wanted: &[BackboneTensor]) -> Result<Vec<&'a str>, String> {
    let mut fewest: Option<Vec<String>> = None;
    let mut complete: Vec<(&str, Vec<&str>)> = Vec::new();
    for (prefix, full) in candidates(stored, wanted) {
        let missing = full.iter().filter(|name| !stored.contains_key(*name)).map(|name| format!("`{name}`"));
        let missing: Vec<String> = missing.collect();
        let found: Vec<&str> = full.iter().filter_map(|name| Some(stored.get_key_value(name)?.0.as_str())).collect();
        // A module that is registered under two names is still one network.
        let same = |(_, other): &(&str, Vec<&str>)| other.iter().zip(&found).all(|(a, b)| stored[*a] == stored[*b]);
        if missing.is_empty() && !complete.iter().any(same) {
            complete.push((prefix, found));
        }
        if fewest.as_ref().is_none_or(|fewest| missing.len() < fewest.len()) {
            fewest = Some(missing);
        }
    }
    if complete.len() > 1 {
        let begin: Vec<String> = complete.iter().map(|(_, found)| format!("`{}`", found[0])).collect();
        return Err(format!(
            "holds {} networks that fit, beginning with {}; save the one that is meant in a file of its own",
            complete.len(),
            begin.join(" and ")
        ));
    }
    let Some((prefix, found)) = complete.pop() else {
        return Err(lacking(stored, wanted, &fewest.unwrap_or_default()));
    };
    match left_over(stored, prefix, &found) {
        further if further.is_empty() => Ok(found),
        further => Err(format!("holds the weights of a larger network: {} would be left over", some(&further))),
    }
}

/// Possible names of the required tensors, torchvision's and an encoder's, after each prefix.
fn candidates<'a>(
    stored: &'a BTreeMap<String, Stored>,
    wanted: &[BackboneTensor],
) -> impl Iterator<Item = (&'a str, Vec<String>)> {
    let plain = wanted.iter().map(|tensor| tensor.name.clone()).collect();
    let encoder: Option<Vec<String>> = wanted.iter().map(|tensor| to_encoder_name(&tensor.name)).collect();
    std::iter::once(plain).chain(encoder).flat_map(|scheme| {
        let prefixes = prefixes(stored, &scheme);
        let after = move |prefix| (prefix, scheme.iter().map(|name| format!("{prefix}{name}")).collect());
        prefixes.into_iter().map(after)
    })
}

/// The message for a file that lacks tensors.
fn lacking(stored: &BTreeMap<String, Stored>, wanted: &[BackboneTensor], missing: &[String]) -> String {
    let all = match stored.keys().next() {
        Some(first) => format!("{} tensors, the first of which is `{first}`", stored.len()),
        None => format!("no tensors; {}", torch::INSTEAD),
    };
    format!("lacks {} of {} tensors of the network: {} (it holds {all})", missing.len(), wanted.len(), some(missing))
}

/// Tensors under `prefix` other than those of a network, its head and its `num_batches_tracked`.
fn left_over(stored: &BTreeMap<String, Stored>, prefix: &str, network: &[&str]) -> Vec<String> {
    const HEADS: [&str; 3] = ["fc.", "linear.", "bn."];
    let network: HashSet<&str> = network.iter().copied().collect();
    let further = stored.keys().filter(|name| {
        name.strip_prefix(prefix).is_some_and(|rest| {
            let spare = HEADS.iter().any(|head| rest.starts_with(head)) || rest.ends_with("num_batches_tracked");
            !spare && !network.contains(name.as_str())
        })
    });
    further.map(|name| format!("`{name}`")).collect()
}

/// The depth of the standard ResNet with the tensor names of a file.
fn standard_depth(stored: &BTreeMap<String, Stored>) -> Option<usize> {
    EncoderSpec::DEPTHS.into_iter().find(|&depth| {
        let wanted = Resnet::standard(depth).map(|resnet| Backbone::Resnet(resnet).tensors()).unwrap_or_default();
        names(stored, &wanted).is_ok()
    })
}

/// Candidate prefixes: none, and every one of the first required name.
fn prefixes<'a>(stored: &'a BTreeMap<String, Stored>, scheme: &[String]) -> Vec<&'a str> {
    let Some(first) = scheme.first() else { return vec![""] };
    let before = stored.keys().filter_map(|name| name.strip_suffix(first.as_str()));
    let mut prefixes: Vec<&str> = before.filter(|prefix| prefix.ends_with('.')).chain([""]).collect();
    prefixes.sort_by_key(|prefix| prefix.len());
    prefixes
}

/// The first few items of a list, for a message.
fn some(items: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = items[..items.len().min(SHOWN)].join(", ");
    if items.len() > SHOWN { format!("{shown} and {} more", items.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests;
