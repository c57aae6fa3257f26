//! Training on one batch by a learning rule that goes forward in time.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::{Cursor, Trainer};
use crate::error::Result;
use crate::nn::{Gradients, slices};
use crate::rng::Stream;
use crate::spec::StepEvery;
use crate::spec::task_shape::{TargetKind, When};
use crate::train::device::PendingBatch;
use crate::train::device_batch::DeviceBatch;
use crate::train::engine::{self, Role, Trace};
use crate::train::loss::{Feedback, Losses};
use crate::train::record::Recorder;
use crate::train::rules::{Errors, Noise, Online, Sequence, WindowEnd};
use crate::train::update::role;

/// The targets of a batch, for a rule.
struct Targets<'a> {
    feedback: &'a Feedback,
    width: usize,
    /// Per step, the factor on the gradient of its mean loss.
    factors: Vec<f64>,
    readout_factor: f32,
    losses: Vec<Losses>,
}

impl<'a> Targets<'a> {
    fn new(feedback: &'a Feedback, windows: &[std::ops::Range<usize>], online: &Online, kind: TargetKind) -> Self {
        let published = online.scaling().is_published();
        let of_window = |window: &std::ops::Range<usize>| {
            // The engine's loss is the mean over a window's targets, the published ones are sums of halves of squares.
            let factor = match (published, kind) {
                (false, _) => 1.0 / feedback.count(window).max(1) as f64,
                (true, TargetKind::Values { size }) => size as f64 / 2.0,
                (true, TargetKind::Bits { .. } | TargetKind::Classes { .. }) => 1.0,
            };
            vec![factor; window.len()]
        };
        let steps = windows.last().map_or(0, |window| window.end);
        let readout_factor = match (feedback.when(), kind) {
            (When::EveryStep | When::LastSteps, _) => 1.0 / feedback.count(&(0..steps)).max(1) as f32,
            (When::LastStep, TargetKind::Values { size } | TargetKind::Bits { size }) => 1.0 / size as f32,
            (When::LastStep, TargetKind::Classes { .. }) => 1.0,
        };
        let factors = windows.iter().flat_map(of_window).collect();
        Targets { feedback, width: online.sizes().outputs, factors, readout_factor, losses: Vec::new() }
    }
}

impl Errors for Targets<'_> {
    fn at(&mut self, step: usize, outputs: &[f32]) -> Result<Option<Vec<f32>>> {
        let here = step..step + 1;
        if self.feedback.count(&here) == 0 {
            return Ok(None);
        }
        let shape = (1, outputs.len() / self.width, self.width);
        let outputs = Tensor::from_slice(outputs, shape, &Device::Cpu)?;
        let (losses, gradient) = self.feedback.losses(Some(&outputs), &[step], std::slice::from_ref(&here))?;
        self.losses.push(losses);
        let factor = self.factors[step] as f32;
        let scaled = |gradient: Tensor| -> Result<Vec<f32>> {
            Ok(slices::read(&gradient.contiguous()?)?.iter().map(|error| factor * error).collect())
        };
        gradient.map(scaled).transpose()
    }

    fn target(&self, step: usize) -> Result<Vec<f32>> {
        Ok(self.feedback.context(step + 1)?.flatten_all()?.to_vec1()?)
    }

    fn readout_factor(&self) -> f32 {
        self.readout_factor
    }
}

fn flat(state: &Tensor) -> Result<Vec<f32>> {
    Ok(state.flatten_all()?.to_vec1()?)
}

impl Trainer {
    /// Starts a batch's recording. The rule's gradients are drawn with its traces and all parameters as they are, and these are left so.
    fn record_rule(
        &self,
        recorder: &mut Recorder,
        online: &mut Online,
        batch: &engine::Batch,
        (sequence, windows): (&Sequence, &[std::ops::Range<usize>]),
        (start, role): (Option<&[Tensor]>, Role),
    ) -> Result<()> {
        let Cursor { epoch, batch: index, .. } = self.cursor;
        let (kind, state) = (self.shape.target.kind, start.map(|state| flat(&state[0])).transpose()?);
        let traces = online.learner.state().into_iter().map(|stored| Ok((stored.name.into(), stored.tensor()?)));
        let traces: HashMap<String, Tensor> = traces.collect::<Result<_>>()?;
        let parameters = if recorder.draws() > 0 { self.model.params.snapshot()? } else { Vec::new() };
        self.begin_recording(recorder, batch, start, &mut |draw, gradients| {
            let mut targets = Targets::new(batch.feedback, windows, online, kind);
            let mut noise = Stream::new(self.seed, &format!("rule.draw{draw}"), epoch, index);
            let with = (role, &mut noise as &mut dyn Noise);
            let still = &mut |_: WindowEnd<'_>, _: &mut Gradients| Ok(());
            online.run(&self.model, sequence, &mut targets, windows, state.as_deref(), with, gradients, still)?;
            // A rule may have parameters of its own, and change those of a synthesizer.
            online.learner.restore(&traces)?;
            parameters.iter().enumerate().try_for_each(|(at, (_, value))| self.model.params.set(at, value))
        })
    }

