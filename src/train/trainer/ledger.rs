//! The numbers of trained batches, which may still lie on a device: what an epoch sums up of them, and what is checked.

use crate::error::Result;
use crate::nn::{Numbers, ParamStore};
use crate::train::loss::Losses;
use crate::train::update::Squares;

/// Batches whose numbers nobody has read.
#[derive(Default)]
pub(super) struct Ledger(Vec<Entry>);

/// One trained batch.
pub(super) struct Entry {
    /// Its index in the epoch.
    pub batch: usize,
    /// Number of sequences.
    pub rows: f64,
    /// [`crate::train::loss::Feedback::metric_scale`]
    pub metric_scale: f64,
    /// [`crate::train::loss::Feedback::original_scale`]
    pub original_scale: f64,
    /// Of its groups of windows.
    pub losses: Vec<Losses>,
    /// Of its updates.
    pub squares: Vec<Squares>,
}

/// What an epoch sums up of a batch.
#[derive(Debug, PartialEq)]
pub(super) struct Settled {
    pub batch: usize,
    pub rows: f64,
    /// Mean over the steps that carry a target, in the unit of the validation metric.
    pub loss: f64,
    /// As the original reports it.
    pub original: f64,
    /// Sum of the gradients' norms over the updates.
    pub norm: f64,
    /// Number of updates.
    pub steps: f64,
    /// The first parameter whose gradient is not finite.
    pub culprit: Option<String>,
}

impl Ledger {
    /// Takes a batch in.
    pub fn note(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    /// Reads the numbers of all batches at once, in their order, and forgets them.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn settle(&mut self, params: &ParamStore) -> Result<Vec<Settled>> {
        let mut entries = std::mem::take(&mut self.0);
        Numbers::read_all(entries.iter_mut().flat_map(|entry| {
            let losses = entry.losses.iter_mut().map(|losses| &mut losses.per_step);
            losses.chain(entry.squares.iter_mut().map(|squares| &mut squares.numbers))
        }))?;
        entries.iter().map(|entry| entry.settled(params)).collect()
    }
}

impl Entry {
    fn settled(&self, params: &ParamStore) -> Result<Settled> {
        let (mut weighted, mut targets) = (0.0, 0);
        for losses in &self.losses {
            for window in losses.read()? {
                weighted += window.loss * window.targets as f64;
                targets += window.targets;
            }
        }
        let (mut norm, mut culprit) = (0.0, None);
        for squares in &self.squares {
            let one = squares.norm(params)?;
            norm += one.value;
            culprit = culprit.or(one.culprit);
        }
        Ok(Settled {
            batch: self.batch,
            rows: self.rows,
            loss: self.metric_scale * weighted / targets.max(1) as f64,
            original: self.original_scale * weighted,
            norm,
            steps: self.squares.len() as f64,
            culprit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Targets;
    use crate::model::Model;
    use crate::nn::Gradients;
    use crate::spec::interface::{Input, Interface, Target, TargetKind, When};
    use crate::train::engine::Role;
    use crate::train::loss::Feedback;
    use crate::train::rows::Rows;
    use crate::train::update::Updater;
    use candle_core::{Device, Tensor};

    #[test]
    fn numbers_that_were_left_sum_up_as_those_that_were_read() -> Result<()> {
        let interface = Interface {
            input: Input::Dense { features: 1 },
            target: Target { kind: TargetKind::Values { size: 1 }, when: When::EveryStep },
            steps: None,
            validates: true,
        };
        let spec = serde_json::from_str(r#"{"layers": [{"cell": "tanh", "hidden": 2}]}"#).expect("a model");
        let model = Model::new(&spec, &interface, 1, &Device::Cpu)?;
        let train = r#"{"epochs": 1, "batch_size": 2, "optimizer": {"kind": "adam", "lr": 0.1}}"#;
        let train = serde_json::from_str(train).expect("a spec");
        let rows = Rows { count: 2, sequences: 2, multiplicity: None, repetition: None };
        let targets = Targets::Values(Tensor::zeros((2, 3, 1), candle_core::DType::F32, &Device::Cpu)?);
        let feedback = Feedback::new(&targets, &interface, 3, 1, &rows, &Device::Cpu)?;
        let there = |numbers: &mut Numbers| -> Result<()> {
            let read: Vec<f32> = numbers.read()?.into_iter().map(|number| number as f32).collect();
            *numbers = Numbers::There(Tensor::from_slice(&read, read.len(), &Device::Cpu)?);
            Ok(())
        };
        let settled = |left: bool| -> Result<Vec<Settled>> {
            let (mut ledger, mut updater) = (Ledger::default(), Updater::new(&train, &model.params)?);
            for batch in 0..3 {
                let outputs = Tensor::full(batch as f32, (3, 2, 1), &Device::Cpu)?;
                let (losses, _) = feedback.losses(Some(&outputs), &[0, 1, 2], &[0..2, 2..3])?;
                let mut gradients = Gradients::none(&model.params)?;
                // The last batch has a gradient that is no number.
                let value = if batch == 2 { f32::NAN } else { 0.5 };
                gradients.add(1, &model.params.get(1).value().affine(0.0, f64::from(value))?)?;
                let squares = updater.apply(&model, &[Role::Learning; 0], &mut gradients)?;
                let mut entry = Entry {
                    batch,
                    rows: 2.0,
                    metric_scale: 1.0,
                    original_scale: 2.0,
                    losses: vec![losses],
                    squares: squares.into_iter().collect(),
                };
                if left {
                    there(&mut entry.losses[0].per_step)?;
                    there(&mut entry.squares[0].numbers)?;
                }
                ledger.note(entry);
            }
            let settled = ledger.settle(&model.params)?;
            assert!(ledger.settle(&model.params)?.is_empty(), "forgotten");
            Ok(settled)
        };
        let read = settled(false)?;
        assert_eq!(read.iter().map(|batch| batch.loss).collect::<Vec<_>>(), [0.0, 1.0, 4.0]);
        assert_eq!(read[2].culprit.as_deref(), Some(model.params.get(1).name.as_str()));
        assert!(read[1].norm > 0.0 && read[1].culprit.is_none());
        assert_eq!(format!("{read:?}"), format!("{:?}", settled(true)?));
        Ok(())
    }
}
