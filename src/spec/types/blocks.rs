//! The blocks beside a spec: which runs there are, what is drawn and claimed of them, where they are trained. None of them is
//! hashed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LauncherBlock;

/// What may stand in a file beside the spec.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    /// Many runs from one file: a block, or a list of blocks whose runs are put together.
    #[serde(default)]
    pub sweep: Option<SweepBlocks>,
    /// What is drawn of the runs.
    #[serde(default)]
    pub figure: Option<FigureBlock>,
    /// Where the runs are trained.
    #[serde(default)]
    pub launcher: Option<LauncherBlock>,
    /// What a paper says of the runs, for `ccdni reproduce` to check.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// Values by dotted path that make a version of all runs which is small enough to be run at every change.
    #[serde(default)]
    pub quick: BTreeMap<String, serde_json::Value>,
}

/// One block of runs, or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SweepBlocks {
    /// One block.
    One(SweepBlock),
    /// Blocks whose runs are put together.
    Several(Vec<SweepBlock>),
}

/// Runs: every item of `list` with every row of `zip` with every combination of `grid`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepBlock {
    /// Lists of values by dotted path: all combinations.
    #[serde(default)]
    pub grid: BTreeMap<String, Vec<serde_json::Value>>,
    /// Lists of values by dotted path, all of one length: the first of each, the second of each, ...
    #[serde(default)]
    pub zip: BTreeMap<String, Vec<serde_json::Value>>,
    /// Runs that are spelled out.
    #[serde(default)]
    pub list: Vec<SweepItem>,
}

/// A run that is spelled out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepItem {
    /// What the run is called.
    pub name: String,
    /// Values by dotted path.
    #[serde(default)]
    pub set: BTreeMap<String, serde_json::Value>,
}

/// What is drawn of the runs of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FigureBlock {
    /// What goes along the horizontal axis: `epoch`, or a key with whole numbers such as `train.bptt`.
    #[serde(default = "epoch")]
    pub x: String,
    /// What goes up: a column of metrics.csv; the first validation metric by default.
    #[serde(default)]
    pub y: Option<String>,
    /// The value axis.
    #[serde(default)]
    pub scale: Scale,
    /// What values are multiplied with, as the axis then says.
    #[serde(default = "one")]
    pub times: f64,
    /// A panel for each value of this key.
    #[serde(default)]
    pub panels: Option<String>,
    /// A colour for each value of these keys; all that differ by default.
    #[serde(default)]
    pub color: Vec<String>,
    /// The name of a run in a `list`, which is drawn in every panel.
    #[serde(default)]
    pub reference: Option<String>,
}

fn one() -> f64 {
    1.0
}

fn epoch() -> String {
    "epoch".into()
}

/// Something that a paper says of runs in a `list`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Claim {
    /// One run ends below another: the median of the last values is lower.
    Below {
        /// The name of the run that is lower.
        run: String,
        /// The name of the run that is higher.
        than: String,
        /// Values by dotted path that tell which run is meant where several have the name.
        #[serde(default)]
        at: BTreeMap<String, serde_json::Value>,
        /// A column of metrics.csv; the first validation metric by default.
        #[serde(default)]
        metric: Option<String>,
        /// The claim holds only if p of the paired test over seeds is below this; without, p is told and decides nothing.
        #[serde(default)]
        #[schemars(range(min = 0.0, max = 1.0))]
        p_below: Option<f64>,
        /// Whether it is asked of the `quick` version, too.
        #[serde(default = "yes")]
        quick: bool,
    },
    /// A run ends where others have ended before: the last values are of one distribution with these.
    Like {
        /// The name of the run.
        run: String,
        /// Values by dotted path that tell which run is meant where several have the name.
        #[serde(default)]
        at: BTreeMap<String, serde_json::Value>,
        /// A column of metrics.csv; the first validation metric by default.
        #[serde(default)]
        metric: Option<String>,
        /// The values, one a seed.
        values: Vec<f64>,
    },
}

impl Claim {
    /// The runs that it speaks of, by name, and what tells runs of one name apart.
    pub fn runs(&self) -> (Vec<&str>, &BTreeMap<String, serde_json::Value>) {
        match self {
            Claim::Below { run, than, at, .. } => (vec![run, than], at),
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
    /// Evenly.
    #[default]
    Linear,
    /// By their ratios.
    Log,
}
