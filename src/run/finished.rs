//! Which seeds of a run are trained to the end: the input of plots and analyses.

use super::directory::Directory;
use super::status::{SeedStatus, Standing};
use crate::error::{Error, Result};
use crate::records::train_command;
use crate::spec::Seeds;

/// Seeds of a run, divided by whether they are finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Trained to the end, ascending.
    pub seeds: Vec<u64>,
    /// Requested but not finished, with their status.
    pub missing: Vec<(u64, Standing)>,
}

impl Finished {
    /// Examines all seeds of the run, or only the `wanted` ones, all of which must then be finished.
    ///
    /// # Errors
    /// [`Error::Usage`] if no seed, or not every wanted one, is finished, with the command that trains the rest; or if weights
    /// were imported.
    pub fn of(run: &Directory, wanted: Option<&Seeds>) -> Result<Finished> {
        let mut finished = Finished { seeds: Vec::new(), missing: Vec::new() };
        let mut requested = match wanted {
            Some(seeds) => seeds.0.clone(),
            None => run.seeds(&run.manifest()?)?,
        };
        requested.sort_unstable();
        for seed in requested {
            let unit = run.unit(seed);
            unit.check_trained_here()?;
            match SeedStatus::read(&unit)?.standing {
                Standing::Done => finished.seeds.push(seed),
                standing => finished.missing.push((seed, standing)),
            }
        }
        if finished.seeds.is_empty() || wanted.is_some() && !finished.missing.is_empty() {
            let problem = if finished.seeds.is_empty() { "is not finished" } else { "lacks requested seeds" };
            let seeds: Vec<String> = finished.missing.iter().map(|(seed, _)| seed.to_string()).collect();
            return Err(Error::Usage(format!(
                "run {} {problem} ({}): `{} --seeds {}` trains what is missing",
                run.hash(),
                finished.standings(),
                train_command(&run.path),
                seeds.join(",")
            )));
        }
        Ok(finished)
    }

    /// Describes what is missing; `None` if all are finished.
    pub fn note(&self, run: &Directory) -> Option<String> {
        let (done, all) = (self.seeds.len(), self.seeds.len() + self.missing.len());
        let note = || format!("run {} has {done} of {all} seeds finished ({})", run.hash(), self.standings());
        (done < all).then(note)
    }

    fn standings(&self) -> String {
        let standings = self.missing.iter().map(|(seed, standing)| format!("seed {seed}: {standing}"));
        standings.collect::<Vec<_>>().join(", ")
    }
}
