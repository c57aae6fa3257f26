//! The requirements on every optimizer.

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::{broken, check_keys, read};
use crate::error::Result;
use crate::nn::{Gradients, NewParameter, ParamStore, Part};
use crate::plugins::Plugin;
use crate::train::optimizer::{Optimizer, OptimizerRule, Step, UpdateRule};

/// Checks that an optimizer meets the requirements of the rest of the crate.
///
/// `keys` are those under `train.optimizer` in a spec, without `kind`. What is checked:
///
/// - the keys: defaults are filled in and stable, unknown ones are refused, each has a description; there is one called
///   `lr`;
/// - steps in place and by tensor operations give the same bits;
/// - an optimizer whose state was saved and restored continues with the same bits; a parameter without steps has no state;
/// - a parameter without a gradient stays as it is, and its first step is step 1 whenever it happens;
/// - steps are at the current learning rate: none changes anything at 0;
/// - parameters descend a parabola.
///
/// # Errors
/// [`crate::Error::Training`] with the first violation.
pub fn check_optimizer<O: Plugin + UpdateRule>(keys: Value) -> Result<()> {
    let keys = check_keys::<O>(keys)?;
    let check = Check { new: || read::<O>(keys.clone()) };
    if keys["lr"].as_f64() != Some((check.new)()?.lr()) {
        return Err(broken(O::KIND, "its learning rate is not the key `lr`"));
    }
    let passed = [
        (check.both_ways_agree()?, "steps in place and by tensor operations differ"),
        (check.state_is_restored()?, "saving and restoring its state changes the next steps"),
        (check.parameters_are_independent()?, "a step of one parameter affects another"),
        (check.rate_is_current()?, "parameters change at the rate 0: use the rate that is passed to `step`"),
        (check.descends()?, "it does not descend a parabola"),
    ];
    match passed.iter().find(|(passed, _)| !passed) {
        Some((_, what)) => Err(broken(O::KIND, what)),
        None => Ok(()),
    }
}

struct Check<N> {
    new: N,
}

impl<O: Plugin + UpdateRule, N: Fn() -> Result<O>> Check<N> {
    fn optimizer(&self, params: &ParamStore) -> Result<Optimizer> {
        Optimizer::new(Box::new((self.new)()?), params)
    }

