//! Checks a paper's claims against runs.

use std::collections::BTreeMap;

use super::FinishedRun;
use super::groups::digits;
use super::read::{Loaded, Metric};
use crate::error::Result;
use crate::report::statistics::{mann_whitney, median, signed_rank};
use crate::spec::{Claim, Plugins};

/// Result of checking a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The claim as text.
    pub claim: String,
    /// The numbers that decide it.
    pub numbers: String,
    /// Whether it holds.
    pub outcome: Outcome,
}

/// Whether a claim holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Pass,
    /// The numbers agree with the claim, but not significantly.
    NotSignificant,
    /// It does not hold.
    Fail,
    /// These runs cannot decide it.
    NotAsked,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Outcome::Pass => "pass",
            Outcome::NotSignificant => "pass (n.s.)",
            Outcome::Fail => "FAIL",
            Outcome::NotAsked => "-",
        })
    }
}

/// Significance level.
const LEVEL: f64 = 0.05;

/// Finds the runs of a claim: by name, and by key values if several have the name.
pub type Find<'a> = &'a dyn Fn(&str, &BTreeMap<String, serde_json::Value>) -> Result<FinishedRun>;

/// Checks a claim. Whether one run ends below another is decided by the medians; a lack of significance in the
/// signed-rank test over seeds fails only claims that require it. A `quick` version is not compared with longer training.
///
/// # Errors
/// An error of `find`; [`crate::Error::Usage`] for an unknown metric; [`crate::Error::Data`] naming a damaged file.
pub fn judge(claim: &Claim, find: Find, quick: bool, plugins: &dyn Plugins) -> Result<Verdict> {
    let load = |name: &str| Loaded::read(&find(name, claim.runs().1)?, plugins);
    let not_asked = |claim: String| Verdict {
        claim,
        numbers: "only checked for the full version".into(),
        outcome: Outcome::NotAsked,
    };
    match claim {
        Claim::Below { run, than, metric, p_below, quick: asked, .. } => {
            let (lower, higher) = (load(run)?, load(than)?);
            let metric = Metric::choose(metric.as_deref(), &[&lower, &higher])?;
            let claim = format!("{} ({})", words(claim), metric.column);
            if quick && !asked {
                return Ok(not_asked(claim));
            }
            let (numbers, outcome) = below(&pairs(&lower, &higher, &metric), *p_below);
            Ok(Verdict { claim, numbers, outcome })
        }
        Claim::Like { run, metric, values, .. } => {
            let loaded = load(run)?;
            let metric = Metric::choose(metric.as_deref(), &[&loaded])?;
            let ours: Vec<f64> = last(&loaded, &metric).into_iter().map(|(_, value)| value).collect();
            let claim = format!("{} ({})", words(claim), metric.column);
            if quick {
                return Ok(not_asked(claim));
            }
            let p = mann_whitney(&ours, values);
            let (here, there) = (digits(median(&ours)), digits(median(values)));
            let numbers = format!("medians {here} and {there}, {} and {} seeds, p {p:.3}", ours.len(), values.len());
            // A NaN has no place in a distribution.
            let holds = p > LEVEL && !values.is_empty() && ours.iter().all(|value| value.is_finite());
            Ok(Verdict { claim, numbers, outcome: if holds { Outcome::Pass } else { Outcome::Fail } })
        }
    }
}

/// Numbers and outcome of the claim that the first of each pair is below the second.
fn below(pairs: &[(f64, f64)], p_below: Option<f64>) -> (String, Outcome) {
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
    let p = signed_rank(&differences);
    let level = p_below.unwrap_or(LEVEL);
    let lower = differences.iter().filter(|difference| **difference < 0.0).count();
    let mut numbers = format!(
        "medians {} and {}, lower in {lower} of {} seeds, p {p:.3}",
        digits(median(&a)),
        digits(median(&b)),
        pairs.len()
    );
    // The least p, with all seeds on one side: two of all sign assignments.
    let least = 2f64.powi(1 - i32::try_from(pairs.len()).unwrap_or(i32::MAX));
    if least >= level {
        numbers += &format!(" (so few seeds give none below {least:.3})");
    }
    // NaN compares with nothing.
    let lies_so = differences.iter().all(|difference| !difference.is_nan()) && median(&a) < median(&b);
    let outcome = match (lies_so, p < level && median(&differences) < 0.0) {
        (false, _) => Outcome::Fail,
        (true, true) => Outcome::Pass,
        (true, false) if p_below.is_some() => Outcome::Fail,
        (true, false) => Outcome::NotSignificant,
    };
    (numbers, outcome)
}

/// A claim as text, without its metric.
pub fn words(claim: &Claim) -> String {
    let (runs, at) = claim.runs();
    match runs.as_slice() {
        [run, than] => format!("{run} ends below {than}{}", place(at)),
        _ => format!("{} ends where the original does{}", runs.join(", "), place(at)),
    }
}

/// ` at bptt 3`.
fn place(at: &BTreeMap<String, serde_json::Value>) -> String {
    let words: Vec<String> =
        at.iter().map(|(path, value)| format!("{} {}", path.rsplit('.').next().unwrap_or(path), value)).collect();
    if words.is_empty() { String::new() } else { format!(" at {}", words.join(", ")) }
}

/// The last value of each seed.
fn last(run: &Loaded, metric: &Metric) -> Vec<(u64, f64)> {
    let of = |unit: &crate::report::units::FinishedSeed| {
        Some((unit.seed, unit.table.column(&metric.column).last().copied()?))
    };
    run.units.iter().filter_map(of).collect()
}

/// The last values of the seeds that both runs have.
fn pairs(a: &Loaded, b: &Loaded, metric: &Metric) -> Vec<(f64, f64)> {
    let theirs = last(b, metric);
    let with = |(seed, value): (u64, f64)| Some((value, theirs.iter().find(|(other, _)| *other == seed)?.1));
    last(a, metric).into_iter().filter_map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs `n`, of which the last `above` are reversed.
    fn outcome(n: usize, above: usize, p_below: Option<f64>) -> Outcome {
        let pair = |i: usize| {
            let (low, high) = (1.0 + i as f64 / 100.0, 2.0 + i as f64 / 10.0);
            if i + above >= n { (high, low) } else { (low, high) }
        };
        below(&(0..n).map(pair).collect::<Vec<_>>(), p_below).1
    }

    #[test]
    fn order_decides_and_chance_is_told_unless_the_claim_asks_for_more() {
        assert_eq!(outcome(10, 0, None), Outcome::Pass);
        // The largest of ten differences is reversed: p = 0.08.
        assert_eq!(outcome(10, 1, None), Outcome::NotSignificant);
        assert_eq!(outcome(10, 1, Some(0.05)), Outcome::Fail);
        assert_eq!(outcome(10, 1, Some(0.2)), Outcome::Pass);
        assert_eq!(outcome(10, 9, None), Outcome::Fail);
        // Three seeds can never be significant.
        assert_eq!(outcome(3, 0, None), Outcome::NotSignificant);
        assert!(below(&[(1.0, 2.0); 3], None).0.contains("give none below 0.250"));
        assert_eq!(below(&[(f64::NAN, 2.0), (1.0, 2.0), (1.0, 2.0)], None).1, Outcome::Fail);
        assert_eq!(below(&[], None).1, Outcome::Fail);
    }
}
