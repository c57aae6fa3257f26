//! Training of a feed-forward network on one batch.

use candle_core::{Device, Tensor};

use super::{Cursor, Trainer};
use crate::error::Result;
use crate::rng::Stream;
use crate::train::device::PendingBatch;
use crate::train::device_batch::{DeviceBatch, dropout_mask};
use crate::train::engine::Role;
use crate::train::feedforward;
use crate::train::loss::Feedback;
use crate::train::update::role;

impl Trainer {
    /// Runs the blocks on a batch, updates all parameters, and records the weights if the spec requests them.
    pub(super) fn learn_blocks(&mut self, sequence: &DeviceBatch, feedback: &Feedback) -> Result<PendingBatch> {
        let Cursor { epoch, batch: index, .. } = self.cursor;
        let roles: Vec<Role> = self.model.synthesizers.iter().map(|slot| role(&slot.spec, epoch)).collect();
        if let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.wants(index)) {
            recorder.begin(index, &self.model, sequence.rows(), Vec::new())?;
            recorder.end(index)?;
        }
        let masks = block_masks(self.seed, self.cursor, self.model.device());
        let input = sequence.single_step()?;
        let batch = feedforward::Batch { input: &input, feedback, roles: &roles, masks: &masks, trace: false };
        self.gradients.clear();
        let done = feedforward::run(&self.model, &batch, &mut self.delays, &mut self.gradients)?;
        self.check_reached(self.gradients.present(), &roles)?;
        let squares = self.updater.apply(&self.model, &roles, &mut self.gradients)?;
        self.model.note_statistics(&done.statistics)?;
        Ok(PendingBatch {
            batch: index,
            rows: sequence.rows().sequences as f64,
            metric_scale: feedback.metric_scale(),
            original_scale: feedback.original_scale(),
            losses: vec![done.losses],
            squares: squares.into_iter().collect(),
        })
    }
}

/// The dropout masks of blocks in the batch at a cursor.
pub(super) fn block_masks(
    seed: u64,
    Cursor { epoch, batch, .. }: Cursor,
    device: &Device,
) -> impl Fn(usize, f64, &[usize]) -> Result<Tensor> + Sync {
    move |block, p, dims| {
        let mut stream = Stream::new(seed, &format!("dropout.block{block}"), epoch, batch);
        dropout_mask(&mut stream, p, dims, device)
    }
}
