//! Metrics of trained weights on any split, as a whole or by class, step and length.

use std::collections::BTreeMap;

use candle_core::{DType, Device, IndexOp, Tensor};

use super::trained_network::TrainedNetwork;
use crate::data::{Batch, BatchIndex, Dataset, Inputs, Metric, Predictor, Split, Targets, movement};
use crate::error::{Error, Result};
use crate::measures::decoder::{self, Decoded};
use crate::spec::task_shape::When;
use crate::tasks::Registry;

/// What results are separated by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The class, or the curve to draw.
    Class,
    /// The step, from 1; a class that is due at the last step is asked for at every step.
    Step,
    /// The number of steps.
    Length,
}

/// The sequences (and steps) of one result; what is not separated is absent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Group {
    /// The class or curve.
    pub class: Option<String>,
    /// The step, from 1.
    pub step: Option<usize>,
    /// The number of steps.
    pub length: Option<usize>,
}

/// Values of the metrics, by group.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// Names and units of the metrics.
    pub metrics: Vec<(String, String)>,
    /// The values of each group, in the order of the metrics; NaN where a metric does not apply.
    pub groups: BTreeMap<Group, Vec<f64>>,
}

/// Sum and weight of a metric.
type Sums = Vec<(f64, f64)>;

/// Evaluates a network on a split of its task's data.
///
/// # Errors
/// [`Error::Usage`] if the task has no such split or no such groups; any error in its data.
pub fn evaluate(network: &TrainedNetwork, split: Split, by: &[By], registry: &Registry) -> Result<Evaluated> {
    let spec = &network.resolved.spec;
    let task = registry.task(&spec.task)?;
    task.prepare()?;
    let data = task.open_with(network.seed, Some((&spec.model, network.device())))?.dataset;
    let data = data.as_ref();
    let batches = data.batches(split, spec.train.batch_size);
    if batches == 0 {
        return Err(Error::Usage(format!("the task `{}`, as it is set, has no {split:?} data", spec.task.kind)));
    }
    let metrics = metrics(data, &spec.task.kind, network, by)?;
    let labels = if by.contains(&By::Class) { Labels::of(data)? } else { Labels(Vec::new()) };
    let when = network.resolved.shape.target.when;
    let mut sums: BTreeMap<Group, Sums> = BTreeMap::new();
    network.predictor(|trained| {
        for index in 0..batches {
            let at = BatchIndex { split, epoch: network.epoch, index, batch_size: spec.train.batch_size, level: 0 };
            let batch = data.batch(at)?.to_device(network.device())?;
            let outputs = trained.predict(&batch)?.to_device(&Device::Cpu)?;
            let targets = batch.to_device(&Device::Cpu)?.expanded()?.targets;
            for (class, outputs, targets) in labels.separate(by, outputs, targets)? {
                let length = by.contains(&By::Length).then_some(outputs.dim(1)?);
                let steps: Vec<Option<usize>> = match by.contains(&By::Step) {
                    true => (targets.first_of(outputs.dim(1)?)?..outputs.dim(1)?).map(Some).collect(),
                    false => vec![None],
                };
                for step in steps {
                    let group = Group { class: class.clone(), step: step.map(|step| step + 1), length };
                    let sums = sums.entry(group).or_insert_with(|| vec![(0.0, 0.0); metrics.len()]);
                    let (outputs, targets) = at_step(&outputs, &targets, step, when)?;
                    for (metric, (sum, weight)) in metrics.iter().zip(sums) {
                        let measured = metric.on(&outputs, &targets)?;
                        *sum += measured.sum()?;
                        *weight += measured.weight;
                    }
                }
            }
        }
        Ok(())
    })?;
    let finished = |sums: Sums| -> Vec<f64> {
        metrics.iter().zip(sums).map(|(metric, (sum, weight))| (metric.finish)(sum / weight)).collect()
    };
    Ok(Evaluated {
        metrics: metrics.iter().map(|metric| (metric.name.to_string(), metric.unit.to_owned())).collect(),
        groups: sums.into_iter().map(|(group, sums)| (group, finished(sums))).collect(),
    })
}

/// Most sequences from which a decoder is learned.
const DECODED: usize = 2000;

/// How well the target of a sequence (its class, or the end of its curve) can be read off the states by a linear decoder, step by step:
/// [`decoder::score`].
///
/// # Errors
/// As [`evaluate`]; [`Error::Usage`] if targets are neither a class nor a curve.
pub fn decode_states(network: &TrainedNetwork, split: Split, registry: &Registry) -> Result<Evaluated> {
    let spec = &network.resolved.spec;
    let task = registry.task(&spec.task)?;
    task.prepare()?;
    let data = task.open_with(network.seed, Some((&spec.model, network.device())))?.dataset;
    let (mut classes, mut ends): (Vec<usize>, Vec<Vec<f64>>) = Default::default();
    // By step, then by sequence.
    let mut states: Vec<Vec<Vec<f64>>> = Vec::new();
    for index in 0..data.batches(split, spec.train.batch_size) {
        let at = BatchIndex { split, epoch: network.epoch, index, batch_size: spec.train.batch_size, level: 0 };
        let batch = data.batch(at)?.expanded()?.to_device(network.device())?;
        let Inputs::Dense(inputs) = &batch.inputs else { return Err(undecodable(&spec.task.kind)) };
        match &batch.targets {
            Targets::FinalClass(all) => {
                classes.extend(all.to_device(&Device::Cpu)?.to_vec1::<u32>()?.iter().map(|&class| class as usize));
            }
            Targets::Values(values) => {
                let last = values.i((.., values.dim(1)? - 1, ..))?.to_device(&Device::Cpu)?;
                let last = last.contiguous()?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
                ends.extend(last);
            }
            _ => return Err(undecodable(&spec.task.kind)),
        }
        let steps = inputs.dim(1)?;
        states.resize(steps, Vec::new());
        for (step, states) in states.iter_mut().enumerate() {
            // The states after a step are those at the end of the sequence up to it.
            let begin = Batch::new(Inputs::Dense(inputs.narrow(1, 0, step + 1)?.contiguous()?), batch.targets.clone());
            states.extend(network.predictor(|trained| trained.end_states(&begin))?);
        }
        if classes.len().max(ends.len()) >= DECODED {
            break;
        }
    }
    let (decoded, name) = match ends.is_empty() {
        true => (Decoded::Classes(classes), "decoded accuracy"),
        false => (Decoded::Values(ends), "decoded R²"),
    };
    let of = |(step, states): (usize, Vec<Vec<f64>>)| {
        let group = Group { step: Some(step + 1), ..Group::default() };
        (group, vec![decoder::score(&states, &decoded)])
    };
    let unit = "share".to_owned();
    Ok(Evaluated { metrics: vec![(name.into(), unit)], groups: states.into_iter().enumerate().map(of).collect() })
}

