//! Cases `rnn_predictor` and `record_gradients`.

use candle_core::{DType, Tensor};
use ccdni::data::{Batch, Inputs, Targets};
use ccdni::nn::Gradients;
use ccdni::spec::task_shape::TargetKind;
use ccdni::train::backend::Backend;
use ccdni::train::device_batch::DeviceBatch;
use ccdni::train::engine::{self, Order, Role, Trace};
use ccdni::train::loss::{Feedback, WindowLoss};
use ccdni::train::optimizer;
use ccdni::train::record::Recorder;
use ccdni::train::rows::Rows;
use ccdni::train::update::Updater;
use libtest_mimic::Failed;
use serde_json::json;

use super::super::{Outcome, assert_close};
use super::setup::{Case, backends};

pub fn check(case: &Case) -> Outcome {
    for (name, backend) in backends() {
        for order in [Order::Sequential, Order::SideBySide] {
            train(case, backend.as_ref(), order)
                .map_err(|failed| format!("{name}, {order:?}: {}", failed.message().unwrap_or("failed")))?;
        }
    }
    Ok(())
}

/// A batch of the case.
fn batch(case: &Case, prefix: &str) -> Result<Batch, Failed> {
    let target = case.tensor(&format!("{prefix}.target"))?;
    let targets = match case.shape()?.target.kind {
        TargetKind::Values { .. } | TargetKind::Bits { .. } => Targets::Values(target.clone()),
        TargetKind::Classes { .. } => Targets::FinalClass(target.to_dtype(DType::U32)?),
    };
    Ok(Batch::new(Inputs::Dense(case.tensor(&format!("{prefix}.input"))?.clone()), targets))
}

fn train(case: &Case, backend: &dyn Backend, order: Order) -> Outcome {
    let (shape, train) = (case.shape()?, case.train_spec()?);
    let model = case.model()?;
    let names = model.params.names();
    let mut updater = Updater::new(&train, &optimizer::built_in(), &model.params)?;
    let roles = vec![case.role(); model.synthesizers.len()];
    let every = train.feedback_every.unwrap_or(1);
    let traced = case.role() != Role::Lesioned && !roles.is_empty();
    let recording = case.text("kind")? == "record_gradients";

    for k in 0..case.whole("steps")? {
        let batch = batch(case, &format!("batch{k}"))?;
        let sequence = DeviceBatch::new(&model, &batch, None)?;
        let feedback = Feedback::new(&batch.targets, &shape, sequence.steps(), every, sequence.rows(), model.device())?;
        let window = train.window(sequence.steps());
        let asked = engine::Batch {
            sequence: &sequence,
            feedback: &feedback,
            window,
            roles: &roles,
            activity: 0.0,
            trace: traced,
        };
        let truth = match recording {
            true => engine::true_gradients(&model, backend, &asked, None, None)?,
            false => Vec::new(),
        };
        let (mut losses, mut traces) = (Vec::new(), Vec::new());
        let mut gradients = Gradients::none(&model.params)?;
        engine::run(&model, backend, order, &asked, None, &mut gradients, &mut |group, _| {
            losses.extend(group.losses.read()?);
            traces.extend(group.traces);
            Ok(())
        })?;

        check_losses(case, k, &losses, &feedback)?;
        if k == 0 && traced {
            let prefix = if recording { "record" } else { "batch0" };
            check_traces(case, prefix, &traces)?;
        }
        if recording {
            check_recording(case, &model, &feedback, sequence.rows(), window, &traces, truth)?;
        }
        check_gradients(case, k, &names, &gradients, &updater)?;
        let squares = updater.apply(&model, &roles, &mut gradients)?.ok_or("no gradient at all")?;
        let norm = squares.norm(&model.params)?.value;
        case.close(
            &format!("batch{k}.grad_norm"),
            norm,
            case.scalar(&format!("batch{k}.grad_norm"))?,
            "grad_norm_rel",
        )?;
        for (name, value) in model.params.snapshot()? {
            case.close_tensor(&value, &format!("batch{k}.after.{name}"), "param_abs")?;
        }
    }

    let input = Batch::new(Inputs::Dense(case.tensor("eval.input")?.clone()), batch(case, "batch0")?.targets);
    let sequence = DeviceBatch::new(&model, &input, None)?;
    let (prediction, end) = engine::evaluate(&model, backend, &sequence, None, shape.target.when)?;
    case.close_tensor(&prediction, "eval.prediction", "eval_abs")?;
    case.close_tensor(&Tensor::stack(&end, 0)?, "eval.hidden", "eval_abs")
}

fn check_losses(case: &Case, k: usize, losses: &[WindowLoss], feedback: &Feedback) -> Outcome {
    let listed = case.json["window_target_steps"].as_array().ok_or("`window_target_steps` is no list")?;
    let expected = case.tensor(&format!("batch{k}.window_losses"))?.to_vec1::<f32>()?;
    if losses.len() != listed.len() || losses.len() != expected.len() {
        return Err(format!("{} windows, expected {}", losses.len(), expected.len()).into());
    }
    for (w, (loss, expected)) in losses.iter().zip(&expected).enumerate() {
        if listed[w].as_array().map(Vec::len) != Some(loss.targets) {
            return Err(format!("window {w} has {} targets, expected {}", loss.targets, listed[w]).into());
        }
        case.close(&format!("batch{k}, loss of window {w}"), loss.loss, f64::from(*expected), "loss_rel")?;
    }
    let sum = losses.iter().map(|window| window.loss).sum();
    case.close("the sum of window losses", sum, case.scalar(&format!("batch{k}.loss_window_sum"))?, "loss_rel")?;
    let weighted: f64 = losses.iter().map(|window| window.loss * window.targets as f64).sum();
    let reported = feedback.original_scale() * weighted;
    case.close("the reported loss", reported, case.scalar(&format!("batch{k}.loss_reported"))?, "loss_rel")
}

