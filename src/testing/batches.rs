//! Shapes, types and reproducibility of a task's batches.

use candle_core::{DType, Tensor};

use super::{BATCH_SIZE, Draws, Open, broken};
use crate::data::{Batch, BatchIndex, Dataset, Inputs, Split, Targets};
use crate::error::Result;
use crate::spec::task_shape::{First, Input, TargetKind, TaskShape, When};

const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

pub(super) fn check(kind: &str, shape: &TaskShape, draws: Draws, open: Open) -> Result<()> {
    let data = open(1)?;
    check_metrics(kind, &*data)?;
    if data.batches(Split::Train, BATCH_SIZE) == 0 {
        return Err(broken(kind, "has no training data"));
    }
    let samples = samples(&*data);
    let mut seen = Vec::new();
    for &at in &samples {
        let batch = data.batch(at)?;
        let problem =
            |what: String| broken(kind, format!("{:?} batch {} of epoch {}: {what}", at.split, at.index, at.epoch));
        check_batch(shape, &batch, data.continues())?.map_or(Ok(()), |what| Err(problem(what)))?;
        let sequences = batch.sequences()?;
        if sequences == 0 || at.split == Split::Train && sequences > BATCH_SIZE {
            return Err(problem(format!("has {sequences} sequences of the {BATCH_SIZE} requested")));
        }
        seen.push(bits(&batch)?);
    }

    // Opened anew and read from the last to the first: a batch must not depend on earlier requests.
    let again = open(1)?;
    for (&at, before) in samples.iter().zip(&seen).rev() {
        if bits(&again.batch(at)?)? != *before {
            return Err(broken(kind, format!("{at:?} differs when it is requested again in another order")));
        }
    }
    let other = open(2)?;
    let differs = samples.iter().zip(&seen).filter(|(at, _)| at.split == Split::Train);
    let differs = differs.map(|(&at, before)| Ok(bits(&other.batch(at)?)? != *before)).collect::<Result<Vec<_>>>()?;
    match (draws, differs.contains(&true)) {
        (Draws::BySeed, false) => Err(broken(kind, "trains two seeds on the same batches")),
        (Draws::Fixed, true) => Err(broken(kind, "trains two seeds on different batches")),
        _ => Ok(()),
    }?;
    check_showcase(kind, shape, &*data)
}

/// The first and the last batch of every split, and of a second epoch of training, at several levels of a curriculum.
fn samples(data: &dyn Dataset) -> Vec<BatchIndex> {
    let mut samples = Vec::new();
    let levels: &[usize] = if data.curriculum().is_some() { &[0, 1, 5] } else { &[0] };
    for split in SPLITS {
        let epochs: &[usize] = match split {
            Split::Train => &[1, 2],
            Split::Validation => &[1],
            Split::Test => &[0],
        };
        let batches = data.batches(split, BATCH_SIZE);
        for &epoch in epochs {
            let mut indices = vec![0, batches.saturating_sub(1)];
            indices.dedup();
            indices.retain(|&index| index < batches);
            for &level in levels {
                let at = |&index: &usize| BatchIndex { split, epoch, index, batch_size: BATCH_SIZE, level };
                samples.extend(indices.iter().map(at));
            }
        }
    }
    samples
}

fn check_metrics(kind: &str, data: &dyn Dataset) -> Result<()> {
    let metrics = data.metrics();
    if metrics.is_empty() {
        return Err(broken(kind, "has no metric, so that no epoch could be the best"));
    }
    for (index, metric) in metrics.iter().enumerate() {
        if metric.name.is_empty() || metrics[..index].iter().any(|other| other.name == metric.name) {
            return Err(broken(kind, format!("the name of its metric `{}` is empty or taken", metric.name)));
        }
    }
    Ok(())
}

fn check_showcase(kind: &str, shape: &TaskShape, data: &dyn Dataset) -> Result<()> {
    let Some(showcase) = data.showcase()? else { return Ok(()) };
    let (rows, steps) = (showcase.batch.rows()?, showcase.batch.steps()?);
    let problem = |what: String| Err(broken(kind, format!("its showcase: {what}")));
    if let Some(what) = check_inputs(shape, &showcase.batch.inputs, rows, steps)? {
        return problem(what);
    }
    if showcase.labels.len() != rows {
        return problem(format!("has {} labels for {rows} sequences", showcase.labels.len()));
    }
    if let Some(images) = &showcase.images
        && (images.dtype() != DType::U8 || images.dims().len() != 3 || images.dim(0)? != rows)
    {
        let (is, dims) = (images.dtype(), images.dims());
        return problem(format!("its images are {is:?} {dims:?}, not U8 [{rows}, height, width]"));
    }
    let Targets::Values(targets) = &showcase.batch.targets else {
        return problem("needs numbers as targets, at every step".into());
    };
    match check_tensor("targets", targets, &[rows, steps, shape.target.width()], DType::F32, None)? {
        Some(what) => problem(what),
        None => Ok(()),
    }
}

