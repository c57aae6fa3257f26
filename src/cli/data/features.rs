//! `ccdni data features`: what a spec's encoder makes of its images.

use crate::cli::print;
use crate::cli::spec_args::SpecArgs;
use crate::device;
use crate::error::{Error, Result};
use crate::model::encoder::CACHE;
use crate::spec;
use crate::tasks::Registry;

/// Read the images of a spec ahead of its training: the features of a frozen backbone, or squares of pixels for one that learns.
///
/// `ccdni run` does the same where it is not done yet. What is made lies in datasets/cache, named after all that it depends
/// on: the content of the images, the transform, the encoder and its weights. After an interruption the same command goes on.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni data features experiments/paper/captioning.yaml
  ccdni data features experiments/paper/captioning.yaml --set run.device=cuda --set task.variants=0")]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Does it.
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