    /// Runs a rule over a batch, updates the parameters, and records what the spec requests.
    pub(super) fn learn_online(
        &mut self,
        online: &mut Online,
        sequence: &DeviceBatch,
        feedback: &Feedback,
    ) -> Result<PendingBatch> {
        let Cursor { epoch, batch: index, .. } = self.cursor;
        let train = &self.spec.train;
        let steps = sequence.steps();
        let window = if train.step_every == StepEvery::Step { 1 } else { train.window(steps) };
        let windows = engine::windows(steps, window);
        let roles: Vec<Role> = self.model.synthesizers.iter().map(|slot| role(&slot.spec, epoch)).collect();
        let (rows, width) = (sequence.rows().count, self.model.layers[0].state_width());
        let fits = |state: &Tensor| state.dim(0).is_ok_and(|count| count == rows);
        let start = self.carried.take().filter(|state| state.iter().all(fits));
        let inputs = sequence.inputs(0..steps, None)?.contiguous()?;
        let inputs = slices::read(&inputs)?;
        let batch = Sequence { inputs: &inputs, steps, goes_on: train.keep_hidden };
        let role = roles.first().copied().unwrap_or(Role::Lesioned);
        let mut recorder = self.recorder.take_if(|recorder| recorder.wants(index));
        if let Some(recorder) = &mut recorder {
            let whole = engine::Batch { sequence, feedback, window, roles: &roles, activity: 0.0, trace: true };
            self.record_rule(recorder, online, &whole, (&batch, &windows), (start.as_deref(), role))?;
        }

        let start = start.map(|state| flat(&state[0])).transpose()?;
        let mut targets = Targets::new(feedback, &windows, online, self.shape.target.kind);
        let mut noise = Stream::new(self.seed, "rule.noise", epoch, index);
        let state = |values: &[f32]| Ok::<_, crate::Error>(Tensor::from_slice(values, (rows, width), &Device::Cpu)?);
        let (model, updater, gradients) = (&self.model, &mut self.updater, &mut self.gradients);
        let (updates_windows, mut squares) = (train.step_every != StepEvery::Batch, Vec::new());
        gradients.clear();
        let end = online.run(
            model,
            &batch,
            &mut targets,
            &windows,
            start.as_deref(),
            (role, &mut noise),
            gradients,
            &mut |done, gradients| {
                if let Some(recorder) = &mut recorder {
                    let [synthetic_start, synthetic_end] =
                        done.synthetic.map(|all| all.map(|values| state(&values)).transpose());
                    let trace = Trace {
                        start: vec![state(done.start)?],
                        end: vec![state(done.end)?],
                        synthetic_start: vec![synthetic_start?],
                        synthetic_end: vec![synthetic_end?],
                        target: Vec::new(),
                    };
                    recorder.windows(model, feedback, &windows, done.window, &[trace])?;
                }
                if updates_windows {
                    squares.extend(updater.apply(model, &roles, gradients)?);
                    gradients.clear();
                }
                Ok(())
            },
        )?;
        if !updates_windows {
            squares.extend(updater.apply(model, &roles, gradients)?);
        }
        if let Some(mut recorder) = recorder {
            recorder.end(index)?;
            self.recorder = Some(recorder);
        }
        if train.keep_hidden {
            self.carried = Some(vec![state(&end)?]);
        }
        Ok(PendingBatch {
            batch: index,
            rows: sequence.rows().sequences as f64,
            metric_scale: feedback.metric_scale(),
            original_scale: feedback.original_scale(),
            losses: targets.losses,
            squares,
        })
    }
}
