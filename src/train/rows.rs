//! What the rows of a batch stand for: one sequence each, or several that are equal.

use candle_core::{Device, Tensor};

use crate::data::Batch;
use crate::error::{Error, Result};

/// What the rows of a batch stand for.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Number of rows.
    pub count: usize,
    /// Number of sequences.
    pub sequences: usize,
    /// How many sequences each row stands for; one each where absent.
    pub multiplicity: Option<Vec<f32>>,
    /// The row of each sequence, where rows stand for several.
    pub repetition: Option<Vec<u32>>,
}

impl Rows {
    /// What the rows of a batch stand for.
    ///
    /// # Errors
    /// Fails if a sequence is of a row that is not there, or a row stands for none.
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
        // Rows of one sequence each, in another order perhaps, weigh alike.
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

    /// A tensor over rows (along `axis`) as one over sequences.
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
