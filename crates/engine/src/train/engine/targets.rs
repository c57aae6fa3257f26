//! Targets of synthesizers other than the gradient with which the network's own backward pass arrives at a window's start
//! (`dni.target`, `dni.gamma`).
//!
//! With `ℓ_w` the loss of window w, `J_w` the Jacobian of its last state in its first, and `S_w` the prediction at its end
//! (0 after the last window, except for `bootstrapped`):
//!
//! ```text
//! bootstrapped  G_w = ∂ℓ_w + γ S_w J_w
//! n_step        the same for n = 1; with n windows, γ G of the next window and n - 1 windows in place of γ S_w
//! lambda        G_w = ∂ℓ_w + γ ((1 - λ) S_w + λ G_{w+1}) J_w
//! monte_carlo   λ = 1
//! ```
//!
//! (Jaderberg et al. 2017; Pemberton and Costa 2024.) A layer without a synthesizer is cut at the windows' ends, as in training.

use std::ops::Range;

use candle_core::Tensor;

use super::{Batch, Role, backwards};
use crate::error::Result;
use crate::model::Model;
use crate::spec::{DniSpec, SynthesizerTarget};
use crate::train::backend::{Backend, Cotangents, Plan};

/// The targets at the starts of all windows, `[windows · batch, width]` per layer; `None` if they are those of the network's own
/// backward pass. All synthesizers have targets of one kind.
pub(super) fn of(
    model: &Model,
    backend: &dyn Backend,
    batch: &Batch<'_>,
    windows: &[Range<usize>],
    start: &[Tensor],
) -> Result<Option<Vec<Tensor>>> {
    let learning = model.synthesizers.iter().zip(batch.roles).filter(|(_, role)| **role == Role::Learning);
    let Some(spec) = learning.map(|(slot, _)| &slot.spec).find(|spec| spec.has_own_target()) else { return Ok(None) };
    let targets = Targets { model, backend, batch, windows, start, rows: batch.sequence.rows().count };
    let predictions = targets.predictions()?;
    match spec.target {
        SynthesizerTarget::Bootstrapped => targets.of_windows(&predictions, 1, true),
        SynthesizerTarget::NStep => targets.of_windows(&predictions, spec.windows.unwrap_or(1), false),
        SynthesizerTarget::MonteCarlo => targets.averaged(&predictions, 1.0),
        SynthesizerTarget::Lambda => targets.averaged(&predictions, spec.lambda.unwrap_or(1.0)),
    }
    .map(Some)
}

struct Targets<'a> {
    model: &'a Model,
    backend: &'a dyn Backend,
    batch: &'a Batch<'a>,
    windows: &'a [Range<usize>],
    start: &'a [Tensor],
    rows: usize,
}

