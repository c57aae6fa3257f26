//! The engine: windows, backends, trainer, optimizers, schedules, checkpoints, recorder.

pub mod backend;
mod callback;
mod checkpoint;
pub mod decode;
mod device;
pub mod device_batch;
pub mod engine;
pub mod feedforward;
pub mod loss;
mod measure;
pub mod optimizer;
mod predictor;
pub mod quality;
pub mod record;
pub mod rows;
pub mod rules;
pub mod schedule;
mod trainer;
pub mod update;

pub use callback::{
    BatchLoss, BatchProgress, Callback, EpochRow, Extra, Finished, MetricInfo, Next, Outcome, ShowcaseResult,
    TaskOutputs,
};
pub use checkpoint::{Checkpoint, CheckpointState};
pub use device::{DeviceLoader, GradientNorm, GradientSquares};
pub use measure::{measure, show};
pub use optimizer::{Optimizer, OptimizerRule};
pub use predictor::Trained;
pub use rules::LearningRule;
pub use schedule::{EarlyStopping, ReduceOnPlateau};
pub use trainer::{Trainer, check_data, check_seed_batch, train_seeds};

use crate::model;
use crate::plugins::Kinds;

/// The plug-ins for models and training.
pub struct Plugins {
    /// Cells and synthesizers.
    pub model: model::Plugins,
    /// `train.optimizer`
    pub optimizers: Kinds<dyn OptimizerRule>,
    /// `train.rule`
    pub rules: Kinds<dyn LearningRule>,
}

impl Plugins {
    /// The built-in plug-ins.
    pub fn built_in() -> Self {
        let (optimizers, rules) = (optimizer::built_in(), rules::built_in());
        Plugins { model: model::Plugins::built_in(), optimizers, rules }
    }
}

/// Incremented when the bits of a golden-tested number may change: units with different values are not mixed or resumed.
pub const NUMERICS: u32 = 3;
