//! A case as the crate sees it: spec, interface, model with the case's weights, tolerances.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use ccdni::model::{Model, Plugins};
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::spec::{ModelSpec, TrainSpec};
use ccdni::train::backend::{Backend, Composed, Fused, Unrolled};
use ccdni::train::engine::Role;
use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::super::super::on_device;
use super::super::{Outcome, assert_close, read_json, read_tensors};

/// The backends of the device, by name: all of them have to pass.
pub fn backends() -> Vec<(&'static str, Box<dyn Backend>)> {
    let mut all: Vec<(_, Box<dyn Backend>)> = vec![("composed", Box::new(Composed)), ("unrolled", Box::new(Unrolled))];
    if on_device::device().is_some_and(|device| device.is_cpu()) {
        all.push(("fused", Box::new(Fused::default())));
    }
    all
}

/// A case and its numbers.
pub struct Case {
    pub json: Value,
    pub tensors: HashMap<String, Tensor>,
}

impl Case {
    pub fn read(dir: &Path) -> Result<Case, Failed> {
        Ok(Case { json: read_json(&dir.join("case.json"))?, tensors: read_tensors(&dir.join("tensors.safetensors"))? })
    }

    pub fn text(&self, key: &str) -> Result<&str, Failed> {
        self.json[key].as_str().ok_or_else(|| format!("`{key}` is no text").into())
    }

    pub fn whole(&self, key: &str) -> Result<usize, Failed> {
        self.json[key].as_u64().map(|n| n as usize).ok_or_else(|| format!("`{key}` is no whole number").into())
    }

