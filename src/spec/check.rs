//! Cross-key validation: combinations of valid values that cannot work together.

mod feedback;
mod feedforward;
mod rule;
mod seeds;

use std::collections::BTreeMap;

use super::canonical::normal_dni;
use super::task_shape::{CellShape, Input, RuleShape, TargetKind, TaskShape, When};
use super::{
    BackendKind, Bptt, DniSpec, EncoderSpec, Keep, LayerSpec, Readout, Recorded, ScheduleSpec, Spec, TrainSpec,
    Trainable,
};
use crate::error::Problem;

/// Validates combinations of keys. `shape` is `None` if the task's own keys are invalid, and so is the item of a layer in `cells` for
/// the keys of its cell. Keys in `broken` hold placeholders: checks that involve one of them are skipped.
pub(super) fn check(
    spec: &Spec,
    shape: Option<&TaskShape>,
    (cells, rule): (&[Option<CellShape>], Option<RuleShape>),
    broken: &[String],
) -> Vec<Problem> {
    let mut check = Check { broken, problems: Vec::new() };
    for (index, layer) in spec.model.layers.iter().enumerate() {
        check.layer(&format!("model.layers.{index}"), layer, spec.train.epochs);
    }
    check.network(spec, shape);
    check.shared(&spec.model.layers, cells);
    check.targets(spec);
    check.feedback(spec, shape);
    check.backend(spec, cells);
    check.seeds(spec);
    check.train(spec);
    if let Some(rule) = rule {
        check.rule(spec, rule, cells, shape);
        check.draws(spec, rule);
    }
    if shape.is_some_and(|shape| !shape.validates) {
        check.without_validation(&spec.train);
    }
    check.record(spec);
    if let Some(shape) = shape {
        check.against_task(spec, shape);
    }
    check.problems
}

/// Whether a key is, contains or lies within a placeholder.
pub(super) fn is_doubtful(key: &str, broken: &[String]) -> bool {
    let inside = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    broken.iter().any(|broken| inside(broken, key) || inside(key, broken))
}

pub(super) struct Check<'a> {
    broken: &'a [String],
    problems: Vec<Problem>,
}

