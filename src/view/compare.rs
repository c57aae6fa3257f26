//! Several runs side by side: labels, the keys that differ, and statistics over seeds.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::commands;
use super::summary::Summary;
use crate::error::{Error, Result};
use crate::report::compare::{FinishedRun, Groups, differing_keys, distinctions, words};
use crate::tasks::Registry;

/// Most runs that are compared at a time: more curves cannot be told apart.
const MOST: usize = 24;

/// A comparison of runs, by a metric or by the first validation metric.
///
/// # Errors
/// [`Error::Usage`] for too many runs, [`Error::Data`] naming a damaged file.
pub fn of(runs: &[Arc<Summary>], metric: Option<&str>, outputs: &Path, registry: &Registry) -> Result<Value> {
    if runs.len() > MOST {
        return Err(Error::Usage(format!("{} runs are too many to compare; choose at most {MOST}", runs.len())));
    }
    let trees: Vec<&Value> = runs.iter().map(|run| &run.tree).collect();
    let differing = differing_keys(&trees);
    let keys: Vec<Vec<String>> = differing
        .iter()
        .map(|key| std::iter::once(key.clone()).chain(trees.iter().map(|tree| words(tree, key))).collect())
        .collect();
    // A group is a combination of values; its seeds are those that are finished.
    let finished = |run: &Arc<Summary>| FinishedRun { path: outputs.join(&run.run), seeds: run.done() };
    let finished: Vec<FinishedRun> = runs.iter().map(finished).filter(|run| !run.seeds.is_empty()).collect();
    let statistics = match finished.is_empty() {
        true => json!({ "problem": "no seed of these runs is finished" }),
        false => match statistics(&finished, metric, registry) {
            Ok(statistics) => statistics,
            // Runs of different tasks have curves, but no common metric.
            Err(error) => json!({ "problem": error.to_string() }),
        },
    };
    let names: Vec<&str> = runs.iter().map(|run| run.run.as_str()).collect();
    let commands = commands::of_comparison(&names, outputs);
    let labels = distinctions(&trees);
    let runs: Vec<&Summary> = runs.iter().map(|run| &**run).collect();
    Ok(json!({ "runs": runs, "labels": labels, "keys": keys, "statistics": statistics, "commands": commands }))
}

fn statistics(runs: &[FinishedRun], metric: Option<&str>, registry: &Registry) -> Result<Value> {
    let groups = Groups::new(runs, &[], metric, registry)?;
    let (header, rows) = groups.table();
    let test = |test: &crate::report::compare::Test| json!({ "names": test.names, "pairs": test.pairs, "difference": test.difference, "p": test.p });
    let tests: Vec<Value> = groups.tests(&[])?.iter().map(test).collect();
    Ok(json!({ "header": header, "rows": rows, "tests": tests }))
}