    pub fn flag(&self, pointer: &str) -> bool {
        self.json.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn number(&self, pointer: &str) -> Result<f64, Failed> {
        super::super::number(&self.json, pointer)
    }

    pub fn tensor(&self, name: &str) -> Result<&Tensor, Failed> {
        super::super::tensor(&self.tensors, name)
    }

    pub fn scalar(&self, name: &str) -> Result<f64, Failed> {
        Ok(f64::from(self.tensor(name)?.flatten_all()?.get(0)?.to_scalar::<f32>()?))
    }

    /// What the synthesizer does in this case.
    pub fn role(&self) -> Role {
        match (self.flag("/ablation/rnn_ablation"), self.flag("/ablation/fixed_synth")) {
            (true, _) => Role::Lesioned,
            (_, true) => Role::Accumulating,
            _ => Role::Learning,
        }
    }

    pub fn shape(&self) -> Result<TaskShape, Failed> {
        let input = match self.json.get("vocab_size") {
            Some(_) => Input::Tokens { vocabulary: self.whole("vocab_size")?, first: First::Feature },
            None => Input::Dense { features: self.whole("input_size")? },
        };
        let kind = match self.json.get("loss").and_then(Value::as_str) {
            Some("mse") => TargetKind::Values { size: self.whole("output_size")? },
            Some("cross_entropy") | None => TargetKind::Classes { count: self.whole("output_size")? },
            Some(other) => return Err(format!("unknown loss `{other}`").into()),
        };
        let when = if self.flag("/predict_last") { When::LastStep } else { When::EveryStep };
        Ok(TaskShape { input, target: Target { kind, when }, steps: Some(self.whole("seq_len")?), validates: true })
    }

    pub fn model_spec(&self) -> Result<ModelSpec, Failed> {
        let mut layer = json!({ "cell": self.text("cell")?, "hidden": self.whole("hidden_size")? });
        if self.flag("/dni") {
            let hidden = vec![self.json["synth"]["hidden_size"].clone(); self.number("/synth/hidden_layers")? as usize];
            layer["dni"] = json!({
                "hidden": hidden,
                "scale": self.number("/sg_factor")?,
                "context": if self.flag("/context") { "target" } else { "none" },
                "fibres": self.json["ablation"]["n_fibres"],
                "learn": !self.flag("/ablation/fixed_synth"),
                "frozen_in_norm": "accumulate",
                "share": "all",
            });
        }
        let mut model = json!({ "layers": vec![layer; self.whole("num_layers")?] });
        if self.json.get("embed_size").is_some() {
            model["embed"] = json!({ "size": self.whole("embed_size")? });
        }
        Ok(serde_json::from_value(model)?)
    }

    pub fn train_spec(&self) -> Result<TrainSpec, Failed> {
        self.train_spec_of(self.whole("bptt")?)
    }

    /// The training of a case with windows of `bptt` steps; batches and windows are as the test makes them.
    pub fn train_spec_of(&self, bptt: usize) -> Result<TrainSpec, Failed> {
        let optimizer = &self.json["optimizer"];
        let clip = match &self.json["grad_clip_norm"] {
            Value::Null => Value::Null,
            norm => json!({ "norm": norm }),
        };
        Ok(serde_json::from_value(json!({
            "epochs": 1,
            "batch_size": 1,
            "bptt": bptt,
            "feedback_every": self.json["sparse_interval"],
            "step_every": self.text("step_every").unwrap_or("batch"),
            "optimizer": {
                "kind": optimizer["kind"], "lr": optimizer["lr"], "eps": optimizer["eps"],
                "betas": [optimizer["beta1"], optimizer["beta2"]], "weight_decay": optimizer["weight_decay"],
            },
            "clip": clip,
        }))?)
    }

    /// The model with the case's initial weights, after checking that names and shapes are the same on both sides.
    pub fn model(&self) -> Result<Model, Failed> {
        let mut model = Model::new(
            &Plugins::built_in(),
            &self.model_spec()?,
            &self.shape()?,
            1,
            &on_device::device().ok_or("there is no device")?,
        )?;
        let listed = self.json["params"].as_object().ok_or("`params` is no table")?;
        let ours: Vec<(String, Value)> = model.params.iter().map(|p| (p.name.clone(), json!(p.dims()))).collect();
        for (name, shape) in &ours {
            if listed.get(name) != Some(shape) {
                return Err(format!("our parameter {name} {shape} is not listed like that").into());
            }
        }
        if listed.len() != ours.len() {
            return Err(format!("the case lists {} parameters, we have {}", listed.len(), ours.len()).into());
        }
        for (index, (name, _)) in ours.iter().enumerate() {
            model.params.set(index, self.tensor(&format!("init.{name}"))?)?;
        }
        if let Some(mask) = self.tensors.get("fibre_mask") {
            let kept = mask.eq(0u8)?.to_dtype(DType::F32)?;
            let f = self.number("/ablation/n_fibres")?;
            assert_close("fibres of each unit", &kept.sum(1)?, &(kept.sum(1)?.ones_like()? * f)?, 0.0)?;
            let before = model.params.snapshot()?;
            model.keep_fibres(0, kept)?;
            for ((name, before), (_, after)) in before.iter().zip(model.params.snapshot()?) {
                assert_close(&format!("{name} is masked from the start"), &after, before, 0.0)?;
            }
        }
        Ok(model)
    }

    /// A tolerance of the case, on the device that computes.
    fn tolerance(&self, name: &str) -> Result<f64, Failed> {
        Ok(self.number(&format!("/tolerance/{name}"))? * on_device::slack())
    }

    /// Tolerance of a group of quantities, relative to the tensor's largest element, with a floor.
    pub fn close_by_group(&self, actual: &Tensor, name: &str, group: &str) -> Outcome {
        let expected = self.tensor(name)?;
        let largest = f64::from(expected.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?);
        let tolerance = (self.tolerance(&format!("rel/{group}"))? * largest).max(self.tolerance("abs_floor")?);
        assert_close(name, actual, expected, tolerance)
    }

    /// Relative tolerance on a number.
    pub fn close(&self, what: &str, actual: f64, expected: f64, tolerance: &str) -> Outcome {
        let tolerance = self.tolerance(tolerance)?;
        if actual.is_nan() || (actual - expected).abs() > tolerance * expected.abs() {
            return Err(format!("{what}: {actual}, expected {expected} within a factor of {tolerance}").into());
        }
        Ok(())
    }

    /// Absolute tolerance on a tensor.
    pub fn close_tensor(&self, actual: &Tensor, name: &str, tolerance: &str) -> Outcome {
        let tolerance = self.tolerance(tolerance)?;
        assert_close(name, actual, self.tensor(name)?, tolerance)
    }

    /// Tolerance of gradients: relative to the tensor's largest element, with a floor. Exact zeros must be exact.
    pub fn close_gradient(&self, actual: &Tensor, name: &str, prefix: &str, floor: &str) -> Outcome {
        let expected = self.tensor(name)?;
        let largest = f64::from(expected.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?);
        if largest == 0.0 {
            return assert_close(name, actual, expected, 0.0);
        }
        let tolerance = self.tolerance(prefix)? * largest;
        let floor = self.tolerance(floor)?;
        assert_close(name, actual, expected, tolerance.max(floor))
    }
}
