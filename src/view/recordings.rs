//! What the recordings of a run show over learning: the measures of `ccdni analyse`.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::summary::Summary;
use crate::error::{Error, Result};
use crate::report::analysis;
use crate::run::directory::Directory;
use crate::spec::read_resolved;

/// One run is measured at a time, on one thread: what is trained meanwhile keeps the other cores.
static MEASURING: Mutex<()> = Mutex::new(());

/// The measures of the finished seeds, by epoch.
///
/// # Errors
/// As [`analysis::analyse`]; [`Error::Usage`] if no seed is finished.
pub fn of(run: &Directory, summary: &Summary) -> Result<Value> {
    let _measuring = MEASURING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seeds = summary.done();
    if seeds.is_empty() {
        return Err(Error::Usage("no seed of this run is finished".into()));
    }
    let spec = read_resolved(&run.spec_path())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| Error::Usage(format!("cannot start a thread: {error}")))?;
    let analysis = pool.install(|| analysis::analyse(&run.path, &spec, &seeds))?;
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
