//! Convolutions of tensors: on the CPU with their own backward pass (candle's uses a transposed convolution, which is many
//! times slower), on other devices candle's.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Shape, Tensor};
use pulp::Arch;

use super::kernel::convolution::{Convolution, Finish};
use super::kernel::window::{Plane, Window};
use super::{relu, slices};
use crate::error::Result;

/// The convolution of images `[batch, channels, height, width]` with weights `[outputs, channels, size, size]`; `stride`
/// and `padding` are in pixels.
///
/// # Errors
/// Fails if shapes do not match, or if no window fits into the padded image.
pub fn conv2d(images: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let convolution = convolution(images, weight, stride, padding)?;
    if !on_slices(images) {
        return Ok(images.conv2d(weight, padding, stride, 1, 1)?);
    }
    Ok(images.contiguous()?.apply_op2(&weight.contiguous()?, Op { convolution, rectify: false })?)
}

/// `relu(conv2d(images, weight) + bias)`, `bias` being `[outputs]`; the gradient of the rectifier at 0 is 0.
///
/// # Errors
/// As [`conv2d`].
pub fn conv2d_relu(images: &Tensor, weight: &Tensor, bias: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let convolution = convolution(images, weight, stride, padding)?;
    bias.dims1().and_then(|count| match count == convolution.outputs {
        true => Ok(()),
        false => candle_core::bail!("a convolution with {} outputs and {count} biases", convolution.outputs),
    })?;
    if !on_slices(images) {
        let sum = images.conv2d(weight, padding, stride, 1, 1)?;
        return relu(&sum.broadcast_add(&bias.reshape((1, convolution.outputs, 1, 1))?)?);
    }
    let op = Op { convolution, rectify: true };
    Ok(images.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?)
}

/// The gradients of a [`conv2d_relu`] on slices.
pub(crate) struct ConvGradients {
    /// `[batch, channels, height, width]`, if requested.
    pub(crate) images: Option<Tensor>,
    /// `[outputs, channels, size, size]`
    pub(crate) weight: Tensor,
    /// `[outputs]`
    pub(crate) bias: Tensor,
}

/// The gradients of `result = conv2d_relu(images, weight, ...)`, given that of the result, `[batch, outputs, height, width]`, outside of
/// candle's graph; for contiguous images and weights [on slices](on_slices).
///
/// # Errors
/// Fails if shapes do not match.
pub(crate) fn conv2d_relu_backward(
    (images, weight, result): (&Tensor, &Tensor, &Tensor),
    gradient: &Tensor,
    (stride, padding): (usize, usize),
    of_images: bool,
) -> Result<ConvGradients> {
    let op = Op { convolution: convolution(images, weight, stride, padding)?, rectify: true };
    Ok(op.backward((images, weight, result), gradient, of_images)?)
}

