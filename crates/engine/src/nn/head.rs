//! The head of a backbone: a linear layer and batch normalisation.

use candle_core::{Tensor, Var};

use super::kernel::{Matrix, MatrixMut, Threads, product};
use super::{BatchNorm, Gradients, Linear, Mode, Statistics, batch_norm, slices};
use crate::error::Result;

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
        self.normalise(&self.linear.forward(features)?, mode)
    }

    fn normalise(&self, outputs: &Tensor, mode: Mode) -> Result<(Tensor, Option<Statistics>)> {
        let norm = BatchNorm { scale: &self.scale, shift: &self.shift, mean: &self.mean, variance: &self.variance };
        batch_norm(outputs, norm, mode, MOMENTUM)
    }
}

/// A forward pass in training on the CPU. Its linear layer, which has most of the weights, has a backward pass of its own; the
/// normalisation is in candle's graph.
#[derive(Debug)]
pub struct HeadPass {
    features: Tensor,
    weight: Tensor,
    /// The outputs of the linear layer, and the normalisation's scale and shift.
    leaves: [Var; 3],
    normed: Tensor,
}

impl HeadPass {
    /// Of features `[batch, features]` [on slices](super::on_slices), with the new running statistics.
    ///
    /// # Errors
    /// As [`Head::forward`].
    pub fn new(head: &Head, features: &Tensor) -> Result<(HeadPass, Option<Statistics>)> {
        let (features, weight) = (features.detach().contiguous()?, head.linear.weight.detach().contiguous()?);
        let outputs = head.linear.forward(&features)?.detach();
        let leaves = [Var::from_tensor(&outputs)?, Var::from_tensor(&head.scale)?, Var::from_tensor(&head.shift)?];
        let [outputs, scale, shift] = leaves.each_ref().map(|leaf| leaf.as_tensor().clone());
        let (normed, statistics) = Head { scale, shift, ..head.clone() }.normalise(&outputs, Mode::Train)?;
        Ok((HeadPass { features, weight, leaves, normed }, statistics))
    }

    /// `[batch, outputs]`, a constant.
    pub fn output(&self) -> Tensor {
        self.normed.detach()
    }

    /// Adds the gradients of weight, bias, scale and shift, whose indices are given, given that of the output; returns that of the features if
    /// asked for. The weights must still be those of the forward pass.
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
        let mut store = (&self.normed * cotangent.detach())?.backward()?;
        let [of_outputs, of_scale, of_shift] = self.leaves.each_ref().map(|leaf| store.remove(leaf));
        for (index, gradient) in [(scale, of_scale), (shift, of_shift)] {
            gradient.map_or(Ok(()), |gradient| gradients.add(index, &gradient))?;
        }
        let Some(of_outputs) = of_outputs else { return Ok(None) };
        gradients.add(bias, &of_outputs.sum(0)?)?;
        let ((rows, inputs), outputs) = (self.features.dims2()?, self.weight.dim(0)?);
        let of_outputs = of_outputs.contiguous()?;
        let (x, w, dy) = (slices::read(&self.features)?, slices::read(&self.weight)?, slices::read(&of_outputs)?);
        let dy = Matrix::new(&dy, rows, outputs);
        let threads = Threads::of_pool();
        gradients.on_cpu(|mut all| {
            let (sum, before) = all.take(weight);
            product(MatrixMut::new(sum, outputs, inputs), dy.t(), Matrix::new(&x, rows, inputs), before, threads);
        })?;
        if !of_features {
            return Ok(None);
        }
        let mut dx = vec![0.0; rows * inputs];
        product(MatrixMut::new(&mut dx, rows, inputs), dy, Matrix::new(&w, outputs, inputs), false, threads);
        Ok(Some(Tensor::from_vec(dx, (rows, inputs), self.features.device())?))
    }
}
