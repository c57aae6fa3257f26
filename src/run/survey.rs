//! How the units of runs stand, read from their directories alone, and how long the rest may take.

use std::path::Path;

use super::clock;
use super::cluster::queue::Queue;
use super::directory::Directory;
use super::pool::UnitId;
use super::status::{SeedStatus, Standing};
use super::table::align;
use crate::report::compare::short_key;
use crate::report::statistics::median;
use crate::spec::sweep::{Sweep, SweptRun};

/// The widest cell of the table.
const WIDEST: usize = 32;

/// How every unit of one run or of many stands.
#[derive(Debug)]
pub struct Survey<'a> {
    sweep: &'a Sweep,
    runs: Vec<RunStatus>,
}

/// How the units of one run stand.
#[derive(Debug)]
struct RunStatus {
    /// Cost of a unit, in no particular measure.
    cost: f64,
    units: Vec<SeedStatus>,
}

/// What a unit is called in messages: its seed, after its run's hash where there are several runs.
pub fn name(sweep: &Sweep, UnitId { run, seed }: UnitId) -> String {
    match sweep.runs.as_slice() {
        [_] => format!("seed {seed}"),
        runs => format!("{} seed {seed}", runs[run].resolved.hash),
    }
}

impl<'a> Survey<'a> {
    /// Looks at every unit under `outputs`. A directory that is not there yet has none that was begun.
    pub fn of(sweep: &'a Sweep, outputs: &Path) -> Self {
        let look = |run: &SweptRun| {
            let directory = Directory::of(outputs, &run.resolved.hash);
            let units = run.resolved.spec.seeds.0.iter().map(|&seed| SeedStatus::of(&directory, seed)).collect();
            RunStatus { cost: cost(run), units }
        };
        Survey { sweep, runs: sweep.runs.iter().map(look).collect() }
    }

    /// Every unit.
    pub fn units(&self) -> impl Iterator<Item = (UnitId, &SeedStatus)> {
        self.runs
            .iter()
            .enumerate()
            .flat_map(|(run, status)| status.units.iter().map(move |unit| (UnitId { run, seed: unit.seed }, unit)))
    }

    fn unit(&self, unit: UnitId) -> Option<&SeedStatus> {
        self.runs.get(unit.run)?.units.iter().find(|status| status.seed == unit.seed)
    }

    /// Units that are not done, the longest first. What has failed is among them only if that was at `failed_before` or
    /// earlier.
    pub fn missing(&self, failed_before: Option<&str>) -> Vec<UnitId> {
        let wanted = |unit: &SeedStatus| match unit.standing {
            Standing::Waiting | Standing::Running => true,
            Standing::Failed => unit.is_retried(failed_before),
            Standing::Done => false,
        };
        let rate = self.rate().unwrap_or(1.0);
        let length = |run: usize| self.runs[run].measured().unwrap_or(self.runs[run].cost * rate);
        let missing = self.units().filter(|(_, unit)| wanted(unit)).map(|(unit, _)| unit);
        let mut missing: Vec<(f64, UnitId)> = missing.map(|unit| (length(unit.run), unit)).collect();
        // Equal ones in the order of the file, which sorting keeps.
        missing.sort_by(|a, b| b.0.total_cmp(&a.0));
        missing.into_iter().map(|(_, unit)| unit).collect()
    }

    /// How long training a unit took, if it is done.
    pub fn seconds(&self, unit: UnitId) -> Option<f64> {
        self.unit(unit)?.seconds
    }

    /// Whether a unit is recorded as failed.
    pub fn has_failed(&self, unit: UnitId) -> bool {
        self.unit(unit).is_some_and(|unit| unit.standing == Standing::Failed)
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
        format!("{}: {}", self.title(), Standing::ALL.map(of).join(", "))
    }

    /// What it is of: a run, or so many runs and units.
    pub fn title(&self) -> String {
        let (runs, units) = (self.runs.len(), self.units().count());
        match self.sweep.runs.as_slice() {
            [run] => {
                let hash = &run.resolved.hash;
                let name = run.resolved.spec.name.as_ref().map_or(hash.clone(), |name| format!("{name} ({hash})"));
                format!("{name}, {units} unit{}", if units == 1 { "" } else { "s" })
            }
            _ => format!("{runs} runs, {units} units"),
        }
    }

    /// Seconds that what is neither done nor failed would take one worker, from the units that are done; `None` where
    /// none is.
    pub fn left(&self) -> Option<f64> {
        let rate = self.rate();
        let run_left = |run: &RunStatus| {
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
    pub fn table(&self) -> String {
        let sweep = self.sweep;
        let mut keys: Vec<String> = Vec::new();
        for (key, _) in sweep.runs.iter().flat_map(|run| &run.values) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        let named = sweep.runs.iter().any(|run| run.item.is_some());
        let mut header: Vec<String> = vec!["run".into()];
        header.extend(named.then(|| "name".into()));
        header.extend(keys.iter().map(|key| short_key(key, &keys)));
        header.extend(["seeds", "done", "running", "failed", "waiting", "a unit"].map(String::from));
        let rate = self.rate();
        let row = |(run, swept): (&RunStatus, &SweptRun)| {
            let mut row = vec![swept.resolved.hash.clone()];
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
            row.extend(Standing::ALL.map(count));
            row.push(match (run.measured(), rate) {
                (Some(seconds), _) => clock::seconds(seconds),
                (None, Some(rate)) => format!("~{}", clock::seconds(rate * run.cost)),
                (None, None) => "-".into(),
            });
            row
        };
        align(&header, &self.runs.iter().zip(&sweep.runs).map(row).collect::<Vec<_>>())
    }

    /// A line for each unit that failed, with the reason.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.units().filter(|(_, unit)| unit.standing == Standing::Failed);
        let line = |(unit, status): (UnitId, &SeedStatus)| {
            let reason = status.reason.as_deref().unwrap_or("for a reason that is not known");
            format!("{}: {reason}", name(self.sweep, unit))
        };
        failed.map(line).collect()
    }

    /// A line for each unit that is being trained, with who does it, and what a cluster reports of that job.
    pub fn holders(&self, queue: &Queue) -> Vec<String> {
        let held = self.units().filter_map(|(unit, status)| Some((unit, status.holder.as_ref()?)));
        let line = |(unit, holder): (UnitId, &super::claim::Holder)| {
            let task = holder.job.as_ref().and_then(|job| queue.task(job));
            let task = task.map_or_else(String::new, |task| format!(": {task}"));
            format!("{}: {holder}{task}", name(self.sweep, unit))
        };
        held.map(line).collect()
    }
}

impl RunStatus {
    /// Mean seconds of the units that are done.
    fn measured(&self) -> Option<f64> {
        let seconds: Vec<f64> = self.units.iter().filter_map(|unit| unit.seconds).collect();
        (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
    }
}

/// What a unit costs, to order units by and to carry times over from one run to another: epochs times parameters. It knows
/// nothing of data, of which runs of one sweep mostly have the same.
fn cost(run: &SweptRun) -> f64 {
    let spec = &run.resolved.spec;
    spec.train.epochs as f64 * run.resolved.parameters.max(1) as f64
}
