//! What the recordings of a run show over learning: the measures of `ccdni analyse`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::summary::Summary;
use crate::error::{Error, Result};
use crate::report::analysis;
use crate::run::directory::Directory;
use crate::spec::read_resolved;

/// Most runs whose measures are kept.
const KEPT: usize = 32;

/// What was measured, the latest last. One run is measured at a time, on one thread: what is trained meanwhile keeps the other cores.
#[derive(Default)]
pub struct Measured(Mutex<VecDeque<(Key, Value)>>);

/// A run's directory, and its finished seeds with the times at which they were finished.
#[derive(PartialEq)]
struct Key(PathBuf, Vec<(u64, Option<SystemTime>)>);

impl Measured {
    /// The measures of the finished seeds, by epoch: kept ones, or else computed from the recordings.
    ///
    /// # Errors
    /// As [`analysis::analyse`]; [`Error::Usage`] if no seed is finished.
    pub fn of(&self, run: &Directory, summary: &Summary) -> Result<Value> {
        let seeds = summary.done();
        if seeds.is_empty() {
            return Err(Error::Usage("no seed of this run is finished".into()));
        }
        let time =
            |&seed: &u64| (seed, std::fs::metadata(run.unit(seed).record_path()).and_then(|data| data.modified()).ok());
        let key = Key(run.path.clone(), seeds.iter().map(time).collect());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, value)) = kept.iter().find(|(of, _)| *of == key) {
            return Ok(value.clone());
        }
        let value = measure(run, &seeds)?;
        kept.retain(|(of, _)| of.0 != key.0);
        kept.push_back((key, value.clone()));
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
        Ok(value)
    }
}

fn measure(run: &Directory, seeds: &[u64]) -> Result<Value> {
    let spec = read_resolved(&run.spec_path())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| Error::Usage(format!("cannot start a thread: {error}")))?;
    let analysis = pool.install(|| analysis::analyse(&run.path, &spec, seeds))?;
    let measures = analysis.values.iter().map(|(key, seeds)| {
        let of_seed = |(seed, epochs): (&u64, &std::collections::BTreeMap<usize, f64>)| {
            let (epoch, value): (Vec<usize>, Vec<f64>) = epochs.iter().map(|(epoch, value)| (*epoch, *value)).unzip();
            (seed.to_string(), json!({ "epoch": epoch, "value": value }))
        };
        let seeds: serde_json::Map<String, Value> = seeds.iter().map(of_seed).collect();
        json!({ "measure": key.measure.name(), "of": key.of, "with": key.with, "seeds": seeds })
    });
    Ok(json!({ "measures": measures.collect::<Vec<_>>(), "notes": analysis.notes }))
}
