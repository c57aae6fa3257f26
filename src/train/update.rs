//! From gradients to new parameters: frozen synthesizers, clipping, optimizer.

use std::collections::HashMap;

use candle_core::Tensor;

use super::engine::Role;
use super::optimizer::Optimizer;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::kernel::passes::sum_of_squares;
use crate::nn::{Gradients, Numbers, ParamStore, Part, apart, constant, slices};
use crate::spec::{ClipScope, ClipSpec, DniSpec, FrozenInNorm, TrainSpec};

/// What a synthesizer does in an epoch.
pub fn role(dni: &DniSpec, epoch: usize) -> Role {
    if dni.lesion_at.is_some_and(|lesion| epoch >= lesion) {
        return Role::Lesioned;
    }
    if dni.learn && dni.freeze_at.is_none_or(|freeze| epoch < freeze) {
        return Role::Learning;
    }
    match dni.frozen_in_norm {
        FrozenInNorm::Exclude => Role::Fixed,
        FrozenInNorm::Accumulate => Role::Accumulating,
    }
}

/// Applies gradients to a model's parameters.
pub struct Updater {
    optimizer: Optimizer,
    clip: Option<ClipSpec>,
    /// Gradients of synthesizers that do not learn, piled up as in the original: clipped with the rest, never cleared.
    held: Option<Gradients>,
    coefficients: Vec<Option<f64>>,
}

impl Updater {
    /// An updater at its start.
    ///
    /// # Errors
    /// Fails if the device has no room for the optimizer's state.
    pub fn new(spec: &TrainSpec, params: &ParamStore) -> Result<Self> {
        Ok(Updater {
            optimizer: Optimizer::new(&spec.optimizer, params)?,
            clip: spec.clip.clone(),
            held: None,
            coefficients: Vec::new(),
        })
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.optimizer.lr()
    }

    /// Changes the learning rate.
    pub fn set_lr(&mut self, lr: f64) {
        self.optimizer.set_lr(lr);
    }

    /// Makes one step, and gives the squares of the gradients before clipping; `None` where there is no gradient at all,
    /// and so no step.
    ///
    /// Parameters without a gradient are skipped: neither their moments nor their step count move. On the CPU, gradients that
    /// are not finite change nothing; elsewhere nobody has looked at them yet. The caller decides what it means.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn apply(&mut self, model: &Model, roles: &[Role], gradients: &mut Gradients) -> Result<Option<Squares>> {
        let role = |part| match part {
            Part::Network | Part::Encoder | Part::Fixed => Role::Learning,
            Part::Synthesizer(index) => roles[index],
        };
        if let Some(held) = &mut self.held {
            for (index, parameter) in model.params.iter().enumerate() {
                if role(parameter.part) == Role::Accumulating {
                    gradients.add_from(held, index)?;
                }
                held.remove(index);
            }
        }
        if !gradients.present().contains(&true) {
            return Ok(None);
        }
        let squares = Squares::of(model, gradients)?;
        let norms = match &squares.numbers {
            Numbers::Read(numbers) => {
                let norms = Norms::of(&squares.parameters, numbers, &model.params);
                if norms.culprit.is_some() {
                    return Ok(Some(squares));
                }
                Some(norms)
            }
            Numbers::There(numbers) => {
                self.clip_there(model, gradients, &squares.parameters, numbers)?;
                None
            }
        };
        let clip = self.clip.clone();
        let coefficient = |part| norms.as_ref().map_or(1.0, |norms| norms.coefficient(clip.as_ref(), part));
        let mut coefficients = std::mem::take(&mut self.coefficients);
        coefficients.clear();
        coefficients.extend(
            (model.params.iter())
                .map(|parameter| (role(parameter.part) == Role::Learning).then(|| coefficient(parameter.part))),
        );
        self.optimizer.step(&model.params, gradients, &coefficients)?;
        for (index, parameter) in model.params.iter().enumerate() {
            if role(parameter.part) == Role::Accumulating
                && let Some(gradient) = gradients.get(index)?
            {
                let clipped = (gradient * coefficient(parameter.part))?;
                let held = match &mut self.held {
                    Some(held) => held,
                    none => none.insert(Gradients::none(&model.params)?),
                };
                held.add(index, &clipped)?;
            }
        }
        self.coefficients = coefficients;
        Ok(Some(squares))
    }

    /// Clips gradients where they are: `squares` (`[parameters]`) of these parameters, which nobody has read.
    fn clip_there(
        &self,
        model: &Model,
        gradients: &mut Gradients,
        parameters: &[usize],
        squares: &Tensor,
    ) -> Result<()> {
        let Some(clip) = &self.clip else { return Ok(()) };
        let one = constant(vec![1f32], &[1], squares.device())?;
        let synthesizer = |&&index: &&usize| matches!(model.params.get(index).part, Part::Synthesizer(_));
        let groups: Vec<Vec<usize>> = match clip.scope {
            ClipScope::All => vec![parameters.to_vec()],
            ClipScope::Separate => {
                let (theirs, rest): (Vec<usize>, Vec<usize>) = parameters.iter().partition(|index| synthesizer(index));
                vec![rest, theirs]
            }
        };
        for group in groups.iter().filter(|group| !group.is_empty()) {
            let places: Vec<u32> =
                (0u32..).zip(parameters).filter(|(_, p)| group.contains(p)).map(|(at, _)| at).collect();
            let squares = match places.len() == parameters.len() {
                true => squares.clone(),
                false => squares.index_select(&constant(places, &[group.len()], squares.device())?, 0)?,
            };
            let norm = squares.sum_keepdim(0)?.sqrt()?;
            let coefficient = norm.affine(1.0, 1e-6)?.recip()?.affine(clip.norm, 0.0)?.minimum(&one)?;
            gradients.scale(group, &coefficient)?;
        }
        Ok(())
    }

    /// Everything that a checkpoint needs: tensors by name, and the rest as JSON.
    pub fn state(&self, names: &[String]) -> Result<(Vec<(String, Tensor)>, serde_json::Value)> {
        let (mut tensors, value) = self.optimizer.state(names)?;
        for (index, name) in names.iter().enumerate() {
            if let Some(held) = self.held.as_ref().map(|held| held.get(index)).transpose()?.flatten() {
                tensors.push((format!("held.{name}"), held.force_contiguous()?));
            }
        }
        Ok((tensors, value))
    }

    /// Takes back what [`Updater::state`] gave.
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
                let held = match &mut self.held {
                    Some(held) => held,
                    none => none.insert(Gradients::none(params)?),
                };
                held.add(index, &value.to_device(params.flat().device())?)?;
            }
        }
        Ok(())
    }
}

