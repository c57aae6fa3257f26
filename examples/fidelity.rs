//! Compares finished runs of the paper's line-drawing specs with what the original code reached.
//!
//! No random number is shared with the original, so final errors are compared as distributions over seeds: medians, and
//! the exact two-sided Mann-Whitney test. Prints the table of `docs/fidelity.md`:
//! `cargo run --release --example fidelity -- [outputs]`

use std::path::{Path, PathBuf};

use ccdni::report::statistics::{mann_whitney, median};
use ccdni::spec::{Request, resolve};
use ccdni::tasks::Registry;

type Error = Box<dyn std::error::Error>;

/// The original's name of a job, our spec of it.
const JOBS: [(&str, &str); 3] = [
    ("cRNN_bptt1", "experiments/paper/fig2_linedraw.yaml"),
    ("ccRNN_bptt1", "experiments/paper/fig2_linedraw_dni.yaml"),
    ("cRNN_bptt10_full", "experiments/paper/fig2_linedraw_full.yaml"),
];

/// The original's name of a figure, our column of it.
const FIGURES: [(&str, &str); 3] =
    [("final_train", "train_loss_original"), ("final_validation", "val_mse"), ("final_test", "test_mse")];

fn main() -> Result<(), Error> {
    let outputs = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "outputs".into()));
    let reference: serde_json::Value = serde_json::from_slice(&std::fs::read("tests/golden/reference-results.json")?)?;
    println!("| job | figure | seeds | original: median (range) | ccdni: median (range) | p |");
    println!("|---|---|---|---|---|---|");
    for (job, spec) in JOBS {
        let resolved = resolve(&Request { file: spec.into(), ..Request::default() }, &Registry::built_in())?;
        let results = outputs.join(&resolved.hash).join("results.csv");
        for (figure, name) in FIGURES {
            let original: Vec<f64> = serde_json::from_value(reference["linedraw"][job][figure].clone())?;
            let ours = column(&results, name)?;
            println!(
                "| {job} | `{name}` | {} / {} | {} | {} | {:.3} |",
                original.len(),
                ours.len(),
                summary(&original),
                summary(&ours),
                mann_whitney(&original, &ours)
            );
        }
    }
    Ok(())
}

/// A column of a CSV file.
fn column(path: &Path, name: &str) -> Result<Vec<f64>, Error> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let at = reader.headers()?.iter().position(|header| header == name);
    let at = at.ok_or_else(|| format!("{}: no column {name}", path.display()))?;
    reader.records().map(|row| Ok(row?.get(at).unwrap_or_default().parse()?)).collect()
}

fn summary(values: &[f64]) -> String {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.3} ({lowest:.3} to {highest:.3})", median(values))
}
