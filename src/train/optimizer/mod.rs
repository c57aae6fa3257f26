//! Optimizers: what a gradient does to a parameter, and the state that has to be kept for it.
//!
//! candle's own keep their state private, so that it could not be part of a checkpoint. A parameter without a gradient
//! is simply not stepped: its moments and its step count stay.

mod rules;

use std::collections::HashMap;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::OptimizerSpec;

/// An optimizer over a fixed list of parameters, named by their index.
#[derive(Debug, Clone)]
pub struct Optimizer {
    spec: OptimizerSpec,
    lr: f64,
    states: Vec<State>,
}

/// What is kept for one parameter.
#[derive(Debug, Clone, Default)]
struct State {
    /// Steps made, which are the gradients received.
    steps: u64,
    /// One tensor a slot of the rule, of the parameter's shape; empty before the first gradient.
    slots: Vec<Tensor>,
}

/// The part of the state that is no tensor.
#[derive(Serialize, Deserialize)]
struct Numbers {
    lr: f64,
    steps: Vec<u64>,
}

impl Optimizer {
    /// An optimizer for `parameters` parameters, none of which has made a step.
    pub fn new(spec: &OptimizerSpec, parameters: usize) -> Self {
        Optimizer { spec: spec.clone(), lr: spec.lr(), states: vec![State::default(); parameters] }
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Changes the learning rate of the steps to come.
    pub fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    /// Takes a gradient of parameter `index` and returns the parameter's new value.
    ///
    /// The result is no variable and keeps no graph, whatever was passed in.
    ///
    /// # Errors
    /// Fails if the shapes or devices of parameter and gradient differ.
    ///
    /// # Panics
    /// If there is no parameter `index`.
    pub fn step(&mut self, index: usize, parameter: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let state = &mut self.states[index];
        let (parameter, mut gradient) = (parameter.detach(), gradient.detach());
        if state.slots.is_empty() {
            let zeros = |_| parameter.zeros_like();
            state.slots = rules::slots(&self.spec).iter().map(zeros).collect::<candle_core::Result<_>>()?;
        }

        let decay = self.spec.weight_decay();
        let mut base = parameter;
        if decay != 0.0 {
            match self.spec {
                OptimizerSpec::Adamw(_) => base = base.affine(1.0 - self.lr * decay, 0.0)?,
                _ => gradient = (gradient + base.affine(decay, 0.0)?)?,
            }
        }

        let update = rules::update(&self.spec, self.lr, state.steps + 1, &state.slots, &gradient)?;
        let stepped = (base - update.change)?;
        state.steps += 1;
        state.slots = update.slots;
        Ok(stepped)
    }

    /// All that has to be kept: tensors `optimizer.<slot>.<parameter>`, and the learning rate and step counts.
    ///
    /// `names` are the parameters', in the order of their indices. A parameter that never had a gradient has no
    /// tensors.
    ///
    /// # Errors
    /// Fails if `names` are not as many as the parameters.
    pub fn state(&self, names: &[String]) -> Result<(Vec<(String, Tensor)>, serde_json::Value)> {
        self.check_count(names.len())?;
        let mut tensors = Vec::new();
        for (name, state) in names.iter().zip(&self.states) {
            for (slot, tensor) in rules::slots(&self.spec).iter().zip(&state.slots) {
                tensors.push((tensor_name(slot, name), tensor.clone()));
            }
        }
        let numbers = Numbers { lr: self.lr, steps: self.states.iter().map(|state| state.steps).collect() };
        let numbers = serde_json::to_value(numbers).map_err(|error| damaged(error.to_string()))?;
        Ok((tensors, numbers))
    }

    /// Takes over what [`Self::state`] returned; `tensors` may hold others besides.
    ///
    /// # Errors
    /// Fails if the state is of other parameters or of another rule; nothing has changed then.
    pub fn restore(
        &mut self,
        names: &[String],
        tensors: &HashMap<String, Tensor>,
        value: &serde_json::Value,
    ) -> Result<()> {
        self.check_count(names.len())?;
        let numbers = Numbers::deserialize(value).map_err(|error| damaged(error.to_string()))?;
        self.check_count(numbers.steps.len())?;
        let mut states = Vec::with_capacity(names.len());
        for (name, &steps) in names.iter().zip(&numbers.steps) {
            let mut slots = Vec::new();
            if steps > 0 {
                for slot in rules::slots(&self.spec) {
                    let key = tensor_name(slot, name);
                    slots.push(tensors.get(&key).ok_or_else(|| damaged(format!("`{key}` is missing")))?.clone());
                }
            }
            states.push(State { steps, slots });
        }
        self.lr = numbers.lr;
        self.states = states;
        Ok(())
    }

    fn check_count(&self, count: usize) -> Result<()> {
        if count == self.states.len() {
            return Ok(());
        }
        Err(damaged(format!("it has {count} parameters, the model {}", self.states.len())))
    }
}

fn tensor_name(slot: &str, parameter: &str) -> String {
    format!("optimizer.{slot}.{parameter}")
}

fn damaged(what: String) -> Error {
    Error::Training(format!("the optimizer's state does not fit: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use serde_json::json;

    const KINDS: [&str; 7] = ["adam", "adamw", "adamax", "rmsprop", "sgd", "adagrad", "adadelta"];

    fn spec(kind: &str, decay: f64) -> OptimizerSpec {
        serde_json::from_value(json!({"kind": kind, "lr": 0.05, "weight_decay": decay})).unwrap()
    }

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    fn names() -> Vec<String> {
        vec!["a".into(), "b".into()]
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.to_vec1().unwrap()
    }

    #[test]
    fn every_rule_descends_a_parabola() -> Result<()> {
        for kind in KINDS {
            let mut optimizer = Optimizer::new(&spec(kind, 0.0), 1);
            let mut p = tensor(&[1.0, -2.0]);
            for _ in 0..50 {
                p = optimizer.step(0, &p, &p)?;
            }
            let p = values(&p);
            assert!(p[0].abs() < 1.0 && p[1].abs() < 2.0, "{kind}: {p:?}");
        }
        Ok(())
    }

    #[test]
    fn a_restored_optimizer_goes_on_with_the_same_bits() -> Result<()> {
        for kind in KINDS {
            let mut whole = Optimizer::new(&spec(kind, 0.01), 2);
            let (mut p, g) = (tensor(&[0.3, -0.7]), tensor(&[0.01, 2.0]));
            for _ in 0..3 {
                p = whole.step(0, &p, &g)?;
            }
            whole.set_lr(0.1 + 0.2);
            let (tensors, numbers) = whole.state(&names())?;
            assert!(tensors.iter().all(|(name, _)| name.ends_with(".a")), "{kind}: `b` had no gradient");
            let numbers = serde_json::from_str(&numbers.to_string()).unwrap();

            let mut resumed = Optimizer::new(&spec(kind, 0.01), 2);
            resumed.restore(&names(), &tensors.into_iter().collect(), &numbers)?;
            assert_eq!(resumed.lr(), 0.1 + 0.2);
            for _ in 0..3 {
                let stepped = whole.step(0, &p, &g)?;
                assert_eq!(values(&stepped), values(&resumed.step(0, &p, &g)?), "{kind}");
                p = stepped;
            }
            assert_eq!(values(&whole.step(1, &p, &g)?), values(&resumed.step(1, &p, &g)?), "{kind}");
        }
        Ok(())
    }

    #[test]
    fn a_parameter_that_waits_starts_at_its_own_first_step() -> Result<()> {
        for kind in KINDS {
            let mut optimizer = Optimizer::new(&spec(kind, 0.0), 2);
            let (p, g) = (tensor(&[0.3]), tensor(&[0.5]));
            let first = optimizer.step(0, &p, &g)?;
            optimizer.step(0, &first, &g)?;
            assert_eq!(values(&first), values(&optimizer.step(1, &p, &g)?), "{kind}");
        }
        Ok(())
    }

    #[test]
    fn adamw_decays_beside_the_gradient() -> Result<()> {
        let (p, g) = (tensor(&[2.0]), tensor(&[0.0]));
        let decayed = values(&Optimizer::new(&spec("adamw", 0.1), 1).step(0, &p, &g)?)[0];
        assert!((decayed - 2.0 * (1.0 - 0.05 * 0.1)).abs() < 1e-6, "{decayed}");
        let plain = Optimizer::new(&spec("adam", 0.0), 1).step(0, &p, &tensor(&[0.4]))?;
        let without = Optimizer::new(&spec("adamw", 0.0), 1).step(0, &p, &tensor(&[0.4]))?;
        assert_eq!(values(&plain), values(&without));
        Ok(())
    }

    #[test]
    fn a_step_keeps_no_graph() -> Result<()> {
        let variable = Var::from_tensor(&tensor(&[0.3]))?;
        let mut optimizer = Optimizer::new(&spec("adam", 0.01), 1);
        let stepped = optimizer.step(0, &variable, &variable)?;
        let (slots, _) = optimizer.state(&names()[..1])?;
        assert!(!stepped.track_op() && slots.iter().all(|(_, slot)| !slot.track_op()));
        Ok(())
    }

    #[test]
    fn a_state_of_something_else_is_refused() -> Result<()> {
        let mut adam = Optimizer::new(&spec("adam", 0.0), 2);
        adam.step(0, &tensor(&[0.3]), &tensor(&[0.5]))?;
        let (tensors, numbers) = adam.state(&names())?;
        let tensors: HashMap<_, _> = tensors.into_iter().collect();

        let mut sgd = Optimizer::new(&spec("sgd", 0.0), 2);
        let error = sgd.restore(&names(), &tensors, &numbers).unwrap_err().to_string();
        assert!(error.contains("optimizer.momentum_buffer.a"), "{error}");
        let error = Optimizer::new(&spec("adam", 0.0), 3).restore(&names(), &tensors, &numbers).unwrap_err();
        assert!(error.to_string().contains("2 parameters, the model 3"), "{error}");
        assert!(adam.restore(&names(), &tensors, &json!({"lr": 0.1})).is_err());
        Ok(())
    }
}
