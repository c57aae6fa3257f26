//! The statistics of trained batches, possibly still on a device: sums for the epoch, and values to check.

use super::GradientSquares;
use crate::error::Result;
use crate::nn::{Numbers, ParamStore, reads_are_deferred};
use crate::train::loss::Losses;

/// Trained batches whose statistics have not been read.
#[derive(Default)]
pub struct PendingStatistics(Vec<PendingBatch>);

/// One trained batch.
pub struct PendingBatch {
    /// Its index in the epoch.
    pub batch: usize,
    /// Number of sequences.
    pub rows: f64,
    /// [`crate::train::loss::Feedback::metric_scale`]
    pub metric_scale: f64,
    /// [`crate::train::loss::Feedback::original_scale`]
    pub original_scale: f64,
    /// The losses of its groups of windows.
    pub losses: Vec<Losses>,
    /// The squared gradients of its updates.
    pub squares: Vec<GradientSquares>,
}

/// A batch's contribution to the sums of an epoch.
#[derive(Debug, PartialEq)]
pub struct BatchStatistics {
    /// Its index in the epoch.
    pub batch: usize,
    /// Number of sequences.
    pub rows: f64,
    /// Mean over the steps that carry a target, in the unit of the validation metric.
    pub loss: f64,
    /// The loss as the original code reports it.
    pub original: f64,
    /// Sum of the gradients' norms over the updates.
    pub norm: f64,
    /// Number of updates.
    pub steps: f64,
    /// The first parameter whose gradient is not finite.
    pub non_finite_parameter: Option<String>,
}

impl PendingStatistics {
    /// Adds a batch.
    pub fn push(&mut self, batch: PendingBatch) {
        self.0.push(batch);
    }

    /// The statistics available without blocking: of all batches on the CPU, of none if reads are deferred.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn ready(&mut self, params: &ParamStore) -> Result<Vec<BatchStatistics>> {
        Ok(self.ready_seeds(params, 1)?.swap_remove(0))
    }

    /// Reads the statistics of all batches at once, in order, and clears them.
    ///
    /// # Errors
    /// Fails on a device error.
    pub fn flush(&mut self, params: &ParamStore) -> Result<Vec<BatchStatistics>> {
        Ok(self.flush_seeds(params, 1)?.swap_remove(0))
    }

    /// [`PendingStatistics::ready`] and [`PendingStatistics::flush`] of several seeds that were trained as one: those of each.
    ///
    /// # Errors
    /// Fails on a device error.
    pub fn ready_seeds(&mut self, params: &ParamStore, seeds: usize) -> Result<Vec<Vec<BatchStatistics>>> {
        match reads_are_deferred(params.flat().device()) {
            true => Ok((0..seeds).map(|_| Vec::new()).collect()),
            false => self.flush_seeds(params, seeds),
        }
    }

    /// As [`PendingStatistics::ready_seeds`].
    ///
    /// # Errors
    /// Fails on a device error.
    pub fn flush_seeds(&mut self, params: &ParamStore, seeds: usize) -> Result<Vec<Vec<BatchStatistics>>> {
        let mut batches = std::mem::take(&mut self.0);
        Numbers::read_all(batches.iter_mut().flat_map(|batch| {
            let losses = batch.losses.iter_mut().map(|losses| &mut losses.per_step);
            losses.chain(batch.squares.iter_mut().map(|squares| &mut squares.numbers))
        }))?;
        (0..seeds).map(|seed| batches.iter().map(|batch| batch.read(params, seed)).collect()).collect()
    }
}

impl PendingBatch {
    fn read(&self, params: &ParamStore, seed: usize) -> Result<BatchStatistics> {
        let (mut weighted, mut targets) = (0.0, 0);
        for losses in &self.losses {
            for window in losses.read_seed(seed)? {
                weighted += window.loss * window.targets as f64;
                targets += window.targets;
            }
        }
        let (mut norm, mut non_finite_parameter) = (0.0, None);
        for squares in &self.squares {
            let one = squares.norm_of_seed(params, seed)?;
            norm += one.value;
            non_finite_parameter = non_finite_parameter.or(one.non_finite_parameter);
        }
        Ok(BatchStatistics {
            batch: self.batch,
            rows: self.rows,
            loss: self.metric_scale * weighted / targets.max(1) as f64,
            original: self.original_scale * weighted,
            norm,
            steps: self.squares.len() as f64,
            non_finite_parameter,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Targets;
    use crate::model::Model;
    use crate::nn::{Gradients, pretending};
    use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
    use crate::train::Plugins;
    use crate::train::engine::Role;
    use crate::train::loss::Feedback;
    use crate::train::rows::Rows;
    use crate::train::update::Updater;
    use candle_core::{Device, Tensor};

    #[test]
    fn deferred_statistics_are_those_that_are_read_at_once() -> Result<()> {
        let shape = TaskShape {
            input: Input::Dense { features: 1 },
            target: Target { kind: TargetKind::Values { size: 1 }, when: When::EveryStep },
            steps: None,
            validates: true,
        };
        let spec = serde_json::from_str(r#"{"layers": [{"cell": "tanh", "hidden": 2}]}"#).expect("a model");
        let model = Model::new(&Plugins::built_in().model, &spec, &shape, 1, &Device::Cpu)?;
        let train = r#"{"epochs": 1, "batch_size": 2, "optimizer": {"kind": "adam", "lr": 0.1}}"#;
        let train: crate::spec::TrainSpec = serde_json::from_str(train).expect("a spec");
        let rows = Rows { count: 2, sequences: 2, multiplicity: None, repetition: None, seeds: 1 };
        let targets = Targets::Values(Tensor::zeros((2, 3, 1), candle_core::DType::F32, &Device::Cpu)?);
        let feedback = Feedback::new(&targets, &shape, 3, 1, &rows, &Device::Cpu)?;
        let statistics = || -> Result<Vec<BatchStatistics>> {
            let mut pending = PendingStatistics::default();
            let mut updater = Updater::new(&train, &Plugins::built_in().optimizers, &model.params)?;
            for batch in 0..3 {
                let outputs = Tensor::full(batch as f32, (3, 2, 1), &Device::Cpu)?;
                let (losses, _) = feedback.losses(Some(&outputs), &[0, 1, 2], &[0..2, 2..3])?;
                let mut gradients = Gradients::none(&model.params)?;
                // The last batch has a gradient that is NaN.
                let value = if batch == 2 { f32::NAN } else { 0.5 };
                gradients.add(1, &model.params.get(1).value().affine(0.0, f64::from(value))?)?;
                let squares = updater.apply(&model, &[Role::Learning; 0], &mut gradients)?;
                pending.push(PendingBatch {
                    batch,
                    rows: 2.0,
                    metric_scale: 1.0,
                    original_scale: 2.0,
                    losses: vec![losses],
                    squares: squares.into_iter().collect(),
                });
            }
            let mut read = pending.ready(&model.params)?;
            assert_eq!(read.is_empty(), reads_are_deferred(&Device::Cpu));
            read.extend(pending.flush(&model.params)?);
            assert!(pending.flush(&model.params)?.is_empty(), "cleared");
            Ok(read)
        };
        let read = statistics()?;
        assert_eq!(read.iter().map(|batch| batch.loss).collect::<Vec<_>>(), [0.0, 1.0, 4.0]);
        assert_eq!(read[2].non_finite_parameter.as_deref(), Some(model.params.get(1).name.as_str()));
        assert!(read[1].norm > 0.0 && read[1].non_finite_parameter.is_none());
        assert_eq!(format!("{read:?}"), format!("{:?}", pretending(statistics)?));
        Ok(())
    }
}