fn undecodable(kind: &str) -> Error {
    Error::Usage(format!("the task `{kind}` has neither one class nor a curve per sequence that could be decoded"))
}

/// The metrics of a task, with the certainty of classes; without those that a separation by step leaves without meaning.
fn metrics(data: &dyn Dataset, kind: &str, network: &TrainedNetwork, by: &[By]) -> Result<Vec<Metric>> {
    let mut metrics = data.metrics();
    let classes = matches!(network.resolved.shape.target.kind, crate::spec::task_shape::TargetKind::Classes { .. });
    if classes && !metrics.iter().any(|metric| metric.name == "certainty") {
        metrics.push(Metric::certainty());
    }
    if by.contains(&By::Step) {
        metrics.retain(|metric| metric.step.is_none() && !movement::is_movement(&metric.name));
    }
    match metrics.is_empty() {
        true => Err(Error::Usage(format!("the task `{kind}` has no metrics"))),
        false => Ok(metrics),
    }
}

/// Outputs and targets of one step, or of those that carry a target.
fn at_step(outputs: &Tensor, targets: &Targets, step: Option<usize>, when: When) -> Result<(Tensor, Targets)> {
    let last = outputs.dim(1)?.saturating_sub(1);
    match (step, when) {
        (None, When::EveryStep | When::LastSteps) => Ok((outputs.clone(), targets.clone())),
        (step, When::LastStep) => Ok((outputs.i((.., step.unwrap_or(last), ..))?.contiguous()?, targets.clone())),
        (Some(step), When::EveryStep | When::LastSteps) => {
            let at = |tensor: &Tensor, step: usize| Ok::<_, Error>(tensor.narrow(1, step, 1)?.contiguous()?);
            let of_target = step - targets.first_of(outputs.dim(1)?)?;
            let targets = match targets {
                Targets::Values(values) => Targets::Values(at(values, of_target)?),
                Targets::Classes(classes) => Targets::Classes(at(classes, of_target)?),
                last => last.clone(),
            };
            Ok((at(outputs, step)?, targets))
        }
    }
}

/// The curves that a task draws, with their names.
struct Labels(Vec<(Vec<f32>, String)>);

impl Labels {
    fn of(data: &dyn Dataset) -> Result<Self> {
        let Some(showcase) = data.showcase()? else { return Ok(Labels(Vec::new())) };
        let Targets::Values(targets) = showcase.batch.expanded()?.targets else { return Ok(Labels(Vec::new())) };
        let curves = targets.flatten_from(1)?.to_vec2::<f32>()?;
        Ok(Labels(curves.into_iter().zip(showcase.labels).collect()))
    }

    /// The class of every sequence.
    fn classes(&self, targets: &Targets) -> Result<Vec<String>> {
        match targets {
            Targets::FinalClass(classes) => {
                Ok(classes.to_vec1::<u32>()?.iter().map(|class| format!("class {class}")).collect())
            }
            Targets::Values(values) => {
                let named = |curve: &Vec<f32>| self.0.iter().find(|(of, _)| of == curve).map(|(_, name)| name.clone());
                let curves = values.flatten_from(1)?.to_vec2::<f32>()?;
                Ok(curves.iter().map(|curve| named(curve).unwrap_or_else(|| "other".into())).collect())
            }
            _ => Err(Error::Usage("`--by class` needs one class, or one curve to draw, per sequence".into())),
        }
    }

    /// The sequences of each class, or all of them.
    fn separate(&self, by: &[By], outputs: Tensor, targets: Targets) -> Result<Vec<(Option<String>, Tensor, Targets)>> {
        if !by.contains(&By::Class) {
            return Ok(vec![(None, outputs, targets)]);
        }
        let mut rows: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (row, class) in (0..).zip(self.classes(&targets)?) {
            rows.entry(class).or_default().push(row);
        }
        let of = |(class, rows): (String, Vec<u32>)| {
            let rows = Tensor::new(rows, &Device::Cpu)?;
            let pick = |tensor: &Tensor| Ok::<_, Error>(tensor.contiguous()?.index_select(&rows, 0)?);
            let targets = match &targets {
                Targets::Values(values) => Targets::Values(pick(values)?),
                Targets::FinalValues(values) => Targets::FinalValues(pick(values)?),
                Targets::Classes(classes) => Targets::Classes(pick(classes)?),
                Targets::FinalClass(classes) => Targets::FinalClass(pick(classes)?),
            };
            Ok((Some(class), pick(&outputs)?, targets))
        };
        rows.into_iter().map(of).collect()
    }
}