fn check_batch(shape: &TaskShape, batch: &Batch, continues: bool) -> Result<Option<String>> {
    let (rows, steps) = (batch.rows()?, batch.steps()?);
    if let Some(repetition) = batch.repetition()
        && let Some(row) = (0..rows).find(|&row| !repetition.contains(&(row as u32)))
    {
        return Ok(Some(format!("no sequence is of its row {row}")));
    }
    if let Some(row) = batch.repetition().and_then(|all| all.iter().find(|&&row| row as usize >= rows)) {
        return Ok(Some(format!("a sequence is of row {row}, and it has {rows}")));
    }
    let as_declared = |declared: usize| declared == steps || continues && steps < declared;
    if shape.steps.is_some_and(|declared| !as_declared(declared)) {
        return Ok(Some(format!("has {steps} steps, its shape declares {:?}", shape.steps)));
    }
    if let Some(what) = check_inputs(shape, &batch.inputs, rows, steps)? {
        return Ok(Some(what));
    }
    let (values, classes) = match shape.target.kind {
        TargetKind::Values { size } | TargetKind::Bits { size } => (size, None),
        TargetKind::Classes { count } => (0, Some(count)),
    };
    match (shape.target.when, classes, &batch.targets) {
        (When::EveryStep, None, Targets::Values(t)) => {
            check_tensor("targets", t, &[rows, steps, values], DType::F32, None)
        }
        (When::LastSteps, None, Targets::Values(t)) => {
            let last = t.dim(1)?.clamp(1, steps);
            check_tensor("targets", t, &[rows, last, values], DType::F32, None)
        }
        (When::LastSteps, Some(_), Targets::Classes(t)) => {
            let last = t.dim(1)?.clamp(1, steps);
            check_tensor("targets", t, &[rows, last], DType::U32, classes)
        }
        (When::LastStep, None, Targets::FinalValues(t)) => {
            check_tensor("targets", t, &[rows, values], DType::F32, None)
        }
        (When::EveryStep, Some(_), Targets::Classes(t)) => {
            check_tensor("targets", t, &[rows, steps], DType::U32, classes)
        }
        (When::LastStep, Some(_), Targets::FinalClass(t)) => check_tensor("targets", t, &[rows], DType::U32, classes),
        _ => Ok(Some(format!("its targets are not what its shape declares: {:?}", shape.target))),
    }
}

fn check_inputs(shape: &TaskShape, inputs: &Inputs, rows: usize, steps: usize) -> Result<Option<String>> {
    match (&shape.input, inputs) {
        (Input::Dense { features }, Inputs::Dense(x)) => {
            check_tensor("inputs", x, &[rows, steps, *features], DType::F32, None)
        }
        (Input::Image { .. }, Inputs::Dense(x)) => {
            let pixels = shape.input.sample().iter().product();
            check_tensor("inputs", x, &[rows, steps, pixels], DType::F32, None)
        }
        (Input::Tokens { vocabulary, first }, Inputs::Tokens { feature, ids })
            if matches!(
                (first, feature),
                (First::Token, None) | (First::Feature, Some(_)) | (First::Image { .. }, Some(_))
            ) =>
        {
            if let Some(feature) = feature {
                let shape = feature.dims().get(1..).unwrap_or_default();
                if let Some(what) = check_tensor("feature", feature, &[&[rows], shape].concat(), DType::F32, None)? {
                    return Ok(Some(what));
                }
            }
            let ids_steps = steps - usize::from(*first != First::Token);
            check_tensor("token ids", ids, &[rows, ids_steps], DType::U32, Some(*vocabulary))
        }
        _ => Ok(Some(format!("its inputs are not what its shape declares: {:?}", shape.input))),
    }
}

/// The first problem with a tensor, if any: its type, its shape, a number that is not finite, a class out of range.
fn check_tensor(
    name: &str,
    tensor: &Tensor,
    dims: &[usize],
    dtype: DType,
    classes: Option<usize>,
) -> Result<Option<String>> {
    if tensor.dtype() != dtype || tensor.dims() != dims {
        let (is, dims_are) = (tensor.dtype(), tensor.dims());
        return Ok(Some(format!("its {name} are {is:?} {dims_are:?}, its shape declares {dtype:?} {dims:?}")));
    }
    let numbers = numbers(tensor)?;
    if numbers.iter().any(|number| !number.is_finite()) {
        return Ok(Some(format!("its {name} are not all finite")));
    }
    let out = |count| numbers.iter().copied().find(|&class| class >= count as f64);
    Ok(classes.and_then(|count| Some(format!("its {name} hold {}, of {count} classes", out(count)?))))
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// Shapes and numbers of a batch, one row per sequence, for comparison.
fn bits(batch: &Batch) -> Result<Vec<(Vec<usize>, Vec<u64>)>> {
    let batch = batch.expanded()?;
    let mut tensors = match &batch.inputs {
        Inputs::Dense(x) => vec![x],
        Inputs::Tokens { feature, ids } => feature.iter().chain([ids]).collect(),
    };
    tensors.push(match &batch.targets {
        Targets::Values(t) | Targets::FinalValues(t) | Targets::Classes(t) | Targets::FinalClass(t) => t,
    });
    let of = |tensor: &Tensor| Ok((tensor.dims().to_vec(), numbers(tensor)?.into_iter().map(f64::to_bits).collect()));
    tensors.into_iter().map(of).collect()
}
