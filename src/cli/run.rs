//! `ccdni run`: trains a spec.

use std::path::Path;

use super::spec_args::{SpecArgs, TrainArgs, resume_line};
use crate::error::Result;
use crate::report::compare::{CCRNN, network};
use crate::run::directory::Directory;
use crate::run::progress::print_line;
use crate::run::status::Retry;
use crate::run::{Options, Schedule};
use crate::spec::sweep::Sweep;
use crate::spec::{self, Resolved, Spec};
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

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let request = args.spec.request();
    // A run is a sweep of one, in which failed seeds are retried.
    let mut sweep = Sweep::of_one(spec::resolve(&request, registry)?);
    args.train.apply(&mut sweep);
    let options = Options {
        outputs: args.train.outputs,
        force: args.force,
        verbose: args.train.verbose,
        retry: Retry::Always,
        resume: resume_line(&request),
        advice: "`--force` starts a failed seed again from the beginning",
        anew: "; `--force` trains it anew",
        ..Options::default()
    };
    let schedule = Schedule::check(&sweep, &options, registry)?;
    for run in &sweep.runs {
        print_line(&sentence(&run.resolved, &options.outputs));
    }
    schedule.train().map(drop)
}

/// What a run does, in a sentence.
fn sentence(resolved: &Resolved, outputs: &Path) -> String {
    let Spec { task, train, seeds, .. } = &resolved.spec;
    let network = match network(&resolved.spec) {
        network if resolved.spec.model.layers.is_empty() => format!("{network} network"),
        network => {
            let with = if network == CCRNN { "with" } else { "without" };
            format!("{network} (a recurrent network {with} a synthesizer)")
        }
    };
    let seeds = match seeds.0.as_slice() {
        [seed] => format!("seed {seed}"),
        [first, .., last] if seeds.0.windows(2).all(|pair| pair[0] + 1 == pair[1]) => format!("seeds {first}..{last}"),
        _ => format!("seeds {seeds}"),
    };
    let (epochs, s) = (train.epochs, if train.epochs == 1 { "" } else { "s" });
    let directory = Directory::of(outputs, &resolved.hash).path;
    let directory = directory.components().as_path().display();
    format!(
        "This run trains a {network} on the task {}: {epochs} epoch{s}, {seeds}, \
         results in {directory}.",
        task.kind
    )
}
