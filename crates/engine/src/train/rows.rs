//! The rows of a batch, each of which stands for one sequence or several equal ones.

use candle_core::{Device, Tensor};

use crate::data::Batch;
use crate::error::{Error, Result};

/// The rows of a batch and the sequences they stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Number of rows.
    pub count: usize,
    /// Number of sequences; of each seed, if there are several.
    pub sequences: usize,
    /// How many sequences each row stands for; absent if always one.
    pub multiplicity: Option<Vec<f32>>,
    /// The row of each sequence; absent if each row is one sequence, in order.
    pub repetition: Option<Vec<u32>>,
    /// Number of seeds between which rows alternate: row `i` is of seed `i % seeds`.
    pub seeds: usize,
}

impl Rows {
    /// The rows of several seeds, each of which has one row per sequence.
    ///
    /// # Errors
    /// Fails if they have different numbers of rows, or rows that stand for several sequences.
    pub fn of_seeds(seeds: &[&Rows]) -> Result<Rows> {
        let Some(first) = seeds.first().filter(|first| first.repetition.is_none()) else {
            return Err(Error::Training("rows of several seeds that stand for several sequences".into()));
        };
        if seeds.iter().any(|rows| *rows != *first) {
            let what =
                "the seeds' batches have different numbers of sequences: train them one by one (`run.seed_batch: 1`)";
            return Err(Error::Training(what.into()));
        }
        Ok(Rows { count: first.count * seeds.len(), seeds: seeds.len(), ..(*first).clone() })
    }

    /// The rows of one seed among those of all, along the first axis.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn of_seed(&self, tensor: &Tensor, seed: usize) -> Result<Tensor> {
        match self.seeds {
            1 => Ok(tensor.clone()),
            seeds => of_seed(tensor, seeds, seed),
        }
    }

    /// Counts the rows of a batch and the sequences of each row.
    ///
    /// # Errors
    /// Fails if a sequence refers to a row out of range, or a row stands for no sequence.
    pub fn of(batch: &Batch) -> Result<Rows> {
        let count = batch.rows()?;
        let Some(repetition) = batch.repetition() else {
            return Ok(Rows { count, sequences: count, multiplicity: None, repetition: None, seeds: 1 });
        };
        let mut multiplicity = vec![0f32; count];
        for &row in repetition {
            *multiplicity.get_mut(row as usize).ok_or_else(|| {
                Error::Training(format!("the task gave a sequence of row {row} in a batch of {count} rows"))
            })? += 1.0;
        }
        if let Some(row) = multiplicity.iter().position(|&sequences| sequences == 0.0) {
            return Err(Error::Training(format!("the task gave a batch in which row {row} stands for no sequence")));
        }
        let sequences = repetition.len();
        // A permutation needs no weights.
        let multiplicity = (sequences > count).then_some(multiplicity);
        Ok(Rows { count, sequences, multiplicity, repetition: Some(repetition.to_vec()), seeds: 1 })
    }

    /// The multiplicities as a tensor, shaped to be broadcast over `[batch, features]`: `[batch, 1]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn column(&self, device: &Device) -> Result<Option<Tensor>> {
        let column = |weights: &Vec<f32>| Tensor::from_slice(weights, (weights.len(), 1), device);
        Ok(self.multiplicity.as_ref().map(column).transpose()?)
    }

    /// Expands a tensor from rows to sequences along `axis`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn expand(&self, tensor: &Tensor, axis: usize) -> Result<Tensor> {
        match &self.repetition {
            None => Ok(tensor.clone()),
            Some(rows) => {
                let rows = Tensor::from_slice(rows, rows.len(), tensor.device())?;
                Ok(tensor.contiguous()?.index_select(&rows, axis)?)
            }
        }
    }
}

/// Joins tensors of several seeds so that they alternate along an axis: `[.., rows, ..]` each to `[.., rows · seeds, ..]`.
///
/// # Errors
/// Fails if their shapes differ.
pub fn alternate(seeds: &[&Tensor], axis: usize) -> Result<Tensor> {
    let ([first, others @ ..], true) = (seeds, seeds.iter().all(|one| one.dims() == seeds[0].dims())) else {
        let shapes: Vec<&[usize]> = seeds.iter().map(|one| one.dims()).collect();
        return Err(Error::Training(format!(
            "the seeds' batches have different shapes ({shapes:?}): train them one by one (`run.seed_batch: 1`)"
        )));
    };
    match others {
        [] => Ok((*first).clone()),
        _ => Ok(Tensor::stack(seeds, axis + 1)?.flatten(axis, axis + 1)?.contiguous()?),
    }
}

/// The rows of one of several seeds, `[rows · seeds, ..]` to `[rows, ..]`: the inverse of [`alternate`] along the first axis.
///
/// # Errors
/// Fails on a tensor error.
pub fn of_seed(tensor: &Tensor, seeds: usize, seed: usize) -> Result<Tensor> {
    let mut dims = tensor.dims().to_vec();
    dims[0] /= seeds;
    dims.insert(1, seeds);
    Ok(tensor.reshape(dims)?.narrow(1, seed, 1)?.squeeze(1)?.contiguous()?)
}
