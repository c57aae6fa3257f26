//! The arguments that select a network.

use std::path::PathBuf;

use crate::error::Result;
use crate::run::directory;
use crate::run::trained_network::Beside;
use crate::run::weights::DECODER;

/// A trained network and its files.
#[derive(clap::Args)]
pub struct NetworkArgs {
    /// The weights: `decoder.safetensors` in a run's directory; or the directory, or the first digits of the run's hash.
    #[arg(long, value_name = "FILE|RUN")]
    decoder: PathBuf,
    /// Directory of the run directories, if --decoder is a hash.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
    /// Where to compute: auto, cpu, cuda, `cuda:<index>` or metal.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,
    /// The spec of the network, if it is not beside the weights.
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// The vocabulary of the network (tokenizer.json), if it is not beside the weights.
    #[arg(long, value_name = "FILE")]
    vocabulary: Option<PathBuf>,
    /// The trained encoder (encoder.safetensors), if it is not beside the weights.
    #[arg(long, value_name = "FILE")]
    encoder: Option<PathBuf>,
    /// The weights of a frozen backbone, if not those in the spec: .safetensors, .pth or hub:...
    #[arg(long, value_name = "FILE")]
    pub backbone: Option<String>,
}

impl NetworkArgs {
    /// The network's files: the named file, those in a directory, or those of the run with this hash prefix.
    pub fn beside(&self) -> Result<Beside> {
        let named = &self.decoder;
        let decoder = if named.is_dir() {
            named.join(DECODER)
        } else if named.is_file() || named.extension().is_some() {
            named.clone()
        } else {
            directory::locate(&self.outputs, &named.to_string_lossy())?.path.join(DECODER)
        };
        let Self { spec, vocabulary, encoder, .. } = self;
        Ok(Beside { decoder, spec: spec.clone(), vocabulary: vocabulary.clone(), encoder: encoder.clone() })
    }
}
