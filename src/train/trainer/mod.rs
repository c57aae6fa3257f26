//! Trains one unit: one spec, one seed.

mod ledger;
mod resume;

use std::time::Instant;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use self::ledger::{Entry, Ledger};
use super::backend::{self, Backend};
use super::engine::{self, Order, Role};
use super::exam::sit;
use super::loss::Feedback;
use super::measure::{measure, show};
use super::record::Recorder;
use super::sequence::{Dropout, Sequence};
use super::supply::Supply;
use super::unit::Extra;
use super::update::{Updater, role};
use super::{EarlyStopping, EpochRow, Finished, MetricInfo, Next, Outcome, Progress, ReduceOnPlateau, Watcher};
use crate::data::{At, Dataset, Metric, Split};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::encoder::{FrozenTrunk, RANDOM};
use crate::nn::{Gradients, Part, apart};
use crate::spec::interface::{First, Input, Interface};
use crate::spec::{Keep, ModelSpec, Spec, StepEvery, Trainable};

/// Trains one unit: one spec, one seed.
pub struct Trainer {
    spec: Spec,
    interface: Interface,
    data: Box<dyn Dataset>,
    supply: Supply,
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
    /// Batches that are trained, and whose numbers are not in the cursor's sums yet.
    ledger: Ledger,
}

/// Where training stands, and the sums of the epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Cursor {
    epoch: usize,
    batch: usize,
    over: bool,
    rows: f64,
    loss: f64,
    original: f64,
    norm: f64,
    steps: f64,
    seconds: f64,
}

impl Cursor {
    fn at(epoch: usize) -> Self {
        let zero = 0.0;
        Cursor {
            epoch,
            batch: 0,
            over: false,
            rows: zero,
            loss: zero,
            original: zero,
            norm: zero,
            steps: zero,
            seconds: zero,
        }
    }
}

/// The best epoch so far, by the first validation metric.
#[derive(Debug, Clone)]
struct Best {
    epoch: usize,
    value: f64,
    /// Its weights, where they are wanted.
    weights: Vec<(String, Tensor)>,
}

/// Whether there is something to validate on; an error if the data do not suffice for what the spec asks.
///
/// # Errors
/// [`Error::Usage`] if the task has no training data, or no validation data where the spec needs them.
pub fn check_data(spec: &Spec, data: &dyn Dataset) -> Result<bool> {
    let batch_size = spec.train.batch_size;
    data.check(batch_size)?;
    if data.batches(Split::Train, batch_size) == 0 {
        return Err(Error::Usage("the task, as it is set, has no training data".into()));
    }
    let validated = data.batches(Split::Validation, batch_size) > 0 && !data.metrics().is_empty();
    let needs = [
        ("train.schedule", spec.train.schedule.is_some()),
        ("train.early_stopping", spec.train.early_stopping.is_some()),
        ("train.keep: best", spec.train.keep == Keep::Best),
    ];
    match needs.iter().find(|(_, needed)| *needed && !validated) {
        Some((key, _)) => {
            Err(Error::Usage(format!("`{key}` needs validation data, and the task, as it is set, has none")))
        }
        None => Ok(validated),
    }
}

