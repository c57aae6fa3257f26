//! Inference with a trained network: whole sequences, without dropout or synthesizers.

use candle_core::Tensor;

use super::backend::Backend;
use super::decode::decode;
use super::device_batch::DeviceBatch;
use super::engine;
use crate::data::{Batch, Decoded, Limits, Predictor, Strategy};
use crate::error::Result;
use crate::model::Model;
use crate::spec::task_shape::When;

/// A trained model and its backend.
#[derive(Clone, Copy)]
pub struct Trained<'a> {
    /// The model, with its trained weights.
    pub model: &'a Model,
    /// The backend that computes it.
    pub backend: &'a dyn Backend,
}

impl Predictor for Trained<'_> {
    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let sequence = DeviceBatch::new(self.model, &batch.expanded()?, None)?;
        Ok(engine::evaluate(self.model, self.backend, &sequence, When::EveryStep)?.0)
    }

    fn decode(&self, first: &Tensor, strategy: &Strategy, limits: &Limits) -> Result<Vec<Vec<Decoded>>> {
        decode(self.model, self.backend, first, strategy, limits)
    }
}
