//! Checks a paper's claims against runs.

use std::collections::BTreeMap;

use super::FinishedRun;
use super::groups::digits;
use super::read::{Loaded, Metric};
use crate::error::Result;
use crate::report::statistics::{holm, mann_whitney, mean, median, paired_t, signed_rank};
use crate::spec::{Claim, PairedTest, Plugins};

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

/// Checks claims. Whether one run ends below another is decided by the medians; a lack of significance in the paired test over
/// seeds fails only claims that require it. A `quick` version is not compared with longer training. `open` has the reason why a
/// claim cannot be decided yet, if there is one.
///
/// # Errors
/// An error of `find` or `open`; [`crate::Error::Usage`] for an unknown metric; [`crate::Error::Data`] naming a damaged file.
pub fn judge(
    claims: &[Claim],
    find: Find,
    open: &dyn Fn(&Claim) -> Result<Option<String>>,
    quick: bool,
    plugins: &dyn Plugins,
) -> Result<Vec<Verdict>> {
    let judged = claims.iter().map(|claim| match open(claim)? {
        Some(numbers) => Ok(Judged::Settled(Verdict { claim: words(claim), numbers, outcome: Outcome::NotAsked })),
        None => one(claim, find, quick, plugins),
    });
    let mut judged: Vec<Judged> = judged.collect::<Result<_>>()?;
    for family in judged.chunk_by_mut(|a, b| a.family().is_some() && a.family() == b.family()) {
        if family[0].family().is_some() {
            let p: Vec<f64> = family.iter().filter_map(Judged::p).collect();
            family.iter_mut().zip(holm(&p)).for_each(|(judged, p)| judged.correct(p));
        }
    }
    Ok(judged.into_iter().map(Judged::verdict).collect())
}

/// A claim before the correction of its p.
enum Judged {
    Settled(Verdict),
    Below { claim: String, below: Below, p_below: Option<f64>, family: Option<String> },
}

impl Judged {
    /// What claims corrected together have in common.
    fn family(&self) -> Option<&str> {
        match self {
            Judged::Below { family, .. } => family.as_deref(),
            Judged::Settled(_) => None,
        }
    }

    fn p(&self) -> Option<f64> {
        match self {
            Judged::Below { below, .. } => Some(below.p),
            Judged::Settled(_) => None,
        }
    }

    fn correct(&mut self, p: f64) {
        if let Judged::Below { below, .. } = self {
            below.corrected = Some(p);
        }
    }

    fn verdict(self) -> Verdict {
        match self {
            Judged::Settled(verdict) => verdict,
            Judged::Below { claim, below, p_below, .. } => {
                Verdict { claim, numbers: below.numbers(p_below), outcome: below.outcome(p_below) }
            }
        }
    }
}

fn one(claim: &Claim, find: Find, quick: bool, plugins: &dyn Plugins) -> Result<Judged> {
    let load = |name: &str| Loaded::read(&find(name, claim.runs().1)?, plugins);
    let not_asked = |claim: String| {
        let numbers = "only checked for the full version".into();
        Judged::Settled(Verdict { claim, numbers, outcome: Outcome::NotAsked })
    };
    match claim {
        Claim::Below { run, than, at, metric, p_below, quick: asked, each, test, holm } => {
            let (lower, higher) = (load(run)?, load(than)?);
            let metric = Metric::choose(metric.as_deref(), &[&lower, &higher])?;
            let claim = format!("{} ({})", words(claim), metric.column);
            if quick && !asked {
                return Ok(not_asked(claim));
            }
            // Claims of one line of the file differ in the value of that key alone.
            let family = each.as_ref().filter(|_| *holm).map(|key| {
                let others: Vec<_> = at.iter().filter(|(path, _)| *path != key).collect();
                format!("{run} {than} {key} {} {others:?}", metric.column)
            });
            let below = Below::of(&pairs(&lower, &higher, &metric), *test);
            Ok(Judged::Below { claim, below, p_below: *p_below, family })
        }
        Claim::Close { run, to, metric, within, .. } => {
            let (ours, theirs) = (load(run)?, load(to)?);
            let metric = Metric::choose(metric.as_deref(), &[&ours, &theirs])?;
            let claim = format!("{} ({})", words(claim), metric.column);
            if quick {
                return Ok(not_asked(claim));
            }
            Ok(Judged::Settled(close(claim, &pairs(&ours, &theirs, &metric), *within)))
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
            let outcome = if holds { Outcome::Pass } else { Outcome::Fail };
            Ok(Judged::Settled(Verdict { claim, numbers, outcome }))
        }
    }
}

/// Whether the medians of pairs differ by at most `within`.
fn close(claim: String, pairs: &[(f64, f64)], within: f64) -> Verdict {
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (a, b) = (median(&a), median(&b));
    let numbers = format!("medians {} and {}, {} seeds, at most {within} apart", digits(a), digits(b), pairs.len());
    // NaN is close to nothing, and a median may hide one.
    let is_finite = pairs.iter().all(|(a, b)| a.is_finite() && b.is_finite());
    let outcome = if is_finite && (a - b).abs() <= within { Outcome::Pass } else { Outcome::Fail };
    Verdict { claim, numbers, outcome }
}

