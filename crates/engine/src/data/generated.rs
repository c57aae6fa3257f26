//! Sequences that are drawn batch by batch: numbers of batches, their sizes and streams.

use super::{BatchIndex, Split};
use crate::rng::Stream;

/// Rows of a validation or test batch: bounds memory without affecting metrics.
const LARGEST_BATCH: usize = 1000;

/// Numbers of sequences of a seed's splits. Training batches are always full, and new ones in each epoch.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The seed of all streams.
    pub seed: u64,
    /// Training sequences per epoch.
    pub train: usize,
    /// Validation sequences.
    pub validation: usize,
    /// Test sequences.
    pub test: usize,
}

impl Generated {
    /// Number of batches of a split per epoch, as [`Dataset::batches`](super::Dataset::batches).
    pub fn batches(&self, split: Split, batch_size: usize) -> usize {
        match split {
            Split::Train => self.train.div_ceil(batch_size),
            Split::Validation => self.validation.div_ceil(LARGEST_BATCH),
            Split::Test => self.test.div_ceil(LARGEST_BATCH),
        }
    }

    /// The stream that a batch is drawn from, and its number of sequences.
    pub fn batch(&self, at: BatchIndex) -> (Stream, usize) {
        let of_size = |size: usize| size.saturating_sub(at.index * LARGEST_BATCH).min(LARGEST_BATCH);
        let (purpose, rows) = match at.split {
            Split::Train => ("data.train", at.batch_size),
            Split::Validation => ("data.validation", of_size(self.validation)),
            Split::Test => ("data.test", of_size(self.test)),
        };
        (Stream::new(self.seed, purpose, at.epoch, at.index), rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_a_measured_split_hold_all_of_it_and_training_batches_are_full() {
        let data = Generated { seed: 1, train: 25, validation: 0, test: 2300 };
        let rows = |split, index| data.batch(BatchIndex { split, epoch: 1, index, batch_size: 10, level: 0 }).1;
        let sizes = |split| (0..data.batches(split, 10)).map(|index| rows(split, index)).collect::<Vec<_>>();
        assert_eq!(sizes(Split::Train), [10, 10, 10]);
        assert_eq!(sizes(Split::Validation), [0; 0]);
        assert_eq!(sizes(Split::Test), [1000, 1000, 300]);
    }
}