/// Whether convolutions of a tensor are computed here, on slices.
pub(crate) fn on_slices(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

fn convolution(images: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Convolution> {
    let (_, channels, height, width) = images.dims4()?;
    let (outputs, inputs, size, across) = weight.dims4()?;
    let window = Window { size, stride: stride.max(1), padding };
    let convolution = Convolution { plane: Plane { channels, height, width }, window, outputs };
    if inputs != channels || size != across || convolution.after().numbers() == 0 {
        let (images, weight) = (images.dims(), weight.dims());
        return Err(candle_core::Error::Msg(format!(
            "a convolution of {images:?} with weights {weight:?}, stride {stride} and padding {padding}"
        ))
        .into());
    }
    Ok(convolution)
}

/// A convolution of f32 images on the CPU.
#[derive(Debug, Clone, Copy)]
struct Op {
    convolution: Convolution,
    rectify: bool,
}

impl Op {
    fn forward(
        &self,
        images: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        shift: Option<(&CpuStorage, &Layout)>,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let shift = shift.map(numbers).transpose()?;
        let (images, weight) = (numbers(images)?, numbers(weight)?);
        let after = self.convolution.after();
        let batch = images.len() / self.convolution.plane.numbers();
        let finish = Finish { shift, rectify: self.rectify, ..Finish::default() };
        let out = self.convolution.forward(Arch::new(), images, weight, finish);
        Ok((CpuStorage::F32(out), (batch, after.channels, after.height, after.width).into()))
    }

    fn backward(
        &self,
        (images, weight, result): (&Tensor, &Tensor, &Tensor),
        gradient: &Tensor,
        of_images: bool,
    ) -> candle_core::Result<ConvGradients> {
        let slice = |tensor| slices::read(tensor).map_err(|error| candle_core::Error::Msg(error.to_string()));
        let gradient = gradient.contiguous()?;
        let (x, w, y) = (slice(images)?, slice(weight)?, slice(result)?);
        let rectified = self.rectify.then_some(&*y);
        let found = self.convolution.backward(Arch::new(), (&x, &w), rectified, &slice(&gradient)?, of_images);
        let device = images.device();
        Ok(ConvGradients {
            images: of_images.then(|| Tensor::from_vec(found.images, images.dims(), device)).transpose()?,
            weight: Tensor::from_vec(found.weight, weight.dims(), device)?,
            bias: Tensor::from_vec(found.shift, self.convolution.outputs, device)?,
        })
    }
}

/// The values of a contiguous f32 argument.
fn numbers<'a>((storage, layout): (&'a CpuStorage, &Layout)) -> candle_core::Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(numbers), Some((start, end))) => Ok(&numbers[start..end]),
        _ => candle_core::bail!("a convolution of a tensor that is not contiguous"),
    }
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward((s1, l1), (s2, l2), None)
    }

    fn bwd(
        &self,
        images: &Tensor,
        weight: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let found = self.backward((images, weight, result), gradient, images.track_op())?;
        Ok((found.images, Some(found.weight)))
    }
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "rectified convolution"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.forward((s1, l1), (s2, l2), Some((s3, l3)))
    }

    fn bwd(
        &self,
        images: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        result: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let found = self.backward((images, weight, result), gradient, images.track_op())?;
        Ok((found.images, Some(found.weight), Some(found.bias)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use proptest::prelude::*;

    fn numbers(dims: &[usize], by: f64) -> Var {
        let count: usize = dims.iter().product();
        let numbers: Vec<f32> = (0..count).map(|i| (i as f64 * by).sin() as f32).collect();
        Var::from_tensor(&Tensor::from_vec(numbers, dims, &Device::Cpu).unwrap()).unwrap()
    }

    fn close(what: &str, a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims(), "{what}");
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let largest = flat(b).iter().fold(1f32, |m, x| m.max(x.abs()));
        for (index, (a, b)) in flat(a).iter().zip(flat(b)).enumerate() {
            assert!((a - b).abs() <= 1e-5 * largest, "{what}, number {index}: {a}, not {b}");
        }
    }

    /// Compares forward and backward passes of images `[batch, inputs, height, width]` with candle's.
    fn agree(
        [batch, inputs, height, width]: [usize; 4],
        outputs: usize,
        (size, stride, padding): (usize, usize, usize),
    ) {
        let (x, w, b) = (
            numbers(&[batch, inputs, height, width], 0.7),
            numbers(&[outputs, inputs, size, size], 0.3),
            numbers(&[outputs], 1.1),
        );
        let weights = |y: &Tensor| numbers(y.dims(), 0.9).as_detached_tensor();
        let own = conv2d(x.as_tensor(), w.as_tensor(), stride, padding).unwrap();
        let theirs = x.conv2d(w.as_tensor(), padding, stride, 1, 1).unwrap();
        close("forward", &own, &theirs);
        let sum = theirs.broadcast_add(&b.reshape((1, outputs, 1, 1)).unwrap()).unwrap();
        let rectified = conv2d_relu(x.as_tensor(), w.as_tensor(), b.as_tensor(), stride, padding).unwrap();
        let composed = relu(&sum).unwrap();
        close("rectified", &rectified, &composed);
        for (name, own, theirs) in [("plain", own, theirs), ("rectified", rectified, composed)] {
            let [own, theirs] =
                [own, theirs].map(|y| (&y * weights(&y)).unwrap().sum_all().unwrap().backward().unwrap());
            for (of, var) in [("images", &x), ("weight", &w), ("bias", &b)] {
                match (own.get(var.as_tensor()), theirs.get(var.as_tensor())) {
                    (Some(own), Some(theirs)) => close(&format!("{name}: {of}"), own, theirs),
                    (None, None) => assert!(of == "bias" && name == "plain"),
                    _ => panic!("{name}: a gradient of {of} on one side only"),
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_candles_convolution_forward_and_backward(
            (batch, inputs, outputs) in (1..6usize, 1..4usize, 1..5usize), (height, width) in (1..9usize, 1..9usize),
            (size, stride, padding) in (1..4usize, 1..3usize, 0..2usize),
        ) {
            prop_assume!(height + 2 * padding >= size && width + 2 * padding >= size);
            // Candle's backward pass requires that windows leave out as many rows as columns at the border.
            let unseen = |extent: usize| (extent + 2 * padding - size) % stride;
            prop_assume!(unseen(height) == unseen(width));
            agree([batch, inputs, height, width], outputs, (size, stride, padding));
        }
    }

    /// Their windows, 144 x 1024, do not fit into a tile.
    #[test]
    fn images_larger_than_a_tile_are_convolved_in_parts() {
        for (side, stride) in [(32, 1), (64, 2)] {
            agree([2, 16, side, side], 3, (3, stride, 1));
        }
    }

    #[test]
    fn windows_that_halve_images_give_candles_convolution() {
        for (height, width) in [(8, 8), (2, 8), (6, 16), (4, 48), (32, 64)] {
            for batch in [1, 3, 5] {
                agree([batch, 2, height, width], 3, (3, 2, 1));
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (x, w, b) = (numbers(&[2, 2, 5, 4], 0.7), numbers(&[3, 2, 3, 3], 0.3), numbers(&[3], 1.1));
        let loss = |x: &Tensor, w: &Tensor, b: &Tensor| {
            let y = conv2d_relu(x, w, b, 2, 1).unwrap();
            (y.sqr().unwrap() * 0.5).unwrap().sum_all().unwrap()
        };
        let gradients = loss(x.as_tensor(), w.as_tensor(), b.as_tensor()).backward().unwrap();
        let step = 1e-2;
        for (which, var) in [&x, &w, &b].into_iter().enumerate() {
            let gradient = gradients.get(var.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for index in 0..values.len() {
                let at = |by: f32| {
                    let mut values = values.clone();
                    values[index] += by;
                    let moved = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
                    let mut all = [x.as_detached_tensor(), w.as_detached_tensor(), b.as_detached_tensor()];
                    all[which] = moved;
                    f64::from(loss(&all[0], &all[1], &all[2]).to_scalar::<f32>().unwrap())
                };
                let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
                // The loss is piecewise quadratic: differences are inexact where a piece ends within the step.
                let off = (slope - f64::from(gradient[index])).abs();
                assert!(off < 2e-2 * slope.abs().max(1.0), "argument {which}, {index}: {} {slope}", gradient[index]);
            }
        }
    }

    #[test]
    fn the_gradient_at_zero_is_zero_and_constants_have_none() {
        let x = Tensor::zeros((1, 1, 3, 3), DType::F32, &Device::Cpu).unwrap();
        let (w, b) = (numbers(&[2, 1, 3, 3], 0.3), Var::zeros(2, DType::F32, &Device::Cpu).unwrap());
        let y = conv2d_relu(&x, w.as_tensor(), b.as_tensor(), 1, 1).unwrap();
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(gradients.get(b.as_tensor()).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0]);
        assert!(gradients.get(&x).is_none());
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let x = Tensor::zeros((1, 3, 2, 2), DType::F32, &Device::Cpu).unwrap();
        for dims in [[4, 2, 1, 1], [4, 3, 5, 5], [4, 3, 1, 2]] {
            let w = Tensor::zeros(&dims, DType::F32, &Device::Cpu).unwrap();
            let error = conv2d(&x, &w, 1, 0).unwrap_err().to_string();
            assert!(error.contains("[1, 3, 2, 2]"), "{error}");
        }
    }
}
