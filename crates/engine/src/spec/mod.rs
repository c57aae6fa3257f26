//! The typed spec: every key with its default and meaning. The doc comments become the JSON Schema's descriptions.
//!
//! Sizes have upper limits far above any feasible computation, so that a typing error does not end in an overflowing allocation.

pub mod encoder;
mod feedback;
mod feedforward;
mod model;
mod rule;
pub mod task_shape;
mod train;
mod values;

pub use encoder::*;
pub use feedback::*;
pub use feedforward::*;
pub use model::*;
pub use rule::*;
pub use train::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::plugins::Keys;

/// One experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A name; not hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Notes; not hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// The task: `kind` and the keys of that task, with the task's defaults filled in.
    pub task: PluginTable,
    /// The network.
    pub model: ModelSpec,
    /// Training.
    pub train: TrainSpec,
    /// What is recorded during training; nothing by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordSpec>,
    /// Seeds to train: a list, or a range with both ends such as `1..10`; not hashed.
    #[serde(default)]
    pub seeds: Seeds,
    /// Device, parallelism and checkpoints; not hashed.
    #[serde(default)]
    pub run: RunSpec,
}

/// A table with the keys of the plug-in that `kind` names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PluginTable {
    /// A registered plug-in.
    pub kind: String,
    /// The plug-in's own keys.
    #[serde(flatten)]
    pub keys: Keys,
}

/// What is recorded during training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordSpec {
    /// Record every n-th batch of an epoch, the first included.
    #[serde(default = "one_usize")]
    #[schemars(range(min = 1))]
    pub every: usize,
    /// What is written to `seeds/<seed>/recordings/`.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub what: Vec<Recorded>,
    /// Adds the metric column `cosine`: synthetic against true gradient, mean over the recorded batches.
    #[serde(default)]
    pub cosine: bool,
    /// Adds metric columns on the learning rule's gradient of each layer's recurrent weights, against the true one, means over the recorded
    /// batches: `gradient_cosine`, `gradient_norm_ratio`, `gradient_bias`, and with several draws `gradient_variance`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub gradients: bool,
    /// How often the gradient of a stochastic rule is drawn per recorded batch, for `gradients` and `what: [gradient]`.
    #[serde(default = "one_usize", skip_serializing_if = "is_one")]
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 1))]
    pub draws: usize,
    /// Adds the validation metric `certainty`: mean of the largest softmax (tasks with classes).
    #[serde(default)]
    pub certainty: bool,
    /// Writes the training loss of every batch to `seeds/<seed>/batches.csv`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batches: bool,
    /// Every n-th epoch, writes what the network draws for the task's showcase, or the captions that it generates, to
    /// `seeds/<seed>/outputs/`; by default, only what the trained network draws or generates is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub outputs: Option<usize>,
}

/// One thing that can be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recorded {
    /// States at the starts of windows.
    Hidden,
    /// Synthetic gradients at the starts of windows, not scaled.
    Synthetic,
    /// Target gradients of the synthesizers, at the starts of windows.
    Target,
    /// True gradients: of all losses, by one backward pass without truncation.
    True,
    /// Activities of the synthesizer's hidden layers.
    Synthesizer,
    /// Parameters before the update.
    Weights,
    /// Gradients of each layer's recurrent weights: the learning rule's, and the true one.
    Gradient,
}

impl RecordSpec {
    /// Whether anything is recorded from training batches.
    pub fn has_batches(&self) -> bool {
        self.cosine || self.gradients || !self.what.is_empty()
    }
}

/// Seeds to train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

/// Device, parallelism and checkpoints of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// `auto`, `cpu`, `cuda`, `cuda:<index>` or `metal`.
    #[serde(default = "auto")]
    #[schemars(regex(pattern = r"^(auto|cpu|metal|cuda(:[0-9]+)?)$"))]
    pub device: String,
    /// Seeds trained at the same time: `auto` or a number.
    #[serde(default)]
    pub jobs: Count,
    /// Seeds that one process trains as one network with one more axis, by the composed backend: a number, or `auto` for all
    /// that the run is to train.
    #[serde(default = "Count::one", skip_serializing_if = "Count::is_one")]
    #[schemars(extend("default" = 1))]
    pub seed_batch: Count,
    /// Threads per seed, `auto` or a number; results are bit-identical for every number.
    #[serde(default)]
    pub threads: Count,
    /// Implementation of the recurrent stack.
    #[serde(default)]
    pub backend: BackendKind,
    /// Whether matrix products on a CUDA device may round their factors to 10 bits (TF32), which is faster.
    #[serde(default)]
    pub tf32: bool,
    /// How often a checkpoint is written: a duration (`500ms`, `10s`, `5m`, `1h`) or `{epochs: n}`.
    #[serde(default)]
    pub checkpoint_every: CheckpointEvery,
    /// Whether an event file for TensorBoard is written into `seeds/<seed>/`, beside `metrics.csv`.
    #[serde(default)]
    pub tensorboard: bool,
}

impl Default for RunSpec {
    fn default() -> Self {
        RunSpec {
            device: auto(),
            jobs: Count::default(),
            seed_batch: Count::one(),
            threads: Count::default(),
            backend: BackendKind::default(),
            tf32: false,
            checkpoint_every: CheckpointEvery::default(),
            tensorboard: false,
        }
    }
}

impl RunSpec {
    /// The backend: seeds that are trained together need the composed one.
    pub fn backend(&self) -> BackendKind {
        if self.seed_batch.is_one() { self.backend } else { BackendKind::Composed }
    }
}

/// How many at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Count {
    /// Seeds: as many as there are cores (CPU), or one (GPU). Threads of a seed: the cores divided by the seeds.
    #[default]
    Auto,
    /// This many.
    Number(usize),
}

impl Count {
    /// 1.
    pub fn one() -> Self {
        Count::Number(1)
    }

    /// Whether it is 1.
    pub fn is_one(&self) -> bool {
        *self == Count::one()
    }

    /// The number, or the number of cores.
    pub fn or_cores(self) -> usize {
        match self {
            Count::Number(count) => count,
            Count::Auto => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Implementation of the recurrent stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// The fastest for the device: `fused` on the CPU, `unrolled` elsewhere; `composed` where a cell has no fast path.
    #[default]
    Auto,
    /// Plain tensor operations and automatic differentiation: the reference.
    Composed,
    /// Few plain tensor operations, with a backward pass in closed form.
    Unrolled,
    /// Custom kernels, on the CPU.
    Fused,
}

/// How often a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointEvery {
    /// After the batch in which this much time has passed since the last.
    Time(std::time::Duration),
    /// At the end of every n-th epoch.
    Epochs(usize),
}

impl Default for CheckpointEvery {
    fn default() -> Self {
        CheckpointEvery::Time(std::time::Duration::from_secs(10))
    }
}

impl Default for Seeds {
    fn default() -> Self {
        Seeds(vec![1])
    }
}

fn one_usize() -> usize {
    1
}
fn is_one(number: &usize) -> bool {
    *number == 1
}
fn auto() -> String {
    "auto".into()
}
