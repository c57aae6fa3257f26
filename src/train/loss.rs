//! Losses and their gradients at the outputs, window by window (`golden/README.md` section 4).
//!
//! A window's loss is the mean over the batch, the window's steps that carry a target and, for squared errors, the
//! coordinates. Every window enters the gradient with weight 1.

use std::ops::Range;

use candle_core::{D, DType, Device, Tensor};

use super::backend::Outputs;
use crate::data::Targets;
use crate::error::{Error, Result};
use crate::spec::interface::{Interface, TargetKind, When};

/// What a batch is trained to answer, and when.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// `[time, batch, width]` (time is 1 for a target at the last step): numbers, or classes as one-hot.
    target: Tensor,
    kind: TargetKind,
    outputs: Outputs,
    steps: usize,
    every: usize,
}

/// The loss of one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowLoss {
    /// Mean over everything that carries a target; 0 where nothing does.
    pub loss: f64,
    /// Steps that carry a target.
    pub targets: usize,
}

impl Feedback {
    /// The targets of a batch of `steps` steps, thinned to every `every`-th step.
    ///
    /// # Errors
    /// Fails if the targets are not what the task's interface promises.
    pub fn new(targets: &Targets, interface: &Interface, steps: usize, every: usize, device: &Device) -> Result<Self> {
        let kind = interface.target.kind;
        let target = match (targets, kind) {
            (Targets::Values(values), TargetKind::Values { .. }) => {
                values.to_device(device)?.transpose(0, 1)?.contiguous()?
            }
            (Targets::FinalValues(values), TargetKind::Values { .. }) => values.to_device(device)?.unsqueeze(0)?,
            (Targets::Classes(classes), TargetKind::Classes { count }) => {
                one_hot(&classes.to_device(device)?.t()?.contiguous()?, count)?
            }
            (Targets::FinalClass(classes), TargetKind::Classes { count }) => {
                one_hot(&classes.to_device(device)?.unsqueeze(0)?, count)?
            }
            _ => return Err(Error::Training("the task's targets are not of the kind that it promised".into())),
        };
        let outputs = match interface.target.when {
            When::EveryStep => Outputs::EveryStep,
            When::LastStep => Outputs::LastStep,
        };
        let expected = if outputs == Outputs::LastStep { 1 } else { steps };
        if target.dim(0)? != expected || target.dim(2)? != interface.target.width() {
            return Err(Error::Training(format!(
                "the task's targets are {:?} (time, batch, width) where {expected} steps of width {} were promised",
                target.dims(),
                interface.target.width()
            )));
        }
        Ok(Feedback { target, kind, outputs, steps, every })
    }

    /// At which steps the model has to answer.
    pub fn outputs(&self) -> Outputs {
        self.outputs
    }

    /// How many of some steps carry a target.
    pub fn count(&self, window: &Range<usize>) -> usize {
        match self.outputs {
            Outputs::LastStep => usize::from(window.contains(&(self.steps - 1))),
            Outputs::EveryStep => window.clone().filter(|t| t % self.every == 0).count(),
        }
    }

    /// The context of the states after `step` steps, for the synthesizer: the one target of the sequence, or the target
    /// of the step that produced the state, whether or not it carries feedback; at the start the first. `[batch, width]`
    pub fn context(&self, step: usize) -> Result<Tensor> {
        let index = match self.outputs {
            Outputs::LastStep => 0,
            Outputs::EveryStep => step.saturating_sub(1),
        };
        Ok(self.target.get(index)?)
    }

    /// Losses of the windows of a span, and the gradient of their sum at the span's `outputs`; no gradient where no
    /// window has a target.
    pub fn losses(
        &self,
        outputs: Option<&Tensor>,
        span: &Range<usize>,
        windows: &[Range<usize>],
    ) -> Result<(Vec<WindowLoss>, Option<Tensor>)> {
        let counts: Vec<usize> = windows.iter().map(|window| self.count(window)).collect();
        let (Some(outputs), true) = (outputs, counts.iter().any(|&n| n > 0)) else {
            return Ok((counts.iter().map(|_| WindowLoss { loss: 0.0, targets: 0 }).collect(), None));
        };
        let (target, first) = match self.outputs {
            Outputs::LastStep => (self.target.clone(), self.steps - 1),
            Outputs::EveryStep => (self.target.narrow(0, span.start, span.len())?, span.start),
        };
        let batch = target.dim(1)? as f64;
        // Loss of each step, and its gradient, as if it were alone.
        let (per_step, gradient) = match self.kind {
            TargetKind::Values { size } => {
                let difference = (outputs - target)?;
                let elements = batch * size as f64;
                (((difference.sqr()?.sum((1, 2))?) / elements)?, (difference * (2.0 / elements))?)
            }
            TargetKind::Classes { .. } => {
                let log_p = candle_nn::ops::log_softmax(outputs, D::Minus1)?;
                let gradient = ((log_p.exp()? - &target)? / batch)?;
                (((log_p * target)?.sum((1, 2))? / -batch)?, gradient)
            }
        };
        let per_step = per_step.to_vec1::<f32>()?;
        let mut weights = vec![0f32; per_step.len()];
        let mut losses = Vec::with_capacity(windows.len());
        for (window, &targets) in windows.iter().zip(&counts) {
            let mut loss = 0.0;
            for step in window.clone().filter(|&step| step >= first && self.count(&(step..step + 1)) > 0) {
                loss += f64::from(per_step[step - first]) / targets as f64;
                weights[step - first] = 1.0 / targets as f32;
            }
            losses.push(WindowLoss { loss, targets });
        }
        let weights = Tensor::from_vec(weights, (per_step.len(), 1, 1), outputs.device())?;
        Ok((losses, Some(gradient.broadcast_mul(&weights)?)))
    }

