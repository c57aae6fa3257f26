//! Trains one unit: one spec, one seed.

mod batch;
mod epoch;
mod resume;

use candle_core::{Device, Tensor};

use self::epoch::{Best, Cursor};
use super::backend::{self, Backend};
use super::device::{DeviceLoader, PendingStatistics};
use super::engine::Order;
use super::measure::{measure, show};
use super::predictor::Trained;
use super::record::Recorder;
use super::update::Updater;
use super::{
    EarlyStopping, EpochRow, Finished, MetricInfo, Next, Outcome, Plugins, Progress, ReduceOnPlateau, Watcher,
};
use crate::data::{At, Dataset, Metric, Split};
use crate::error::{Error, Result};
use crate::model::encoder::{FrozenTrunk, RANDOM};
use crate::model::{Layout, Model};
use crate::nn::Gradients;
use crate::spec::interface::{First, Input, Interface};
use crate::spec::{Keep, ModelSpec, Spec, StepEvery, Trainable};

/// Trains one unit: one spec, one seed.
pub struct Trainer {
    spec: Spec,
    interface: Interface,
    data: Box<dyn Dataset>,
    loader: DeviceLoader,
    metrics: Vec<Metric>,
    seed: u64,
    model: Model,
    backend: Box<dyn Backend>,
    order: Order,
    updater: Updater,
    gradients: Gradients,
    plateau: Option<ReduceOnPlateau>,
    stopping: Option<EarlyStopping>,
    recorder: Option<Recorder>,
    /// The final states of the last batch, where they start the next.
    carried: Option<Vec<Tensor>>,
    best: Option<Best>,
    history: Vec<EpochRow>,
    cursor: Cursor,
    /// Of batches that are trained, and that are not in the cursor's sums yet.
    pending: PendingStatistics,
}

