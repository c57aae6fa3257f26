//! Checks of feed-forward networks: their interfaces, and keys that only recurrent layers use.

use super::Check;
use crate::spec::task_shape::{Input, TaskShape};
use crate::spec::{
    BackendKind, BlockSpec, InterfaceContext, InterfaceSpec, Readout, RecordSpec, Recorded, Spec, StepEvery,
};

impl Check<'_> {
    /// A network has recurrent layers or blocks, as its task requires.
    pub(super) fn network(&mut self, spec: &Spec, shape: Option<&TaskShape>) {
        let (model, kind) = (&spec.model, &spec.task.kind);
        let is_image = shape.is_some_and(|shape| matches!(shape.input, Input::Image { .. }));
        match (model.layers.is_empty(), model.blocks.is_empty()) {
            (true, true) if is_image => {
                let message = format!("is missing: the task `{kind}` shows whole images to a feed-forward network");
                self.refuse("model.blocks", &[], message, "for example `blocks: [{kind: flatten}, {kind: linear}]`");
            }
            (true, true) => {
                let help = "for example `layers: [{cell: lstm, hidden: 50}]`; `model.blocks` is a feed-forward network";
                self.refuse("model.layers", &[], "is missing: expected a list of recurrent layers", help);
            }
            (false, false) if !is_image => self.blocks_below(spec, shape),
            (false, _) if is_image => {
                let message = format!("the task `{kind}` shows a whole image in one step, without a sequence to read");
                let help = "use `model.blocks`, or the task `seqmnist`, which shows images piece by piece";
                self.refuse("model.layers", &[], message, help);
            }
            (false, _) => {}
            (true, false) => self.blocks(spec, shape),
        }
    }

    /// Blocks that read each step for recurrent layers.
    fn blocks_below(&mut self, spec: &Spec, shape: Option<&TaskShape>) {
        let why = "targets are those of sequences here, and this interface sees single steps";
        self.interfaces("model.blocks", &spec.model.blocks, spec.train.epochs, Some(why));
        if shape.is_some_and(|shape| matches!(shape.input, Input::Tokens { .. })) {
            let message = format!("blocks read numbers, and the task `{}` has tokens", spec.task.kind);
            self.refuse(
                "model.blocks",
                &[],
                message,
                "leave `blocks` out: `model.embed` and `model.encoder` read tokens",
            );
        }
        let whole_batch = "blocks below recurrent layers learn from all windows of a batch together";
        for (key, is_set, message, help) in [
            ("train.step_every", spec.train.step_every != StepEvery::Batch, whole_batch, "use `step_every: batch`"),
            ("train.rule", !spec.train.rule.is_bptt(), "this rule knows no blocks below its layer", "use `bptt`"),
            (
                "model.input_dropout",
                spec.model.input_dropout > 0.0,
                "is of inputs that no block reads",
                "end `blocks` with a `dropout` block",
            ),
        ] {
            if is_set {
                self.refuse(key, &["model.blocks"], message, help);
            }
        }
        if matches!(spec.run.backend, BackendKind::Fused | BackendKind::Unrolled) {
            let message = "this backend does not compute `blocks` below recurrent layers";
            self.refuse("run.backend", &["model.blocks"], message, "use `auto`, or `composed`");
        }
    }

    /// Blocks that are the whole network.
    fn blocks(&mut self, spec: &Spec, shape: Option<&TaskShape>) {
        self.interfaces("model.blocks", &spec.model.blocks, spec.train.epochs, None);
        if let Some(shape) = shape
            && (shape.steps != Some(1) || matches!(shape.input, Input::Tokens { .. }))
        {
            let message = format!("the task `{}` shows sequences, which blocks alone cannot read", spec.task.kind);
            self.refuse("model.blocks", &[], message, "use `model.layers`, or the task `classify`");
        }
        let train = &spec.train;
        let help = "leave it out: it is for recurrent layers";
        for (key, is_set) in [
            ("train.keep_hidden", train.keep_hidden),
            ("train.activity_l2", train.activity_l2 > 0.0),
            ("train.step_every", train.step_every == StepEvery::Window),
            ("train.rule", !train.rule.is_bptt()),
        ] {
            if is_set {
                self.refuse(key, &["model.blocks"], "a feed-forward network has no state and no windows", help);
            }
        }
        if spec.model.output_dropout > 0.0
            || spec.model.readout_range.is_some()
            || spec.model.readout != Readout::Linear
        {
            let message = "there is no readout: the last block answers";
            self.refuse("model.blocks", &[], message, "leave `output_dropout`, `readout` and `readout_range` out");
        }
        if spec.model.input_dropout > 0.0 {
            let help = "begin with a `dropout` block";
            self.refuse("model.input_dropout", &["model.blocks"], "is for the first recurrent layer", help);
        }
        if matches!(spec.run.backend, BackendKind::Fused | BackendKind::Unrolled) {
            let message = "this backend is for recurrent layers, and there are none";
            self.refuse("run.backend", &["model.blocks"], message, "use `auto`, or `composed`");
        }
    }

    /// The interfaces of the blocks in a list; `no_target` is why their synthesizers cannot have the target as context, if they cannot.
    pub(super) fn interfaces(&mut self, list: &str, blocks: &[BlockSpec], epochs: usize, no_target: Option<&str>) {
        for (index, block) in blocks.iter().enumerate() {
            let Some(dni) = &block.dni else { continue };
            let path = format!("{list}.{index}.dni");
            self.interface(&path, dni, epochs);
            if let Some(why) = no_target.filter(|_| dni.context == InterfaceContext::Target) {
                self.refuse(&format!("{path}.context"), &["model.layers"], why, "use `context: input`, or none");
            }
        }
    }

    fn interface(&mut self, path: &str, dni: &InterfaceSpec, epochs: usize) {
        self.dni(path, &dni.gradients(), epochs);
        let key = |name: &str| format!("{path}.{name}");
        if dni.forward.is_some() && !dni.unlock.has_inputs() {
            let message = "there are no synthetic inputs to predict";
            self.refuse(&key("forward"), &[&key("unlock")], message, "use `unlock: both`, or leave `forward` out");
        }
        if dni.delay > 0 && !dni.unlock.has_gradients() {
            let message = "there are no gradients that could arrive late";
            self.refuse(&key("delay"), &[&key("unlock")], message, "leave `delay` out");
        }
    }

    /// What a feed-forward network can record.
    pub(super) fn record_of_blocks(&mut self, record: &RecordSpec) {
        let help = "`weights` and `certainty` can be recorded from blocks";
        let message = "is recorded at the boundaries of windows, which a feed-forward network does not have";
        for (index, what) in record.what.iter().enumerate() {
            if *what != Recorded::Weights {
                self.refuse(&format!("record.what.{index}"), &["model.blocks"], message, help);
            }
        }
        for (key, is_set) in [("record.cosine", record.cosine), ("record.gradients", record.gradients)] {
            if is_set {
                self.refuse(key, &["model.blocks"], message, help);
            }
        }
    }
}
