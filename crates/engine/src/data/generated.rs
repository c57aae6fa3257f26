//! Sequences that are drawn batch by batch: numbers of batches, their sizes and streams.

use super::{Batch, BatchIndex, Curriculum, Dataset, Metric, Split};
use crate::error::Result;
use crate::rng::Stream;

/// Rows of a validation or test batch: bounds memory without affecting metrics.
const LARGEST_BATCH: usize = 1000;

/// Sequences that can be drawn from a stream.
pub trait Sequences {
    /// As [`Dataset::metrics`].
    fn metrics(&self) -> Vec<Metric>;

    /// Draws `rows` sequences of a level of difficulty.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn draw(&self, stream: &mut Stream, rows: usize, level: usize) -> Result<Batch>;

    /// As [`Dataset::curriculum`].
    fn curriculum(&self) -> Option<&dyn Curriculum> {
        None
    }
}

/// The sequences of a seed, with their numbers in each split. Training batches are always full, and new ones in each epoch.
#[derive(Debug, Clone)]
pub struct Generated<S> {
    /// The seed of all streams.
    pub seed: u64,
    /// Training sequences per epoch.
    pub train: usize,
    /// Validation sequences.
    pub validation: usize,
    /// Test sequences.
    pub test: usize,
    /// What is drawn.
    pub sequences: S,
}

impl<S: Sequences> Dataset for Generated<S> {
    fn metrics(&self) -> Vec<Metric> {
        self.sequences.metrics()
    }

    fn batches(&self, split: Split, batch_size: usize) -> usize {
        match split {
            Split::Train => self.train.div_ceil(batch_size),
            Split::Validation => self.validation.div_ceil(LARGEST_BATCH),
            Split::Test => self.test.div_ceil(LARGEST_BATCH),
        }
    }

    fn batch(&self, at: BatchIndex) -> Result<Batch> {
        let of_size = |size: usize| size.saturating_sub(at.index * LARGEST_BATCH).min(LARGEST_BATCH);
        let (purpose, rows) = match at.split {
            Split::Train => ("data.train", at.batch_size),
            Split::Validation => ("data.validation", of_size(self.validation)),
            Split::Test => ("data.test", of_size(self.test)),
        };
        let mut stream = Stream::new(self.seed, purpose, at.epoch, at.index);
        self.sequences.draw(&mut stream, rows, at.level)
    }

    fn curriculum(&self) -> Option<&dyn Curriculum> {
        self.sequences.curriculum()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::data::{Inputs, Targets};

    struct Zeros;

    impl Sequences for Zeros {
        fn metrics(&self) -> Vec<Metric> {
            Vec::new()
        }

        fn draw(&self, _: &mut Stream, rows: usize, _: usize) -> Result<Batch> {
            let zeros = Tensor::zeros((rows, 1, 1), DType::F32, &Device::Cpu)?;
            Ok(Batch::new(Inputs::Dense(zeros.clone()), Targets::Values(zeros)))
        }
    }

    #[test]
    fn batches_of_a_measured_split_hold_all_of_it_and_training_batches_are_full() -> Result<()> {
        let data = Generated { seed: 1, train: 25, validation: 0, test: 2300, sequences: Zeros };
        let rows = |split, index| -> Result<usize> {
            match data.batch(BatchIndex { split, epoch: 1, index, batch_size: 10, level: 0 })?.targets {
                Targets::Values(values) => Ok(values.dim(0)?),
                _ => Ok(0),
            }
        };
        let sizes = |split| (0..data.batches(split, 10)).map(|index| rows(split, index)).collect::<Result<Vec<_>>>();
        assert_eq!(sizes(Split::Train)?, [10, 10, 10]);
        assert_eq!(sizes(Split::Validation)?, [0; 0]);
        assert_eq!(sizes(Split::Test)?, [1000, 1000, 300]);
        Ok(())
    }
}
