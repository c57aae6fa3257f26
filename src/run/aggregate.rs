//! Aggregates: the files at the top of a run's directory, made from the files of its units.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::directory::Directory;
use super::thread;
use super::weights::{CAPTIONS, ENCODER};
use crate::data::Direction;
use crate::error::{Error, Result};
use crate::files::{self, write_atomically};
use crate::records::{Manifest, SeedRecord, SeedResult, SeedState};
use crate::report;

/// Aggregates of every finished unit.
const FILES: [&str; 7] = [
    "metrics.csv",
    "results.csv",
    "scores.npy",
    "scores.json",
    "decoder.safetensors",
    "plots/learning.svg",
    "plots/learning.png",
];

/// Files that exist only if the task has a showcase, and the plots of one drawn in the plane.
const SHOWCASE: [&str; 3] = ["predictions.npy", "targets.npy", "predictions.json"];
const PLANE: [&str; 2] = ["plots/drawings.svg", "plots/drawings.png"];

/// Files of the best seed that only some tasks have.
const OPTIONAL: [&str; 2] = [ENCODER, CAPTIONS];

/// Makes aggregates in a thread beside training: drawing takes longer than training a small unit.
pub struct Aggregator {
    sender: mpsc::Sender<Directory>,
    /// `None` where the system has no thread for it: everything is then made at the end.
    thread: Option<JoinHandle<()>>,
}

impl Aggregator {
    /// Starts the thread.
    pub fn start() -> Self {
        let (sender, receiver) = mpsc::channel::<Directory>();
        // Errors are ignored here: `finish` tries again and reports them.
        let work = move || receiver.iter().for_each(|directory| drop(refresh(&directory)));
        Aggregator { sender, thread: thread::start(work).ok() }
    }

    /// Queues the aggregates of a run.
    pub fn refresh(&self, directory: &Directory) {
        let _ = self.sender.send(directory.clone());
    }

    /// Waits for the thread, then brings the aggregates of these runs up to date.
    ///
    /// # Errors
    /// The first error of [`refresh`].
    pub fn finish(self, directories: &[Directory]) -> Result<()> {
        drop(self.sender);
        let _ = self.thread.map(JoinHandle::join);
        directories.iter().filter(|directory| directory.exists()).map(refresh).fold(Ok(()), Result::and)
    }
}

/// Rewrites the aggregates from the files on disk unless they are up to date. Processes may call this concurrently: it holds
/// the directory's lock.
///
/// # Errors
/// [`crate::Error::Io`], or a damaged unit file.
pub fn refresh(directory: &Directory) -> Result<()> {
    // Checked before locking, so that a reader without write permission can inspect an up-to-date run.
    if up_to_date(directory, &directory.manifest()?, &settled(directory)?) {
        return Ok(());
    }
    let _lock = directory.lock()?;
    let mut manifest = directory.manifest()?;
    let seeds = settled(directory)?;
    if up_to_date(directory, &manifest, &seeds) {
        return Ok(());
    }
    // The lock excludes other writers.
    files::remove_leftovers(&directory.path);
    files::remove_leftovers(&directory.path.join("plots"));
    manifest.best_seed = best(&seeds);
    let weights = directory.path.join("decoder.safetensors");
    match manifest.best_seed {
        Some(seed) => {
            report::write_all(&directory.path)?;
            let kept = directory.unit(seed).weights_path();
            write_atomically(&weights, &std::fs::read(&kept).map_err(Error::io("read", &kept))?)?;
            for name in OPTIONAL {
                let path = directory.unit(seed).directory.join(name);
                if path.exists() {
                    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
                    write_atomically(&directory.path.join(name), &bytes)?;
                } else {
                    // A former best seed's file would not match the others.
                    let _ = std::fs::remove_file(directory.path.join(name));
                }
            }
        }
        None => remove_all(directory),
    }
    // The manifest is written last: it records which units the other files were made from.
    manifest.seeds = seeds;
    files::write_json(&directory.manifest_path(), &manifest)
}

