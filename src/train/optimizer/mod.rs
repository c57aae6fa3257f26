//! Optimizers: what gradients do to parameters, and the state that has to be kept for it.
//!
//! candle's own keep their state private, so that it could not be part of a checkpoint. A parameter without a gradient
//! is simply not stepped: its moments and its step count stay.
//!
//! State lies in flat tensors like the parameters, so that a step is one pass over adjacent parameters that are at the same
//! step: in place on the CPU (`in_place.rs`), by tensor operations elsewhere (`rules.rs`, which are the definition).

mod in_place;
mod rules;

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::{Gradients, ParamStore, slices};
use crate::spec::OptimizerSpec;

/// An optimizer over the parameters of one store.
#[derive(Debug)]
pub struct Optimizer {
    spec: OptimizerSpec,
    lr: f64,
    /// For each parameter the steps made, which are the gradients received.
    steps: Vec<u64>,
    /// Where each parameter lies, and its shape.
    places: Vec<(Range<usize>, Vec<usize>)>,
    /// One tensor a slot of the rule, laid out as [`ParamStore::flat`].
    slots: Vec<Tensor>,
}

/// The part of the state that is no tensor.
#[derive(Serialize, Deserialize)]
struct Numbers {
    lr: f64,
    steps: Vec<u64>,
}

/// Adjacent parameters that are at the same step.
#[derive(Debug, PartialEq)]
struct Run {
    range: Range<usize>,
    /// Number of the step, counted from 1.
    t: u64,
    coefficient: f64,
}

