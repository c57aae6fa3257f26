//! `ff/`: training steps of feed-forward networks with interfaces. One folder per case; `blocks` in its `case.json` lists the
//! network, from which the spec of a model is made.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{D, DType, Tensor};
use ccdni::data::Targets;
use ccdni::model::{Model, Plugins};
use ccdni::nn::Gradients;
use ccdni::spec::ModelSpec;
use ccdni::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
use ccdni::train::engine::Role;
use ccdni::train::feedforward::{self, Batch, Delays, InterfaceTrace};
use ccdni::train::loss::Feedback;
use ccdni::train::optimizer;
use ccdni::train::rows::Rows;
use ccdni::train::update::Updater;
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::super::on_device;
use super::rnn::Case;
use super::{Outcome, assert_close, entries, stem};

/// One test per folder, whatever is in it: a case that cannot be read fails.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let case_test = |case: PathBuf| Trial::test(format!("ff/{}", stem(&case)), move || check(&case));
    entries(dir).into_iter().filter(|path| path.is_dir()).map(case_test).collect()
}

fn check(dir: &Path) -> Outcome {
    let network = Network::read(dir)?;
    let case = &network.case;
    let mut updater =
        Updater::new(&case.train_spec_of(case.whole("steps")?)?, &optimizer::built_in(), &network.model.params)?;
    for step in 0..case.whole("steps")? {
        network.step(step, &mut updater)?;
    }
    Ok(())
}

/// A case and its model.
struct Network {
    case: Case,
    model: Model,
    shape: TaskShape,
    /// The case's name of each of our parameters.
    theirs: Vec<String>,
    /// The name of the mask of each block that has one.
    masks: HashMap<usize, String>,
}

