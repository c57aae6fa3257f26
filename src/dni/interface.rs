//! The backward interface: what a cut connection uses in place of the gradient that would have come through it.

use candle_core::Tensor;

use super::Synthesizer;
use crate::error::{Error, Result};

/// A synthesizer at a cut in the graph.
#[derive(Debug, Clone)]
pub struct BackwardInterface {
    synthesizer: Synthesizer,
    scale: f64,
}

impl BackwardInterface {
    /// An interface that injects `scale` times what the synthesizer predicts.
    pub fn new(synthesizer: Synthesizer, scale: f64) -> Self {
        BackwardInterface { synthesizer, scale }
    }

    /// The synthesizer.
    pub fn synthesizer(&self) -> &Synthesizer {
        &self.synthesizer
    }

    /// Predicted gradients `S(s, ctx)` at states `[rows, width]` with context `[rows, context]`.
    ///
    /// The states are taken as constants: nothing ever flows back into them through the synthesizer.
    pub fn predict(&self, states: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        self.synthesizer.forward(&states.detach(), context)
    }

    /// What is injected at the states of a prediction: a constant, `scale · S(s)`.
    pub fn injection(&self, predicted: &Tensor) -> Result<Tensor> {
        Ok((predicted.detach() * self.scale)?)
    }

    /// Gradients of the synthesizer's parameters (in the order of [`Synthesizer::parameters`]) once the gradients
    /// `target` have arrived at the states of `predicted`.
    ///
    /// What reaches the synthesizer's output is `factor · (S(s) − target)`, the gradient of
    /// `factor / 2 · Σ (S(s) − target)²`. Weights that the fibre mask removes receive exactly zero.
    ///
    /// # Errors
    /// Fails if the synthesizer was built from constants.
    pub fn learn(&self, predicted: &Tensor, target: &Tensor, factor: f64) -> Result<Vec<Tensor>> {
        let delivered = ((predicted.detach() - target.detach())? * factor)?;
        self.pull_back(predicted, &delivered)
    }

    /// Gradients of the synthesizer's parameters (in the order of [`Synthesizer::parameters`]) where `delivered` reaches
    /// the synthesizer's output `predicted`. Weights that the fibre mask removes receive exactly zero.
    ///
    /// # Errors
    /// Fails if the synthesizer was built from constants.
    pub fn pull_back(&self, predicted: &Tensor, delivered: &Tensor) -> Result<Vec<Tensor>> {
        let store = (predicted * delivered.detach())?.backward()?;
        let mut gradients = Vec::new();
        for (index, parameter) in self.synthesizer.parameters().into_iter().enumerate() {
            let gradient = store.get(parameter).ok_or_else(|| {
                Error::Training("a synthesizer of constants cannot learn: build it from variables".into())
            })?;
            let masked = match &self.synthesizer.kept {
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
    use super::*;
    use crate::dni::SynthesizerShape;
    use crate::rng::Stream;
    use candle_core::{Device, Var};

    /// Plain gradient descent through the interface alone: the synthesizer learns a linear map of its state.
    #[test]
    fn a_synthesizer_learns_what_it_is_told() -> Result<()> {
        let device = Device::Cpu;
        let shape = SynthesizerShape { state: 2, hidden: vec![], context: None };
        let fresh = Synthesizer::random(&shape, true, &mut |role, _| Stream::new(3, role, 0, 0), &device)?;
        let (synthesizer, vars) = fresh.learning()?;
        let interface = BackwardInterface::new(synthesizer, 1.0);

        let states = Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], &device)?;
        let arrived = Tensor::new(&[[2f32, 1.], [-1., 0.], [1., 1.]], &device)?;
        for _ in 0..400 {
            let predicted = interface.predict(&states, None)?;
            for (var, gradient) in vars.iter().zip(interface.learn(&predicted, &arrived, 2.0)?) {
                var.set(&(var.as_tensor() - (gradient * 0.1)?)?)?;
            }
        }
        let error = (interface.predict(&states, None)? - &arrived)?.sqr()?.sum_all()?.to_scalar::<f32>()?;
        assert!(error < 1e-4, "{error}");
        Ok(())
    }

    #[test]
    fn what_is_injected_is_scaled_and_constant() -> Result<()> {
        let shape = SynthesizerShape { state: 2, hidden: vec![3], context: Some(2) };
        let synthesizer = Synthesizer::random(&shape, false, &mut |role, _| Stream::new(3, role, 0, 0), &Device::Cpu)?;
        let interface = BackwardInterface::new(synthesizer, 0.1);
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
