//! The engine: windows, backends, trainer, optimizers, schedules, checkpoints, recorder.

pub mod backend;
mod checkpoint;
pub mod decode;
pub mod engine;
pub mod loss;
mod measure;
pub mod optimizer;
mod predictor;
pub mod record;
pub mod rows;
pub mod schedule;
pub mod sequence;
mod supply;
mod trainer;
mod unit;
pub mod update;

pub use checkpoint::{Checkpoint, CheckpointState};
pub use measure::{measure, show};
pub use optimizer::Optimizer;
pub use predictor::Trained;
pub use schedule::{EarlyStopping, ReduceOnPlateau};
pub use supply::Supply;
pub use trainer::{Trainer, check_data};
pub use unit::{EpochRow, Extra, Finished, MetricInfo, Next, Outcome, Progress, ShowcaseResult, Watcher};

/// Raised by hand when a golden-tested number may change its bits: units of another value are not mixed or resumed.
pub const NUMERICS: u32 = 2;
