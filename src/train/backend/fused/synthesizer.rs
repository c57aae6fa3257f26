//! A synthesizer on slices: what [`crate::dni::Synthesizer`] defines, forward and backward.

use candle_core::Tensor;

use super::{Fused, room};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::kernel::passes::{add_bias, bias_relu, multiply, relu_backward, sum_rows};
use crate::nn::kernel::{Matrix, MatrixMut, product};
use crate::nn::{Gradients, slices};

/// What a prediction keeps.
#[derive(Default)]
pub(super) struct Saved {
    asked: Option<(Tensor, Option<Tensor>)>,
    /// Activity of each hidden layer, `[rows, units]`.
    hidden: Vec<Vec<f32>>,
    /// The bias of the first layer, that of the context included.
    bias: Vec<f32>,
}

/// Buffers for learning.
#[derive(Default)]
pub(super) struct Scratch {
    /// What reaches a hidden layer, and the one below, `[rows, units]`.
    here: Vec<f32>,
    below: Vec<f32>,
}

/// Predicted gradients at states `[rows, width]`.
pub(super) fn predict(
    fused: &Fused,
    model: &Model,
    synthesizer: usize,
    states: &Tensor,
    context: Option<&Tensor>,
    saved: &mut Saved,
) -> Result<Tensor> {
    let slot = &model.synthesizers[synthesizer];
    let params = slices::read(model.params.flat())?;
    let of = |place: usize| &params[model.params.range(slot.params[place])];
    let (rows, width) = states.dims2()?;
    let sizes = &slot.shape.hidden;
    let first = sizes.first().copied().unwrap_or(slot.shape.state);
    if width != slot.shape.state || context.is_some() != slot.shape.context.is_some() {
        return Err(Error::Training("a synthesizer was asked about states that are not its own".into()));
    }
    let mut output = vec![0.0; rows * slot.shape.state];
    saved.hidden.resize_with(sizes.len(), Vec::new);
    saved.bias.clear();
    saved.bias.extend_from_slice(of(1));

    let to = saved.hidden.first_mut().map_or(&mut output[..], |hidden| room(hidden, rows * first));
    let input = slices::read(states)?;
    let weight = Matrix::new(of(0), first, width).t();
    product(MatrixMut::new(to, rows, first), Matrix::new(&input, rows, width), weight, false, fused.threads);
    let mut place = 2;
    if let (Some(context), Some(size)) = (context, slot.shape.context) {
        let context = slices::read(context)?;
        let weight = Matrix::new(of(2), first, size).t();
        product(MatrixMut::new(to, rows, first), Matrix::new(&context, rows, size), weight, true, fused.threads);
        saved.bias.iter_mut().zip(of(3)).for_each(|(bias, more)| *bias += more);
        place = 4;
    }
    match sizes.len() {
        0 => add_bias(fused.arch, to, &saved.bias),
        _ => bias_relu(fused.arch, to, &saved.bias),
    }
    for (k, &size) in sizes.iter().enumerate() {
        let (done, rest) = saved.hidden.split_at_mut(k + 1);
        let below = Matrix::new(&done[k], rows, size);
        let (weight, bias) = (of(place + 2 * k), of(place + 2 * k + 1));
        let units = bias.len();
        let weight = Matrix::new(weight, units, size).t();
        match rest.first_mut() {
            Some(next) => {
                let to = room(next, rows * units);
                product(MatrixMut::new(to, rows, units), below, weight, false, fused.threads);
                bias_relu(fused.arch, to, bias);
            }
            None => {
                product(MatrixMut::new(&mut output, rows, units), below, weight, false, fused.threads);
                add_bias(fused.arch, &mut output, bias);
            }
        }
    }
    saved.asked = Some((states.clone(), context.cloned()));
    Ok(Tensor::from_vec(output, (rows, slot.shape.state), model.device())?)
}

/// Adds the gradients of the parameters where `delivered`, `[rows, width]`, reaches the first rows of the output.
pub(super) fn learn(
    fused: &Fused,
    model: &Model,
    synthesizer: usize,
    saved: &Saved,
    delivered: &Tensor,
    gradients: &mut Gradients,
    scratch: &mut Scratch,
) -> Result<()> {
    let slot = &model.synthesizers[synthesizer];
    let params = slices::read(model.params.flat())?;
    let of = |place: usize| &params[model.params.range(slot.params[place])];
    let (rows, _) = delivered.dims2()?;
    let Some((states, context)) = &saved.asked else {
        return Err(Error::Training("a synthesizer that was not asked cannot learn".into()));
    };
    let (states, context) = (slices::read(states)?, context.as_ref().map(slices::read).transpose()?);
    let delivered = slices::read(delivered)?;
    let kept = slot.kept.as_ref().map(slices::read).transpose()?;
    let place = if slot.shape.context.is_some() { 4 } else { 2 };
    let threads = fused.threads;

    gradients.on_cpu(|mut gradients| {
        // A layer's gradients, from what reaches its outputs and what went in.
        let mut add = |place: usize, here: &[f32], units: usize, input: &[f32]| {
            let width = of(place).len() / units;
            let (to, add) = gradients.take(slot.params[place]);
            let (here_t, input) = (Matrix::new(here, rows, units).t(), Matrix::new(input, rows, width));
            product(MatrixMut::new(to, units, width), here_t, input, add, threads);
            if let (0, Some(kept)) = (place, &kept) {
                multiply(fused.arch, to, kept);
            }
            let (to, add) = gradients.take(slot.params[place + 1]);
            sum_rows(fused.arch, to, &here[..rows * units], add);
        };
        let sizes = &slot.shape.hidden;
        let mut here = &delivered[..];
        for (k, &size) in sizes.iter().enumerate().rev() {
            let units = sizes.get(k + 1).copied().unwrap_or(slot.shape.state);
            let hidden = &saved.hidden[k][..rows * size];
            add(place + 2 * k, here, units, hidden);
            let below = room(&mut scratch.below, rows * size);
            let weight = Matrix::new(of(place + 2 * k), units, size);
            product(MatrixMut::new(below, rows, size), Matrix::new(here, rows, units), weight, false, threads);
            relu_backward(fused.arch, below, hidden);
            std::mem::swap(&mut scratch.here, &mut scratch.below);
            here = &scratch.here;
        }
        let units = sizes.first().copied().unwrap_or(slot.shape.state);
        add(0, here, units, &states);
        if let Some(context) = &context {
            add(2, here, units, context);
        }
    })
}
