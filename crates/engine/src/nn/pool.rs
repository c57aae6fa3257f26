//! Max pooling: with overlapping windows, for which candle has no gradient, and by tiles.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};

use super::kernel::window::{Plane, Window, largest, largest_backward};
use super::slices;
use crate::error::Result;

/// The windows of a ResNet's pool.
pub(crate) const POOL: Window = Window { size: 3, stride: 2, padding: 1 };

/// Max pooling with windows of 3 x 3 pixels, stride 2 and padding 1: halves height and width of `[batch, channels, height,
/// width]`, rounding up. On devices other than the CPU, padding counts as 0, so values below 0 become 0 at the borders.
///
/// # Errors
/// Fails for other shapes, or images without pixels.
pub fn max_pool(images: &Tensor) -> Result<Tensor> {
    let (_, channels, height, width) = images.dims4()?;
    if height * width * channels == 0 {
        return Err(candle_core::Error::Msg("max pooling of images without pixels".into()).into());
    }
    if images.device().is_cpu() && images.dtype() == DType::F32 {
        let plane = Plane { channels, height, width };
        return Ok(images.contiguous()?.apply_op1(Op { plane, window: POOL })?);
    }
    composed(images)
}

/// Max pooling of `[batch, channels, height, width]` by squares of `size` x `size` pixels without overlap; odd rows and columns
/// at the end are dropped. The gradient goes to the first pixel that has the maximum, as in PyTorch; on devices other than the CPU
/// it is divided among all of them.
///
/// # Errors
/// Fails for other shapes, or images smaller than a square.
pub fn max_pool_tiles(images: &Tensor, size: usize) -> Result<Tensor> {
    let (_, channels, height, width) = images.dims4()?;
    if channels * (height / size.max(1)) * (width / size.max(1)) == 0 {
        return Err(candle_core::Error::Msg(format!("max pooling of {:?} by {size} pixels", images.dims())).into());
    }
    if images.device().is_cpu() && images.dtype() == DType::F32 {
        let (plane, window) = (Plane { channels, height, width }, Window { size, stride: size, padding: 0 });
        return Ok(images.contiguous()?.apply_op1(Op { plane, window })?);
    }
    composed_tiles(images, size)
}

/// [`max_pool`] by tensor operations, for images without negative values.
fn composed(images: &Tensor) -> Result<Tensor> {
    let mut all = images.clone();
    for axis in [2, 3] {
        let count = POOL.count(all.dim(axis)?);
        // Pairs of pixels from each of three offsets; the first of a pair is in the window.
        let padded = all.pad_with_zeros(axis, 1, 2 * count + 1 - all.dim(axis)?)?;
        let pixel = |offset: usize| -> candle_core::Result<Tensor> {
            let line = padded.narrow(axis, offset, 2 * count)?;
            let mut dims = line.dims().to_vec();
            dims.splice(axis..=axis, [count, 2]);
            line.contiguous()?.reshape(dims)?.narrow(axis + 1, 0, 1)?.squeeze(axis + 1)
        };
        all = pixel(0)?.maximum(&pixel(1)?)?.maximum(&pixel(2)?)?;
    }
    Ok(all)
}

/// [`max_pool_tiles`] by tensor operations: candle's own pooling divides gradients by the number of pixels of a tile.
fn composed_tiles(images: &Tensor, size: usize) -> Result<Tensor> {
    let mut all = images.clone();
    for axis in [2, 3] {
        let count = all.dim(axis)? / size;
        let mut dims = all.dims().to_vec();
        dims.splice(axis..=axis, [count, size]);
        let tiles = all.narrow(axis, 0, count * size)?.contiguous()?.reshape(dims)?;
        let pixel = |offset: usize| tiles.narrow(axis + 1, offset, 1)?.squeeze(axis + 1);
        all = (1..size).try_fold(pixel(0)?, |largest, offset| largest.maximum(&pixel(offset)?))?;
    }
    Ok(all)
}

struct Op {
    plane: Plane,
    window: Window,
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(numbers), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("max pooling of a tensor that is not contiguous")
        };
        let after = self.plane.after(self.window, self.plane.channels);
        let batch = (end - start) / self.plane.numbers();
        let mut out = vec![0.0; batch * after.numbers()];
        for (image, out) in
            numbers[start..end].chunks_exact(self.plane.numbers()).zip(out.chunks_exact_mut(after.numbers()))
        {
            largest(image, self.plane, self.window, out);
        }
        Ok((CpuStorage::F32(out), (batch, after.channels, after.height, after.width).into()))
    }

    fn bwd(&self, images: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let slice = |tensor| slices::read(tensor).map_err(|error| candle_core::Error::Msg(error.to_string()));
        let gradient = gradient.contiguous()?;
        let (x, g) = (slice(images)?, slice(&gradient)?);
        let mut out = vec![0.0; x.len()];
        let (before, after) = (self.plane.numbers(), self.plane.after(self.window, self.plane.channels).numbers());
        for ((x, g), out) in x.chunks_exact(before).zip(g.chunks_exact(after)).zip(out.chunks_exact_mut(before)) {
            largest_backward(x, self.plane, self.window, g, out);
        }
        Tensor::from_vec(out, images.dims(), images.device()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// `[2, 3, height, width]`: distinct values, none of which is the 0 of the padding, so that the gradient is unique.
    fn images(height: usize, width: usize) -> Result<Var> {
        let numbers: Vec<f32> = (0..2 * 3 * height * width).map(|i| ((i * 7919) % 1009 + 1) as f32).collect();
        Ok(Var::from_tensor(&Tensor::from_vec(numbers, (2, 3, height, width), &Device::Cpu)?)?)
    }

    /// Compares two results, and the gradients of the images.
    fn agree(x: &Var, results: [Tensor; 2]) -> Result<()> {
        let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        assert_eq!(results[0].dims(), results[1].dims());
        assert_eq!(flat(&results[0])?, flat(&results[1])?);
        let gradients = results.map(|y| -> Result<Vec<f32>> {
            let weights: Vec<f32> = (0..y.elem_count()).map(|i| (i % 5) as f32 - 1.0).collect();
            let weights = Tensor::from_vec(weights, y.dims(), &Device::Cpu)?;
            let store = (&y * weights)?.sum_all()?.backward()?;
            Ok(store.get(x.as_tensor()).map(flat).transpose()?.unwrap_or_default())
        });
        let [own, composed] = gradients;
        assert_eq!(own?, composed?, "{:?}", x.dims());
        Ok(())
    }

    #[test]
    fn the_kernel_agrees_with_tensor_operations_forward_and_backward() -> Result<()> {
        for (height, width) in [(1, 1), (2, 3), (6, 5), (7, 8)] {
            let x = images(height, width)?;
            let own = max_pool(x.as_tensor())?;
            assert_eq!(own.dims(), [2, 3, height.div_ceil(2), width.div_ceil(2)]);
            agree(&x, [own, composed(x.as_tensor())?])?;
        }
        for (height, width, size) in [(1, 1, 1), (2, 3, 2), (6, 5, 2), (7, 9, 3)] {
            let x = images(height, width)?;
            agree(&x, [max_pool_tiles(x.as_tensor(), size)?, composed_tiles(x.as_tensor(), size)?])?;
        }
        Ok(())
    }
}
