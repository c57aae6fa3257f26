//! Cases `bp_lambda` and `eprop`: batches of sequences.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use ccdni::model::Model;
use ccdni::nn::Gradients;
use ccdni::rng::Stream;
use ccdni::train::engine::Role;
use ccdni::train::rules::{Noise, Online, Sequence, WindowEnd};
use ccdni::train::{Optimizer, optimizer};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::super::{Outcome, assert_close};
use super::setup::{Case, Targets, gradient, index};

/// The parameters' names in the files, and their roles here.
const PARAMETERS: [(&str, &str); 9] = [
    ("w_ih", "layer0.weight_ih"),
    ("w_hh", "layer0.weight_hh"),
    ("b", "layer0.bias_ih"),
    ("w_out", "readout.weight"),
    ("b_out", "readout.bias"),
    ("synthesiser.input_trigger.weight", "synthesizer0.input_trigger.weight"),
    ("synthesiser.input_trigger.bias", "synthesizer0.input_trigger.bias"),
    ("synthesiser.layers.0.weight", "synthesizer0.layers.0.weight"),
    ("synthesiser.layers.0.bias", "synthesizer0.layers.0.bias"),
];

/// The parameters of a case.
fn parameters(case: &Case) -> impl Iterator<Item = (&'static str, &'static str)> {
    let has = |name: &str| case.has(&format!("init.{name}"));
    PARAMETERS.into_iter().filter(move |(name, _)| has(name)).collect::<Vec<_>>().into_iter()
}

pub fn check(case: &Case) -> Outcome {
    if !case.json["fixed_forget_gate"].is_null() {
        return Err("there is no fixed forget gate".into());
    }
    let model = case.model()?;
    for (name, role) in parameters(case) {
        let index = index(&model, role)?;
        model.params.set(index, &widened(&model, index, &case.tensor(&format!("init.{name}"))?)?)?;
    }
    let bias_hh = index(&model, "layer0.bias_hh")?;
    model.params.set(bias_hh, &model.params.get(bias_hh).value().zeros_like()?)?;
    let mut online = case.rule(rule(case)?, &model)?;
    let mut optimizers = optimizers(case, &model)?;
    for batch in 0..case.whole("/batches")? {
        train(case, batch, &model, &mut online, &mut optimizers)?;
    }
    Ok(())
}

/// The synthesizer of an LSTM with gate traces predicts for `c` alone, which is the second half of ours.
fn widened(model: &Model, index: usize, value: &Tensor) -> Result<Tensor, Failed> {
    let rows = model.params.get(index).dims()[0];
    if value.dim(0)? == rows {
        return Ok(value.clone());
    }
    Ok(Tensor::cat(&[&value.zeros_like()?, value], 0)?)
}

/// The other way round.
fn narrowed(value: &Tensor, rows: usize) -> Result<Tensor, Failed> {
    Ok(value.narrow(0, value.dim(0)? - rows, rows)?.contiguous()?)
}

fn rule(case: &Case) -> Result<Value, Failed> {
    let filter = case.number("/trace_alpha")?;
    let mut rule = json!({ "kind": case.text("/kind")? });
    if filter > 0.0 {
        rule["filter"] = json!(filter);
    }
    if case.text("/kind")? == "bp_lambda" {
        rule["lambda"] = case.json["synth"]["lambda"].clone();
        rule["gamma"] = case.json["synth"]["gamma"].clone();
        rule["traces"] = json!(case.text("/model")? == "lstm" && case.flag("/eligibility_traces"));
        if case.flag("/synth/own_sgd") {
            rule["own_sgd"] = case.json["synth"]["own_sgd_rate"].clone();
        }
    }
    Ok(rule)
}

/// An optimizer, and the coefficients that select its parameters.
type Group = (Optimizer, Vec<Option<f64>>);

/// One optimizer per group of parameters.
fn optimizers(case: &Case, model: &Model) -> Result<Vec<Group>, Failed> {
    let groups = [("layer0.", "lr_rnn"), ("readout.", "lr_readout"), ("synthesizer0.", "lr_synth")];
    let group = |(prefix, rate): (&str, &str)| {
        let keys = json!({
            "lr": case.json["optimizer"][rate], "eps": case.json["optimizer"]["eps"],
            "betas": [case.json["optimizer"]["beta1"], case.json["optimizer"]["beta2"]],
        });
        let rule = optimizer::built_in().open("adam", keys.as_object().ok_or("no keys")?)?;
        let selected = model.params.iter().map(|parameter| parameter.role.starts_with(prefix).then_some(1.0));
        Ok((Optimizer::new(rule, &model.params)?, selected.collect()))
    };
    groups.into_iter().map(group).collect()
}

