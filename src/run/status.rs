//! Status of a unit, read from its directory.

use super::claim::{self, Holder};
use super::directory::Directory;
use crate::error::Result;
use crate::records::{SeedRecord, SeedRun, SeedState};

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

/// Reads a unit's status and record.
///
/// # Errors
/// [`crate::Error::Data`] if its record is damaged.
pub fn look(unit: &SeedRun) -> Result<(Standing, Option<SeedRecord>)> {
    let record = unit.record()?;
    let standing = match record.as_ref().map(|record| record.state) {
        Some(SeedState::Done) => Standing::Done,
        Some(SeedState::Imported) => Standing::Imported,
        _ if claim::holder(&unit.directory).is_some() => Standing::Running,
        Some(SeedState::Failed) => Standing::Failed,
        _ => Standing::Waiting,
    };
    Ok((standing, record))
}

/// Status of one unit of a run, with reason and times.
#[derive(Debug)]
pub struct SeedStatus {
    /// The seed.
    pub seed: u64,
    /// Its status; a unit with a damaged record counts as failed.
    pub standing: Standing,
    /// Why it failed.
    pub reason: Option<String>,
    /// The process that is training it.
    pub holder: Option<Holder>,
    /// Training time in seconds, if done.
    pub seconds: Option<f64>,
    /// When it ended, if it has.
    pub ended: Option<String>,
}

impl SeedStatus {
    /// Reads the status from a unit's directory, which may not exist yet.
    pub fn of(run: &Directory, seed: u64) -> Self {
        let unit = run.unit(seed);
        let (standing, record) = match look(&unit) {
            Ok(found) => found,
            Err(error) => {
                let reason = Some(error.to_string());
                return SeedStatus {
                    seed,
                    standing: Standing::Failed,
                    reason,
                    holder: None,
                    seconds: None,
                    ended: None,
                };
            }
        };
        let holder = (standing == Standing::Running).then(|| claim::holder(&unit.directory)).flatten();
        let (reason, ended, result) =
            record.map_or((None, None, None), |record| (record.reason, record.ended, record.result));
        SeedStatus {
            seed,
            standing,
            reason: reason.filter(|_| standing == Standing::Failed),
            holder,
            seconds: result.map(|result| result.seconds),
            ended,
        }
    }

    /// Whether a failed unit is retried when those that failed at `before` or earlier are. Timestamps sort as strings; a
    /// failure that could not be recorded has none.
    pub fn is_retried(&self, before: Option<&str>) -> bool {
        before.is_some_and(|before| self.ended.as_deref().is_none_or(|ended| ended <= before))
    }
}
