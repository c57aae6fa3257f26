//! Saves a trainer to a checkpoint, and resumes from one.

use std::collections::HashMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Best, Cursor, Trainer};
use crate::error::{Error, Result};
use crate::train::feedforward::Delays;
use crate::train::record::Means;
use crate::train::schedule::Stagnation;
use crate::train::{BatchLoss, Checkpoint, CheckpointState};

/// The trainer's state besides tensors and history.
#[derive(Serialize, Deserialize)]
struct Saved {
    cursor: Cursor,
    best: Option<(usize, f64)>,
    plateau: Option<Stagnation>,
    stopping: Option<Stagnation>,
    optimizer: serde_json::Value,
    #[serde(flatten)]
    means: Means,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    batch_losses: Vec<BatchLoss>,
}

impl Trainer {
    /// Resumes from a checkpoint.
    ///
    /// # Errors
    /// Fails if the checkpoint is of another model.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let tensors: HashMap<String, Tensor> = checkpoint.tensors.iter().cloned().collect();
        let broken = |what: String| Error::Training(format!("the checkpoint does not fit this spec: {what}"));
        let saved: Saved =
            serde_json::from_value(checkpoint.state.trainer.clone()).map_err(|e| broken(e.to_string()))?;
        let names = self.model.params.names();
        for (index, name) in names.iter().enumerate() {
            let value = tensors.get(&format!("parameter.{name}")).ok_or_else(|| broken(format!("no `{name}`")))?;
            self.model.params.set(index, value)?;
        }
        for index in 0..self.model.synthesizers.len() {
            if let Some(kept) = tensors.get(&format!("fibres.synthesizer{index}")) {
                self.model.keep_fibres(index, kept.clone())?;
            }
        }
        self.updater.restore(&self.model.params, &tensors, &saved.optimizer)?;
        self.best = saved.best.map(|(epoch, value)| Best {
            epoch,
            value,
            weights: names
                .iter()
                .filter_map(|name| Some((name.clone(), tensors.get(&format!("best.{name}"))?.clone())))
                .collect(),
        });
        let device = self.model.device();
        let carried = (0..self.model.layers.len()).map_while(|layer| tensors.get(&format!("carried.layer{layer}")));
        let carried: Vec<Tensor> = carried.map(|state| state.to_device(device)).collect::<Result<_, _>>()?;
        self.carried = (!carried.is_empty()).then_some(carried);
        if let Some(online) = &mut self.online {
            let stored = checkpoint
                .tensors
                .iter()
                .filter_map(|(name, tensor)| Some((name.strip_prefix("rule.")?.to_string(), tensor.clone())));
            online.learner.restore(&stored.collect())?;
        }
        let blocks = self.model.blocks.as_ref().map_or(0, |network| network.blocks.len());
        self.delays = Delays::restore(blocks, |name| tensors.get(name), device)?;
        if let Some(recorder) = &mut self.recorder {
            let mut buffer = Vec::new();
            for (name, tensor) in &checkpoint.tensors {
                if let Some(name) = name.strip_prefix("recording.") {
                    buffer.push((name.to_string(), tensor.clone()));
                }
            }
            recorder.restore(buffer, saved.means);
        }
        if let (Some(plateau), Some(state)) = (&mut self.plateau, saved.plateau) {
            plateau.state = state;
        }
        if let (Some(stopping), Some(state)) = (&mut self.stopping, saved.stopping) {
            stopping.state = state;
        }
        self.cursor = saved.cursor;
        // The next batch may be the next epoch's: what is left of this epoch is measured as the epoch was trained.
        self.model.at_epoch(self.cursor.epoch);
        self.batch_losses = saved.batch_losses;
        self.history = checkpoint.state.history.clone();
        Ok(())
    }

    /// Everything needed to resume from here.
    ///
    /// # Errors
    /// Fails if a parameter is not finite, so that the last good checkpoint is kept.
    pub(super) fn checkpoint(&self) -> Result<Checkpoint> {
        let names = self.model.params.names();
        let mut tensors = Vec::new();
        for (name, value) in self.model.params.read()? {
            if !value.sqr()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
                return Err(self.diverged(self.trained(), &format!("the parameter {name} is not finite")));
            }
            tensors.push((format!("parameter.{name}"), value));
        }
        let (more, optimizer) = self.updater.state(&names)?;
        tensors.extend(more);
        if let Some(best) = &self.best {
            tensors.extend(best.weights.iter().map(|(name, value)| (format!("best.{name}"), value.clone())));
        }
        for (index, slot) in self.model.synthesizers.iter().enumerate() {
            tensors.extend(slot.kept.iter().map(|kept| (format!("fibres.synthesizer{index}"), kept.clone())));
        }
        for (layer, state) in self.carried.iter().flatten().enumerate() {
            tensors.push((format!("carried.layer{layer}"), state.clone()));
        }
        for stored in self.online.iter().flat_map(|online| online.learner.state()) {
            tensors.push((format!("rule.{}", stored.name), stored.tensor()?));
        }
        tensors.extend(self.delays.state());
        let mut means = Means::default();
        if let Some(recorder) = &self.recorder {
            let (buffer, so_far) = recorder.pending();
            means = so_far.clone();
            tensors.extend(buffer.iter().map(|(name, value)| (format!("recording.{name}"), value.clone())));
        }
        let saved = Saved {
            cursor: self.cursor,
            best: self.best.as_ref().map(|best| (best.epoch, best.value)),
            plateau: self.plateau.as_ref().map(|plateau| plateau.state),
            stopping: self.stopping.as_ref().map(|stopping| stopping.state),
            optimizer,
            means,
            batch_losses: self.batch_losses.clone(),
        };
        let trainer = serde_json::to_value(saved).map_err(|error| Error::Training(error.to_string()))?;
        Ok(Checkpoint { state: CheckpointState { history: self.history.clone(), trainer }, tensors })
    }
}
