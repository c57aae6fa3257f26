//! The files of one seed of a run: where they are, and what is in `unit.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::files;
use crate::train::MetricInfo;

/// A spec trained with one seed, by where its files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedRun {
    /// The directory `seeds/<seed>`.
    pub directory: PathBuf,
    /// The seed.
    pub seed: u64,
}

/// What is known about a unit, from `unit.json`. Whether it is being trained follows from its claim, and is not here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedRecord {
    /// The seed.
    pub seed: u64,
    /// How far it is.
    pub state: SeedState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// [`crate::train::NUMERICS`] of the program that trained it.
    #[serde(default)]
    pub numerics: u32,
    /// Version of that program.
    #[serde(default)]
    pub version: String,
    /// The machine.
    #[serde(default)]
    pub host: String,
    /// The device, as `cpu` or `cuda:0`.
    #[serde(default)]
    pub device: String,
    /// The processor's instruction set.
    #[serde(default)]
    pub instruction_set: String,
    /// What computed the network: `fused`, `unrolled` or `composed`.
    #[serde(default)]
    pub backend: String,
    /// Threads within the unit.
    #[serde(default)]
    pub threads: usize,
    /// When training began first.
    #[serde(default)]
    pub started: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// What a reader of the result should know, such as a resume on another processor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What training gave; only of a unit that is done.
    #[serde(flatten)]
    pub result: Option<SeedResult>,
}

/// How far a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedState {
    /// Begun, and neither done nor failed.
    Unfinished,
    /// Trained to the end.
    Done,
    /// Stopped by an error; its last checkpoint is good.
    Failed,
}

/// What training a unit gave, in a few numbers. A number that is none is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedResult {
    /// Sum of the epochs' wall clock.
    #[serde(default)]
    pub seconds: f64,
    /// The validation metrics.
    pub metrics: Vec<MetricInfo>,
    /// Epochs trained.
    #[serde(default)]
    pub epochs: usize,
    /// The epoch with the best first validation metric.
    pub best_epoch: usize,
    /// The epoch whose weights are kept.
    pub kept_epoch: usize,
    /// Training loss of the last epoch.
    #[serde(default)]
    pub train_loss: Option<f64>,
    /// Validation metrics of the kept weights.
    #[serde(default)]
    pub validation: Vec<Option<f64>>,
    /// Test metrics of the kept weights.
    pub test: Vec<Option<f64>>,
    /// Scores of the sentences of the kept weights, by the names of the COCO tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<(String, f64)>,
}

impl SeedRun {
    /// That of a seed in the directory of a run, whether it was begun or not.
    pub fn of(run: &Path, seed: u64) -> Self {
        SeedRun { directory: run.join("seeds").join(seed.to_string()), seed }
    }

    /// Every one that has a directory in that of a run, by ascending seed. What was set aside has another name.
    pub fn all(run: &Path) -> Vec<Self> {
        let entries = std::fs::read_dir(run.join("seeds")).into_iter().flatten().flatten();
        let mut seeds: Vec<u64> = entries.filter_map(|entry| seed_of(entry.file_name().to_str()?)).collect();
        seeds.sort_unstable();
        seeds.into_iter().map(|seed| SeedRun::of(run, seed)).collect()
    }

    /// `unit.json`.
    pub fn record_path(&self) -> PathBuf {
        self.directory.join("unit.json")
    }

    /// `metrics.csv`: one row per epoch.
    pub fn metrics_path(&self) -> PathBuf {
        self.directory.join("metrics.csv")
    }

    /// `showcase.safetensors`: the outputs for the task's showcase, if it has one.
    pub fn showcase_path(&self) -> PathBuf {
        self.directory.join("showcase.safetensors")
    }

    /// `recordings`, with a file `epoch-0001.safetensors` per recorded epoch.
    pub fn recordings_path(&self) -> PathBuf {
        self.directory.join("recordings")
    }

    /// What is known about the unit; `None` if it was never begun.
    ///
    /// # Errors
    /// [`crate::Error::Data`] if `unit.json` is damaged.
    pub fn record(&self) -> Result<Option<SeedRecord>> {
        files::read_json(&self.record_path(), &self.advice())
    }

    /// What to do where a file of this unit is missing or damaged.
    pub fn advice(&self) -> String {
        format!("train this seed again with `--force --seeds {}`", self.seed)
    }
}

/// The seed that a directory is named after.
fn seed_of(name: &str) -> Option<u64> {
    // `007` is no name that we give.
    name.parse().ok().filter(|seed: &u64| seed.to_string() == name)
}
