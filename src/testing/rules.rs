//! The requirements on every learning rule.

use candle_core::Device;
use serde_json::{Value, json};

use super::learning::{Stop, values};
use super::{broken, check_keys};
use crate::error::Result;
use crate::plugins::{Catalogue, Plugin};
use crate::spec::{RuleVariant, Spec};
use crate::tasks::{LineDraw, Task};
use crate::train::{Checkpoint, Finished, LearningRule, Outcome, Plugins, Trainer};

/// Checks that a learning rule meets the requirements of the rest of the crate.
///
/// `keys` are those of the rule under `train.rule`, without `kind`; `cell` is one of the cells that the rule is defined for, as a
/// layer's table. What is checked:
///
/// - the keys: defaults are filled in and stable, unknown ones are refused, each has a description;
/// - training changes the recurrent weights and the readout, and ends with finite numbers and the same bits each time;
/// - training that is stopped and resumed, also in the middle of a sequence that goes on over batches, ends with the same bits;
/// - all that with one update per batch, per window and per step.
///
/// # Errors
/// [`crate::Error::Training`] with the first violation, or an error of the rule itself.
///
/// ```
/// # fn main() -> ccdni::Result<()> {
/// use serde_json::json;
///
/// ccdni::testing::check_rule::<ccdni::train::rules::Rtrl>(json!({}), json!({"cell": "tanh"}))
/// # }
/// ```
pub fn check_rule<R: Plugin + LearningRule>(keys: Value, cell: Value) -> Result<()> {
    let filled = check_keys::<R>(keys)?;
    let mut plugins = Plugins::built_in();
    if !plugins.rules.kinds().contains(&R::KIND) {
        plugins.rules.register::<R>(|rule| Box::new(rule));
    }
    for (step_every, goes_on) in [("batch", false), ("window", true), ("step", false), ("step", true)] {
        let spec = spec::<R>(&filled, &cell, step_every, goes_on)?;
        let place = format!("`step_every: {step_every}`, `keep_hidden: {goes_on}`");
        let whole = finished::<R>(&spec, &plugins, None)?;
        let again = finished::<R>(&spec, &plugins, None)?;
        let resumed = finished::<R>(&spec, &plugins, Some(stopped(&spec, &plugins)?))?;
        let bits = |finished: &Finished| values(&finished.weights);
        if bits(&whole)? != bits(&again)? {
            return Err(broken(R::KIND, format!("training twice gives different weights ({place})")));
        }
        if bits(&whole)? != bits(&resumed)? {
            return Err(broken(R::KIND, format!("stopping and resuming changes the final weights ({place})")));
        }
        check_learned::<R>(&spec, &plugins, &whole)?;
    }
    Ok(())
}

fn task() -> LineDraw {
    LineDraw {
        points: 3,
        seq_len: 5,
        train_size: 12,
        val_split: 0.25,
        test_size: 4,
        radius: 1.0,
        train_noise: 0.1,
        ..LineDraw::default()
    }
}

fn spec<R: Plugin + LearningRule>(keys: &Value, cell: &Value, step_every: &str, goes_on: bool) -> Result<Spec> {
    let refused = |error: serde_json::Error| broken(R::KIND, error);
    let rule: R = super::read(keys.clone())?;
    let mut layer = cell.clone();
    layer["hidden"] = json!(5);
    if rule.has_synthesizer() {
        layer["dni"] = json!({ "hidden": [], "scale": 1.0 });
    }
    let mut table = keys.clone();
    table["kind"] = json!(R::KIND);
    if keys["traces"] == json!(true) {
        table["variant"] = json!(RuleVariant::Published);
    }
    let mut task = serde_json::to_value(task()).map_err(refused)?;
    task["kind"] = json!(LineDraw::KIND);
    let mut train = json!({
        "epochs": 2, "batch_size": 3, "rule": table, "step_every": step_every, "keep_hidden": goes_on,
        "optimizer": { "kind": "adam", "lr": 0.01 },
    });
    if step_every == "window" {
        train["bptt"] = json!(2);
    }
    serde_json::from_value(json!({ "task": task, "model": { "layers": [layer] }, "train": train })).map_err(refused)
}

fn trainer(spec: &Spec, plugins: &Plugins) -> Result<Trainer> {
    Trainer::new(plugins, spec, &task().shape(), task().open(1)?, 1, Device::Cpu)
}

/// The checkpoint after two of three batches.
fn stopped(spec: &Spec, plugins: &Plugins) -> Result<Vec<u8>> {
    let mut callback = Stop { after: Some(2), checkpoint: None };
    trainer(spec, plugins)?.train(&mut callback)?;
    callback.checkpoint.ok_or_else(|| broken(&spec.train.rule.kind, "training stopped without a checkpoint"))
}

fn finished<R: Plugin>(spec: &Spec, plugins: &Plugins, from: Option<Vec<u8>>) -> Result<Finished> {
    let mut trainer = trainer(spec, plugins)?;
    if let Some(bytes) = from {
        trainer.resume(&Checkpoint::from_bytes(&bytes).map_err(|error| broken(R::KIND, error))?)?;
    }
    match trainer.train(&mut Stop { after: None, checkpoint: None })? {
        Outcome::Finished(finished) => Ok(*finished),
        Outcome::Stopped => Err(broken(R::KIND, "training stopped without a request")),
    }
}

fn check_learned<R: Plugin>(spec: &Spec, plugins: &Plugins, finished: &Finished) -> Result<()> {
    let fresh = crate::model::Model::new(&plugins.model, &spec.model, &task().shape(), 1, &Device::Cpu)?;
    for (before, after) in values(&fresh.params.snapshot()?)?.iter().zip(values(&finished.weights)?) {
        let is_network = !before.0.contains("synthesizer") && !before.0.contains("bias_hh");
        if is_network && *before == after {
            return Err(broken(R::KIND, format!("training does not change the parameter `{}`", before.0)));
        }
        if after.1.iter().any(|value| !value.is_finite()) {
            return Err(broken(R::KIND, format!("the parameter `{}` is not finite after training", after.0)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::rules::{BpLambda, EProp, Kernl, OnlineDni, Rflo, Rtrl, Uoro};

    #[test]
    fn built_in_rules_conform() -> Result<()> {
        let (tanh, leaky, lstm) = (json!({"cell": "tanh"}), json!({"cell": "leaky"}), json!({"cell": "lstm"}));
        check_rule::<Rtrl>(json!({}), lstm.clone())?;
        check_rule::<Rtrl>(json!({ "decay": 0.7 }), leaky.clone())?;
        check_rule::<Uoro>(json!({ "noise": "normal", "start": "normal" }), lstm.clone())?;
        check_rule::<Uoro>(json!({ "epsilon": 1e-3 }), tanh.clone())?;
        check_rule::<Rflo>(json!({ "rate": 0.3 }), leaky.clone())?;
        check_rule::<EProp>(json!({}), lstm.clone())?;
        check_rule::<EProp>(json!({ "filter": 0.8 }), tanh.clone())?;
        check_rule::<Kernl>(json!({ "reset_every": 3, "noise": 0.01 }), leaky.clone())?;
        check_rule::<OnlineDni>(json!({ "copy_every": 2 }), tanh.clone())?;
        check_rule::<BpLambda>(json!({ "lambda": 0.9 }), lstm.clone())?;
        check_rule::<BpLambda>(json!({ "own_sgd": 0.1, "filter": 0.5 }), leaky)?;
        check_rule::<BpLambda>(json!({ "lambda": 0.0 }), tanh)?;
        check_rule::<BpLambda>(json!({ "traces": true }), lstm)
    }
}
