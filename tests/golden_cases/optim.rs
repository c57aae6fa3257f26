//! `optim/`: the parameter after each step of each optimizer, and the learning rate on a plateau.

use std::path::Path;

use ccdni::data::Direction;
use ccdni::nn::{Gradients, NewParameter, ParamStore, Part};
use ccdni::spec::ScheduleSpec;
use ccdni::train::optimizer::{self, OptimizerRule};
use ccdni::train::{Optimizer, ReduceOnPlateau};
use libtest_mimic::{Failed, Trial};
use serde_json::{Map, Value, json};

use super::super::on_device;
use super::{Outcome, assert_close, json_files, not_covered, number, read_json, read_tensors, stem, tensor};

/// One test per JSON file.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    for file in json_files(dir) {
        let name = format!("optim/{}", stem(&file));
        if name == "optim/sparseadam" {
            not_covered(&name, "left out: it does not run in the original either");
            continue;
        }
        trials.push(Trial::test(name, move || {
            let case = read_json(&file)?;
            if case["kind"] == "reduce_lr_on_plateau" { check_plateau(&case) } else { check_optimizer(&file, &case) }
        }));
    }
    trials
}

fn check_optimizer(file: &Path, case: &Value) -> Outcome {
    let tensors = read_tensors(&file.with_extension("safetensors"))?;
    let tolerance = number(case, "/tolerance/param_abs")? * on_device::slack();
    let gradients = tensor(&tensors, "grads")?;
    for (weight_decay, name) in [(0.0, "l2_0.after"), (0.01, "l2_0.01.after")] {
        let expected = tensor(&tensors, name)?;
        let value = tensor(&tensors, "param_init")?.clone();
        let parameter = NewParameter { name: "p".into(), role: "p".into(), part: Part::Network, value };
        let device = on_device::device().ok_or("there is no device")?;
        let params = ParamStore::new(vec![parameter], &device)?;
        let mut optimizer = Optimizer::new(rule(case, weight_decay)?, &params)?;
        for step in 0..gradients.dim(0)? {
            let mut gradient = Gradients::none(&params)?;
            gradient.add(0, &gradients.get(step)?.to_device(&device)?)?;
            optimizer.step(&params, &gradient, &[Some(1.0)])?;
            assert_close(
                &format!("{name}, step {}", step + 1),
                params.get(0).value(),
                &expected.get(step)?,
                tolerance,
            )?;
        }
    }
    Ok(())
}

/// The case's rule with its hyper-parameters: an unknown one is an error, those that we do not have must be off.
fn rule(case: &Value, weight_decay: f64) -> Result<Box<dyn OptimizerRule>, Failed> {
    let mut spec: Map<String, Value> = case["hyperparameters"].as_object().ok_or("no hyperparameters")?.clone();
    for off in ["centered", "dampening", "nesterov", "initial_accumulator"] {
        match spec.remove(off) {
            None | Some(Value::Bool(false)) => {}
            Some(value) if value.as_f64() == Some(0.0) => {}
            Some(value) => return Err(format!("`{off}` is {value}: there is no such option").into()),
        }
    }
    if let (Some(beta1), Some(beta2)) = (spec.remove("beta1"), spec.remove("beta2")) {
        spec.insert("betas".into(), json!([beta1, beta2]));
    }
    spec.insert("lr".into(), case["lr"].clone());
    spec.insert("weight_decay".into(), json!(weight_decay));
    Ok(optimizer::built_in().open(case["optimizer"].as_str().unwrap_or_default(), &spec)?)
}

fn check_plateau(case: &Value) -> Outcome {
    let spec: ScheduleSpec = serde_json::from_value(json!({
        "kind": "reduce_on_plateau",
        "factor": case["factor"],
        "patience": case["patience"],
        "threshold": case["threshold"],
        "min_lr": case["min_lr"],
    }))?;
    let mut schedule = ReduceOnPlateau::new(&spec, Direction::Lower);
    let mut lr = number(case, "/initial_lr")?;
    let tolerance = number(case, "/tolerance/lr_rel")?;
    let steps = case["metrics"].as_array().ok_or("no metrics")?.len();
    for step in 0..steps {
        lr = schedule.observe(number(case, &format!("/metrics/{step}"))?, lr);
        let expected = number(case, &format!("/lr_after/{step}"))?;
        if (lr - expected).abs() > tolerance * expected {
            return Err(format!("step {step}: the rate is {lr}, expected {expected}").into());
        }
        let best = number(case, &format!("/best_after/{step}"))?;
        let bad = number(case, &format!("/bad_epochs_after/{step}"))?;
        if (schedule.state.best, schedule.state.bad as f64) != (Some(best), bad) {
            return Err(format!("step {step}: {:?}, expected best {best} and {bad} bad", schedule.state).into());
        }
    }
    Ok(())
}
