//! The sweep of a file: what of it is trained, and how long the rest takes.

use std::path::Path;

use serde_json::{Value, json};

use super::commands;
use crate::run::status::Standing;
use crate::run::survey::Survey;
use crate::spec::sweep::{Sweep, SweptRun};

/// Name and runs of a file's sweep, by which runs are grouped.
pub fn members(file: &Path, sweep: &Sweep) -> Value {
    let runs: Vec<&str> = sweep.runs.iter().map(|run| run.resolved.hash.as_str()).collect();
    json!({ "file": file.display().to_string(), "runs": runs })
}

/// The runs of a file with the values that were swept, begun or not.
pub fn of(file: &Path, sweep: &Sweep, outputs: &Path) -> Value {
    let survey = Survey::of(sweep, outputs);
    let mut seeds: Vec<Vec<Value>> = vec![Vec::new(); sweep.runs.len()];
    for (unit, status) in survey.units() {
        seeds[unit.run].push(json!({
            "seed": status.seed, "state": status.standing.to_string(), "reason": status.reason,
            "holder": status.holder.as_ref().map(ToString::to_string),
        }));
    }
    let run = |(run, seeds): (&SweptRun, Vec<Value>)| {
        let values: serde_json::Map<String, Value> =
            run.values.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        json!({ "run": run.resolved.hash, "item": run.item, "values": values, "seeds": seeds })
    };
    let runs: Vec<Value> = sweep.runs.iter().zip(seeds).map(run).collect();
    json!({
        "file": file.display().to_string(),
        "runs": runs,
        // Of one worker: how many there will be is not known.
        "left": survey.left(),
        "running": survey.count(Standing::Running),
        "failures": survey.failures(),
        "commands": commands::of_sweep(file, outputs),
    })
}
