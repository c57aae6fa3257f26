//! Cases `caption_decoder`: tokens behind an image feature, an optimizer step after every window.

use candle_core::{D, DType, Device, Tensor};
use ccdni::data::{Batch, Inputs, Targets};
use ccdni::model::Model;
use ccdni::nn::Gradients;
use ccdni::spec::task_shape::When;
use ccdni::train::backend::Backend;
use ccdni::train::device_batch::DeviceBatch;
use ccdni::train::engine::{self, Order, Trace};
use ccdni::train::loss::Feedback;
use ccdni::train::optimizer;
use ccdni::train::update::Updater;
use libtest_mimic::Failed;

use super::super::{Outcome, assert_close};
use super::setup::{Case, backends};

pub fn check(case: &Case) -> Outcome {
    for (name, backend) in backends() {
        train(case, backend.as_ref()).map_err(|failed| format!("{name}: {}", failed.message().unwrap_or("failed")))?;
    }
    Ok(())
}

fn train(case: &Case, backend: &dyn Backend) -> Outcome {
    let (shape, train) = (case.shape()?, case.train_spec()?);
    let model = case.model()?;
    let names = model.params.names();
    let mut updater = Updater::new(&train, &optimizer::built_in(), &model.params)?;
    let roles = vec![case.role(); model.synthesizers.len()];
    for k in 0..case.whole("batches")? {
        let batch = batch(case.tensor(&format!("batch{k}.features"))?, case.tensor(&format!("batch{k}.captions"))?)?;
        let sequence = DeviceBatch::new(&model, &batch, None)?;
        let feedback = Feedback::new(&batch.targets, &shape, sequence.steps(), 1, sequence.rows(), model.device())?;
        let asked = engine::Batch {
            sequence: &sequence,
            feedback: &feedback,
            window: train.window(sequence.steps()),
            roles: &roles,
            activity: 0.0,
            trace: !roles.is_empty(),
        };
        let mut losses = Vec::new();
        let mut gradients = Gradients::none(&model.params)?;
        engine::run(&model, backend, Order::Sequential, &asked, None, &mut gradients, &mut |group, gradients| {
            let w = losses.len();
            let prefix = format!("batch{k}.window{w}");
            let squares = updater.apply(&model, &roles, gradients)?;
            let norm = squares.map_or(Ok(f64::NAN), |squares| squares.norm(&model.params).map(|norm| norm.value))?;
            let checked = check_window(case, &prefix, &names, gradients, norm, &model)
                .and_then(|()| if k == 0 { check_trace(case, &prefix, &group.traces) } else { Ok(()) });
            losses.extend(group.losses.read()?);
            gradients.clear();
            checked.map_err(|failed| ccdni::Error::Training(failed.message().unwrap_or("failed").into()))
        })?;
        for (w, loss) in losses.iter().enumerate() {
            case.close("a window's loss", loss.loss, case.scalar(&format!("batch{k}.window{w}.loss"))?, "loss_rel")?;
        }
        let weighted: f64 = losses.iter().map(|window| window.loss * window.targets as f64).sum();
        let reported = feedback.original_scale() * weighted;
        case.close("the reported loss", reported, case.scalar(&format!("batch{k}.loss_reported"))?, "loss_rel")?;
    }
    check_evaluation(case, &model, backend)?;
    check_sample(case, &model, backend)
}

/// The feature is the first input and must predict the first token; the last token is never an input.
fn batch(features: &Tensor, captions: &Tensor) -> Result<Batch, Failed> {
    let captions = captions.to_dtype(DType::U32)?;
    let ids = captions.narrow(1, 0, captions.dim(1)? - 1)?.contiguous()?;
    Ok(Batch::new(Inputs::Tokens { feature: Some(features.clone()), ids }, Targets::Classes(captions)))
}

fn check_window(
    case: &Case,
    prefix: &str,
    names: &[String],
    gradients: &Gradients,
    norm: f64,
    model: &Model,
) -> Outcome {
    for (index, name) in names.iter().enumerate() {
        let key = format!("{prefix}.grad.{name}");
        let gradient = gradients.get(index)?.ok_or_else(|| format!("{key}: no gradient"))?;
        case.close_gradient(&gradient, &key, "grad_rel_to_tensor_max", "grad_abs_floor")?;
    }
    case.close("the norm", norm, case.scalar(&format!("{prefix}.grad_norm"))?, "grad_norm_rel")?;
    for (name, value) in model.params.snapshot()? {
        case.close_tensor(&value, &format!("{prefix}.after.{name}"), "param_abs")?;
    }
    Ok(())
}

fn check_trace(case: &Case, prefix: &str, traces: &[Trace]) -> Outcome {
    for trace in traces {
        let gradients = [
            (&trace.synthetic_start[0], "synthetic_gradient_start"),
            (&trace.synthetic_end[0], "synthetic_gradient_end"),
            (&Some(trace.target[0].clone()), "target_gradient"),
        ];
        for (gradient, name) in gradients {
            let gradient = gradient.as_ref().ok_or("no synthetic gradient")?.unsqueeze(0)?;
            case.close_gradient(&gradient, &format!("{prefix}.{name}"), "grad_rel_to_tensor_max", "grad_abs_floor")?;
        }
        case.close_tensor(&trace.start[0].unsqueeze(0)?, &format!("{prefix}.state_start"), "eval_abs")?;
        case.close_tensor(&trace.end[0].unsqueeze(0)?, &format!("{prefix}.state_end"), "eval_abs")?;
    }
    Ok(())
}

fn check_evaluation(case: &Case, model: &Model, backend: &dyn Backend) -> Outcome {
    let batch = batch(case.tensor("eval.features")?, case.tensor("eval.captions")?)?.to_device(model.device())?;
    let sequence = DeviceBatch::new(model, &batch, None)?;
    let (logits, end) = engine::evaluate(model, backend, &sequence, None, When::EveryStep)?;
    case.close_tensor(&logits, "eval.prediction", "eval_abs")?;
    case.close_tensor(&Tensor::stack(&end, 0)?, "eval.hidden", "eval_abs")?;
    let nll = ccdni::data::Metric::nll().on(&logits, &batch.targets)?;
    case.close("the evaluation loss", nll.sum()? / nll.weight, case.scalar("eval.loss")?, "loss_rel")
}

/// Greedy decoding: the best token so far is the next input; the end token does not end it here.
fn check_sample(case: &Case, model: &Model, backend: &dyn Backend) -> Outcome {
    let features = case.tensor("sample.features")?;
    let rows = features.dim(0)?;
    let mut ids = Tensor::zeros((rows, 0), DType::U32, &Device::Cpu)?;
    for _ in 0..case.whole("max_sample_length")? {
        let batch = Batch::new(
            Inputs::Tokens { feature: Some(features.clone()), ids: ids.clone() },
            Targets::Classes(ids.clone()),
        );
        let sequence = DeviceBatch::new(model, &batch, None)?;
        let (logits, _) = engine::evaluate(model, backend, &sequence, None, When::EveryStep)?;
        let next = logits.narrow(1, ids.dim(1)?, 1)?.argmax(D::Minus1)?;
        ids = match ids.dim(1)? {
            0 => next,
            _ => Tensor::cat(&[&ids, &next], 1)?,
        };
    }
    let expected = case.tensor("sample.ids")?.to_dtype(DType::F64)?;
    assert_close("sample.ids", &ids.to_dtype(DType::F64)?, &expected, 0.0)
}
