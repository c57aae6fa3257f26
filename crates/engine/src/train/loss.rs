//! Losses and their gradients at the outputs, window by window.
//!
//! A window's loss is the mean over the batch, the window's steps that carry a target and, for squared errors, the
//! coordinates. Every window enters the gradient with weight 1.

use std::ops::Range;

use candle_core::{D, DType, Device, Tensor};

use super::rows::{Rows, alternate};
use crate::data::{Targets, binary_cross_entropy};
use crate::error::{Error, Result};
use crate::nn::kernel::{Threads, softmax};
use crate::nn::{Numbers, constant, on_slices, slices};
use crate::spec::task_shape::{TargetKind, TaskShape, When};

/// The targets of a batch, and the steps at which they apply.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// Numbers, `[time, batch, size]`, or classes, `[time, batch]`, at the steps from `first` on.
    target: Tensor,
    first: usize,
    kind: TargetKind,
    when: When,
    steps: usize,
    every: usize,
    /// How many sequences each row stands for, `[batch, 1]`; absent if always one.
    multiplicity: Option<Tensor>,
    sequences: usize,
    /// Number of seeds between which rows alternate.
    seeds: usize,
}

/// The loss of one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowLoss {
    /// Mean over everything that carries a target; 0 if nothing does.
    pub loss: f64,
    /// Steps that carry a target.
    pub targets: usize,
}

/// The losses of windows that ran together, possibly still on a device.
#[derive(Debug, Clone)]
pub struct Losses {
    /// Per step that carries a target, in the order of the windows, one per seed.
    pub(super) per_step: Numbers,
    /// Per window, the number of steps that carry a target.
    counts: Vec<usize>,
    seeds: usize,
}

impl Losses {
    /// Reads the losses, one per window; may block on a device.
    ///
    /// # Errors
    /// Fails on a device error.
    pub fn read(&self) -> Result<Vec<WindowLoss>> {
        self.read_seed(0)
    }

    /// [`Losses::read`] of one of several seeds.
    ///
    /// # Errors
    /// Fails on a device error.
    pub fn read_seed(&self, seed: usize) -> Result<Vec<WindowLoss>> {
        let mut steps = self.per_step.read()?.into_iter().skip(seed).step_by(self.seeds);
        let window = |&targets: &usize| {
            let sum: f64 = steps.by_ref().take(targets).sum();
            WindowLoss { loss: if targets == 0 { 0.0 } else { sum / targets as f64 }, targets }
        };
        Ok(self.counts.iter().map(window).collect())
    }
}

impl Feedback {
    /// The targets of a batch of `steps` steps, thinned to every `every`-th step.
    ///
    /// # Errors
    /// Fails if the targets do not match the task's shape.
    pub fn new(
        targets: &Targets,
        shape: &TaskShape,
        steps: usize,
        every: usize,
        rows: &Rows,
        device: &Device,
    ) -> Result<Self> {
        let (kind, when) = (shape.target.kind, shape.target.when);
        let target = match (targets, kind, when) {
            (
                Targets::Values(values),
                TargetKind::Values { .. } | TargetKind::Bits { .. },
                When::EveryStep | When::LastSteps,
            ) => values.transpose(0, 1)?,
            (Targets::FinalValues(values), TargetKind::Values { .. } | TargetKind::Bits { .. }, When::LastStep) => {
                values.unsqueeze(0)?
            }
            (Targets::Classes(classes), TargetKind::Classes { count }, When::EveryStep | When::LastSteps) => {
                check_classes(classes, count)?;
                classes.t()?
            }
            (Targets::FinalClass(classes), TargetKind::Classes { count }, When::LastStep) => {
                check_classes(classes, count)?;
                classes.unsqueeze(0)?
            }
            _ => return Err(Error::Training("the task's targets are not of the kind that its shape declares".into())),
        };
        let time = match when {
            When::EveryStep => steps,
            When::LastSteps => target.dim(0)?.clamp(1, steps),
            When::LastStep => 1,
        };
        let mut expected = vec![time, rows.count];
        if let TargetKind::Values { size } | TargetKind::Bits { size } = kind {
            expected.push(size);
        }
        if target.dims() != expected {
            return Err(Error::Training(format!(
                "the task's targets are {:?} (time, batch, width) instead of {expected:?}",
                target.dims(),
            )));
        }
        Ok(Feedback {
            target: target.contiguous()?.to_device(device)?,
            first: steps - time,
            kind,
            when,
            steps,
            every,
            multiplicity: rows.column(device)?,
            sequences: rows.sequences,
            seeds: rows.seeds,
        })
    }

