//! Training on one batch.

use std::time::Instant;

use candle_core::Tensor;

use super::feedforward::block_masks;
use super::{Cursor, Trainer};
use crate::data::{BatchIndex, Split};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::{Gradients, Part};
use crate::spec::StepEvery;
use crate::train::backend::Backend;
use crate::train::device::PendingBatch;
use crate::train::device_batch::{DeviceBatch, Dropout};
use crate::train::engine::{self, Order, Role, Trace};
use crate::train::feedforward;
use crate::train::loss::Feedback;
use crate::train::quality::LayerGradient;
use crate::train::record::Recorder;
use crate::train::update::{Updater, role};

/// A network that learns: of one seed, or of several as one.
pub(super) struct Network<'a> {
    pub model: &'a Model,
    pub backend: &'a dyn Backend,
    pub updater: &'a mut Updater,
    pub gradients: &'a mut Gradients,
}

/// The gradients at the inputs of steps, `[batch, width]`.
type InputsOfSteps = Vec<(usize, Tensor)>;

/// What else is done with a batch.
pub(super) struct Hooks<'a> {
    /// Gets the traces of each group of windows.
    pub group: &'a mut dyn FnMut(&Model, &[Trace]) -> Result<()>,
    /// Gets the gradients at the inputs, by step, before the update that follows, and adds gradients of its own.
    pub inputs: &'a mut dyn FnMut(InputsOfSteps, &mut Gradients) -> Result<()>,
}

/// What came of a batch.
pub(super) struct Learned {
    pub statistics: PendingBatch,
    /// Per parameter, whether it received a gradient.
    pub reached: Vec<bool>,
    /// The states at the end.
    pub end: Vec<Tensor>,
}

impl Network<'_> {
    /// Runs the windows of a batch, the epoch's `index`-th, from `start` and updates the parameters.
    pub fn learn(
        self,
        step_every: StepEvery,
        index: usize,
        batch: &engine::Batch<'_>,
        start: Option<&[Tensor]>,
        hooks: Hooks<'_>,
    ) -> Result<Learned> {
        let Network { model, backend, updater, gradients } = self;
        let order = match step_every {
            StepEvery::Batch => Order::SideBySide,
            StepEvery::Window | StepEvery::Step => Order::Sequential,
        };
        let (mut losses, mut squares, mut at_inputs) = (Vec::new(), Vec::new(), Vec::new());
        let mut reached = vec![false; model.params.len()];
        let step_every_window = step_every == StepEvery::Window;
        gradients.clear();
        let end = engine::run(model, backend, order, batch, start, gradients, &mut |group, gradients| {
            (hooks.group)(model, &group.traces)?;
            losses.push(group.losses);
            at_inputs.extend(group.inputs);
            if step_every_window && !at_inputs.is_empty() {
                (hooks.inputs)(std::mem::take(&mut at_inputs), gradients)?;
            }
            for (reached, present) in reached.iter_mut().zip(gradients.present()) {
                *reached |= present;
            }
            if step_every_window {
                squares.extend(updater.apply(model, batch.roles, gradients)?);
                gradients.clear();
            }
            Ok(())
        })?;
        (hooks.inputs)(at_inputs, gradients)?;
        if !step_every_window {
            reached.iter_mut().zip(gradients.present()).for_each(|(reached, present)| *reached |= present);
            squares.extend(updater.apply(model, batch.roles, gradients)?);
        }
        let statistics = PendingBatch {
            batch: index,
            rows: batch.sequence.rows().sequences as f64,
            metric_scale: batch.feedback.metric_scale(),
            original_scale: batch.feedback.original_scale(),
            losses,
            squares,
        };
        Ok(Learned { statistics, reached, end })
    }
}

