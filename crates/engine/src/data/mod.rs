//! Batches, targets, datasets and metrics: the types that tasks implement or return.
//!
//! Tasks return [`Batch`]es on the CPU; the trainer copies them to its device. Axes are `[batch, time, features]`.

pub mod captions;
pub mod coco;
mod decoding;
pub mod digits;
mod evaluation;
mod generated;
pub mod hub;
pub mod image_set;
pub mod images;
mod metric;
pub mod movement;
mod order;
pub mod scenes;
pub mod text;

pub use captions::vocabulary::Vocabulary;
pub use decoding::{Decoded, Limits, Strategy, WIDEST_BEAM};
pub use evaluation::{Evaluation, Predictor};
pub use generated::{Generated, Sequences};
pub use image_set::Images;
pub use metric::{Direction, Measured, Metric, binary_cross_entropy};
pub use order::{EpochOrder, nth_batch, share_of};

use candle_core::{Device, Tensor};

use crate::error::Result;

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Training sequences.
    Train,
    /// Evaluated after every epoch.
    Validation,
    /// Evaluated once, at the end of training.
    Test,
}

/// Identifies a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchIndex {
    /// The part of the data.
    pub split: Split,
    /// The epoch, counted from 1; 0 for the test at the end.
    pub epoch: usize,
    /// The batch within the epoch, counted from 0.
    pub index: usize,
    /// `train.batch_size`; tasks may use another size for validation and test.
    pub batch_size: usize,
    /// The level of difficulty ([`Dataset::curriculum`]); 0 without a curriculum.
    pub level: usize,
}

/// The inputs of the network.
#[derive(Debug, Clone)]
pub enum Inputs {
    /// `[batch, time, features]`, f32.
    Dense(Tensor),
    /// Token ids, optionally preceded by a feature vector as the first step.
    Tokens {
        /// `[batch, features]`, f32: the first input, as wide as the embedding; or the input of the model's encoder:
        /// features of its backbone, or pixels `[batch, 3, height, width]`.
        feature: Option<Tensor>,
        /// `[batch, time]` (`[batch, time - 1]` after a feature), u32.
        ids: Tensor,
    },
}

/// The targets of the network.
#[derive(Debug, Clone)]
pub enum Targets {
    /// `[batch, time, size]`, f32: values or bits at every step, or at as many last steps of the sequences.
    Values(Tensor),
    /// `[batch, size]`, f32: values at the last step.
    FinalValues(Tensor),
    /// `[batch, time]`, u32: a class at every step.
    Classes(Tensor),
    /// `[batch]`, u32: a class at the last step.
    FinalClass(Tensor),
}

impl Targets {
    /// The first of `steps` steps that has a target, where targets have an axis of time: 0, or later where only the last steps have
    /// them.
    ///
    /// # Errors
    /// Fails on a tensor without time.
    pub fn first_of(&self, steps: usize) -> Result<usize> {
        match self {
            Targets::Values(t) | Targets::Classes(t) => Ok(steps.saturating_sub(t.dim(1)?)),
            Targets::FinalValues(_) | Targets::FinalClass(_) => Ok(0),
        }
    }
}

/// Sequences of one length. Identical sequences may share a row: see [`Batch::repeating`].
#[derive(Debug, Clone)]
pub struct Batch {
    /// The inputs of the network.
    pub inputs: Inputs,
    /// The targets of the network.
    pub targets: Targets,
    /// The row of each sequence; one row per sequence if absent.
    rows: Option<Vec<u32>>,
}

impl Batch {
    /// A batch with one row per sequence.
    pub fn new(inputs: Inputs, targets: Targets) -> Batch {
        Batch { inputs, targets, rows: None }
    }

    /// A batch in which sequence `i` is row `rows[i]` of inputs and targets. Every row has to occur.
    ///
    /// Losses, gradients, metrics and recordings are those of [`Batch::expanded`], but each row is computed once.
    pub fn repeating(inputs: Inputs, targets: Targets, rows: Vec<u32>) -> Batch {
        Batch { inputs, targets, rows: Some(rows) }
    }