/// The global 2-norm of gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// Before clipping.
    pub value: f64,
    /// The first parameter whose gradient is not finite.
    pub culprit: Option<String>,
}

/// The sums of squares of the gradients of a step. They may still lie on a device.
#[derive(Debug, Clone)]
pub struct Squares {
    /// The parameters that had a gradient.
    parameters: Vec<usize>,
    /// One for each of them.
    pub(super) numbers: Numbers,
}

impl Squares {
    fn of(model: &Model, gradients: &Gradients) -> Result<Squares> {
        let parameters: Vec<usize> = (0..model.params.len()).filter(|&index| gradients.present()[index]).collect();
        if !apart(model.device()) {
            let (arch, flat) = (pulp::Arch::new(), slices::read(gradients.flat())?);
            let squares = parameters.iter().map(|&index| sum_of_squares(arch, &flat[model.params.range(index)]));
            return Ok(Squares { numbers: Numbers::Read(squares.collect()), parameters });
        }
        let numbers = Numbers::of(squares_there(gradients, &parameters)?)?;
        Ok(Squares { numbers, parameters })
    }

    /// The norm over all gradients, which may have to be waited for.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn norm(&self, params: &ParamStore) -> Result<Norm> {
        let norms = Norms::of(&self.parameters, &self.numbers.read()?, params);
        Ok(Norm { value: norms.all(), culprit: norms.culprit })
    }
}

/// The sums of squares of these parameters' gradients by tensor operations, `[parameters]`.
fn squares_there(gradients: &Gradients, parameters: &[usize]) -> Result<Tensor> {
    let sum = |&index: &usize| match gradients.get(index)? {
        // A device gives each sum to one of its processors: those of a large matrix are first made for its rows.
        Some(gradient) if gradient.rank() > 1 => Ok(gradient.sqr()?.flatten_from(1)?.sum(1)?.sum_keepdim(0)?),
        Some(gradient) => Ok(gradient.flatten_all()?.sqr()?.sum_keepdim(0)?),
        None => Err(Error::Training("a gradient that is not there".into())),
    };
    Ok(Tensor::cat(&parameters.iter().map(sum).collect::<Result<Vec<_>>>()?, 0)?)
}

