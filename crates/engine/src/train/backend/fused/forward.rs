//! The forward pass: layer by layer, step by step.

use candle_core::Tensor;

use super::gates::{Gates, Packed};
use super::layout::Layout;
use super::{Fused, Outputs, Plan, Saved, SavedLayer, room};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::kernel::cells::StepMut;
use crate::nn::kernel::passes::{add_bias, copy_rows, multiply};
use crate::nn::kernel::{Matrix, MatrixMut, product};
use crate::nn::slices;
use crate::train::device_batch::{DeviceBatch, OnCpu};

/// Buffers of a forward pass.
#[derive(Default)]
pub(super) struct Scratch {
    packed: Packed,
    /// `[batch, hidden]`: the current state.
    h: Vec<f32>,
    c: Vec<f32>,
    /// Buffers of a step that is not saved: `[batch, inputs + 1]`, `[batch, blocks · hidden]`, `[batch, hidden]`.
    inputs: Vec<f32>,
    gates: Vec<f32>,
    tanh_c: Vec<f32>,
    /// `[steps · batch, hidden]`: the outputs of the layer below, and of this one for the layer above.
    below: Vec<f32>,
    above: Vec<f32>,
}

pub(super) fn run(
    fused: &Fused,
    model: &Model,
    sequence: &DeviceBatch,
    plan: Plan<'_>,
    start: &[Tensor],
    saved: &mut Saved,
    scratch: &mut Scratch,
) -> Result<Outputs> {
    let batch = sequence.rows().count;
    saved.layout = Layout::new(plan, batch);
    saved.layers.resize_with(model.layers.len(), SavedLayer::default);
    let params = slices::read(model.params.flat())?;
    let inputs = sequence.on_cpu()?;
    let table = model.embedding_index().map_or(&[][..], |index| &params[model.params.range(index)]);
    let mut boundaries = Vec::with_capacity(model.layers.len());
    for (k, layer) in model.layers.iter().enumerate() {
        let gates = Gates::new(model, layer)?;
        if k == 0 && gates.inputs != sequence.width() {
            return Err(Error::Training(format!(
                "the task's inputs have {} features, the network expects {}",
                sequence.width(),
                gates.inputs
            )));
        }
        gates.pack(model, &params, &mut scratch.packed);
        let above = k + 1 < model.layers.len();
        let pass = Pass { fused, plan, inputs: &inputs, table, layout: &saved.layout, gates, layer: k, above };
        let (width, start) = (gates.state_width(), slices::read(&start[k])?);
        let states = pass.run(&start, &mut saved.layers[k], &mut saved.top, scratch);
        boundaries.push(Tensor::from_vec(states, (plan.windows.len() + 1, batch, width), model.device())?);
        std::mem::swap(&mut scratch.below, &mut scratch.above);
    }
    if plan.outputs.is_empty() {
        return Ok(Outputs { readout: None, boundaries });
    }
    let [weight, bias] = model.readout_indices()?.map(|index| &params[model.params.range(index)]);
    let (rows, width) = (plan.outputs.len() * batch, bias.len());
    let hidden = weight.len() / width;
    let mut outputs = vec![0.0; rows * width];
    let top = Matrix::new(&saved.top[..rows * hidden], rows, hidden);
    let weight = Matrix::new(weight, width, hidden).t();
    product(MatrixMut::new(&mut outputs, rows, width), top, weight, false, fused.threads);
    add_bias(fused.arch, &mut outputs, bias);
    let outputs = Tensor::from_vec(outputs, (plan.outputs.len(), batch, width), model.device())?;
    Ok(Outputs { readout: Some(outputs), boundaries })
}

struct Pass<'a> {
    fused: &'a Fused,
    plan: Plan<'a>,
    inputs: &'a OnCpu<'a>,
    table: &'a [f32],
    layout: &'a Layout,
    gates: Gates<'a>,
    layer: usize,
    above: bool,
}

