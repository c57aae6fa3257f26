//! What a paper says of runs, held against their numbers.

use super::Run;
use super::groups::digits;
use super::read::{Loaded, Metric};
use crate::error::{Error, Result};
use crate::report::statistics::{mann_whitney, median, signed_rank};
use crate::spec::{Claim, TaskCatalogue};

/// What came of a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The claim in words.
    pub claim: String,
    /// The numbers behind it.
    pub numbers: String,
    /// Whether it holds; `None` where these runs are too small to tell.
    pub holds: Option<bool>,
}

/// Chance that a test is allowed to be wrong.
const LEVEL: f64 = 0.05;

/// Holds a claim against runs, which `find` gives by name. One run ends below another where its median does; p of the
/// signed-rank test over seeds is told beside it, and decides nothing: at the ten seeds of a paper a difference of this
/// kind need not be significant, and in the original's own numbers is not. Of a `quick` version it is not asked whether it
/// ends where others did, which trained for longer.
///
/// # Errors
/// [`Error::Usage`] for a run that is not there or an unknown metric; [`Error::Data`] naming a damaged file.
pub fn judge(
    claim: &Claim,
    find: &dyn Fn(&str) -> Option<Run>,
    quick: bool,
    tasks: &dyn TaskCatalogue,
) -> Result<Verdict> {
    let load = |name: &str| {
        let run = find(name)
            .ok_or_else(|| Error::Usage(format!("`claims` name `{name}`, which no run of a list is called")))?;
        Loaded::read(&run, tasks)
    };
    match claim {
        Claim::Below { run, than, metric } => {
            let (lower, higher) = (load(run)?, load(than)?);
            let metric = Metric::choose(metric.as_deref(), &[&lower, &higher])?;
            let pairs = pairs(&lower, &higher, &metric);
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let p = signed_rank(&pairs.iter().map(|(a, b)| a - b).collect::<Vec<_>>());
            let below = median(&a) < median(&b);
            let numbers =
                format!("medians {} and {}, {} seeds, p {p:.3}", digits(median(&a)), digits(median(&b)), pairs.len());
            let claim = format!("{run} ends below {than} ({})", metric.column);
            Ok(Verdict { claim, numbers, holds: Some(below) })
        }
        Claim::Like { run, metric, values } => {
            let loaded = load(run)?;
            let metric = Metric::choose(metric.as_deref(), &[&loaded])?;
            let ours: Vec<f64> = last(&loaded, &metric).into_iter().map(|(_, value)| value).collect();
            let claim = format!("{run} ends where the original does ({})", metric.column);
            if quick {
                return Ok(Verdict { claim, numbers: "only asked of the full version".into(), holds: None });
            }
            let p = mann_whitney(&ours, values);
            let (here, there) = (digits(median(&ours)), digits(median(values)));
            let counts = format!("{} and {} seeds", ours.len(), values.len());
            // A value that is none is of no distribution.
            let holds = p > LEVEL && !values.is_empty() && ours.iter().all(|value| value.is_finite());
            Ok(Verdict {
                claim,
                numbers: format!("medians {here} and {there}, {counts}, p {p:.3}"),
                holds: Some(holds),
            })
        }
    }
}

/// The last value of each seed.
fn last(run: &Loaded, metric: &Metric) -> Vec<(u64, f64)> {
    let of = |unit: &crate::report::units::Unit| Some((unit.seed, unit.table.column(&metric.column).last().copied()?));
    run.units.iter().filter_map(of).collect()
}

/// The last values of the seeds that both have.
fn pairs(a: &Loaded, b: &Loaded, metric: &Metric) -> Vec<(f64, f64)> {
    let theirs = last(b, metric);
    let with = |(seed, value): (u64, f64)| Some((value, theirs.iter().find(|(other, _)| *other == seed)?.1));
    last(a, metric).into_iter().filter_map(with).collect()
}
