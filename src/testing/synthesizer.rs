//! Synthesizers: predictions row by row, gradients against finite differences, fast paths against the definition.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use pulp::Arch;
use serde_json::Value;

use super::{broken, check_keys, read};
use crate::dni::{Cpu, ParameterShape, Prediction, Site, StoredSynthesizer, Synthesizer};
use crate::error::{Error, Result};
use crate::nn::kernel::{Pool, Threads};
use crate::nn::{Gradients, NewParameter, ParamStore, Part, init};
use crate::plugins::Plugin;
use crate::rng::Stream;
use crate::train::rows::{alternate, of_seed};

const STATE: usize = 6;
const CONTEXT: usize = 3;
const ROWS: usize = 9;
/// Rows of the cotangent.
const FIRST: usize = 5;

/// Checks that a synthesizer meets the engine's requirements, with a context and without one.
///
/// `keys` are those of the synthesizer under `dni` in a spec; a state has 6 numbers. What is checked:
///
/// - the keys, as those of a task;
/// - its parameters have distinct names, nonzero sizes and finite bounds, whether it learns or not;
/// - predictions have the shape of the states, are finite, and each row depends on that row alone;
/// - the activity of each hidden layer has one row per state;
/// - gradients of all parameters agree with finite differences;
/// - the fast path, if there is one, agrees with the definition in predictions and gradients, and accumulates gradients.
///
/// # Errors
/// [`Error::Training`] with the first violation, or an error of the synthesizer itself.
pub fn check_synthesizer<S: Plugin + Synthesizer>(keys: Value) -> Result<()> {
    let synthesizer: Arc<dyn Synthesizer> = Arc::new(read::<S>(check_keys::<S>(keys)?)?);
    for context in [None, Some(CONTEXT)] {
        for learns in [true, false] {
            Check::new(S::KIND, &synthesizer, Site::of_state(STATE, context, learns))?.run()?;
        }
    }
    Ok(())
}

struct Check<'a> {
    kind: &'static str,
    synthesizer: &'a Arc<dyn Synthesizer>,
    site: Site,
    shapes: Vec<ParameterShape>,
    params: ParamStore,
    indices: Vec<usize>,
    kept: Option<Tensor>,
    states: Tensor,
    context: Option<Tensor>,
    /// At the first rows of the output.
    cotangent: Tensor,
}

impl<'a> Check<'a> {
    fn new(kind: &'static str, synthesizer: &'a Arc<dyn Synthesizer>, site: Site) -> Result<Self> {
        let shapes = synthesizer.parameters(site);
        let fresh = |shape: &ParameterShape| {
            let value = random(&shape.dims, &shape.name)?;
            let (name, role) = (shape.name.clone(), shape.name.clone());
            Ok(NewParameter { name, role, part: Part::Synthesizer(0), value })
        };
        let params = ParamStore::new(shapes.iter().map(fresh).collect::<Result<_>>()?, &Device::Cpu)?;
        let mask = |fibres: usize| {
            let [units, inputs] = shapes.first().map_or(&[][..], |first| &first.dims) else {
                return Err(broken(kind, "keeps fibres of a first parameter that is no matrix"));
            };
            let kept = init::fibres(&mut Stream::new(1, "fibres", 0, 0), *units, *inputs, fibres);
            Ok(Tensor::from_vec(kept, (*units, *inputs), &Device::Cpu)?)
        };
        let kept = synthesizer.fibres().map(mask).transpose()?;
        if let Some(kept) = &kept {
            params.set(0, &(params.get(0).value() * kept)?)?;
        }
        Ok(Check {
            kind,
            synthesizer,
            site,
            indices: (0..shapes.len()).collect(),
            shapes,
            params,
            kept,
            states: random(&[ROWS, STATE], "states")?,
            context: site.context.map(|width| random(&[ROWS, width], "context")).transpose()?,
            cotangent: random(&[FIRST, STATE], "cotangent")?,
        })
    }

    fn run(&self) -> Result<()> {
        self.shapes()?;
        self.rows()?;
        self.seeds()?;
        let gradients = self.parameter_gradients(self.stored().predict(&self.states, self.context.as_ref())?)?;
        self.differences(&gradients)?;
        self.fast_path(&gradients)
    }

