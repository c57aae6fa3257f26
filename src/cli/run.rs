//! `ccdni run`: trains a spec.

use std::path::PathBuf;

use super::spec_args::SpecArgs;
use crate::error::Result;
use crate::run::shell::quote;
use crate::run::{self, Options};
use crate::spec::{self, Jobs, Seeds};
use crate::tasks::Registry;

/// Train a spec, or go on where it was interrupted.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni run experiments/linedraw_dni.yaml
  ccdni run experiments/linedraw_dni.yaml --seeds 1..10 --jobs 2
  ccdni run experiments/linedraw_dni.yaml --set train.bptt=5 --set train.epochs=20

The result is a directory named by the hash of what the spec says. Running it again trains only
the seeds that are missing there; Ctrl-C stops behind a checkpoint.")]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Seeds to train instead of the spec's: `3`, `1,2,7`, or `1..10` with both ends.
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<Seeds>,
    /// Seeds trained at the same time: `auto` (as many as cores) or a number.
    #[arg(long, value_name = "N")]
    jobs: Option<Jobs>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
    /// Train the seeds anew; old results are kept beside the new ones.
    #[arg(long)]
    force: bool,
}

/// Does it.
pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let request = args.spec.request();
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let resume = resume_line(arguments, &request.env);
    let mut resolved = spec::resolve(&request, registry)?;
    if let Some(seeds) = args.seeds {
        resolved.spec.seeds = seeds;
    }
    if let Some(jobs) = args.jobs {
        resolved.spec.run.jobs = jobs;
    }
    run::run(&resolved, &Options { outputs: args.outputs, force: args.force, resume }, registry)
}

/// The same command without `--force`: an interrupted forced run goes on as the new one.
pub(super) fn resume_line(arguments: impl Iterator<Item = String>, env: &[(String, String)]) -> String {
    let spec_variables = env.iter().filter(|(name, _)| name.starts_with("CCDNI__"));
    spec_variables
        .map(|(name, value)| format!("{name}={}", quote(value)))
        .chain(arguments.filter(|argument| argument != "--force").map(|argument| quote(&argument)))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_resumes_survives_a_shell_and_forces_nothing() {
        let arguments = ["ccdni", "run", "my spec.yaml", "--force", "--set", "seeds=[1, 2]"].map(String::from);
        let env = [("CCDNI__NAME", "it's"), ("HOME", "/")].map(|(name, value)| (name.to_string(), value.to_string()));
        assert_eq!(
            resume_line(arguments.into_iter(), &env),
            r"CCDNI__NAME='it'\''s' ccdni run 'my spec.yaml' --set 'seeds=[1, 2]'"
        );
    }
}
