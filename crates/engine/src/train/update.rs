//! From gradients to new parameters: frozen synthesizers, clipping, optimizer.

use std::collections::HashMap;

use candle_core::Tensor;

use super::device::{GradientSquares, clip};
use super::engine::Role;
use super::optimizer::{Optimizer, OptimizerRule};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::{Gradients, ParamStore, Part};
use crate::plugins::Kinds;
use crate::spec::{ClipSpec, DniSpec, FrozenInNorm, TrainSpec};

/// A synthesizer's role in an epoch.
pub fn role(dni: &DniSpec, epoch: usize) -> Role {
    if dni.lesion_at.is_some_and(|lesion| epoch >= lesion) {
        return Role::Lesioned;
    }
    if dni.learn && dni.freeze_at.is_none_or(|freeze| epoch < freeze) {
        return Role::Learning;
    }
    match dni.frozen_in_norm.unwrap_or_default() {
        FrozenInNorm::Exclude => Role::Fixed,
        FrozenInNorm::Accumulate => Role::Accumulating,
    }
}

/// Applies gradients to a model's parameters.
pub struct Updater {
    optimizer: Optimizer,
    clip: Option<ClipSpec>,
    /// Gradients of frozen synthesizers, accumulated as in the original code: clipped with the rest, never cleared.
    held: Option<Gradients>,
}

impl Updater {
    /// An updater with a fresh optimizer state.
    ///
    /// # Errors
    /// Fails if the optimizer is not registered, or if its state cannot be allocated.
    pub fn new(spec: &TrainSpec, rules: &Kinds<dyn OptimizerRule>, params: &ParamStore) -> Result<Self> {
        let rule = rules.open(&spec.optimizer.kind, &spec.optimizer.keys)?;
        Ok(Updater { optimizer: Optimizer::new(rule, params)?, clip: spec.clip.clone(), held: None })
    }

    /// An updater for the networks of several seeds as one, in the states of `seeds`.
    ///
    /// # Errors
    /// Fails if the seeds have made different numbers of steps.
    pub fn of_seeds(seeds: &[&Updater], params: &ParamStore) -> Result<Self> {
        let differ = || Error::Training("the optimizers of the seeds have made different numbers of steps".into());
        let [first, ..] = seeds else { return Err(differ()) };
        let mut updater =
            Updater { optimizer: first.optimizer.of_store(params)?, clip: first.clip.clone(), held: None };
        let names = params.names();
        let states = seeds.iter().map(|seed| seed.state(&names)).collect::<Result<Vec<_>>>()?;
        let (tensors, value) = &states[0];
        let joined = tensors.iter().enumerate().map(|(index, (name, _))| {
            let of_seed = |(tensors, other): &(Vec<(String, Tensor)>, _)| {
                let tensor = tensors.get(index).filter(|(found, _)| found == name && other == value);
                tensor.map(|(_, tensor)| tensor.clone()).ok_or_else(differ)
            };
            let parts = states.iter().map(of_seed).collect::<Result<Vec<_>>>()?;
            Ok((name.clone(), Tensor::stack(&parts, 0)?))
        });
        updater.restore(params, &joined.collect::<Result<_>>()?, value)?;
        Ok(updater)
    }

    /// The state of one of several seeds, as [`Updater::restore`] takes it.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn of_seed(
        (tensors, value): &(Vec<(String, Tensor)>, serde_json::Value),
        seed: usize,
    ) -> Result<(HashMap<String, Tensor>, serde_json::Value)> {
        let part = |(name, tensor): &(String, Tensor)| Ok((name.clone(), tensor.get(seed)?.force_contiguous()?));
        Ok((tensors.iter().map(part).collect::<Result<_>>()?, value.clone()))
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.optimizer.lr()
    }

    /// Changes the learning rate.
    pub fn set_lr(&mut self, lr: f64) {
        self.optimizer.set_lr(lr);
    }

    /// Makes one step and returns the gradients' sums of squares before clipping; `None` if there is no gradient, and so no
    /// step.
    ///
    /// Parameters without a gradient are skipped: their moments and step counts stay. On the CPU, non-finite gradients
    /// change nothing; on a device they have not been read yet. The caller handles both.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn apply(
        &mut self,
        model: &Model,
        roles: &[Role],
        gradients: &mut Gradients,
    ) -> Result<Option<GradientSquares>> {
        let role = |part| match part {
            Part::Network | Part::Encoder | Part::Fixed => Role::Learning,
            Part::Synthesizer(index) => roles[index],
        };
        let roles: Vec<Role> = model.params.iter().map(|parameter| role(parameter.part)).collect();
        self.add_held(&roles, gradients)?;
        for (index, parameter) in model.params.iter().enumerate() {
            if parameter.part == Part::Fixed {
                gradients.remove(index);
            }
        }
        if !gradients.present().contains(&true) {
            return Ok(None);
        }
        let clipped = clip(self.clip.as_ref(), model, gradients)?;
        if !clipped.is_known_not_to_be_finite() {
            let factors: Vec<f64> = model.params.iter().map(|parameter| clipped.factor(parameter.part)).collect();
            let learning =
                roles.iter().zip(&factors).map(|(role, &factor)| (*role == Role::Learning).then_some(factor));
            self.optimizer.step(&model.params, gradients, &learning.collect::<Vec<_>>())?;
            self.hold(model, &roles, &factors, gradients)?;
        }
        Ok(Some(clipped.squares))
    }

    /// Adds the held gradients of parameters that still accumulate, and drops the others. `roles` is per parameter.
    fn add_held(&mut self, roles: &[Role], gradients: &mut Gradients) -> Result<()> {
        let Some(held) = &mut self.held else { return Ok(()) };
        for (index, role) in roles.iter().enumerate() {
            if *role == Role::Accumulating {
                gradients.add_from(held, index)?;
            }
            held.remove(index);
        }
        Ok(())
    }

    fn hold(&mut self, model: &Model, roles: &[Role], factors: &[f64], gradients: &Gradients) -> Result<()> {
        for (index, (role, factor)) in roles.iter().zip(factors).enumerate() {
            if *role == Role::Accumulating
                && let Some(gradient) = gradients.get(index)?
            {
                held(&mut self.held, &model.params)?.add(index, &(gradient * *factor)?)?;
            }
        }
        Ok(())
    }

    /// The state for a checkpoint: tensors by name, and the rest as JSON.
    pub fn state(&self, names: &[String]) -> Result<(Vec<(String, Tensor)>, serde_json::Value)> {
        let (mut tensors, value) = self.optimizer.state(names)?;
        for (index, name) in names.iter().enumerate() {
            if let Some(held) = self.held.as_ref().map(|held| held.get(index)).transpose()?.flatten() {
                tensors.push((format!("held.{name}"), held.force_contiguous()?));
            }
        }
        Ok((tensors, value))
    }

    /// Restores [`Updater::state`].
    ///
    /// # Errors
    /// Fails if it is the state of another model or optimizer.
    pub fn restore(
        &mut self,
        params: &ParamStore,
        tensors: &HashMap<String, Tensor>,
        value: &serde_json::Value,
    ) -> Result<()> {
        self.optimizer.restore(&params.names(), tensors, value)?;
        self.held = None;
        for (index, parameter) in params.iter().enumerate() {
            if let Some(value) = tensors.get(&format!("held.{}", parameter.name)) {
                held(&mut self.held, params)?.add(index, &value.to_device(params.flat().device())?)?;
            }
        }
        Ok(())
    }
}

