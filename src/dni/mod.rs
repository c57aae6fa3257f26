//! Decoupled neural interfaces: a synthesizer that predicts the gradient arriving at a state, and the backward
//! interface around it (Jaderberg et al. 2017, "Decoupled Neural Interfaces using Synthetic Gradients").
//!
//! Nothing here knows of tasks, sequences or trainers: states are rows of a matrix.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use ccdni::dni::{BackwardInterface, Synthesizer, SynthesizerShape};
//! use ccdni::rng::Stream;
//!
//! # fn main() -> ccdni::Result<()> {
//! // A layer h = x Wᵀ that is updated before the rest of the network has run.
//! let device = Device::Cpu;
//! let x = Tensor::new(&[[1f32, -1.], [0.5, 2.]], &device)?;
//! let w = Var::new(&[[0.3f32, 0.1], [-0.2, 0.4], [0.5, 0.5]], &device)?;
//! let h = x.matmul(&w.as_tensor().t()?)?; // [2, 3]
//!
//! let shape = SynthesizerShape { state: 3, hidden: vec![8], context: None };
//! let fresh = Synthesizer::random(&shape, false, &mut |role, _| Stream::new(1, role, 0, 0), &device)?;
//! let (synthesizer, parameters) = fresh.learning()?;
//! let interface = BackwardInterface::new(synthesizer, 1.0);
//!
//! // The update of w uses the predicted gradient ...
//! let predicted = interface.predict(&h, None)?;
//! let update = (h * interface.injection(&predicted)?)?.sum_all()?.backward()?;
//! assert_eq!(update.get(&w).map(|g| g.dims().to_vec()), Some(vec![3, 2]));
//!
//! // ... and when the true one arrives, the synthesizer learns from it.
//! let arrived = Tensor::ones((2, 3), candle_core::DType::F32, &device)?;
//! let gradients = interface.learn(&predicted, &arrived, 2.0)?;
//! for (parameter, gradient) in parameters.iter().zip(&gradients) {
//!     parameter.set(&(parameter.as_tensor() - (gradient * 0.01)?)?)?;
//! }
//! # Ok(())
//! # }
//! ```

mod interface;
mod synthesizer;

pub use interface::BackwardInterface;
pub use synthesizer::{ParameterShape, Synthesizer, SynthesizerShape};
