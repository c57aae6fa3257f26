//! One batch as the engine wants it: time first, on the device, dropout masks drawn.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::data::{Batch, Inputs};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::rng::Stream;

/// The inputs of a batch, time first.
#[derive(Debug, Clone)]
pub struct Sequence {
    input: Input,
    /// `[time, batch, width]`, already divided by what is kept.
    input_mask: Option<Tensor>,
    /// For each layer but the top one: `[time, batch, hidden]`, likewise.
    layer_masks: Vec<Option<Tensor>>,
    steps: usize,
    rows: usize,
}

#[derive(Debug, Clone)]
enum Input {
    /// `[time, batch, features]`
    Dense(Tensor),
    /// A feature `[batch, width]` perhaps, then ids `[time, batch]`.
    Tokens { feature: Option<Tensor>, ids: Tensor },
}

/// Which dropout masks a batch gets.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// `model.input_dropout`
    pub input: f64,
    /// The seed of the masks.
    pub seed: u64,
    /// The epoch of the masks.
    pub epoch: usize,
    /// The batch of the masks.
    pub batch: usize,
}

impl Sequence {
    /// Prepares a batch. Without `dropout` nothing is dropped (evaluation).
    ///
    /// # Errors
    /// Fails if the batch is empty or of a kind that the model does not read.
    pub fn new(model: &Model, batch: &Batch, dropout: Option<Dropout>) -> Result<Sequence> {
        let (rows, steps) = (batch.rows()?, batch.steps()?);
        if rows == 0 || steps == 0 {
            return Err(Error::Training(format!("the task gave a batch of {rows} sequences of {steps} steps")));
        }
        let device = model.device();
        let (input, width) = match &batch.inputs {
            Inputs::Dense(x) => {
                let x = x.to_device(device)?.transpose(0, 1)?.contiguous()?;
                let width = x.dim(2)?;
                (Input::Dense(x), width)
            }
            Inputs::Tokens { feature, ids } => {
                let table = model
                    .embedding(crate::model::Tracking::Constant)
                    .ok_or_else(|| Error::Training("the task gives tokens, the model has no embedding".into()))?;
                let ids = ids.to_device(device)?.t()?.contiguous()?;
                let feature = feature.as_ref().map(|f| f.to_device(device)).transpose()?;
                (Input::Tokens { feature, ids }, table.dim(1)?)
            }
        };
        let mask = |purpose: &str, p: f64, width: usize| match dropout {
            Some(d) if p > 0.0 => {
                let mut stream = Stream::new(d.seed, purpose, d.epoch, d.batch);
                Ok::<_, Error>(Some(dropout_mask(&mut stream, p, (steps, rows, width), device)?))
            }
            _ => Ok(None),
        };
        let input_mask = mask("dropout.input", dropout.map_or(0.0, |d| d.input), width)?;
        let layer_masks = (model.layers.iter().enumerate())
            .map(|(k, layer)| mask(&format!("dropout.layer{k}"), layer.dropout, layer.hidden))
            .collect::<Result<_>>()?;
        Ok(Sequence { input, input_mask, layer_masks, steps, rows })
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Number of sequences.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The input of step `offset` of each window, windows one below the other: `[windows · batch, width]`.
    ///
    /// Embeddings are looked up in `table`, so that gradients flow into it where it is tracked.
    pub fn input(&self, windows: &[Range<usize>], offset: usize, table: Option<&Tensor>) -> Result<Tensor> {
        let steps = windows.iter().map(|window| window.start + offset);
        let x = match &self.input {
            Input::Dense(x) => gather(x, steps.clone())?,
            Input::Tokens { feature, ids } => {
                let table = table.ok_or_else(|| Error::Training("tokens without an embedding".into()))?;
                let mut parts = Vec::with_capacity(windows.len());
                for step in steps.clone() {
                    parts.push(match feature {
                        Some(feature) if step == 0 => feature.clone(),
                        _ => table.index_select(&ids.get(step - usize::from(feature.is_some()))?, 0)?,
                    });
                }
                stack_rows(&parts)?
            }
        };
        match &self.input_mask {
            Some(mask) => Ok((x * gather(mask, steps)?)?),
            None => Ok(x),
        }
    }

    /// Applies the dropout mask of a layer's output at step `offset` of each window to `h`, `[windows · batch, hidden]`.
    pub fn drop_out(&self, layer: usize, windows: &[Range<usize>], offset: usize, h: &Tensor) -> Result<Tensor> {
        match &self.layer_masks[layer] {
            Some(mask) => Ok((h * gather(mask, windows.iter().map(|window| window.start + offset))?)?),
            None => Ok(h.clone()),
        }
    }
}

/// Rows of a time-first tensor at some steps, one below the other: `[time, batch, n]` to `[steps · batch, n]`.
fn gather(x: &Tensor, steps: impl Iterator<Item = usize>) -> Result<Tensor> {
    let parts = steps.map(|step| x.get(step)).collect::<Result<Vec<_>, _>>()?;
    stack_rows(&parts)
}

/// Puts `[rows, n]` tensors one below the other.
pub fn stack_rows(parts: &[Tensor]) -> Result<Tensor> {
    match parts {
        [one] => Ok(one.clone()),
        parts => Ok(Tensor::cat(parts, 0)?),
    }
}

/// Keeps each element with probability `1 - p` and divides it by that, so that means stay.
fn dropout_mask(stream: &mut Stream, p: f64, dims: (usize, usize, usize), device: &Device) -> Result<Tensor> {
    let kept = (1.0 / (1.0 - p)) as f32;
    let count = dims.0 * dims.1 * dims.2;
    let values: Vec<f32> = (0..count).map(|_| if stream.unit_f64() < p { 0.0 } else { kept }).collect();
    Ok(Tensor::from_vec(values, dims, device)?.to_dtype(DType::F32)?)
}
