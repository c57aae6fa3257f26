//! Interfaces between two parts of a feed-forward network (Jaderberg et al. 2017, sections 2 and 3).
//!
//! An interface cuts the graph at a *message* `a`, the activation that the part below sends to the part above. With `sg(·)` for a
//! constant and `B` rows:
//!
//! - a *backward* interface (update unlock) gives the part below the synthetic gradient `ĝ = scale · sg(S(a))`, so that it can be
//!   updated at once, and the part above the constant `sg(a)`;
//! - a *forward* interface gives the part above the synthetic input `â = sg(S_f(x))`, predicted from a trigger `x`, and nothing to
//!   the part below;
//! - a *bidirectional* one (full unlock) does both.
//!
//! Once the gradient `δ` at what the part above received is there, the synthesizers learn, from
//! `(1/B) Σ (S(·) − sg(δ))²`, at what the part above received, and `mean((S_f(x) − sg(a))²)` over rows and features.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use super::{StoredSynthesizer, Tracked};
use crate::error::{Error, Result};

/// An interface; at least one of its synthesizers is there.
#[derive(Clone, Copy, Default)]
pub struct Interface<'a> {
    /// The synthesizer `S` of gradients.
    pub gradients: Option<StoredSynthesizer<'a>>,
    /// The synthesizer `S_f` of inputs.
    pub inputs: Option<StoredSynthesizer<'a>>,
    /// Factor on the synthetic gradient.
    pub scale: f64,
}

/// A synthetic input, which is there before the message.
pub struct SyntheticInput<'a> {
    tracked: Tracked<'a>,
    dims: Vec<usize>,
}

impl SyntheticInput<'_> {
    /// `â`, `[rows, ...message]`; a constant.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn values(&self) -> Result<Tensor> {
        Ok(self.tracked.values().reshape(self.dims.as_slice())?)
    }

    /// The regression on the real message `a`: gradients of `mean((S_f(x) − a)²)`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn learn(&self, message: &Tensor) -> Result<Regression> {
        let values = self.tracked.values();
        let error = (&values - message.detach().reshape(values.dims())?)?;
        Regression::new(&self.tracked, &error, error.elem_count())
    }
}

/// A step of a synthesizer's regression.
#[derive(Debug, Clone)]
pub struct Regression {
    /// The gradients of its parameters, by index in their store.
    pub gradients: Vec<(usize, Tensor)>,
    /// The loss, a scalar.
    pub loss: Tensor,
}

impl Regression {
    /// `(1/count) Σ error²`, where `error` is the predictions minus a constant.
    fn new(tracked: &Tracked<'_>, error: &Tensor, count: usize) -> Result<Regression> {
        let gradients = tracked.pull_back(&(error * (2.0 / count as f64))?)?;
        Ok(Regression { gradients, loss: (error.sqr()?.sum_all()? / count as f64)? })
    }
}

impl<'a> Interface<'a> {
    /// A backward interface: update unlock.
    pub fn backward(gradients: StoredSynthesizer<'a>) -> Interface<'a> {
        Interface { gradients: Some(gradients), inputs: None, scale: 1.0 }
    }

    /// A forward interface: the part below receives no gradient.
    pub fn forward(inputs: StoredSynthesizer<'a>) -> Interface<'a> {
        Interface { gradients: None, inputs: Some(inputs), scale: 1.0 }
    }

    /// A bidirectional interface: full unlock.
    pub fn bidirectional(gradients: StoredSynthesizer<'a>, inputs: StoredSynthesizer<'a>) -> Interface<'a> {
        Interface { gradients: Some(gradients), inputs: Some(inputs), scale: 1.0 }
    }

    /// The synthetic input for messages of shape `message` (without rows), from the trigger `[rows, ...]`; `None` for a backward
    /// interface.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn synthetic_input(
        &self,
        trigger: &Tensor,
        message: &[usize],
        context: Option<&Tensor>,
    ) -> Result<Option<SyntheticInput<'a>>> {
        let Some(stored) = self.inputs else { return Ok(None) };
        let mut dims = vec![trigger.dim(0)?];
        dims.extend(message);
        Ok(Some(SyntheticInput { tracked: stored.track(&shaped(stored, trigger)?, context)?, dims }))
    }

    /// `ĝ = scale · S(a)` at messages `[rows, ...]`, a constant of the same shape; `None` for a forward interface.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn synthetic_gradient(&self, message: &Tensor, context: Option<&Tensor>) -> Result<Option<Tensor>> {
        let Some(stored) = self.gradients else { return Ok(None) };
        let values = stored.values(&shaped(stored, message)?, context)?.reshape(message.dims())?;
        Ok(Some((values * self.scale)?))
    }

    /// The regression of `S` at what the part above received, `[rows, ...]`, on the gradient `δ` that arrived there, of the same
    /// shape: gradients of `(1/B) Σ (S(·) − δ)²`. `None` for a forward interface.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn learn_gradient(
        &self,
        received: &Tensor,
        context: Option<&Tensor>,
        arrived: &Tensor,
    ) -> Result<Option<Regression>> {
        let Some(stored) = self.gradients else { return Ok(None) };
        let tracked = stored.track(&shaped(stored, received)?, context)?;
        let values = tracked.values();
        let error = (&values - arrived.detach().reshape(values.dims())?)?;
        Regression::new(&tracked, &error, received.dim(0)?).map(Some)
    }

    /// Cuts the graph at the message `a`, `[rows, ...]`; `trigger`, `[rows, ...]`, is what inputs are predicted from.
    ///
    /// # Errors
    /// Fails on a tensor error, or if inputs are to be predicted without a trigger.
    pub fn cut(&self, message: &Tensor, trigger: Option<&Tensor>, context: Option<&Tensor>) -> Result<Cut<'a>> {
        let input = match (self.inputs, trigger) {
            (Some(_), Some(trigger)) => self.synthetic_input(trigger, &message.dims()[1..], context)?,
            (Some(_), None) => return Err(Error::Training("a forward interface without a trigger".into())),
            (None, _) => None,
        };
        let received = input.as_ref().map_or_else(|| Ok(message.detach()), SyntheticInput::values)?;
        Ok(Cut {
            interface: *self,
            synthetic_gradient: self.synthetic_gradient(message, context)?,
            message: message.clone(),
            received: Var::from_tensor(&received)?,
            input,
            context: context.cloned(),
        })
    }
}

