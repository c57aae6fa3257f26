//! `ccdni table`: the results of finished runs as one table.

use std::path::{Path, PathBuf};

use super::which_runs;
use crate::error::{Error, Result};
use crate::report::compare::Results;
use crate::report::frame::DataFrame;
use crate::run::progress::eprint_line;
use crate::spec::Seeds;
use crate::tasks::Registry;

/// Write the results of finished runs as one table, for pandas, polars and R.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni table experiments/paper/fig2.yaml -o fig2.csv
  ccdni table 3f9a 5c11 --wide -o two_runs.parquet

The table has a row per run, seed, epoch and metric: `run` (the hash), `seed`, `epoch`, `metric` (a column
of metrics.csv), `value`. Then follows a column for every spec key in which the runs differ, preceded by
`name` if names differ (in a sweep, the name in its `list`). A key's value is as in spec.yaml, empty for
null; a synthesizer (`dni`) is ccRNN, its absence cRNN.

With --wide there is a row per run and seed: `epochs`, `best_epoch`, `kept_epoch`, `seconds` (of all
epochs), and of each metric three columns. `kept_val_mse` is the value at the epoch whose weights are kept
(train.keep), `best_val_mse` at the epoch with the best first validation metric, `last_val_mse` at the last
epoch. `test_mse`, and scores of captions, are of the kept weights.

A spec file stands for all its runs, with exactly its seeds.")]
pub struct Args {
    /// The runs: first digits of their hashes, or their directories; or one spec file.
    #[arg(value_name = "RUN|FILE", required = true)]
    runs: Vec<String>,
    /// The runs of the file's `quick` block, as `ccdni reproduce --quick` trains them.
    #[arg(long)]
    quick: bool,
    /// One row per seed, with the metrics at the kept, the best and the last epoch.
    #[arg(long)]
    wide: bool,
    /// The file to write: .csv, .json (an array of records) or .parquet; by default CSV on standard output.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exactly these seeds of every run: `3`, `1,2,7`, or `1..10`.
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<Seeds>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let format = args.out.as_deref().map(Format::of).transpose()?;
    let found = which_runs::find(&args.runs, args.quick, args.seeds.as_ref(), &args.outputs, registry)?;
    let items: Vec<Option<String>> = match &found.file {
        Some((_, sweep)) => sweep.runs.iter().map(|run| run.item.clone()).collect(),
        None => Vec::new(),
    };
    let results = Results::new(&found.runs, &items, registry)?;
    let frame = if args.wide { results.wide() } else { results.long() };
    // Standard output is for the table.
    found.notes.lines().for_each(eprint_line);
    match (&args.out, format) {
        (Some(out), Some(format)) => {
            super::write_out("--out", out, &format.bytes(&frame)?)?;
            super::print(&format!("{}\n", out.display()))
        }
        _ => super::print(&frame.csv()),
    }
}

/// The format of a file.
enum Format {
    Csv,
    Json,
    #[cfg(feature = "hub")]
    Parquet,
}

impl Format {
    /// The format that a file's name ends in.
    fn of(out: &Path) -> Result<Self> {
        let extension = out.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let refused = |what: &str| Err(Error::Usage(format!("--out {}: {what}", out.display())));
        match extension.as_str() {
            "csv" => Ok(Format::Csv),
            "json" => Ok(Format::Json),
            #[cfg(feature = "hub")]
            "parquet" => Ok(Format::Parquet),
            #[cfg(not(feature = "hub"))]
            "parquet" => refused("this program was built without Parquet (feature `hub`); name a .csv or .json file"),
            _ => refused("the format follows from the extension; name a .csv, .json or .parquet file"),
        }
    }

    fn bytes(&self, frame: &DataFrame) -> Result<Vec<u8>> {
        match self {
            Format::Csv => Ok(frame.csv().into_bytes()),
            Format::Json => Ok(frame.json().into_bytes()),
            #[cfg(feature = "hub")]
            Format::Parquet => frame.parquet(),
        }
    }
}
