//! Batch normalisation (Ioffe and Szegedy 2015) as in PyTorch, over the rows of a matrix or over images.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// Added to the variance so that the divisor is not 0.
pub const EPSILON: f64 = 1e-5;

/// Which statistics are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The running statistics: a result does not depend on the rest of the batch. No gradients.
    Evaluate,
    /// Those of the batch; the running statistics are updated. Gradients flow to every variable.
    Train,
}

/// The parameters and running statistics of a batch normalisation, each `[channels]`.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm<'a> {
    /// The factor of a normalised value.
    pub scale: &'a Tensor,
    /// What is then added.
    pub shift: &'a Tensor,
    /// The running mean.
    pub mean: &'a Tensor,
    /// The running variance.
    pub variance: &'a Tensor,
}

/// New running statistics; constants.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// The running mean, `[channels]`.
    pub mean: Tensor,
    /// The running variance, `[channels]`.
    pub variance: Tensor,
}

/// Normalises each channel of `x`, `[rows, channels]` or `[batch, channels, height, width]`:
/// `y = (x - mean) / √(variance + 1e-5) · scale + shift`. In training it also returns the new running statistics,
/// `(1 - momentum) · old + momentum · batch`, with the unbiased variance of the batch.
///
/// # Errors
/// Fails if shapes do not match; [`Error::Training`] in training with a single value per channel, which has no variance.
pub fn batch_norm(x: &Tensor, norm: BatchNorm<'_>, mode: Mode, momentum: f64) -> Result<(Tensor, Option<Statistics>)> {
    let channels = norm.scale.dims1()?;
    let column = [1, channels, 1];
    // `[batch, channels, pixels]`
    let flat = match *x.dims() {
        [rows, _] => x.reshape((rows, channels, 1))?,
        [batch, _, height, width] => x.reshape((batch, channels, height * width))?,
        _ => return Err(candle_core::Error::Msg(format!("batch norm of shape {:?}", x.dims())).into()),
    };
    if mode == Mode::Evaluate {
        let scale = (norm.scale / (norm.variance + EPSILON)?.sqrt()?)?;
        let shift = (norm.shift - (norm.mean * &scale)?)?;
        let y = flat.broadcast_mul(&scale.reshape(&column)?)?.broadcast_add(&shift.reshape(&column)?)?;
        return Ok((y.reshape(x.dims())?, None));
    }
    let count = x.elem_count() / channels.max(1);
    if count < 2 {
        let more = "batch normalisation in training needs more than one value per channel: use a larger batch";
        return Err(Error::Training(more.into()));
    }
    // Every image has as many pixels, so the mean of means is the mean.
    let mean_of = |x: &Tensor| -> Result<Tensor> { Ok(x.mean(2)?.mean(0)?) };
    let mean = mean_of(&flat)?;
    let centred = flat.broadcast_sub(&mean.reshape(&column)?)?;
    let variance = mean_of(&centred.sqr()?)?;
    let scale = (norm.scale / (&variance + EPSILON)?.sqrt()?)?;
    let y = centred.broadcast_mul(&scale.reshape(&column)?)?.broadcast_add(&norm.shift.reshape(&column)?)?;
    let moved = |old: &Tensor, new: &Tensor, by: f64| -> Result<Tensor> {
        Ok(((old.detach() * (1.0 - momentum))? + (new.detach() * (momentum * by))?)?)
    };
    let statistics = Statistics {
        mean: moved(norm.mean, &mean, 1.0)?,
        variance: moved(norm.variance, &variance, count as f64 / (count - 1) as f64)?,
    };
    Ok((y.reshape(x.dims())?, Some(statistics)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn norm<'a>(scale: &'a Tensor, shift: &'a Tensor, mean: &'a Tensor, variance: &'a Tensor) -> BatchNorm<'a> {
        BatchNorm { scale, shift, mean, variance }
    }

    fn vector(numbers: &[f32]) -> Tensor {
        Tensor::new(numbers, &Device::Cpu).unwrap()
    }

    #[test]
    fn rows_and_images_are_normalised_alike() -> Result<()> {
        let [scale, shift, mean, variance] =
            [&[2f32, 1.0], &[0.5, -1.0], &[0.0, 1.0], &[1.0, 4.0]].map(|numbers| vector(numbers));
        let norm = norm(&scale, &shift, &mean, &variance);
        let rows = Tensor::new(&[[1f32, 2.0], [3.0, 6.0], [5.0, 1.0], [-1.0, 0.0]], &Device::Cpu)?;
        // The same values as two images `[2, 1, 2]`.
        let images = rows.reshape((2, 2, 2))?.transpose(1, 2)?.contiguous()?.reshape((2, 2, 1, 2))?;
        for mode in [Mode::Evaluate, Mode::Train] {
            let (of_rows, a) = batch_norm(&rows, norm, mode, 0.1)?;
            let (of_images, b) = batch_norm(&images, norm, mode, 0.1)?;
            let back = of_images.reshape((2, 2, 2))?.transpose(1, 2)?.contiguous()?.reshape((4, 2))?;
            let off = (&of_rows - back)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off < 1e-6, "{mode:?}: {off}");
            let (Some(a), Some(b)) = (a, b) else {
                assert_eq!(mode, Mode::Evaluate);
                continue;
            };
            // The first channel has mean 2 and unbiased variance 20 / 3.
            let expected = [0.2, 0.9 + 0.1 * 20.0 / 3.0];
            for statistics in [a, b] {
                let found = [&statistics.mean, &statistics.variance].map(|t| t.to_vec1::<f32>().unwrap()[0]);
                assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn training_gives_gradients_and_needs_more_than_one_number() -> Result<()> {
        let [scale, shift] = [Var::new(&[1f32], &Device::Cpu)?, Var::new(&[0f32], &Device::Cpu)?];
        let (mean, variance) = (vector(&[0.0]), vector(&[1.0]));
        let norm = norm(scale.as_tensor(), shift.as_tensor(), &mean, &variance);
        let x = Var::new(&[[1f32], [2.0], [6.0]], &Device::Cpu)?;
        let (y, statistics) = batch_norm(x.as_tensor(), norm, Mode::Train, 0.1)?;
        let weights = Tensor::new(&[[1f32], [0.0], [0.0]], &Device::Cpu)?;
        let gradients = (y * weights)?.sum_all()?.backward()?;
        // (1 - 1/3 - z²/3) / sd with z = -2 / sd and sd² = 14/3.
        let sd = (14f32 / 3.0).sqrt();
        let expected = (1.0 - 1.0 / 3.0 - (4.0 / (14.0 / 3.0)) / 3.0) / sd;
        let found = gradients.get(x.as_tensor()).unwrap().flatten_all()?.to_vec1::<f32>()?[0];
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        assert!(gradients.get(scale.as_tensor()).is_some() && gradients.get(shift.as_tensor()).is_some());
        assert!(statistics.is_some_and(|s| !s.mean.track_op() && !s.variance.track_op()));
        assert!(batch_norm(&x.narrow(0, 0, 1)?, norm, Mode::Train, 0.1).is_err());
        Ok(())
    }
}