impl Trainer {
    /// Trains on the batch at the cursor and advances the cursor. Returns the batch's loss, in the unit of the validation
    /// metric, if it is available without blocking.
    pub(super) fn train_batch(&mut self) -> Result<Option<f64>> {
        let began = Instant::now();
        self.model.at_epoch(self.cursor.epoch);
        let (sequence, feedback) = self.load_batch(false)?;
        let trained = match (self.online.take(), self.model.feed_forward()) {
            (Some(mut online), _) => {
                let trained = self.learn_online(&mut online, &sequence, &feedback);
                self.online = Some(online);
                trained?
            }
            (None, Some(_)) => self.learn_blocks(&sequence, &feedback)?,
            (None, None) => self.learn(&sequence, &feedback)?,
        };
        self.pending.push(trained);
        let ready = match self.data.curriculum() {
            Some(_) => self.pending.flush(&self.model.params)?,
            None => self.pending.ready(&self.model.params)?,
        };
        let loss = self.add_statistics(&ready)?;
        if let (Some(curriculum), Some(batch)) = (self.data.curriculum(), ready.last()) {
            self.cursor.level += usize::from(curriculum.is_mastered(self.cursor.level, batch.loss));
        }
        self.cursor.batch += 1;
        self.cursor.seconds += began.elapsed().as_secs_f64();
        Ok(loss)
    }

    /// The batch at the cursor: inputs with their dropout masks, and targets; with one row per sequence if `expanded`, or if it has to be.
    pub(super) fn load_batch(&mut self, expanded: bool) -> Result<(DeviceBatch, Feedback)> {
        let Cursor { epoch, batch: index, level, .. } = self.cursor;
        let train = &self.spec.train;
        let at = BatchIndex { split: Split::Train, epoch, index, batch_size: train.batch_size, level };
        let mut batch = self.loader.batch(self.data.as_ref(), &self.model, &self.shape, at)?;
        let dropout = Dropout { input: self.spec.model.input_dropout, seed: self.seed, epoch, batch: index };
        if expanded
            || train.keep_hidden
            || dropout.is_active(&self.model)
            || self.model.encoder.is_some()
            || self.model.blocks.is_some()
            || self.online.is_some()
        {
            // Equal sequences do not stay equal, batch normalisation weighs every sequence, and so do rules with traces.
            batch = batch.expanded()?;
        }
        let sequence = DeviceBatch::new(&self.model, &batch, Some(dropout))?;
        let (steps, every) = (sequence.steps(), train.feedback_every.unwrap_or(1));
        let feedback = Feedback::new(&batch.targets, &self.shape, steps, every, sequence.rows(), self.model.device())?;
        Ok((sequence, feedback))
    }

    /// Runs the windows of a batch, updates the parameters, and records what the spec requests.
    fn learn(&mut self, sequence: &DeviceBatch, feedback: &Feedback) -> Result<PendingBatch> {
        let Cursor { epoch, batch: index, .. } = self.cursor;
        let train = &self.spec.train;
        let roles: Vec<Role> = self.model.synthesizers.iter().map(|slot| role(&slot.spec, epoch)).collect();
        let mut recorder = self.recorder.take_if(|recorder| recorder.wants(index));
        let masks = block_masks(self.seed, self.cursor, self.model.device());
        let input = if self.model.blocks.is_some() { sequence.read_by_blocks()? } else { None };
        let blocks = input.as_ref().map(|input| {
            let (roles, masks) = (roles.as_slice(), &masks);
            feedforward::Batch { input, feedback, roles, masks, trace: false }
        });
        let mut below = blocks.as_ref().map(|batch| feedforward::Pass::forward(&self.model, batch)).transpose()?;
        let read = below.as_ref().map(|below| sequence.of_blocks(&below.outputs()?, true)).transpose()?;
        let sequence = read.as_ref().unwrap_or(sequence);
        let window = train.window(sequence.steps());
        let batch = engine::Batch {
            sequence,
            feedback,
            window,
            roles: &roles,
            activity: train.activity_l2,
            trace: recorder.is_some(),
        };
        let rows = sequence.rows();
        let fits = |layer: &Tensor| layer.dim(0).is_ok_and(|count| count == rows.count);
        let start = self.carried.take().filter(|state| state.iter().all(fits));
        if let Some(recorder) = &mut recorder {
            let still = engine::Batch { trace: false, ..batch };
            self.begin_recording(recorder, &batch, start.as_deref(), &mut |_, gradients| {
                let (model, order, start) = (&self.model, Order::SideBySide, start.as_deref());
                engine::run(model, self.backend.as_ref(), order, &still, start, gradients, &mut |_, _| Ok(())).map(drop)
            })?;
        }

        let windows = engine::windows(sequence.steps(), window);
        let (mut seen, mut statistics) = (0, sequence.statistics().to_vec());
        let network = Network {
            model: &self.model,
            backend: self.backend.as_ref(),
            updater: &mut self.updater,
            gradients: &mut self.gradients,
        };
        let hooks = Hooks {
            group: &mut |model, traces| {
                if let Some(recorder) = &mut recorder {
                    recorder.windows(model, feedback, &windows, seen, traces)?;
                }
                seen += traces.len();
                Ok(())
            },
            inputs: &mut |at_inputs, gradients| {
                if let Some(below) = below.take() {
                    let cotangent = sequence.at_blocks(at_inputs)?;
                    statistics.extend(below.learn(&cotangent, &mut self.delays, gradients)?.statistics);
                }
                Ok(())
            },
        };
        let learned = network.learn(train.step_every, index, &batch, start.as_deref(), hooks)?;
        if let Some(mut recorder) = recorder {
            recorder.end(index)?;
            self.recorder = Some(recorder);
        }
        self.model.note_statistics(&statistics)?;
        self.check_reached(&learned.reached, &roles)?;
        if train.keep_hidden {
            self.carried = Some(learned.end);
        }
        Ok(learned.statistics)
    }

