//! A case as the crate sees it: model with the case's weights, rule, losses, tolerances.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ccdni::model::{Model, Plugins};
use ccdni::nn::Gradients;
use ccdni::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
use ccdni::train::rules::{self, Errors, Online};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use super::super::{Outcome, assert_close, read_json, read_tensors};

/// A case and its numbers.
pub struct Case {
    pub json: Value,
    tensors: HashMap<String, Tensor>,
}

impl Case {
    pub fn read(dir: &Path) -> Result<Case, Failed> {
        Ok(Case { json: read_json(&dir.join("case.json"))?, tensors: read_tensors(&dir.join("tensors.safetensors"))? })
    }

    pub fn text(&self, pointer: &str) -> Result<&str, Failed> {
        let text = self.json.pointer(pointer).and_then(Value::as_str);
        text.ok_or_else(|| format!("`{pointer}` is no text").into())
    }

    pub fn whole(&self, pointer: &str) -> Result<usize, Failed> {
        Ok(self.number(pointer)? as usize)
    }

    pub fn number(&self, pointer: &str) -> Result<f64, Failed> {
        super::super::number(&self.json, pointer)
    }

    pub fn flag(&self, pointer: &str) -> bool {
        self.json.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor by name, as f32.
    pub fn tensor(&self, name: &str) -> Result<Tensor, Failed> {
        Ok(super::super::tensor(&self.tensors, name)?.to_dtype(DType::F32)?)
    }

    pub fn values(&self, name: &str) -> Result<Vec<f32>, Failed> {
        Ok(self.tensor(name)?.flatten_all()?.to_vec1()?)
    }

    /// The model; its parameters still have to be set.
    pub fn model(&self) -> Result<Model, Failed> {
        let mut layer = json!({ "hidden": self.whole("/hidden_size")? });
        match self.text("/cell")? {
            "lstm" => layer["cell"] = json!("lstm"),
            activation => {
                layer["cell"] = json!("leaky");
                layer["activation"] = json!(activation);
                let share = self.json.get("leak_alpha").and_then(Value::as_f64).unwrap_or(1.0);
                layer["tau"] = json!(1.0 / share);
            }
        }
        if self.json["synth"].is_object() {
            let hidden = vec![self.json["synth"]["hidden_size"].clone(); self.whole("/synth/hidden_layers")?];
            layer["dni"] = json!({ "hidden": hidden, "scale": self.number("/synth/sg_factor")? });
        }
        let spec = serde_json::from_value(json!({ "layers": [layer] }))?;
        let shape = TaskShape {
            input: Input::Dense { features: self.whole("/input_size")? },
            target: Target { kind: TargetKind::Values { size: self.whole("/output_size")? }, when: When::EveryStep },
            steps: None,
            validates: false,
        };
        Ok(Model::new(&Plugins::built_in(), &spec, &shape, 1, &Device::Cpu)?)
    }

    /// The rule of this kind with these keys on a model.
    pub fn rule(&self, mut rule: Value, model: &Model) -> Result<Online, Failed> {
        rule["variant"] = json!("published");
        let spec: ccdni::spec::RuleSpec = serde_json::from_value(rule)?;
        let plugin = rules::built_in().open(&spec.kind, &spec.keys)?;
        Ok(Online::new(&spec, plugin.as_ref(), model, 1)?.ok_or("no rule that goes forward in time")?)
    }

    /// Tolerance relative to the largest element of the reference, with a floor. Cases in double precision are computed in
    /// single precision.
    pub fn close(&self, what: &str, actual: &Tensor, expected: &Tensor) -> Outcome {
        let largest = f64::from(expected.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?);
        let (relative, floor) = match self.text("/dtype")? {
            "f64" => (1e-4, 1e-7),
            _ => (self.number("/tolerance/rel_to_tensor_max")?, self.number("/tolerance/abs_floor")?),
        };
        let actual = actual.to_dtype(DType::F32)?;
        assert_close(what, &actual, expected, (relative * largest).max(floor))
    }
}

/// Index of the parameter with this role.
pub fn index(model: &Model, role: &str) -> Result<usize, Failed> {
    let found = model.params.iter().position(|parameter| parameter.role == role);
    found.ok_or_else(|| format!("the model has no `{role}`").into())
}

/// The gradient of the parameter with this role, zero if it has none.
pub fn gradient(model: &Model, gradients: &Gradients, role: &str) -> Result<Tensor, Failed> {
    let index = index(model, role)?;
    Ok(match gradients.get(index)? {
        Some(gradient) => gradient.copy()?,
        None => model.params.get(index).value().zeros_like()?,
    })
}

/// The targets of a case: values of a batch, `[steps][rows · outputs]`, at the steps that have one.
pub struct Targets {
    /// `mse`, `xent`, `bce`
    pub loss: String,
    pub targets: Vec<Option<Vec<f32>>>,
    /// What the gradients are divided by.
    pub divisor: f32,
    pub width: usize,
    pub readout_factor: f32,
    /// The outputs of the last step.
    pub outputs: Vec<f32>,
    pub error: Vec<f32>,
}

impl Errors for Targets {
    fn at(&mut self, step: usize, outputs: &[f32]) -> ccdni::Result<Option<Vec<f32>>> {
        self.outputs = outputs.to_vec();
        let Some(target) = &self.targets[step] else { return Ok(None) };
        let predicted: Vec<f32> = match self.loss.as_str() {
            "mse" => outputs.to_vec(),
            "bce" => outputs.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
            _ => outputs.chunks(self.width).flat_map(softmax).collect(),
        };
        self.error = predicted.iter().zip(target).map(|(y, t)| (y - t) / self.divisor).collect();
        Ok(Some(self.error.clone()))
    }

    fn target(&self, step: usize) -> ccdni::Result<Vec<f32>> {
        Ok(self.targets[step].clone().unwrap_or_default())
    }

    fn readout_factor(&self) -> f32 {
        self.readout_factor
    }
}

fn softmax(row: &[f32]) -> Vec<f32> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let odds: Vec<f32> = row.iter().map(|x| (x - largest).exp()).collect();
    let sum: f32 = odds.iter().sum();
    odds.iter().map(|odds| odds / sum).collect()
}
