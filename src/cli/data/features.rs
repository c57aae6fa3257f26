//! `ccdni data features`: image features of a spec's encoder.

use crate::cli::print;
use crate::cli::spec_args::SpecArgs;
use crate::device;
use crate::error::{Error, Result};
use crate::model::encoder::CACHE;
use crate::spec;
use crate::tasks::Registry;

/// Encode the images of a spec before training: to features for a frozen backbone, to square pixel arrays for one that is trained.
///
/// `ccdni run` does the same where necessary. Results are cached in datasets/cache, keyed by the images' content, the transform, the
/// encoder and its weights. Run the same command again after an interruption.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni data features experiments/paper/captioning.yaml
  ccdni data features experiments/paper/captioning.yaml --set run.device=cuda --set task.variants=0")]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

pub fn execute(args: &Args, registry: &Registry) -> Result<()> {
    let resolved = spec::resolve(&args.spec.request(), registry)?;
    let spec = &resolved.spec;
    let task = registry.task(&spec.task)?;
    if task.view().is_none() {
        return Err(Error::Usage(format!("the task `{}` has no images", spec.task.kind)));
    }
    task.prepare()?;
    let seed = spec.seeds.0.first().copied().unwrap_or(1);
    let device = device::open(&spec.run.device, spec.run.tf32)?;
    let data = task.open_with(seed, Some((&spec.model, &device)))?;
    print(&format!("{} images are ready in {CACHE}\n", data.images))
}