/// The targets of a batch, in their published scaling.
fn targets(case: &Case, batch: usize) -> Result<Targets, Failed> {
    let (steps, rows, width) = (case.whole("/seq_len")?, case.whole("/batch_size")?, case.whole("/output_size")?);
    let target = case.tensor(&format!("batch{batch}.target"))?;
    let loss = case.text("/loss")?.to_string();
    let predict_last = case.flag("/predict_last");
    let start = case.json["task_start"].as_u64().unwrap_or(0) as usize;
    let flat: Vec<f32> = target.flatten_all()?.to_vec1()?;
    let one_hot = |class: &f32| (0..width).map(|k| f32::from(u8::from(k == *class as usize))).collect::<Vec<_>>();
    let at = |step: usize| -> Option<Vec<f32>> {
        match target.rank() {
            1 => (step + 1 == steps).then(|| flat.iter().flat_map(one_hot).collect()),
            2 => (step + 1 == steps).then(|| flat.clone()),
            _ => {
                let here = if predict_last { step + 1 == steps } else { step >= start };
                here.then(|| flat.chunks(steps * width).flat_map(|row| row[step * width..][..width].to_vec()).collect())
            }
        }
    };
    let readout_factor = match target.rank() {
        1 => 1.0,
        _ => 1.0 / (target.dim(1)? - start) as f32,
    };
    let divisor = if loss == "bce" { (rows * width) as f32 } else { rows as f32 };
    let targets = (0..steps).map(at).collect();
    Ok(Targets { loss, targets, divisor, width, readout_factor, outputs: Vec::new(), error: Vec::new() })
}

fn train(case: &Case, batch: usize, model: &Model, online: &mut Online, optimizers: &mut [Group]) -> Outcome {
    let steps = case.whole("/seq_len")?;
    let inputs: Vec<f32> =
        case.tensor(&format!("batch{batch}.input"))?.transpose(0, 1)?.contiguous()?.flatten_all()?.to_vec1()?;
    let sequence = Sequence { inputs: &inputs, steps, goes_on: false };
    let mut targets = targets(case, batch)?;
    let (mut state, mut gradients) = (None, Gradients::none(&model.params)?);
    let each_step = case.text("/step_every")? == "step";
    let mut noise = Stream::new(1, "none", 0, 0);
    for step in 0..steps {
        let with = (Role::Learning, &mut noise as &mut dyn Noise);
        let each = &mut |_: WindowEnd<'_>, _: &mut Gradients| Ok(());
        let window = step..step + 1;
        let windows = std::slice::from_ref(&window);
        let end = online.run(model, &sequence, &mut targets, windows, state.as_deref(), with, &mut gradients, each)?;
        if batch == 0 {
            check_step(case, step, online, &end, &targets)?;
        }
        if each_step {
            check_gradients(case, &format!("batch{batch}.step.grad"), Some(step), model, &gradients)?;
            update(model, optimizers, &mut gradients)?;
            check_parameters(case, &format!("batch{batch}.step.after"), Some(step), model)?;
        }
        state = Some(end);
    }
    if !each_step {
        check_gradients(case, &format!("batch{batch}.grad"), None, model, &gradients)?;
        update(model, optimizers, &mut gradients)?;
    }
    check_parameters(case, &format!("batch{batch}.after"), None, model)
}

fn update(model: &Model, optimizers: &mut [Group], gradients: &mut Gradients) -> Outcome {
    for (optimizer, coefficients) in optimizers {
        optimizer.step(&model.params, gradients, coefficients)?;
    }
    gradients.clear();
    Ok(())
}

/// A tensor of the case, or that of one step. Those of synthesizers lack the first step.
fn expected(case: &Case, name: &str, step: Option<usize>) -> Result<Option<Tensor>, Failed> {
    let (true, Some(step)) = (case.has(name), step) else {
        return if case.has(name) { case.tensor(name).map(Some) } else { Ok(None) };
    };
    let (all, steps) = (case.tensor(name)?, case.whole("/seq_len")?);
    let missing = steps.saturating_sub(all.dim(0)?);
    Ok(step.checked_sub(missing).map(|at| all.get(at)).transpose()?)
}

