//! Training: windows, optimizer, clipping, schedule and initial weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PluginTable, RuleSpec};
use crate::spec::Keys;

/// Training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Epochs to train.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub epochs: usize,
    /// Sequences per batch.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: usize,
    /// Window of truncated backpropagation: steps, or a share of the sequence such as "20%"; the whole by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-figure" = "NeurIPS 2021, Fig. 2 and S3; Nature Communications 2023, Fig. 3 and 8"))]
    pub bptt: Option<Bptt>,
    /// Use the targets of every n-th step only (sparse external feedback); by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub feedback_every: Option<usize>,
    /// The learning rule; backpropagation through time by default.
    #[serde(default, skip_serializing_if = "RuleSpec::is_bptt")]
    pub rule: RuleSpec,
    /// When the optimizer steps.
    #[serde(default)]
    pub step_every: StepEvery,
    /// The optimizer.
    #[serde(default = "adam")]
    pub optimizer: PluginTable,
    /// Gradient clipping; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<ClipSpec>,
    /// Schedule of the learning rate; constant by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// Stop when the first validation metric no longer improves; never by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Which epoch's weights are the result.
    #[serde(default)]
    pub keep: Keep,
    /// Start each batch from the final state of the previous one, without its gradient.
    #[serde(default)]
    pub keep_hidden: bool,
    /// Weight of the mean squared activity, added to every window's loss.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub activity_l2: f64,
    /// Start from the weights of a finished run: its directory, or `{run, seed}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<InitFrom>,
}

/// Length of a window of truncated backpropagation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Bptt {
    /// In steps.
    Steps(#[schemars(range(min = 1))] usize),
    /// As a share of the sequence length: `"20%"`.
    Percent(#[schemars(regex(pattern = r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$"))] String),
}

/// When the optimizer steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepEvery {
    /// Once per batch, on the sum of the gradients of all windows.
    #[default]
    Batch,
    /// After every window.
    Window,
    /// After every step; for rules other than bptt.
    Step,
}

/// Clipping of gradients by their global 2-norm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClipSpec {
    /// The largest norm that is not scaled down.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub norm: f64,
    /// The parameters over which the norm is taken.
    #[serde(default)]
    pub scope: ClipScope,
}

/// The parameters over which a clip norm is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClipScope {
    /// One norm over all parameters.
    #[default]
    All,
    /// One norm over the synthesizers, one over the rest.
    Separate,
}

/// Schedule of the learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSpec {
    /// Lowers the rate when the first validation metric no longer improves.
    ReduceOnPlateau {
        /// Factor on the rate.
        #[serde(default = "tenth")]
        #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
        factor: f64,
        /// Epochs without improvement that are tolerated.
        #[serde(default = "ten")]
        patience: usize,
        /// Smallest relative improvement that counts.
        #[serde(default = "ten_thousandth")]
        #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
        threshold: f64,
        /// Lower bound of the rate.
        #[serde(default = "nano")]
        #[schemars(range(min = 0.0))]
        min_lr: f64,
    },
}

/// Early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs without improvement of the first validation metric after which training stops.
    #[schemars(range(min = 1))]
    pub patience: usize,
}

/// Which epoch's weights are the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The last epoch's.
    #[default]
    Last,
    /// Those of the epoch with the best first validation metric.
    Best,
}

/// The source of initial weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum InitFrom {
    /// A run directory: each seed starts from the same seed of that run.
    Run(String),
    /// One seed of a run: every seed starts from it.
    Seed(InitFromSeed),
}

/// One seed of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InitFromSeed {
    /// The run directory.
    pub run: String,
    /// The seed in it.
    pub seed: u64,
}

impl TrainSpec {
    /// Window length in steps for a sequence of `steps`: the whole sequence without `bptt`.
    pub fn window(&self, steps: usize) -> usize {
        self.bptt.as_ref().map_or(steps, |bptt| bptt.steps(steps))
    }
}

fn ten() -> usize {
    10
}
fn tenth() -> f64 {
    0.1
}
fn ten_thousandth() -> f64 {
    1e-4
}
fn nano() -> f64 {
    1e-9
}
fn adam() -> PluginTable {
    PluginTable { kind: "adam".into(), keys: Keys::new() }
}
