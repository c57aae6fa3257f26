//! The results of runs as one table, for programs that draw and test.

use std::sync::Arc;

use serde_json::{Value, json};

use super::read::Loaded;
use super::{FinishedRun, keys, labels};
use crate::error::Result;
use crate::report::frame::{DataFrame, Values};
use crate::report::units::FinishedSeed;
use crate::spec::Plugins;

/// Columns of `metrics.csv` that are not measurements.
const INDEX: [&str; 2] = ["seed", "epoch"];
/// Wall-clock time of an epoch, of which a seed's row has the sum.
const SECONDS: &str = "seconds";

/// An epoch of a seed.
type Epoch = fn(&FinishedSeed) -> usize;

/// Finished runs with their spec keys that differ.
pub struct Results {
    runs: Vec<Loaded>,
    /// A column per key, a value per run.
    keys: Vec<(String, Vec<Value>)>,
}

impl Results {
    /// Reads runs. `items` has each run's name in a list of a sweep, if it has one.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for a run that is named twice, [`crate::Error::Data`] naming a damaged file.
    pub fn new(runs: &[FinishedRun], items: &[Option<String>], plugins: &dyn Plugins) -> Result<Self> {
        let runs = Loaded::read_all(runs, plugins)?;
        let mut columns = Vec::new();
        let name = |(index, run): (usize, &Loaded)| match items.get(index) {
            Some(Some(item)) => json!(item),
            _ => json!(run.spec.name),
        };
        let names: Vec<Value> = runs.iter().enumerate().map(name).collect();
        if names.iter().any(|name| *name != names[0]) {
            columns.push(("name".to_owned(), names));
        }
        let trees: Vec<&Value> = runs.iter().map(|run| &run.tree).collect();
        for key in keys::differing(&trees) {
            let values = trees.iter().map(|tree| value(tree, &key)).collect();
            columns.push((key, values));
        }
        Ok(Results { runs, keys: columns })
    }

    /// One row per run, seed, epoch and column of `metrics.csv`: `run`, `seed`, `epoch`, `metric`, `value`, and the keys.
    pub fn long(&self) -> DataFrame {
        let units: Vec<&FinishedSeed> = self.units().map(|(_, unit)| unit).collect();
        let count = |unit: &&FinishedSeed| unit.table.rows.len() * measured(unit).len();
        let counts: Vec<usize> = units.iter().map(count).collect();
        let (mut epochs, mut metrics, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for unit in units {
            let column = |name: &str| (Arc::from(name), unit.table.column(name));
            let columns: Vec<(Arc<str>, Vec<f64>)> = measured(unit).into_iter().map(column).collect();
            for (row, epoch) in unit.table.column("epoch").into_iter().enumerate() {
                for (name, column) in &columns {
                    epochs.push(Some(epoch as i64));
                    metrics.push(Some(name.clone()));
                    values.push(column.get(row).copied());
                }
            }
        }
        let mut frame = self.index().repeat(&counts);
        frame.push("epoch", Values::Int(epochs));
        frame.push("metric", Values::Text(metrics));
        frame.push("value", Values::Float(values));
        frame.columns.extend(self.key_columns().repeat(&counts).columns);
        frame
    }

    /// One row per run and seed: `run`, `seed`, `epochs`, `best_epoch`, `kept_epoch`, `seconds`, then every column of
    /// `metrics.csv` at the kept, the best and the last epoch, the test metrics and caption scores of the kept weights, and the
    /// keys.
    pub fn wide(&self) -> DataFrame {
        let units: Vec<&FinishedSeed> = self.units().map(|(_, unit)| unit).collect();
        let mut frame = self.index();
        let (last, best, kept): (Epoch, Epoch, Epoch) =
            (|unit| unit.result.epochs, |unit| unit.result.best_epoch, |unit| unit.result.kept_epoch);
        for (name, epoch) in [("epochs", last), ("best_epoch", best), ("kept_epoch", kept)] {
            frame.push(name, Values::Int(units.iter().map(|unit| i64::try_from(epoch(unit)).ok()).collect()));
        }
        let mut push = |name: String, of: &dyn Fn(&FinishedSeed) -> Option<f64>| {
            frame.push(name, Values::Float(units.iter().map(|unit| of(unit)).collect()));
        };
        push(SECONDS.into(), &|unit| Some(unit.result.seconds));
        for (when, epoch) in [("kept", kept), ("best", best), ("last", last)] {
            for metric in names(&units, measured).into_iter().filter(|name| *name != SECONDS) {
                push(format!("{when}_{metric}"), &|unit| unit.table.at(metric, epoch(unit)));
            }
        }
        for metric in names(&units, tested) {
            let place = |unit: &FinishedSeed| tested(unit).iter().position(|name| *name == metric);
            // JSON has no NaN: a record has `null` instead.
            push(format!("test_{metric}"), &|unit| Some(unit.result.test.get(place(unit)?)?.unwrap_or(f64::NAN)));
        }
        for score in names(&units, scored) {
            let find = |unit: &FinishedSeed| unit.result.scores.iter().find(|(name, _)| name == score).map(|of| of.1);
            push(score.into(), &find);
        }
        frame.columns.extend(self.key_columns().columns);
        frame
    }

    /// Every seed of every run, with its run.
    fn units(&self) -> impl Iterator<Item = (usize, &FinishedSeed)> {
        self.runs.iter().enumerate().flat_map(|(index, run)| run.units.iter().map(move |unit| (index, unit)))
    }

    /// `run` and `seed`, a row per seed.
    fn index(&self) -> DataFrame {
        let mut frame = DataFrame::default();
        let of = |value: fn(&Loaded, &FinishedSeed) -> Value| -> Vec<Value> {
            self.units().map(|(run, unit)| value(&self.runs[run], unit)).collect()
        };
        frame.push(
            "run",
            Values::Text(self.units().map(|(run, _)| Some(self.runs[run].hash.as_str().into())).collect()),
        );
        frame.push("seed", Values::of(&of(|_, unit| json!(unit.seed))));
        frame
    }

    /// The keys that differ, a row per seed.
    fn key_columns(&self) -> DataFrame {
        let mut frame = DataFrame::default();
        for (key, values) in &self.keys {
            let of_units: Vec<Value> = self.units().map(|(run, _)| values[run].clone()).collect();
            frame.push(key.clone(), Values::of(&of_units));
        }
        frame
    }
}

/// The value of a key. A synthesizer's table, or its absence, is the network's name in the papers: keys in which tables differ
/// have their own columns.
fn value(tree: &Value, key: &str) -> Value {
    match key.rsplit('.').next() {
        Some("dni") => json!(labels::label(tree, &[key.to_owned()], &[])),
        _ => keys::at(tree, key).cloned().unwrap_or_default(),
    }
}

/// The columns of a seed's `metrics.csv` that are measurements.
fn measured(unit: &FinishedSeed) -> Vec<&str> {
    unit.table.header.iter().map(String::as_str).filter(|name| !INDEX.contains(name)).collect()
}

/// The names of a seed's test metrics.
fn tested(unit: &FinishedSeed) -> Vec<&str> {
    unit.result.metrics.iter().map(|metric| metric.name.as_str()).take(unit.result.test.len()).collect()
}

/// The names of a seed's caption scores.
fn scored(unit: &FinishedSeed) -> Vec<&str> {
    unit.result.scores.iter().map(|(name, _)| name.as_str()).collect()
}

/// The names that any seed has, in the order of first appearance.
fn names<'a>(units: &[&'a FinishedSeed], of: impl Fn(&'a FinishedSeed) -> Vec<&'a str>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in units.iter().flat_map(|&unit| of(unit)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
