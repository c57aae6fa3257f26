//! The rows of a batch, each of which stands for one sequence or several equal ones.

use candle_core::{Device, Tensor};

use crate::data::Batch;
use crate::error::{Error, Result};

/// The rows of a batch and the sequences they stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Number of rows.
    pub count: usize,
    /// Number of sequences.
    pub sequences: usize,
    /// How many sequences each row stands for; absent if always one.
    pub multiplicity: Option<Vec<f32>>,
    /// The row of each sequence; absent if each row is one sequence, in order.
    pub repetition: Option<Vec<u32>>,
}

impl Rows {
    /// Counts the rows of a batch and the sequences of each row.
    ///
    /// # Errors
    /// Fails if a sequence refers to a row out of range, or a row stands for no sequence.
    pub fn of(batch: &Batch) -> Result<Rows> {
        let count = batch.rows()?;
        let Some(repetition) = batch.repetition() else {
            return Ok(Rows { count, sequences: count, multiplicity: None, repetition: None });
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
        Ok(Rows { count, sequences, multiplicity, repetition: Some(repetition.to_vec()) })
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
