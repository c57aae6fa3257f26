//! One batch in the form that the engine needs: on the device, with dropout masks and row multiplicities.

use std::cell::OnceCell;
use std::ops::Range;
use std::rc::Rc;

use candle_core::{DType, Device, Shape, Tensor};

use super::rows::{Rows, alternate};
use crate::data::{Batch, Inputs};
use crate::error::{Error, Result};
use crate::model::{Encoded, FeedForward, Model, Weights};
use crate::nn::kernel::passes::copy_rows;
use crate::nn::slices::{self, Slice};
use crate::nn::{Gradients, constant};
use crate::rng::Stream;

/// The inputs of a batch.
#[derive(Debug, Clone)]
pub struct DeviceBatch {
    input: Input,
    /// `[time, batch, width]`, already divided by the keep probability.
    input_mask: Option<Tensor>,
    /// Per layer, `[time, batch, hidden]`, likewise.
    layer_masks: Vec<Option<Tensor>>,
    steps: usize,
    width: usize,
    rows: Rows,
    /// The encoder's output, if the model has an encoder with a backbone.
    encoded: Option<Rc<Encoded>>,
    /// Whether the inputs, or the feature before the tokens, are outputs of blocks that learn from the gradients there.
    below_learns: bool,
}

#[derive(Debug, Clone)]
enum Input {
    /// `[batch, time, features]`, and its time-first transpose, computed on first use.
    Dense(Tensor, OnceCell<Tensor>),
    /// An optional feature `[batch, width]`, or the image `[batch, 3, height, width]` that blocks encode, then ids `[time, batch]`.
    Tokens { feature: Option<Tensor>, ids: Tensor },
}

/// The dropout masks of a batch.
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

impl Dropout {
    /// Whether dropout is active, so that equal sequences do not stay equal.
    pub fn is_active(&self, model: &Model) -> bool {
        self.input > 0.0 || model.layers.iter().any(|layer| layer.dropout > 0.0)
    }
}

impl DeviceBatch {
    /// Prepares a batch: for training with `dropout` (the model's encoder, if any, can then learn too), for evaluation
    /// without.
    ///
    /// # Errors
    /// Fails if the batch is empty or does not fit the model, or if dropout is active and rows stand for several sequences.
    pub fn new(model: &Model, batch: &Batch, dropout: Option<Dropout>) -> Result<DeviceBatch> {
        let (rows, steps) = (Rows::of(batch)?, batch.steps()?);
        if rows.count == 0 || steps == 0 {
            return Err(Error::Training(format!("the task gave a batch of {} sequences of {steps} steps", rows.count)));
        }
        let device = model.device();
        let mut encoded = None;
        let (input, width) = match &batch.inputs {
            Inputs::Dense(x) => {
                let x = x.to_device(device)?.contiguous()?;
                let width = x.dim(2)?;
                (Input::Dense(x, OnceCell::new()), width)
            }
            Inputs::Tokens { feature, ids } => {
                let table = model
                    .embedding(Weights::Constant)
                    .ok_or_else(|| Error::Training("the task gives tokens, the model has no embedding".into()))?;
                let width = table.dim(1)?;
                if ids.device().is_cpu() {
                    check_tokens(model, ids)?;
                }
                encoded = match (&model.encoder, feature) {
                    (Some(encoder), Some(images)) => {
                        let images = images.to_device(device)?;
                        Some(Rc::new(encoder.encode(&model.params, &images, dropout.is_some())?))
                    }
                    _ => None,
                };
                let feature = encoded.as_ref().map(|encoded| &encoded.features).or(feature.as_ref());
                let is_first_input = !model.blocks.as_ref().is_some_and(FeedForward::encodes_images);
                if let Some(feature) = feature.filter(|feature| is_first_input && feature.dims() != [rows.count, width])
                {
                    let dims = feature.dims();
                    return Err(Error::Training(format!(
                        "the task gave features {dims:?} for {} sequences and embeddings of {width} numbers",
                        rows.count
                    )));
                }
                // A feature alone has no ids, and drivers refuse empty allocations.
                let ids = match ids.elem_count() {
                    0 => Tensor::zeros((0, rows.count), DType::U32, &Device::Cpu)?,
                    _ => ids.to_device(device)?.t()?.contiguous()?,
                };
                let feature = feature.map(|f| f.to_device(device)?.contiguous()).transpose()?;
                (Input::Tokens { feature, ids }, width)
            }
        };
        let dropout = dropout.filter(|dropout| dropout.is_active(model));
        if dropout.is_some() && rows.repetition.is_some() {
            return Err(Error::Training("dropout in a batch whose rows stand for several sequences".into()));
        }
        let mask = |purpose: &str, p: f64, width: usize| match dropout {
            Some(d) if p > 0.0 => {
                let mut stream = Stream::new(d.seed, purpose, d.epoch, d.batch);
                Ok::<_, Error>(Some(dropout_mask(&mut stream, p, (steps, rows.count, width), device)?))
            }
            _ => Ok(None),
        };
        let input_mask = mask("dropout.input", dropout.map_or(0.0, |d| d.input), width)?;
        let layer_masks = (model.layers.iter().enumerate())
            .map(|(k, layer)| mask(&format!("dropout.layer{k}"), layer.dropout, layer.hidden))
            .collect::<Result<_>>()?;
        Ok(DeviceBatch { input, input_mask, layer_masks, steps, width, rows, encoded, below_learns: false })
    }

