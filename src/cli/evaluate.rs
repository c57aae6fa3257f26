//! `ccdni evaluate`: metrics of trained weights.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::data::Split;
use crate::device;
use crate::error::{Error, Result};
use crate::report::statistics::{mean, standard_error};
use crate::run::directory;
use crate::run::evaluate::{By, Evaluated, Group, decode_states, evaluate};
use crate::run::finished::Finished;
use crate::run::table::align;
use crate::run::trained_network::{Beside, TrainedNetwork};
use crate::run::weights::DECODER;
use crate::spec::Seeds;
use crate::tasks::Registry;

/// Evaluate trained weights on any split, with other data, as a whole or by class, step and length.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni evaluate 3f9a
  ccdni evaluate 3f9a --split test --set task.test_noise=0.5 --by class,step
  ccdni evaluate 3f9a --decode
  ccdni evaluate outputs/3f9a1c04d2be/seeds/7/decoder.safetensors --json

A run stands for all its finished seeds: mean and standard error over them. `--set` changes the data (`task`), not the
network. A network's outputs do not depend on its synthesizers, which act on learning alone: `--lesion` evaluates without
them, and gives the same numbers.")]
pub struct Args {
    /// The run: first digits of its hash, or its directory; or a file of weights in one.
    #[arg(value_name = "RUN|FILE")]
    network: PathBuf,
    /// The part of the data.
    #[arg(long, value_enum, default_value_t = Part::Validation)]
    split: Part,
    /// Override a value of the task: a dotted path and a YAML value; may be repeated.
    #[arg(long = "set", value_name = "task.KEY=VALUE")]
    set: Vec<String>,
    /// Evaluate without the synthesizers.
    #[arg(long)]
    lesion: bool,
    /// Separate results by these; several are separated by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    by: Vec<By>,
    /// Instead of metrics: how much of the target a linear decoder reads off the states, step by step (ridge regression, of classes logistic,
    /// cross-validated).
    #[arg(long, conflicts_with = "by")]
    decode: bool,
    /// Print JSON, with the values of every seed.
    #[arg(long)]
    json: bool,
    /// Only these seeds of the run: `3`, `1,2,7`, or `1..10` with both ends.
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<Seeds>,
    /// Where to compute: auto, cpu, cuda, `cuda:<index>` or metal.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Train,
    Validation,
    Test,
}

/// Tables of the spec that may be changed: others describe the network as it was trained.
const CHANGED: [&str; 2] = ["task.", "run."];

pub fn execute(mut args: Args, registry: &Registry) -> Result<()> {
    if let Some(set) = args.set.iter().find(|set| !CHANGED.iter().any(|table| set.trim_start().starts_with(table))) {
        let what = "changes the network or its training; `evaluate` changes the data alone (`task.KEY=VALUE`)";
        return Err(Error::Usage(format!("--set {set}: {what}")));
    }
    if args.decode {
        args.by = vec![By::Step];
    }
    let split = match args.split {
        Part::Train => Split::Train,
        Part::Validation => Split::Validation,
        Part::Test => Split::Test,
    };
    let device = device::open(&args.device, false)?;
    let mut seeds: Vec<(u64, Evaluated)> = Vec::new();
    for decoder in decoders(&args)? {
        let beside = Beside { decoder, ..Beside::default() };
        let network = TrainedNetwork::load_with(&beside, &args.set, args.lesion, &device, registry)?;
        let evaluated = match args.decode {
            true => decode_states(&network, split, registry)?,
            false => evaluate(&network, split, &args.by, registry)?,
        };
        seeds.push((network.seed, evaluated));
    }
    match args.json {
        true => super::print(&format!("{:#}\n", to_json(&args, &seeds))),
        false => super::print(&table(&args, &seeds)),
    }
}

/// The weights of every seed of a run, or the named ones.
fn decoders(args: &Args) -> Result<Vec<PathBuf>> {
    let named = &args.network;
    if named.is_file() || named.extension().is_some() {
        return match &args.seeds {
            Some(_) => Err(Error::Usage("--seeds chooses seeds of a run, and a file of weights is of one".into())),
            None => Ok(vec![named.clone()]),
        };
    }
    let run = directory::locate(&args.outputs, &named.to_string_lossy())?;
    let finished = Finished::of(&run, args.seeds.as_ref())?;
    Ok(finished.seeds.iter().map(|&seed| run.unit(seed).directory.join(DECODER)).collect())
}

/// A group, a metric with its unit, and the value of each seed.
type Row = (Group, (String, String), Vec<(u64, f64)>);

/// The groups and metrics, with the value of each seed.
fn values(seeds: &[(u64, Evaluated)]) -> Vec<Row> {
    let Some((_, first)) = seeds.first() else { return Vec::new() };
    let mut groups: Vec<&Group> = seeds.iter().flat_map(|(_, evaluated)| evaluated.groups.keys()).collect();
    groups.sort();
    groups.dedup();
    let mut all = Vec::new();
    for group in groups {
        for (index, metric) in first.metrics.iter().enumerate() {
            let of = |(seed, evaluated): &(u64, Evaluated)| Some((*seed, *evaluated.groups.get(group)?.get(index)?));
            all.push((group.clone(), metric.clone(), seeds.iter().filter_map(of).collect()));
        }
    }
    all
}

/// The columns of a group's keys.
fn keys(by: &[By], group: &Group) -> Vec<(&'static str, String)> {
    let whole = |value: Option<usize>| value.map_or_else(|| "-".into(), |value| value.to_string());
    let key = |by: &By| match by {
        By::Class => ("class", group.class.clone().unwrap_or_else(|| "-".into())),
        By::Step => ("step", whole(group.step)),
        By::Length => ("length", whole(group.length)),
    };
    by.iter().map(key).collect()
}

fn table(args: &Args, seeds: &[(u64, Evaluated)]) -> String {
    let mut header: Vec<String> = keys(&args.by, &Group::default()).into_iter().map(|(name, _)| name.into()).collect();
    header.extend(["metric", "seeds", "value", "unit"].map(String::from));
    let row = |(group, (metric, unit), values): Row| {
        let values: Vec<f64> = values.into_iter().map(|(_, value)| value).collect();
        let error = standard_error(&values);
        let error = if error.is_nan() { String::new() } else { format!(" ± {error:.4}") };
        let mut row: Vec<String> = keys(&args.by, &group).into_iter().map(|(_, value)| value).collect();
        row.extend([metric, values.len().to_string(), format!("{:.4}{error}", mean(&values)), unit]);
        row
    };
    let rows: Vec<Vec<String>> = values(seeds).into_iter().map(row).collect();
    align(&header, &rows)
}

fn to_json(args: &Args, seeds: &[(u64, Evaluated)]) -> Value {
    let one = |(group, (metric, unit), values): Row| {
        let seeds: serde_json::Map<String, Value> =
            values.into_iter().map(|(seed, value)| (seed.to_string(), json!(value))).collect();
        let Group { class, step, length } = group;
        json!({ "class": class, "step": step, "length": length, "metric": metric, "unit": unit, "seeds": seeds })
    };
    let results: Vec<Value> = values(seeds).into_iter().map(one).collect();
    let split = format!("{:?}", args.split).to_lowercase();
    let network: &Path = &args.network;
    json!({ "network": network, "split": split, "set": args.set, "lesion": args.lesion, "results": results })
}
