//! Cases `online_rule`: one stream, an update at every step.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use ccdni::model::Model;
use ccdni::nn::Gradients;
use ccdni::train::engine::Role;
use ccdni::train::rules::{Noise, Online, Sequence};
use ccdni::train::{Optimizer, optimizer};
use libtest_mimic::Failed;
use serde_json::{Map, Value, json};

use super::super::{Outcome, assert_close};
use super::setup::{Case, Targets, gradient, index};

/// The parameters' names in the files, and their roles here.
const PARAMETERS: [(&str, &str); 5] = [
    ("W_rec", "layer0.weight_hh"),
    ("W_in", "layer0.weight_ih"),
    ("b_rec", "layer0.bias_ih"),
    ("W_out", "readout.weight"),
    ("b_out", "readout.bias"),
];

/// A rule's state: its name in the files at the start and after a step, and here.
const STATES: [(&str, &[(&str, &str)]); 5] = [
    ("uoro", &[("A", "a"), ("B", "b")]),
    ("rflo", &[("B", "traces")]),
    (
        "kernl",
        &[
            ("A", "sensitivity"),
            ("alpha", "decay_rates"),
            ("noisy_a", "noisy"),
            ("Omega", "accumulated"),
            ("Gamma", "slopes"),
            ("B", "traces"),
        ],
    ),
    ("dni", &[("A", "matrix"), ("A_", "copy")]),
    ("rtrl", &[]),
];

pub fn check(case: &Case) -> Outcome {
    let model = case.model()?;
    for (name, role) in PARAMETERS {
        model.params.set(index(&model, role)?, &case.tensor(&format!("init.{name}"))?)?;
    }
    let bias_hh = index(&model, "layer0.bias_hh")?;
    model.params.set(bias_hh, &model.params.get(bias_hh).value().zeros_like()?)?;
    let mut online = case.rule(rule(case)?, &model)?;
    if case.flag("/random_feedback") {
        online.feedback = Some(case.values("W_FB")?);
    }
    let mut noise = Recorded::of(case)?;
    let mut state = case.values("init.a")?;
    online.learner.load(&model.params)?;
    online.learner.begin(1, &state, &mut noise);
    online.learner.restore(&start(case)?)?;

    let (steps, width) = (case.whole("/seq_len")?, case.whole("/output_size")?);
    let (inputs, targets) = (case.values("input")?, case.values("target")?);
    let sequence = Sequence { inputs: &inputs, steps, goes_on: true };
    let mut targets = Targets {
        loss: case.text("/loss")?.into(),
        targets: targets.chunks(width).map(|target| Some(target.to_vec())).collect(),
        divisor: 1.0,
        width,
        readout_factor: 1.0,
        outputs: Vec::new(),
        error: Vec::new(),
    };
    let mut optimizer = Optimizer::new(optimizer::built_in().open("sgd", &sgd(case)?)?, &model.params)?;
    for step in 0..steps {
        let (window, mut gradients) = (step..step + 1, Gradients::none(&model.params)?);
        let windows = std::slice::from_ref(&window);
        let with = (Role::Lesioned, &mut noise as &mut dyn Noise);
        let each = &mut |_: ccdni::train::rules::WindowEnd<'_>, _: &mut Gradients| Ok(());
        state = online.run(&model, &sequence, &mut targets, windows, Some(&state), with, &mut gradients, each)?;
        check_step(case, step, &model, &gradients, &state, &targets)?;
        check_state(case, step, &online)?;
        if step % case.whole("/update_interval")? == 0 {
            let gradients = regularised(case, &model, gradients)?;
            optimizer.step(&model.params, &gradients, &vec![Some(1.0); model.params.len()])?;
        }
        for (name, role) in PARAMETERS {
            let value = model.params.get(index(&model, role)?).value();
            let name = format!("step.after.{name}");
            case.close(&format!("step {step}, {name}"), value, &case.tensor(&name)?.get(step)?)?;
        }
    }
    Ok(())
}

/// The rule and its keys.
fn rule(case: &Case) -> Result<Value, Failed> {
    let kind = case.text("/rule")?;
    let options = case.json["rule_options"].as_object().cloned().unwrap_or_default();
    let names: &[(&str, &str)] = match kind {
        "rtrl" => &[("M_decay", "decay")],
        "uoro" => &[("epsilon", "epsilon")],
        "rflo" => &[("alpha", "rate")],
        "kernl" => &[("sigma_noise", "noise"), ("kernl_lr", "lr"), ("T_reset", "reset_every")],
        "dni" => &[("synth_lr", "lr"), ("fix_A_interval", "copy_every")],
        _ => return Err(format!("there is no rule `{kind}`").into()),
    };
    let mut keys = json!({ "kind": kind });
    for (name, value) in options {
        match names.iter().find(|(theirs, _)| *theirs == name) {
            Some((_, ours)) => keys[ours] = value,
            None if name == "nu_dist" => keys["noise"] = json!(if value == "gaussian" { "normal" } else { "signs" }),
            // The test's own.
            None if name == "L2_reg" => {}
            None => return Err(format!("there is no option `{name}`").into()),
        }
    }
    Ok(keys)
}

fn sgd(case: &Case) -> Result<Map<String, Value>, Failed> {
    let momentum = case.json["optimizer"]["mu"].as_f64().unwrap_or(0.0);
    let keys = json!({ "lr": case.number("/optimizer/lr")?, "momentum": momentum });
    Ok(keys.as_object().cloned().unwrap_or_default())
}

