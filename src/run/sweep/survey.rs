//! How the units of a sweep stand, read from their directories alone, and how long the rest may take.

use std::cmp::Reverse;
use std::path::Path;

use super::queue::Queue;
use crate::report::statistics::median;
use crate::run::claim::{self, Holder};
use crate::run::clock;
use crate::run::directory::Directory;
use crate::run::table::{self, Standing, align};
use crate::spec::sweep::{Sweep, SweptRun};

/// The widest cell of the table.
const WIDEST: usize = 32;

/// How every unit of a sweep stands.
#[derive(Debug)]
pub struct Survey {
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    hash: String,
    /// Cost of a unit, in no particular measure.
    cost: f64,
    units: Vec<Unit>,
}

/// How one unit stands.
#[derive(Debug)]
pub struct Unit {
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

impl Survey {
    /// Looks at every unit of a sweep under `outputs`. A directory that is not there yet has none that was begun.
    pub fn of(sweep: &Sweep, outputs: &Path) -> Self {
        let look = |run: &SweptRun| {
            let directory = Directory::of(outputs, &run.resolved.hash);
            let units = run.resolved.spec.seeds.0.iter().map(|&seed| Unit::of(&directory, seed)).collect();
            Run { hash: run.resolved.hash.clone(), cost: cost(run), units }
        };
        Survey { runs: sweep.runs.iter().map(look).collect() }
    }

    /// Every unit, with its run's hash.
    pub fn units(&self) -> impl Iterator<Item = (&str, &Unit)> {
        self.runs.iter().flat_map(|run| run.units.iter().map(|unit| (run.hash.as_str(), unit)))
    }

    /// Units that are not done: place of the run and seed, the longest first. What has failed is among them only if that
    /// was at `failed_before` or earlier.
    pub fn missing(&self, failed_before: Option<&str>) -> Vec<(usize, u64)> {
        let wanted = |unit: &&Unit| match unit.standing {
            Standing::Waiting | Standing::Running => true,
            Standing::Failed => is_retried(unit.ended.as_deref(), failed_before),
            Standing::Done => false,
        };
        let rate = self.rate();
        let mut missing: Vec<(f64, usize, usize, u64)> = Vec::new();
        for (index, run) in self.runs.iter().enumerate() {
            let length = run.measured().unwrap_or(run.cost * rate.unwrap_or(1.0));
            missing
                .extend(run.units.iter().filter(wanted).enumerate().map(|(at, unit)| (length, index, at, unit.seed)));
        }
        // Equal ones in the order of the file, which sorting keeps.
        missing.sort_by(|a, b| b.0.total_cmp(&a.0));
        missing.into_iter().map(|(_, run, _, seed)| (run, seed)).collect()
    }

    /// How long training a unit took, if it is done.
    pub fn seconds(&self, run: usize, seed: u64) -> Option<f64> {
        self.runs.get(run)?.units.iter().find(|unit| unit.seed == seed)?.seconds
    }

    /// Whether a unit is recorded as failed.
    pub fn has_failed(&self, run: usize, seed: u64) -> bool {
        let units = self.runs.get(run).map_or(&[][..], |run| &run.units);
        units.iter().any(|unit| unit.seed == seed && unit.standing == Standing::Failed)
    }

    /// How many units stand so.
    pub fn count(&self, standing: Standing) -> usize {
        self.units().filter(|(_, unit)| unit.standing == standing).count()
    }

    /// Whether every unit is done.
    pub fn is_done(&self) -> bool {
        self.units().all(|(_, unit)| unit.standing == Standing::Done)
    }

    /// Counts in words.
    pub fn counts(&self) -> String {
        let of = |standing| format!("{} {standing}", self.count(standing));
        let all = [Standing::Done, Standing::Running, Standing::Failed, Standing::Waiting].map(of);
        format!("{} runs, {} units: {}", self.runs.len(), self.units().count(), all.join(", "))
    }

    /// Seconds that what is neither done nor failed would take one worker, from the units that are done; `None` where
    /// none is.
    pub fn left(&self) -> Option<f64> {
        let rate = self.rate();
        let run_left = |run: &Run| {
            let open =
                run.units.iter().filter(|unit| !matches!(unit.standing, Standing::Done | Standing::Failed)).count();
            if open == 0 {
                return Some(0.0);
            }
            Some(open as f64 * run.measured().or(rate.map(|rate| rate * run.cost))?)
        };
        self.runs.iter().map(run_left).sum()
    }

    /// Seconds a unit of cost, from the runs that have units that are done.
    fn rate(&self) -> Option<f64> {
        let rates: Vec<f64> = self.runs.iter().filter_map(|run| Some(run.measured()? / run.cost)).collect();
        Some(median(&rates)).filter(|rate| rate.is_finite())
    }