    /// The batches of the seeds of a model as one, whose rows alternate between the seeds.
    ///
    /// # Errors
    /// Fails if their shapes differ, if rows stand for several sequences, or if there is an encoder.
    pub fn of_seeds(mut seeds: Vec<DeviceBatch>, model: &Model) -> Result<DeviceBatch> {
        if seeds.len() == 1 {
            return Ok(seeds.remove(0));
        }
        let seeds = seeds.as_slice();
        let [first, ..] = seeds else { return Err(Error::Training("batches of no seed".into())) };
        // Tokens are looked up in the embeddings of all seeds, one after the other.
        let vocabulary = model.embedding(Weights::Constant).map_or(Ok(0), |table| table.dim(1))?;
        if seeds.iter().any(|one| one.encoded.is_some()) {
            return Err(Error::Training("an encoder's features in a batch of several seeds".into()));
        }
        let join = |axis: usize, of: &dyn Fn(usize) -> Option<Tensor>| {
            let parts: Option<Vec<Tensor>> = (0..seeds.len()).map(of).collect();
            parts.map(|parts| alternate(&parts.iter().collect::<Vec<_>>(), axis)).transpose()
        };
        let missing = || Error::Training("batches of seeds of different kinds".into());
        let input = match &first.input {
            Input::Dense(..) => {
                let x = join(0, &|seed| match &seeds[seed].input {
                    Input::Dense(x, _) => Some(x.clone()),
                    Input::Tokens { .. } => None,
                })?;
                Input::Dense(x.ok_or_else(missing)?, OnceCell::new())
            }
            Input::Tokens { feature, .. } => {
                let parts = seeds.iter().enumerate().map(|(seed, one)| match &one.input {
                    Input::Tokens { feature, ids } => Ok((feature, later_in_table(ids, seed * vocabulary)?)),
                    Input::Dense(..) => Err(missing()),
                });
                let parts = parts.collect::<Result<Vec<_>>>()?;
                let ids = join(1, &|seed| Some(parts[seed].1.clone()))?.ok_or_else(missing)?;
                let joined = join(0, &|seed| parts[seed].0.clone())?;
                if joined.is_some() != feature.is_some() {
                    return Err(missing());
                }
                Input::Tokens { feature: joined, ids }
            }
        };
        Ok(DeviceBatch {
            input,
            input_mask: join(1, &|seed| seeds[seed].input_mask.clone())?,
            layer_masks: (0..first.layer_masks.len())
                .map(|layer| join(1, &|seed| seeds[seed].layer_masks[layer].clone()))
                .collect::<Result<_>>()?,
            steps: first.steps,
            width: first.width,
            rows: Rows::of_seeds(&seeds.iter().map(|one| &one.rows).collect::<Vec<_>>())?,
            encoded: None,
            below_learns: false,
        })
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Width of a step's input: the number of features, or the width of the embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows and the sequences they stand for.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Whether the input of a step is looked up in the embedding.
    pub fn looks_up(&self, step: usize) -> bool {
        matches!(&self.input, Input::Tokens { feature, .. } if step > 0 || feature.is_none())
    }

    /// The feature that is the first input, `[batch, width]`, if it comes from an encoder that learns from this batch.
    pub fn learned_feature(&self) -> Option<&Tensor> {
        match &self.input {
            Input::Tokens { feature, .. } if self.below_learns => feature.as_ref(),
            _ => self.encoded.as_ref().filter(|encoded| encoded.learns()).map(|encoded| &encoded.features),
        }
    }

    /// Accumulates the gradients of an encoder with a backbone, given the cotangent at the feature, `[batch, width]`; before the parameters
    /// change.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn add_encoder_gradients(&self, cotangent: &Tensor, gradients: &mut Gradients) -> Result<()> {
        self.encoded.as_ref().map_or(Ok(()), |encoded| encoded.learn(cotangent, gradients))
    }

