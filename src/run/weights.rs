//! A network's weight files: `decoder.safetensors` and, with an image encoder, `encoder.safetensors` beside it.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::model::encoder::PREFIX;

/// Name of the decoder's weight file, in a run's directory and in those of its seeds.
pub const DECODER: &str = "decoder.safetensors";
/// Name of the encoder's weight file, in the same places.
pub const ENCODER: &str = "encoder.safetensors";

/// Name of the file with captions for the validation images, in the same places.
pub const CAPTIONS: &str = "captions.json";

/// Reads the weights of a decoder and its encoder, if given, by ascending model parameter name.
///
/// # Errors
/// [`Error::Data`] if a file is not safetensors, [`Error::Device`] if the device fails.
pub fn read(decoder: &Path, encoder: Option<&Path>, device: &Device) -> Result<Vec<(String, Tensor)>> {
    // Load on the CPU first, to distinguish errors in the file from errors of the device.
    let load = |path: &Path| {
        candle_core::safetensors::load(path, &Device::Cpu)
            .map_err(|error| Error::data(path, format!("cannot be read as safetensors: {error}")))
    };
    let mut weights = Vec::new();
    for (path, prefix) in std::iter::once((decoder, "")).chain(encoder.map(|path| (path, PREFIX))) {
        for (name, tensor) in load(path)? {
            weights.push((format!("{prefix}{name}"), tensor.to_device(device)?));
        }
    }
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(weights)
}

/// Source of a frozen backbone's weights, stored in the header of an encoder's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackboneSource {
    /// As given in the spec.
    pub weights: String,
    /// BLAKE3 digest (hex) of their file; none if they were initialised at random.
    pub blake3: Option<String>,
}

/// Key of [`BackboneSource`], as JSON, in the header.
pub const SOURCE: &str = "source";

/// The weights of the backbone that an encoder was trained with, if its file names them.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] if the encoder's file is not safetensors.
pub fn backbone_source(encoder: &Path) -> Result<Option<BackboneSource>> {
    Ok(header(encoder, SOURCE)?.and_then(|source| serde_json::from_str(&source).ok()))
}

/// Key of the vocabulary's digest in the header of a token decoder.
pub const WORDS: &str = "words";

/// Rejects a vocabulary that differs, in words or order, from the one the decoder was trained with.
///
/// # Errors
/// [`Error::Data`] naming both files; [`Error::Io`].
pub fn check_words(decoder: &Path, path: &Path, vocabulary: &Vocabulary) -> Result<()> {
    match header(decoder, WORDS)? {
        Some(words) if words != vocabulary.digest() => {
            let what = format!(
                "holds other words, or the same in another order, than {} was trained with; name the `tokenizer.json` of \
                 its run",
                decoder.display()
            );
            Err(Error::data(path, what))
        }
        _ => Ok(()),
    }
}

/// A metadata entry of a safetensors header.
fn header(path: &Path, key: &str) -> Result<Option<String>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
        .map_err(|error| Error::data(path, format!("cannot be read as safetensors: {error}")))?;
    Ok(header.metadata().as_ref().and_then(|metadata| metadata.get(key)).cloned())
}

/// Splits a model's weights into those of the decoder and of the encoder, under their names in files.
pub fn divide(weights: &[(String, Tensor)]) -> [Vec<(String, Tensor)>; 2] {
    let mut divided = [Vec::new(), Vec::new()];
    for (name, tensor) in weights {
        match name.strip_prefix(PREFIX) {
            Some(name) => divided[1].push((name.to_string(), tensor.clone())),
            None => divided[0].push((name.clone(), tensor.clone())),
        }
    }
    divided
}