    /// A table for people: hash, the keys that differ, seeds, how the units stand, seconds a unit.
    pub fn table(&self, sweep: &Sweep) -> String {
        let mut keys: Vec<&str> = Vec::new();
        for (key, _) in sweep.runs.iter().flat_map(|run| &run.values) {
            if !keys.contains(&key.as_str()) {
                keys.push(key);
            }
        }
        let named = sweep.runs.iter().any(|run| run.item.is_some());
        let mut header: Vec<String> = vec!["run".into()];
        header.extend(named.then(|| "name".into()));
        header.extend(keys.iter().map(|key| short(key, &keys)));
        header.extend(["seeds", "done", "running", "failed", "waiting", "a unit"].map(String::from));
        let rate = self.rate();
        let row = |(run, swept): (&Run, &SweptRun)| {
            let mut row = vec![run.hash.clone()];
            row.extend(named.then(|| swept.item.clone().unwrap_or_else(|| "-".into())));
            row.extend(keys.iter().map(|key| {
                let value = swept.values.iter().find(|(path, _)| path == key).map_or("-", |(_, value)| value);
                if value.chars().count() <= WIDEST {
                    value.into()
                } else {
                    value.chars().take(WIDEST - 3).chain("...".chars()).collect()
                }
            }));
            let count = |standing| run.units.iter().filter(|unit| unit.standing == standing).count().to_string();
            row.push(run.units.len().to_string());
            row.extend([Standing::Done, Standing::Running, Standing::Failed, Standing::Waiting].map(count));
            row.push(match (run.measured(), rate) {
                (Some(seconds), _) => clock::seconds(seconds),
                (None, Some(rate)) => format!("~{}", clock::seconds(rate * run.cost)),
                (None, None) => "-".into(),
            });
            row
        };
        align(&header, &self.runs.iter().zip(&sweep.runs).map(row).collect::<Vec<_>>())
    }

    /// A line for each of the first units that failed, with the reason.
    pub fn failures(&self, most: usize) -> Vec<String> {
        let failed = self.units().filter(|(_, unit)| unit.standing == Standing::Failed);
        let reason = |unit: &Unit| unit.reason.clone().unwrap_or_else(|| "for a reason that is not known".into());
        failed.take(most).map(|(hash, unit)| format!("{hash} seed {}: {}", unit.seed, reason(unit))).collect()
    }

    /// A line for each unit that is being trained, with who does it, and what a cluster says of that job.
    pub fn holders(&self, queue: &Queue) -> Vec<String> {
        let held = self.units().filter_map(|(hash, unit)| Some((hash, unit.seed, unit.holder.as_ref()?)));
        let line = |(hash, seed, holder): (&str, u64, &Holder)| {
            let task = holder.job.as_ref().and_then(|job| queue.task(job));
            let task = task.map_or_else(String::new, |task| format!(": {task}"));
            format!("{hash} seed {seed}: {holder}{task}")
        };
        held.map(line).collect()
    }
}

impl Unit {
    fn of(directory: &Directory, seed: u64) -> Self {
        let unit = directory.unit(seed);
        match table::look(&unit) {
            Ok((standing, record)) => Unit {
                seed,
                standing,
                reason: record
                    .as_ref()
                    .and_then(|record| record.reason.clone())
                    .filter(|_| standing == Standing::Failed),
                holder: (standing == Standing::Running).then(|| claim::holder(&unit.directory)).flatten(),
                ended: record.as_ref().and_then(|record| record.ended.clone()),
                seconds: record.and_then(|record| record.result).map(|result| result.seconds),
            },
            Err(error) => Unit {
                seed,
                standing: Standing::Failed,
                reason: Some(error.to_string()),
                holder: None,
                seconds: None,
                ended: None,
            },
        }
    }
}

impl Run {
    /// Mean seconds of the units that are done.
    fn measured(&self) -> Option<f64> {
        let seconds: Vec<f64> = self.units.iter().filter_map(|unit| unit.seconds).collect();
        (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
    }
}

/// Whether a unit that failed then is tried again where all are that failed at `before` or earlier. Times are written so
/// that their order is that of texts; a failure that nobody could write down has none.
pub(super) fn is_retried(ended: Option<&str>, before: Option<&str>) -> bool {
    before.is_some_and(|before| ended.is_none_or(|ended| ended <= before))
}

/// What a unit costs, to order units by and to carry times over from one run to another: epochs times parameters. It knows
/// nothing of data, of which runs of one sweep mostly have the same.
fn cost(run: &SweptRun) -> f64 {
    let spec = &run.resolved.spec;
    spec.train.epochs as f64 * run.resolved.parameters.max(1) as f64
}

/// The shortest end of a key that no other has.
fn short(key: &str, keys: &[&str]) -> String {
    let mut ends: Vec<&str> = key.match_indices('.').map(|(dot, _)| &key[dot + 1..]).chain([key]).collect();
    ends.sort_by_key(|end| Reverse(end.matches('.').count()));
    let unique =
        |end: &&&str| keys.iter().filter(|other| **other == **end || other.ends_with(&format!(".{end}"))).count() <= 1;
    ends.iter().rev().find(unique).map_or(key, |end| end).to_owned()
}
