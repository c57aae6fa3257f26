//! Runs grouped by keys of their specs: the metric over seeds, and paired tests between groups.

use serde_json::Value;

use super::read::{Loaded, Metric};
use super::{FinishedRun, keys, labels};
use crate::data::Direction;
use crate::error::{Error, Result};
use crate::report::statistics::{bootstrap, holm, mean, paired_t, signed_rank, standard_error};
use crate::report::tables;
use crate::spec::Plugins;

/// Runs with the same values of some keys.
#[derive(Debug)]
pub struct Group {
    /// The values as text, in the order of the keys.
    pub words: Vec<String>,
    /// Hashes of the runs.
    pub runs: Vec<String>,
    /// The metric of each seed of each run at its last epoch and at its best.
    values: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    seed: u64,
    last: f64,
    best: f64,
}

/// A metric of runs, by group.
pub struct Groups {
    /// Keys that define the groups.
    keys: Vec<String>,
    /// The column.
    column: String,
    groups: Vec<Group>,
}

/// A paired test between two groups that differ in one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// Both groups, as text.
    pub names: [String; 2],
    /// Number of seeds that both have.
    pub pairs: usize,
    /// Mean of the first minus the second, at the last epoch.
    pub difference: f64,
    /// Two-sided p of the signed-rank test.
    pub p: f64,
    /// Two-sided p of the paired t-test.
    pub t: f64,
}

/// Shown for NaN, or for the interval of a single value.
const NONE: &str = "-";

impl Groups {
    /// Groups runs by these keys, or by all in which they differ. `metric` is as in [`super::Options`].
    ///
    /// # Errors
    /// As [`super::Comparison::new`].
    pub fn new(runs: &[FinishedRun], by: &[String], metric: Option<&str>, plugins: &dyn Plugins) -> Result<Self> {
        let loaded = Loaded::read_all(runs, plugins)?;
        let all: Vec<&Loaded> = loaded.iter().collect();
        let metric = Metric::choose(metric, &all)?;
        let trees: Vec<&Value> = all.iter().map(|run| &run.tree).collect();
        let keys: Vec<String> = match by {
            [] => keys::differing(&trees),
            by => by.iter().map(|key| keys::resolve("--by", key, &trees)).collect::<Result<_>>()?,
        };
        let mut groups: Vec<Group> = Vec::new();
        for run in &loaded {
            let words: Vec<String> =
                keys.iter().map(|key| labels::label(&run.tree, std::slice::from_ref(key), &[])).collect();
            let place = groups.iter().position(|group| group.words == words).unwrap_or_else(|| {
                groups.push(Group { words, runs: Vec::new(), values: Vec::new() });
                groups.len() - 1
            });
            groups[place].runs.push(run.hash.clone());
            groups[place].values.extend(run.units.iter().filter_map(|unit| {
                let values: Vec<f64> =
                    unit.table.column(&metric.column).into_iter().filter(|value| !value.is_nan()).collect();
                let best = values.iter().copied().reduce(|best, value| match run.direction(&metric) {
                    Direction::Lower => best.min(value),
                    Direction::Higher => best.max(value),
                });
                Some(Sample { seed: unit.seed, last: *values.last()?, best: best? })
            }));
        }
        Ok(Groups { keys, column: metric.column, groups })
    }

