//! Decoupled neural interfaces (Jaderberg et al. 2017, "Decoupled neural interfaces using synthetic gradients"): a
//! synthesizer predicts the gradient at a state, and learns once the true gradient is known. States are rows of a matrix;
//! nothing here depends on tasks, sequences or trainers.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use ccdni_engine::dni::{Mlp, Site, StoredSynthesizer, Synthesizer, initial_parameters};
//! use ccdni_engine::nn::Gradients;
//! use ccdni_engine::rng::Stream;
//! use std::sync::Arc;
//!
//! # fn main() -> ccdni_engine::Result<()> {
//! // A layer h = x Wᵀ that is updated before the rest of the network has run.
//! let device = Device::Cpu;
//! let x = Tensor::new(&[[1f32, -1.], [0.5, 2.]], &device)?;
//! let w = Var::new(&[[0.3f32, 0.1], [-0.2, 0.4], [0.5, 0.5]], &device)?;
//! let h = x.matmul(&w.as_tensor().t()?)?; // [2, 3]
//!
//! let synthesizer: Arc<dyn Synthesizer> = Arc::new(Mlp { hidden: vec![8], ..Mlp::default() });
//! let site = Site::of_state(3, None, true);
//! let params = initial_parameters(&*synthesizer, site, |name| Stream::new(1, name, 0, 0), &device)?;
//! let indices: Vec<usize> = (0..params.len()).collect();
//! let stored = StoredSynthesizer { synthesizer: &synthesizer, site, params: &params, indices: &indices, kept: None };
//!
//! // The update of w uses the predicted gradient ...
//! let predicted = stored.predict(&h, None)?;
//! let update = (&h * &predicted.values)?.sum_all()?.backward()?;
//! assert_eq!(update.get(&w).map(Tensor::dims), Some(&[3, 2][..]));
//!
//! // ... and once the true one is known, the synthesizer learns from it: by descent on |S(h) - target|² / 2.
//! let target = Tensor::new(&[[1f32, 2., 3.], [0., -1., 1.]], &device)?;
//! for _ in 0..500 {
//!     let predicted = stored.predict(&h, None)?;
//!     let mut gradients = Gradients::none(&params)?;
//!     (predicted.pullback)(&(predicted.values - &target)?, &mut gradients)?;
//!     let updated = (params.flat() - (gradients.flat() * 0.05)?)?;
//!     params.flat().slice_set(&updated, 0, 0)?;
//! }
//! let error = (stored.predict(&h, None)?.values - target)?.sqr()?.sum_all()?.to_scalar::<f32>()?;
//! assert!(error < 1e-4, "{error}");
//! # Ok(())
//! # }
//! ```

mod conv;
mod interface;
mod mlp;
mod synthesizer;

pub use conv::ConvSynthesizer;
pub use interface::{Cut, Interface, Regression, SyntheticInput, backward};
pub use mlp::{InitLast, Mlp};
pub use synthesizer::{
    Cpu, ParameterShape, Prediction, PredictionPullback, Site, StoredSynthesizer, Synthesizer, Tracked,
    initial_parameters,
};

use crate::plugins::Kinds;
use crate::spec::DniSpec;

/// The synthesizers of this crate.
pub fn built_in() -> Kinds<dyn Synthesizer> {
    let mut synthesizers = Kinds::<dyn Synthesizer>::new::<DniSpec>("synthesizer");
    synthesizers.register::<Mlp>(|mlp| Box::new(mlp));
    synthesizers.register::<ConvSynthesizer>(|conv| Box::new(conv));
    synthesizers
}
