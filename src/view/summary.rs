//! A run in one row: what it is, how far it is, and its results.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::data::Direction;
use crate::files;
use crate::records::{EpochProgress, SeedResult, SeedRun};
use crate::report::compare;
use crate::report::statistics::{mean, standard_error};
use crate::report::units::read_table;
use crate::run::directory::Directory;
use crate::run::status::{SeedStatus, Standing};
use crate::spec::{read_resolved, whole_line};

/// A run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Its hash, the name of its directory.
    pub run: String,
    /// The spec's name.
    pub name: Option<String>,
    /// `task.kind`.
    pub task: String,
    /// The network in the papers' terms.
    pub network: String,
    /// When the directory was created.
    pub created: String,
    /// Epochs requested.
    pub epochs: usize,
    /// Seeds, ascending.
    pub seeds: Vec<SeedSummary>,
    /// Its numbers by name.
    pub metrics: BTreeMap<String, MetricSummary>,
    /// Mean seconds of a finished seed.
    pub seconds: Option<f64>,
    /// Why it cannot be read completely.
    pub problem: Option<String>,
    /// The values of its spec by dotted path.
    pub keys: Map<String, Value>,
    /// The spec as comparisons have it.
    #[serde(skip)]
    pub tree: Value,
}

/// A seed of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeedSummary {
    /// The seed.
    pub seed: u64,
    /// Its status in one word.
    pub state: String,
    /// Epochs trained so far.
    pub epochs: usize,
    /// What is trained beyond them, in epochs.
    pub within: f64,
    /// Why it failed.
    pub reason: Option<String>,
    /// The process that trains it.
    pub holder: Option<String>,
}

/// A metric over seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetricSummary {
    /// Mean over seeds.
    pub mean: Option<f64>,
    /// Standard error of the mean, if there are several seeds.
    pub sem: Option<f64>,
    /// Number of seeds.
    pub seeds: usize,
    /// Whether lower is better; unknown for other columns.
    pub lower: Option<bool>,
    /// Whether it is of the last epoch so far, as no seed is finished.
    pub unfinished: bool,
}

/// The numbers of one seed: name, value, whether lower is better.
type Numbers = Vec<(String, f64, Option<bool>)>;

impl Summary {
    /// Reads a run. What is damaged or half-written is named in `problem`; a spec that was read `before` is not read again.
    pub fn read(run: &Directory, before: Option<&Summary>) -> Self {
        let mut problems = Vec::new();
        let manifest = run.manifest().map_err(|error| problems.push(error.to_string())).ok();
        let seeds = match &manifest {
            Some(manifest) => run.seeds(manifest),
            None => run.units().map(|units| units.iter().map(|unit| unit.seed).collect()),
        };
        let seeds: Vec<u64> = seeds.map_err(|error| problems.push(error.to_string())).unwrap_or_default();
        let (mut finished, mut unfinished, mut seconds): (Vec<Numbers>, Vec<Numbers>, Vec<f64>) = Default::default();
        let mut summaries = Vec::new();
        for seed in seeds {
            let status = SeedStatus::of(run, seed);
            let unit = run.unit(seed);
            let epochs = match status.result() {
                Some(result) => {
                    finished.push(of_result(result));
                    seconds.push(result.seconds);
                    result.epochs
                }
                None if matches!(status.standing, Standing::Running | Standing::Failed | Standing::Waiting) => {
                    let (epochs, numbers) = of_table(&unit).unwrap_or_default();
                    unfinished.extend(Some(numbers).filter(|numbers| !numbers.is_empty()));
                    epochs
                }
                None => 0,
            };
            summaries.push(SeedSummary {
                seed,
                state: status.standing.to_string(),
                epochs,
                within: if status.standing == Standing::Running { within(&unit, epochs) } else { 0.0 },
                reason: status.reason,
                holder: status.holder.map(|holder| holder.to_string()),
            });
        }
        let (numbers, is_partial) = if finished.is_empty() { (unfinished, true) } else { (finished, false) };
        // A finished spec is never written again.
        let known = before.filter(|before| before.problem.is_none() && !before.tree.is_null());
        let (tree, keys, network) = match known {
            Some(before) => (before.tree.clone(), before.keys.clone(), before.network.clone()),
            None => match read_resolved(&run.spec_path()) {
                Ok(spec) => {
                    let tree = compare::tree(&spec);
                    let mut keys = Map::new();
                    flatten("", &tree, &mut keys);
                    (tree, keys, compare::network(&spec).to_owned())
                }
                Err(error) => {
                    problems.push(error.to_string());
                    Default::default()
                }
            },
        };
        let of_manifest = |of: fn(&crate::records::Manifest) -> String| manifest.as_ref().map(of).unwrap_or_default();
        Summary {
            run: run.hash(),
            name: manifest.as_ref().and_then(|manifest| manifest.name.clone()),
            task: of_manifest(|manifest| manifest.task.clone()),
            created: of_manifest(|manifest| manifest.created.clone()),
            epochs: manifest.as_ref().map_or(0, |manifest| manifest.epochs),
            network,
            seeds: summaries,
            metrics: summarise(&numbers, is_partial),
            seconds: Some(mean(&seconds)).filter(|seconds| seconds.is_finite()),
            problem: Some(problems.join("\n")).filter(|problems| !problems.is_empty()),
            keys,
            tree,
        }
    }