/// Records in the manifest the seeds requested of the directory and the digests of their data.
///
/// # Errors
/// [`crate::Error::Io`].
pub fn ask(directory: &Directory, seeds: &[u64], data: BTreeMap<String, String>) -> Result<()> {
    let updated = |mut manifest: Manifest| {
        manifest.seeds_asked.extend(seeds);
        manifest.seeds_asked.sort_unstable();
        manifest.seeds_asked.dedup();
        manifest.data.extend(data.clone());
        manifest
    };
    let before = directory.manifest()?;
    if updated(before.clone()) == before {
        return Ok(());
    }
    let _lock = directory.lock()?;
    files::write_json(&directory.manifest_path(), &updated(directory.manifest()?))
}

/// Whether the manifest was written for these units and all their files exist.
fn up_to_date(directory: &Directory, manifest: &Manifest, seeds: &BTreeMap<u64, SeedRecord>) -> bool {
    let is_there = |name: &&str| directory.path.join(name).metadata().is_ok_and(|file| file.len() > 0);
    let files = match best(seeds) {
        None => !directory.path.join("results.csv").exists(),
        Some(seed) => {
            let coordinates = directory.unit(seed).showcase_size();
            FILES.iter().all(is_there)
                && OPTIONAL.iter().all(|name| !directory.unit(seed).directory.join(name).exists() || is_there(name))
                && (coordinates.is_none() || SHOWCASE.iter().all(is_there))
                && (coordinates != Some(2) || PLANE.iter().all(is_there))
        }
    };
    manifest.seeds == *seeds && manifest.best_seed == best(seeds) && files
}

/// The records of all units that are done or failed.
fn settled(directory: &Directory) -> Result<BTreeMap<u64, SeedRecord>> {
    let mut records = BTreeMap::new();
    for unit in directory.units()? {
        if let Some(record) = unit.settled()? {
            records.insert(unit.seed, record);
        }
    }
    Ok(records)
}

/// The seed with the best first validation metric of the kept weights, or the lowest training loss without validation; the
/// lowest seed on ties.
fn best(seeds: &BTreeMap<u64, SeedRecord>) -> Option<u64> {
    let mut best: Option<(u64, f64)> = None;
    for (&seed, record) in seeds {
        let Some(result) = record.result.as_ref().filter(|_| record.state == SeedState::Done) else { continue };
        let (value, direction) = score(result);
        if best.is_none_or(|(_, champion)| champion.is_nan() || direction.better(value, champion)) {
            best = Some((seed, value));
        }
    }
    best.map(|(seed, _)| seed)
}

fn score(result: &SeedResult) -> (f64, Direction) {
    let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
    match (result.metrics.first(), result.validation.first()) {
        (Some(metric), Some(&value)) => (number(value), metric.direction),
        _ => (number(result.train_loss), Direction::Lower),
    }
}

/// Removes the aggregates of a directory without finished units.
fn remove_all(directory: &Directory) {
    for name in FILES.iter().chain(&SHOWCASE).chain(&OPTIONAL) {
        let _ = std::fs::remove_file(directory.path.join(name));
    }
    let _ = std::fs::remove_dir_all(directory.path.join("plots"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::MetricInfo;

    fn done(value: Option<f64>, direction: Direction) -> SeedRecord {
        let metric = serde_json::to_value(MetricInfo { name: "m".into(), unit: "u".into(), direction }).unwrap();
        serde_json::from_value(serde_json::json!({
            "seed": 0, "state": "done", "numerics": 1, "version": "0", "host": "h", "device": "cpu",
            "instruction_set": "i", "threads": 1, "started": "", "seconds": 1.0, "metrics": [metric], "epochs": 1,
            "best_epoch": 1, "kept_epoch": 1, "train_loss": 1.0, "validation": [value], "test": [],
        }))
        .unwrap()
    }

    #[test]
    fn the_best_seed_follows_the_direction_and_is_not_nan() {
        for (direction, winner) in [(Direction::Lower, 2), (Direction::Higher, 4)] {
            let values = [(1, None), (2, Some(0.1)), (3, Some(0.1)), (4, Some(0.9)), (5, None)];
            let seeds = values.into_iter().map(|(seed, value)| (seed, done(value, direction))).collect();
            assert_eq!(best(&seeds), Some(winner));
        }
        let failed = SeedRecord { state: SeedState::Failed, result: None, ..done(None, Direction::Lower) };
        assert_eq!(best(&[(1, failed)].into()), None);
        assert_eq!(best(&[(7, done(None, Direction::Lower))].into()), Some(7));
    }
}