/// Makes sure that there are data to train with, in batches of the size that the spec asks for.
///
/// # Errors
/// [`Error::Usage`] if there are none.
pub fn check_data(spec: &Spec, data: &dyn Dataset) -> Result<()> {
    let batch_size = spec.train.batch_size;
    data.check(batch_size)?;
    match data.batches(Split::Train, batch_size) {
        0 => Err(Error::Usage("the task, as it is set, has no training data".into())),
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
        interface: &Interface,
        data: Box<dyn Dataset>,
        seed: u64,
        device: Device,
    ) -> Result<Self> {
        check_data(spec, data.as_ref())?;
        let mut metrics = if interface.validates { data.metrics() } else { Vec::new() };
        let wants_certainty = spec.record.as_ref().is_some_and(|record| record.certainty);
        if wants_certainty && interface.validates && !metrics.iter().any(|metric| metric.name == "certainty") {
            metrics.push(Metric::certainty());
        }
        let model = Model::new(&plugins.model, &spec.model, interface, seed, &device)?;
        let direction = metrics.first().map(|metric| metric.direction);
        Ok(Trainer {
            order: match spec.train.step_every {
                StepEvery::Batch => Order::SideBySide,
                StepEvery::Window => Order::Sequential,
            },
            updater: Updater::new(&spec.train, &plugins.optimizers, &model.params)?,
            gradients: Gradients::none(&model.params)?,
            plateau: direction.zip(spec.train.schedule.as_ref()).map(|(d, schedule)| ReduceOnPlateau::new(schedule, d)),
            stopping: direction
                .zip(spec.train.early_stopping.as_ref())
                .map(|(d, stopping)| EarlyStopping::new(stopping.patience, d)),
            recorder: spec.record.clone().map(Recorder::new),
            backend: backend::open(spec.run.backend, spec.run.threads, &model)?,
            carried: None,
            best: None,
            history: Vec::new(),
            cursor: Cursor::at(1),
            pending: PendingStatistics::default(),
            loader: DeviceLoader::new(&device),
            spec: spec.clone(),
            interface: interface.clone(),
            data,
            metrics,
            seed,
            model,
        })
    }

    /// Starts from the weights of another run (`train.init_from`): `model` is that run's, `weights` by its names.
    ///
    /// # Errors
    /// Names the first parameter that does not fit.
    pub fn start_from(&mut self, plugins: &Plugins, model: &ModelSpec, weights: &[(String, Tensor)]) -> Result<()> {
        self.model.adopt(&Layout::new(&plugins.model, model, &self.interface)?, weights)
    }

    /// Starts from the trunk's weights that the spec names, where the trunk learns.
    ///
    /// # Errors
    /// Whatever is wrong with these weights.
    pub fn start_encoder(&mut self, spec: &ModelSpec, device: &Device) -> Result<()> {
        let trained = spec.encoder.as_ref().filter(|encoder| encoder.trainable() == Trainable::All);
        if let (Some(encoder), Input::Tokens { first: First::Picture { side }, .. }) = (trained, &self.interface.input)
            && encoder.weights() != RANDOM
            && let Some(part) = &self.model.encoder
        {
            part.adopt_trunk(&self.model.params, FrozenTrunk::load(spec, *side, device)?.tensors())?;
        }
        Ok(())
    }

    /// Trains until the end, or until the watcher asks to stop.
    ///
    /// # Errors
    /// Fails where a loss, gradient or parameter is not finite, where a parameter that may learn receives no gradient,
    /// and where the watcher fails.
    pub fn train(&mut self, watcher: &mut dyn Watcher) -> Result<Outcome> {
        let epochs = self.spec.train.epochs;
        let batches = self.data.batches(Split::Train, self.spec.train.batch_size);
        let metrics: Vec<MetricInfo> = self.metrics.iter().map(MetricInfo::of).collect();
        while !self.cursor.over {
            while self.cursor.batch < batches {
                let loss = self.train_batch()?;
                let (epoch, batch) = (self.cursor.epoch, self.cursor.batch);
                let next = watcher.batch(&Progress { epoch, epochs, batch, batches, loss })?;
                if self.pause(next, watcher)? {
                    return Ok(Outcome::Stopped);
                }
            }
            let (row, recordings) = self.end_epoch()?;
            if !recordings.is_empty() {
                watcher.recording(row.epoch, &recordings)?;
            }
            let next = watcher.epoch(&row, &metrics)?;
            if self.pause(next, watcher)? {
                return Ok(Outcome::Stopped);
            }
        }
        watcher.checkpoint(&self.checkpoint()?)?;
        Ok(Outcome::Finished(Box::new(self.finish(metrics)?)))
    }

    /// Hands out a checkpoint if the watcher asks for one; true where training has to stop.
    fn pause(&mut self, next: Next, watcher: &mut dyn Watcher) -> Result<bool> {
        if next != Next::Continue {
            self.flush_statistics()?;
            watcher.checkpoint(&self.checkpoint()?)?;
        }
        Ok(next == Next::Stop)
    }

    /// Chooses the kept weights and measures them on the test data.
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
        let trained = Trained { model: &self.model, backend: self.backend.as_ref() };
        let showcase = self.data.showcase()?.map(|showcase| show(&trained, showcase)).transpose()?;
        let evaluation = self.data.evaluate(&trained)?;
        Ok(Finished {
            history: self.history.clone(),
            metrics,
            best_epoch,
            kept_epoch,
            weights: self.model.params.read()?,
            evaluation,
            test: self.measure(Split::Test, 0)?,
            showcase,
        })
    }

    /// The metrics on a split; empty where it has no batches.
    fn measure(&mut self, split: Split, epoch: usize) -> Result<Vec<f64>> {
        let at = At { split, epoch, index: 0, batch_size: self.spec.train.batch_size };
        let from = (self.data.as_ref(), &mut self.loader);
        measure(&self.model, self.backend.as_ref(), &self.interface, from, &self.metrics, at)
    }
}