    /// The seeds that are being trained.
    pub fn running(&self) -> Vec<u64> {
        let word = Standing::Running.to_string();
        let running = self.seeds.iter().filter(|seed| seed.state == word);
        running.map(|seed| seed.seed).collect()
    }

    /// The seeds that are trained to the end.
    pub fn done(&self) -> Vec<u64> {
        let done = self.seeds.iter().filter(|seed| seed.state == Standing::Done.to_string());
        done.map(|seed| seed.seed).collect()
    }
}

/// The results of a finished seed: validation and test of the kept weights, scores, and the last training loss.
fn of_result(result: &SeedResult) -> Numbers {
    let number = |value: &Option<f64>| value.unwrap_or(f64::NAN);
    let mut numbers = Vec::new();
    for (kind, values) in [("val", &result.validation), ("test", &result.test)] {
        for (metric, value) in result.metrics.iter().zip(values) {
            let lower = metric.direction == Direction::Lower;
            numbers.push((format!("{kind}_{}", metric.name), number(value), Some(lower)));
        }
    }
    numbers.extend(result.scores.iter().map(|(name, value)| (name.clone(), *value, Some(false))));
    numbers.push(("train_loss".into(), number(&result.train_loss), Some(true)));
    numbers
}

/// The epochs of a seed so far, and the numbers of the last; `None` without a readable table.
fn of_table(unit: &SeedRun) -> Option<(usize, Numbers)> {
    let table = read_table(unit).ok()?;
    let is_metric = |name: &&str| name.starts_with("val_") || *name == "train_loss";
    let number = |name: &str| Some((name.to_owned(), table.column(name).last().copied()?, None));
    let numbers = table.scores().into_iter().filter(is_metric).filter_map(number).collect();
    Some((table.rows.len(), numbers))
}

/// What a seed has trained since the last epoch in its table, in epochs; 0 without a readable file.
fn within(unit: &SeedRun, epochs: usize) -> f64 {
    let Ok(Some(now)) = files::read_json::<EpochProgress>(&unit.progress_path(), "") else { return 0.0 };
    let whole = now.epoch as f64 - 1.0 - epochs as f64;
    (whole + now.batch as f64 / now.batches.max(1) as f64).max(0.0)
}

fn summarise(seeds: &[Numbers], unfinished: bool) -> BTreeMap<String, MetricSummary> {
    let mut values: BTreeMap<String, (Vec<f64>, Option<bool>)> = BTreeMap::new();
    for (name, value, lower) in seeds.iter().flatten() {
        let (all, direction) = values.entry(name.clone()).or_default();
        all.push(*value);
        *direction = *lower;
    }
    let finite = |value: f64| Some(value).filter(|value| value.is_finite());
    let summary = |(name, (values, lower)): (String, (Vec<f64>, Option<bool>))| {
        let (mean, sem) = (finite(mean(&values)), finite(standard_error(&values)));
        (name, MetricSummary { mean, sem, seeds: values.len(), lower, unfinished })
    };
    values.into_iter().map(summary).collect()
}

/// Every value of a spec by its dotted path; lists are YAML on one line.
fn flatten(path: &str, value: &Value, keys: &mut Map<String, Value>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Null => {}
        Value::Object(table) => table.iter().for_each(|(key, value)| flatten(&join(key), value, keys)),
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
            items.iter().enumerate().for_each(|(index, item)| flatten(&join(&index.to_string()), item, keys));
        }
        Value::Array(_) => drop(keys.insert(path.to_owned(), whole_line(value).into())),
        value => drop(keys.insert(path.to_owned(), value.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_spec_is_flat_and_lists_are_one_value() {
        let mut keys = Map::new();
        flatten("", &json!({"model": {"layers": [{"hidden": 5, "dni": {"hidden": [4, 4]}}]}, "name": null}), &mut keys);
        let keys = Value::Object(keys);
        assert_eq!(keys, json!({"model.layers.0.hidden": 5, "model.layers.0.dni.hidden": "[4,4]"}));
    }

    #[test]
    fn a_metric_is_a_mean_over_seeds_and_nan_is_none() {
        let seeds =
            [1.0, 3.0].map(|value| vec![("val_mse".to_owned(), value, Some(true)), ("x".to_owned(), f64::NAN, None)]);
        let metrics = summarise(&seeds, false);
        let expected =
            MetricSummary { mean: Some(2.0), sem: Some(1.0), seeds: 2, lower: Some(true), unfinished: false };
        assert_eq!(metrics["val_mse"], expected);
        assert_eq!(metrics["x"].mean, None);
    }
}