/// What the claim rests on that the first of each pair is below the second.
struct Below {
    medians: [f64; 2],
    /// Differences of the pairs.
    differences: Vec<f64>,
    test: PairedTest,
    p: f64,
    /// p corrected for the number of claims.
    corrected: Option<f64>,
}

impl Below {
    fn of(pairs: &[(f64, f64)], test: PairedTest) -> Self {
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let differences: Vec<f64> = pairs.iter().map(|(a, b)| a - b).collect();
        let p = paired(test, &differences);
        Below { medians: [median(&a), median(&b)], differences, test, p, corrected: None }
    }

    fn numbers(&self, p_below: Option<f64>) -> String {
        let lower = self.differences.iter().filter(|difference| **difference < 0.0).count();
        let [a, b] = self.medians.map(digits);
        let count = self.differences.len();
        let test = if self.test == PairedTest::T { " (paired t)" } else { "" };
        let mut numbers = format!("medians {a} and {b}, lower in {lower} of {count} seeds, {}{test}", shown(self.p));
        if let Some(p) = self.corrected {
            numbers += &format!(", {} after Holm", shown(p));
        }
        // The least p, with all seeds on one side: two of all sign assignments.
        let least = 2f64.powi(1 - i32::try_from(count).unwrap_or(i32::MAX));
        if self.test == PairedTest::Wilcoxon && least >= p_below.unwrap_or(LEVEL) {
            numbers += &format!(" (so few seeds give none below {least:.3})");
        }
        numbers
    }

    fn outcome(&self, p_below: Option<f64>) -> Outcome {
        // NaN compares with nothing.
        let lies_so =
            self.differences.iter().all(|difference| !difference.is_nan()) && self.medians[0] < self.medians[1];
        let p = self.corrected.unwrap_or(self.p);
        let centre = match self.test {
            PairedTest::Wilcoxon => median(&self.differences),
            PairedTest::T => mean(&self.differences),
        };
        match (lies_so, p < p_below.unwrap_or(LEVEL) && centre < 0.0) {
            (false, _) => Outcome::Fail,
            (true, true) => Outcome::Pass,
            (true, false) if p_below.is_some() => Outcome::Fail,
            (true, false) => Outcome::NotSignificant,
        }
    }
}

/// A value of p in a message.
fn shown(p: f64) -> String {
    if p < 0.001 { "p < 0.001".into() } else { format!("p {p:.3}") }
}

/// Two-sided p of a paired test.
pub(super) fn paired(test: PairedTest, differences: &[f64]) -> f64 {
    match test {
        PairedTest::Wilcoxon => signed_rank(differences),
        PairedTest::T => paired_t(differences),
    }
}

/// A claim as text, without its metric.
fn words(claim: &Claim) -> String {
    let text = match claim {
        Claim::Below { run, than, .. } => format!("{run} ends below {than}"),
        Claim::Close { run, to, .. } => format!("{run} ends close to {to}"),
        Claim::Like { run, .. } => format!("{run} ends where the original does"),
    };
    text + &place(claim.runs().1)
}

/// ` at bptt 3`.
fn place(at: &BTreeMap<String, serde_json::Value>) -> String {
    let words: Vec<String> = at
        .iter()
        .map(|(path, value)| {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{} {shown}", path.rsplit('.').next().unwrap_or(path))
        })
        .collect();
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
        Below::of(&(0..n).map(pair).collect::<Vec<_>>(), PairedTest::Wilcoxon).outcome(p_below)
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
        let of = |pairs: &[(f64, f64)]| Below::of(pairs, PairedTest::Wilcoxon);
        assert!(of(&[(1.0, 2.0); 3]).numbers(None).contains("give none below 0.250"));
        assert_eq!(of(&[(f64::NAN, 2.0), (1.0, 2.0), (1.0, 2.0)]).outcome(None), Outcome::Fail);
        assert_eq!(of(&[]).outcome(None), Outcome::Fail);
    }

    #[test]
    fn a_run_is_close_if_medians_are() {
        let outcome = |pairs: &[(f64, f64)]| close("claim".into(), pairs, 0.1).outcome;
        assert_eq!(outcome(&[(1.0, 1.05), (1.2, 1.0), (0.9, 1.1)]), Outcome::Pass);
        assert_eq!(outcome(&[(1.0, 1.2), (1.2, 1.4), (0.9, 1.1)]), Outcome::Fail);
        assert_eq!(outcome(&[(f64::NAN, 1.0)]), Outcome::Fail);
        assert_eq!(outcome(&[(f64::NAN, 1.0), (1.0, 1.0), (1.0, 1.0)]), Outcome::Fail, "the median is 1");
        assert_eq!(outcome(&[]), Outcome::Fail);
    }

    #[test]
    fn a_t_test_of_three_seeds_can_be_significant_and_the_correction_can_undo_it() {
        let pairs = [(1.0, 2.0), (1.1, 2.0), (0.9, 2.1)];
        let mut below = Below::of(&pairs, PairedTest::T);
        assert!(below.p > 0.005 && below.p < 0.01, "{}", below.p);
        assert_eq!(below.outcome(None), Outcome::Pass);
        below.corrected = Some(0.06);
        assert_eq!(below.outcome(None), Outcome::NotSignificant);
        assert!(below.numbers(None).contains("(paired t), p 0.060 after Holm"), "{}", below.numbers(None));
    }
}
