//! The head of a backbone: a linear layer and batch normalisation.

use candle_core::{Tensor, Var};

use super::kernel::{Matrix, MatrixMut, Threads, product};
use super::{BatchNorm, Gradients, Linear, Mode, Statistics, batch_norm, slices};
use crate::error::{Error, Result};

/// Momentum of the running statistics.
const MOMENTUM: f64 = 0.01;

/// A linear layer followed by batch normalisation.
#[derive(Debug, Clone)]
pub struct Head {
    /// From features to outputs.
    pub linear: Linear,
    /// The normalisation's scale, `[outputs]`.
    pub scale: Tensor,
    /// Its shift, `[outputs]`.
    pub shift: Tensor,
    /// Its running mean, `[outputs]`.
    pub mean: Tensor,
    /// Its running variance, `[outputs]`.
    pub variance: Tensor,
}

impl Head {
    /// `[batch, features]` to `[batch, outputs]`; in training also the new running statistics.
    ///
    /// # Errors
    /// As [`batch_norm()`].
    pub fn forward(&self, features: &Tensor, mode: Mode) -> Result<(Tensor, Option<Statistics>)> {
        let norm = BatchNorm { scale: &self.scale, shift: &self.shift, mean: &self.mean, variance: &self.variance };
        batch_norm(&self.linear.forward(features)?, norm, mode, MOMENTUM)
    }
}

/// A forward pass in training on the CPU, whose linear layer has a backward pass of its own: in candle's graph, as the normalisation is, its
/// gradients would be computed on one thread and added to zeros.
#[derive(Debug)]
pub struct HeadPass {
    features: Tensor,
    weight: Tensor,
    /// The outputs of the linear layer, and the normalisation's scale and shift.
    leaves: [Var; 3],
    normed: Tensor,
}

impl HeadPass {
    /// Of features `[batch, features]`, f32 on the CPU, with the new running statistics.
    ///
    /// # Errors
    /// As [`Head::forward`].
    pub fn new(head: &Head, features: &Tensor) -> Result<(HeadPass, Option<Statistics>)> {
        let (features, weight) = (features.detach().contiguous()?, head.linear.weight.detach().contiguous()?);
        let outputs = head.linear.forward(&features)?.detach();
        let leaves = [Var::from_tensor(&outputs)?, Var::from_tensor(&head.scale)?, Var::from_tensor(&head.shift)?];
        let [outputs, scale, shift] = &leaves;
        let norm = BatchNorm { scale, shift, mean: &head.mean, variance: &head.variance };
        let (normed, statistics) = batch_norm(outputs, norm, Mode::Train, MOMENTUM)?;
        Ok((HeadPass { features, weight, leaves, normed }, statistics))
    }

    /// `[batch, outputs]`, a constant.
    pub fn output(&self) -> Tensor {
        self.normed.detach()
    }

    /// Adds the gradients of weight, bias, scale and shift to those of these indices, from the gradient of the output. Returns the gradient
    /// of the features if `of_features`. To be called before the parameters change: weights are read where they are.
    ///
    /// # Errors
    /// Fails if the gradient has another shape.
    pub fn backward(
        &self,
        cotangent: &Tensor,
        [weight, bias, scale, shift]: [usize; 4],
        gradients: &mut Gradients,
        of_features: bool,
    ) -> Result<Option<Tensor>> {
        // `backward` starts from ones: applied to this product, it computes the vector-Jacobian product.
        let store = (&self.normed * cotangent.detach())?.backward()?;
        let [of_outputs, of_scale, of_shift] = self
            .leaves
            .each_ref()
            .map(|leaf| store.get(leaf).ok_or_else(|| Error::Training("a normalisation without gradients".into())));
        let of_outputs = of_outputs?.contiguous()?;
        gradients.add(scale, of_scale?)?;
        gradients.add(shift, of_shift?)?;
        gradients.add(bias, &of_outputs.sum(0)?)?;
        let ((rows, inputs), outputs) = (self.features.dims2()?, self.weight.dim(0)?);
        let dy = slices::read(&of_outputs)?;
        let (dy, threads) = (Matrix::new(&dy, rows, outputs), Threads::of_pool());
        let x = slices::read(&self.features)?;
        gradients.on_cpu(|mut all| {
            let (sum, before) = all.take(weight);
            product(MatrixMut::new(sum, outputs, inputs), dy.t(), Matrix::new(&x, rows, inputs), before, threads);
        })?;
        if !of_features {
            return Ok(None);
        }
        let (w, mut dx) = (slices::read(&self.weight)?, vec![0.0; rows * inputs]);
        product(MatrixMut::new(&mut dx, rows, inputs), dy, Matrix::new(&w, outputs, inputs), false, threads);
        Ok(Some(Tensor::from_vec(dx, (rows, inputs), self.features.device())?))
    }
}
