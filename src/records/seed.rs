//! The files of one seed of a run: their paths, and the contents of `unit.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::train_command;
use crate::error::{Error, Result};
use crate::files;
use crate::train::MetricInfo;

/// Name of the file with the outputs for the task's showcase.
pub const SHOWCASE: &str = "showcase.safetensors";

/// One unit, a spec trained with one seed, identified by its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedRun {
    /// The directory `seeds/<seed>`.
    pub directory: PathBuf,
    /// The seed.
    pub seed: u64,
}

/// Contents of `unit.json`. Whether the unit is being trained follows from its claim and is not recorded here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedRecord {
    /// The seed.
    pub seed: u64,
    /// State of training.
    pub state: SeedState,
    /// The files of imported weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imported: Vec<Imported>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// [`crate::train::NUMERICS`] of the program that trained it.
    #[serde(default)]
    pub numerics: u32,
    /// Version of that program.
    #[serde(default)]
    pub version: String,
    /// The host's name.
    #[serde(default)]
    pub host: String,
    /// The device, as `cpu` or `cuda:0`.
    #[serde(default)]
    pub device: String,
    /// The processor's instruction set.
    #[serde(default)]
    pub instruction_set: String,
    /// The backend: `fused`, `unrolled` or `composed`.
    #[serde(default)]
    pub backend: String,
    /// Threads per unit.
    #[serde(default)]
    pub threads: usize,
    /// When training first began.
    #[serde(default)]
    pub started: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Remarks on the result, such as a resume on another processor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The result; only for a unit that is done.
    #[serde(flatten)]
    pub result: Option<SeedResult>,
}

/// How far the epoch in training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochProgress {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Its batches so far.
    pub batch: usize,
    /// All of its batches.
    pub batches: usize,
}

/// State of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedState {
    /// Begun, neither done nor failed.
    Unfinished,
    /// Trained to the end.
    Done,
    /// Stopped by an error; its last checkpoint is valid.
    Failed,
    /// Not trained here: weights that were imported.
    Imported,
}

/// A file of weights that was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Its path.
    pub file: String,
    /// Its BLAKE3 digest, in hex.
    pub blake3: String,
}

/// Summary of a unit's result. NaN and infinities are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedResult {
    /// Wall-clock seconds, summed over epochs.
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
    /// Caption scores of the kept weights, by the names of the COCO tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<(String, f64)>,
}

impl SeedRun {
    /// The unit of a seed in a run's directory, whether or not it exists.
    pub fn of(run: &Path, seed: u64) -> Self {
        SeedRun { directory: run.join("seeds").join(seed.to_string()), seed }
    }

    /// Every unit that has a directory in a run's directory, by ascending seed. Units set aside have other names.
    ///
    /// # Errors
    /// [`Error::Io`] if there is a directory of units that cannot be read.
    pub fn all(run: &Path) -> Result<Vec<Self>> {
        let folder = run.join("seeds");
        let names = match std::fs::read_dir(&folder) {
            Ok(entries) => entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let names = names.map_err(Error::io("read", &folder))?;
        let mut seeds: Vec<u64> = names.iter().filter_map(|name| seed_of(name.to_str()?)).collect();
        seeds.sort_unstable();
        Ok(seeds.into_iter().map(|seed| SeedRun::of(run, seed)).collect())
    }

    /// `unit.json`.
    pub fn record_path(&self) -> PathBuf {
        self.directory.join("unit.json")
    }

    /// `metrics.csv`: one row per epoch.
    pub fn metrics_path(&self) -> PathBuf {
        self.directory.join("metrics.csv")
    }

    /// `progress.json`: how far the epoch in training is; only of a unit in training.
    pub fn progress_path(&self) -> PathBuf {
        self.directory.join("progress.json")
    }

    /// `batches.csv`: one row per batch, if the spec has them recorded.
    pub fn batches_path(&self) -> PathBuf {
        self.directory.join("batches.csv")
    }

    /// `showcase.safetensors`: the outputs for the task's showcase, if any.
    pub fn showcase_path(&self) -> PathBuf {
        self.directory.join(SHOWCASE)
    }

    /// `outputs`, with one directory `epoch-0001` per epoch whose outputs are recorded.
    pub fn outputs_path(&self) -> PathBuf {
        self.directory.join("outputs")
    }

    /// `outputs/epoch-0001`: what the network draws or generates after an epoch.
    pub fn outputs_of(&self, epoch: usize) -> PathBuf {
        self.outputs_path().join(format!("epoch-{epoch:04}"))
    }

    /// `recordings`, with one file `epoch-0001.safetensors` per recorded epoch.
    pub fn recordings_path(&self) -> PathBuf {
        self.directory.join("recordings")
    }

    /// Reads `unit.json`; `None` if the unit was never begun.
    ///
    /// # Errors
    /// [`Error::Data`] if `unit.json` is damaged.
    pub fn record(&self) -> Result<Option<SeedRecord>> {
        files::read_json(&self.record_path(), &self.advice())
    }

    /// Advice for a missing or damaged file of this unit: the command that trains it anew.
    pub fn advice(&self) -> String {
        let run = self.directory.ancestors().nth(2).unwrap_or(Path::new(""));
        format!("train this seed again with `{} --force --seeds {}`", train_command(run), self.seed)
    }

    /// The error of a missing or damaged file of this unit, with advice.
    pub fn damaged(&self, path: &Path, what: impl std::fmt::Display) -> Error {
        Error::data(path, format!("{what}; {}", self.advice()))
    }

    /// The error of a record without a result although the unit is done.
    pub fn no_result(&self) -> Error {
        self.damaged(&self.record_path(), "is damaged (no result)")
    }
}

/// The seed that a directory is named after.
fn seed_of(name: &str) -> Option<u64> {
    // Names such as `007` are never written.
    name.parse().ok().filter(|seed: &u64| seed.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_listed_by_seed_and_a_list_that_cannot_be_read_is_an_error() {
        let run = tempfile::tempdir().unwrap();
        assert!(SeedRun::all(run.path()).unwrap().is_empty(), "nothing was trained yet");
        for name in ["10", "2", "007", "3.failed"] {
            std::fs::create_dir_all(run.path().join("seeds").join(name)).unwrap();
        }
        let seeds: Vec<u64> = SeedRun::all(run.path()).unwrap().iter().map(|unit| unit.seed).collect();
        assert_eq!(seeds, [2, 10]);
        std::fs::remove_dir_all(run.path().join("seeds")).unwrap();
        std::fs::write(run.path().join("seeds"), "").unwrap();
        assert!(matches!(SeedRun::all(run.path()), Err(Error::Io { .. })));
    }
}
