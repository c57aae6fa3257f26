//! What seeds that are trained together (`run.seed_batch`) cannot be combined with.

use super::Check;
use crate::spec::{BackendKind, Spec};

const HELP: &str = "leave `run.seed_batch` out";

impl Check<'_> {
    /// Seeds share a process, a backend and a learning rate, and no recorder.
    pub(super) fn seeds(&mut self, spec: &Spec) {
        if spec.run.seed_batch.is_one() {
            return;
        }
        let refused: [(&str, bool, &str); 6] = [
            (
                "run.backend",
                matches!(spec.run.backend, BackendKind::Fused | BackendKind::Unrolled),
                "this backend computes one seed at a time",
            ),
            ("model.blocks", !spec.model.blocks.is_empty(), "blocks are trained one seed at a time"),
            ("model.encoder", spec.model.encoder.is_some(), "an encoder is trained one seed at a time"),
            ("train.rule", !spec.train.rule.is_bptt(), "this rule trains one seed at a time"),
            (
                "train.schedule",
                spec.train.schedule.is_some(),
                "a schedule would give the seeds different learning rates",
            ),
            (
                "record",
                spec.record.as_ref().is_some_and(|record| record.cosine || record.gradients || !record.what.is_empty()),
                "states and gradients are recorded of one seed at a time",
            ),
        ];
        for (key, is_set, why) in refused {
            if is_set {
                self.refuse(key, &["run.seed_batch"], format!("{why}, and `run.seed_batch` trains several"), HELP);
            }
        }
    }
}