impl Check<'_> {
    /// Reports `key`, unless it or a key that the check depends on is broken.
    pub(super) fn refuse(
        &mut self,
        key: &str,
        depends_on: &[&str],
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if !depends_on.iter().chain([&key]).any(|key| is_doubtful(key, self.broken)) {
            self.problems.push(Problem::new(key, message).help(help));
        }
    }

    fn layer(&mut self, path: &str, layer: &LayerSpec, epochs: usize) {
        if let Some(dni) = &layer.dni {
            self.dni(&format!("{path}.dni"), dni, epochs);
        }
    }

    fn dni(&mut self, path: &str, dni: &DniSpec, epochs: usize) {
        let key = |name: &str| format!("{path}.{name}");
        let (learn, lesion, freeze) = (key("learn"), key("lesion_at"), key("freeze_at"));
        if !dni.learn && dni.freeze_at.is_some() {
            let help = "leave `freeze_at` out, or `learn: false`";
            self.refuse(&freeze, &[&learn], "a synthesizer that never learns cannot stop learning", help);
        }
        for (key, epoch, what) in [(&lesion, dni.lesion_at, "lesion"), (&freeze, dni.freeze_at, "freeze")] {
            if epoch.is_some_and(|epoch| epoch > epochs) {
                self.refuse(
                    key,
                    &["train.epochs"],
                    format!("training ends after epoch {epochs}, so this {what} would never happen"),
                    "choose an earlier epoch, or train for longer (`train.epochs`)",
                );
            }
        }
        if let (Some(freeze_at), Some(lesion_at)) = (dni.freeze_at, dni.lesion_at)
            && freeze_at >= lesion_at
        {
            self.refuse(
                &freeze,
                &[&lesion],
                format!("the interface is cut at epoch {lesion_at} already, so nothing is left to freeze"),
                "freeze before the lesion, or leave one of them out",
            );
        }
    }

    /// Layers that share a synthesizer must agree on everything about it.
    fn shared(&mut self, layers: &[LayerSpec], cells: &[Option<CellShape>]) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, layer) in layers.iter().enumerate() {
            let Some(name) = layer.dni.as_ref().and_then(|dni| dni.share.as_deref()) else { continue };
            let key = format!("model.layers.{index}.dni.share");
            if name.trim().is_empty() {
                self.refuse(
                    &key,
                    &[],
                    "expected a name",
                    "layers with the same name share one synthesizer; `null` for none",
                );
                continue;
            }
            let other = *first.entry(name).or_insert(index);
            let depends_on = [format!("model.layers.{index}"), format!("model.layers.{other}")];
            let depends_on = [depends_on[0].as_str(), depends_on[1].as_str()];
            let (Some(cell), Some(first)) = (cells[index], cells[other]) else { continue };
            let (width, wanted) = (cell.state_width, first.state_width);
            if width != wanted {
                let message = format!(
                    "layers that share `{name}` need states of equal width: this one's is {width}, layer {other}'s {wanted}"
                );
                self.refuse(
                    &key,
                    &depends_on,
                    message,
                    "give them the same `cell` and `hidden`, or a synthesizer each",
                );
            }
            let normal = |layer: &LayerSpec| layer.dni.as_ref().map(normal_dni);
            if width == wanted && normal(layer) != normal(&layers[other]) {
                let message = format!(
                    "layers that share `{name}` need identical `dni` tables: this one differs from layer {other}'s"
                );
                self.refuse(&key, &depends_on, message, "write the same keys in both, or give them a synthesizer each");
            }
        }
    }

    /// An explicitly chosen backend has to support every cell.
    fn backend(&mut self, spec: &Spec, cells: &[Option<CellShape>]) {
        for (layer, cell) in spec.model.layers.iter().zip(cells) {
            let Some(cell) = cell else { continue };
            let (supported, what) = match spec.run.backend {
                BackendKind::Fused => (cell.kernels, "kernels"),
                BackendKind::Unrolled => (cell.closed_form, "backward pass in closed form"),
                BackendKind::Auto | BackendKind::Composed => continue,
            };
            if !supported {
                let message = format!("the cell `{}` has no {what}, which this backend needs", layer.cell);
                return self.refuse("run.backend", &[], message, "use `auto`, or `composed`");
            }
        }
    }

    fn train(&mut self, spec: &Spec) {
        let train = &spec.train;
        if let Some(percent) = train.bptt.as_ref().and_then(Bptt::percent)
            && !(percent > 0.0 && percent <= 100.0)
        {
            let help = "for example `\"20%\"`; `null` for the whole sequence";
            self.refuse("train.bptt", &[], "expected a share above 0% and at most 100%", help);
        }
        if let Some(ScheduleSpec::ReduceOnPlateau { min_lr, .. }) = train.schedule
            && let Some(lr) = train.optimizer.keys.get("lr").and_then(serde_json::Value::as_f64)
            && min_lr >= lr
        {
            self.refuse(
                "train.schedule.min_lr",
                &["train.optimizer"],
                format!("the rate starts at {lr}, so the schedule could never lower it"),
                "choose a `min_lr` below `train.optimizer.lr`, or leave the schedule out",
            );
        }
    }

    /// Keys that depend on the first validation metric.
    fn without_validation(&mut self, train: &TrainSpec) {
        for (key, needed) in [
            ("train.schedule", train.schedule.is_some()),
            ("train.early_stopping", train.early_stopping.is_some()),
            ("train.keep", train.keep == Keep::Best),
        ] {
            if needed {
                let message = "needs validation data, and the task, as it is set, has none";
                self.refuse(key, &["task"], message, "leave it out, or let the task keep data to validate with");
            }
        }
    }

    fn record(&mut self, spec: &Spec) {
        let Some(record) = &spec.record else { return };
        if spec.model.layers.is_empty() {
            return self.record_of_blocks(record);
        }
        if spec.model.layers.iter().any(|layer| layer.dni.is_some()) {
            return;
        }
        let help = "give a layer a `dni` table, or leave this out; `--set record=null` leaves all recordings out";
        let tables: Vec<String> =
            (0..spec.model.layers.len()).map(|index| format!("model.layers.{index}.dni")).collect();
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        for (index, what) in record.what.iter().enumerate() {
            if matches!(what, Recorded::Synthetic | Recorded::Synthesizer) {
                let message = "there is no synthesizer to record from";
                self.refuse(&format!("record.what.{index}"), &tables, message, help);
            }
        }
        if record.cosine {
            self.refuse("record.cosine", &tables, "there are no synthetic gradients to compare", help);
        }
    }

    fn against_task(&mut self, spec: &Spec, shape: &TaskShape) {
        let kind = &spec.task.kind;
        let train = &spec.train;
        if shape.target.when == When::LastStep && train.feedback_every.is_some() {
            let message = format!("the task `{kind}` has one target, at the last step: there is nothing to thin out");
            self.refuse("train.feedback_every", &[], message, "leave `feedback_every` out");
        }
        if shape.target.when == When::LastSteps && train.feedback_every.is_some() {
            let message =
                format!("the task `{kind}` has targets at the last steps alone, of which some lengths would have none");
            self.refuse("train.feedback_every", &[], message, "leave `feedback_every` out");
        }
        if shape.steps.is_none() {
            if train.bptt.as_ref().and_then(Bptt::percent).is_some() {
                let message =
                    format!("sequences of the task `{kind}` vary in length: a share of it is no fixed window");
                self.refuse("train.bptt", &[], message, "give the window in steps");
            }
            if train.keep_hidden {
                let message = format!(
                    "sequences of the task `{kind}` vary in length: the rows of one batch do not go on in the next"
                );
                self.refuse("train.keep_hidden", &[], message, "leave `keep_hidden` out");
            }
        }
        self.encoder(spec, shape);
        match (&shape.input, &spec.model.embed) {
            (Input::Tokens { .. }, None) => {
                let message = format!("is missing: the task `{kind}` reads tokens");
                self.refuse("model.embed", &[], message, "add an embedding, for example `embed: {size: 256}`");
            }
            (Input::Dense { .. } | Input::Image { .. }, Some(_)) => {
                let message = format!("the task `{kind}` reads numbers: there are no tokens to embed");
                self.refuse("model.embed", &[], message, "leave `embed` out");
            }
            _ => {}
        }
        self.tied(spec, shape);
        let certainty = spec.record.as_ref().is_some_and(|record| record.certainty);
        if certainty && !matches!(shape.target.kind, TargetKind::Classes { .. }) {
            let message = format!("the task `{kind}` answers with numbers: certainty is defined for classes");
            self.refuse("record.certainty", &[], message, "leave `certainty` out");
        }
    }

    /// A readout with the embedding's weights.
    fn tied(&mut self, spec: &Spec, shape: &TaskShape) {
        if spec.model.readout != Readout::Tied {
            return;
        }
        let predicts_tokens = match (&shape.input, shape.target.kind) {
            (Input::Tokens { vocabulary, .. }, TargetKind::Classes { count }) => *vocabulary == count,
            _ => false,
        };
        if !predicts_tokens {
            let message = format!("the task `{}` does not predict the tokens that it reads", spec.task.kind);
            self.refuse("model.readout", &[], message, "use `readout: linear`");
        }
        if spec.model.readout_range.is_some() {
            let message = "the readout has the embedding's weights";
            self.refuse("model.readout_range", &["model.readout"], message, "use `model.embed.range`");
        }
        if let (Some(embed), Some(top)) = (&spec.model.embed, spec.model.layers.last())
            && embed.size != top.hidden
        {
            let (size, hidden) = (embed.size, top.hidden);
            let message =
                format!("the embedding has width {size} and the top layer {hidden} units: both are multiplied");
            let help = format!("use `model.embed.size: {hidden}`, or `readout: linear`");
            self.refuse("model.readout", &["model.embed", "model.layers"], message, help);
        }
    }

    fn encoder(&mut self, spec: &Spec, shape: &TaskShape) {
        let kind = &spec.task.kind;
        let images = shape.input.image_side().is_some();
        match &spec.model.encoder {
            None if images => {
                let message = format!("is missing: the task `{kind}` shows images");
                let help = "add an encoder, for example `encoder: {kind: conv}`";
                self.refuse("model.encoder", &[], message, help);
            }
            Some(_) if !images => {
                let message = format!("the task `{kind}` has no images to read");
                self.refuse("model.encoder", &[], message, "leave `encoder` out");
            }
            Some(EncoderSpec::Resnet { depth, .. }) if !EncoderSpec::DEPTHS.contains(depth) => {
                let message = "expected one of 18, 34, 50, 101, 152";
                self.refuse(
                    "model.encoder.depth",
                    &[],
                    message,
                    "these are the residual networks that there are weights of",
                );
            }
            Some(EncoderSpec::Blocks { blocks }) => {
                let why = "targets are the words of a caption, and the encoder sees the image alone";
                self.interfaces("model.encoder.blocks", blocks, spec.train.epochs, Some(why));
            }
            _ => {}
        }
        // Blocks that normalise vectors refuse a single one in the first batch.
        let learns = |encoder: &EncoderSpec| encoder.trainable() != Trainable::None && encoder.blocks().is_none();
        if images && spec.model.encoder.as_ref().is_some_and(learns) && spec.train.batch_size < 2 {
            let message = "one image has no variance to be normalised by";
            self.refuse("train.batch_size", &["model.encoder"], message, "take at least 2, or `trainable: none`");
        }
    }
}