    fn stored(&self) -> StoredSynthesizer<'_> {
        let Check { synthesizer, site, params, indices, kept, .. } = self;
        StoredSynthesizer { synthesizer, site: *site, params, indices, kept: kept.as_ref() }
    }

    fn shapes(&self) -> Result<()> {
        for (index, shape) in self.shapes.iter().enumerate() {
            let name = &shape.name;
            if name.is_empty() || self.shapes[..index].iter().any(|other| other.name == *name) {
                return Err(broken(self.kind, format!("has two parameters `{name}`, or one without a name")));
            }
            if shape.dims.contains(&0) || !(shape.bound >= 0.0 && shape.bound.is_finite()) {
                return Err(broken(self.kind, format!("`{name}` is empty, or has no finite bound")));
            }
        }
        Ok(())
    }

    /// Predictions at all rows and at some of them, and the activity.
    fn rows(&self) -> Result<()> {
        let (parameters, context) = (self.stored().parameters(), self.context.as_ref());
        let all = self.synthesizer.forward(&parameters, &self.states, context)?;
        if all.dims() != [ROWS, STATE] {
            return Err(broken(self.kind, format!("predicts {:?} at states {:?}", all.dims(), self.states.dims())));
        }
        for layer in self.synthesizer.activity(&parameters, &self.states, context)? {
            if layer.rank() != 2 || layer.dim(0)? != ROWS {
                return Err(broken(self.kind, format!("its activity has shape {:?} at {ROWS} states", layer.dims())));
            }
        }
        let context = context.map(|context| context.narrow(0, 2, FIRST)).transpose()?;
        let some = self.synthesizer.forward(&parameters, &self.states.narrow(0, 2, FIRST)?, context.as_ref())?;
        self.close("a prediction depends on other rows", &some, &all.narrow(0, 2, FIRST)?)
    }

    /// Predictions of several seeds at once, if they are computed at all, are those of each.
    fn seeds(&self) -> Result<()> {
        let (parameters, context) = (self.stored().parameters(), self.context.as_ref());
        let moved = parameters.iter().map(|value| Ok((value * 0.5)?)).collect::<Result<Vec<Tensor>>>()?;
        let both =
            parameters.iter().zip(&moved).map(|(a, b)| Ok(Tensor::stack(&[a, b], 0)?)).collect::<Result<Vec<_>>>()?;
        let twice = |x: &Tensor| alternate(&[x, x], 0);
        let (states, contexts) = (twice(&self.states)?, context.map(twice).transpose()?);
        let Ok(together) = self.synthesizer.forward(&both, &states, contexts.as_ref()) else { return Ok(()) };
        for (seed, parameters) in [parameters, moved].iter().enumerate() {
            let alone = self.synthesizer.forward(parameters, &self.states, context)?;
            self.close("predictions of several seeds are not those of each", &of_seed(&together, 2, seed)?, &alone)?;
        }
        Ok(())
    }

    /// The gradients of all parameters.
    fn parameter_gradients(&self, prediction: Prediction<'_>) -> Result<Vec<Tensor>> {
        let mut gradients = Gradients::none(&self.params)?;
        (prediction.pullback)(&self.cotangent, &mut gradients)?;
        self.all(&gradients)
    }

    fn all(&self, gradients: &Gradients) -> Result<Vec<Tensor>> {
        let missing = |index: usize| broken(self.kind, format!("`{}` has no gradient", self.shapes[index].name));
        let copy = |index| gradients.get(index)?.ok_or_else(|| missing(index))?.copy().map_err(Error::from);
        (0..self.shapes.len()).map(copy).collect()
    }

    /// Central differences along each gradient.
    fn differences(&self, gradients: &[Tensor]) -> Result<()> {
        let value = || -> Result<f64> {
            let (parameters, context) = (self.stored().parameters(), self.context.as_ref());
            let values = self.synthesizer.forward(&parameters, &self.states, context)?.narrow(0, 0, FIRST)?;
            Ok((values.to_dtype(DType::F64)? * self.cotangent.to_dtype(DType::F64)?)?.sum_all()?.to_scalar()?)
        };
        for (index, gradient) in gradients.iter().enumerate() {
            let norm = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
            if norm < 1e-6 {
                continue;
            }
            let before = self.params.get(index).value().copy()?;
            let mut ends = [0.0; 2];
            for (end, sign) in ends.iter_mut().zip([1.0, -1.0]) {
                self.params.set(index, &(&before + (gradient * (sign * 1e-3 / norm))?)?)?;
                *end = value()?;
            }
            self.params.set(index, &before)?;
            let slope = (ends[0] - ends[1]) / 2e-3;
            if (slope / norm - 1.0).abs() > 0.03 {
                let name = &self.shapes[index].name;
                return Err(broken(self.kind, format!("the gradient of `{name}` is {norm}, and the slope {slope}")));
            }
        }
        Ok(())
    }

    fn fast_path(&self, expected: &[Tensor]) -> Result<()> {
        let (buffers, context) = (Pool::default(), self.context.as_ref());
        let cpu = Cpu { arch: Arch::new(), threads: Threads(1), buffers: &buffers };
        let fused = || self.synthesizer.fused(self.stored(), cpu, &self.states, context).transpose();
        let (Some(first), Some(second)) = (fused()?, fused()?) else { return Ok(()) };
        let defined = self.stored().predict(&self.states, context)?.values;
        self.close("its fast path predicts something else", &first.values, &defined)?;
        let mut gradients = Gradients::none(&self.params)?;
        (first.pullback)(&self.cotangent, &mut gradients)?;
        (second.pullback)(&self.cotangent, &mut gradients)?;
        for (twice, once) in self.all(&gradients)?.iter().zip(expected) {
            self.close("its fast path has other gradients", twice, &(once * 2.0)?)?;
        }
        Ok(())
    }

    fn close(&self, what: &str, found: &Tensor, expected: &Tensor) -> Result<()> {
        let largest = |x: &Tensor| Ok::<f32, Error>(x.abs()?.max_all()?.to_scalar::<f32>()?);
        let (off, scale) = (largest(&(found - expected)?)?, largest(expected)?);
        // NaN is not close.
        match off <= 1e-5 * (1.0 + scale) {
            true => Ok(()),
            false => Err(broken(self.kind, format!("{what}: by up to {off}, of {scale}"))),
        }
    }
}

