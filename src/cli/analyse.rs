//! `ccdni analyse`: analysis of a run's recordings.

use std::path::PathBuf;

use crate::error::Result;
use crate::report::analysis;
use crate::run::directory;
use crate::run::finished::Finished;
use crate::run::table;
use crate::spec::{self, Seeds};

/// Analyse what a run recorded: how the activity of its networks and synthesizers develops.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni analyse 3f9a
  ccdni analyse 3f9a --seeds 1..3

Writes measures.csv and figures into the run's directory, under analysis/. The run must have been
trained with a `record` table; docs/analysis.md explains the measures.")]
pub struct Args {
    /// The run: the first digits of its hash, or its directory.
    #[arg(value_name = "RUN")]
    run: String,
    /// Only these seeds: `3`, `1,2,7`, or `1..10` with both ends; by default every finished one.
    #[arg(long, alias = "seed", value_name = "SEEDS")]
    seeds: Option<Seeds>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

pub fn execute(args: Args) -> Result<()> {
    let run = directory::locate(&args.outputs, &args.run)?;
    let spec = spec::read_resolved(&run.spec_path())?;
    let finished = Finished::of(&run, args.seeds.as_ref())?;
    let analysis = analysis::analyse(&run.path, &spec, &finished.seeds)?;
    let files = analysis.write(&run.path.join("analysis"))?;

    let seeds: Vec<String> = finished.seeds.iter().map(u64::to_string).collect();
    let mut text = format!("run {}, means over seeds {}\n\n", run.hash(), seeds.join(", "));
    if let [header, rows @ ..] = analysis.summary().as_slice() {
        text += &format!("{}\n", table::align(header, rows));
    }
    for file in files {
        text += &format!("{}\n", file.display());
    }
    for note in finished.note(&run).into_iter().chain(analysis.notes) {
        text += &format!("note: {note}\n");
    }
    super::print(&text)
}
