//! The forward and backward pass of the perceptron on slices on the CPU.

use candle_core::Tensor;

use super::Mlp;
use crate::dni::{Cpu, Prediction, StoredSynthesizer};
use crate::error::{Error, Result};
use crate::nn::kernel::passes::{add_bias, bias_relu, multiply, relu_backward, sum_rows};
use crate::nn::kernel::{Lent, Matrix, MatrixMut, product, room};
use crate::nn::{Gradients, slices};

/// Predicted gradients at states `[rows, state]`.
pub(super) fn predict<'a>(
    mlp: &'a Mlp,
    stored: StoredSynthesizer<'a>,
    cpu: Cpu<'a>,
    states: &Tensor,
    context: Option<&Tensor>,
) -> Result<Prediction<'a>> {
    let params = slices::read(stored.params.flat())?;
    let of = |place: usize| &params[stored.params.range(stored.indices[place])];
    let (rows, width) = states.dims2()?;
    let (sizes, output_width, first) = (&mlp.hidden, stored.site.output, mlp.first(stored.site));
    let context_dims = context.map(Tensor::dims2).transpose()?;
    if width != stored.site.state || context_dims != stored.site.context.map(|size| (rows, size)) {
        return Err(Error::Training("the synthesizer was built for states or a context of another width".into()));
    }
    let mut output = vec![0.0; rows * output_width];
    // Activity of each hidden layer, `[rows, units]`.
    let mut hidden: Vec<Lent<Vec<f32>>> = sizes.iter().map(|_| cpu.buffers.lend()).collect();
    let mut bias = cpu.buffers.lend();
    let bias = room(&mut bias, first);
    bias.copy_from_slice(of(1));

    let to = hidden.first_mut().map_or(&mut output[..], |hidden| room(hidden, rows * first));
    let input = slices::read(states)?;
    let weight = Matrix::new(of(0), first, width).t();
    product(MatrixMut::new(to, rows, first), Matrix::new(&input, rows, width), weight, false, cpu.threads);
    let mut place = 2;
    if let (Some(context), Some(size)) = (context, stored.site.context) {
        let context = slices::read(context)?;
        let weight = Matrix::new(of(2), first, size).t();
        product(MatrixMut::new(to, rows, first), Matrix::new(&context, rows, size), weight, true, cpu.threads);
        bias.iter_mut().zip(of(3)).for_each(|(bias, more)| *bias += more);
        place = 4;
    }
    match sizes.len() {
        0 => add_bias(cpu.arch, to, bias),
        _ => bias_relu(cpu.arch, to, bias),
    }
    for (k, &size) in sizes.iter().enumerate() {
        let (done, rest) = hidden.split_at_mut(k + 1);
        let below = Matrix::new(&done[k], rows, size);
        let (weight, bias) = (of(place + 2 * k), of(place + 2 * k + 1));
        let units = bias.len();
        let weight = Matrix::new(weight, units, size).t();
        match rest.first_mut() {
            Some(next) => {
                let to = room(next, rows * units);
                product(MatrixMut::new(to, rows, units), below, weight, false, cpu.threads);
                bias_relu(cpu.arch, to, bias);
            }
            None => {
                product(MatrixMut::new(&mut output, rows, units), below, weight, false, cpu.threads);
                add_bias(cpu.arch, &mut output, bias);
            }
        }
    }
    let pass = Pass { mlp, stored, cpu, states: states.clone(), context: context.cloned(), hidden };
    let pullback = move |cotangent: &Tensor, gradients: &mut Gradients| pass.backward(cotangent, gradients);
    let values = Tensor::from_vec(output, (rows, output_width), states.device())?;
    Ok(Prediction { values, pullback: Box::new(pullback) })
}

/// What the backward pass needs.
struct Pass<'a> {
    mlp: &'a Mlp,
    stored: StoredSynthesizer<'a>,
    cpu: Cpu<'a>,
    states: Tensor,
    context: Option<Tensor>,
    /// Activity of each hidden layer, `[rows, units]`.
    hidden: Vec<Lent<Vec<f32>>>,
}

impl Pass<'_> {
    /// Adds the gradients of the parameters, given the cotangent of the first rows of the output, `[rows, state]`.
    fn backward(&self, cotangent: &Tensor, gradients: &mut Gradients) -> Result<()> {
        let Pass { stored, cpu, .. } = self;
        let params = slices::read(stored.params.flat())?;
        let of = |place: usize| &params[stored.params.range(stored.indices[place])];
        let (rows, _) = cotangent.dims2()?;
        let (states, context) = (slices::read(&self.states)?, self.context.as_ref().map(slices::read).transpose()?);
        let cotangent = slices::read(cotangent)?;
        let kept = stored.kept.map(slices::read).transpose()?;
        let place = if context.is_some() { 4 } else { 2 };
        // Gradients at a hidden layer and at the one below, `[rows, units]`.
        let (mut current, mut below) = (cpu.buffers.lend(), cpu.buffers.lend());

        gradients.on_cpu(|mut gradients| {
            // A layer's gradients, from the gradient at its output and its input.
            let mut add = |place: usize, here: &[f32], units: usize, input: &[f32]| {
                let width = of(place).len() / units;
                let (to, add) = gradients.take(stored.indices[place]);
                let (here_t, input) = (Matrix::new(here, rows, units).t(), Matrix::new(input, rows, width));
                product(MatrixMut::new(to, units, width), here_t, input, add, cpu.threads);
                if let (0, Some(kept)) = (place, &kept) {
                    multiply(cpu.arch, to, kept);
                }
                let (to, add) = gradients.take(stored.indices[place + 1]);
                sum_rows(cpu.arch, to, &here[..rows * units], add);
            };
            let sizes = &self.mlp.hidden;
            let mut here = &cotangent[..];
            for (k, &size) in sizes.iter().enumerate().rev() {
                let units = sizes.get(k + 1).copied().unwrap_or(stored.site.output);
                let hidden = &self.hidden[k][..rows * size];
                add(place + 2 * k, here, units, hidden);
                let to = room(&mut below, rows * size);
                let weight = Matrix::new(of(place + 2 * k), units, size);
                product(MatrixMut::new(to, rows, size), Matrix::new(here, rows, units), weight, false, cpu.threads);
                relu_backward(cpu.arch, to, hidden);
                std::mem::swap(&mut current, &mut below);
                here = &current;
            }
            let units = self.mlp.first(stored.site);
            add(0, here, units, &states);
            if let Some(context) = &context {
                add(2, here, units, context);
            }
        })
    }
}