fn random(dims: &[usize], purpose: &str) -> Result<Tensor> {
    let values = init::uniform(&mut Stream::new(1, purpose, 0, 0), dims.iter().product(), 1.0);
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::dni::Mlp;

    /// A perceptron with two faults: its activity lacks a row, and it may lack a description.
    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(transparent)]
    struct Faulty<const DESCRIBED: bool>(Mlp);

    impl<const DESCRIBED: bool> Plugin for Faulty<DESCRIBED> {
        const KIND: &'static str = "faulty";
        const ABOUT: &'static str = if DESCRIBED { "a faulty perceptron" } else { "" };
    }

    impl<const DESCRIBED: bool> Synthesizer for Faulty<DESCRIBED> {
        fn parameters(&self, site: Site) -> Vec<ParameterShape> {
            self.0.parameters(site)
        }

        fn forward(&self, parameters: &[Tensor], states: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
            self.0.forward(parameters, states, context)
        }

        fn activity(&self, parameters: &[Tensor], states: &Tensor, context: Option<&Tensor>) -> Result<Vec<Tensor>> {
            let all = self.0.activity(parameters, states, context)?;
            all.iter().map(|layer| Ok(layer.narrow(0, 0, ROWS - 1)?)).collect()
        }
    }

    #[test]
    fn faults_are_found() {
        let faults = [check_synthesizer::<Faulty<true>>, check_synthesizer::<Faulty<false>>]
            .map(|check| check(json!({ "hidden": [7] })).unwrap_err().to_string());
        assert!(faults[0].contains("activity") && faults[1].contains("no description"), "{faults:?}");
    }

    #[test]
    fn the_perceptron_passes() -> Result<()> {
        for keys in [json!({}), json!({ "hidden": [7] }), json!({ "hidden": [7, 4], "fibres": 2 })] {
            check_synthesizer::<Mlp>(keys)?;
        }
        Ok(())
    }

    #[test]
    fn keys_that_do_not_exist_are_refused() {
        let error = check_synthesizer::<Mlp>(json!({ "hiden": [7] })).unwrap_err().to_string();
        assert!(error.contains("`mlp`") && error.contains("hiden"), "{error}");
    }
}
