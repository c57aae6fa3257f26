//! The loop over steps that all rules have in common which go forward in time.

use std::ops::Range;

use super::network::{Network, Sizes};
use super::{Learner, LearningRule, Noise, Scaling, Site, Step};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::Gradients;
use crate::rng::Stream;
use crate::spec::{RuleFeedback, RuleSpec};
use crate::train::engine::Role;

/// A learning rule at work on a network.
pub struct Online {
    /// The rule's traces and own parameters.
    pub learner: Box<dyn Learner>,
    /// What takes the readout's place on the way back, `[outputs, hidden]`; the readout itself by default.
    pub feedback: Option<Vec<f32>>,
    network: Network,
    scaling: Scaling,
}

/// A batch of sequences.
pub struct Sequence<'a> {
    /// `[steps, rows, inputs]`
    pub inputs: &'a [f32],
    /// Number of steps.
    pub steps: usize,
    /// Whether the next batch goes on where this one ends.
    pub goes_on: bool,
}

/// The targets of a batch.
pub trait Errors {
    /// The gradient of a step's loss at its outputs, `[rows, outputs]` both; `None` without a target.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn at(&mut self, step: usize, outputs: &[f32]) -> Result<Option<Vec<f32>>>;

    /// The target of a step as numbers, `[rows, outputs]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn target(&self, step: usize) -> Result<Vec<f32>>;

    /// The factor on the readout's gradients.
    fn readout_factor(&self) -> f32 {
        1.0
    }
}

/// What is known at the end of a window.
pub struct WindowEnd<'a> {
    /// Index of the window.
    pub window: usize,
    /// The state before its first step, `[rows, parts · hidden]`.
    pub start: &'a [f32],
    /// The state after its last step.
    pub end: &'a [f32],
    /// The synthetic gradients at the two states, if there is a synthesizer.
    pub synthetic: [Option<Vec<f32>>; 2],
}

impl Online {
    /// The rule of a spec on a model, or `None` for backpropagation through time. Random feedback is drawn for `seed`.
    ///
    /// # Errors
    /// Fails if the rule is not defined for the model or its device.
    pub fn new(spec: &RuleSpec, rule: &dyn LearningRule, model: &Model, seed: u64) -> Result<Option<Online>> {
        if spec.is_bptt() {
            return Ok(None);
        }
        if !model.device().is_cpu() {
            let message = format!("the learning rule `{}` runs on the CPU: use `run.device: cpu`", spec.kind);
            return Err(Error::Usage(message));
        }
        let sizes = Sizes::of(model)?;
        let synthesizer = model.synthesizers.first().map(|slot| (slot.params.as_slice(), slot.spec.scale));
        let site = Site { sizes, variant: spec.variant, synthesizer };
        let Some(learner) = rule.open(&site)? else { return Ok(None) };
        let feedback = match spec.feedback {
            RuleFeedback::Symmetric => None,
            RuleFeedback::Random => {
                let mut stream = Stream::new(seed, "rule.feedback", 0, 0);
                let scale = 1.0 / (sizes.outputs as f32).sqrt();
                Some((0..sizes.outputs * sizes.hidden).map(|_| scale * stream.normal()).collect())
            }
        };
        let scaling = learner.scaling(spec.variant);
        Ok(Some(Online { learner, feedback, network: Network::new(model)?, scaling }))
    }

    /// How losses and gradients are scaled.
    pub fn scaling(&self) -> Scaling {
        self.scaling
    }

    /// The sizes of the network.
    pub fn sizes(&self) -> Sizes {
        self.network.sizes
    }

    /// Runs the steps of `windows` from the state `start`, `[rows, parts · hidden]`; `None` starts new sequences from zero.
    /// Gradients are accumulated in `gradients`, and `each` is called after every window; it may change the parameters and
    /// clear the gradients. Returns the state at the end.
    ///
    /// # Errors
    /// Fails if `each` does, or on a tensor error.
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &mut self,
        model: &Model,
        sequence: &Sequence<'_>,
        errors: &mut dyn Errors,
        windows: &[Range<usize>],
        start: Option<&[f32]>,
        (role, noise): (Role, &mut dyn Noise),
        gradients: &mut Gradients,
        each: &mut dyn FnMut(WindowEnd<'_>, &mut Gradients) -> Result<()>,
    ) -> Result<Vec<f32>> {
        let sizes = self.network.sizes;
        let size = sequence.inputs.len() / sequence.steps.max(1);
        let mut state = start.map_or_else(|| vec![0.0; size / sizes.inputs * sizes.state()], <[f32]>::to_vec);
        if start.is_none() {
            self.learner.load(&model.params)?;
            self.learner.begin(state.len() / sizes.state(), &state, noise);
        }
        for (window, steps) in windows.iter().enumerate() {
            self.network.load(&model.params)?;
            self.learner.load(&model.params)?;
            let (first, before) = (state.clone(), self.learner.synthetic(&state));
            let mut sum = vec![0.0; sizes.weights()];
            let mut added = false;
            for t in steps.clone() {
                let input = &sequence.inputs[t * size..][..size];
                let is_last = t + 1 == sequence.steps && !sequence.goes_on;
                let next =
                    self.step(&mut *errors, (t, is_last), (&state, input), (role, &mut *noise), &mut sum, gradients)?;
                (state, added) = (next.0, added || next.1);
            }
            if added || self.scaling.is_published() {
                self.network.add_recurrent(&sum, self.scaling, gradients)?;
            }
            self.learner.finish(&model.params, gradients)?;
            let synthetic = [before, self.learner.synthetic(&state)];
            each(WindowEnd { window, start: &first, end: &state, synthetic }, gradients)?;
        }
        Ok(state)
    }

    /// One step: the state after it, and whether it added to the gradient of the recurrent weights.
    fn step(
        &mut self,
        errors: &mut dyn Errors,
        (index, is_last): (usize, bool),
        (state, input): (&[f32], &[f32]),
        (role, noise): (Role, &mut dyn Noise),
        sum: &mut [f32],
        gradients: &mut Gradients,
    ) -> Result<(Vec<f32>, bool)> {
        let forward = self.network.step(state, input);
        let error = errors.at(index, &self.network.outputs(&forward.after))?;
        let mut credit = None;
        if let Some(error) = &error {
            let factor = match self.scaling {
                Scaling::PublishedAveraged => errors.readout_factor(),
                _ => 1.0,
            };
            self.network.add_readout(error, &forward.after, factor, gradients)?;
            let matrix = self.feedback.as_ref().unwrap_or(&self.network.readout);
            credit = Some(self.network.credit(error, matrix));
        }
        if error.is_none() && self.scaling.is_published() {
            // The published codes zero gradients and never drop them, which optimizers with moments notice.
            let zero = vec![0.0; forward.slopes.rows() * self.network.sizes.outputs];
            self.network.add_readout(&zero, &forward.after, 1.0, gradients)?;
        }
        let errors = &*errors;
        let mut step = Step {
            network: &self.network,
            index,
            input,
            before: state,
            forward: &forward,
            credit: credit.as_deref(),
            target: &|| errors.target(index),
            is_last,
            role,
            noise,
        };
        let added = self.learner.step(&mut step, sum)?;
        Ok((forward.after, added))
    }
}