    /// The running statistics of the encoder's batch normalisation after this batch, by index of their parameter.
    pub fn statistics(&self) -> &[(usize, Tensor)] {
        self.encoded.as_ref().map_or(&[], |encoded| &encoded.statistics)
    }

    /// The only step of a batch of numbers, `[batch, features]`.
    ///
    /// # Errors
    /// Fails if the inputs are tokens, or sequences of several steps.
    pub fn single_step(&self) -> Result<Tensor> {
        match &self.input {
            Input::Dense(x, _) if self.steps == 1 => Ok(x.squeeze(1)?),
            _ => Err(Error::Training("a feed-forward network reads numbers in a single step".into())),
        }
    }

    /// What blocks below the recurrent layers read: every step of every sequence, `[batch · time, features]`, or the image before the
    /// tokens, `[batch, ...]`. `None` for tokens alone.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn read_by_blocks(&self) -> Result<Option<Tensor>> {
        match &self.input {
            Input::Dense(x, _) => Ok(Some(x.flatten_to(1)?)),
            Input::Tokens { feature, .. } => Ok(feature.clone()),
        }
    }

    /// The batch as the recurrent layers read it: the outputs of blocks in place of what these read, `[batch · time, width]` or
    /// `[batch, width]`. The blocks learn from the gradients there if `learn`.
    ///
    /// # Errors
    /// Fails if they are of another batch.
    pub fn of_blocks(&self, outputs: &Tensor, learn: bool) -> Result<DeviceBatch> {
        let (_, width) = outputs.dims2()?;
        let input = match &self.input {
            Input::Dense(..) => Input::Dense(outputs.reshape((self.rows.count, self.steps, width))?, OnceCell::new()),
            Input::Tokens { ids, .. } => {
                Input::Tokens { feature: Some(outputs.reshape((self.rows.count, self.width))?), ids: ids.clone() }
            }
        };
        Ok(DeviceBatch { input, width, below_learns: learn, ..self.clone() })
    }

    /// The gradient at the outputs of the blocks, `[batch · time, width]` or `[batch, width]`, given that at the inputs of some steps,
    /// `[batch, width]`: zero at the others.
    ///
    /// # Errors
    /// Fails if a gradient has another shape.
    pub fn at_blocks(&self, inputs: Vec<(usize, Tensor)>) -> Result<Tensor> {
        let Some((_, first)) = inputs.first() else {
            return Err(Error::Training("no window of a batch has a gradient for the blocks below".into()));
        };
        if let Input::Tokens { .. } = self.input {
            return Ok(first.clone());
        }
        let mut steps = vec![first.zeros_like()?; self.steps];
        for (step, gradient) in inputs {
            steps[step] = gradient;
        }
        Ok(Tensor::stack(&steps, 1)?.flatten_to(1)?)
    }

    /// Whether the inputs of all steps are outputs of blocks that learn from the gradients there.
    pub fn reads_blocks(&self) -> bool {
        self.below_learns && matches!(self.input, Input::Dense(..))
    }

    /// The inputs at step `offset` of each window, stacked: `[windows · batch, width]`.
    ///
    /// Embeddings are looked up in `table` (`[seeds, vocabulary, width]` of several seeds), and `learned` replaces the feature, so
    /// that gradients are tracked through both.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn input(
        &self,
        windows: &[Range<usize>],
        offset: usize,
        table: Option<&Tensor>,
        learned: Option<&Tensor>,
    ) -> Result<Tensor> {
        let steps = windows.iter().map(|window| window.start + offset);
        let x = match &self.input {
            Input::Dense(x, time_first) => gather(time_first_of(x, time_first)?, steps.clone())?,
            Input::Tokens { feature, ids } => {
                let table = table.ok_or_else(|| Error::Training("tokens without an embedding".into()))?;
                let table = if table.rank() > 2 { &table.flatten(0, 1)? } else { table };
                let mut parts = Vec::with_capacity(windows.len());
                for step in steps.clone() {
                    parts.push(match feature {
                        Some(feature) if step == 0 => learned.unwrap_or(feature).clone(),
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

    /// The inputs of a span, time first: `[steps, batch, width]`. Embeddings are looked up in `table`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn inputs(&self, span: Range<usize>, table: Option<&Tensor>) -> Result<Tensor> {
        let x = match &self.input {
            Input::Dense(x, time_first) => time_first_of(x, time_first)?.narrow(0, span.start, span.len())?,
            Input::Tokens { feature, ids } => {
                let table = table.ok_or_else(|| Error::Training("tokens without an embedding".into()))?;
                let width = table.dim(1)?;
                let shift = usize::from(feature.is_some());
                let feature = feature.as_ref().filter(|_| span.start == 0);
                let first = (span.start + usize::from(feature.is_some())).min(span.end);
                let mut parts: Vec<Tensor> =
                    feature.map(|feature| feature.unsqueeze(0)).transpose()?.into_iter().collect();
                if first < span.end {
                    let ids = ids.narrow(0, first - shift, span.end - first)?;
                    let words = table.index_select(&ids.flatten_all()?, 0)?;
                    parts.push(words.reshape((span.end - first, self.rows.count, width))?);
                }
                stack_rows(&parts)?
            }
        };
        match &self.input_mask {
            Some(mask) => Ok((x * mask.narrow(0, span.start, span.len())?)?),
            None => Ok(x),
        }
    }

    /// The token ids at some steps, concatenated: `[steps · batch]`. None of the steps may be the feature's.
    ///
    /// # Errors
    /// Fails if the inputs are not tokens.
    pub fn ids_at(&self, steps: &[usize]) -> Result<Tensor> {
        let Input::Tokens { feature, ids } = &self.input else {
            return Err(Error::Training("tokens of a sequence that has none".into()));
        };
        let places: Vec<u32> = steps.iter().map(|step| (step - usize::from(feature.is_some())) as u32).collect();
        let count = places.len();
        Ok(ids.index_select(&constant(places, &[count], ids.device())?, 0)?.flatten_all()?)
    }

    /// The dropout mask of the inputs, `[time, batch, width]`, if anything is dropped.
    pub fn input_mask(&self) -> Option<&Tensor> {
        self.input_mask.as_ref()
    }

    /// The dropout mask of a layer's outputs, `[time, batch, hidden]`, if anything is dropped.
    pub fn layer_mask(&self, layer: usize) -> Option<&Tensor> {
        self.layer_masks[layer].as_ref()
    }

    /// Applies the dropout mask of a layer's output at step `offset` of each window to `h`, `[windows · batch, hidden]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn drop_out(&self, layer: usize, windows: &[Range<usize>], offset: usize, h: &Tensor) -> Result<Tensor> {
        match &self.layer_masks[layer] {
            Some(mask) => Ok((h * gather(mask, windows.iter().map(|window| window.start + offset))?)?),
            None => Ok(h.clone()),
        }
    }

    /// The inputs as slices.
    ///
    /// # Errors
    /// Fails if they are not on the CPU.
    pub fn on_cpu(&self) -> Result<OnCpu<'_>> {
        fn mask(mask: &Option<Tensor>) -> Result<Option<Slice<'_>>> {
            mask.as_ref().map(slices::read).transpose()
        }
        let shape = [self.rows.count, self.width];
        let input = match &self.input {
            Input::Dense(x, _) => SliceInput::Dense(slices::read(x)?),
            Input::Tokens { feature: Some(images), .. } if images.dims() != shape => {
                return Err(Error::Training("no encoder has read the images of this batch".into()));
            }
            Input::Tokens { feature, ids } => SliceInput::Tokens {
                feature: feature.as_ref().map(slices::read).transpose()?,
                ids: ids.flatten_all()?.to_vec1()?,
            },
        };
        Ok(OnCpu {
            input,
            input_mask: mask(&self.input_mask)?,
            layer_masks: self.layer_masks.iter().map(mask).collect::<Result<_>>()?,
            steps: self.steps,
            rows: self.rows.count,
            width: self.width,
        })
    }
}

/// The inputs of a batch as slices.
pub struct OnCpu<'a> {
    input: SliceInput<'a>,
    input_mask: Option<Slice<'a>>,
    layer_masks: Vec<Option<Slice<'a>>>,
    steps: usize,
    rows: usize,
    width: usize,
}

