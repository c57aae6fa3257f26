//! The backward interface, which replaces the gradient through a cut connection by a synthetic one.

use std::sync::Arc;

use candle_core::Tensor;

use super::Synthesizer;
use crate::error::{Error, Result};

/// A synthesizer at a cut in the graph.
#[derive(Debug, Clone)]
pub struct BackwardInterface {
    synthesizer: Arc<dyn Synthesizer>,
    parameters: Vec<Tensor>,
    scale: f64,
    kept: Option<Tensor>,
}

impl BackwardInterface {
    /// An interface that injects `scale` times the prediction of the synthesizer, with parameters in the order of
    /// [`Synthesizer::parameters`].
    pub fn new(synthesizer: Arc<dyn Synthesizer>, parameters: Vec<Tensor>, scale: f64) -> Self {
        BackwardInterface { synthesizer, parameters, scale, kept: None }
    }

    /// Sets the fibre mask of the first parameter: 1 for weights that exist, 0 for others; `None` keeps all.
    pub fn keep_fibres(self, kept: Option<Tensor>) -> Self {
        BackwardInterface { kept, ..self }
    }

    /// Predicted gradients `S(s, ctx)` at states `[rows, width]` with context `[rows, context]`. The states are detached: no
    /// gradient flows into them through the synthesizer.
    pub fn predict(&self, states: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.synthesizer.forward(&self.parameters, &states.detach(), context)
    }

    /// The gradient to inject at the states of a prediction, `scale · S(s)`; a constant.
    pub fn injection(&self, predicted: &Tensor) -> Result<Tensor> {
        Ok((predicted.detach() * self.scale)?)
    }

    /// Gradients of `factor / 2 · Σ (S(s) − target)²` with respect to the synthesizer's parameters, where `target` are the
    /// gradients at the states of `predicted`.
    ///
    /// # Errors
    /// As [`BackwardInterface::pull_back`].
    pub fn learn(&self, predicted: &Tensor, target: &Tensor, factor: f64) -> Result<Vec<Tensor>> {
        let cotangent = ((predicted.detach() - target.detach())? * factor)?;
        self.pull_back(predicted, &cotangent)
    }

    /// Gradients of the synthesizer's parameters, in the order of [`Synthesizer::parameters`], given the cotangent of its
    /// output `predicted`. The gradients of masked weights are exactly zero.
    ///
    /// # Errors
    /// Fails if the parameters are not variables.
    pub fn pull_back(&self, predicted: &Tensor, cotangent: &Tensor) -> Result<Vec<Tensor>> {
        let store = (predicted * cotangent.detach())?.backward()?;
        let mut gradients = Vec::new();
        for (index, parameter) in self.parameters.iter().enumerate() {
            let gradient = store.get(parameter).ok_or_else(|| {
                Error::Training(
                    "a synthesizer whose parameters are constants cannot learn: build it from variables".into(),
                )
            })?;
            let masked = match &self.kept {
                Some(kept) if index == 0 => (gradient * kept)?,
                _ => gradient.clone(),
            };
            gradients.push(masked);
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::dni::{Mlp, Site, initial_parameters};
    use crate::rng::Stream;

    /// Trainable parameters.
    fn variables(mlp: &Mlp, context: Option<usize>, learns: bool) -> Result<Vec<Var>> {
        let site = Site { state: 2, context, learns };
        let fresh = initial_parameters(mlp, site, &mut |role| Stream::new(3, role, 0, 0), &Device::Cpu)?;
        Ok(fresh.iter().map(Var::from_tensor).collect::<Result<_, _>>()?)
    }

    fn interface(mlp: Mlp, variables: &[Var], scale: f64) -> BackwardInterface {
        let parameters = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
        BackwardInterface::new(Arc::new(mlp), parameters, scale)
    }

    /// Gradient descent through the interface alone, on a linear map of the state.
    #[test]
    fn a_synthesizer_learns_its_targets() -> Result<()> {
        let variables = variables(&Mlp::default(), None, true)?;
        let interface = interface(Mlp::default(), &variables, 1.0);
        let states = Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], &Device::Cpu)?;
        let targets = Tensor::new(&[[2f32, 1.], [-1., 0.], [1., 1.]], &Device::Cpu)?;
        for _ in 0..400 {
            let predicted = interface.predict(&states, None)?;
            for (variable, gradient) in variables.iter().zip(interface.learn(&predicted, &targets, 2.0)?) {
                variable.set(&(variable.as_tensor() - (gradient * 0.1)?)?)?;
            }
        }
        let error = (interface.predict(&states, None)? - &targets)?.sqr()?.sum_all()?.to_scalar::<f32>()?;
        assert!(error < 1e-4, "{error}");
        Ok(())
    }

    #[test]
    fn the_injected_gradient_is_scaled_and_constant() -> Result<()> {
        let mlp = Mlp { hidden: vec![3], ..Mlp::default() };
        let variables = variables(&mlp, Some(2), false)?;
        let interface = interface(mlp, &variables, 0.1);
        let states = Var::new(&[[1f32, 2.]], &Device::Cpu)?;
        let context = Tensor::new(&[[0f32, 1.]], &Device::Cpu)?;
        let predicted = interface.predict(states.as_tensor(), Some(&context))?;
        let injected = interface.injection(&predicted)?;
        let (p, i) = (predicted.to_vec2::<f32>()?, injected.to_vec2::<f32>()?);
        assert!((p[0][0] * 0.1 - i[0][0]).abs() < 1e-7 && i[0][0] != 0.0);
        assert!(!injected.track_op() && (predicted * injected)?.sum_all()?.backward()?.get(&states).is_none());
        Ok(())
    }
}
