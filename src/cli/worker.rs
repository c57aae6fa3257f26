//! `ccdni worker`: the process that `ccdni run` starts per unit, or per batch of seeds (`run.seed_batch`); hidden.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::run::directory::Directory;
use crate::run::worker;
use crate::spec::InitFrom;
use crate::tasks::Registry;

/// Train seeds of a run directory together, with events as lines of JSON on standard output.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ccdni worker outputs/3f9a1c04d2be --seed 1

Stops after writing a checkpoint when standard input ends: that is how it notices that its parent is gone.")]
pub struct Args {
    /// The run directory.
    directory: PathBuf,
    /// The seed; several are trained together.
    #[arg(long, required = true)]
    seed: Vec<u64>,
    /// The `run` table as JSON; by default that of the directory's spec.
    #[arg(long, value_name = "JSON")]
    run: Option<String>,
    /// `train.init_from` as JSON, where the run it names was moved; by default that of the directory's spec.
    #[arg(long, value_name = "JSON")]
    init_from: Option<String>,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let directory = Directory { path: args.directory };
    let from: Option<InitFrom> = args.init_from.map(|json| parse("--init-from", &json)).transpose()?;
    let mut resolved = directory.spec(from.as_ref(), registry)?;
    if let Some(json) = args.run {
        resolved.spec.run = parse("--run", &json)?;
    }
    worker::work(&directory, &args.seed, &resolved, registry)
}

fn parse<T: serde::de::DeserializeOwned>(flag: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| Error::Usage(format!("{flag}: {error}")))
}
