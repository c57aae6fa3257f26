//! Status of a unit, read from its directory.

use super::claim::{self, Holder};
use super::directory::Directory;
use crate::error::Result;
use crate::records::{SeedRecord, SeedResult, SeedRun, SeedState};

/// Status of a unit, including its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Trained to the end.
    Done,
    /// Being trained now.
    Running,
    /// Stopped by an error.
    Failed,
    /// Requested or begun, and not being trained.
    Waiting,
    /// Not trained here: imported weights.
    Imported,
}

impl Standing {
    /// Those of units that are trained here, in the order of table columns.
    pub const ALL: [Standing; 4] = [Standing::Done, Standing::Running, Standing::Failed, Standing::Waiting];
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Standing::Done => "done",
            Standing::Running => "running",
            Standing::Failed => "failed",
            Standing::Waiting => "waiting",
            Standing::Imported => "imported",
        })
    }
}

/// Which failed units are retried.
#[derive(Debug, Clone, Default)]
pub enum Retry {
    /// None.
    #[default]
    Never,
    /// Those that failed at this time or before, so that of many tasks of a cluster one retries a unit.
    FailedBefore(String),
    /// All.
    Always,
}

/// Status of one unit of a run, with its record and claim.
#[derive(Debug)]
pub struct SeedStatus {
    /// The seed.
    pub seed: u64,
    /// Its status.
    pub standing: Standing,
    /// Why it failed.
    pub reason: Option<String>,
    /// The process that is training it.
    pub holder: Option<Holder>,
    /// Its record, if it was begun.
    pub record: Option<SeedRecord>,
}

impl SeedStatus {
    /// Reads the status from a unit's directory, which may not exist yet.
    ///
    /// # Errors
    /// [`crate::Error::Data`] if its record is damaged.
    pub fn read(unit: &SeedRun) -> Result<Self> {
        let record = unit.record()?;
        let state = record.as_ref().map(|record| record.state);
        let holder = if state == Some(SeedState::Done) { None } else { claim::holder(&unit.directory) };
        let standing = match state {
            Some(SeedState::Done) => Standing::Done,
            Some(SeedState::Imported) => Standing::Imported,
            _ if holder.is_some() => Standing::Running,
            Some(SeedState::Failed) => Standing::Failed,
            _ => Standing::Waiting,
        };
        let reason = record.as_ref().filter(|_| standing == Standing::Failed).and_then(|record| record.reason.clone());
        Ok(SeedStatus { seed: unit.seed, standing, reason, holder, record })
    }

    /// As [`Self::read`], but a unit with a damaged record counts as failed.
    pub fn of(run: &Directory, seed: u64) -> Self {
        Self::read(&run.unit(seed)).unwrap_or_else(|error| {
            let reason = Some(error.to_string());
            SeedStatus { seed, standing: Standing::Failed, reason, holder: None, record: None }
        })
    }

    /// The result, if it is done.
    pub fn result(&self) -> Option<&SeedResult> {
        self.record.as_ref()?.result.as_ref()
    }

    /// Whether the unit is retried if it failed.
    pub fn is_retried(&self, retry: &Retry) -> bool {
        match retry {
            Retry::Never => false,
            // Timestamps sort as strings; a failure that could not be recorded has none.
            Retry::FailedBefore(time) => {
                self.record.as_ref().and_then(|record| record.ended.as_ref()).is_none_or(|ended| ended <= time)
            }
            Retry::Always => true,
        }
    }
}
