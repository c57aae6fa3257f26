//! The event file of a unit, for TensorBoard: `seeds/<seed>/events.out.tfevents.*`, beside `metrics.csv`.
//!
//! A worker makes the file anew from the epochs before its checkpoint, and appends to it while it trains. So a resumed unit
//! has every epoch once. The new file has another name: a TensorBoard that reads the old one goes on to it, for which the old
//! one must exist, if without content, until the unit is done.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::claim::{Attempt, Claim};
use super::directory::Directory;
use super::unit::columns;
use crate::error::{Error, Result};
use crate::records::{SeedRecord, SeedRun, SeedState};
use crate::report::tensorboard;
use crate::spec::sweep::Sweep;
use crate::train::{EpochRow, MetricInfo};

/// By this in their names TensorBoard finds event files.
const PREFIX: &str = "events.out.tfevents.";

/// The event file of a unit that is being trained.
pub struct EventFile<'a> {
    run: &'a Path,
    unit: &'a SeedRun,
    claim: &'a Claim,
    /// The file, once there is an epoch to write.
    file: Option<(PathBuf, File)>,
}

impl<'a> EventFile<'a> {
    /// The event file of a unit, if it is `wanted` or the unit has had one before.
    pub fn new(wanted: bool, directory: &'a Directory, unit: &'a SeedRun, claim: &'a Claim) -> Option<Self> {
        let events = EventFile { run: &directory.path, unit, claim, file: None };
        (wanted || !existing(unit).is_empty()).then_some(events)
    }

    /// Writes the last epoch of `history`, after all others if they are not in the file.
    ///
    /// # Errors
    /// As [`Claim::write`].
    pub fn epoch(&mut self, metrics: &[MetricInfo], history: &[EpochRow]) -> Result<()> {
        match (&self.file, history.last()) {
            (None, _) => self.begin(metrics, history),
            (Some(_), Some(row)) => self.append(&epoch(now(), metrics, row)),
            (Some(_), None) => Ok(()),
        }
    }

    /// Writes the figures and results of a unit whose other files are written. `record` is what its `unit.json` will be.
    ///
    /// # Errors
    /// As [`Claim::write`].
    pub fn finish(&mut self, metrics: &[MetricInfo], history: &[EpochRow], record: &SeedRecord) -> Result<()> {
        if self.file.is_none() {
            self.begin(metrics, history)?;
        }
        self.append(&tensorboard::ending(self.unit, record, now())?)?;
        let ours = self.file.as_ref().map(|(path, _)| path);
        existing(self.unit).iter().filter(|path| Some(*path) != ours).try_for_each(|path| remove(path))
    }

    /// Begins a file with these epochs, in place of any other.
    fn begin(&mut self, metrics: &[MetricInfo], history: &[EpochRow]) -> Result<()> {
        let mut time = now() - history.iter().map(|row| row.seconds).sum::<f64>();
        let mut bytes = tensorboard::opening(self.run, time)?;
        for row in history {
            time += row.seconds;
            bytes.extend(epoch(time, metrics, row));
        }
        let path = write(self.unit, self.claim, &bytes)?;
        let file = File::options().append(true).open(&path).map_err(Error::io("open", &path))?;
        self.file = Some((path, file));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.claim.verify()?;
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(Error::io("write", path))
    }
}

/// Writes the event files that finished units of a sweep lack in its runs' `directories`, such as those trained before they were wanted.
///
/// # Errors
/// The first one, after all other units: as [`Claim::write`]; [`Error::Data`] for a damaged file of a unit.
pub fn complete(sweep: &Sweep, directories: &[Directory]) -> Result<()> {
    let mut outcome = Ok(());
    for (run, directory) in sweep.runs.iter().zip(directories).filter(|(run, _)| run.resolved.spec.run.tensorboard) {
        for &seed in &run.resolved.spec.seeds.0 {
            outcome = outcome.and(complete_unit(directory, &directory.unit(seed)));
        }
    }
    outcome
}

fn complete_unit(directory: &Directory, unit: &SeedRun) -> Result<()> {
    let Some(record) = unit.record()?.filter(|record| record.state == SeedState::Done) else { return Ok(()) };
    if existing(unit).is_empty()
        && let Attempt::Claimed(claim) = Claim::attempt(&unit.directory)?
        // Another process may have written it before the claim.
        && existing(unit).is_empty()
    {
        let ended = unit.metrics_path().metadata().and_then(|file| file.modified());
        let ended = seconds(ended.unwrap_or_else(|_| SystemTime::now()));
        write(unit, &claim, &tensorboard::whole(&directory.path, unit, &record, ended)?)?;
    }
    Ok(())
}

/// Writes an event file of a new name that sorts after older ones, which it replaces.
fn write(unit: &SeedRun, claim: &Claim, bytes: &[u8]) -> Result<PathBuf> {
    claim.verify()?;
    for old in existing(unit) {
        File::create(&old).map_err(Error::io("empty", &old))?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let path = unit.directory.join(format!("{PREFIX}{:010}.{:09}", now.as_secs(), now.subsec_nanos()));
    claim.write(&path, bytes)?;
    Ok(path)
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(Error::io("remove", path))
}

/// The event files of a unit.
fn existing(unit: &SeedRun) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&unit.directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)).map(|entry| entry.path()).collect()
}

fn epoch(time: f64, metrics: &[MetricInfo], row: &EpochRow) -> Vec<u8> {
    let columns = columns(metrics, row);
    tensorboard::epoch(time, row.epoch, columns.iter().map(|(name, value)| (name.as_str(), *value)))
}

fn now() -> f64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
