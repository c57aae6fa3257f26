//! What came of training, in words: tables and paths on standard output, and the error, if any.

use std::collections::BTreeMap;

use super::event::Ended;
use super::pool::UnitId;
use super::progress::{eprint_line, print_line};
use super::survey::{Survey, name};
use super::{Place, Schedule, clock, table};
use crate::error::{Error, Result};

/// Failed or held units that are named in a message.
const NAMED: usize = 10;

impl<'a> Schedule<'a> {
    /// Prints what came of it, and returns the status of the units, or the error, if any.
    ///
    /// # Errors
    /// As [`Schedule::train`].
    pub(super) fn conclude(&self, ended: &BTreeMap<UnitId, Ended>, interrupted: bool) -> Result<Survey<'a>> {
        if interrupted {
            match self.options.place {
                Place::Task => eprint_line("stopped after writing checkpoints"),
                _ => eprint_line(&format!("interrupted; to go on from the checkpoints:\n  {}", self.options.resume)),
            }
            return Err(Error::Interrupted);
        }
        let survey = self.survey();
        self.print_tables(&survey, ended)?;
        self.failures(&survey, ended)?;
        self.held(ended)?;
        Ok(survey)
    }

    /// Of one run its seeds and its files, of several a row per run.
    fn print_tables(&self, survey: &Survey, ended: &BTreeMap<UnitId, Ended>) -> Result<()> {
        let here = |want: fn(&Ended) -> bool| ended.iter().filter(move |(_, how)| want(how)).map(|(unit, _)| *unit);
        let ([run], [directory]) = (self.sweep.runs.as_slice(), self.directories.as_slice()) else {
            print_line(&format!("\n{}\n{}", survey.table(), survey.counts()));
            let seconds: f64 = here(|how| *how == Ended::Done).filter_map(|unit| survey.seconds(unit)).sum();
            if seconds > 0.0 {
                print_line(&format!("training took {} of one worker's time", clock::seconds(seconds)));
            }
            return Ok(());
        };
        let failed: Vec<u64> = here(|how| matches!(how, Ended::Failed { .. })).map(|unit| unit.seed).collect();
        print_line(&format!("\n{}", table::seeds(directory, &run.resolved.spec.seeds.0, &failed)?));
        let paths = [("directory", ""), ("plots", "plots"), ("weights", "decoder.safetensors")];
        for (what, path) in paths.map(|(what, name)| (what, directory.path.join(name))) {
            if path.exists() {
                print_line(&format!("{what:<10} {}", path.components().as_path().display()));
            }
        }
        Ok(())
    }

    /// The error that names units that failed, now or before.
    fn failures(&self, survey: &Survey, ended: &BTreeMap<UnitId, Ended>) -> Result<()> {
        let mut failed: Vec<String> = Vec::new();
        for (&unit, how) in ended {
            if let Ended::Failed { reason, .. } = how
                && !survey.has_failed(unit)
            {
                failed.push(format!("{}: {reason}", name(self.sweep, unit)));
            }
        }
        let mut advice = Vec::new();
        if ended.values().any(|how| matches!(how, Ended::Failed { again: true, .. })) {
            advice.push("run again to go on from the last good checkpoint of what was killed, or whose machine failed");
        }
        let recorded = survey.failures();
        if !recorded.is_empty() {
            advice.push(self.options.advice);
        }
        failed.extend(recorded);
        if failed.is_empty() {
            return Ok(());
        }
        let more = failed.len().saturating_sub(NAMED);
        failed.truncate(NAMED);
        failed.extend((more > 0).then(|| format!("and {more} more")));
        failed.extend(advice.into_iter().map(String::from));
        Err(Error::Training(format!("units failed:\n{}", failed.join("\n"))))
    }

    /// What others train: an error where nothing at all could be done here.
    fn held(&self, ended: &BTreeMap<UnitId, Ended>) -> Result<()> {
        let held = ended.iter().filter_map(|(&unit, how)| match how {
            Ended::Held { by } => Some(format!("{} is held by {by}", name(self.sweep, unit))),
            _ => None,
        });
        let held: Vec<String> = held.take(NAMED).collect();
        if held.is_empty() {
            return Ok(());
        }
        if self.options.place != Place::Task && !ended.values().any(|how| *how == Ended::Done) {
            return Err(Error::Held(format!("{}\nnothing was left to train here", held.join("\n"))));
        }
        print_line(&format!("others train the rest:\n{}", held.join("\n")));
        Ok(())
    }
}