/// The rule's state before the first step, as far as the case has it.
fn start(case: &Case) -> Result<HashMap<String, Tensor>, Failed> {
    let mut stored = HashMap::new();
    for (theirs, ours) in states(case)? {
        if case.has(&format!("init.{theirs}")) {
            stored.insert((*ours).into(), case.tensor(&format!("init.{theirs}"))?);
        }
    }
    if case.text("/rule")? == "dni" {
        stored.insert("copy".into(), case.tensor("init.A")?);
    }
    Ok(stored)
}

fn states(case: &Case) -> Result<&'static [(&'static str, &'static str)], Failed> {
    let rule = case.text("/rule")?;
    let found = STATES.iter().find(|(name, _)| *name == rule);
    Ok(found.ok_or_else(|| format!("there is no rule `{rule}`"))?.1)
}

fn check_step(
    case: &Case,
    step: usize,
    model: &Model,
    gradients: &Gradients,
    state: &[f32],
    targets: &Targets,
) -> Outcome {
    for (name, values) in [("a", state), ("z", &targets.outputs), ("error", &targets.error)] {
        let (actual, expected) = (Tensor::new(values, &Device::Cpu)?, case.tensor(&format!("step.{name}"))?);
        case.close(&format!("step {step}, {name}"), &actual, &expected.get(step)?)?;
    }
    let joined = |roles: &[&str]| -> Result<Tensor, Failed> {
        let parts = roles.iter().map(|role| {
            let gradient = gradient(model, gradients, role)?;
            Ok(if gradient.rank() == 1 { gradient.unsqueeze(1)? } else { gradient })
        });
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>, Failed>>()?, 1)?)
    };
    for (name, roles) in [
        ("rec_grad", &["layer0.weight_hh", "layer0.weight_ih", "layer0.bias_ih"][..]),
        ("out_grad", &["readout.weight", "readout.bias"]),
    ] {
        let expected = case.tensor(&format!("step.{name}"))?.get(step)?;
        case.close(&format!("step {step}, {name}"), &joined(roles)?, &expected)?;
    }
    let second = gradient(model, gradients, "layer0.bias_hh")?;
    assert_close("the second bias learns nothing", &second, &second.zeros_like()?, 0.0)
}

/// Traces and own parameters of the rule after a step.
fn check_state(case: &Case, step: usize, online: &Online) -> Outcome {
    for stored in online.learner.state() {
        let tensor = stored.tensor()?;
        if stored.name == "influence" {
            // Theirs is `[k, j · H + i]`, ours `[k, i · m + j]`.
            let (hidden, width) = (case.whole("/hidden_size")?, online.sizes().width());
            let shaped = tensor.reshape((hidden, hidden, width))?.transpose(1, 2)?.contiguous()?;
            let expected = case.tensor("step.influence")?.get(step)?;
            case.close(&format!("step {step}, influence"), &shaped.reshape((hidden, hidden * width))?, &expected)?;
            continue;
        }
        let Some((theirs, _)) = states(case)?.iter().find(|(_, ours)| *ours == stored.name) else { continue };
        let expected = case.tensor(&format!("step.{theirs}"))?.get(step)?;
        case.close(&format!("step {step}, {theirs}"), &tensor.reshape(expected.dims())?, &expected)?;
    }
    Ok(())
}

/// The gradients with weight decay and clipping, as published: decay of weights but not of biases, and clipping after it.
fn regularised(case: &Case, model: &Model, gradients: Gradients) -> Result<Gradients, Failed> {
    let decay = case.json["rule_options"]["L2_reg"].as_f64().unwrap_or(0.0);
    let mut all = Vec::new();
    for (name, role) in PARAMETERS {
        let own = gradient(model, &gradients, role)?;
        let index = index(model, role)?;
        let decay = if name.starts_with('W') { decay } else { 0.0 };
        all.push((index, (own + (model.params.get(index).value() * decay)?)?));
    }
    let mut squares = 0.0;
    for (_, gradient) in &all {
        squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
    }
    let norm = squares.sqrt();
    let clip = case.json["optimizer"]["clip_norm"].as_f64().unwrap_or(f64::INFINITY);
    let factor = if norm > clip { clip / norm } else { 1.0 };
    let mut regularised = Gradients::none(&model.params)?;
    for (index, gradient) in all {
        regularised.add(index, &(gradient * factor)?)?;
    }
    Ok(regularised)
}

/// The random numbers of a case, in the order in which they are drawn.
struct Recorded(std::vec::IntoIter<Vec<f32>>);

impl Recorded {
    fn of(case: &Case) -> Result<Recorded, Failed> {
        let hidden = case.whole("/hidden_size")?;
        let mut draws: Vec<Vec<f32>> = Vec::new();
        if case.has("step.nu") {
            draws.extend(case.values("step.nu")?.chunks(hidden).map(<[f32]>::to_vec));
        }
        if case.has("step.zeta") {
            let deviation = case.json["rule_options"]["sigma_noise"].as_f64().unwrap_or(1e-5) as f32;
            let all = [case.values("zeta.first")?, case.values("step.zeta")?].concat();
            draws.extend(all.chunks(hidden).map(|drawn| drawn.iter().map(|z| z / deviation).collect()));
        }
        Ok(Recorded(draws.into_iter()))
    }
}

impl Noise for Recorded {
    fn signs(&mut self, out: &mut [f32]) {
        let drawn = self.0.next().expect("a recorded draw for every step");
        out.copy_from_slice(&drawn);
    }

    fn normals(&mut self, out: &mut [f32]) {
        self.signs(out);
    }
}