    /// The targets of several seeds, which alternate along the batch as their rows do.
    ///
    /// # Errors
    /// Fails if their shapes differ.
    pub fn of_seeds(seeds: &[Feedback]) -> Result<Feedback> {
        let [first, ..] = seeds else { return Err(Error::Training("targets of no seed".into())) };
        let targets: Vec<&Tensor> = seeds.iter().map(|one| &one.target).collect();
        Ok(Feedback { target: alternate(&targets, 1)?, seeds: seeds.len(), ..first.clone() })
    }

    /// The same targets, each this many steps later; those that would come after the sequence are left out.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn delayed(&self, steps: usize) -> Result<Feedback> {
        if steps == 0 {
            return Ok(self.clone());
        }
        let kept = self.target.dim(0)?.saturating_sub(steps);
        let target = self.target.narrow(0, 0, kept)?;
        Ok(Feedback { target, first: self.steps - kept, when: When::LastSteps, ..self.clone() })
    }

    /// When the task has targets.
    pub fn when(&self) -> When {
        self.when
    }

    /// The steps of a span that carry a target.
    pub fn steps(&self, span: &Range<usize>) -> Vec<usize> {
        match self.when {
            When::LastStep => span.clone().filter(|&step| step + 1 == self.steps).collect(),
            When::EveryStep | When::LastSteps => {
                (span.start.max(self.first)..span.end).filter(|step| step % self.every == 0).collect()
            }
        }
    }

    /// How many steps of a window carry a target.
    pub fn count(&self, window: &Range<usize>) -> usize {
        match self.when {
            When::LastStep => usize::from(window.contains(&(self.steps - 1))),
            When::EveryStep | When::LastSteps => {
                let start = window.start.max(self.first).min(window.end);
                window.end.div_ceil(self.every) - start.div_ceil(self.every)
            }
        }
    }

    /// The synthesizer's context for the states after `step` steps, `[batch, width]`: the sequence's only target, or the
    /// target of the step that produced the state (the first one before it), whether or not that step carries feedback.
    /// Classes are one-hot.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn context(&self, step: usize) -> Result<Tensor> {
        let index = match self.when {
            When::LastStep => 0,
            When::EveryStep | When::LastSteps => step.saturating_sub(1 + self.first),
        };
        let target = self.target.get(index)?;
        match self.kind {
            TargetKind::Values { .. } | TargetKind::Bits { .. } => Ok(target),
            TargetKind::Classes { count } => one_hot(&target, count),
        }
    }

    /// Losses of the windows of a span, and the gradient of their sum at the outputs, per sequence; `None` if no window has
    /// a target. `outputs` are those at `steps` ([`Feedback::steps`] of the span), `[steps, batch, width]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn losses(
        &self,
        outputs: Option<&Tensor>,
        steps: &[usize],
        windows: &[Range<usize>],
    ) -> Result<(Losses, Option<Tensor>)> {
        let counts: Vec<usize> = windows.iter().map(|window| self.count(window)).collect();
        let (Some(outputs), false) = (outputs, steps.is_empty()) else {
            return Ok((Losses { per_step: Numbers::Read(Vec::new()), counts, seeds: self.seeds }, None));
        };
        let target = self.targets_at(steps)?;
        let weighted = |squares: Tensor| match &self.multiplicity {
            Some(weights) => squares.broadcast_mul(weights),
            None => Ok(squares),
        };
        let batch = self.sequences as f64;
        // Averages over each window.
        let weights: Vec<f32> =
            counts.iter().flat_map(|&targets| std::iter::repeat_n(1.0 / targets as f32, targets)).collect();
        let (per_step, gradient) = match self.kind {
            TargetKind::Values { size } => {
                let difference = (outputs - target)?;
                let elements = batch * size as f64;
                let losses = (self.of_steps(weighted(difference.sqr()?)?)? / elements)?;
                (losses, weigh((difference * (2.0 / elements))?, &weights)?)
            }
            TargetKind::Bits { size } => {
                let (losses, gradient) = binary_cross_entropy(outputs, &target)?;
                let elements = batch * size as f64;
                ((self.of_steps(weighted(losses)?)? / elements)?, weigh((gradient / elements)?, &weights)?)
            }
            TargetKind::Classes { .. } => {
                let (losses, gradient) = match on_slices(outputs) {
                    true => cross_entropy_on_cpu(outputs, &target, batch, &weights)?,
                    false => cross_entropy(outputs, &target, batch, &weights)?,
                };
                ((self.of_steps(weighted(losses)?)? / batch)?, gradient)
            }
        };
        Ok((Losses { per_step: Numbers::of(per_step)?, counts, seeds: self.seeds }, Some(gradient)))
    }

    /// The sums of each step and seed, `[steps · seeds]`, of `[steps, batch, width]`.
    fn of_steps(&self, losses: Tensor) -> Result<Tensor> {
        if self.seeds == 1 {
            return Ok(losses.sum((1, 2))?);
        }
        let (steps, batch, width) = losses.dims3()?;
        Ok(losses.reshape((steps, batch / self.seeds, self.seeds, width))?.sum((1, 3))?.flatten_all()?)
    }

    /// The targets at some steps, time first.
    fn targets_at(&self, steps: &[usize]) -> Result<Tensor> {
        if steps.len() == self.steps - self.first {
            return Ok(self.target.clone());
        }
        let indices: Vec<u32> = steps.iter().map(|&step| (step - self.first) as u32).collect();
        Ok(self.target.index_select(&constant(indices, &[steps.len()], self.target.device())?, 0)?)
    }

    /// Factor from a window's mean loss to the unit of the validation metric: squared errors sum over coordinates.
    pub fn metric_scale(&self) -> f64 {
        match self.kind {
            TargetKind::Values { size } => size as f64,
            TargetKind::Bits { .. } | TargetKind::Classes { .. } => 1.0,
        }
    }

    /// Factor on `Σ n_w ℓ_w` in the loss that the original code reports: 2 for squared errors whatever the number of
    /// coordinates, divided by the sequence length even if targets are sparse.
    pub fn original_scale(&self) -> f64 {
        let squared = if matches!(self.kind, TargetKind::Values { .. }) { 2.0 } else { 1.0 };
        match self.when {
            When::LastStep => squared,
            When::EveryStep | When::LastSteps => squared / self.steps as f64,
        }
    }
}