    /// The groups, in the order of the runs.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Text table with header: values of the keys, runs, seeds, and for the last and the best epoch mean ± standard error
    /// with the 95 % bootstrap interval of the mean.
    pub fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut header = self.names();
        header.extend(["run", "seeds"].map(String::from));
        header.extend([format!("{} last", self.column), "95 %".into(), format!("{} best", self.column), "95 %".into()]);
        let row = |group: &Group| {
            let mut row = group.words.clone();
            row.push(if group.runs.len() == 1 { group.runs[0].clone() } else { format!("{} runs", group.runs.len()) });
            row.push(group.values.len().to_string());
            for values in [group.last(), group.best()] {
                let error = standard_error(&values);
                let error = if error.is_nan() { String::new() } else { format!(" ± {}", digits(error)) };
                row.push(if values.is_empty() { NONE.into() } else { format!("{}{error}", digits(mean(&values))) });
                let (low, high) = bootstrap(&values);
                row.push(if values.len() < 2 { NONE.into() } else { format!("{} to {}", digits(low), digits(high)) });
            }
            row
        };
        (header, self.groups.iter().map(row).collect())
    }

    /// The table as CSV: every number in its own column, unrounded.
    pub fn csv(&self) -> String {
        let mut header = self.keys.clone();
        header.extend(["runs", "seeds"].map(String::from));
        for when in ["last", "best"] {
            header.extend(["mean", "sem", "low", "high"].map(|what| format!("{}_{when}_{what}", self.column)));
        }
        let row = |group: &Group| {
            let mut row = group.words.clone();
            row.extend([group.runs.join(" "), group.values.len().to_string()]);
            for values in [group.last(), group.best()] {
                let (low, high) = bootstrap(&values);
                let numbers = [mean(&values), standard_error(&values), low, high];
                row.extend(numbers.map(|number| if number.is_nan() { String::new() } else { number.to_string() }));
            }
            row
        };
        tables::write(std::iter::once(header).chain(self.groups.iter().map(row)))
    }

    /// Paired tests at the last epoch between groups that differ in exactly one key: each of `keys`, or each with two
    /// values.
    ///
    /// # Errors
    /// [`Error::Usage`] for a key that does not define the groups.
    pub fn tests(&self, keys: &[String]) -> Result<Vec<Test>> {
        let mut places = Vec::new();
        for key in keys {
            let ends = |named: &&String| *named == key || named.ends_with(&format!(".{key}"));
            let place = self.keys.iter().position(|named| ends(&named));
            let refused = || {
                Error::Usage(format!("--test {key}: groups are made by {}; name one of these", self.keys.join(", ")))
            };
            places.push(place.ok_or_else(refused)?);
        }
        if keys.is_empty() {
            let values = |place: usize| {
                let mut words: Vec<&String> = self.groups.iter().filter_map(|group| group.words.get(place)).collect();
                words.sort_unstable();
                words.dedup();
                words.len()
            };
            places = (0..self.keys.len()).filter(|place| values(*place) == 2).collect();
        }
        let mut tests = Vec::new();
        for place in places {
            for (index, a) in self.groups.iter().enumerate() {
                for b in &self.groups[index + 1..] {
                    let differ = |at: usize| a.words.get(at) != b.words.get(at);
                    if (0..self.keys.len()).all(|at| differ(at) == (at == place)) {
                        tests.push(test(a, b));
                    }
                }
            }
        }
        Ok(tests)
    }

    /// The shortest unambiguous suffixes of the keys.
    fn names(&self) -> Vec<String> {
        self.keys.iter().map(|key| labels::short(key, &self.keys)).collect()
    }
}

impl Group {
    /// The metric at the last epoch, by seed.
    pub fn last(&self) -> Vec<f64> {
        self.values.iter().map(|sample| sample.last).collect()
    }

    /// The metric at its best epoch, by seed.
    pub fn best(&self) -> Vec<f64> {
        self.values.iter().map(|sample| sample.best).collect()
    }
}

/// Corrects every p for the number of tests (Holm).
pub fn correct(tests: &mut [Test]) {
    let (p, t): (Vec<f64>, Vec<f64>) = tests.iter().map(|test| (test.p, test.t)).unzip();
    for ((test, p), t) in tests.iter_mut().zip(holm(&p)).zip(holm(&t)) {
        (test.p, test.t) = (p, t);
    }
}

/// Seeds are pairs: they have the same data and initial weights.
fn test(a: &Group, b: &Group) -> Test {
    let mut seeds: Vec<u64> = a.values.iter().map(|sample| sample.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    // Several runs of one group and seed are averaged.
    let of = |group: &Group, seed: u64| -> Option<f64> {
        let values: Vec<f64> =
            group.values.iter().filter(|sample| sample.seed == seed).map(|sample| sample.last).collect();
        Some(mean(&values)).filter(|mean| mean.is_finite())
    };
    let differences: Vec<f64> = seeds.into_iter().filter_map(|seed| Some(of(a, seed)? - of(b, seed)?)).collect();
    Test {
        names: [a.words.join(", "), b.words.join(", ")],
        pairs: differences.len(),
        difference: mean(&differences),
        p: signed_rank(&differences),
        t: paired_t(&differences),
    }
}

/// Formats a number with four significant digits.
pub(in crate::report) fn digits(value: f64) -> String {
    let magnitude = value.abs();
    match magnitude {
        _ if value.is_nan() => NONE.into(),
        0.0 => "0".into(),
        _ if (1e-3..1e5).contains(&magnitude) => {
            let decimals = (3 - magnitude.log10().floor() as i32).max(0) as usize;
            format!("{value:.decimals$}")
        }
        _ => format!("{value:.3e}"),
    }
}
