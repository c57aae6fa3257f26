//! The task-facing types: batches, targets, datasets and metrics.
//!
//! A task hands out [`Batch`]es on the CPU; the trainer moves them to its device. Axes are `[batch, time, features]`.

pub mod captions;
pub mod coco;
mod decoding;
pub mod digits;
mod evaluation;
pub mod hub;
pub mod image_set;
pub mod images;
mod metric;
pub mod scenes;

pub use captions::vocabulary::Vocabulary;
pub use decoding::{Decoded, Limits, Strategy, WIDEST_BEAM};
pub use evaluation::{Evaluation, Predictor};
pub use image_set::Images;
pub use metric::{Direction, Measured, Metric};

use candle_core::{Device, Tensor};

use crate::error::Result;

/// Which part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Sequences that train the network.
    Train,
    /// Sequences that measure it after every epoch.
    Validation,
    /// Sequences that measure the result once.
    Test,
}

/// Which batch is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchIndex {
    /// The part of the data.
    pub split: Split,
    /// The epoch, counted from 1; 0 for the test at the end.
    pub epoch: usize,
    /// The batch within the epoch, counted from 0.
    pub index: usize,
    /// `train.batch_size`; a task may hand out batches of another size for validation and test.
    pub batch_size: usize,
}

/// What the network reads.
#[derive(Debug, Clone)]
pub enum Inputs {
    /// Numbers: `[batch, time, features]`, f32.
    Dense(Tensor),
    /// Token ids, and perhaps a feature vector that is the first step.
    Tokens {
        /// `[batch, features]`, f32: the first input, of the embedding's width; or whatever the model's encoder makes that
        /// of: features of its backbone, or pixels `[batch, 3, height, width]`.
        feature: Option<Tensor>,
        /// `[batch, time]` (`[batch, time - 1]` behind a feature), u32.
        ids: Tensor,
    },
}

/// What the network should answer.
#[derive(Debug, Clone)]
pub enum Targets {
    /// `[batch, time, size]`, f32: numbers at every step.
    Values(Tensor),
    /// `[batch, size]`, f32: numbers at the last step.
    FinalValues(Tensor),
    /// `[batch, time]`, u32: a class at every step.
    Classes(Tensor),
    /// `[batch]`, u32: a class at the last step.
    FinalClass(Tensor),
}

/// Sequences of one length, trained or measured together.
///
/// Sequences that are equal, inputs and targets, may be given as one row: see [`Batch::repeating`].
#[derive(Debug, Clone)]
pub struct Batch {
    /// What the network reads.
    pub inputs: Inputs,
    /// What it should answer.
    pub targets: Targets,
    /// The row of each sequence; one each where absent.
    rows: Option<Vec<u32>>,
}

impl Batch {
    /// A batch of inputs and what they should be answered with.
    pub fn new(inputs: Inputs, targets: Targets) -> Batch {
        Batch { inputs, targets, rows: None }
    }

    /// A batch in which sequence `i` is row `rows[i]` of inputs and targets. Every row has to occur.
    ///
    /// It counts in losses, gradients, metrics and recordings exactly as if every sequence had a row of its own, but each
    /// row is computed once.
    pub fn repeating(inputs: Inputs, targets: Targets, rows: Vec<u32>) -> Batch {
        Batch { inputs, targets, rows: Some(rows) }
    }

    /// A batch in which row `r` of inputs and targets stands for `multiplicity[r]` sequences, at least 1.
    pub fn weighted(inputs: Inputs, targets: Targets, multiplicity: &[usize]) -> Batch {
        let repeated = |(row, &count)| std::iter::repeat_n(row, count);
        Batch::repeating(inputs, targets, (0u32..).zip(multiplicity).flat_map(repeated).collect())
    }

    /// The row of each sequence, where rows stand for several.
    pub fn repetition(&self) -> Option<&[u32]> {
        self.rows.as_deref()
    }

    /// Number of sequences.
    pub fn sequences(&self) -> Result<usize> {
        self.rows.as_ref().map_or_else(|| self.rows(), |rows| Ok(rows.len()))
    }

    /// The same batch with a row for every sequence.
    ///
    /// # Errors
    /// Fails if a sequence is of a row that is not there.
    pub fn expanded(&self) -> Result<Batch> {
        let Some(rows) = &self.rows else { return Ok(self.clone()) };
        let rows = Tensor::from_slice(rows, rows.len(), &Device::Cpu)?;
        let repeat = |t: &Tensor| t.contiguous()?.index_select(&rows.to_device(t.device())?, 0);
        let inputs = match &self.inputs {
            Inputs::Dense(x) => Inputs::Dense(repeat(x)?),
            Inputs::Tokens { feature, ids } => {
                Inputs::Tokens { feature: feature.as_ref().map(repeat).transpose()?, ids: repeat(ids)? }
            }
        };
        let targets = match &self.targets {
            Targets::Values(t) => Targets::Values(repeat(t)?),
            Targets::FinalValues(t) => Targets::FinalValues(repeat(t)?),
            Targets::Classes(t) => Targets::Classes(repeat(t)?),
            Targets::FinalClass(t) => Targets::FinalClass(repeat(t)?),
        };
        Ok(Batch::new(inputs, targets))
    }

