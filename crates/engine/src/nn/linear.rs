//! The linear layer and the rectifier.

use candle_core::Tensor;

use crate::error::Result;

/// `y = x Wᵀ + b`, with PyTorch's layout.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Tensor,
}

impl Linear {
    /// `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        let (out, inputs) = self.weight.dims2()?;
        let rows = x.elem_count() / inputs.max(1);
        // One product over all leading axes.
        let y = x.reshape((rows, inputs))?.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?;
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
    fn linear_keeps_leading_axes() -> Result<()> {
        let weight = Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], &Device::Cpu)?;
        let layer = Linear { weight, bias: Tensor::new(&[0f32, 0., 1.], &Device::Cpu)? };
        let y = layer.forward(&Tensor::new(&[[[1f32, 2.]], [[3., 4.]]], &Device::Cpu)?)?;
        assert_eq!(y.to_vec3::<f32>()?, [[[1., 2., 4.]], [[3., 4., 8.]]]);
        Ok(())
    }
}
