//! The columns of a text, and batches.

use candle_core::{Device, Tensor};

use super::Language;
use crate::data::text::{Corpus, Unit, rows_of_columns};
use crate::data::{Batch, BatchIndex, Dataset, Inputs, Metric, Split, Targets};
use crate::error::{Error, Result};

/// A text in contiguous columns: a column's tokens but the last are inputs, and its tokens but the first are targets.
pub struct Columns {
    parts: [Vec<u32>; 3],
    unit: Unit,
    steps: usize,
    columns: usize,
}

impl Columns {
    /// The columns of a text.
    pub fn new(corpus: Corpus, spec: &Language) -> Columns {
        Columns { parts: corpus.parts, unit: spec.unit, steps: spec.steps, columns: spec.columns }
    }

    /// The tokens of a split, and its number of columns.
    fn split(&self, split: Split, batch_size: usize) -> (&[u32], usize) {
        match split {
            Split::Train => (&self.parts[0], batch_size),
            Split::Validation => (&self.parts[1], self.columns),
            Split::Test => (&self.parts[2], self.columns),
        }
    }
}

impl Dataset for Columns {
    fn metrics(&self) -> Vec<Metric> {
        match self.unit {
            Unit::Word => vec![Metric::perplexity(), Metric::nll()],
            Unit::Char => vec![Metric::bits_per_character(), Metric::perplexity()],
        }
    }

    fn batches(&self, split: Split, batch_size: usize) -> usize {
        let (tokens, columns) = self.split(split, batch_size);
        rows_of_columns(tokens.len(), columns).saturating_sub(1).div_ceil(self.steps)
    }

    fn batch(&self, at: BatchIndex) -> Result<Batch> {
        let (tokens, columns) = self.split(at.split, at.batch_size);
        let rows = rows_of_columns(tokens.len(), columns);
        let start = at.index * self.steps;
        let steps = self.steps.min(rows.saturating_sub(1 + start));
        let shifted = |by: usize| -> Result<Tensor> {
            let column = |b: usize| tokens[b * rows + start + by..][..steps].iter().copied();
            let ids: Vec<u32> = (0..columns).flat_map(column).collect();
            Ok(Tensor::from_vec(ids, (columns, steps), &Device::Cpu)?)
        };
        Ok(Batch::new(Inputs::Tokens { feature: None, ids: shifted(0)? }, Targets::Classes(shifted(1)?)))
    }

    fn continues(&self) -> bool {
        true
    }

    fn check(&self, batch_size: usize) -> Result<()> {
        for (split, key) in
            [(Split::Train, "train.batch_size"), (Split::Validation, "task.columns"), (Split::Test, "task.columns")]
        {
            let (tokens, columns) = self.split(split, batch_size);
            if rows_of_columns(tokens.len(), columns) < 2 {
                return Err(Error::Usage(format!(
                    "the {} text has {} tokens, too few for {columns} columns of at least 2: lower `{key}`, or use a longer text",
                    format!("{split:?}").to_lowercase(),
                    tokens.len()
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(tensor: &Tensor) -> Vec<Vec<u32>> {
        tensor.to_vec2().unwrap()
    }

    #[test]
    fn columns_are_contiguous_and_targets_are_one_token_later() {
        let corpus = Corpus { words: Vec::new(), parts: [(0..17).collect(), (0..4).collect(), (0..9).collect()] };
        let data = Columns::new(corpus, &Language { steps: 3, columns: 2, ..Language::default() });
        assert_eq!([Split::Train, Split::Validation, Split::Test].map(|split| data.batches(split, 2)), [3, 1, 1]);
        let batch = |index| {
            let batch =
                data.batch(BatchIndex { split: Split::Train, epoch: 1, index, batch_size: 2, level: 0 }).unwrap();
            let (Inputs::Tokens { ids: inputs, .. }, Targets::Classes(targets)) = (&batch.inputs, &batch.targets)
            else {
                panic!("tokens")
            };
            (ids(inputs), ids(targets))
        };
        assert_eq!(batch(0), (vec![vec![0, 1, 2], vec![8, 9, 10]], vec![vec![1, 2, 3], vec![9, 10, 11]]));
        assert_eq!(
            batch(2),
            (vec![vec![6], vec![14]], vec![vec![7], vec![15]]),
            "the last one is shorter, and token 16 is dropped"
        );
        let error = data.check(9).unwrap_err().to_string();
        assert!(error.contains("`train.batch_size`"), "{error}");
    }
}