    /// Number of rows: of sequences, where none stands for several.
    pub fn rows(&self) -> Result<usize> {
        Ok(match &self.inputs {
            Inputs::Dense(x) => x.dim(0)?,
            Inputs::Tokens { ids, .. } => ids.dim(0)?,
        })
    }

    /// Number of steps, the feature included.
    pub fn steps(&self) -> Result<usize> {
        Ok(match &self.inputs {
            Inputs::Dense(x) => x.dim(1)?,
            Inputs::Tokens { feature, ids } => ids.dim(1)? + usize::from(feature.is_some()),
        })
    }

    /// The same batch on a device.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn to_device(&self, device: &Device) -> Result<Batch> {
        self.map(&mut |tensor| match tensor.elem_count() {
            // Drivers refuse to allocate nothing.
            0 => Ok(tensor.clone()),
            _ => Ok(tensor.to_device(device)?),
        })
    }

    /// The same batch with other tensors, in the order: feature, inputs, targets.
    ///
    /// # Errors
    /// Whatever `change` says.
    pub(crate) fn map(&self, change: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Batch> {
        let inputs = match &self.inputs {
            Inputs::Dense(x) => Inputs::Dense(change(x)?),
            Inputs::Tokens { feature, ids } => {
                Inputs::Tokens { feature: feature.as_ref().map(&mut *change).transpose()?, ids: change(ids)? }
            }
        };
        let targets = match &self.targets {
            Targets::Values(t) => Targets::Values(change(t)?),
            Targets::FinalValues(t) => Targets::FinalValues(change(t)?),
            Targets::Classes(t) => Targets::Classes(change(t)?),
            Targets::FinalClass(t) => Targets::FinalClass(change(t)?),
        };
        Ok(Batch { inputs, targets, rows: self.rows.clone() })
    }
}

/// Sequences whose outputs are kept with the result and, where they are points in the plane, drawn.
#[derive(Debug, Clone)]
pub struct Showcase {
    /// The sequences; targets at every step, `[patterns, time, size]`.
    pub batch: Batch,
    /// A name for each of them.
    pub labels: Vec<String>,
    /// A image of what goes in, to be shown beside the answer: `[patterns, height, width]`, u8, 0 is background.
    pub images: Option<Tensor>,
}

/// One task's data for one seed. Everything random in it is drawn from [`crate::rng::Stream`]s of that seed.
pub trait Dataset {
    /// Metrics of validation and test; the first decides which epoch and which seed is best.
    fn metrics(&self) -> Vec<Metric>;

    /// Number of batches of a split in every epoch; 0 where there is no such split.
    fn batches(&self, split: Split, batch_size: usize) -> usize;

    /// One batch; the same for the same [`BatchIndex`], whatever was asked before.
    fn batch(&self, at: BatchIndex) -> Result<Batch>;

    /// Whether it can make batches of this size.
    ///
    /// # Errors
    /// [`Error::Usage`] that says why not.
    fn check(&self, _batch_size: usize) -> Result<()> {
        Ok(())
    }

    /// Sequences to keep the outputs of, with the result.
    fn showcase(&self) -> Result<Option<Showcase>> {
        Ok(None)
    }

    /// Evaluates the trained network (with the weights that are kept), beyond the metrics of the test.
    ///
    /// # Errors
    /// Fails if the data cannot be read, or on a tensor error.
    fn evaluate(&self, _predictor: &dyn Predictor) -> Result<Option<Evaluation>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_for_as_many_sequences_as_it_weighs() -> Result<()> {
        let inputs = Inputs::Dense(Tensor::new(&[[[1f32]], [[2.]]], &Device::Cpu)?);
        let batch = Batch::weighted(inputs, Targets::FinalClass(Tensor::new(&[5u32, 6], &Device::Cpu)?), &[1, 3]);
        assert_eq!((batch.rows()?, batch.sequences()?), (2, 4));
        let Batch { inputs: Inputs::Dense(x), targets: Targets::FinalClass(classes), .. } = batch.expanded()? else {
            panic!("the same kinds");
        };
        assert_eq!(x.flatten_all()?.to_vec1::<f32>()?, [1., 2., 2., 2.]);
        assert_eq!(classes.to_vec1::<u32>()?, [5, 6, 6, 6]);
        Ok(())
    }
}
