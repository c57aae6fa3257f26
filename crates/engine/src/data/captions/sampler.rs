//! Batches of captions of one length, and their order.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::error::{Error, Result};
use crate::rng::Stream;

/// Default number of validation batches.
pub const VALIDATION_BATCHES: usize = 50;

/// How captions are grouped into batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampling {
    /// Captions per batch; at least 1.
    pub batch_size: usize,
    /// Range of lengths, inclusive. A length counts words, punctuation, start and end.
    pub lengths: RangeInclusive<usize>,
    /// Every length yields as many batches as the rarest one in the range.
    pub balance: bool,
    /// Reshuffle captions and batches in every epoch.
    pub shuffle: bool,
    /// Maximum number of batches, drawn from all lengths; the same in every epoch unless `shuffle`.
    pub limit: Option<usize>,
}

impl Sampling {
    /// The batches of an epoch: indices into `lengths`, all captions of a batch of one length. Incomplete batches are
    /// dropped.
    ///
    /// Batches are taken in turn from the lengths in ascending order: the first of each, the second of each, and so on.
    /// With `balance` or `shuffle`, captions of a length are shuffled first; with `shuffle` or a `limit`, batches are
    /// shuffled at the end. Without `shuffle` the streams of epoch 0 are used.
    ///
    /// # Errors
    /// [`Error::Usage`] if `batch_size` is 0; if no length of the range fills a batch; with `balance`, if any does not.
    pub fn batches(&self, lengths: &[usize], seed: u64, purpose: &str, epoch: usize) -> Result<Vec<Vec<usize>>> {
        let (low, high) = (*self.lengths.start(), *self.lengths.end());
        if self.batch_size == 0 {
            return Err(Error::Usage("a batch has at least one caption".into()));
        }
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (position, &length) in lengths.iter().enumerate().filter(|(_, length)| self.lengths.contains(length)) {
            groups.entry(length).or_default().push(position);
        }
        let full = |group: &Vec<usize>| group.len() / self.batch_size;
        if groups.values().all(|group| full(group) == 0) {
            return Err(Error::Usage(format!(
                "no {} captions have one length of {low} to {high}: take smaller batches or a wider range",
                self.batch_size
            )));
        }
        let epoch = if self.shuffle { epoch } else { 0 };
        if self.balance || self.shuffle {
            for (length, group) in &mut groups {
                Stream::new(seed, &format!("{purpose}.length{length}"), epoch, 0).shuffle(group);
            }
        }
        let rounds = if self.balance { self.rarest(&groups)? } else { groups.values().map(full).max().unwrap_or(0) };
        let mut batches = Vec::new();
        for round in 0..rounds {
            for group in groups.values().filter(|group| round < full(group)) {
                batches.push(group[round * self.batch_size..(round + 1) * self.batch_size].to_vec());
            }
        }
        if self.shuffle || self.limit.is_some() {
            Stream::new(seed, &format!("{purpose}.order"), epoch, 0).shuffle(&mut batches);
        }
        batches.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(batches)
    }

    /// Batches of the rarest length in the range.
    fn rarest(&self, groups: &BTreeMap<usize, Vec<usize>>) -> Result<usize> {
        let batches = |length: usize| groups.get(&length).map_or(0, |group| group.len() / self.batch_size);
        let rarest = self.lengths.clone().min_by_key(|&length| batches(length)).unwrap_or(*self.lengths.start());
        match batches(rarest) {
            0 => Err(Error::Usage(format!(
                "the lengths cannot be balanced: of length {rarest} there are only {} captions, and a batch has {}; \
                 take smaller batches, another range, or do not balance",
                groups.get(&rarest).map_or(0, Vec::len),
                self.batch_size
            ))),
            batches => Ok(batches),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling() -> Sampling {
        Sampling { batch_size: 2, lengths: 3..=5, balance: false, shuffle: false, limit: None }
    }

    #[test]
    fn lengths_take_turns() {
        let lengths = [3, 4, 9, 3, 4, 3, 3, 5, 4];
        let batches = |sampling: &Sampling| sampling.batches(&lengths, 1, "data.train", 1);
        assert_eq!(batches(&sampling()).unwrap(), [vec![0, 3], vec![1, 4], vec![5, 6]]);
        let balanced = Sampling { balance: true, lengths: 3..=4, ..sampling() };
        assert_eq!(batches(&balanced).unwrap().len(), 2);
        let error = batches(&Sampling { balance: true, ..sampling() }).unwrap_err().to_string();
        assert!(error.contains("of length 5 there are only 1"), "{error}");
        let error = batches(&Sampling { lengths: 6..=9, ..sampling() }).unwrap_err().to_string();
        assert!(error.contains("of 6 to 9"), "{error}");
        assert!(batches(&Sampling { batch_size: 0, ..sampling() }).is_err());
        // A reversed range is empty.
        #[allow(clippy::reversed_empty_ranges)]
        let none = Sampling { lengths: 5..=3, balance: true, ..sampling() };
        assert!(batches(&none).is_err());
    }
}