/// Sums of squares.
struct Norms {
    network: f64,
    synthesizers: f64,
    culprit: Option<String>,
}

impl Norms {
    fn of(parameters: &[usize], squares: &[f64], params: &ParamStore) -> Norms {
        let mut norms = Norms { network: 0.0, synthesizers: 0.0, culprit: None };
        for (&index, &squares) in parameters.iter().zip(squares) {
            let parameter = params.get(index);
            if !squares.is_finite() && norms.culprit.is_none() {
                norms.culprit = Some(parameter.name.clone());
            }
            match parameter.part {
                Part::Synthesizer(_) => norms.synthesizers += squares,
                _ => norms.network += squares,
            }
        }
        norms
    }

    fn all(&self) -> f64 {
        (self.network + self.synthesizers).sqrt()
    }

    /// `min(1, clip / (norm + 1e-6))`, as PyTorch clips.
    fn coefficient(&self, clip: Option<&ClipSpec>, part: Part) -> f64 {
        let Some(clip) = clip else { return 1.0 };
        let norm = match (clip.scope, part) {
            (ClipScope::All, _) => self.all(),
            (ClipScope::Separate, Part::Synthesizer(_)) => self.synthesizers.sqrt(),
            (ClipScope::Separate, _) => self.network.sqrt(),
        };
        (clip.norm / (norm + 1e-6)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        use crate::spec::interface::{Input, Interface, Target, TargetKind, When};
        let spec = serde_json::from_str(r#"{"layers": [{"cell": "tanh", "hidden": 3, "dni": {"hidden": [4]}}]}"#);
        let interface = Interface {
            input: Input::Dense { features: 2 },
            target: Target { kind: TargetKind::Values { size: 1 }, when: When::EveryStep },
            steps: None,
            validates: true,
        };
        let moved = |scope: &str, clip: f64, there: bool| -> Result<[f64; 2]> {
            let model = Model::new(spec.as_ref().expect("a model"), &interface, 1, &candle_core::Device::Cpu)?;
            let train = format!(
                r#"{{"epochs": 1, "batch_size": 1, "clip": {{"norm": {clip}, "scope": "{scope}"}},
                     "optimizer": {{"kind": "sgd", "lr": 1, "momentum": 0}}}}"#
            );
            let mut updater = Updater::new(&serde_json::from_str(&train).expect("a spec"), &model.params)?;
            let mut gradients = Gradients::none(&model.params)?;
            for (index, parameter) in model.params.iter().enumerate() {
                let size = if parameter.part == Part::Network { 1.0 } else { 10.0 };
                gradients.add(index, &(parameter.value().ones_like()? * size)?)?;
            }
            let before = model.params.snapshot()?;
            if there {
                let all: Vec<usize> = (0..model.params.len()).collect();
                let squares = squares_there(&gradients, &all)?;
                updater.clip_there(&model, &mut gradients, &all, &squares)?;
                updater.clip = None;
            }
            updater.apply(&model, &[Role::Learning], &mut gradients)?;
            let mut squares = [0.0; 2];
            for (parameter, (_, before)) in model.params.iter().zip(&before) {
                let step = (parameter.value() - before)?.sqr()?.sum_all()?.to_scalar::<f32>()?;
                squares[usize::from(parameter.part != Part::Network)] += f64::from(step);
            }
            Ok(squares.map(f64::sqrt))
        };
        // Both ways: by numbers that were read, and by numbers that stay where they are.
        for there in [false, true] {
            let [network, synthesizer] = moved("separate", 0.5, there)?;
            assert!((network - 0.5).abs() < 1e-5 && (synthesizer - 0.5).abs() < 1e-5, "{network} {synthesizer}");
            let [network, synthesizer] = moved("all", 0.5, there)?;
            assert!((network.hypot(synthesizer) - 0.5).abs() < 1e-5 && network < 0.1, "{network} {synthesizer}");
            // What is short enough stays as it is: 25 numbers of 1, and those of the synthesizer of 10.
            for scope in ["separate", "all"] {
                let [network, synthesizer] = moved(scope, 1e3, there)?;
                assert!((network - 25f64.sqrt()).abs() < 1e-4 && synthesizer > 10.0, "{network} {synthesizer}");
            }
        }
        Ok(())
    }
}
