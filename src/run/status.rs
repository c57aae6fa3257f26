//! How a unit stands, as its directory shows it.

use super::claim::{self, Holder};
use super::directory::Directory;
use crate::error::Result;
use crate::records::{SeedRecord, SeedRun, SeedState};

/// How a unit stands, its claim included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Trained to the end.
    Done,
    /// Somebody trains it now.
    Running,
    /// Stopped by an error.
    Failed,
    /// Begun or asked for, and nobody trains it now.
    Waiting,
}

impl Standing {
    /// All of them, in the order of tables.
    pub const ALL: [Standing; 4] = [Standing::Done, Standing::Running, Standing::Failed, Standing::Waiting];
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Standing::Done => "done",
            Standing::Running => "running",
            Standing::Failed => "failed",
            Standing::Waiting => "waiting",
        })
    }
}

/// How a unit stands, and what is known about it.
///
/// # Errors
/// [`crate::Error::Data`] if its record is damaged.
pub fn look(unit: &SeedRun) -> Result<(Standing, Option<SeedRecord>)> {
    let record = unit.record()?;
    let standing = match record.as_ref().map(|record| record.state) {
        Some(SeedState::Done) => Standing::Done,
        _ if claim::holder(&unit.directory).is_some() => Standing::Running,
        Some(SeedState::Failed) => Standing::Failed,
        _ => Standing::Waiting,
    };
    Ok((standing, record))
}

/// How one unit of a run stands, with the reason and the times.
#[derive(Debug)]
pub struct SeedStatus {
    /// The seed.
    pub seed: u64,
    /// How it stands; a unit whose record is damaged has failed.
    pub standing: Standing,
    /// Why it failed.
    pub reason: Option<String>,
    /// Who trains it.
    pub holder: Option<Holder>,
    /// How long training took; of a unit that is done.
    pub seconds: Option<f64>,
    /// When it ended, if it did.
    pub ended: Option<String>,
}

impl SeedStatus {
    /// Looks at the directory of a unit. One that is not there yet was not begun.
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

    /// Whether a unit that failed is tried again where all are that failed at `before` or earlier. Times are written so that
    /// their order is that of texts; a failure that nobody could write down has none.
    pub fn is_retried(&self, before: Option<&str>) -> bool {
        before.is_some_and(|before| self.ended.as_deref().is_none_or(|ended| ended <= before))
    }
}