/// A cut in a graph: what was sent, what was received, and what is still to be learned.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use ccdni_engine::dni::{Interface, Mlp, Site, StoredSynthesizer, Synthesizer, initial_parameters};
/// use ccdni_engine::rng::Stream;
/// use std::sync::Arc;
///
/// # fn main() -> ccdni_engine::Result<()> {
/// let (x, w) = (Tensor::new(&[[1f32, -1.]], &Device::Cpu)?, Var::new(&[[0.3f32, 0.1], [-0.2, 0.4]], &Device::Cpu)?);
/// let synthesizer: Arc<dyn Synthesizer> = Arc::new(Mlp::default());
/// let site = Site::of_state(2, None, true);
/// let params = initial_parameters(&*synthesizer, site, |name| Stream::new(1, name, 0, 0), &Device::Cpu)?;
/// let stored = StoredSynthesizer { synthesizer: &synthesizer, site, params: &params, indices: &[0, 1], kept: None };
///
/// let cut = Interface::backward(stored).cut(&x.matmul(&w.as_tensor().t()?)?, None, None)?;
/// let below = cut.update_below()?.expect("a backward interface"); // before anything above has run
/// assert!(below.get(&w).is_some());
/// let above = cut.received().sqr()?.sum_all()?.backward()?; // the part above, and its loss
/// let regressions = cut.learn(&above)?; // S learns from the gradient that arrived
/// assert_eq!(regressions.len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct Cut<'a> {
    interface: Interface<'a>,
    message: Tensor,
    received: Var,
    synthetic_gradient: Option<Tensor>,
    input: Option<SyntheticInput<'a>>,
    context: Option<Tensor>,
}

impl Cut<'_> {
    /// What the part above goes on with, `[rows, ...]`: a variable, at which its gradient arrives.
    pub fn received(&self) -> &Tensor {
        self.received.as_tensor()
    }

    /// `⟨ĝ, a⟩`, whose gradient is that of the part below; `None` for a forward interface.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn injection(&self) -> Result<Option<Tensor>> {
        self.synthetic_gradient.as_ref().map(|gradient| Ok((&self.message * gradient)?.sum_all()?)).transpose()
    }

    /// The gradients of the part below, from the synthetic gradient alone; `None` for a forward interface.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn update_below(&self) -> Result<Option<GradStore>> {
        self.injection()?.map(|sum| Ok(sum.backward()?)).transpose()
    }

    /// The regressions of the interface's synthesizers, given the gradients of the part above.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn learn(&self, above: &GradStore) -> Result<Vec<Regression>> {
        let arrived =
            above.get(self.received()).map_or_else(|| self.received().zeros_like(), |found| Ok(found.clone()))?;
        let inputs = self.input.as_ref().map(|input| input.learn(&self.message)).transpose()?;
        let gradients = self.interface.learn_gradient(self.received(), self.context.as_ref(), &arrived)?;
        Ok(inputs.into_iter().chain(gradients).collect())
    }
}

/// One backward pass for a loss and all cuts, in place of one for each part (dni-pytorch's `defer_backward`): the gradient of
/// `loss + Σ ⟨ĝ, a⟩`.
///
/// # Errors
/// Fails on a tensor error.
pub fn backward(loss: &Tensor, cuts: &[&Cut<'_>]) -> Result<GradStore> {
    let mut total = loss.clone();
    for cut in cuts {
        if let Some(term) = cut.injection()? {
            total = (total + term)?;
        }
    }
    Ok(total.backward()?)
}

/// A message as its synthesizer reads it: vectors, unless it reads maps.
fn shaped(stored: StoredSynthesizer<'_>, message: &Tensor) -> Result<Tensor> {
    match stored.synthesizer.reads_maps() {
        true => Ok(message.clone()),
        false => Ok(message.flatten_from(1)?),
    }
}