    /// Factor from a window's mean loss to the unit of the validation metric: squared errors sum over coordinates.
    pub fn metric_scale(&self) -> f64 {
        match self.kind {
            TargetKind::Values { size } => size as f64,
            TargetKind::Classes { .. } => 1.0,
        }
    }

    /// Factor on `Σ n_w ℓ_w` in the original's reported loss: 2 for squared errors whatever the number of coordinates,
    /// over the whole length even where targets are sparse.
    pub fn original_scale(&self) -> f64 {
        let squared = if matches!(self.kind, TargetKind::Values { .. }) { 2.0 } else { 1.0 };
        match self.outputs {
            Outputs::LastStep => squared,
            Outputs::EveryStep => squared / self.steps as f64,
        }
    }
}

/// Classes `[.., n]` to `[.., n, count]`.
fn one_hot(classes: &Tensor, count: usize) -> Result<Tensor> {
    let largest = classes.flatten_all()?.max(0)?.to_scalar::<u32>()?;
    if largest as usize >= count {
        return Err(Error::Training(format!("the task gave class {largest}, but promised {count} classes")));
    }
    Ok(candle_nn::encoding::one_hot(classes.clone(), count, 1f32, 0f32)?.to_dtype(DType::F32)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::interface::{Input, Target};

    fn interface(kind: TargetKind, when: When) -> Interface {
        Interface { input: Input::Dense { features: 1 }, target: Target { kind, when }, steps: None }
    }

    #[test]
    fn a_window_without_targets_has_no_loss_and_no_gradient() -> Result<()> {
        let targets = Targets::Values(Tensor::zeros((1, 4, 2), DType::F32, &Device::Cpu)?);
        let interface = interface(TargetKind::Values { size: 2 }, When::EveryStep);
        let feedback = Feedback::new(&targets, &interface, 4, 2, &Device::Cpu)?;
        let outputs = Tensor::ones((4, 1, 2), DType::F32, &Device::Cpu)?;
        let windows = [0..1, 1..2, 2..4];
        let (losses, gradient) = feedback.losses(Some(&outputs), &(0..4), &windows)?;
        assert_eq!(losses.iter().map(|w| (w.loss, w.targets)).collect::<Vec<_>>(), [(1.0, 1), (0.0, 0), (1.0, 1)]);
        let gradient = gradient.map(|g| g.to_vec3::<f32>()).transpose()?.unwrap_or_default();
        assert_eq!(gradient.iter().map(|step| step[0][0]).collect::<Vec<_>>(), [1.0, 0.0, 1.0, 0.0]);
        let silent = 1..2;
        assert!(feedback.losses(Some(&outputs), &silent, std::slice::from_ref(&silent))?.1.is_none());
        Ok(())
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() -> Result<()> {
        let targets = Targets::Classes(Tensor::new(&[[0u32, 2], [1, 1]], &Device::Cpu)?);
        let interface = interface(TargetKind::Classes { count: 3 }, When::EveryStep);
        let feedback = Feedback::new(&targets, &interface, 2, 1, &Device::Cpu)?;
        let values = [0.1f32, -0.4, 0.3, 1.2, 0.0, -0.7, 0.5, 0.5, 0.2, -1.0, 0.4, 0.9];
        let sum = |values: &[f32]| -> Result<(f64, Vec<f32>)> {
            let outputs = Tensor::from_slice(values, (2, 2, 3), &Device::Cpu)?;
            let (losses, gradient) = feedback.losses(Some(&outputs), &(0..2), &[0..1, 1..2])?;
            let gradient = gradient.map(|g| g.flatten_all()?.to_vec1()).transpose()?.unwrap_or_default();
            Ok((losses.iter().map(|w| w.loss).sum(), gradient))
        };
        let (_, gradient) = sum(&values)?;
        for index in 0..values.len() {
            let mut moved = values;
            moved[index] += 1e-2;
            let above = sum(&moved)?.0;
            moved[index] -= 2e-2;
            let slope = (above - sum(&moved)?.0) / 2e-2;
            assert!((slope - f64::from(gradient[index])).abs() < 1e-3, "{index}: {slope} {}", gradient[index]);
        }
        Ok(())
    }

    #[test]
    fn a_context_is_the_target_of_the_step_before() -> Result<()> {
        let targets = Targets::Values(Tensor::new(&[[[1f32], [2.], [3.]]], &Device::Cpu)?);
        let interface = interface(TargetKind::Values { size: 1 }, When::EveryStep);
        let feedback = Feedback::new(&targets, &interface, 3, 1, &Device::Cpu)?;
        let at = |step| -> Result<f32> { Ok(feedback.context(step)?.to_vec2::<f32>()?[0][0]) };
        assert_eq!([at(0)?, at(1)?, at(2)?, at(3)?], [1.0, 1.0, 2.0, 3.0]);
        Ok(())
    }
}