    /// Starts a batch's recording, before its first update. `rule` adds the learning rule's gradients for a draw of its random
    /// numbers, and changes nothing.
    pub(super) fn begin_recording(
        &self,
        recorder: &mut Recorder,
        batch: &engine::Batch,
        start: Option<&[Tensor]>,
        rule: &mut dyn FnMut(usize, &mut Gradients) -> Result<()>,
    ) -> Result<()> {
        let (model, number, draws) = (&self.model, self.cursor.batch, recorder.draws());
        let mut true_gradient = Gradients::none(&model.params)?;
        let truth = match recorder.wants_truth() || draws > 0 {
            true => {
                let of_parameters = (draws > 0).then_some(&mut true_gradient);
                engine::true_gradients(model, self.backend.as_ref(), batch, start, of_parameters)?
            }
            false => Vec::new(),
        };
        recorder.begin(number, model, batch.sequence.rows(), truth)?;
        if draws == 0 {
            return Ok(());
        }
        let mut drawn = Vec::with_capacity(draws);
        for draw in 0..draws {
            let mut gradients = Gradients::none(&model.params)?;
            rule(draw, &mut gradients)?;
            drawn.push(gradients);
        }
        recorder.gradients(number, &LayerGradient::of_layers(model, &drawn, &true_gradient)?)
    }

    /// Guards against disconnected parts of the graph: in the first batch of an epoch, every trainable parameter must have
    /// received a gradient in some window (zeros are fine).
    pub(super) fn check_reached(&self, reached: &[bool], roles: &[Role]) -> Result<()> {
        if self.cursor.batch > 0 {
            return Ok(());
        }
        let may_learn = |part| match part {
            Part::Network | Part::Encoder => true,
            Part::Fixed => false,
            Part::Synthesizer(index) => roles[index] == Role::Learning,
        };
        let cut = |index: &usize| {
            let feedback = self.model.layers.iter().filter_map(|layer| layer.feedback.as_ref());
            feedback.filter(|feedback| !feedback.learns()).any(|feedback| feedback.params.contains(index))
        };
        let waits =
            |index: usize| self.model.blocks.as_ref().is_some_and(|network| network.may_wait(index)) || cut(&index);
        let missed: Vec<&str> = (self.model.params.iter().zip(reached).enumerate())
            .filter(|(index, (parameter, reached))| may_learn(parameter.part) && !**reached && !waits(*index))
            .map(|(_, (parameter, _))| parameter.name.as_str())
            .collect();
        if missed.is_empty() {
            return Ok(());
        }
        Err(Error::Training(format!(
            "no gradient reaches {} in epoch {}: no target depends on it",
            missed.join(", "),
            self.cursor.epoch
        )))
    }
}