/// Classes `[batch]` as one-hot rows, `[batch, count]`. candle's own reads the classes back from the device.
fn one_hot(classes: &Tensor, count: usize) -> Result<Tensor> {
    let all = constant((0..count as u32).collect(), &[1, count], classes.device())?;
    Ok(classes.unsqueeze(1)?.broadcast_eq(&all)?.to_dtype(DType::F32)?)
}

/// Multiplies `[steps, batch, width]` by the weight of each step.
fn weigh(gradient: Tensor, weights: &[f32]) -> Result<Tensor> {
    if weights.iter().all(|&weight| weight == 1.0) {
        return Ok(gradient);
    }
    let weights = constant(weights.to_vec(), &[weights.len(), 1, 1], gradient.device())?;
    Ok(gradient.broadcast_mul(&weights)?)
}

/// The cross-entropy, `[steps, batch, 1]`, of logits `[steps, batch, classes]` for classes `[steps, batch]`, and its
/// gradient at the logits, divided by `batch` and multiplied by the weight of each step: the definition.
fn cross_entropy(logits: &Tensor, classes: &Tensor, batch: f64, weights: &[f32]) -> Result<(Tensor, Tensor)> {
    let classes = classes.unsqueeze(2)?;
    let log_p = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    let minus_one = classes.to_dtype(DType::F32)?.ones_like()?.neg()?;
    let gradient = log_p.exp()?.scatter_add(&classes, &minus_one, 2)?;
    Ok((log_p.gather(&classes, 2)?.neg()?, weigh((gradient / batch)?, weights)?))
}