impl Pass<'_> {
    /// Runs the layer from the joined states `start`, and returns those at the boundaries, `[windows + 1, batch, width]`.
    fn run(&self, start: &[f32], saved: &mut SavedLayer, top: &mut Vec<f32>, scratch: &mut Scratch) -> Vec<f32> {
        let (batch, n) = (self.layout.batch, self.gates.hidden);
        let (width, columns, cells) = (self.gates.state_width(), self.gates.width(), self.gates.cell_width());
        let inputs = self.gates.inputs;
        let rows = self.layout.rows();
        room(&mut saved.gates, rows * columns);
        room(&mut saved.inputs, rows * self.gates.input_width());
        room(&mut saved.c_before, rows * cells);
        room(&mut saved.tanh_c, rows * cells);
        room(&mut scratch.inputs, batch * (inputs + 1)).fill(1.0);
        room(&mut scratch.gates, batch * columns);
        room(&mut scratch.tanh_c, batch * cells);
        room(&mut scratch.above, if self.above { self.layout.steps().len() * batch * n } else { 0 });
        room(top, if self.above { 0 } else { self.plan.outputs.len() * batch * n });
        copy_rows(room(&mut scratch.h, batch * n), n, start, width, n);
        if cells > 0 {
            copy_rows(room(&mut scratch.c, batch * cells), cells, &start[n..], width, cells);
        }
        self.project(saved, scratch);

        let mut boundaries = vec![0.0; (self.plan.windows.len() + 1) * batch * width];
        let mut boundary = boundaries.chunks_exact_mut(batch * width);
        let mut outputs = self.plan.outputs.iter().copied().zip(top.chunks_exact_mut(batch * n)).peekable();
        let mut windows = self.plan.windows.iter().map(|window| window.start).peekable();
        for (at, step) in self.layout.steps().enumerate() {
            if windows.next_if_eq(&step).is_some()
                && let Some(boundary) = boundary.next()
            {
                self.join(scratch, boundary);
            }
            self.step(step, saved, scratch);
            let h = &scratch.h[..batch * n];
            if self.above {
                let above = &mut scratch.above[at * batch * n..][..batch * n];
                above.copy_from_slice(h);
                if let Some(mask) = self.inputs.layer_mask(self.layer, step) {
                    multiply(self.fused.arch, above, mask);
                }
            } else if let Some((_, top)) = outputs.next_if(|(output, _)| *output == step) {
                top.copy_from_slice(h);
                if let Some(mask) = self.inputs.layer_mask(self.layer, step) {
                    multiply(self.fused.arch, top, mask);
                }
            }
        }
        if let Some(boundary) = boundary.next() {
            self.join(scratch, boundary);
        }
        boundaries
    }

    /// The input projection of all steps that need a backward pass, biases included.
    fn project(&self, saved: &mut SavedLayer, scratch: &Scratch) {
        let (n, rows) = (self.gates.hidden, self.layout.rows());
        let (inputs, stride) = (self.gates.inputs, self.gates.input_width());
        if rows == 0 {
            return;
        }
        for (at, step) in self.layout.steps().enumerate() {
            let Some(here) = self.layout.rows_of(step) else { continue };
            let to = &mut saved.inputs[here.start * stride..here.end * stride];
            to.chunks_exact_mut(stride).for_each(|row| row[stride - 1] = 1.0);
            self.copy_input(at, step, &mut to[n..], stride, &scratch.below[..]);
        }
        let x = Matrix::strided(&saved.inputs[n..], rows, inputs + 1, stride);
        self.multiply_inputs(&mut saved.gates, rows, x, &scratch.packed);
    }

    /// Gates of `rows` rows from their inputs.
    fn multiply_inputs(&self, gates: &mut [f32], rows: usize, x: Matrix<'_>, packed: &Packed) {
        let (columns, width) = (self.gates.x_columns(), self.gates.width());
        let weights = Matrix::new(&packed.x, self.gates.inputs + 1, columns);
        product(MatrixMut::strided(gates, rows, columns, width), x, weights, false, self.fused.threads);
        if columns < width {
            gates[..rows * width].chunks_exact_mut(width).for_each(|row| row[columns..].fill(0.0));
        }
    }

    /// Copies the input of step number `at` of the span.
    fn copy_input(&self, at: usize, step: usize, to: &mut [f32], stride: usize, below: &[f32]) {
        let (batch, inputs) = (self.layout.batch, self.gates.inputs);
        match self.layer {
            0 => self.inputs.copy_input(step, self.table, to, stride),
            _ => copy_rows(to, stride, &below[at * batch * inputs..][..batch * inputs], inputs, inputs),
        }
    }

    /// Advances the state in `scratch` by one step.
    fn step(&self, step: usize, saved: &mut SavedLayer, scratch: &mut Scratch) {
        let (batch, n, inputs) = (self.layout.batch, self.gates.hidden, self.gates.inputs);
        let (columns, cells, stride) = (self.gates.width(), self.gates.cell_width(), self.gates.input_width());
        let size = batch * n;
        let (gates, tanh_c) = match self.layout.rows_of(step) {
            Some(rows) => {
                copy_rows(&mut saved.inputs[rows.start * stride..rows.end * stride], stride, &scratch.h[..size], n, n);
                let cells = rows.start * cells..rows.end * cells;
                saved.c_before[cells.clone()].copy_from_slice(&scratch.c[..cells.len()]);
                (&mut saved.gates[rows.start * columns..rows.end * columns], &mut saved.tanh_c[cells])
            }
            None => {
                let mut to = std::mem::take(&mut scratch.inputs);
                let at = step - self.layout.steps().start;
                self.copy_input(at, step, &mut to[..batch * (inputs + 1)], inputs + 1, &scratch.below);
                let x = Matrix::new(&to, batch, inputs + 1);
                self.multiply_inputs(&mut scratch.gates, batch, x, &scratch.packed);
                scratch.inputs = to;
                (&mut scratch.gates[..batch * columns], &mut scratch.tanh_c[..batch * cells])
            }
        };
        let here = self.gates.h_columns();
        let weights = Matrix::new(&scratch.packed.h, n, here.len());
        let out = MatrixMut::strided(&mut gates[here.start..], batch, here.len(), columns);
        product(out, Matrix::new(&scratch.h, batch, n), weights, true, self.fused.threads);
        let c = &mut scratch.c[..batch * cells];
        let separate_bias = &scratch.packed.separate_bias;
        let state = StepMut { gates, h: &mut scratch.h[..size], c, tanh_c, separate_bias };
        self.gates.cell.forward(self.fused.arch, n, state);
    }

    fn join(&self, scratch: &Scratch, joined: &mut [f32]) {
        let (n, width) = (self.gates.hidden, self.gates.state_width());
        copy_rows(joined, width, &scratch.h, n, n);
        if width > n {
            copy_rows(&mut joined[n..], width, &scratch.c, width - n, width - n);
        }
    }
}
