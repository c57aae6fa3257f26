//! `ccdni sample`: the outputs of a trained network.

mod captioner;
mod captions;
mod drawn;
mod network_args;
mod strategy;
mod text;

use std::path::PathBuf;

pub use captioner::Captioner;
pub use drawn::check_out;
pub use network_args::NetworkArgs;
pub use strategy::StrategyArgs;

use crate::device;
use crate::error::{Error, Result};
use crate::run::trained_network::TrainedNetwork;
use crate::tasks::Registry;

/// Run a trained network: captions for images, the continuation of a text, or its outputs for the patterns of its task.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni sample --decoder outputs/3f9a1c04d2be/decoder.safetensors --image cat.jpg
  ccdni sample --decoder 3f9a --image holiday/ --beam 5 --json
  ccdni sample --decoder 3f9a --prompt 'the dog that' --temperature 0.8
  ccdni sample --decoder 3f9a --image - --temperature 0.7 --top-p 0.9 --seed 2 < cat.jpg
  ccdni sample --decoder outputs/3f9a1c04d2be/seeds/7/decoder.safetensors --out lines.npy")]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    captions: captions::Args,
    #[command(flatten)]
    text: text::Args,
    /// Also write the outputs as a NumPy array (patterns, time, size); for drawing tasks.
    #[arg(long, value_name = "FILE.npy", conflicts_with = "image")]
    out: Option<PathBuf>,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let (beside, device) = (args.network.beside()?, device::open(&args.network.device, false)?);
    if args.captions.has_images() {
        return args.captions.execute(&beside, args.network.backbone.as_deref(), &device, registry);
    }
    if args.text.prompt.is_some() {
        let network = TrainedNetwork::load(&beside, &device, registry)?;
        return args.text.execute(&network, &args.captions.strategy.for_text()?, registry);
    }
    if args.network.backbone.is_some() {
        return Err(Error::Usage("`--backbone` is for images: name one with `--image FILE`, or leave it out".into()));
    }
    drawn::check_out(args.out.as_deref())?;
    let network = TrainedNetwork::load(&beside, &device, registry)?;
    captions::check_task(&network, registry)?;
    text::check_task(&network, registry)?;
    drawn::execute(&network, args.out.as_deref(), registry)
}