/// [`cross_entropy`] in one pass over slices.
fn cross_entropy_on_cpu(logits: &Tensor, classes: &Tensor, batch: f64, weights: &[f32]) -> Result<(Tensor, Tensor)> {
    let (steps, rows, width) = logits.dims3()?;
    let classes = classes.flatten_all()?.to_vec1()?;
    let factors: Vec<[f32; 2]> =
        weights.iter().flat_map(|&weight| std::iter::repeat_n([(1.0 / batch) as f32, weight], rows)).collect();
    let logits = logits.contiguous()?;
    let (losses, gradient) = softmax::cross_entropy(Threads::of_pool(), &slices::read(&logits)?, &classes, &factors);
    let losses = Tensor::from_vec(losses, (steps, rows, 1), logits.device())?;
    Ok((losses, Tensor::from_vec(gradient, (steps, rows, width), logits.device())?))
}

/// Checks that every class is below `count`. On a device nothing is checked, since reading would block: the loader checks
/// batches before the upload.
pub(super) fn check_classes(classes: &Tensor, count: usize) -> Result<()> {
    if !classes.device().is_cpu() {
        return Ok(());
    }
    match classes.flatten_all()?.to_vec1::<u32>()?.into_iter().find(|&class| class as usize >= count) {
        Some(class) => Err(Error::Training(format!("the task gave class {class}, but declares {count} classes"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::task_shape::{Input, Target};

    /// One row per sequence.
    fn rows(count: usize) -> Rows {
        Rows { count, sequences: count, multiplicity: None, repetition: None, seeds: 1 }
    }

    fn shape(kind: TargetKind, when: When) -> TaskShape {
        let input = Input::Dense { features: 1 };
        TaskShape { input, target: Target { kind, when }, steps: None, validates: true }
    }

    #[test]
    fn a_window_without_targets_has_no_loss_and_no_gradient() -> Result<()> {
        let targets = Targets::Values(Tensor::zeros((1, 4, 2), DType::F32, &Device::Cpu)?);
        let shape = shape(TargetKind::Values { size: 2 }, When::EveryStep);
        let feedback = Feedback::new(&targets, &shape, 4, 2, &rows(1), &Device::Cpu)?;
        let windows = [0..1, 1..2, 2..4];
        let steps = feedback.steps(&(0..4));
        assert_eq!(steps, [0, 2]);
        let outputs = Tensor::ones((2, 1, 2), DType::F32, &Device::Cpu)?;
        let (losses, gradient) = feedback.losses(Some(&outputs), &steps, &windows)?;
        let losses = losses.read()?;
        assert_eq!(losses.iter().map(|w| (w.loss, w.targets)).collect::<Vec<_>>(), [(1.0, 1), (0.0, 0), (1.0, 1)]);
        let gradient = gradient.map(|g| g.to_vec3::<f32>()).transpose()?.unwrap_or_default();
        assert_eq!(gradient.iter().map(|step| step[0][0]).collect::<Vec<_>>(), [1.0, 1.0]);
        let no_target = 1..2;
        assert!(feedback.losses(None, &feedback.steps(&no_target), std::slice::from_ref(&no_target))?.1.is_none());
        Ok(())
    }

    /// The loss of outputs of this shape, whose gradient is compared with finite differences.
    fn loss_with_checked_gradient(
        feedback: &Feedback,
        values: &[f32],
        shape: (usize, usize, usize),
        steps: &[usize],
        windows: &[Range<usize>],
    ) -> Result<f64> {
        let sum = |values: &[f32]| -> Result<(f64, Vec<f32>)> {
            let outputs = Tensor::from_slice(values, shape, &Device::Cpu)?;
            let (losses, gradient) = feedback.losses(Some(&outputs), steps, windows)?;
            let gradient = gradient.map(|g| g.flatten_all()?.to_vec1()).transpose()?.unwrap_or_default();
            Ok((losses.read()?.iter().map(|w| w.loss).sum(), gradient))
        };
        let (loss, gradient) = sum(values)?;
        for index in 0..values.len() {
            let mut moved = values.to_vec();
            moved[index] += 1e-2;
            let above = sum(&moved)?.0;
            moved[index] -= 2e-2;
            let slope = (above - sum(&moved)?.0) / 2e-2;
            assert!((slope - f64::from(gradient[index])).abs() < 1e-3, "{index}: {slope} {}", gradient[index]);
        }
        Ok(loss)
    }

    #[test]
    fn bits_at_the_last_steps_have_the_gradient_of_their_cross_entropy() -> Result<()> {
        let targets = Targets::Values(Tensor::new(&[[[1f32, 0.], [0., 1.]]], &Device::Cpu)?);
        let shape = shape(TargetKind::Bits { size: 2 }, When::LastSteps);
        let feedback = Feedback::new(&targets, &shape, 5, 1, &rows(1), &Device::Cpu)?;
        let windows = [0..2, 2..4, 4..5];
        assert_eq!((feedback.steps(&(0..5)), feedback.steps(&(2..4))), (vec![3, 4], vec![3]));
        assert_eq!(windows.each_ref().map(|window| feedback.count(window)), [0, 1, 1]);
        let values = [0.3f32, -1.2, 40.0, 0.5];
        let loss = loss_with_checked_gradient(&feedback, &values, (2, 1, 2), &[3, 4], &windows)?;
        let bit = |z: f64, y: f64| z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
        let expected = (bit(0.3, 1.0) + bit(-1.2, 0.0) + bit(40.0, 0.0) + bit(0.5, 1.0)) / 2.0;
        assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
        Ok(())
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() -> Result<()> {
        let targets = Targets::Classes(Tensor::new(&[[0u32, 2], [1, 1]], &Device::Cpu)?);
        let shape = shape(TargetKind::Classes { count: 3 }, When::EveryStep);
        let feedback = Feedback::new(&targets, &shape, 2, 1, &rows(2), &Device::Cpu)?;
        let values = [0.1f32, -0.4, 0.3, 1.2, 0.0, -0.7, 0.5, 0.5, 0.2, -1.0, 0.4, 0.9];
        loss_with_checked_gradient(&feedback, &values, (2, 2, 3), &[0, 1], &[0..1, 1..2])?;
        Ok(())
    }

    #[test]
    fn the_cross_entropy_is_the_same_by_kernel_and_by_tensors() -> Result<()> {
        let values: Vec<f32> = (0..2 * 3 * 21).map(|i| 5.0 * (i as f32 * 0.7).sin()).collect();
        let logits = Tensor::from_vec(values, (2, 3, 21), &Device::Cpu)?;
        let classes = Tensor::new(&[[0u32, 20, 7], [3, 3, 16]], &Device::Cpu)?;
        let by_kernel = cross_entropy_on_cpu(&logits, &classes, 3.0, &[0.5, 1.0])?;
        let by_tensors = cross_entropy(&logits, &classes, 3.0, &[0.5, 1.0])?;
        for (a, b) in [(by_kernel.0, by_tensors.0), (by_kernel.1, by_tensors.1)] {
            assert_eq!(a.dims(), b.dims());
            assert!((a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()? < 1e-5);
        }
        Ok(())
    }

    #[test]
    fn a_context_is_the_target_of_the_step_before() -> Result<()> {
        let targets = Targets::Values(Tensor::new(&[[[1f32], [2.], [3.]]], &Device::Cpu)?);
        let shape = shape(TargetKind::Values { size: 1 }, When::EveryStep);
        let feedback = Feedback::new(&targets, &shape, 3, 1, &rows(1), &Device::Cpu)?;
        let at = |step| -> Result<f32> { Ok(feedback.context(step)?.to_vec2::<f32>()?[0][0]) };
        assert_eq!([at(0)?, at(1)?, at(2)?, at(3)?], [1.0, 1.0, 2.0, 3.0]);
        Ok(())
    }
}
