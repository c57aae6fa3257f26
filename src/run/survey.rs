//! Status of the units of runs, read from their directories, and an estimate of the remaining time.

use std::path::Path;

use super::clock;
use super::cluster::queue::Queue;
use super::directory::Directory;
use super::pool::UnitId;
use super::status::{Retry, SeedStatus, Standing};
use super::table::align;
use crate::report::compare::short_key;
use crate::report::statistics::median;
use crate::spec::sweep::{Sweep, SweptRun};

/// Maximum width of a table cell.
const WIDEST: usize = 32;

/// Status of every unit of one or more runs.
#[derive(Debug)]
pub struct Survey<'a> {
    sweep: &'a Sweep,
    runs: Vec<RunStatus>,
}

/// Status of the units of one run.
#[derive(Debug)]
struct RunStatus {
    /// Cost of a unit, in arbitrary units.
    cost: f64,
    units: Vec<SeedStatus>,
}

/// A unit's name in messages: its seed, after its run's hash if there are several runs.
pub fn name(sweep: &Sweep, UnitId { run, seed }: UnitId) -> String {
    match sweep.runs.as_slice() {
        [_] => format!("seed {seed}"),
        runs => format!("{} seed {seed}", runs[run].resolved.hash),
    }
}

impl<'a> Survey<'a> {
    /// Reads the status of every unit under `outputs`. Directories may not exist yet.
    pub fn of(sweep: &'a Sweep, outputs: &Path) -> Self {
        let look = |run: &SweptRun| {
            let directory = Directory::of(outputs, &run.resolved.hash);
            let units = run.resolved.spec.seeds.0.iter().map(|&seed| SeedStatus::of(&directory, seed)).collect();
            RunStatus { cost: cost(run), units }
        };
        Survey { sweep, runs: sweep.runs.iter().map(look).collect() }
    }

    /// All units.
    pub fn units(&self) -> impl Iterator<Item = (UnitId, &SeedStatus)> {
        self.runs
            .iter()
            .enumerate()
            .flat_map(|(run, status)| status.units.iter().map(move |unit| (UnitId { run, seed: unit.seed }, unit)))
    }

    fn unit(&self, unit: UnitId) -> Option<&SeedStatus> {
        self.runs.get(unit.run)?.units.iter().find(|status| status.seed == unit.seed)
    }

    /// Units that are not done, longest first; of failed units those that are retried.
    pub fn missing(&self, retry: &Retry) -> Vec<UnitId> {
        let wanted = |unit: &SeedStatus| match unit.standing {
            Standing::Waiting | Standing::Running => true,
            Standing::Failed => unit.is_retried(retry),
            Standing::Done | Standing::Imported => false,
        };
        let rate = self.rate().unwrap_or(1.0);
        let length = |run: usize| self.runs[run].measured().unwrap_or(self.runs[run].cost * rate);
        let missing = self.units().filter(|(_, unit)| wanted(unit)).map(|(unit, _)| unit);
        let mut missing: Vec<(f64, UnitId)> = missing.map(|unit| (length(unit.run), unit)).collect();
        // The stable sort keeps equal ones in the order of the file.
        missing.sort_by(|a, b| b.0.total_cmp(&a.0));
        missing.into_iter().map(|(_, unit)| unit).collect()
    }

    /// Training time of a unit in seconds, if it is done.
    pub fn seconds(&self, unit: UnitId) -> Option<f64> {
        Some(self.unit(unit)?.result()?.seconds)
    }

    /// Whether a unit is recorded as failed.
    pub fn has_failed(&self, unit: UnitId) -> bool {
        self.unit(unit).is_some_and(|unit| unit.standing == Standing::Failed)
    }

    /// Number of units with this status.
    pub fn count(&self, standing: Standing) -> usize {
        self.units().filter(|(_, unit)| unit.standing == standing).count()
    }

    /// Whether every unit is done.
    pub fn is_done(&self) -> bool {
        self.units().all(|(_, unit)| unit.standing == Standing::Done)
    }

