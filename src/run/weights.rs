//! A network's weights on disk: `decoder.safetensors` and, where it reads images, `encoder.safetensors` beside it.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::model::encoder::PREFIX;

/// The file of the decoder's weights, in a run's directory and in that of each of its seeds.
pub const DECODER: &str = "decoder.safetensors";
/// The file of the encoder's weights, in the same places.
pub const ENCODER: &str = "encoder.safetensors";

/// The file of the captions for the images to validate with, in the same places.
pub const CAPTIONS: &str = "captions.json";

/// Reads the weights of a decoder and of its encoder, if there is one, by the names that a model has for them,
/// ascending.
///
/// # Errors
/// [`Error::Data`] if a file is no safetensors file, [`Error::Device`] if the device fails.
pub fn read(decoder: &Path, encoder: Option<&Path>, device: &Device) -> Result<Vec<(String, Tensor)>> {
    // Onto the CPU first: what fails there is the file's fault, and not the device's.
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

/// What the header of an encoder's file says of the weights of its frozen backbone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackboneSource {
    /// As the spec says it.
    pub weights: String,
    /// BLAKE3 of their file, in hex; none where they were drawn.
    pub blake3: Option<String>,
}

/// The key of that in the header, as JSON.
pub const SOURCE: &str = "source";

/// BLAKE3 of the file of the frozen backbone that an encoder was trained behind, if it was one of a file.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] if the encoder's file is no safetensors file.
pub fn backbone_digest(encoder: &Path) -> Result<Option<String>> {
    let source = header(encoder, SOURCE)?.and_then(|source| serde_json::from_str::<BackboneSource>(&source).ok());
    Ok(source.and_then(|source| source.blake3))
}

/// The key of the digest of the words in the header of a decoder that says words.
pub const WORDS: &str = "words";

/// Refuses words that are not those that a decoder was trained with, or are in another order.
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

/// What the header of a safetensors file has under a key.
fn header(path: &Path, key: &str) -> Result<Option<String>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
        .map_err(|error| Error::data(path, format!("cannot be read as safetensors: {error}")))?;
    Ok(header.metadata().as_ref().and_then(|metadata| metadata.get(key)).cloned())
}

/// Divides a model's weights into those of the decoder and those of the encoder, each by its name in files.
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
