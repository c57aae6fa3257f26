//! Differences between two runs: keys of their specs, and results.

use serde_json::Value;

use super::groups::digits;
use super::read::Loaded;
use super::{FinishedRun, keys};
use crate::error::Result;
use crate::report::curves::DIAGNOSTICS;
use crate::report::statistics::mean;
use crate::spec::{Plugins, line};

/// Two text tables, each with its header first: the keys in which the specs differ, with both values; and the last epoch's
/// metrics over the seeds that both runs have, with the difference of their means. The second is empty if they share no
/// seed.
///
/// # Errors
/// [`crate::Error::Data`] naming a damaged file.
pub fn difference(a: &FinishedRun, b: &FinishedRun, plugins: &dyn Plugins) -> Result<[Vec<Vec<String>>; 2]> {
    let (a, b) = (Loaded::read(a, plugins)?, Loaded::read(b, plugins)?);
    let shown = |tree: &Value, key: &str| keys::at(tree, key).map_or_else(|| "-".into(), line);
    let mut specs = vec![vec!["key".into(), a.hash.clone(), b.hash.clone()]];
    for key in keys::differing(&[&a.tree, &b.tree]) {
        specs.push(vec![key.clone(), shown(&a.tree, &key), shown(&b.tree, &key)]);
    }
    let common: Vec<u64> = a.seeds().into_iter().filter(|seed| b.seeds().contains(seed)).collect();
    let mut numbers = vec![vec!["metric".into(), a.hash.clone(), b.hash.clone(), "difference".into(), "seeds".into()]];
    if common.is_empty() {
        return Ok([specs, Vec::new()]);
    }
    let theirs = b.columns();
    for column in a.columns().into_iter().filter(|column| theirs.contains(column) && !DIAGNOSTICS.contains(column)) {
        let last = |run: &Loaded| -> Vec<f64> {
            let units = run.units.iter().filter(|unit| common.contains(&unit.seed));
            units.filter_map(|unit| unit.table.column(column).last().copied()).collect()
        };
        let (ours, other) = (last(&a), last(&b));
        let (x, y) = (mean(&ours), mean(&other));
        // Compare bits, so that NaN equals itself.
        let same = ours.iter().map(|value| value.to_bits()).eq(other.iter().map(|value| value.to_bits()));
        let difference = if same { "equal, bit by bit".into() } else { digits(y - x) };
        numbers.push(vec![column.to_owned(), digits(x), digits(y), difference, common.len().to_string()]);
    }
    Ok([specs, numbers])
}
