//! Activity feedback of layers, and frozen layers.

use super::Check;
use crate::spec::task_shape::{Input, TaskShape, When};
use crate::spec::{BackendKind, FeedbackKind, FeedbackSpec, Recorded, Spec};

impl Check<'_> {
    /// Whatever a layer's feedback cannot be combined with.
    pub(super) fn feedback(&mut self, spec: &Spec, shape: Option<&TaskShape>) {
        for (index, layer) in spec.model.layers.iter().enumerate() {
            let Some(feedback) = &layer.feedback else { continue };
            let path = format!("model.layers.{index}.feedback");
            if !spec.train.rule.is_bptt() {
                let message = format!("the learning rule `{}` knows no activity feedback", spec.train.rule.kind);
                self.refuse(&path, &["train.rule"], message, "leave it out, or use `train.rule: {kind: bptt}`");
            }
            if matches!(spec.run.backend, BackendKind::Fused | BackendKind::Unrolled) {
                let message = "does not compute the `feedback` of a layer";
                self.refuse("run.backend", &[&path], message, "use `auto`, or `composed`");
            }
            if feedback.kind == FeedbackKind::Readout && index + 1 < spec.model.layers.len() {
                let message = "the readout is of the top layer alone";
                self.refuse(
                    &format!("{path}.kind"),
                    &["model.layers"],
                    message,
                    "use `kind: cerebellum`, or the top layer",
                );
            }
            self.keys_of_feedback(&path, feedback, spec);
            if let Some(shape) = shape {
                self.feedback_and_task(&path, feedback, shape, &spec.task.kind);
            }
        }
        self.frozen(spec);
        self.recorded_gradients(spec);
    }

    /// A frozen layer cannot make use of gradients.
    fn frozen(&mut self, spec: &Spec) {
        let frozen = |layers: &[crate::spec::LayerSpec]| layers.iter().all(|layer| !layer.learn);
        for (index, layer) in spec.model.layers.iter().enumerate() {
            let below = spec.model.embed.is_some() || spec.model.encoder.is_some();
            if layer.dni.is_some() && !below && frozen(&spec.model.layers[..=index]) {
                let message = "nothing learns from the synthetic gradients of a frozen layer";
                let learn = format!("model.layers.{index}.learn");
                let help = "leave `dni` out, or let the layer learn";
                self.refuse(&format!("model.layers.{index}.dni"), &[&learn], message, help);
            }
        }
    }

    /// Gradients of a frozen layer are not computed everywhere.
    fn recorded_gradients(&mut self, spec: &Spec) {
        let Some(record) = &spec.record else { return };
        let asked = record.gradients || record.what.contains(&Recorded::Gradient);
        if let Some(frozen) = spec.model.layers.iter().position(|layer| !layer.learn).filter(|_| asked) {
            let learn = format!("model.layers.{frozen}.learn");
            let key = if record.gradients { "record.gradients" } else { "record.what" };
            self.refuse(key, &[&learn], "a frozen layer has no gradient", "leave it out, or let every layer learn");
        }
    }

    fn keys_of_feedback(&mut self, path: &str, feedback: &FeedbackSpec, spec: &Spec) {
        let key = |name: &str| format!("{path}.{name}");
        if feedback.kind == FeedbackKind::Readout {
            for (name, is_set) in [("hidden", !feedback.hidden.is_empty()), ("delay", feedback.delay > 0)] {
                if is_set {
                    self.refuse(
                        &key(name),
                        &[&key("kind")],
                        "is for a cerebellum",
                        "leave it out, or use `kind: cerebellum`",
                    );
                }
            }
        }
        let epochs = spec.train.epochs;
        if feedback.lesion_at.is_some_and(|epoch| epoch > epochs) {
            let message = format!("training ends after epoch {epochs}, so this lesion would never happen");
            let help = "choose an earlier epoch, or train for longer (`train.epochs`)";
            self.refuse(&key("lesion_at"), &["train.epochs"], message, help);
        }
        if feedback.delay > 0 && spec.train.feedback_every.is_some() {
            let message = "targets of some steps alone (`train.feedback_every`) cannot be late";
            self.refuse(&key("delay"), &["train.feedback_every"], message, "leave one of them out");
        }
    }

    fn feedback_and_task(&mut self, path: &str, feedback: &FeedbackSpec, shape: &TaskShape, kind: &str) {
        if !matches!(shape.input, Input::Dense { .. }) {
            let message = format!("is added to inputs that are numbers, and the task `{kind}` has others");
            self.refuse(path, &["task"], message, "leave it out, or choose another task");
        }
        let (delay, late) = (format!("{path}.delay"), feedback.delay);
        let message = match (shape.target.when, shape.steps) {
            (When::LastStep, _) if late > 0 => {
                format!("the only target of `{kind}` is at the last step: it would never come")
            }
            (When::LastSteps, _) if late > 0 => {
                format!("targets of `{kind}` are at the last steps alone, and would come after the end")
            }
            (_, Some(steps)) if late >= steps => format!("sequences have {steps} steps: no target would come"),
            _ => return,
        };
        self.refuse(&delay, &["task"], message, "choose a shorter delay, or leave it out");
    }
}
