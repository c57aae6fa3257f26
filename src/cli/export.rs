//! `ccdni export`: a network's weights for other programs.

use std::path::{Path, PathBuf};

use candle_core::Device;
use clap::ValueEnum;

use crate::error::{Error, Result};
use crate::exchange::{Export, Format};
use crate::run::directory::{self, Directory};
use crate::run::trained_network::{Beside, TrainedNetwork};
use crate::tasks::Registry;

/// Directory of exported files in a run's directory.
const FOLDER: &str = "export";

/// Export a network's weights for PyTorch, safetensors or NumPy, with a script that computes the network in PyTorch.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni export 3f9a --format torch
  ccdni export 3f9a --format numpy --seed 2 -o decoder.npz

Beside the weights FILE.pt: FILE.inputs.npy and FILE.predictions.npy, inputs and the network's outputs for
them, and FILE.py, the script, which is printed too. docs/exchange.md describes names and files.")]
pub struct Args {
    /// The run: first digits of its hash, or its directory.
    #[arg(value_name = "RUN")]
    run: String,
    /// The format of the weights.
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// The file of the weights, or a directory for it; by default export/seed-N in the run's directory.
    #[arg(short = 'o', long = "out", value_name = "FILE|DIR")]
    out: Option<PathBuf>,
    /// The seed; by default the best one.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Leave out inputs, outputs and script, for which the task's data are opened.
    #[arg(long)]
    weights_only: bool,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let run = directory::locate(&args.outputs, &args.run)?;
    let seed = seed(&run, args.seed)?;
    let beside = Beside { decoder: run.unit(seed).weights_path(), ..Beside::default() };
    let network = TrainedNetwork::load(&beside, &Device::Cpu, registry)?;
    let name = format!("seed-{seed}.{}", args.format.extension());
    let file = match args.out {
        None => run.path.join(FOLDER).join(name),
        Some(out) if out.is_dir() || out.extension().is_none() => out.join(name),
        Some(out) => out,
    };
    check_file(&file, args.format, &run)?;
    let export = Export { network: &network, format: args.format, file: &file, weights_only: args.weights_only };
    let exported = export.write(registry)?;
    let mut text = exported.script.map_or_else(String::new, |script| format!("{script}\n"));
    for path in exported.files {
        text += &format!("{}\n", path.display());
    }
    super::print(&text)
}

/// Rejects a file of the script's or of another format's type, and the run's own files.
fn check_file(file: &Path, format: Format, run: &Directory) -> Result<()> {
    let wrong = |what: String| Err(Error::Usage(format!("-o {}: {what}", file.display())));
    let ending = file.extension().unwrap_or_default().to_string_lossy().into_owned();
    let others = Format::value_variants().iter().map(|format| format.extension()).chain(["py"]);
    if others.into_iter().any(|other| other == ending) && ending != format.extension() {
        return wrong(format!(
            "`.{ending}` is not the ending of weights of this format; name a file that ends in `.{}`",
            format.extension()
        ));
    }
    let whole = |path: &Path| path.canonicalize().ok();
    match (whole(file), whole(&run.path)) {
        (Some(file), Some(run)) if file.strip_prefix(&run).is_ok_and(|within| !within.starts_with(FOLDER)) => {
            wrong("is a file of the run itself; name another one".into())
        }
        _ => Ok(()),
    }
}

/// The seed to export, whose weights must exist.
fn seed(run: &Directory, wanted: Option<u64>) -> Result<u64> {
    let has_weights = |seed: &u64| run.unit(*seed).weights_path().is_file();
    let there: Vec<u64> = run.units()?.iter().map(|unit| unit.seed).filter(has_weights).collect();
    let best = || run.manifest().map(|manifest| manifest.best_seed);
    let seed = match wanted {
        Some(seed) => Some(seed),
        None => best()?,
    };
    seed.filter(|seed| there.contains(seed)).ok_or_else(|| {
        let seeds: Vec<String> = there.iter().map(u64::to_string).collect();
        let has = if seeds.is_empty() { "none".into() } else { seeds.join(", ") };
        let which = wanted.map_or_else(|| "no finished seed".into(), |seed| format!("no weights of seed {seed}"));
        Error::Usage(format!("run {} has {which}; seeds with weights: {has}", run.hash()))
    })
}