impl Targets<'_> {
    fn spec(&self, layer: usize) -> Option<&DniSpec> {
        self.model.layers[layer].synthesizer.map(|index| &self.model.synthesizers[index].spec)
    }

    /// Unscaled predictions at the ends of the windows, `[windows · batch, width]` per layer that has a synthesizer in use.
    fn predictions(&self) -> Result<Vec<Option<Tensor>>> {
        let needs_backward = vec![false; self.windows.len()];
        let plan = Plan { windows: self.windows, needs_backward: &needs_backward, outputs: &[] };
        let (computed, _) = self.backend.forward(self.model, self.batch.sequence, plan, self.start)?;
        let predict = |(layer, states): (usize, &Tensor)| -> Result<Option<Tensor>> {
            let Some(index) = self.model.layers[layer].synthesizer else { return Ok(None) };
            if self.batch.roles[index] == Role::Lesioned {
                return Ok(None);
            }
            let context = self.model.synthesizers[index].site.context.map(|_| {
                let contexts = self.windows.iter().map(|window| self.batch.feedback.context(window.end));
                Ok::<_, crate::Error>(Tensor::cat(&contexts.collect::<Result<Vec<_>>>()?, 0)?)
            });
            let states = states.narrow(0, 1, self.windows.len())?.flatten(0, 1)?.contiguous()?;
            Ok(Some(self.backend.predict(self.model, index, &states, context.transpose()?.as_ref())?.values))
        };
        computed.boundaries.iter().enumerate().map(predict).collect()
    }

    /// The gradients of the losses of `count` windows, and predictions after them; `to_the_end` if there is one after the last
    /// window, too.
    fn of_windows(&self, predictions: &[Option<Tensor>], count: usize, to_the_end: bool) -> Result<Vec<Tensor>> {
        let mut beyond: Vec<Option<Tensor>> = predictions.to_vec();
        let last = (self.windows.len() - 1) * self.rows;
        let mut targets = Vec::new();
        for level in 0..count.min(self.windows.len()) {
            let ends = beyond.iter().enumerate().map(|(layer, beyond)| -> Result<Option<Tensor>> {
                let (Some(beyond), Some(spec)) = (beyond, self.spec(layer)) else { return Ok(None) };
                let shifted = match (level, to_the_end) {
                    (0, true) => beyond.clone(),
                    (0, false) => Tensor::cat(&[beyond.narrow(0, 0, last)?, self.zero(beyond)?], 0)?,
                    // What lies beyond the end of a window begins at the start of the next.
                    _ => Tensor::cat(&[beyond.narrow(0, self.rows, last)?, self.zero(beyond)?], 0)?,
                };
                Ok(Some((shifted * spec.gamma())?))
            });
            targets = self.pass(ends.collect::<Result<_>>()?)?;
            for (beyond, target) in beyond.iter_mut().zip(&targets).filter(|(beyond, _)| beyond.is_some()) {
                *beyond = Some(target.clone());
            }
        }
        Ok(targets)
    }

    fn zero(&self, like: &Tensor) -> Result<Tensor> {
        Ok(like.narrow(0, 0, self.rows)?.zeros_like()?)
    }

    /// The gradients at the starts of all windows, side by side, given the cotangents at their ends.
    fn pass(&self, ends: Vec<Option<Tensor>>) -> Result<Vec<Tensor>> {
        let needs_backward = vec![true; self.windows.len()];
        let span = self.windows[0].start..self.windows[self.windows.len() - 1].end;
        let steps = self.batch.feedback.steps(&span);
        let plan = Plan { windows: self.windows, needs_backward: &needs_backward, outputs: &steps };
        let (computed, pullback) = self.backend.forward(self.model, self.batch.sequence, plan, self.start)?;
        let (_, outputs) = self.batch.feedback.losses(computed.readout.as_ref(), &steps, self.windows)?;
        let cotangents =
            Cotangents { outputs, ends, activity: self.batch.activity, starts: true, ..Cotangents::default() };
        Ok(pullback.backward(&cotangents, None)?.starts)
    }

    /// The λ-weighted average of the targets of all numbers of windows.
    fn averaged(&self, predictions: &[Option<Tensor>], lambda: f64) -> Result<Vec<Tensor>> {
        let ends = |window: usize, next: &[Tensor]| -> Result<Vec<Option<Tensor>>> {
            let end = |(layer, next): (usize, &Tensor)| -> Result<Option<Tensor>> {
                let (Some(predicted), Some(spec)) = (&predictions[layer], self.spec(layer)) else { return Ok(None) };
                if window + 1 == self.windows.len() {
                    return Ok(None);
                }
                let predicted = predicted.narrow(0, window * self.rows, self.rows)?;
                let beyond = (predicted.affine(1.0 - lambda, 0.0)? + next.affine(lambda, 0.0)?)?;
                Ok(Some((beyond * spec.gamma())?))
            };
            next.iter().enumerate().map(end).collect()
        };
        let all = backwards(self.model, self.backend, self.batch, self.windows, self.start, &ends, None)?;
        let of_layer = |layer: usize| {
            let parts: Vec<&Tensor> = all.iter().map(|window| &window[layer]).collect();
            Ok(Tensor::cat(&parts, 0)?)
        };
        (0..self.model.layers.len()).map(of_layer).collect()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use serde_json::{Value, json};

    use super::super::{Order, run, true_gradients};
    use super::*;
    use crate::data::{self, Inputs};
    use crate::model::Plugins;
    use crate::nn::Gradients;
    use crate::rng::Stream;
    use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
    use crate::train::backend::Composed;
    use crate::train::device_batch::DeviceBatch;
    use crate::train::loss::Feedback;

    const STEPS: usize = 11;
    const ROWS: usize = 3;
    const WINDOW: usize = 3;
    const WINDOWS: usize = 4;

    fn random(width: usize, purpose: &str) -> Result<Tensor> {
        let mut stream = Stream::new(1, purpose, 0, 0);
        let numbers: Vec<f32> = (0..ROWS * STEPS * width).map(|_| stream.normal()).collect();
        Ok(Tensor::from_vec(numbers, (ROWS, STEPS, width), &Device::Cpu)?)
    }

    /// The targets at the starts of the windows that a synthesizer with these keys learns, and the true gradients there.
    fn targets(cell: &str, keys: Value) -> Result<[Vec<f32>; 2]> {
        let mut dni = json!({ "hidden": [], "init_last": "uniform", "scale": 0.3 });
        keys.as_object().into_iter().flatten().for_each(|(key, value)| dni[key] = value.clone());
        let spec = json!({ "layers": [{ "cell": cell, "hidden": 5, "dni": dni }] });
        let spec = serde_json::from_value(spec).expect("a valid model");
        let shape = TaskShape {
            input: Input::Dense { features: 2 },
            target: Target { kind: TargetKind::Values { size: 2 }, when: When::EveryStep },
            steps: Some(STEPS),
            validates: false,
        };
        let model = Model::new(&Plugins::built_in(), &spec, &shape, 1, &Device::Cpu)?;
        let batch = data::Batch::new(Inputs::Dense(random(2, "x")?), data::Targets::Values(random(2, "y")?));
        let sequence = DeviceBatch::new(&model, &batch, None)?;
        let feedback = Feedback::new(&batch.targets, &shape, STEPS, 1, sequence.rows(), &Device::Cpu)?;
        let (window, roles, activity, trace) = (WINDOW, [Role::Learning], 0.0, true);
        let batch = Batch { sequence: &sequence, feedback: &feedback, window, roles: &roles, activity, trace };
        let (mut gradients, mut found) = (Gradients::none(&model.params)?, Vec::new());
        run(&model, &Composed, Order::SideBySide, &batch, None, &mut gradients, &mut |group, _| {
            for trace in &group.traces {
                found.extend(trace.target[0].flatten_all()?.to_vec1::<f32>()?);
            }
            Ok(())
        })?;
        let mut truth = Vec::new();
        for window in true_gradients(&model, &Composed, &batch, None, None)? {
            truth.extend(window[0].flatten_all()?.to_vec1::<f32>()?);
        }
        Ok([found, truth])
    }

    #[track_caller]
    fn assert_equal(a: &[f32], b: &[f32]) {
        let largest = b.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        assert!(a.len() == b.len() && largest > 1e-3, "{largest}");
        let differ = a.iter().zip(b).position(|(a, b)| (a - b).abs() > 1e-5 * largest);
        assert_eq!(differ, None, "{a:?}\n{b:?}");
    }

    #[test]
    fn monte_carlo_is_the_true_gradient_and_the_limit_of_the_others() -> Result<()> {
        for cell in ["tanh", "lstm"] {
            let [found, truth] = targets(cell, json!({ "target": "monte_carlo", "gamma": 1.0 }))?;
            assert_equal(&found, &truth);
            for limit in [
                json!({ "target": "lambda", "lambda": 1.0, "gamma": 1.0 }),
                json!({ "target": "n_step", "windows": WINDOWS, "gamma": 1.0 }),
                json!({ "target": "n_step", "windows": 100, "gamma": 1.0 }),
            ] {
                assert_equal(&targets(cell, limit)?[0], &truth);
            }
        }
        Ok(())
    }

    #[test]
    fn one_window_is_bootstrapped_up_to_the_last() -> Result<()> {
        let own = targets("lstm", json!({}))?[0].clone();
        // Nearly the same discount, so that the target is computed apart from the network's own backward pass.
        assert_equal(&targets("lstm", json!({ "gamma": 0.300_000_001 }))?[0], &own);
        let one = targets("lstm", json!({ "target": "n_step", "windows": 1, "gamma": 0.7 }))?[0].clone();
        assert_equal(&targets("lstm", json!({ "target": "lambda", "lambda": 0.0, "gamma": 0.7 }))?[0], &one);
        let all = targets("lstm", json!({ "gamma": 0.7 }))?[0].clone();
        let last = one.len() / WINDOWS * (WINDOWS - 1);
        assert_equal(&all[..last], &one[..last]);
        assert!(all[last..] != one[last..], "after the last window, only the bootstrapped target has a prediction");
        Ok(())
    }

    #[test]
    fn an_average_is_of_targets_of_all_lengths() -> Result<()> {
        let lambda = 0.6f32;
        let n = |windows: usize| {
            Ok::<_, crate::Error>(
                targets("tanh", json!({ "target": "n_step", "windows": windows, "gamma": 0.8 }))?[0].clone(),
            )
        };
        let lengths = [n(1)?, n(2)?, n(3)?, n(4)?];
        let weights = [1.0 - lambda, (1.0 - lambda) * lambda, (1.0 - lambda) * lambda.powi(2), lambda.powi(3)];
        let expected: Vec<f32> = (0..lengths[0].len())
            .map(|at| lengths.iter().zip(weights).map(|(target, w)| w * target[at]).sum())
            .collect();
        assert_equal(&targets("tanh", json!({ "target": "lambda", "lambda": lambda, "gamma": 0.8 }))?[0], &expected);
        Ok(())
    }
}
