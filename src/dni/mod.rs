//! Decoupled neural interfaces (Jaderberg et al. 2017, "Decoupled neural interfaces using synthetic gradients"): a
//! synthesizer that predicts the gradient at a state, and the backward interface around it. States are rows of a matrix;
//! nothing here depends on tasks, sequences or trainers.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use ccdni::dni::{BackwardInterface, Mlp, Site, initial_parameters};
//! use ccdni::rng::Stream;
//! use std::sync::Arc;
//!
//! # fn main() -> ccdni::Result<()> {
//! // A layer h = x Wᵀ that is updated before the rest of the network has run.
//! let device = Device::Cpu;
//! let x = Tensor::new(&[[1f32, -1.], [0.5, 2.]], &device)?;
//! let w = Var::new(&[[0.3f32, 0.1], [-0.2, 0.4], [0.5, 0.5]], &device)?;
//! let h = x.matmul(&w.as_tensor().t()?)?; // [2, 3]
//!
//! let mlp = Mlp { hidden: vec![8], ..Mlp::default() };
//! let site = Site { state: 3, context: None, learns: true };
//! let parameters = initial_parameters(&mlp, site, &mut |name| Stream::new(1, name, 0, 0), &device)?;
//! let parameters = parameters.iter().map(Var::from_tensor).collect::<Result<Vec<_>, _>>()?;
//! let tracked = parameters.iter().map(|parameter| parameter.as_tensor().clone()).collect();
//! let interface = BackwardInterface::new(Arc::new(mlp), tracked, 1.0);
//!
//! // The update of w uses the predicted gradient ...
//! let predicted = interface.predict(&h, None)?;
//! let update = (h * interface.injection(&predicted)?)?.sum_all()?.backward()?;
//! assert_eq!(update.get(&w).map(|g| g.dims().to_vec()), Some(vec![3, 2]));
//!
//! // ... and once the true one is known, the synthesizer learns from it.
//! let target = Tensor::ones((2, 3), candle_core::DType::F32, &device)?;
//! let gradients = interface.learn(&predicted, &target, 2.0)?;
//! for (parameter, gradient) in parameters.iter().zip(&gradients) {
//!     parameter.set(&(parameter.as_tensor() - (gradient * 0.01)?)?)?;
//! }
//! # Ok(())
//! # }
//! ```

mod interface;
mod mlp;
mod synthesizer;

pub use interface::BackwardInterface;
pub use mlp::{InitLast, Mlp};
pub use synthesizer::{
    Cpu, ParameterShape, Prediction, PredictionPullback, Site, StoredSynthesizer, Synthesizer, initial_parameters,
};

use crate::plugins::Kinds;
use crate::spec::DniSpec;

/// The synthesizers of this crate.
pub fn built_in() -> Kinds<dyn Synthesizer> {
    let mut synthesizers = Kinds::<dyn Synthesizer>::new::<DniSpec>("synthesizer");
    synthesizers.register::<Mlp>(|mlp| Box::new(mlp));
    synthesizers
}
