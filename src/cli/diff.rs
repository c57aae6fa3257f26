//! `ccdni diff`: the differences between two runs.

use std::path::PathBuf;

use super::which_runs;
use crate::error::Result;
use crate::report::compare::difference;
use crate::run::table::align;
use crate::tasks::Registry;

/// Show the keys and the metrics in which two runs differ.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ccdni diff 3f9a 5c11

Metrics are those of the last epoch, means over the seeds that both runs have finished.")]
pub struct Args {
    /// One run: first digits of its hash, or its directory.
    #[arg(value_name = "A")]
    first: String,
    /// The other run.
    #[arg(value_name = "B")]
    second: String,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let (first, _) = which_runs::one(&args.first, None, &args.outputs)?;
    let (second, _) = which_runs::one(&args.second, None, &args.outputs)?;
    let [keys, numbers] = difference(&first, &second, registry)?;
    let mut text = match keys.as_slice() {
        [header, rows @ ..] if !rows.is_empty() => align(header, rows),
        _ => "the specs are equivalent\n".into(),
    };
    text += &match numbers.as_slice() {
        [header, rows @ ..] => format!("\n{}", align(header, rows)),
        [] => "\nthe runs have no finished seed in common\n".into(),
    };
    super::print(&text)
}
