//! What a trainer tells whoever watches it: the contract between the engine and the runner.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::Checkpoint;
use crate::data::{Direction, Evaluation, Metric};
use crate::error::Result;

/// Where training stands, after a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Epoch in progress, counted from 1.
    pub epoch: usize,
    /// Epochs asked for.
    pub epochs: usize,
    /// Batches of this epoch that are done.
    pub batch: usize,
    /// Batches an epoch.
    pub batches: usize,
    /// Training loss of this batch, in the unit of the validation metric; unknown while it lies on a device.
    pub loss: Option<f64>,
}

/// What to do after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Continue,
    /// Hand out a checkpoint, then go on.
    Checkpoint,
    /// Hand out a checkpoint and stop.
    Stop,
}

/// One epoch's numbers: a row of `metrics.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Mean loss over the steps that carry a target, in the unit of the validation metric.
    pub train_loss: f64,
    /// The training loss as the original reports it.
    pub train_loss_original: f64,
    /// Validation metrics, in the order of [`Finished::metrics`].
    #[serde(with = "nan_as_null")]
    pub validation: Vec<f64>,
    /// Wall clock of the epoch: data, training, validation.
    pub seconds: f64,
    /// Further columns, the same names in every epoch of a unit.
    pub extra: Vec<Extra>,
}

/// A further column of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// The column's name.
    pub name: String,
    /// Its value; NaN where there is none in this epoch.
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
    /// What files say of a metric.
    pub fn of(metric: &Metric) -> Self {
        MetricInfo { name: metric.name.to_string(), unit: metric.unit.into(), direction: metric.direction }
    }
}

/// A unit (one spec, one seed) that is trained to the end.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Every epoch.
    pub history: Vec<EpochRow>,
    /// The validation metrics.
    pub metrics: Vec<MetricInfo>,
    /// The epoch with the best first validation metric.
    pub best_epoch: usize,
    /// The epoch whose weights are kept.
    pub kept_epoch: usize,
    /// The kept weights by PyTorch name, in order.
    pub weights: Vec<(String, Tensor)>,
    /// Metrics of the kept weights on the test data; empty where there are none.
    pub test: Vec<f64>,
    /// Outputs of the kept weights for the task's showcase, `[patterns, time, size]`, and what they should be.
    pub showcase: Option<ShowcaseResult>,
    /// The evaluation of the kept weights, where the dataset has one of its own.
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
    /// Images of what went in, `[patterns, height, width]`, u8, where the task gives them.
    pub images: Option<Tensor>,
}

/// How training ended.
#[derive(Debug)]
pub enum Outcome {
    /// All epochs, or early stopping.
    Finished(Box<Finished>),
    /// The callback said stop; a checkpoint was handed out.
    Stopped,
}

/// Follows a unit while it trains; the runner implements it. As it is, it lets everything pass.
pub trait Callback {
    /// After every batch.
    fn batch(&mut self, _progress: &Progress) -> Result<Next> {
        Ok(Next::Continue)
    }

    /// After every epoch, before the batch that follows. Returning [`Next::Checkpoint`] asks for one.
    fn epoch(&mut self, _row: &EpochRow, _metrics: &[MetricInfo]) -> Result<Next> {
        Ok(Next::Continue)
    }

    /// Makes a checkpoint durable.
    fn checkpoint(&mut self, _checkpoint: &Checkpoint) -> Result<()> {
        Ok(())
    }

    /// Keeps an epoch's recordings, whole.
    fn recording(&mut self, _epoch: usize, _tensors: &[(String, Tensor)]) -> Result<()> {
        Ok(())
    }
}
