//! `ccdni list`: the existing runs.

use std::path::PathBuf;

use crate::error::Result;
use crate::run::directory::{self, Directory};
use crate::run::progress::number;
use crate::run::status::{SeedStatus, Standing};
use crate::run::table::align;

/// List the runs, one line each.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ccdni list --outputs outputs

`mean` is the mean over seeds of the first validation metric of the kept weights.")]
pub struct Args {
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

pub fn execute(args: Args) -> Result<()> {
    let runs = directory::all(&args.outputs)?;
    if runs.is_empty() {
        return super::print(&format!("no runs in {} yet; `ccdni run SPEC` creates one\n", args.outputs.display()));
    }
    let header = ["run", "task", "epochs", "done", "running", "failed", "waiting", "metric", "mean", "name"];
    // A damaged run must not hide the others.
    let (mut rows, mut damaged) = (Vec::new(), String::new());
    for run in &runs {
        match row(run) {
            Ok(row) => rows.push(row),
            Err(error) => {
                rows.push(vec![run.hash(), "damaged".into()]);
                damaged.push_str(&format!("\n{}: {error}\n", run.hash()));
            }
        }
    }
    super::print(&format!("{}{damaged}", align(&header.map(String::from), &rows)))
}

fn row(run: &Directory) -> Result<Vec<String>> {
    let manifest = run.manifest()?;
    let mut standings = Vec::new();
    let mut metric = None;
    let mut values = Vec::new();
    for seed in run.seeds(&manifest)? {
        let status = SeedStatus::read(&run.unit(seed))?;
        standings.push(status.standing);
        if let Some(result) = status.result() {
            values.extend(result.validation.first().copied().flatten());
            metric = result.metrics.first().map(|metric| metric.name.clone());
        }
    }
    let count = |which: Standing| standings.iter().filter(|standing| **standing == which).count().to_string();
    let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let mut row = vec![run.hash(), manifest.task];
    if standings.contains(&Standing::Imported) {
        row.push("imported".into());
    } else {
        row.push(manifest.epochs.to_string());
    }
    row.extend(Standing::ALL.map(count));
    row.extend([metric.unwrap_or_else(|| "-".into()), number(mean), manifest.name.unwrap_or_default()]);
    Ok(row)
}