    fn both_ways_agree(&self) -> Result<bool> {
        let rule = (self.new)()?;
        let tensor = |values: &Vec<f32>| Tensor::new(values.as_slice(), &Device::Cpu);
        let mut p = wave(0.3);
        let mut slots = vec![vec![0.0; p.len()]; rule.slot_names().len()];
        for t in 1..5 {
            let (step, gradient) = (Step { lr: rule.lr(), t, coefficient: 0.9 }, wave(t as f32));
            let before = slots.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
            let (stepped, kept) = rule.step_by_tensors(step, &tensor(&p)?, &tensor(&gradient)?, &before)?;
            rule.step_in_place(step, &mut p, &gradient, slots.iter_mut().map(Vec::as_mut_slice).collect());
            for (values, tensor) in slots.iter().zip(&kept).chain([(&p, &stepped)]) {
                if !values.iter().map(|value| value.to_bits()).eq(bits(tensor)?) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn state_is_restored(&self) -> Result<bool> {
        let params = store(&[wave(0.3), wave(0.7)])?;
        let mut whole = self.optimizer(&params)?;
        for _ in 0..3 {
            step(&mut whole, &params, &[Some(wave(0.2)), None])?;
        }
        // A number whose shortest decimal form has 17 digits.
        whole.set_lr(0.1 + 0.2);
        let (tensors, numbers) = whole.state(&params.names())?;
        let only_stepped = tensors.iter().all(|(name, _)| name.ends_with(".p0"));
        let numbers = numbers.to_string().parse().map_err(|error| broken(O::KIND, error))?;
        let copy = store(&[values(&params, 0)?, values(&params, 1)?])?;
        let mut resumed = self.optimizer(&copy)?;
        resumed.restore(&params.names(), &tensors.into_iter().collect(), &numbers)?;
        for _ in 0..3 {
            step(&mut whole, &params, &[Some(wave(0.4)), Some(wave(0.5))])?;
            step(&mut resumed, &copy, &[Some(wave(0.4)), Some(wave(0.5))])?;
        }
        Ok(only_stepped && resumed.lr() == 0.1 + 0.2 && bits(params.flat())? == bits(copy.flat())?)
    }

    fn parameters_are_independent(&self) -> Result<bool> {
        let params = store(&[wave(0.3), wave(0.3)])?;
        let mut optimizer = self.optimizer(&params)?;
        step(&mut optimizer, &params, &[Some(wave(0.2)), None])?;
        let first = values(&params, 0)?;
        let unchanged = values(&params, 1)? == wave(0.3);
        step(&mut optimizer, &params, &[None, Some(wave(0.2))])?;
        Ok(unchanged && values(&params, 0)? == first && values(&params, 1)? == first)
    }

    fn rate_is_current(&self) -> Result<bool> {
        let params = store(&[wave(0.3)])?;
        let mut optimizer = self.optimizer(&params)?;
        optimizer.set_lr(0.0);
        step(&mut optimizer, &params, &[Some(wave(0.2))])?;
        Ok(values(&params, 0)? == wave(0.3))
    }

    fn descends(&self) -> Result<bool> {
        let params = store(&[vec![1.0, -2.0]])?;
        let mut optimizer = self.optimizer(&params)?;
        for _ in 0..50 {
            step(&mut optimizer, &params, &[Some(values(&params, 0)?)])?;
        }
        let p = values(&params, 0)?;
        Ok(p[0].abs() < 1.0 && p[1].abs() < 2.0)
    }
}

/// More values than a SIMD register holds.
fn wave(frequency: f32) -> Vec<f32> {
    (0..37).map(|at| (at as f32 * frequency).sin()).collect()
}

fn store(parameters: &[Vec<f32>]) -> Result<ParamStore> {
    let parameter = |(index, values): (usize, &Vec<f32>)| -> Result<NewParameter> {
        let (name, role) = (format!("p{index}"), format!("p{index}"));
        Ok(NewParameter { name, role, part: Part::Network, value: Tensor::new(values.as_slice(), &Device::Cpu)? })
    };
    ParamStore::new(parameters.iter().enumerate().map(parameter).collect::<Result<_>>()?, &Device::Cpu)
}

fn step(optimizer: &mut Optimizer, params: &ParamStore, gradients: &[Option<Vec<f32>>]) -> Result<()> {
    let mut all = Gradients::none(params)?;
    for (index, gradient) in gradients.iter().enumerate() {
        if let Some(gradient) = gradient {
            all.add(index, &Tensor::new(gradient.as_slice(), &Device::Cpu)?)?;
        }
    }
    optimizer.step(params, &all, &vec![Some(0.9); params.len()])
}

fn values(params: &ParamStore, index: usize) -> Result<Vec<f32>> {
    Ok(params.get(index).value().to_vec1()?)
}

fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    Ok(tensor.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::Catalogue;
    use crate::train::optimizer::{Adadelta, Adagrad, Adam, AdamW, Adamax, RmsProp, Sgd, built_in};
    use serde_json::json;

    #[test]
    fn every_built_in_optimizer_conforms() {
        fn check<O: Plugin + UpdateRule>() -> &'static str {
            for decay in [0.0, 0.01] {
                check_optimizer::<O>(json!({"lr": 0.05, "weight_decay": decay})).unwrap();
            }
            O::KIND
        }
        let checked = [
            check::<Adam>(),
            check::<AdamW>(),
            check::<Adamax>(),
            check::<RmsProp>(),
            check::<Sgd>(),
            check::<Adagrad>(),
            check::<Adadelta>(),
        ];
        assert_eq!(built_in().kinds(), checked, "every registered optimizer has a line above");
    }

    fn built(kind: &str, decay: f64, params: &ParamStore) -> Result<Optimizer> {
        let keys = json!({"lr": 0.05, "weight_decay": decay});
        Optimizer::new(built_in().open(kind, keys.as_object().unwrap())?, params)
    }

    #[test]
    fn adamw_decays_beside_the_gradient() -> Result<()> {
        let after = |kind: &str, decay: f64, p: f32, g: f32| -> Result<f32> {
            let params = store(&[vec![p]])?;
            step(&mut built(kind, decay, &params)?, &params, &[Some(vec![g])])?;
            Ok(values(&params, 0)?[0])
        };
        let decayed = after("adamw", 0.1, 2.0, 0.0)?;
        assert!((decayed - 2.0 * (1.0 - 0.05 * 0.1)).abs() < 1e-6, "{decayed}");
        assert_eq!(after("adam", 0.0, 2.0, 0.4)?, after("adamw", 0.0, 2.0, 0.4)?);
        Ok(())
    }

    #[test]
    fn a_state_of_something_else_is_refused() -> Result<()> {
        let (two, three) = (store(&[vec![0.3], vec![0.3]])?, store(&[vec![0.3], vec![0.3], vec![0.3]])?);
        let mut adam = built("adam", 0.0, &two)?;
        step(&mut adam, &two, &[Some(vec![0.5]), None])?;
        let (tensors, numbers) = adam.state(&two.names())?;
        let tensors = tensors.into_iter().collect();
        let refused = |mut optimizer: Optimizer, numbers: &Value| {
            optimizer.restore(&two.names(), &tensors, numbers).unwrap_err().to_string()
        };
        assert!(refused(built("sgd", 0.0, &two)?, &numbers).contains("optimizer.momentum_buffer.p0"));
        assert!(refused(built("adam", 0.0, &three)?, &numbers).contains("2 parameters, the model 3"));
        assert!(refused(adam, &json!({"lr": 0.1})).contains("steps"));
        Ok(())
    }
}
