//! `ccdni run`: trains a spec.

use super::spec_args::{SpecArgs, TrainArgs, resume_line};
use crate::error::Result;
use crate::run::{Options, Schedule, clock};
use crate::spec;
use crate::spec::sweep::Sweep;
use crate::tasks::Registry;

/// Train a spec, or go on where it was interrupted.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni run experiments/linedraw_dni.yaml
  ccdni run experiments/linedraw_dni.yaml --seeds 1..10 --jobs 2
  ccdni run experiments/linedraw_dni.yaml --set train.bptt=5 --set train.epochs=20

The result is a directory named by the hash of what the spec says. Running it again trains only
the seeds that are missing there; Ctrl-C stops after writing checkpoints.")]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    #[command(flatten)]
    train: TrainArgs,
    /// Train the seeds anew; old results are kept beside the new ones.
    #[arg(long)]
    force: bool,
}

/// Does it: a run is a sweep of one, in which what has failed is tried again.
pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let request = args.spec.request();
    let mut sweep = Sweep::of_one(spec::resolve(&request, registry)?);
    args.train.apply(&mut sweep);
    let options = Options {
        outputs: args.train.outputs,
        force: args.force,
        retry_failed: Some(clock::now()),
        resume: resume_line(&request),
        advice: "`--force` starts a failed seed again from the beginning",
        ..Options::default()
    };
    Schedule::check(&sweep, &options, registry)?.train()
}
