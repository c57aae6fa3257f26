//! The blocks beside a spec: which runs there are, what is drawn of them, where they are trained. None of them is hashed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

fn epoch() -> String {
    "epoch".into()
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

/// Where the runs of a sweep are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LauncherBlock {
    /// Worker processes of this machine, or a job array of a cluster.
    #[serde(default)]
    pub kind: LauncherKind,
    /// SLURM: the partition; the cluster's default one if left out.
    #[serde(default)]
    pub partition: Option<String>,
    /// SLURM: the time limit of a task, as `sbatch` reads it: `30` (minutes), `2:00:00`, `1-12`.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]+(-[0-9]+)?(:[0-9]+){0,2}$"))]
    pub time: Option<String>,
    /// SLURM: the memory of a task, as `sbatch` reads it: `4G`.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]+[KMGT]?$"))]
    pub memory: Option<String>,
    /// SLURM: cores of a task; so many units are trained at the same time in it, divided by `run.threads`.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    pub cpus: Option<usize>,
    /// SLURM: GPUs of a task.
    #[serde(default)]
    #[schemars(range(min = 1, max = 64))]
    pub gpus: Option<usize>,
    /// SLURM: tasks in the array; never more than units to train.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10000))]
    pub tasks: Option<usize>,
    /// SLURM: seconds before the time limit at which a task writes its checkpoints and is put into the queue again.
    #[serde(default = "grace")]
    #[schemars(range(min = 10, max = 3600))]
    pub grace: usize,
    /// SLURM: further arguments of `sbatch`, such as `--account=lab`.
    #[serde(default)]
    pub sbatch: Vec<String>,
    /// SLURM: lines of shell before the program starts, such as `module load cuda`.
    #[serde(default)]
    pub setup: Vec<String>,
}

impl Default for LauncherBlock {
    fn default() -> Self {
        LauncherBlock {
            kind: LauncherKind::default(),
            partition: None,
            time: None,
            memory: None,
            cpus: None,
            gpus: None,
            tasks: None,
            grace: grace(),
            sbatch: Vec::new(),
            setup: Vec::new(),
        }
    }
}

fn grace() -> usize {
    120
}

/// Who trains the units of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LauncherKind {
    /// Worker processes on this machine.
    #[default]
    Local,
    /// A job array of a SLURM cluster.
    Slurm,
}