impl Trainer {
    /// A trainer at its start: fresh weights, epoch 1, batch 0.
    ///
    /// # Errors
    /// Fails if the task has no training data, or no validation data where the spec needs them.
    pub fn new(spec: &Spec, interface: &Interface, data: Box<dyn Dataset>, seed: u64, device: Device) -> Result<Self> {
        let mut metrics = data.metrics();
        let wants_certainty = spec.record.as_ref().is_some_and(|record| record.certainty);
        if wants_certainty && !metrics.iter().any(|metric| metric.name == "certainty") {
            metrics.push(Metric::certainty());
        }
        if !check_data(spec, data.as_ref())? {
            metrics.clear();
        }
        let interface = match data.vocabulary() {
            Some(vocabulary) => interface.with_vocabulary(vocabulary.words().len()),
            None => interface.clone(),
        };
        let model = Model::new(&spec.model, &interface, seed, &device)?;
        let direction = metrics.first().map(|metric| metric.direction);
        Ok(Trainer {
            order: match spec.train.step_every {
                StepEvery::Batch => Order::SideBySide,
                StepEvery::Window => Order::Sequential,
            },
            updater: Updater::new(&spec.train, &model.params)?,
            gradients: Gradients::none(&model.params)?,
            plateau: direction.zip(spec.train.schedule.as_ref()).map(|(d, schedule)| ReduceOnPlateau::new(schedule, d)),
            stopping: direction
                .zip(spec.train.early_stopping.as_ref())
                .map(|(d, stopping)| EarlyStopping::new(stopping.patience, d)),
            recorder: spec.record.clone().map(Recorder::new),
            backend: backend::open(spec.run.backend, spec.run.threads, &device)?,
            carried: None,
            best: None,
            history: Vec::new(),
            cursor: Cursor::at(1),
            ledger: Ledger::default(),
            supply: Supply::new(&device),
            spec: spec.clone(),
            interface,
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
    pub fn start_from(&mut self, model: &ModelSpec, weights: &[(String, Tensor)]) -> Result<()> {
        self.model.adopt(model, &self.interface, weights)
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

    /// Trains until the end, or until the watcher says stop.
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
                let began = Instant::now();
                self.train_batch()?;
                // Elsewhere the numbers stay where they are until somebody has to know them.
                let loss = match apart(self.model.device()) {
                    true => None,
                    false => self.settle()?,
                };
                self.cursor.batch += 1;
                self.cursor.seconds += began.elapsed().as_secs_f64();
                let (epoch, batch) = (self.cursor.epoch, self.cursor.batch);
                if self.heed(watcher.batch(&Progress { epoch, epochs, batch, batches, loss })?, watcher)? {
                    return Ok(Outcome::Stopped);
                }
            }
            let (row, recordings) = self.end_epoch()?;
            if !recordings.is_empty() {
                watcher.recording(row.epoch, &recordings)?;
            }
            let next = watcher.epoch(&row, &metrics)?;
            if self.heed(next, watcher)? {
                return Ok(Outcome::Stopped);
            }
        }
        watcher.checkpoint(&self.checkpoint()?)?;
        Ok(Outcome::Finished(Box::new(self.finish(metrics)?)))
    }

    /// Does what the watcher wants; true is stop.
    fn heed(&mut self, next: Next, watcher: &mut dyn Watcher) -> Result<bool> {
        if next != Next::Continue {
            let began = Instant::now();
            self.settle()?;
            self.cursor.seconds += began.elapsed().as_secs_f64();
            watcher.checkpoint(&self.checkpoint()?)?;
        }
        Ok(next == Next::Stop)
    }

    /// Trains the batch at the cursor.
    fn train_batch(&mut self) -> Result<()> {
        let Cursor { epoch, batch: index, .. } = self.cursor;
        let train = &self.spec.train;
        let at = At { split: Split::Train, epoch, index, batch_size: train.batch_size };
        let mut batch = self.supply.batch(self.data.as_ref(), &self.model, &self.interface, at)?;
        let dropout = Dropout { input: self.spec.model.input_dropout, seed: self.seed, epoch, batch: index };
        if train.keep_hidden || dropout.is_active(&self.model) || self.model.encoder.is_some() {
            // Equal sequences do not stay equal, and batch normalisation counts each of them.
            batch = batch.expanded()?;
        }
        let sequence = Sequence::new(&self.model, &batch, Some(dropout))?;
        let steps = sequence.steps();
        let every = train.feedback_every.unwrap_or(1);
        let feedback =
            Feedback::new(&batch.targets, &self.interface, steps, every, sequence.rows(), self.model.device())?;
        let roles: Vec<Role> = self.model.synthesizers.iter().map(|slot| role(&slot.spec, epoch)).collect();
        let mut recorder = self.recorder.take_if(|recorder| recorder.wants(index));
        let window = train.window(steps);
        let asked = engine::Batch {
            sequence: &sequence,
            feedback: &feedback,
            window,
            roles: &roles,
            activity: train.activity_l2,
            trace: recorder.is_some(),
        };
        let fits = |layer: &Tensor| layer.dim(0).is_ok_and(|rows| rows == sequence.rows().count);
        let start = self.carried.take().filter(|state| state.iter().all(fits));
        let start = start.as_deref();
        if let Some(recorder) = &mut recorder {
            let truth = match recorder.wants_truth() {
                true => engine::true_gradients(&self.model, self.backend.as_ref(), &asked, start)?,
                false => Vec::new(),
            };
            recorder.begin(index, &self.model, sequence.rows(), truth)?;
        }

        let windows = engine::windows(steps, window);
        let mut losses = Vec::new();
        let mut squares = Vec::new();
        let mut seen = 0;
        let mut reached = vec![false; self.model.params.len()];
        let (model, updater) = (&self.model, &mut self.updater);
        let step_every_window = train.step_every == StepEvery::Window;
        let gradients = &mut self.gradients;
        gradients.clear();
        let end = engine::run(
            model,
            self.backend.as_ref(),
            self.order,
            &asked,
            start,
            gradients,
            &mut |group, gradients| {
                if let Some(recorder) = &mut recorder {
                    recorder.windows(model, &feedback, &windows, seen, &group.traces)?;
                }
                seen += group.traces.len();
                losses.push(group.losses);
                for (reached, present) in reached.iter_mut().zip(gradients.present()) {
                    *reached |= present;
                }
                if step_every_window {
                    squares.extend(updater.apply(model, &roles, gradients)?);
                    gradients.clear();
                }
                Ok(())
            },
        )?;
        if !step_every_window {
            squares.extend(updater.apply(model, &roles, gradients)?);
        }
        if let Some(mut recorder) = recorder {
            recorder.end(index)?;
            self.recorder = Some(recorder);
        }
        self.model.note_statistics(sequence.statistics())?;
        self.check_reached(&reached, &roles)?;
        if train.keep_hidden {
            self.carried = Some(end);
        }
        self.ledger.note(Entry {
            batch: index,
            rows: sequence.rows().sequences as f64,
            metric_scale: feedback.metric_scale(),
            original_scale: feedback.original_scale(),
            losses,
            squares,
        });
        Ok(())
    }

    /// Brings the numbers of the batches that were trained into the sums of the epoch, and gives the loss of the last one, in
    /// the unit of the validation metric.
    ///
    /// # Errors
    /// Names the first batch in which something is not finite.
    fn settle(&mut self) -> Result<Option<f64>> {
        let epoch = self.cursor.epoch;
        let mut last = None;
        for settled in self.ledger.settle(&self.model.params)? {
            if !settled.loss.is_finite() {
                return Err(self.diverged((epoch, Some(settled.batch + 1)), &format!("the loss is {}", settled.loss)));
            }
            if let Some(name) = &settled.culprit {
                return Err(
                    self.diverged((epoch, Some(settled.batch + 1)), &format!("the gradient of {name} is not finite"))
                );
            }
            self.cursor.rows += settled.rows;
            self.cursor.loss += settled.rows * settled.loss;
            self.cursor.original += settled.rows * settled.original;
            self.cursor.norm += settled.norm;
            self.cursor.steps += settled.steps;
            last = Some(settled.loss);
        }
        Ok(last)
    }

    /// Guards against parts of the graph through which no gradient flows: in the first batch of an epoch, every
    /// parameter that may learn in it must have received one in some window (zeros are fine).
    fn check_reached(&self, reached: &[bool], roles: &[Role]) -> Result<()> {
        if self.cursor.batch > 0 {
            return Ok(());
        }
        let may_learn = |part| match part {
            Part::Network | Part::Encoder => true,
            Part::Fixed => false,
            Part::Synthesizer(index) => roles[index] == Role::Learning,
        };
        let missed: Vec<&str> = (self.model.params.iter().zip(reached))
            .filter(|(parameter, reached)| may_learn(parameter.part) && !**reached)
            .map(|(parameter, _)| parameter.name.as_str())
            .collect();
        if missed.is_empty() {
            return Ok(());
        }
        Err(Error::Training(format!(
            "no gradient reaches {} in epoch {}: nothing that it computes has to do with a target",
            missed.join(", "),
            self.cursor.epoch
        )))
    }

    /// Validates, adjusts rate and best weights, and moves the cursor to the next epoch.
    fn end_epoch(&mut self) -> Result<(EpochRow, Vec<(String, Tensor)>)> {
        let began = Instant::now();
        self.settle()?;
        let epoch = self.cursor.epoch;
        let validation = self.measure(Split::Validation, epoch)?;
        if let Some((metric, value)) = self.metrics.iter().zip(&validation).find(|(_, value)| !value.is_finite()) {
            return Err(self.diverged((epoch, None), &format!("the validation metric {} is {value}", metric.name)));
        }
        let lr = self.updater.lr();
        let mut stop = epoch >= self.spec.train.epochs;
        if let (Some(metric), Some(&value)) = (self.metrics.first(), validation.first()) {
            if self.best.as_ref().is_none_or(|best| metric.direction.better(value, best.value)) {
                let weights = match self.spec.train.keep {
                    Keep::Best => self.model.params.snapshot()?,
                    Keep::Last => Vec::new(),
                };
                self.best = Some(Best { epoch, value, weights });
            }
            if let Some(plateau) = &mut self.plateau {
                self.updater.set_lr(plateau.observe(value, lr));
            }
            if let Some(stopping) = &mut self.stopping {
                stop |= stopping.observe(value);
            }
        }
        let extra = |name: &str, value| Extra { name: name.into(), value };
        let sums = self.cursor;
        let mut extras = vec![extra("learning_rate", lr), extra("grad_norm", sums.norm / sums.steps)];
        let (recordings, cosine) = self.recorder.as_mut().map_or_else(Default::default, Recorder::end_epoch);
        extras.extend(cosine.map(|cosine| extra("cosine", cosine)));
        let seconds = sums.seconds + began.elapsed().as_secs_f64();
        let row = EpochRow {
            epoch,
            train_loss: sums.loss / sums.rows,
            train_loss_original: sums.original / sums.rows,
            validation,
            seconds: (seconds * 1e6).round() / 1e6,
            extra: extras,
        };
        self.history.push(row.clone());
        self.carried = None;
        self.cursor = Cursor { over: stop, ..Cursor::at(epoch + 1) };
        Ok((row, recordings))
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
        let showcase = self.data.showcase()?.map(|showcase| show(&self.model, self.backend.as_ref(), showcase));
        Ok(Finished {
            history: self.history.clone(),
            metrics,
            best_epoch,
            kept_epoch,
            weights: self.model.params.read()?,
            exam: sit(&self.model, self.backend.as_ref(), self.data.as_ref())?,
            test: self.measure(Split::Test, 0)?,
            showcase: showcase.transpose()?,
        })
    }

    /// The metrics on a split; empty where it has no batches.
    fn measure(&mut self, split: Split, epoch: usize) -> Result<Vec<f64>> {
        let at = At { split, epoch, index: 0, batch_size: self.spec.train.batch_size };
        let from = (self.data.as_ref(), &mut self.supply);
        measure(&self.model, self.backend.as_ref(), &self.interface, from, &self.metrics, at)
    }

    /// What was trained last: epoch, and batch counted from 1.
    fn trained(&self) -> (usize, Option<usize>) {
        match self.cursor {
            Cursor { epoch, batch: 0, .. } => (epoch.saturating_sub(1), None),
            Cursor { epoch, batch, .. } => (epoch, Some(batch)),
        }
    }

    fn diverged(&self, (epoch, batch): (usize, Option<usize>), what: &str) -> Error {
        let batch = batch.map_or("its end".into(), |batch| format!("batch {batch}"));
        Error::Training(format!("epoch {epoch}, {batch}: {what}; a smaller learning rate or `train.clip` may help"))
    }
}