/// Gradients before clipping; those of a synthesizer that does not learn lie on top of what was held.
fn check_gradients(case: &Case, k: usize, names: &[String], gradients: &Gradients, updater: &Updater) -> Outcome {
    let (state, _) = updater.state(names)?;
    let without = case.json["params_without_grad"].as_array().ok_or("`params_without_grad` is no list")?;
    for (index, name) in names.iter().enumerate() {
        let gradient = gradients.get(index)?;
        if without.contains(&json!(name)) {
            if gradient.is_some() {
                return Err(format!("{name} has a gradient and should have none").into());
            }
            continue;
        }
        let gradient = gradient.ok_or_else(|| format!("{name} has no gradient"))?;
        let held = state.iter().find(|(key, _)| *key == format!("held.{name}"));
        let total = held.map_or(Ok(gradient.clone()), |(_, held)| &gradient + held)?;
        case.close_gradient(&total, &format!("batch{k}.grad.{name}"), "grad_rel_to_tensor_max", "grad_abs_floor")?;
    }
    Ok(())
}

fn layers(parts: &[Option<Tensor>]) -> Result<Tensor, Failed> {
    let parts: Option<Vec<Tensor>> = parts.iter().cloned().collect();
    Ok(Tensor::stack(&parts.ok_or("a layer has no synthetic gradient")?, 0)?)
}

/// States and gradients at the borders of the windows.
pub fn check_traces(case: &Case, prefix: &str, traces: &[Trace]) -> Outcome {
    let recording = prefix == "record";
    let (start, synthetic) = match recording {
        true => ("hidden", "synthetic_gradient"),
        false => ("state_start", "synthetic_gradient_start"),
    };
    let (relative, floor) = match recording {
        true => ("record_rel_to_tensor_max", "record_abs_floor"),
        false => ("grad_rel_to_tensor_max", "grad_abs_floor"),
    };
    for (w, trace) in traces.iter().enumerate() {
        let name = |what: &str| format!("{prefix}.window{w}.{what}");
        case.close_tensor(&Tensor::stack(&trace.start, 0)?, &name(start), "eval_abs")?;
        case.close_tensor(&Tensor::stack(&trace.end, 0)?, &name("state_end"), "eval_abs")?;
        case.close_gradient(&layers(&trace.synthetic_start)?, &name(synthetic), relative, floor)?;
        case.close_gradient(&layers(&trace.synthetic_end)?, &name("synthetic_gradient_end"), relative, floor)?;
        case.close_gradient(&Tensor::stack(&trace.target, 0)?, &name("target_gradient"), relative, floor)?;
    }
    Ok(())
}

/// What the recorder writes, and the mean cosine.
fn check_recording(
    case: &Case,
    model: &ccdni::model::Model,
    feedback: &Feedback,
    rows: &Rows,
    window: usize,
    traces: &[Trace],
    truth: Vec<Vec<Tensor>>,
) -> Outcome {
    let mut recorder = Recorder::new(serde_json::from_value(json!({
        "what": ["hidden", "synthetic", "target", "true", "synthesizer", "weights"], "cosine": true,
    }))?);
    let windows = engine::windows(case.whole("seq_len")?, window);
    recorder.begin(0, model, rows, truth)?;
    // In two parts, as the sequential order hands them over.
    let (first, rest) = traces.split_at(1);
    recorder.windows(model, feedback, &windows, 0, first)?;
    recorder.windows(model, feedback, &windows, 1, rest)?;
    recorder.end(0)?;
    let (tensors, columns) = recorder.end_epoch(1);
    let recorded = |what: &str| {
        let found = tensors.iter().find(|(name, _)| name == &format!("batch0001.{what}"));
        found.map(|(_, tensor)| tensor).ok_or_else(|| Failed::from(format!("`{what}` was not recorded")))
    };
    let (layers, hidden) = (case.whole("num_layers")?, case.number("/synth/hidden_layers")? as usize);
    let states = ["hidden", "synthetic", "target", "true"].map(String::from).into_iter();
    let theirs = ["hidden", "synthetic_gradient", "target_gradient", "true_gradient"].map(String::from).into_iter();
    let activity = |name: &'static str| (0..hidden).map(move |i| format!("{name}{i}"));
    let pairs: Vec<(String, String)> =
        states.chain(activity("synthesizer")).zip(theirs.chain(activity("synth_hidden"))).collect();
    let mut cosines = 0.0;
    for w in 0..windows.len() {
        for (ours, theirs) in &pairs {
            let of_layer = |layer: usize| Ok(recorded(&format!("{ours}.layer{layer}"))?.narrow(0, w, 1)?);
            let ours = Tensor::cat(&(0..layers).map(of_layer).collect::<Result<Vec<_>, Failed>>()?, 0)?;
            let name = format!("record.window{w}.{theirs}");
            case.close_gradient(&ours, &name, "record_rel_to_tensor_max", "record_abs_floor")?;
        }
        let row = case.tensor(&format!("record.window{w}.cosine_synthetic_true"))?.mean_all()?;
        cosines += f64::from(row.to_scalar::<f32>()?) / windows.len() as f64;
    }
    let cosine = columns.first().ok_or("no cosine was recorded")?.value;
    if cosine.is_nan() || (cosine - cosines).abs() > 1e-4 {
        return Err(format!("the mean cosine is {cosine}, expected {cosines}").into());
    }
    for (name, value) in model.params.snapshot()? {
        assert_close(&name, recorded(&format!("weights.{name}"))?, &value, 0.0)?;
    }
    Ok(())
}
