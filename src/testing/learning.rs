//! Training on a task: every parameter learns, and resuming or reloading changes nothing.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::{Open, broken};
use crate::data::{Batch, BatchIndex, Dataset, Evaluation, Metric, Predictor, Showcase, Split};
use crate::error::Result;
use crate::model::{Layout, Model};
use crate::spec::Spec;
use crate::spec::task_shape::TaskShape;
use crate::train::backend;
use crate::train::{
    BatchProgress, Callback, Checkpoint, DeviceLoader, Finished, Next, Outcome, Plugins, Trained, Trainer, measure,
    show,
};

const SEED: u64 = 1;

pub(super) fn check(kind: &str, plugins: &Plugins, spec: &Spec, shape: &TaskShape, open: Open) -> Result<()> {
    let few = || -> Result<Box<Few>> { Ok(Box::new(Few(open(SEED)?))) };
    let trainer = || Trainer::new(plugins, spec, shape, few()?, SEED, Device::Cpu);

    let mut callback = Stop { after: None, checkpoint: None };
    let Outcome::Finished(whole) = trainer()?.train(&mut callback)? else {
        return Err(broken(kind, "training stopped without a request"));
    };
    check_learned(kind, plugins, spec, shape, &whole)?;

    let mut callback = Stop { after: Some(1), checkpoint: None };
    trainer()?.train(&mut callback)?;
    let bytes = callback.checkpoint.ok_or_else(|| broken(kind, "training stopped without a checkpoint"))?;
    let checkpoint = Checkpoint::from_bytes(&bytes).map_err(|error| broken(kind, error))?;
    let mut resumed = trainer()?;
    resumed.resume(&checkpoint)?;
    match resumed.train(&mut Stop { after: None, checkpoint: None })? {
        Outcome::Finished(resumed) if values(&resumed.weights)? == values(&whole.weights)? => {}
        _ => return Err(broken(kind, "stopping and resuming the training changes the final weights")),
    }
    check_reload(kind, plugins, spec, shape, (&*few()?, &whole))
}

fn check_learned(kind: &str, plugins: &Plugins, spec: &Spec, shape: &TaskShape, finished: &Finished) -> Result<()> {
    let fresh = Model::new(&plugins.model, &spec.model, shape, SEED, &Device::Cpu)?.params.snapshot()?;
    for (before, after) in values(&fresh)?.iter().zip(values(&finished.weights)?) {
        if *before == after {
            return Err(broken(kind, format!("training on it does not change the parameter `{}`", before.0)));
        }
    }
    let rows = finished.history.iter().flat_map(|row| row.validation.iter().chain([&row.train_loss]));
    if rows.chain(&finished.test).any(|value| !value.is_finite()) {
        return Err(broken(kind, "its losses or metrics are not all finite"));
    }
    Ok(())
}

/// Weights saved to a file and loaded into another network must give the same metrics and outputs.
fn check_reload(
    kind: &str,
    plugins: &Plugins,
    spec: &Spec,
    shape: &TaskShape,
    (data, finished): (&dyn Dataset, &Finished),
) -> Result<()> {
    let tensors = finished.weights.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let bytes = safetensors::serialize(tensors, None).map_err(|error| broken(kind, error))?;
    let weights: HashMap<String, Tensor> = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)?;
    let mut model = Model::new(&plugins.model, &spec.model, shape, SEED + 1, &Device::Cpu)?;
    let layout = Layout::new(&plugins.model, &spec.model, shape)?;
    model.adopt(&layout, &weights.into_iter().collect::<Vec<_>>())?;

    let at = BatchIndex { split: Split::Test, epoch: 0, index: 0, batch_size: spec.train.batch_size, level: 0 };
    // Without validation, nothing is measured on the test split either.
    let mut metrics: Vec<Metric> = data.metrics();
    metrics.truncate(finished.metrics.len());
    let backend = backend::open(spec.run.backend, 1, &model)?;
    if measure(&model, backend.as_ref(), shape, (data, &mut DeviceLoader::new(&Device::Cpu)), &metrics, at)?
        != finished.test
    {
        return Err(broken(kind, "its test metrics change when the weights are saved and loaded"));
    }
    let trained = Trained { model: &model, backend: backend.as_ref() };
    if data.evaluate(&trained)? != finished.outputs.evaluation {
        return Err(broken(kind, "its evaluation changes when the weights are saved and loaded"));
    }
    let shown = data.showcase()?.map(|showcase| show(&trained, showcase)).transpose()?;
    let drawn = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    let same = match (&shown, &finished.outputs.showcase) {
        (Some(shown), Some(before)) => drawn(&shown.predictions)? == drawn(&before.predictions)?,
        (None, None) => true,
        _ => false,
    };
    if same { Ok(()) } else { Err(broken(kind, "its showcase changes when the weights are saved and loaded")) }
}

pub(super) fn values(tensors: &[(String, Tensor)]) -> Result<Vec<(String, Vec<f32>)>> {
    let mut all = Vec::new();
    for (name, tensor) in tensors {
        all.push((name.clone(), tensor.flatten_all()?.to_vec1()?));
    }
    Ok(all)
}

/// At most two batches of every split: tasks may be large.
struct Few(Box<dyn Dataset>);

impl Dataset for Few {
    fn metrics(&self) -> Vec<Metric> {
        self.0.metrics()
    }

    fn batches(&self, split: Split, batch_size: usize) -> usize {
        self.0.batches(split, batch_size).min(2)
    }

    fn batch(&self, at: BatchIndex) -> Result<Batch> {
        self.0.batch(at)
    }

    fn continues(&self) -> bool {
        self.0.continues()
    }

    fn showcase(&self) -> Result<Option<Showcase>> {
        self.0.showcase()
    }

    fn evaluate(&self, predictor: &dyn Predictor) -> Result<Option<Evaluation>> {
        self.0.evaluate(predictor)
    }
}

/// Stops after some batches, and keeps the last checkpoint.
pub(super) struct Stop {
    pub(super) after: Option<usize>,
    pub(super) checkpoint: Option<Vec<u8>>,
}

impl Callback for Stop {
    fn batch(&mut self, progress: &BatchProgress) -> Result<Next> {
        Ok(if self.after == Some(progress.batch) { Next::Stop } else { Next::Continue })
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.checkpoint = Some(checkpoint.to_bytes()?);
        Ok(())
    }
}