enum SliceInput<'a> {
    Dense(Slice<'a>),
    Tokens { feature: Option<Slice<'a>>, ids: Vec<u32> },
}

impl OnCpu<'_> {
    /// Copies the input of a step, of some rows of the batch, into the first columns of rows `stride` numbers apart.
    /// Embeddings are looked up in `table`, `[vocabulary, width]`.
    pub fn copy_input(&self, step: usize, rows: Range<usize>, table: &[f32], to: &mut [f32], stride: usize) {
        let width = self.width;
        match &self.input {
            SliceInput::Dense(x) => {
                let from = &x[(rows.start * self.steps + step) * width..(rows.end * self.steps) * width];
                copy_rows(to, stride, from, self.steps * width, width);
            }
            SliceInput::Tokens { feature: Some(feature), .. } if step == 0 => {
                copy_rows(to, stride, &feature[rows.start * width..rows.end * width], width, width);
            }
            SliceInput::Tokens { .. } => {
                for (to, &id) in to.chunks_mut(stride).zip(&self.ids(step)[rows.clone()]) {
                    to[..width].copy_from_slice(&table[id as usize * width..][..width]);
                }
            }
        }
        if let Some(mask) = self.input_mask_at(step) {
            for (to, mask) in to.chunks_mut(stride).zip(mask[rows.start * width..].chunks(width)) {
                to.iter_mut().zip(mask).for_each(|(x, m)| *x *= m);
            }
        }
    }

    /// Adds the gradient at the input of a step, `[batch, width]`, to the rows of the embedding that were looked up,
    /// weighted by multiplicity.
    pub fn add_to_embedding(&self, step: usize, gradient: &mut [f32], multiplicity: Option<&[f32]>, table: &mut [f32]) {
        let width = self.width;
        if let Some(mask) = self.input_mask_at(step) {
            gradient.iter_mut().zip(mask).for_each(|(g, m)| *g *= m);
        }
        for (row, (gradient, &id)) in gradient.chunks(width).zip(self.ids(step)).enumerate() {
            let times = multiplicity.map_or(1.0, |multiplicity| multiplicity[row]);
            let sum = &mut table[id as usize * width..][..width];
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += times * g);
        }
    }

    /// The gradient at the feature, given that at the input of the first step: both `[batch, width]`.
    pub fn at_feature(&self, gradient: &[f32]) -> Vec<f32> {
        match self.input_mask_at(0) {
            Some(mask) => gradient.iter().zip(mask).map(|(g, m)| g * m).collect(),
            None => gradient.to_vec(),
        }
    }

    /// The token ids at a step, one per row; empty if its input is a feature.
    fn ids(&self, step: usize) -> &[u32] {
        match &self.input {
            SliceInput::Tokens { feature, ids } => match step.checked_sub(usize::from(feature.is_some())) {
                Some(at) => &ids[at * self.rows..][..self.rows],
                None => &[],
            },
            SliceInput::Dense(_) => &[],
        }
    }

    fn input_mask_at(&self, step: usize) -> Option<&[f32]> {
        let size = self.rows * self.width;
        self.input_mask.as_ref().map(|mask| &mask[step * size..][..size])
    }

    /// The dropout mask of a layer's output at a step, `[batch, hidden]`, if anything is dropped.
    pub fn layer_mask(&self, layer: usize, step: usize) -> Option<&[f32]> {
        let mask = self.layer_masks[layer].as_ref()?;
        let size = mask.len() / self.steps;
        Some(&mask[step * size..][..size])
    }
}