impl Network {
    fn read(dir: &Path) -> Result<Network, Failed> {
        let case = Case::read(dir)?;
        if case.text("kind")? != "ff_classifier" {
            return Err(format!("a case of unknown kind `{}`", case.text("kind")?).into());
        }
        let dims: Vec<usize> = serde_json::from_value(case.json["input_shape"].clone())?;
        let input = match *dims.as_slice() {
            [channels, height, width] => Input::Image { channels, height, width },
            _ => Input::Dense { features: dims.iter().product() },
        };
        let target = Target { kind: TargetKind::Classes { count: case.whole("classes")? }, when: When::LastStep };
        let shape = TaskShape { input, target, steps: Some(1), validates: true };
        let spec: Spec = spec(&case)?;
        let device = on_device::device().ok_or("there is no device")?;
        let model = Model::new(&Plugins::built_in(), &spec.model, &shape, 1, &device)?;
        let theirs = names(&model, &spec)?;
        let listed = [&case.json["params"], &case.json["buffers"]].into_iter().filter_map(Value::as_object).flatten();
        let without: Vec<&str> =
            case.json["params_without_grad"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut count = 0;
        for (name, dims) in listed {
            match theirs.iter().position(|other| other == name) {
                Some(index) if json!(model.params.get(index).dims()) == *dims => count += 1,
                // The context layer of a synthesizer without context, which is never used and never changes: here there is none.
                None if without.contains(&name.as_str()) && name.contains(".input_context.") => {
                    let steps = case.whole("steps")?;
                    let last = case.tensor(&format!("step{}.after.{name}", steps - 1))?;
                    assert_close(name, last, case.tensor(&format!("init.{name}"))?, 0.0)?;
                }
                _ => return Err(format!("the case lists {name} {dims}, we have no such parameter").into()),
            }
        }
        if count != theirs.len() {
            return Err(format!("{count} of our {} parameters are in the case", theirs.len()).into());
        }
        for (index, name) in theirs.iter().enumerate() {
            model.params.set(index, case.tensor(&format!("init.{name}"))?)?;
        }
        Ok(Network { case, model, shape, theirs, masks: spec.masks })
    }

    fn step(&self, k: usize, updater: &mut Updater) -> Outcome {
        let (case, model) = (&self.case, &self.model);
        let named = |what: &str| format!("step{k}.{what}");
        let input = case.tensor(&named("input"))?.flatten_from(1)?.to_device(model.device())?;
        let rows = input.dim(0)?;
        let rows = Rows { count: rows, sequences: rows, multiplicity: None, repetition: None, seeds: 1 };
        let targets = Targets::FinalClass(case.tensor(&named("target"))?.to_dtype(DType::U32)?);
        let feedback = Feedback::new(&targets, &self.shape, 1, 1, &rows, model.device())?;
        if case.flag("/context") {
            assert_close("the context", &feedback.context(1)?, case.tensor(&named("context"))?, 0.0)?;
        }
        let masks = |block: usize, _: f64, dims: &[usize]| {
            let mask = self.masks.get(&block).and_then(|name| case.tensors.get(&format!("step{k}.mask.{name}")));
            let mask = mask
                .filter(|mask| mask.dims() == dims)
                .ok_or_else(|| ccdni::Error::Training(format!("the case has no mask {dims:?} of block {block}")))?;
            Ok(mask.to_device(model.device())?)
        };
        let roles = vec![Role::Learning; model.synthesizers.len()];
        let mut gradients = Gradients::none(&model.params)?;
        let batch = Batch { input: &input, feedback: &feedback, roles: &roles, masks: &masks, trace: true };
        let done = feedforward::run(model, &batch, &mut Delays::default(), &mut gradients)?;
        self.close(&log_softmax(&done.outputs)?, &named("output"), "output")?;
        let loss = done.losses.read()?.first().ok_or("no loss")?.loss;
        self.close(&Tensor::new(&[loss as f32], model.device())?, &named("task_loss"), "loss")?;
        for (i, trace) in done.traces.iter().enumerate() {
            self.interface(&named(&format!("interface{i}")), trace)?;
        }
        if case.tensors.contains_key(&named(&format!("interface{}.message", done.traces.len()))) {
            return Err(format!("the case has more than our {} interfaces", done.traces.len()).into());
        }
        self.gradients(k, &gradients)?;
        model.note_statistics(&done.statistics)?;
        let before = model.params.snapshot()?;
        updater.apply(model, &roles, &mut gradients)?;
        for (index, name) in self.theirs.iter().enumerate() {
            let after = named(&format!("after.{name}"));
            match self.is_noise(name) {
                true => {
                    let moved = largest(&(model.params.get(index).value() - &before[index].1)?)?;
                    let most = 1.1 * case.number("/optimizer/lr")?;
                    if moved.is_nan() || moved > most {
                        return Err(format!("{after}: a step of {moved}, above {most}").into());
                    }
                    model.params.set(index, case.tensor(&after)?)?;
                }
                false => self.close(model.params.get(index).value(), &after, "after")?,
            }
        }
        let inputs = case.tensor("eval.input")?.flatten_from(1)?.to_device(model.device())?;
        let outputs = log_softmax(&feedforward::evaluate(model, &inputs)?)?;
        self.close(&outputs, &named("eval.output"), "eval")
    }

    fn interface(&self, prefix: &str, trace: &InterfaceTrace) -> Outcome {
        let scalar = |loss: &Option<Tensor>| loss.as_ref().map(|loss| loss.reshape(1)).transpose();
        for (what, found) in [
            ("message", Some(trace.message.clone())),
            ("synthetic_gradient", trace.synthetic_gradient.clone()),
            ("synthetic_input", trace.synthetic_input.clone()),
            ("synthetic_gradient_at_synthetic_input", trace.gradient_at_synthetic_input.clone()),
            ("backward_loss", scalar(&trace.backward_loss)?),
            ("forward_loss", scalar(&trace.forward_loss)?),
            ("arrived_gradient", Some(trace.arrived.clone())),
        ] {
            let name = format!("{prefix}.{what}");
            match (found, self.case.tensors.contains_key(&name)) {
                (Some(found), true) => self.close(&found, &name, "interface")?,
                // A gradient that nobody asks for.
                (Some(_), false) if what == "arrived_gradient" => {}
                (None, false) => {}
                (found, _) => return Err(format!("{name} is on one side alone, ours: {}", found.is_some()).into()),
            }
        }
        Ok(())
    }

    fn gradients(&self, k: usize, gradients: &Gradients) -> Outcome {
        for (index, name) in self.theirs.iter().enumerate() {
            let key = format!("step{k}.grad.{name}");
            match (gradients.get(index)?, self.case.tensors.contains_key(&key)) {
                (Some(gradient), true) if self.is_noise(name) => {
                    let largest = largest(&gradient)?;
                    if largest.is_nan() || largest >= 1e-5 {
                        return Err(format!("{key}: {largest}, expected nearly zero").into());
                    }
                }
                (Some(gradient), true) => self.close(&gradient, &key, "grad")?,
                (None, false) => {}
                (found, _) => return Err(format!("{key} is on one side alone, ours: {}", found.is_some()).into()),
            }
        }
        Ok(())
    }

    fn is_noise(&self, name: &str) -> bool {
        self.case.json["noise_params"].as_array().is_some_and(|all| all.contains(&json!(name)))
    }

    fn close(&self, found: &Tensor, name: &str, group: &str) -> Outcome {
        self.case.close_by_group(found, name, group)
    }
}

/// The model of a case in our spec, and what connects the two.
struct Spec {
    model: ModelSpec,
    /// Per block of ours: the case's name of the block, and of its interface's synthesizers (of gradients, of inputs).
    names: Vec<(String, [Option<String>; 2])>,
    masks: HashMap<usize, String>,
}

fn spec(case: &Case) -> Result<Spec, Failed> {
    let (mut blocks, mut names, mut masks) = (Vec::<Value>::new(), Vec::new(), HashMap::new());
    let listed = case.json["blocks"].as_array().ok_or("`blocks` is no list")?;
    // The perceptrons flatten images, without listing it.
    if listed.first().is_some_and(|block| block["kind"] == "linear") {
        blocks.push(json!({ "kind": "flatten" }));
        names.push((String::new(), [None, None]));
    }
    for block in listed {
        let name = block["name"].as_str().unwrap_or_default().to_owned();
        let kind = block["kind"].as_str().unwrap_or_default();
        let ours = match kind {
            "linear" => json!({ "kind": kind, "units": block["out"], "bias": block["bias"] }),
            "conv" => json!({
                "kind": kind, "channels": block["out"], "kernel": block["kernel"], "stride": block["stride"],
                "padding": block["padding"], "bias": block["bias"],
            }),
            "batch_norm" => json!({ "kind": kind, "running_momentum": block["momentum"] }),
            "relu" | "tanh" | "flatten" => json!({ "kind": kind }),
            "max_pool" => json!({ "kind": "pool", "size": block["size"] }),
            "dropout" | "dropout_channels" => {
                masks.extend(block["mask"].as_str().map(|mask| (blocks.len(), mask.to_owned())));
                json!({ "kind": "dropout", "p": block["p"], "channels": kind == "dropout_channels" })
            }
            // The loss contains it.
            "log_softmax" => continue,
            "dni" => {
                let dni = interface(case, block)?;
                blocks.last_mut().ok_or("an interface below all blocks")?["dni"] = dni;
                let prefix = |what: &str| block[what]["params"].as_str().map(str::to_owned);
                if let Some((_, interface)) = names.last_mut() {
                    *interface = [prefix("backward"), prefix("forward")];
                }
                continue;
            }
            other => return Err(format!("a block of unknown kind `{other}`").into()),
        };
        blocks.push(ours);
        names.push((name, [None, None]));
    }
    Ok(Spec { model: serde_json::from_value(json!({ "blocks": blocks }))?, names, masks })
}

/// The `dni` table of an interface.
fn interface(case: &Case, block: &Value) -> Result<Value, Failed> {
    let synthesizer = |of: &Value| match of["kind"].as_str() {
        Some("conv") => Ok(json!({ "kind": "conv", "kernel": of["kernel"] })),
        Some("mlp") => {
            let count = of["hidden_layers"].as_u64().ok_or("`hidden_layers` is no number")? as usize;
            Ok(json!({ "kind": "mlp", "hidden": vec![of["hidden_size"].clone(); count] }))
        }
        kind => Err(Failed::from(format!("a synthesizer of unknown kind {kind:?}"))),
    };
    let mut table = match (&block["backward"], &block["forward"]) {
        (Value::Null, forward) => synthesizer(forward)?,
        (backward, Value::Null) => synthesizer(backward)?,
        (backward, forward) => {
            let mut table = synthesizer(backward)?;
            table["forward"] = synthesizer(forward)?;
            table
        }
    };
    table["unlock"] = block["unlock"].clone();
    table["scale"] = case.json["interface_factor"].clone();
    if case.flag("/context") {
        table["context"] = json!("target");
    }
    Ok(table)
}

/// The case's name of each of our parameters.
fn names(model: &Model, spec: &Spec) -> Result<Vec<String>, Failed> {
    let of = |name: &str| {
        let (block, rest) = name.strip_prefix("blocks.")?.split_once('.')?;
        let (theirs, interface) = spec.names.get(block.parse::<usize>().ok()?)?;
        for (what, prefix) in
            ["backward_interface.synthesizer.", "forward_interface.synthesizer."].iter().zip(interface)
        {
            if let Some(rest) = rest.strip_prefix(what) {
                return Some(format!("{}{rest}", prefix.as_ref()?));
            }
        }
        Some(format!("{theirs}.{rest}"))
    };
    model.params.iter().map(|p| of(&p.name).ok_or_else(|| format!("{}: no name in the case", p.name).into())).collect()
}

fn log_softmax(logits: &Tensor) -> Result<Tensor, Failed> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
    Ok(shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)?)
}

fn largest(tensor: &Tensor) -> Result<f64, Failed> {
    Ok(f64::from(tensor.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?))
}