    /// The counts as text.
    pub fn counts(&self) -> String {
        let of = |standing| format!("{} {standing}", self.count(standing));
        format!("{}: {}", self.title(), Standing::ALL.map(of).join(", "))
    }

    /// The subject: the name of a single run, or the numbers of runs and units.
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

    /// Estimated seconds that one worker needs for all units neither done nor failed; `None` if no unit is done yet.
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

    /// Seconds per unit of cost: the median over runs with finished units.
    fn rate(&self) -> Option<f64> {
        let rates: Vec<f64> = self.runs.iter().filter_map(|run| Some(run.measured()? / run.cost)).collect();
        Some(median(&rates)).filter(|rate| rate.is_finite())
    }

    /// Text table: hash, the keys that differ, seeds, counts by status, seconds per unit.
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
        header.extend(["seeds", "done", "running", "failed", "waiting", "per unit"].map(String::from));
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

    /// One line per failed unit, with the reason.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.units().filter(|(_, unit)| unit.standing == Standing::Failed);
        let line = |(unit, status): (UnitId, &SeedStatus)| {
            let reason = status.reason.as_deref().unwrap_or("for a reason that is not known");
            format!("{}: {reason}", name(self.sweep, unit))
        };
        failed.map(line).collect()
    }

    /// One line per unit being trained, with its holder and the state of the cluster job.
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
    /// Mean seconds of the finished units.
    fn measured(&self) -> Option<f64> {
        let seconds: Vec<f64> = self.units.iter().filter_map(|unit| Some(unit.result()?.seconds)).collect();
        (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
    }
}

/// Cost of a unit, epochs times parameters, for ordering units and for scaling times between runs. Data are ignored: runs of
/// one sweep mostly share them.
fn cost(run: &SweptRun) -> f64 {
    let spec = &run.resolved.spec;
    spec.train.epochs as f64 * run.resolved.parameters.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Request;
    use crate::spec::sweep::expand;
    use crate::tasks::Registry;

    const SWEEP: &str = "
task: {kind: linedraw, train_size: 40, test_size: 20}
model: {layers: [{cell: lstm, hidden: 3}]}
train: {batch_size: 4}
sweep: {grid: {train.epochs: [3, 9, 6]}}
seeds: 1..2
";

    /// Writes the record of seed 1 of a run as done after this time.
    fn write_done(outputs: &Path, run: &SweptRun, seconds: f64) {
        let unit = Directory::of(outputs, &run.resolved.hash).unit(1);
        let record = serde_json::json!({
            "seed": 1, "state": "done", "seconds": seconds, "metrics": [], "best_epoch": 1, "kept_epoch": 1, "test": [],
        });
        std::fs::create_dir_all(&unit.directory).unwrap();
        std::fs::write(unit.record_path(), record.to_string()).unwrap();
    }

    #[test]
    fn the_longest_units_come_first_by_epochs_and_then_by_measured_times() {
        let directory = tempfile::tempdir().unwrap();
        let outputs = directory.path().join("outputs");
        let file = directory.path().join("sweep.yaml");
        std::fs::write(&file, SWEEP).unwrap();
        let sweep = expand(&Request { file, ..Request::default() }, &[], &Registry::built_in()).unwrap();
        let missing = || {
            let units = Survey::of(&sweep, &outputs).missing(&Retry::Never);
            units.iter().map(|unit| (unit.run, unit.seed)).collect::<Vec<_>>()
        };
        assert_eq!(missing(), [(1, 1), (1, 2), (2, 1), (2, 2), (0, 1), (0, 2)]);
        // The run of 9 epochs was faster than that of 3: what was not measured lies between them.
        write_done(&outputs, &sweep.runs[0], 50.0);
        write_done(&outputs, &sweep.runs[1], 30.0);
        assert_eq!(missing(), [(2, 1), (2, 2), (0, 2), (1, 2)]);
    }
}