/// Checks that the token ids, `[batch, time]` on the CPU, are within the model's vocabulary.
pub(super) fn check_tokens(model: &Model, ids: &Tensor) -> Result<()> {
    let vocabulary = model.embedding(Weights::Constant).map_or(Ok(0), |table| table.dim(0))?;
    match ids.flatten_all()?.to_vec1::<u32>()?.into_iter().find(|&id| id as usize >= vocabulary) {
        Some(id) => Err(Error::Training(format!("the task gave token {id} of a vocabulary of {vocabulary}"))),
        None => Ok(()),
    }
}

/// The token ids of a seed whose embeddings begin at `first` in the table of all.
fn later_in_table(ids: &Tensor, first: usize) -> Result<Tensor> {
    match first {
        0 => Ok(ids.clone()),
        first => Ok(ids.broadcast_add(&constant(vec![first as u32], &[1, 1], ids.device())?)?),
    }
}

/// The time-first transpose of `[batch, time, features]`, computed on first use.
fn time_first_of<'a>(x: &Tensor, time_first: &'a OnceCell<Tensor>) -> Result<&'a Tensor> {
    match time_first.get() {
        Some(x) => Ok(x),
        None => {
            let x = x.transpose(0, 1)?.contiguous()?;
            Ok(time_first.get_or_init(|| x))
        }
    }
}

/// Rows of a time-first tensor at some steps, stacked: `[time, batch, n]` to `[steps · batch, n]`.
fn gather(x: &Tensor, steps: impl Iterator<Item = usize>) -> Result<Tensor> {
    let parts = steps.map(|step| x.get(step)).collect::<Result<Vec<_>, _>>()?;
    stack_rows(&parts)
}

/// Concatenates `[rows, n]` tensors along the rows.
///
/// # Errors
/// Fails if their widths differ.
pub fn stack_rows(parts: &[Tensor]) -> Result<Tensor> {
    match parts {
        [one] => Ok(one.clone()),
        parts => Ok(Tensor::cat(parts, 0)?),
    }
}

/// Keeps each element with probability `1 - p` and divides it by that probability (inverted dropout).
pub(super) fn dropout_mask(stream: &mut Stream, p: f64, dims: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let (kept, dims) = ((1.0 / (1.0 - p)) as f32, dims.into());
    let count = dims.elem_count();
    let values: Vec<f32> = (0..count).map(|_| if stream.unit_f64() < p { 0.0 } else { kept }).collect();
    Ok(Tensor::from_vec(values, dims, device)?.to_dtype(DType::F32)?)
}
