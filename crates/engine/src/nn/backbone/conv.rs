//! A small convolutional network for drawn scenes.

use candle_core::Tensor;

use super::{Activations, BackboneTensor, Mode, Stages, TensorKind};
use crate::error::Result;
use crate::nn::kernel::window::Window;
use crate::nn::{conv2d_relu, conv2d_relu_backward, on_slices};

/// The windows of every layer, which halve the sides of an image.
const WINDOW: Window = Window { size: 3, stride: 2, padding: 1 };

/// Convolutions of 3 x 3 with stride 2, bias and rectifier; the features are the flattened last layer, which keeps
/// positions.
///
/// There is no batch normalisation: with suitable initial weights four layers train as well without it, and an image's
/// features do not depend on the rest of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvNet {
    size: usize,
    widths: Vec<usize>,
}

impl ConvNet {
    /// A network for images of `size` x `size` pixels, with one layer per entry of `widths`, its channels.
    pub fn new(size: usize, widths: &[usize]) -> ConvNet {
        ConvNet { size, widths: widths.to_vec() }
    }

    /// Pixels along an edge of its images.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Width of the feature vector.
    pub fn features(&self) -> usize {
        let side = self.widths.iter().fold(self.size, |side, _| WINDOW.count(side));
        self.widths.last().unwrap_or(&3) * side * side
    }

    pub(super) fn tensors(&self) -> Vec<BackboneTensor> {
        let inputs = std::iter::once(&3).chain(&self.widths);
        let layers = inputs.zip(&self.widths).enumerate();
        layers
            .flat_map(|(layer, (&inputs, &outputs))| {
                let dims = vec![outputs, inputs, WINDOW.size, WINDOW.size];
                let fan_in = inputs * WINDOW.size * WINDOW.size;
                [
                    BackboneTensor { name: format!("conv.{layer}.weight"), dims, kind: TensorKind::Weight { fan_in } },
                    BackboneTensor { name: format!("conv.{layer}.bias"), dims: vec![outputs], kind: TensorKind::Shift },
                ]
            })
            .collect()
    }

    pub(super) fn forward(
        &self,
        tensors: &[Tensor],
        pixels: &Tensor,
        mode: Mode,
        mut stages: Option<&mut Stages>,
    ) -> Result<Activations> {
        let mut x = pixels.clone();
        for (layer, pair) in tensors.chunks_exact(2).enumerate() {
            let (weight, bias) = match mode {
                Mode::Train => (pair[0].clone(), pair[1].clone()),
                Mode::Evaluate => (pair[0].detach(), pair[1].detach()),
            };
            x = conv2d_relu(&x, &weight, &bias, WINDOW.stride, WINDOW.padding)?;
            if let Some(stages) = stages.as_deref_mut() {
                stages.push((format!("conv.{layer}"), x.clone()));
            }
        }
        Ok(Activations { features: x.flatten_from(1)?, statistics: Vec::new() })
    }
}

/// A forward pass on the CPU whose activations are kept for the backward pass. In candle's graph, every layer would cost a
/// tensor of zeros and a sum.
#[derive(Debug)]
pub struct ConvPass {
    tensors: Vec<Tensor>,
    /// The pixels, and the output of every layer.
    activations: Vec<Tensor>,
}

impl ConvPass {
    pub(super) fn new(net: &ConvNet, tensors: &[Tensor], pixels: &Tensor) -> Result<Option<ConvPass>> {
        if !on_slices(pixels) {
            return Ok(None);
        }
        let (mut activations, mut stages) = (vec![pixels.contiguous()?], Stages::new());
        net.forward(tensors, &activations[0], Mode::Evaluate, Some(&mut stages))?;
        activations.extend(stages.into_iter().map(|(_, layer)| layer));
        let tensors = tensors.iter().map(|tensor| tensor.detach().contiguous()).collect::<Result<_, _>>()?;
        Ok(Some(ConvPass { tensors, activations }))
    }

    /// `[batch, features]`
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn features(&self) -> Result<Tensor> {
        Ok(self.activations[self.activations.len() - 1].flatten_from(1)?)
    }

    /// The gradients of the backbone's tensors, in their order, given that of the features.
    ///
    /// # Errors
    /// Fails if the gradient has another shape.
    pub fn backward(&self, gradient: &Tensor) -> Result<Vec<Tensor>> {
        let mut gradient = gradient.reshape(self.activations[self.activations.len() - 1].dims())?;
        let mut found = Vec::with_capacity(self.tensors.len());
        for (layer, pair) in self.tensors.chunks_exact(2).enumerate().rev() {
            let operands = (&self.activations[layer], &pair[0], &self.activations[layer + 1]);
            let of = conv2d_relu_backward(operands, &gradient, (WINDOW.stride, WINDOW.padding), layer > 0)?;
            found.extend([of.bias, of.weight]);
            if let Some(images) = of.images {
                gradient = images;
            }
        }
        found.reverse();
        Ok(found)
    }
}
