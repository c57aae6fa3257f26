//! Trains one unit: one spec, one seed.

mod batch;
mod epoch;
mod feedforward;
mod resume;
mod rule;
mod seeds;

use candle_core::{Device, Tensor};

use self::epoch::{Best, Cursor};
pub use self::seeds::{check_seed_batch, train_seeds};
use super::backend::{self, Backend};
use super::device::{DeviceLoader, PendingStatistics};
use super::feedforward::Delays;
use super::measure::{measure, show};
use super::predictor::Trained;
use super::record::Recorder;
use super::rules::Online;
use super::update::Updater;
use super::{
    BatchLoss, BatchProgress, Callback, EarlyStopping, EpochRow, Finished, MetricInfo, Next, Outcome, Plugins,
    ReduceOnPlateau, TaskOutputs,
};
use crate::data::{BatchIndex, Dataset, Metric, Split};
use crate::error::{Error, Result};
use crate::model::encoder::{FrozenBackbone, RANDOM};
use crate::model::{Layout, Model};
use crate::nn::Gradients;
use crate::spec::task_shape::TaskShape;
use crate::spec::{Keep, ModelSpec, Spec, Trainable};

/// Trains one unit: one spec, one seed.
pub struct Trainer {
    spec: Spec,
    shape: TaskShape,
    data: Box<dyn Dataset>,
    loader: DeviceLoader,
    metrics: Vec<Metric>,
    seed: u64,
    model: Model,
    backend: Box<dyn Backend>,
    /// The learning rule, if it is not the engine's.
    online: Option<Online>,
    updater: Updater,
    gradients: Gradients,
    plateau: Option<ReduceOnPlateau>,
    stopping: Option<EarlyStopping>,
    recorder: Option<Recorder>,
    /// The final states of the last batch, if the next one starts from them.
    carried: Option<Vec<Tensor>>,
    best: Option<Best>,
    history: Vec<EpochRow>,
    cursor: Cursor,
    /// True gradients on their way to the interfaces between blocks.
    delays: Delays,
    /// The losses of the epoch's batches so far, if they are recorded.
    batch_losses: Vec<BatchLoss>,
    /// Statistics of trained batches that are not yet in the cursor's sums.
    pending: PendingStatistics,
}

/// Checks that there are training data for the spec's batch size, and outputs if they are to be recorded.
///
/// # Errors
/// [`Error::Usage`] if there are none.
pub fn check_data(spec: &Spec, data: &dyn Dataset) -> Result<()> {
    let batch_size = spec.train.batch_size;
    data.check(batch_size)?;
    if spec.record.as_ref().is_some_and(|record| record.outputs.is_some())
        && !data.evaluates()
        && data.showcase()?.is_none()
    {
        let what =
            "`record.outputs`: the task, as configured, has no showcase to draw and no captions; leave the key out";
        return Err(Error::Usage(what.into()));
    }
    match data.batches(Split::Train, batch_size) {
        0 => Err(Error::Usage("the task, as configured, has no training data".into())),
        _ => Ok(()),
    }
}

impl Trainer {
    /// A trainer at its start: fresh weights, epoch 1, batch 0.
    ///
    /// # Errors
    /// Fails if the task has no training data.
    pub fn new(
        plugins: &Plugins,
        spec: &Spec,
        shape: &TaskShape,
        data: Box<dyn Dataset>,
        seed: u64,
        device: Device,
    ) -> Result<Self> {
        check_data(spec, data.as_ref())?;
        let mut metrics = if shape.validates { data.metrics() } else { Vec::new() };
        let wants_certainty = spec.record.as_ref().is_some_and(|record| record.certainty);
        if wants_certainty && shape.validates && !metrics.iter().any(|metric| metric.name == "certainty") {
            metrics.push(Metric::certainty());
        }
        let model = Model::new(&plugins.model, &spec.model, shape, seed, &device)?;
        let direction = metrics.first().map(|metric| metric.direction);
        Ok(Trainer {
            updater: Updater::new(&spec.train, &plugins.optimizers, &model.params)?,
            gradients: Gradients::none(&model.params)?,
            plateau: direction.zip(spec.train.schedule.as_ref()).map(|(d, schedule)| ReduceOnPlateau::new(schedule, d)),
            stopping: direction
                .zip(spec.train.early_stopping.as_ref())
                .map(|(d, stopping)| EarlyStopping::new(stopping.patience, d)),
            recorder: spec.record.clone().map(Recorder::new),
            backend: backend::open(spec.run.backend(), spec.run.threads.or_cores(), &model)?,
            online: {
                let rule = &spec.train.rule;
                Online::new(rule, plugins.rules.open(&rule.kind, &rule.keys)?.as_ref(), &model, seed)?
            },
            carried: None,
            delays: Delays::default(),
            best: None,
            history: Vec::new(),
            cursor: Cursor::at(1),
            batch_losses: Vec::new(),
            pending: PendingStatistics::default(),
            loader: DeviceLoader::new(&device),
            spec: spec.clone(),
            shape: shape.clone(),
            data,
            metrics,
            seed,
            model,
        })
    }

