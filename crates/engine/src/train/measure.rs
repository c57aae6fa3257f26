//! Metrics over a split, on whole sequences: no windows, synthesizers or dropout. Where the rows of one batch go on in the next, so does
//! the state.

use candle_core::{Device, Tensor};

use super::ShowcaseResult;
use super::backend::Backend;
use super::device::DeviceLoader;
use super::device_batch::DeviceBatch;
use super::engine;
use crate::data::{BatchIndex, Dataset, Metric, Predictor, Showcase, Targets};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::Numbers;
use crate::spec::task_shape::TaskShape;

/// The metrics of a model on the split of `at`; empty if there are no batches or no metrics. `loader` moves the data to the
/// model's device.
///
/// # Errors
/// Fails if the task cannot provide a batch.
pub fn measure(
    model: &Model,
    backend: &dyn Backend,
    shape: &TaskShape,
    (data, loader): (&dyn Dataset, &mut DeviceLoader),
    metrics: &[Metric],
    at: BatchIndex,
) -> Result<Vec<f64>> {
    let seeds = &mut [SeedData { model, data, loader }];
    Ok(measure_seeds(model, backend, shape, seeds, metrics, at)?.swap_remove(0))
}

/// What a seed is measured with.
pub(super) struct SeedData<'a> {
    /// Its own network, or one of the same structure.
    pub model: &'a Model,
    pub data: &'a dyn Dataset,
    pub loader: &'a mut DeviceLoader,
}

/// [`measure`] of each of several seeds, whose networks `model` holds as one.
pub(super) fn measure_seeds(
    model: &Model,
    backend: &dyn Backend,
    shape: &TaskShape,
    seeds: &mut [SeedData<'_>],
    metrics: &[Metric],
    at: BatchIndex,
) -> Result<Vec<Vec<f64>>> {
    let count = seeds.len();
    let batches = seeds.first().map_or(0, |seed| seed.data.batches(at.split, at.batch_size));
    if batches == 0 || metrics.is_empty() {
        return Ok(vec![Vec::new(); count]);
    }
    let continues = seeds.iter().all(|seed| seed.data.continues());
    let mut all = Vec::with_capacity(batches * count * metrics.len());
    let mut state: Option<Vec<Tensor>> = None;
    for index in 0..batches {
        let (mut loaded, mut sequences) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for SeedData { model, data, loader } in seeds.iter_mut() {
            let batch = loader.batch(*data, model, shape, BatchIndex { index, ..at })?;
            let batch = if count > 1 { batch.expanded()? } else { batch };
            sequences.push(DeviceBatch::new(model, &batch, None)?);
            loaded.push(batch);
        }
        let sequence = DeviceBatch::of_seeds(sequences, model)?;
        let (predicted, end) = engine::evaluate(model, backend, &sequence, state.as_deref(), shape.target.when)?;
        state = continues.then_some(end);
        for (seed, batch) in loaded.into_iter().enumerate() {
            let predicted = sequence.rows().of_seed(&predicted, seed)?;
            let (predicted, batch) = (sequence.rows().expand(&predicted, 0)?, batch.expanded()?);
            for metric in metrics {
                all.push(metric.on(&predicted, &batch.targets)?);
            }
        }
    }
    Numbers::read_all(all.iter_mut().map(|measured| &mut measured.sum))?;
    let metric = |seed: usize, (at, metric): (usize, &Metric)| {
        let (mut sum, mut weight) = (0.0, 0.0);
        for measured in all.iter().skip(seed * metrics.len() + at).step_by(count * metrics.len()) {
            sum += measured.sum()?;
            weight += measured.weight;
        }
        Ok((metric.finish)(sum / weight))
    };
    (0..count).map(|seed| metrics.iter().enumerate().map(|one| metric(seed, one)).collect()).collect()
}

/// A model's outputs for a task's showcase.
///
/// # Errors
/// Fails if the showcase's targets are not values at every step, or if it does not have one label per sequence.
pub fn show(predictor: &dyn Predictor, showcase: Showcase) -> Result<ShowcaseResult> {
    let Targets::Values(targets) = showcase.batch.expanded()?.targets else {
        return Err(Error::Training("a showcase needs numbers as targets, at every step".into()));
    };
    let predictions = predictor.predict(&showcase.batch)?;
    if predictions.dims() != targets.dims() || showcase.labels.len() != targets.dim(0)? {
        return Err(Error::Training(format!(
            "the showcase has {} labels and targets of shape {:?}; the network's outputs have shape {:?}",
            showcase.labels.len(),
            targets.dims(),
            predictions.dims()
        )));
    }
    Ok(ShowcaseResult {
        predictions: predictions.to_device(&Device::Cpu)?,
        targets,
        labels: showcase.labels,
        images: showcase.images,
    })
}