impl Optimizer {
    /// An optimizer for the parameters of a store, none of which has made a step.
    ///
    /// # Errors
    /// Fails if the device has no room for its state.
    pub fn new(spec: &OptimizerSpec, params: &ParamStore) -> Result<Self> {
        let places = params.iter().enumerate().map(|(index, p)| (params.range(index), p.dims().to_vec())).collect();
        let slots = rules::slots(spec).iter().map(|_| params.flat().zeros_like()).collect::<Result<_, _>>()?;
        Ok(Optimizer { spec: spec.clone(), lr: spec.lr(), steps: vec![0; params.len()], places, slots })
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Changes the learning rate of the steps to come.
    pub fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    /// Makes a step with every parameter that has a gradient and a coefficient, by which its gradient is multiplied first
    /// (clipping).
    ///
    /// # Errors
    /// Fails if parameters and gradients are of different stores.
    pub fn step(&mut self, params: &ParamStore, gradients: &Gradients, coefficients: &[Option<f64>]) -> Result<()> {
        self.check_count(params.len())?;
        self.check_count(coefficients.len())?;
        let mut runs: Vec<Run> = Vec::new();
        for (index, (range, _)) in self.places.iter().enumerate() {
            let (true, Some(coefficient)) = (gradients.present()[index], coefficients[index]) else { continue };
            self.steps[index] += 1;
            let t = self.steps[index];
            match runs.last_mut() {
                Some(run) if (run.range.end, run.t, run.coefficient) == (range.start, t, coefficient) => {
                    run.range.end = range.end;
                }
                _ => runs.push(Run { range: range.clone(), t, coefficient }),
            }
        }
        for run in runs {
            match params.flat().device().is_cpu() {
                true => self.step_in_place(params, gradients, &run)?,
                false => self.step_by_tensors(params, gradients, &run)?,
            }
        }
        Ok(())
    }

    fn step_in_place(&self, params: &ParamStore, gradients: &Gradients, run: &Run) -> Result<()> {
        let gradient = slices::read(gradients.flat())?;
        let here = |all: &mut [f32], step: &mut dyn FnMut(&mut [f32])| step(&mut all[run.range.clone()]);
        slices::write(params.flat(), |p| {
            let p = &mut p[run.range.clone()];
            slices::write(&self.slots[0], |first| {
                let mut step = |second: &mut [f32]| {
                    let state = in_place::State { p: &mut *p, first: &mut first[run.range.clone()], second };
                    in_place::step(&self.spec, self.lr, run.t, run.coefficient, &gradient[run.range.clone()], state);
                };
                match self.slots.get(1) {
                    Some(second) => slices::write(second, |second| here(second, &mut step)),
                    None => {
                        step(&mut []);
                        Ok(())
                    }
                }
            })
        })??
    }

    fn step_by_tensors(&self, params: &ParamStore, gradients: &Gradients, run: &Run) -> Result<()> {
        let here = |flat: &Tensor| flat.narrow(0, run.range.start, run.range.len());
        let slots = self.slots.iter().map(here).collect::<Result<Vec<_>, _>>()?;
        let gradient = (here(gradients.flat())? * run.coefficient)?;
        let (stepped, new) = rules::step(&self.spec, self.lr, run.t, &here(params.flat())?, &slots, &gradient)?;
        params.flat().slice_set(&stepped, 0, run.range.start)?;
        for (slot, new) in self.slots.iter().zip(&new) {
            slot.slice_set(new, 0, run.range.start)?;
        }
        Ok(())
    }

    /// All that has to be kept, on the CPU: tensors `optimizer.<slot>.<parameter>`, and the learning rate and step counts.
    ///
    /// `names` are the parameters', in the order of their indices. A parameter that never had a gradient has no
    /// tensors.
    ///
    /// # Errors
    /// Fails if `names` are not as many as the parameters.
    pub fn state(&self, names: &[String]) -> Result<(Vec<(String, Tensor)>, serde_json::Value)> {
        self.check_count(names.len())?;
        let mut tensors = Vec::new();
        let slots = self.slots.iter().map(|slot| slot.to_device(&Device::Cpu)).collect::<Result<Vec<_>, _>>()?;
        for ((name, (range, dims)), &steps) in names.iter().zip(&self.places).zip(&self.steps) {
            for (slot, flat) in rules::slots(&self.spec).iter().zip(&slots).filter(|_| steps > 0) {
                let value = flat.narrow(0, range.start, range.len())?.reshape(dims.as_slice())?;
                tensors.push((tensor_name(slot, name), value.force_contiguous()?));
            }
        }
        let numbers = Numbers { lr: self.lr, steps: self.steps.clone() };
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
        let slots = self.slots.iter().map(Tensor::zeros_like).collect::<Result<Vec<_>, _>>()?;
        for ((name, &steps), (range, dims)) in names.iter().zip(&numbers.steps).zip(&self.places) {
            for (slot, flat) in rules::slots(&self.spec).iter().zip(&slots).filter(|_| steps > 0) {
                let key = tensor_name(slot, name);
                let value = tensors.get(&key).ok_or_else(|| damaged(format!("`{key}` is missing")))?;
                if value.dims() != dims {
                    return Err(damaged(format!("`{key}` has shape {:?}, not {dims:?}", value.dims())));
                }
                flat.slice_set(&value.to_device(flat.device())?.flatten_all()?.contiguous()?, 0, range.start)?;
            }
        }
        self.lr = numbers.lr;
        self.steps = numbers.steps;
        self.slots = slots;
        Ok(())
    }

    fn check_count(&self, count: usize) -> Result<()> {
        if count == self.steps.len() {
            return Ok(());
        }
        Err(damaged(format!("it has {count} parameters, the model {}", self.steps.len())))
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
    use crate::nn::{NewParameter, Part};
    use candle_core::Device;
    use serde_json::json;

    const KINDS: [&str; 7] = ["adam", "adamw", "adamax", "rmsprop", "sgd", "adagrad", "adadelta"];

    fn spec(kind: &str, decay: f64) -> OptimizerSpec {
        serde_json::from_value(json!({"kind": kind, "lr": 0.05, "weight_decay": decay})).unwrap()
    }

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    /// Parameters `a`, `b`, ... with these values.
    fn store(values: &[&[f32]]) -> ParamStore {
        let names = "abcdef".chars().map(String::from);
        let parameter = |(name, values): (String, &&[f32])| NewParameter {
            role: name.clone(),
            name,
            part: Part::Network,
            value: tensor(values),
        };
        ParamStore::new(names.zip(values).map(parameter).collect(), &Device::Cpu).unwrap()
    }

    /// One step with the gradients that are there.
    fn step(optimizer: &mut Optimizer, params: &ParamStore, gradients: &[Option<&[f32]>]) {
        let mut all = Gradients::none(params).unwrap();
        for (index, gradient) in gradients.iter().enumerate() {
            gradient.iter().for_each(|gradient| all.add(index, &tensor(gradient)).unwrap());
        }
        optimizer.step(params, &all, &vec![Some(1.0); params.len()]).unwrap();
    }

    fn values(params: &ParamStore, index: usize) -> Vec<f32> {
        params.get(index).value().to_vec1().unwrap()
    }

    #[test]
    fn every_rule_descends_a_parabola() {
        for kind in KINDS {
            let params = store(&[&[1.0, -2.0]]);
            let mut optimizer = Optimizer::new(&spec(kind, 0.0), &params).unwrap();
            for _ in 0..50 {
                step(&mut optimizer, &params, &[Some(&values(&params, 0))]);
            }
            let p = values(&params, 0);
            assert!(p[0].abs() < 1.0 && p[1].abs() < 2.0, "{kind}: {p:?}");
        }
    }

    #[test]
    fn in_place_and_by_tensors_give_the_same_bits() {
        let numbers = |by: f32| (0..37).map(|i| (i as f32 * by).sin()).collect::<Vec<f32>>();
        for kind in KINDS {
            for decay in [0.0, 0.01] {
                let both = [true, false].map(|in_place| {
                    let params = store(&[&numbers(0.3), &numbers(0.7)]);
                    let mut optimizer = Optimizer::new(&spec(kind, decay), &params).unwrap();
                    for t in 1..5 {
                        let mut gradients = Gradients::none(&params).unwrap();
                        gradients.add(0, &tensor(&numbers(t as f32))).unwrap();
                        gradients.add(1, &tensor(&numbers(0.1))).unwrap();
                        match in_place {
                            true => optimizer.step(&params, &gradients, &[Some(0.3), Some(0.3)]).unwrap(),
                            false => {
                                let run = Run { range: 0..74, t, coefficient: 0.3 };
                                optimizer.step_by_tensors(&params, &gradients, &run).unwrap();
                            }
                        }
                    }
                    params.flat().to_vec1::<f32>().unwrap()
                });
                assert!(
                    both[0].iter().zip(&both[1]).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{kind} {decay}: {both:?}"
                );
            }
        }
    }

    #[test]
    fn a_restored_optimizer_goes_on_with_the_same_bits() -> Result<()> {
        for kind in KINDS {
            let params = store(&[&[0.3, -0.7], &[0.3, -0.7]]);
            let mut whole = Optimizer::new(&spec(kind, 0.01), &params)?;
            let g: &[f32] = &[0.01, 2.0];
            for _ in 0..3 {
                step(&mut whole, &params, &[Some(g), None]);
            }
            whole.set_lr(0.1 + 0.2);
            let (tensors, numbers) = whole.state(&params.names())?;
            assert!(tensors.iter().all(|(name, _)| name.ends_with(".a")), "{kind}: `b` had no gradient");
            let numbers = serde_json::from_str(&numbers.to_string()).unwrap();

            let copy = store(&[&values(&params, 0), &values(&params, 1)]);
            let mut resumed = Optimizer::new(&spec(kind, 0.01), &copy)?;
            resumed.restore(&params.names(), &tensors.into_iter().collect(), &numbers)?;
            assert_eq!(resumed.lr(), 0.1 + 0.2);
            for _ in 0..3 {
                step(&mut whole, &params, &[Some(g), Some(g)]);
                step(&mut resumed, &copy, &[Some(g), Some(g)]);
            }
            assert_eq!((values(&params, 0), values(&params, 1)), (values(&copy, 0), values(&copy, 1)), "{kind}");
        }
        Ok(())
    }

    #[test]
    fn a_parameter_that_waits_starts_at_its_own_first_step() {
        for kind in KINDS {
            let params = store(&[&[0.3], &[0.3], &[0.3]]);
            let mut optimizer = Optimizer::new(&spec(kind, 0.0), &params).unwrap();
            let g: Option<&[f32]> = Some(&[0.5]);
            step(&mut optimizer, &params, &[g, None, g]);
            let first = values(&params, 0);
            assert_eq!(values(&params, 1), [0.3], "{kind}: no gradient, no step");
            step(&mut optimizer, &params, &[None, g, None]);
            assert_eq!(first, values(&params, 1), "{kind}");
            assert_eq!(first, values(&params, 0), "{kind}");
        }
    }

    #[test]
    fn adamw_decays_beside_the_gradient() {
        let after = |kind: &str, decay: f64, p: f32, g: f32| {
            let params = store(&[&[p]]);
            step(&mut Optimizer::new(&spec(kind, decay), &params).unwrap(), &params, &[Some(&[g])]);
            values(&params, 0)[0]
        };
        let decayed = after("adamw", 0.1, 2.0, 0.0);
        assert!((decayed - 2.0 * (1.0 - 0.05 * 0.1)).abs() < 1e-6, "{decayed}");
        assert_eq!(after("adam", 0.0, 2.0, 0.4), after("adamw", 0.0, 2.0, 0.4));
    }

    #[test]
    fn a_state_of_something_else_is_refused() -> Result<()> {
        let (two, three) = (store(&[&[0.3], &[0.3]]), store(&[&[0.3], &[0.3], &[0.3]]));
        let mut adam = Optimizer::new(&spec("adam", 0.0), &two)?;
        step(&mut adam, &two, &[Some(&[0.5]), None]);
        let (tensors, numbers) = adam.state(&two.names())?;
        let tensors: HashMap<_, _> = tensors.into_iter().collect();

        let mut sgd = Optimizer::new(&spec("sgd", 0.0), &two)?;
        let error = sgd.restore(&two.names(), &tensors, &numbers).unwrap_err().to_string();
        assert!(error.contains("optimizer.momentum_buffer.a"), "{error}");
        let error = Optimizer::new(&spec("adam", 0.0), &three)?.restore(&two.names(), &tensors, &numbers).unwrap_err();
        assert!(error.to_string().contains("2 parameters, the model 3"), "{error}");
        assert!(adam.restore(&two.names(), &tensors, &json!({"lr": 0.1})).is_err());
        Ok(())
    }
}