    /// Starts from the weights of another run (`train.init_from`): `model` is that run's, and names the `weights`.
    ///
    /// # Errors
    /// Names the first parameter that does not fit.
    pub fn start_from(&mut self, plugins: &Plugins, model: &ModelSpec, weights: &[(String, Tensor)]) -> Result<()> {
        self.model.adopt(&Layout::new(&plugins.model, model, &self.shape)?, weights)
    }

    /// Loads the backbone weights that the spec names, if the backbone is trainable.
    ///
    /// # Errors
    /// Fails if these weights are invalid.
    pub fn start_encoder(&mut self, spec: &ModelSpec, device: &Device) -> Result<()> {
        let trained = spec.encoder.as_ref().filter(|encoder| encoder.trainable() == Trainable::All);
        if let (Some(encoder), Some(side)) = (trained, self.shape.input.image_side())
            && encoder.weights() != RANDOM
            && let Some(part) = &self.model.encoder
        {
            part.adopt_backbone(&self.model.params, FrozenBackbone::load(spec, side, device)?.tensors())?;
        }
        Ok(())
    }

    /// Epoch and batch at which training goes on.
    pub fn position(&self) -> (usize, usize) {
        (self.cursor.epoch, self.cursor.batch)
    }

    /// Trains until the end, or until the callback requests a stop.
    ///
    /// # Errors
    /// Fails if a loss, gradient or parameter is not finite, if a trainable parameter receives no gradient, or if the
    /// callback fails.
    pub fn train(&mut self, callback: &mut dyn Callback) -> Result<Outcome> {
        let epochs = self.spec.train.epochs;
        let batches = self.data.batches(Split::Train, self.spec.train.batch_size);
        let metrics: Vec<MetricInfo> = self.metrics.iter().map(MetricInfo::of).collect();
        while !self.cursor.over {
            while self.cursor.batch < batches {
                let loss = self.train_batch()?;
                let (epoch, batch) = (self.cursor.epoch, self.cursor.batch);
                let next = callback.batch(&BatchProgress { epoch, epochs, batch, batches, loss })?;
                if self.pause(next, callback)? {
                    return Ok(Outcome::Stopped);
                }
            }
            let (row, recordings) = self.end_epoch()?;
            let next = self.report_epoch(&row, &recordings, &metrics, callback)?;
            if self.pause(next, callback)? {
                return Ok(Outcome::Stopped);
            }
        }
        callback.checkpoint(&self.checkpoint()?)?;
        Ok(Outcome::Finished(Box::new(self.finish(metrics)?)))
    }

    /// Reports an epoch that ended.
    fn report_epoch(
        &self,
        row: &EpochRow,
        recordings: &[(String, Tensor)],
        metrics: &[MetricInfo],
        callback: &mut dyn Callback,
    ) -> Result<Next> {
        if !recordings.is_empty() {
            callback.recording(row.epoch, recordings)?;
        }
        let every = self.spec.record.as_ref().and_then(|record| record.outputs);
        if every.is_some_and(|every| row.epoch.is_multiple_of(every)) {
            callback.outputs(row.epoch, &self.outputs()?)?;
        }
        callback.epoch(row, metrics)
    }

    /// Emits a checkpoint if requested; true if training has to stop.
    fn pause(&mut self, next: Next, callback: &mut dyn Callback) -> Result<bool> {
        if next != Next::Continue {
            self.flush_statistics()?;
            callback.checkpoint(&self.checkpoint()?)?;
        }
        Ok(next == Next::Stop)
    }

    /// Selects the kept weights and measures them on the test data.
    fn finish(&mut self, metrics: Vec<MetricInfo>) -> Result<Finished> {
        let last = self.history.last().map_or(0, |row| row.epoch);
        let best_epoch = self.best.as_ref().map_or(last, |best| best.epoch);
        let kept_epoch = match (self.spec.train.keep, &self.best) {
            (Keep::Best, Some(best)) => {
                for (index, (_, value)) in best.weights.iter().enumerate() {
                    self.model.params.set(index, value)?;
                }
                best.epoch
            }
            _ => last,
        };
        self.model.at_epoch(kept_epoch);
        Ok(Finished {
            history: self.history.clone(),
            metrics,
            best_epoch,
            kept_epoch,
            weights: self.model.params.read()?,
            outputs: self.outputs()?,
            test: self.measure(Split::Test, 0)?,
        })
    }

    /// What the network draws or generates with its present weights.
    fn outputs(&self) -> Result<TaskOutputs> {
        let trained = Trained { model: &self.model, backend: self.backend.as_ref() };
        Ok(TaskOutputs {
            showcase: self.data.showcase()?.map(|showcase| show(&trained, showcase)).transpose()?,
            evaluation: self.data.evaluate(&trained)?,
        })
    }

    /// The metrics on a split; empty if it has no batches.
    fn measure(&mut self, split: Split, epoch: usize) -> Result<Vec<f64>> {
        let (batch_size, level) = (self.spec.train.batch_size, self.cursor.level);
        let at = BatchIndex { split, epoch, index: 0, batch_size, level };
        let from = (self.data.as_ref(), &mut self.loader);
        measure(&self.model, self.backend.as_ref(), &self.shape, from, &self.metrics, at)
    }
}
