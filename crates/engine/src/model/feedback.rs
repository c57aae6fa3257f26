//! Activity feedback of a recurrent layer: `c = C(h)` of its output before a step, beside its input.

use candle_core::{D, DType, Tensor};

use super::{Model, Weights};
use crate::error::Result;
use crate::nn::{Linear, relu};
use crate::spec::task_shape::TargetKind;
use crate::spec::{FeedbackKind, FeedbackSpec};

/// The feedback of a layer.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// Its spec.
    pub spec: FeedbackSpec,
    /// Indices of the parameters of a cerebellum, in pairs of weight and bias.
    pub params: Vec<usize>,
    /// What its outputs are: of classes and bits, logits, whose probabilities are fed back.
    pub outputs: TargetKind,
    /// Whether it is cut in the present epoch.
    pub lesioned: bool,
}

impl Feedback {
    /// The outputs of C, `[rows, width]`, at the layer's outputs, `[rows, hidden]`: logits for classes.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn outputs(&self, model: &Model, h: &Tensor, weights: Weights<'_>) -> Result<Tensor> {
        if self.spec.kind == FeedbackKind::Readout {
            return model.readout(Weights::Constant)?.forward(h);
        }
        let mut activity = h.clone();
        for (at, pair) in self.params.chunks_exact(2).enumerate() {
            let [weight, bias] = [pair[0], pair[1]].map(|index| model.parameter(index, weights));
            activity = Linear { weight, bias }.forward(&activity)?;
            if 2 * (at + 1) < self.params.len() {
                activity = relu(&activity)?;
            }
        }
        Ok(activity)
    }

    /// What is fed back of the outputs, `[rows, width]`, given the step of the sequence of each row.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn message(&self, outputs: &Tensor, steps: &[usize]) -> Result<Tensor> {
        let outputs = outputs.detach();
        if self.lesioned {
            return Ok(outputs.zeros_like()?);
        }
        let message = match self.outputs {
            TargetKind::Classes { .. } => candle_nn::ops::softmax(&outputs, D::Minus1)?,
            TargetKind::Bits { .. } => candle_nn::ops::sigmoid(&outputs)?,
            TargetKind::Values { .. } => outputs,
        };
        let Some(lesion) = self.spec.lesion_at_step else { return Ok(message) };
        let intact: Vec<f32> = steps.iter().map(|&step| f32::from(u8::from(step < lesion))).collect();
        let intact = Tensor::from_vec(intact, (steps.len(), 1), message.device())?.to_dtype(DType::F32)?;
        Ok(message.broadcast_mul(&intact)?)
    }

    /// Whether it has parameters that learn in the present epoch.
    pub fn learns(&self) -> bool {
        self.spec.kind == FeedbackKind::Cerebellum && !self.lesioned
    }
}

impl Model {
    /// Cuts the feedback of layers that have a lesion in this epoch, counted from 1.
    pub fn at_epoch(&mut self, epoch: usize) {
        for feedback in self.layers.iter_mut().filter_map(|layer| layer.feedback.as_mut()) {
            feedback.lesioned = feedback.spec.lesion_at.is_some_and(|lesion| epoch >= lesion);
        }
    }

    /// Whether a layer has activity feedback.
    pub fn has_feedback(&self) -> bool {
        self.layers.iter().any(|layer| layer.feedback.is_some())
    }
}