fn held<'a>(held: &'a mut Option<Gradients>, params: &ParamStore) -> Result<&'a mut Gradients> {
    match held {
        Some(held) => Ok(held),
        none => Ok(none.insert(Gradients::none(params)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::pretending;
    use crate::train::optimizer::built_in;

    fn dni(text: &str) -> DniSpec {
        serde_json::from_str(text).expect("a valid dni table")
    }

    #[test]
    fn lesions_and_freezing_begin_with_their_epoch() {
        let lesion = dni(r#"{"lesion_at": 3}"#);
        assert_eq!([2, 3, 4].map(|epoch| role(&lesion, epoch)), [Role::Learning, Role::Lesioned, Role::Lesioned]);
        let freeze = dni(r#"{"freeze_at": 2, "lesion_at": 3}"#);
        assert_eq!([1, 2, 3].map(|epoch| role(&freeze, epoch)), [Role::Learning, Role::Fixed, Role::Lesioned]);
        let fixed = dni(r#"{"learn": false, "frozen_in_norm": "accumulate"}"#);
        assert_eq!(role(&fixed, 1), Role::Accumulating);
    }

    #[test]
    fn one_norm_over_all_or_one_for_each_part() -> Result<()> {
        use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
        let spec = serde_json::from_str(r#"{"layers": [{"cell": "tanh", "hidden": 3, "dni": {"hidden": [4]}}]}"#);
        let shape = TaskShape {
            input: Input::Dense { features: 2 },
            target: Target { kind: TargetKind::Values { size: 1 }, when: When::EveryStep },
            steps: None,
            validates: true,
        };
        let moved = |scope: &str, clip: f64, deferred: bool| -> Result<[f64; 2]> {
            let model = Model::new(
                &crate::model::Plugins::built_in(),
                spec.as_ref().expect("a model"),
                &shape,
                1,
                &candle_core::Device::Cpu,
            )?;
            let train = format!(
                r#"{{"epochs": 1, "batch_size": 1, "clip": {{"norm": {clip}, "scope": "{scope}"}},
                     "optimizer": {{"kind": "sgd", "lr": 1, "momentum": 0}}}}"#
            );
            let mut updater = Updater::new(&serde_json::from_str(&train).expect("a spec"), &built_in(), &model.params)?;
            let mut gradients = Gradients::none(&model.params)?;
            for (index, parameter) in model.params.iter().enumerate() {
                let size = if parameter.part == Part::Network { 1.0 } else { 10.0 };
                gradients.add(index, &(parameter.value().ones_like()? * size)?)?;
            }
            let before = model.params.snapshot()?;
            let mut apply = || updater.apply(&model, &[Role::Learning], &mut gradients);
            if deferred {
                pretending(apply)?
            } else {
                apply()?
            };
            let mut squares = [0.0; 2];
            for (parameter, (_, before)) in model.params.iter().zip(&before) {
                let step = (parameter.value() - before)?.sqr()?.sum_all()?.to_scalar::<f32>()?;
                squares[usize::from(parameter.part != Part::Network)] += f64::from(step);
            }
            Ok(squares.map(f64::sqrt))
        };
        // With sums that are read at once, and with sums that stay on the device.
        for deferred in [false, true] {
            let [network, synthesizer] = moved("separate", 0.5, deferred)?;
            assert!((network - 0.5).abs() < 1e-5 && (synthesizer - 0.5).abs() < 1e-5, "{network} {synthesizer}");
            let [network, synthesizer] = moved("all", 0.5, deferred)?;
            assert!((network.hypot(synthesizer) - 0.5).abs() < 1e-5 && network < 0.1, "{network} {synthesizer}");
            // Gradients below the threshold are not clipped: 25 ones, and the synthesizer's tens.
            for scope in ["separate", "all"] {
                let [network, synthesizer] = moved(scope, 1e3, deferred)?;
                assert!((network - 25f64.sqrt()).abs() < 1e-4 && synthesizer > 10.0, "{network} {synthesizer}");
            }
        }
        Ok(())
    }
}
