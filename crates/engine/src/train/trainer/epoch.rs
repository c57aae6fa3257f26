//! The sums of an epoch, and what runs at its end.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::Trainer;
use crate::data::Split;
use crate::error::{Error, Result};
use crate::spec::Keep;
use crate::train::Extra;
use crate::train::device::BatchStatistics;
use crate::train::{BatchLoss, EpochRow};

/// The position in training, and the sums of the epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub epoch: usize,
    pub batch: usize,
    pub over: bool,
    pub rows: f64,
    pub loss: f64,
    pub original: f64,
    pub norm: f64,
    pub steps: f64,
    pub seconds: f64,
    /// The level of the task's curriculum.
    #[serde(default)]
    pub level: usize,
}

impl Cursor {
    /// The start of an epoch.
    pub fn at(epoch: usize) -> Self {
        Cursor { epoch, ..Cursor::default() }
    }

    fn add(&mut self, batch: &BatchStatistics) {
        self.rows += batch.rows;
        self.loss += batch.rows * batch.loss;
        self.original += batch.rows * batch.original;
        self.norm += batch.norm;
        self.steps += batch.steps;
    }

    /// The row of the completed epoch; `lr` is its learning rate.
    fn row(&self, validation: Vec<f64>, lr: f64, more: Vec<Extra>) -> EpochRow {
        let extra = |name: &str, value| Extra { name: name.into(), value };
        let mut extras = vec![extra("learning_rate", lr), extra("grad_norm", self.norm / self.steps)];
        extras.extend(more);
        EpochRow {
            epoch: self.epoch,
            train_loss: self.loss / self.rows,
            train_loss_original: self.original / self.rows,
            validation,
            seconds: (self.seconds * 1e6).round() / 1e6,
            extra: extras,
            batches: Vec::new(),
        }
    }
}

/// The best epoch so far, by the first validation metric.
#[derive(Debug, Clone)]
pub(super) struct Best {
    pub epoch: usize,
    pub value: f64,
    /// Its weights, if they are kept.
    pub weights: Vec<(String, Tensor)>,
}

impl Trainer {
    /// Ends an epoch: reads pending statistics, validates, keeps the best weights, adjusts the learning rate, decides
    /// whether to stop, and moves the cursor to the next epoch. Returns the epoch's row and recordings.
    ///
    /// # Errors
    /// Fails if a validation metric is not finite.
    pub(super) fn end_epoch(&mut self) -> Result<(EpochRow, Vec<(String, Tensor)>)> {
        self.flush_statistics()?;
        let began = Instant::now();
        let validation = self.measure(Split::Validation, self.cursor.epoch)?;
        self.close_epoch(validation, began.elapsed())
    }

    /// [`Trainer::end_epoch`] with these validation metrics, which took so long.
    pub(super) fn close_epoch(
        &mut self,
        validation: Vec<f64>,
        took: Duration,
    ) -> Result<(EpochRow, Vec<(String, Tensor)>)> {
        let (epoch, began) = (self.cursor.epoch, Instant::now());
        self.check_finite(&validation)?;
        let lr = self.updater.lr();
        let over = self.follow_metric(epoch, validation.first().copied())? || epoch >= self.spec.train.epochs;
        let layers = self.model.layers.len();
        let recorder = self.recorder.as_mut();
        let (recordings, mut more) = recorder.map_or_else(Default::default, |recorder| recorder.end_epoch(layers));
        let columns = self.data.curriculum().map(|curriculum| curriculum.columns(self.cursor.level));
        more.extend(columns.into_iter().flatten().map(|(name, value)| Extra { name: name.into(), value }));
        self.cursor.seconds += (took + began.elapsed()).as_secs_f64();
        let batches = std::mem::take(&mut self.batch_losses);
        let row = EpochRow { batches, ..self.cursor.row(validation, lr, more) };
        self.history.push(row.clone());
        self.carried = None;
        self.cursor = Cursor { over, level: self.cursor.level, ..Cursor::at(epoch + 1) };
        Ok((row, recordings))
    }

    fn check_finite(&self, validation: &[f64]) -> Result<()> {
        let place = (self.cursor.epoch, None);
        match self.metrics.iter().zip(validation).find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((metric, value)) => {
                Err(self.diverged(place, &format!("the validation metric {} is {value}", metric.name)))
            }
        }
    }

    /// Keeps the best weights, adjusts the learning rate and decides on early stopping, by the first validation metric.
    fn follow_metric(&mut self, epoch: usize, value: Option<f64>) -> Result<bool> {
        let (Some(metric), Some(value)) = (self.metrics.first(), value) else { return Ok(false) };
        if self.best.as_ref().is_none_or(|best| metric.direction.better(value, best.value)) {
            let weights = match self.spec.train.keep {
                Keep::Best => self.model.params.snapshot()?,
                Keep::Last => Vec::new(),
            };
            self.best = Some(Best { epoch, value, weights });
        }
        if let Some(plateau) = &mut self.plateau {
            self.updater.set_lr(plateau.observe(value, self.updater.lr()));
        }
        Ok(self.stopping.as_mut().is_some_and(|stopping| stopping.observe(value)))
    }

    /// Adds the pending statistics to the sums of the epoch.
    ///
    /// # Errors
    /// Names the first batch in which something is not finite.
    pub(super) fn flush_statistics(&mut self) -> Result<()> {
        let began = Instant::now();
        let statistics = self.pending.flush(&self.model.params)?;
        self.add_statistics(&statistics)?;
        self.cursor.seconds += began.elapsed().as_secs_f64();
        Ok(())
    }

    /// Adds statistics to the sums of the epoch, and returns the loss of the last batch among them, in the unit of the
    /// validation metric.
    ///
    /// # Errors
    /// Names the first batch in which something is not finite.
    pub(super) fn add_statistics(&mut self, statistics: &[BatchStatistics]) -> Result<Option<f64>> {
        for batch in statistics {
            let place = (self.cursor.epoch, Some(batch.batch + 1));
            if !batch.loss.is_finite() {
                return Err(self.diverged(place, &format!("the loss is {}", batch.loss)));
            }
            if let Some(name) = &batch.non_finite_parameter {
                return Err(self.diverged(place, &format!("the gradient of {name} is not finite")));
            }
            self.cursor.add(batch);
            if self.spec.record.as_ref().is_some_and(|record| record.batches) {
                let (train_loss, train_loss_original) = (batch.loss, batch.original);
                self.batch_losses.push(BatchLoss { train_loss, train_loss_original });
            }
        }
        Ok(statistics.last().map(|batch| batch.loss))
    }

    /// The last trained epoch, and batch counted from 1.
    pub(super) fn trained(&self) -> (usize, Option<usize>) {
        match self.cursor {
            Cursor { epoch, batch: 0, .. } => (epoch.saturating_sub(1), None),
            Cursor { epoch, batch, .. } => (epoch, Some(batch)),
        }
    }

    pub(super) fn diverged(&self, (epoch, batch): (usize, Option<usize>), what: &str) -> Error {
        let batch = batch.map_or("its end".into(), |batch| format!("batch {batch}"));
        Error::Training(format!("epoch {epoch}, {batch}: {what}; a smaller learning rate or `train.clip` may help"))
    }
}
