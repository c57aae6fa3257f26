//! The linear layer, of one seed or of several at once, and the rectifier.

use candle_core::{D, Tensor};

use crate::error::Result;

/// `y = x Wᵀ + b`, with PyTorch's layout.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`, or `[seeds, out, in]`
    pub weight: Tensor,
    /// `[out]`, or `[seeds, out]`
    pub bias: Tensor,
}

/// `y = x Wᵀ + b` of rows `[rows, in]`, with weights `[out, in]` and `[out]`: `[rows, out]`. Where several seeds have weights,
/// `[seeds, out, in]` and `[seeds, out]`, rows alternate between the seeds: `[rows · seeds, in]`.
///
/// # Errors
/// Fails if the shapes do not fit.
pub fn affine(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if weight.rank() == 2 {
        return Ok(x.matmul(&weight.t()?)?.broadcast_add(bias)?);
    }
    let (seeds, out, inputs) = weight.dims3()?;
    let rows = x.dim(0)? / seeds;
    let by_seed = x.reshape((rows, seeds, inputs))?.transpose(0, 1)?.contiguous()?;
    let y = by_seed.matmul(&weight.t()?)?.broadcast_add(&bias.unsqueeze(1)?)?;
    Ok(y.transpose(0, 1)?.contiguous()?.reshape((rows * seeds, out))?)
}

impl Linear {
    /// `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        let (out, inputs) = (self.weight.dim(D::Minus2)?, self.weight.dim(D::Minus1)?);
        let rows = x.elem_count() / inputs.max(1);
        // One product over all leading axes.
        let y = affine(&x.reshape((rows, inputs))?, &self.weight, &self.bias)?;
        if let Some(last) = dims.last_mut() {
            *last = out;
        }
        Ok(y.reshape(dims)?)
    }
}

/// `max(x, 0)`, with gradient 0 at 0 as in PyTorch (candle's is 1 there).
pub fn relu(x: &Tensor) -> Result<Tensor> {
    // The sign is 0 or 1 here. A comparison would copy its zero to the device each time.
    let positive = x.detach().relu()?.sign()?;
    Ok((x * positive)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn the_rectifier_has_no_gradient_at_zero() -> Result<()> {
        let x = Var::new(&[-1f32, 0., 2.], &Device::Cpu)?;
        let y = relu(x.as_tensor())?;
        assert_eq!(y.to_vec1::<f32>()?, [0., 0., 2.]);
        let gradients = y.sum_all()?.backward()?;
        assert_eq!(gradients.get(&x).map(|g| g.to_vec1::<f32>()).transpose()?, Some(vec![0., 0., 1.]));
        Ok(())
    }

    #[test]
    fn rows_alternate_between_seeds() -> Result<()> {
        let weight = Tensor::new(&[[[1f32, 0.]], [[0., 10.]]], &Device::Cpu)?;
        let layer = Linear { weight, bias: Tensor::new(&[[0f32], [0.5]], &Device::Cpu)? };
        let x = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.], [7., 8.]], &Device::Cpu)?;
        assert_eq!(layer.forward(&x)?.to_vec2::<f32>()?, [[1.], [40.5], [5.], [80.5]]);
        Ok(())
    }

    #[test]
    fn linear_keeps_leading_axes() -> Result<()> {
        let weight = Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], &Device::Cpu)?;
        let layer = Linear { weight, bias: Tensor::new(&[0f32, 0., 1.], &Device::Cpu)? };
        let y = layer.forward(&Tensor::new(&[[[1f32, 2.]], [[3., 4.]]], &Device::Cpu)?)?;
        assert_eq!(y.to_vec3::<f32>()?, [[[1., 2., 4.]], [[3., 4., 8.]]]);
        Ok(())
    }
}
