//! Which seeds of a run are trained to the end: what plots and analyses are made of.

use super::directory::Directory;
use super::status::{Standing, look};
use crate::error::{Error, Result};
use crate::spec::Seeds;

/// Seeds of a run by whether they are finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Trained to the end, ascending.
    pub seeds: Vec<u64>,
    /// Asked for and not finished, and how each stands.
    pub missing: Vec<(u64, Standing)>,
}

impl Finished {
    /// Those of the run, or of the seeds that are `wanted` of it, all of which must then be finished.
    ///
    /// # Errors
    /// [`Error::Usage`] if no seed, or not every wanted one, is finished: what is the matter, and what to do.
    pub fn of(run: &Directory, wanted: Option<&Seeds>) -> Result<Finished> {
        let mut finished = Finished { seeds: Vec::new(), missing: Vec::new() };
        let mut asked = match wanted {
            Some(seeds) => seeds.0.clone(),
            None => run.seeds(&run.manifest()?),
        };
        asked.sort_unstable();
        for seed in asked {
            match look(&run.unit(seed))?.0 {
                Standing::Done => finished.seeds.push(seed),
                standing => finished.missing.push((seed, standing)),
            }
        }
        if finished.seeds.is_empty() || wanted.is_some() && !finished.missing.is_empty() {
            let trained = if finished.seeds.is_empty() { "is not finished" } else { "lacks seeds that are asked for" };
            let seeds: Vec<String> = finished.missing.iter().map(|(seed, _)| seed.to_string()).collect();
            return Err(Error::Usage(format!(
                "run {} {trained} ({}): `ccdni run {} --outputs {} --seeds {}` trains what is missing",
                run.hash(),
                finished.standings(),
                run.spec_path().display(),
                run.path.parent().unwrap_or(std::path::Path::new(".")).display(),
                seeds.join(",")
            )));
        }
        Ok(finished)
    }

    /// What is missing, in words; nothing where all are finished.
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
