//! The interface between the trainer and the runner: progress, results and callbacks.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::Checkpoint;
use crate::data::{Direction, Evaluation, Metric};
use crate::error::Result;

/// Training progress after a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchProgress {
    /// Epoch in progress, counted from 1.
    pub epoch: usize,
    /// Number of epochs.
    pub epochs: usize,
    /// Completed batches of this epoch.
    pub batch: usize,
    /// Batches per epoch.
    pub batches: usize,
    /// Training loss of this batch, in the unit of the validation metric; `None` while it is on a device.
    pub loss: Option<f64>,
}

/// What to do after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Continue.
    Continue,
    /// Emit a checkpoint, then continue.
    Checkpoint,
    /// Emit a checkpoint and stop.
    Stop,
}

/// One epoch's numbers: a row of `metrics.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Mean loss over the steps that carry a target, in the unit of the validation metric.
    pub train_loss: f64,
    /// The training loss as the original code reports it.
    pub train_loss_original: f64,
    /// Validation metrics, in the order of [`Finished::metrics`].
    #[serde(with = "nan_as_null")]
    pub validation: Vec<f64>,
    /// Wall-clock time of the epoch: data, training, validation.
    pub seconds: f64,
    /// Further columns, the same names in every epoch of a unit.
    pub extra: Vec<Extra>,
    /// The training loss of every batch, if it is recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<BatchLoss>,
}

/// The training loss of a batch, before its update.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchLoss {
    /// As [`EpochRow::train_loss`].
    pub train_loss: f64,
    /// As [`EpochRow::train_loss_original`].
    pub train_loss_original: f64,
}

/// A further column of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// The column's name.
    pub name: String,
    /// Its value; NaN if there is none in this epoch.
    #[serde(with = "nan_as_null::one")]
    pub value: f64,
}

/// JSON has no NaN: it is written as null.
mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        values.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }

    pub mod one {
        use super::*;

        pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
            value.serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
            Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
        }
    }
}

/// Name, unit and direction of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricInfo {
    /// Its name, without `val_`.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub direction: Direction,
}

impl MetricInfo {
    /// The description of a metric in output files.
    pub fn of(metric: &Metric) -> Self {
        MetricInfo { name: metric.name.to_string(), unit: metric.unit.into(), direction: metric.direction }
    }
}

/// The results of a unit (one spec, one seed) trained to completion.
#[derive(Debug, Clone)]
pub struct Finished {
    /// One row per epoch.
    pub history: Vec<EpochRow>,
    /// The validation metrics.
    pub metrics: Vec<MetricInfo>,
    /// The epoch with the best first validation metric.
    pub best_epoch: usize,
    /// The epoch whose weights are kept.
    pub kept_epoch: usize,
    /// The kept weights by PyTorch name, in order.
    pub weights: Vec<(String, Tensor)>,
    /// Metrics of the kept weights on the test data; empty if there are none.
    pub test: Vec<f64>,
    /// What the network draws or generates with the kept weights.
    pub outputs: TaskOutputs,
}

/// What a network draws or generates for its task.
#[derive(Debug, Clone)]
pub struct TaskOutputs {
    /// Its outputs for the task's showcase, and their targets.
    pub showcase: Option<ShowcaseResult>,
    /// The dataset's own evaluation, if it has one.
    pub evaluation: Option<Evaluation>,
}

/// Outputs for the task's showcase.
#[derive(Debug, Clone)]
pub struct ShowcaseResult {
    /// `[patterns, time, size]`, f32.
    pub predictions: Tensor,
    /// `[patterns, time, size]`, f32.
    pub targets: Tensor,
    /// A name for each pattern.
    pub labels: Vec<String>,
    /// Images of the inputs, `[patterns, height, width]`, u8, if the task provides them.
    pub images: Option<Tensor>,
}

/// How training ended.
#[derive(Debug)]
pub enum Outcome {
    /// All epochs, or early stopping.
    Finished(Box<Finished>),
    /// The callback requested a stop; a checkpoint was emitted.
    Stopped,
}

/// Observes a unit's training; implemented by the runner. The default methods do nothing.
pub trait Callback {
    /// After every batch.
    fn batch(&mut self, _progress: &BatchProgress) -> Result<Next> {
        Ok(Next::Continue)
    }

    /// After every epoch. Returning [`Next::Checkpoint`] requests a checkpoint.
    fn epoch(&mut self, _row: &EpochRow, _metrics: &[MetricInfo]) -> Result<Next> {
        Ok(Next::Continue)
    }

    /// Makes a checkpoint durable.
    fn checkpoint(&mut self, _checkpoint: &Checkpoint) -> Result<()> {
        Ok(())
    }

    /// Stores an epoch's complete recordings.
    fn recording(&mut self, _epoch: usize, _tensors: &[(String, Tensor)]) -> Result<()> {
        Ok(())
    }

    /// Stores what the network draws or generates after an epoch, if the spec has it recorded.
    fn outputs(&mut self, _epoch: usize, _outputs: &TaskOutputs) -> Result<()> {
        Ok(())
    }
}
