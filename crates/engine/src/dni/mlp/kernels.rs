//! The forward and backward pass of the perceptron on slices on the CPU.

use std::ops::Range;

use candle_core::Tensor;
use pulp::Arch;

use super::Mlp;
use crate::dni::{Cpu, Prediction, StoredSynthesizer};
use crate::error::{Error, Result};
use crate::nn::kernel::passes::{add_bias, bias_relu, multiply, relu_backward, sum_rows};
use crate::nn::kernel::{Lent, Matrix, MatrixMut, Threads, cut, product, room};
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
    let output_width = stored.site.output;
    let context_dims = context.map(Tensor::dims2).transpose()?;
    if width != stored.site.state || context_dims != stored.site.context.map(|size| (rows, size)) {
        return Err(Error::Training("the synthesizer was built for states or a context of another width".into()));
    }
    let mut output = vec![0.0; rows * output_width];
    // Activity of each hidden layer, `[rows, units]`.
    let mut hidden: Vec<Lent<Vec<f32>>> = mlp.hidden.iter().map(|_| cpu.buffers.lend()).collect();
    let read_context = context.map(slices::read).transpose()?;
    let mut bias = of(1).to_vec();
    let (context_part, place) = match &read_context {
        Some(context) => {
            bias.iter_mut().zip(of(3)).for_each(|(bias, more)| *bias += more);
            (Some((&**context, of(2))), 4)
        }
        None => (None, 2),
    };
    let above = (0..mlp.hidden.len()).map(|k| (of(place + 2 * k), of(place + 2 * k + 1)));
    let layers = std::iter::once((of(0), &*bias)).chain(above).collect();
    let forward = Forward { arch: cpu.arch, states: &slices::read(states)?, context: context_part, layers };
    let parts = cpu.threads.parts(rows, rows * forward.layers.iter().map(|(weight, _)| weight.len()).sum::<usize>());
    let mut lanes: Vec<(Range<usize>, Vec<&mut [f32]>)> = parts.iter().map(|rows| (rows.clone(), Vec::new())).collect();
    let widths = mlp.hidden.iter().chain([&output_width]);
    let outputs = hidden.iter_mut().zip(&mlp.hidden).map(|(hidden, units)| room(hidden, rows * units));
    for (to, width) in outputs.chain([&mut *output]).zip(widths) {
        lanes.iter_mut().zip(cut(to, *width, &parts)).for_each(|((_, layers), part)| layers.push(part));
    }
    cpu.threads.each(lanes, |(rows, outputs)| forward.run(rows, outputs));
    let pass = Pass { mlp, stored, cpu, states: states.clone(), context: context.cloned(), hidden };
    let pullback = move |cotangent: &Tensor, gradients: &mut Gradients| pass.backward(cotangent, gradients);
    let values = Tensor::from_vec(output, (rows, output_width), states.device())?;
    Ok(Prediction { values, pullback: Box::new(pullback) })
}

/// The forward pass.
struct Forward<'a> {
    arch: Arch,
    /// `[rows, state]`
    states: &'a [f32],
    /// `[rows, size]`, and its weights in the first layer.
    context: Option<(&'a [f32], &'a [f32])>,
    /// Weight and bias of each layer.
    layers: Vec<(&'a [f32], &'a [f32])>,
}

impl Forward<'_> {
    /// Computes the output of every layer for some rows, `[rows, units]`.
    fn run(&self, rows: Range<usize>, mut outputs: Vec<&mut [f32]>) {
        let count = rows.len();
        for (k, (weight, bias)) in self.layers.iter().enumerate() {
            let (below, rest) = outputs.split_at_mut(k);
            let (to, units) = (&mut *rest[0], bias.len());
            let mut multiply = |weight: &[f32], input: &[f32], first: usize, add: bool| {
                let width = weight.len() / units;
                let input = Matrix::new(&input[first * width..], count, width);
                let weight = Matrix::new(weight, units, width).t();
                product(MatrixMut::new(to, count, units), input, weight, add, Threads(1));
            };
            match (below.last(), self.context) {
                (Some(below), _) => multiply(weight, below, 0, false),
                (None, context) => {
                    multiply(weight, self.states, rows.start, false);
                    context.into_iter().for_each(|(context, weight)| multiply(weight, context, rows.start, true));
                }
            }
            match k + 1 == self.layers.len() {
                true => add_bias(self.arch, to, bias),
                false => bias_relu(self.arch, to, bias),
            }
        }
    }
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
        let arch = cpu.arch;
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
                    multiply(arch, to, kept);
                }
                let (to, add) = gradients.take(stored.indices[place + 1]);
                sum_rows(arch, to, &here[..rows * units], add);
            };
            let sizes = &self.mlp.hidden;
            let mut here = &cotangent[..];
            for (k, &size) in sizes.iter().enumerate().rev() {
                let units = sizes.get(k + 1).copied().unwrap_or(stored.site.output);
                let hidden = &self.hidden[k][..rows * size];
                add(place + 2 * k, here, units, hidden);
                let to = room(&mut below, rows * size);
                let weight = Matrix::new(of(place + 2 * k), units, size);
                let parts = cpu.threads.parts(rows, rows * units * size);
                cpu.threads.each(parts.iter().zip(cut(to, size, &parts)), |(part, to)| {
                    let here = Matrix::new(&here[part.start * units..], part.len(), units);
                    product(MatrixMut::new(to, part.len(), size), here, weight, false, Threads(1));
                    relu_backward(arch, to, &hidden[part.start * size..]);
                });
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
