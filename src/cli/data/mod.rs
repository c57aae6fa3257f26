//! `ccdni data`: preparing data for training; one file per step.

mod coco;
mod features;
mod progress;
mod resize;
mod scenes;
mod vocab;

use clap::Subcommand;

use crate::error::{Error, Result};
use crate::tasks::Registry;

/// Prepare data: vocabularies, images, features, downloads.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni data scenes
  ccdni data coco
  ccdni data vocab datasets/scenes/captions_train.json --out datasets/scenes/tokenizer.json
  ccdni data resize train2014 --out resized2014")]
pub struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    Vocab(vocab::Args),
    Resize(resize::Args),
    Scenes(scenes::Args),
    Features(features::Args),
    Coco(coco::Args),
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    match args.step {
        Step::Vocab(args) => vocab::execute(args),
        Step::Resize(args) => resize::execute(args),
        Step::Scenes(args) => scenes::execute(args),
        Step::Features(args) => features::execute(&args, registry),
        Step::Coco(args) => coco::execute(args),
    }
}

/// Runs a closure on this number of threads; by default on all cores.
fn on_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let threads = match threads {
        Some(0) => return Err(Error::Usage("`--threads` is 0: at least one is needed".into())),
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::Usage(format!("cannot start {threads} threads: {error}")))?;
    Ok(pool.install(work))
}
