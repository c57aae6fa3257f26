//! Combinations of a learning rule with the rest of a spec.

use super::Check;
use crate::spec::task_shape::{CellShape, Input, RuleCells, RuleShape, TaskShape};
use crate::spec::{
    Context, DniSpec, FrozenInNorm, Recorded, RuleFeedback, RuleVariant, Spec, StepEvery, SynthesizerTarget,
    TargetScale,
};

const BPTT: &str = "leave it out, or use `train.rule: {kind: bptt}`";

impl Check<'_> {
    /// Whatever a learning rule cannot be combined with.
    pub(super) fn rule(
        &mut self,
        spec: &Spec,
        rule: RuleShape,
        cells: &[Option<CellShape>],
        shape: Option<&TaskShape>,
    ) {
        let kind = &spec.train.rule.kind;
        if spec.train.rule.is_bptt() {
            return self.backpropagation(spec);
        }
        self.rule_and_layers(spec, rule, cells);
        self.synthesizer_of_rule(spec, rule);
        let refused: [(&str, bool, &str); 4] = [
            ("train.activity_l2", spec.train.activity_l2 != 0.0, "adds no penalty on activity"),
            ("model.input_dropout", spec.model.input_dropout != 0.0, "does not drop inputs"),
            ("model.encoder", spec.model.encoder.is_some(), "does not reach an encoder"),
            (
                "train.bptt",
                spec.train.bptt.is_some() && spec.train.step_every == StepEvery::Step,
                "is updated after every step (`step_every: step`): there are no windows",
            ),
        ];
        for (key, is_set, why) in refused {
            if is_set {
                self.refuse(key, &["train.rule"], format!("the learning rule `{kind}` {why}"), BPTT);
            }
        }
        if shape.is_some_and(|shape| matches!(shape.input, Input::Tokens { .. })) {
            let message = format!("the learning rule `{kind}` is defined for inputs that are numbers, not tokens");
            self.refuse("train.rule", &["task"], message, "use `{kind: bptt}`, or another task");
        }
        let Some(record) = &spec.record else { return };
        let has_predictions = !rule.synthesizer || rule.predicts;
        let message = format!("the synthesizer of `{kind}`, as it is set, does not predict at a window's start");
        for (index, what) in record.what.iter().enumerate() {
            let key = format!("record.what.{index}");
            match what {
                Recorded::Target => {
                    let message = format!("there is no gradient at a window's start under the learning rule `{kind}`");
                    self.refuse(&key, &["train.rule"], message, BPTT);
                }
                Recorded::Synthetic | Recorded::Synthesizer if !has_predictions => {
                    self.refuse(&key, &["train.rule"], message.as_str(), BPTT);
                }
                _ => {}
            }
        }
        if record.cosine && !has_predictions {
            self.refuse("record.cosine", &["train.rule"], message, BPTT);
        }
    }

    /// Draws of the gradient in recordings.
    pub(super) fn draws(&mut self, spec: &Spec, rule: RuleShape) {
        let Some(record) = spec.record.as_ref().filter(|record| record.draws > 1) else { return };
        if !rule.stochastic {
            let message = format!("the gradient of `{}` is the same in every draw", spec.train.rule.kind);
            self.refuse("record.draws", &["train.rule"], message, "leave it out");
        } else if !record.gradients && !record.what.contains(&Recorded::Gradient) {
            let depends = ["record.gradients", "record.what"];
            self.refuse("record.draws", &depends, "there are no gradients to draw", "set `record.gradients: true`");
        }
    }

    /// Targets of synthesizers: their keys, and what they can be combined with.
    pub(super) fn targets(&mut self, spec: &Spec) {
        let mut first: Option<(usize, &DniSpec)> = None;
        for (index, layer) in spec.model.layers.iter().enumerate() {
            let Some(dni) = &layer.dni else { continue };
            let key = |name: &str| format!("model.layers.{index}.dni.{name}");
            for (name, is_set, is_needed) in [
                ("lambda", dni.lambda.is_some(), dni.target == SynthesizerTarget::Lambda),
                ("windows", dni.windows.is_some(), dni.target == SynthesizerTarget::NStep),
            ] {
                let of = if name == "lambda" { "lambda" } else { "n_step" };
                if is_needed && !is_set {
                    let help = format!("set `{name}`, or choose another target");
                    self.refuse(&key("target"), &[&key(name)], format!("`{of}` needs the key `{name}`"), help);
                } else if is_set && !is_needed {
                    let help = format!("leave it out, or set `target: {of}`");
                    self.refuse(&key(name), &[&key("target")], format!("is for the target `{of}`"), help);
                }
            }
            if dni.has_own_target() && spec.train.step_every == StepEvery::Window {
                let message = "this target depends on later windows, and parameters change after every window";
                let what = if dni.target == SynthesizerTarget::Bootstrapped { "gamma" } else { "target" };
                self.refuse(&key(what), &["train.step_every"], message, "use `step_every: batch`, or leave it out");
            }
            let kind = |dni: &DniSpec| (dni.target, dni.lambda, dni.windows);
            let (other, expected) = *first.get_or_insert((index, dni));
            if kind(dni) != kind(expected) {
                let message = format!("synthesizers need targets of one kind, and layer {other}'s is another");
                self.refuse(&key("target"), &[], message, "give all layers the same `target`, `lambda` and `windows`");
            }
        }
    }

    fn backpropagation(&mut self, spec: &Spec) {
        let rule = &spec.train.rule;
        let help = "leave it out, or choose another rule";
        if rule.feedback != RuleFeedback::Symmetric {
            self.refuse("train.rule.feedback", &["train.rule"], "is for rules other than bptt", help);
        }
        if rule.variant != RuleVariant::Exact {
            self.refuse("train.rule.variant", &["train.rule"], "is for rules other than bptt", help);
        }
        if spec.train.step_every == StepEvery::Step {
            let help = "use `step_every: window` with `bptt: 1`, or another rule";
            self.refuse("train.step_every", &["train.rule"], "`step` is for rules other than bptt", help);
        }
    }

    fn rule_and_layers(&mut self, spec: &Spec, rule: RuleShape, cells: &[Option<CellShape>]) {
        let kind = &spec.train.rule.kind;
        if spec.model.layers.len() > 1 {
            let message = format!("the learning rule `{kind}` is defined for one recurrent layer");
            return self.refuse("model.layers", &["train.rule"], message, "keep one layer, or use `{kind: bptt}`");
        }
        let (Some(layer), Some(Some(cell))) = (spec.model.layers.first(), cells.first()) else { return };
        if !rule.cells.has(*cell) {
            let which = match rule.cells {
                RuleCells::RateUnits => "tanh, relu and leaky",
                RuleCells::Lstm => "lstm",
                RuleCells::Pointwise | RuleCells::All => "tanh, relu, leaky and lstm",
            };
            let message =
                format!("the learning rule `{kind}`, as it is set, is not defined for the cell `{}`", layer.cell);
            let help = format!("it is for {which}; or use `{{kind: bptt}}`");
            self.refuse("train.rule", &["model.layers.0.cell"], message, help);
        }
    }

    fn synthesizer_of_rule(&mut self, spec: &Spec, rule: RuleShape) {
        let kind = &spec.train.rule.kind;
        let dni = spec.model.layers.first().and_then(|layer| layer.dni.as_ref());
        match dni {
            None if rule.synthesizer => {
                let message = format!("the learning rule `{kind}` learns with a synthesizer, and the layer has none");
                self.refuse("train.rule", &["model.layers.0.dni"], message, "add `dni: {hidden: [], scale: 1}`");
            }
            Some(_) if !rule.synthesizer => {
                let message = format!("the learning rule `{kind}` uses no synthesizer");
                self.refuse("model.layers.0.dni", &["train.rule"], message, "leave `dni` out, or use `{kind: bptt}`");
            }
            Some(dni) => self.dni_of_rule(kind, dni),
            None => {}
        }
    }

    /// What BP(λ) does not make use of.
    fn dni_of_rule(&mut self, kind: &str, dni: &DniSpec) {
        let refused = [
            ("kind", dni.kind != "mlp", "learns with an mlp"),
            ("fibres", dni.keys.get("fibres").is_some_and(|fibres| !fibres.is_null()), "keeps all inputs"),
            ("context", dni.context != Context::None, "predicts from the state alone"),
            ("target", dni.target != SynthesizerTarget::Bootstrapped, "has a target of its own"),
            ("gamma", dni.gamma.is_some(), "has its own `train.rule.gamma`"),
            ("target_scale", dni.target_scale != TargetScale::Layers, "scales its own updates"),
            (
                "frozen_in_norm",
                dni.frozen_in_norm == Some(FrozenInNorm::Accumulate),
                "accumulates no gradients of a frozen synthesizer",
            ),
        ];
        for (key, is_set, why) in refused {
            if is_set {
                let message = format!("the learning rule `{kind}` {why}");
                self.refuse(&format!("model.layers.0.dni.{key}"), &["train.rule"], message, BPTT);
            }
        }
    }
}
