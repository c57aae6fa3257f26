//! Values of runs relative to those of another run, seed by seed.

use super::claims::paired;
use super::read::{Loaded, Metric};
use super::{FinishedRun, RelativeTo};
use crate::error::{Error, Result};
use crate::report::statistics::holm;
use crate::spec::{Plugins, Relative};

/// The column of relative values.
const COLUMN: &str = "relative";

/// A run, and the differences of its last values from those of the other run, by seed.
type Differences = Vec<f64>;

/// Replaces runs by those that have a partner in `to`, with a column of values relative to it; returns the metric, and each run's p
/// of the paired test over seeds.
///
/// # Errors
/// [`Error::Usage`] if a run shares no seed with its partner, or has no such metric.
pub(super) fn relate(
    runs: &mut Vec<Loaded>,
    of: &[FinishedRun],
    to: &RelativeTo,
    metric: Option<&str>,
    plugins: &dyn Plugins,
) -> Result<(Metric, Vec<f64>)> {
    let (mut related, mut differences, mut labels): (Vec<Loaded>, Vec<Differences>, Vec<String>) = Default::default();
    for (mut run, place) in std::mem::take(runs).into_iter().zip(of) {
        let Some((_, partner)) = to.partners.iter().find(|(run, _)| run == place) else { continue };
        let partner = Loaded::read(partner, plugins)?;
        let metric = Metric::choose(metric, &[&run, &partner])?;
        differences.push(relate_one(&mut run, &partner, &metric.column, to.relative)?);
        if !labels.contains(&metric.label) {
            labels.push(metric.label);
        }
        related.push(run);
    }
    *runs = related;
    // Metrics of several tasks have no common name, and need none as ratios.
    let what = match labels.as_slice() {
        [one] => one.split(" (").next().unwrap_or(one).to_owned(),
        _ if to.relative == Relative::Difference => {
            let what = "differences in several units cannot share an axis; draw ratios (`figure.relative: ratio`)";
            return Err(Error::Usage(what.into()));
        }
        _ => "validation error".into(),
    };
    let joined = match to.relative {
        Relative::Ratio => format!("{what} / {}", to.name),
        Relative::Difference => format!("{what} − {}", to.name),
    };
    let mut p: Vec<f64> = differences.iter().map(|differences| paired(to.test, differences)).collect();
    if to.holm {
        p = holm(&p);
    }
    Ok((Metric { column: COLUMN.into(), label: joined, factor: 1.0 }, p))
}

/// Adds the column to the seeds that both runs have, and leaves the others out. Returns the differences of the last values.
fn relate_one(run: &mut Loaded, partner: &Loaded, column: &str, relative: Relative) -> Result<Differences> {
    let mut differences = Vec::new();
    run.units.retain_mut(|unit| {
        let Some(other) = partner.units.iter().find(|other| other.seed == unit.seed) else { return false };
        let (ours, theirs) = (unit.table.column(column), other.table.column(column));
        if let (Some(ours), Some(theirs)) = (ours.last(), theirs.last()) {
            differences.push(ours - theirs);
        }
        let related: Vec<f64> =
            (ours.iter().zip(&theirs)).map(|(a, b)| if relative == Relative::Ratio { a / b } else { a - b }).collect();
        unit.table.add(COLUMN, &related);
        true
    });
    match run.units.is_empty() {
        true => Err(Error::Usage(format!("{} and {} share no finished seed", run.hash, partner.hash))),
        false => Ok(differences),
    }
}

/// The mark of a p: stars as is customary, `ns` from 0.05 on.
pub(super) fn stars(p: f64) -> &'static str {
    match p {
        p if p < 0.001 => "***",
        p if p < 0.01 => "**",
        p if p < 0.05 => "*",
        _ => "ns",
    }
}