fn check_gradients(case: &Case, prefix: &str, step: Option<usize>, model: &Model, gradients: &Gradients) -> Outcome {
    for (name, role) in parameters(case) {
        let own = gradient(model, gradients, role)?;
        let name = format!("{prefix}.{name}");
        match expected(case, &name, step)? {
            Some(expected) => case.close(&name, &narrowed(&own, expected.dim(0)?)?, &expected)?,
            None => assert_close(&format!("{name}, which has none"), &own, &own.zeros_like()?, 0.0)?,
        }
    }
    let second = gradient(model, gradients, "layer0.bias_hh")?;
    assert_close("the second bias learns nothing", &second, &second.zeros_like()?, 0.0)
}

fn check_parameters(case: &Case, prefix: &str, step: Option<usize>, model: &Model) -> Outcome {
    for (name, role) in parameters(case) {
        let name = format!("{prefix}.{name}");
        let Some(expected) = expected(case, &name, step)? else { continue };
        let value = narrowed(model.params.get(index(model, role)?).value(), expected.dim(0)?)?;
        assert_close(&name, &value, &expected, case.number("/tolerance/param_abs")?)?;
    }
    Ok(())
}

/// The traces `e ← γλ J e + ∂S/∂θ` of a synthesizer's last layer, `[rows, n, n, width]`, of which a rule stores a sum and the steps after it.
fn traces(stored: &HashMap<&str, Tensor>) -> Result<Option<Tensor>, Failed> {
    let (Some(jacobians), Some(features)) = (stored.get("trace_jacobians"), stored.get("trace_features")) else {
        return Ok(None);
    };
    let ((steps, rows, width), n) = (features.dims3()?, jacobians.dim(3)?);
    let mut traces = match stored.get("synthesizer_traces").filter(|sum| sum.elem_count() > 0) {
        Some(sum) => sum.reshape((rows, n, n * width))?,
        None => Tensor::zeros((rows, n, n * width), DType::F32, &Device::Cpu)?,
    };
    for step in 0..steps {
        let features = features.get(step)?.reshape((rows, 1, 1, width))?;
        let own = Tensor::eye(n, DType::F32, &Device::Cpu)?.reshape((1, n, n, 1))?.broadcast_mul(&features)?;
        if jacobians.elem_count() > 0 {
            traces = jacobians.get(step)?.matmul(&traces)?;
        }
        traces = (traces + own.reshape((rows, n, n * width))?)?;
    }
    Ok(Some(traces.reshape((rows, n, n, width))?))
}

/// States, outputs, Jacobians, predictions and traces of the synthesizer after a step.
fn check_step(case: &Case, step: usize, online: &Online, state: &[f32], targets: &Targets) -> Outcome {
    let (rows, hidden) = (case.whole("/batch_size")?, case.whole("/hidden_size")?);
    let compare = |name: &str, at: usize, actual: &Tensor| -> Outcome {
        let name = format!("batch0.step.{name}");
        let expected = case.tensor(&name)?.get(at)?;
        case.close(&format!("{name}, step {step}"), &actual.reshape(expected.dims())?, &expected)
    };
    let state = Tensor::from_slice(state, (rows, state.len() / rows), &Device::Cpu)?;
    compare("h", step, &state.narrow(1, 0, hidden)?.contiguous()?)?;
    if case.has("batch0.step.c") {
        compare("c", step, &state.narrow(1, hidden, hidden)?.contiguous()?)?;
    }
    compare("readout", step, &Tensor::new(targets.outputs.as_slice(), &Device::Cpu)?)?;
    let mut stored: HashMap<&str, Tensor> = HashMap::new();
    for one in online.learner.state() {
        stored.insert(one.name, one.tensor()?.to_dtype(DType::F32)?);
    }
    if let Some(synthetic) = stored.get("synthetic") {
        compare("synthetic_gradient", step, synthetic)?;
    }
    if let Some(jacobians) = stored.get("jacobians").filter(|jacobians| jacobians.elem_count() > 0) {
        compare("jacobian", step, jacobians)?;
    }
    let layer = if case.has("init.synthesiser.layers.0.weight") { "layers.0" } else { "input_trigger" };
    if let Some(traces) = traces(&stored)?.filter(|_| step > 0) {
        let units = traces.dim(3)? - 1;
        let name = |part: &str| format!("synth_trace.{layer}.{part}");
        // With gate traces there is one more update, after the last step.
        let last = case.tensor(&format!("batch0.step.{}", name("bias")))?.dim(0)? - 1;
        let at = if step + 1 == case.whole("/seq_len")? { last } else { step - 1 };
        compare(&name("weight"), at, &traces.narrow(3, 0, units)?.contiguous()?)?;
        compare(&name("bias"), at, &traces.narrow(3, units, 1)?.contiguous()?)?;
    }
    Ok(())
}
