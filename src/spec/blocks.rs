//! The blocks besides a spec: its runs, their figure, claims about them, and where they are trained. None of them is hashed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LauncherBlock;

/// The blocks of a file besides the spec.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    /// Several runs from one file: a block, or a list of blocks whose runs are concatenated.
    #[serde(default)]
    pub sweep: Option<SweepBlocks>,
    /// The figure of the runs.
    #[serde(default)]
    pub figure: Option<FigureBlock>,
    /// Where the runs are trained.
    #[serde(default)]
    pub launcher: Option<LauncherBlock>,
    /// Claims of a paper about the runs, checked by `ccdni reproduce`.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// Values by dotted path that reduce all runs to a version small enough to run at every change.
    #[serde(default)]
    pub quick: BTreeMap<String, serde_json::Value>,
}

/// One block of runs, or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SweepBlocks {
    /// One block.
    One(SweepBlock),
    /// Blocks whose runs are concatenated.
    Several(Vec<SweepBlock>),
}

/// Runs: the product of the items of `list`, the rows of `zip` and the combinations of `grid`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepBlock {
    /// Lists of values by dotted path: all combinations.
    #[serde(default)]
    pub grid: BTreeMap<String, Vec<serde_json::Value>>,
    /// Lists of values by dotted path, all of one length: the first of each, the second of each, ...
    #[serde(default)]
    pub zip: BTreeMap<String, Vec<serde_json::Value>>,
    /// Explicitly listed runs.
    #[serde(default)]
    pub list: Vec<SweepItem>,
}

/// An explicitly listed run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepItem {
    /// The run's name.
    pub name: String,
    /// Values by dotted path.
    #[serde(default)]
    pub set: BTreeMap<String, serde_json::Value>,
}

/// The figure of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FigureBlock {
    /// The horizontal axis: `epoch`; a key with whole numbers such as `train.bptt`; `event`, the epoch of a lesion or of freezing; or
    /// `unlock`, whether the network is locked, or has update unlock or full unlock.
    #[serde(default = "epoch")]
    pub x: String,
    /// The vertical axis: a column of metrics.csv; the first validation metric by default.
    #[serde(default)]
    pub y: Option<String>,
    /// The scale of the vertical axis.
    #[serde(default)]
    pub scale: Scale,
    /// Factor on the values, shown in the axis label.
    #[serde(default = "one")]
    pub times: f64,
    /// One panel per value of this key.
    #[serde(default)]
    pub panels: Option<String>,
    /// One colour per combination of values of these keys; by default all that differ.
    #[serde(default)]
    pub color: Vec<String>,
    /// The name of a run in a `list` to draw in every panel.
    #[serde(default)]
    pub reference: Option<String>,
    /// The name of a run in a `list` that the others are relative to, seed by seed: the one with the same values of the grid.
    #[serde(default)]
    pub relative_to: Option<String>,
    /// How they are related to it.
    #[serde(default)]
    pub relative: Relative,
    /// Windows on the horizontal axis in per cent of the sequence.
    #[serde(default)]
    pub percent: bool,
    /// The paired test over seeds of values relative to another run.
    #[serde(default)]
    pub test: PairedTest,
    /// Whether p is corrected for the number of tests in the figure (Holm).
    #[serde(default)]
    pub holm: bool,
    /// Whether `ccdni reproduce` analyses the recordings of the runs, too.
    #[serde(default)]
    pub analyse: bool,
}

/// How values are related to those of another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relative {
    /// Their ratio: 1 is no difference.
    #[default]
    Ratio,
    /// Their difference: 0 is no difference.
    Difference,
}

/// A two-sided paired test over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairedTest {
    /// Wilcoxon's signed-rank test.
    #[default]
    Wilcoxon,
    /// Student's t-test, as in the papers.
    T,
}

fn one() -> f64 {
    1.0
}

fn epoch() -> String {
    "epoch".into()
}

/// A claim of a paper about runs in a `list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Claim {
    /// One run ends below another: the median of the last values is lower.
    Below {
        /// The name of the run that is lower.
        run: String,
        /// The name of the run that is higher.
        than: String,
        /// Values by dotted path that select one of several runs with the name.
        #[serde(default)]
        at: BTreeMap<String, serde_json::Value>,
        /// A swept key: one claim for each of its values.
        #[serde(default)]
        each: Option<String>,
        /// A column of metrics.csv; the first validation metric by default.
        #[serde(default)]
        metric: Option<String>,
        /// The paired test over seeds.
        #[serde(default)]
        test: PairedTest,
        /// Whether p is corrected for the number of claims that `each` makes (Holm).
        #[serde(default)]
        holm: bool,
        /// The claim holds only if p of the paired test over seeds is below this; if left out, p is only reported.
        #[serde(default)]
        #[schemars(range(min = 0.0, max = 1.0))]
        p_below: Option<f64>,
        /// Whether the claim is also checked for the `quick` version.
        #[serde(default = "yes")]
        quick: bool,
    },
    /// One run ends close to another: the medians of the last values differ by at most `within`.
    Close {
        /// The name of the run.
        run: String,
        /// The name of the other run.
        to: String,
        /// Values by dotted path that select one of several runs with the name.
        #[serde(default)]
        at: BTreeMap<String, serde_json::Value>,
        /// A column of metrics.csv; the first validation metric by default.
        #[serde(default)]
        metric: Option<String>,
        /// The largest difference of the medians, in the metric's unit.
        #[schemars(range(min = 0.0))]
        within: f64,
    },
    /// A run ends as others did: its last values are from the same distribution as these.
    Like {
        /// The name of the run.
        run: String,
        /// Values by dotted path that select one of several runs with the name.
        #[serde(default)]
        at: BTreeMap<String, serde_json::Value>,
        /// A column of metrics.csv; the first validation metric by default.
        #[serde(default)]
        metric: Option<String>,
        /// The values, one per seed.
        values: Vec<f64>,
    },
}

impl Claim {
    /// The names of its runs, and the values that select among runs of one name.
    pub fn runs(&self) -> (Vec<&str>, &BTreeMap<String, serde_json::Value>) {
        match self {
            Claim::Below { run, than, at, .. } => (vec![run, than], at),
            Claim::Close { run, to, at, .. } => (vec![run, to], at),
            Claim::Like { run, at, .. } => (vec![run], at),
        }
    }
}

fn yes() -> bool {
    true
}

/// How values are spaced on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Linear.
    #[default]
    Linear,
    /// Logarithmic.
    Log,
}