    /// A batch in which row `r` of inputs and targets represents `multiplicity[r]` sequences, at least 1.
    pub fn weighted(inputs: Inputs, targets: Targets, multiplicity: &[usize]) -> Batch {
        let repeated = |(row, &count)| std::iter::repeat_n(row, count);
        Batch::repeating(inputs, targets, (0u32..).zip(multiplicity).flat_map(repeated).collect())
    }

    /// The row of each sequence, if rows are shared.
    pub fn repetition(&self) -> Option<&[u32]> {
        self.rows.as_deref()
    }

    /// Number of sequences.
    pub fn sequences(&self) -> Result<usize> {
        self.rows.as_ref().map_or_else(|| self.rows(), |rows| Ok(rows.len()))
    }

    /// The same batch with one row per sequence.
    ///
    /// # Errors
    /// Fails if the index of a row is out of range.
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

    /// Number of distinct rows.
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

    /// Copies the batch to a device.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn to_device(&self, device: &Device) -> Result<Batch> {
        self.map(&mut |tensor| match tensor.elem_count() {
            // Drivers reject empty allocations.
            0 => Ok(tensor.clone()),
            _ => Ok(tensor.to_device(device)?),
        })
    }

    /// Applies `change` to every tensor, in the order: feature, inputs, targets.
    ///
    /// # Errors
    /// The errors of `change`.
    pub fn map(&self, change: &mut dyn FnMut(&Tensor) -> Result<Tensor>) -> Result<Batch> {
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

/// Sequences whose outputs are saved with the result and, if they are points in the plane, plotted.
#[derive(Debug, Clone)]
pub struct Showcase {
    /// The sequences, with targets at every step, `[patterns, time, size]`.
    pub batch: Batch,
    /// One label per sequence.
    pub labels: Vec<String>,
    /// An image of each input, shown next to the output: `[patterns, height, width]`, u8, 0 is background.
    pub images: Option<Tensor>,
}

/// Levels of difficulty through which training goes, from 0 on.
pub trait Curriculum {
    /// Whether training goes on to the next level after a batch with this training loss, the mean over everything that carries a
    /// target.
    fn is_mastered(&self, level: usize, loss: f64) -> bool;

    /// Columns of `metrics.csv` that describe a level, the same names for every level.
    fn columns(&self, level: usize) -> Vec<(&'static str, f64)>;
}

/// The data of a task for one seed. All randomness comes from [`crate::rng::Stream`]s of that seed.
pub trait Dataset {
    /// Metrics of validation and test; the first one selects the best epoch and seed.
    fn metrics(&self) -> Vec<Metric>;

    /// Number of batches of a split per epoch; 0 if there is no such split.
    fn batches(&self, split: Split, batch_size: usize) -> usize;

    /// One batch: a pure function of its [`BatchIndex`], independent of earlier calls.
    fn batch(&self, at: BatchIndex) -> Result<Batch>;

    /// Whether row `i` of a batch goes on in row `i` of the next, so that a state carried from one to the other has a meaning; the
    /// last batch of a split may then be shorter. Evaluation starts each batch from the state that the one before left.
    fn continues(&self) -> bool {
        false
    }

    /// The levels through which training goes, if it does. They are the trainer's to count: a batch is of the level in its
    /// [`BatchIndex`].
    fn curriculum(&self) -> Option<&dyn Curriculum> {
        None
    }

    /// Checks that batches of this size are possible.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) with the reason.
    fn check(&self, _batch_size: usize) -> Result<()> {
        Ok(())
    }

    /// Sequences whose outputs are saved with the result.
    fn showcase(&self) -> Result<Option<Showcase>> {
        Ok(None)
    }

    /// Whether [`Self::evaluate`] has a result.
    fn evaluates(&self) -> bool {
        false
    }

    /// Evaluates the selected weights of the trained network, in addition to the metrics of the test.
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
    fn a_row_is_repeated_by_its_multiplicity() -> Result<()> {
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
