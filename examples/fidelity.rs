//! Compares finished runs with what the original code reached, and networks with and without a synthesizer.
//!
//! No random number is shared with the original, so final errors are compared as distributions over seeds: medians, and the
//! exact two-sided Mann-Whitney test. Prints the tables of `docs/fidelity.md`, which lists the commands for the runs:
//! `cargo run --release --example fidelity -- [outputs]`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ccdni::report::statistics::{mann_whitney, median};
use ccdni::spec::{Request, resolve};
use ccdni::tasks::Registry;
use serde_json::Value;

type Error = Box<dyn std::error::Error>;

/// The 10,000 test images of MNIST, of which the first 8,000 are for training.
const MNIST: &[&str] =
    &["task.source={kind: idx, dir: datasets/mnist, use: test}", "task.split=ordered", "train.epochs=20"];

/// The original's name of a job, the corresponding spec, and its overrides.
const LINEDRAW: [(&str, &str, &[&str]); 3] = [
    ("cRNN_bptt1", "paper/fig2_linedraw", &[]),
    ("ccRNN_bptt1", "paper/fig2_linedraw_dni", &[]),
    ("cRNN_bptt10_full", "paper/fig2_linedraw_full", &[]),
];
const SEQMNIST: [(&str, &str, &[&str]); 9] = [
    ("recognise_cRNN_bptt3", "seqmnist", &[]),
    ("recognise_ccRNN_bptt3", "seqmnist_dni", &[]),
    ("recognise_cRNN_bptt28", "seqmnist", &["train.bptt=null"]),
    ("lines_cRNN_bptt3", "seqmnist_lines", &[]),
    ("lines_ccRNN_bptt3", "seqmnist_lines_dni", &[]),
    ("lines_cRNN_bptt28", "seqmnist_lines", &["train.bptt=null"]),
    ("digits_cRNN_bptt3", "seqmnist_digits", &[]),
    ("digits_ccRNN_bptt3", "seqmnist_digits_dni", &[]),
    ("digits_cRNN_bptt28", "seqmnist_digits", &["train.bptt=null"]),
];

fn main() -> Result<(), Error> {
    let outputs = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "outputs".into()));
    let reference: Value = serde_json::from_slice(&std::fs::read("tests/golden/reference-results.json")?)?;
    let head =
        "| job | figure | seeds | original: median (range) | ccdni: median (range) | p |\n|---|---|---|---|---|---|";

    println!("{head}");
    for (job, spec, set) in LINEDRAW {
        let results = results(&outputs, spec, set)?;
        let original = &reference["linedraw"][job];
        for (figure, name) in
            [("final_train", "train_loss_original"), ("final_validation", "val_mse"), ("final_test", "test_mse")]
        {
            compare(job, name, &original[figure], &results)?;
        }
    }

    println!("\n{head}");
    for (job, spec, set) in SEQMNIST {
        let Ok(results) = results(&outputs, spec, &[MNIST, set].concat()) else {
            println!("| {job} | not run | | | | |");
            continue;
        };
        let original = &reference["seqmnist_10k"][job];
        compare(job, "train_loss_original", &original["train_at_epoch"]["20"], &results)?;
        for (metric, values) in original["validation_at_epoch"].as_object().ok_or("no validation")? {
            compare(job, &format!("val_{metric}"), &values["20"], &results)?;
        }
    }

    println!(
        "\n| task | bptt | figure | cRNN: median (range) | ccRNN: median (range) | p |\n|---|---|---|---|---|---|"
    );
    for (task, metric) in [("seqmnist", "val_accuracy"), ("seqmnist_lines", "val_mse"), ("seqmnist_digits", "val_mse")]
    {
        for bptt in [1, 3, 5] {
            let set = format!("train.bptt={bptt}");
            let both = [task.to_string(), format!("{task}_dni")].map(|spec| results(&outputs, &spec, &[&set]));
            let [Ok(plain), Ok(dni)] = both else {
                println!("| {task} | {bptt} | not run | | | |");
                continue;
            };
            let (plain, dni) = (column(&plain, metric)?, column(&dni, metric)?);
            let p = mann_whitney(&plain, &dni);
            println!("| {task} | {bptt} | `{metric}` | {} | {} | {p:.3} |", summary(&plain), summary(&dni));
        }
        if let Ok(full) = results(&outputs, task, &["train.bptt=null"]) {
            println!("| {task} | full | `{metric}` | {} | | |", summary(&column(&full, metric)?));
        }
    }
    Ok(())
}

/// Prints a row: the original's values, and ours for the same figure.
fn compare(job: &str, name: &str, original: &Value, results: &Results) -> Result<(), Error> {
    let original: Vec<f64> = serde_json::from_value(original.clone())?;
    let ours = column(results, name)?;
    let p = mann_whitney(&original, &ours);
    println!(
        "| {job} | `{name}` | {} / {} | {} | {} | {p:.3} |",
        original.len(),
        ours.len(),
        summary(&original),
        summary(&ours),
    );
    Ok(())
}

/// Columns of a run's `results.csv`.
type Results = BTreeMap<String, Vec<f64>>;

/// The results of the run of a spec in `experiments/` with overrides.
fn results(outputs: &Path, spec: &str, set: &[&str]) -> Result<Results, Error> {
    let set = set.iter().map(|set| set.to_string()).collect();
    let file = format!("experiments/{spec}.yaml").into();
    let resolved = resolve(&Request { file, set, ..Request::default() }, &Registry::built_in())?;
    let path = outputs.join(&resolved.hash).join("results.csv");
    let mut reader = csv::Reader::from_path(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let headers: Vec<String> = reader.headers()?.iter().map(String::from).collect();
    let mut results = Results::new();
    for row in reader.records() {
        for (name, value) in headers.iter().zip(row?.iter()) {
            results.entry(name.clone()).or_default().push(value.parse().unwrap_or(f64::NAN));
        }
    }
    Ok(results)
}

fn column(results: &Results, name: &str) -> Result<Vec<f64>, Error> {
    Ok(results.get(name).ok_or_else(|| format!("no column {name}"))?.clone())
}

fn summary(values: &[f64]) -> String {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.3} ({lowest:.3} to {highest:.3})", median(values))
}
