//! The forward pass: layer by layer, step by step.

use std::ops::Range;

use candle_core::Tensor;
use pulp::Arch;

use super::gates::{Gates, Packed};
use super::layout::Layout;
use super::{Fused, Outputs, Plan, Saved, SavedLayer, room};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::kernel::cells::StepMut;
use crate::nn::kernel::passes::{add_bias, copy_rows, multiply};
use crate::nn::kernel::{Matrix, MatrixMut, Threads, divide, product};
use crate::nn::slices;
use crate::train::device_batch::{DeviceBatch, OnCpu};

/// Buffers of a forward pass.
#[derive(Default)]
pub(super) struct Scratch {
    packed: Packed,
    lanes: Vec<LaneScratch>,
    /// `[steps · batch, hidden]`: the outputs of the layer below, and of this one for the layer above.
    below: Vec<f32>,
    above: Vec<f32>,
}

/// Buffers of a lane.
#[derive(Default)]
struct LaneScratch {
    /// `[rows, hidden]`: the current state.
    h: Vec<f32>,
    c: Vec<f32>,
    /// Buffers of a step that is not saved: `[rows, inputs + 1]`, `[rows, blocks · hidden]`, `[rows, hidden]`.
    inputs: Vec<f32>,
    gates: Vec<f32>,
    tanh_c: Vec<f32>,
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
        gates.pack(model, &params, &mut scratch.packed, fused.threads);
        let above = k + 1 < model.layers.len();
        let (width, start) = (gates.state_width(), slices::read(&start[k])?);
        let Scratch { packed, lanes, below, above: to_above } = &mut *scratch;
        let pass = Pass {
            arch: fused.arch,
            threads: fused.threads,
            plan,
            inputs: &inputs,
            table,
            layout: &saved.layout,
            gates,
            packed,
            layer: k,
            start: &start,
            below,
        };
        let states = pass.run(&mut saved.layers[k], above.then_some(to_above), &mut saved.top, lanes);
        boundaries.push(Tensor::from_vec(states, (plan.windows.len() + 1, batch, width), model.device())?);
        std::mem::swap(&mut scratch.below, &mut scratch.above);
    }
    if plan.outputs.is_empty() {
        return Ok(Outputs { readout: None, boundaries, feedback: Vec::new() });
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
    Ok(Outputs { readout: Some(outputs), boundaries, feedback: Vec::new() })
}

/// The forward pass of a layer.
struct Pass<'a> {
    arch: Arch,
    threads: Threads,
    plan: Plan<'a>,
    inputs: &'a OnCpu<'a>,
    table: &'a [f32],
    layout: &'a Layout,
    gates: Gates<'a>,
    packed: &'a Packed,
    layer: usize,
    /// `[batch, state]`: the states before the first step.
    start: &'a [f32],
    /// `[steps · batch, inputs]`: the outputs of the layer below; unused in the first.
    below: &'a [f32],
}

/// Some rows of the batch through all steps, on one thread. Blocks are those of the layout: one per step that is saved.
struct Lane<'a> {
    rows: Range<usize>,
    gates: Vec<&'a mut [f32]>,
    inputs: Vec<&'a mut [f32]>,
    c_before: Vec<&'a mut [f32]>,
    tanh_c: Vec<&'a mut [f32]>,
    /// Per step, `[rows, hidden]`: for the layer above, if there is one.
    above: Vec<&'a mut [f32]>,
    /// The same at the steps with outputs, in the top layer.
    top: Vec<&'a mut [f32]>,
    /// Per boundary, `[rows, state]`.
    boundaries: Vec<&'a mut [f32]>,
    /// Whether gates that are saved have the input's part, from one product for all steps.
    projected: bool,
    scratch: &'a mut LaneScratch,
}

impl Pass<'_> {
    /// Runs the layer, and returns the states at the boundaries, `[windows + 1, batch, width]`.
    fn run(
        &self,
        saved: &mut SavedLayer,
        above: Option<&mut Vec<f32>>,
        top: &mut Vec<f32>,
        scratch: &mut Vec<LaneScratch>,
    ) -> Vec<f32> {
        let (batch, n, rows, steps) = (self.layout.batch, self.gates.hidden, self.layout.rows(), self.layout.steps());
        let (width, columns, cells) = (self.gates.state_width(), self.gates.width(), self.gates.cell_width());
        let stride = self.gates.input_width();
        room(&mut saved.gates, rows * columns);
        room(&mut saved.inputs, rows * stride);
        let mut boundaries = vec![0.0; (self.plan.windows.len() + 1) * batch * width];

        let parts = self.threads.parts(batch, steps.len() * batch * (n + self.gates.inputs) * columns);
        let projected = parts.len() == 1;
        if projected {
            self.project(saved);
        }
        scratch.resize_with(parts.len().max(scratch.len()), LaneScratch::default);
        let blocks = self.layout.offsets.iter().map(|offset| offset.len() / batch.max(1)).sum();
        let saved_blocks = |numbers, width| divide(room(numbers, rows * width), blocks, width, &parts);
        let (above, outputs) = match above {
            Some(above) => (divide(room(above, steps.len() * batch * n), steps.len(), n, &parts), 0),
            None => (Vec::new(), self.plan.outputs.len()),
        };
        let mut above = above.into_iter();
        let mut top = divide(room(top, outputs * batch * n), outputs, n, &parts).into_iter();
        let mut gates = saved_blocks(&mut saved.gates, columns).into_iter();
        let mut inputs = saved_blocks(&mut saved.inputs, stride).into_iter();
        let mut c_before = saved_blocks(&mut saved.c_before, cells).into_iter();
        let mut tanh_c = saved_blocks(&mut saved.tanh_c, cells).into_iter();
        let mut states = divide(&mut boundaries, self.plan.windows.len() + 1, width, &parts).into_iter();
        let lanes = parts.iter().zip(scratch).map(|(rows, scratch)| Lane {
            rows: rows.clone(),
            gates: gates.next().unwrap_or_default(),
            inputs: inputs.next().unwrap_or_default(),
            c_before: c_before.next().unwrap_or_default(),
            tanh_c: tanh_c.next().unwrap_or_default(),
            above: above.next().unwrap_or_default(),
            top: top.next().unwrap_or_default(),
            boundaries: states.next().unwrap_or_default(),
            projected,
            scratch,
        });
        self.threads.each(lanes, |lane| self.run_lane(lane));
        boundaries
    }

    fn run_lane(&self, mut lane: Lane<'_>) {
        let (rows, n, inputs) = (lane.rows.len(), self.gates.hidden, self.gates.inputs);
        let (width, columns, cells) = (self.gates.state_width(), self.gates.width(), self.gates.cell_width());
        room(&mut lane.scratch.inputs, rows * (inputs + 1)).fill(1.0);
        room(&mut lane.scratch.gates, rows * columns);
        room(&mut lane.scratch.tanh_c, rows * cells);
        let start = &self.start[lane.rows.start * width..lane.rows.end * width];
        copy_rows(room(&mut lane.scratch.h, rows * n), n, start, width, n);
        if cells > 0 {
            copy_rows(room(&mut lane.scratch.c, rows * cells), cells, &start[n..], width, cells);
        }
        let mut windows = self.plan.windows.iter().map(|window| window.start).enumerate().peekable();
        let mut outputs = self.plan.outputs.iter().copied().enumerate().peekable();
        for (at, step) in self.layout.steps().enumerate() {
            if let Some((boundary, _)) = windows.next_if(|(_, start)| *start == step) {
                self.join(&mut lane, boundary);
            }
            self.step(step, &mut lane);
            let to = match lane.above.get_mut(at) {
                Some(above) => Some(above),
                None => outputs.next_if(|(_, output)| *output == step).and_then(|(output, _)| lane.top.get_mut(output)),
            };
            if let Some(to) = to {
                to.copy_from_slice(&lane.scratch.h[..rows * n]);
                if let Some(mask) = self.inputs.layer_mask(self.layer, step) {
                    multiply(self.arch, to, &mask[lane.rows.start * n..]);
                }
            }
        }
        self.join(&mut lane, self.plan.windows.len());
    }

    /// The input projection of all steps that need a backward pass, biases included.
    fn project(&self, saved: &mut SavedLayer) {
        let (n, rows) = (self.gates.hidden, self.layout.rows());
        let (inputs, stride) = (self.gates.inputs, self.gates.input_width());
        if rows == 0 {
            return;
        }
        for (at, step) in self.layout.steps().enumerate() {
            let Some(here) = self.layout.rows_of(step) else { continue };
            let to = &mut saved.inputs[here.start * stride..here.end * stride];
            to.chunks_exact_mut(stride).for_each(|row| row[stride - 1] = 1.0);
            self.copy_input(at, step, 0..self.layout.batch, &mut to[n..], stride);
        }
        let x = Matrix::strided(&saved.inputs[n..], rows, inputs + 1, stride);
        self.multiply_inputs(&mut saved.gates, rows, x, self.threads);
    }

    /// Gates of `rows` rows from their inputs.
    fn multiply_inputs(&self, gates: &mut [f32], rows: usize, x: Matrix<'_>, threads: Threads) {
        let (columns, width) = (self.gates.x_columns(), self.gates.width());
        let weights = Matrix::new(&self.packed.x, self.gates.inputs + 1, columns);
        product(MatrixMut::strided(gates, rows, columns, width), x, weights, false, threads);
        if columns < width {
            gates[..rows * width].chunks_exact_mut(width).for_each(|row| row[columns..].fill(0.0));
        }
    }

    /// Copies the input of step number `at` of the span to some rows of the batch.
    fn copy_input(&self, at: usize, step: usize, rows: Range<usize>, to: &mut [f32], stride: usize) {
        let (batch, inputs) = (self.layout.batch, self.gates.inputs);
        match self.layer {
            0 => self.inputs.copy_input(step, rows, self.table, to, stride),
            _ => {
                let rows = (at * batch + rows.start) * inputs..(at * batch + rows.end) * inputs;
                copy_rows(to, stride, &self.below[rows], inputs, inputs);
            }
        }
    }

    /// Advances the state of a lane by one step.
    fn step(&self, step: usize, lane: &mut Lane<'_>) {
        let (rows, n, inputs) = (lane.rows.len(), self.gates.hidden, self.gates.inputs);
        let (columns, cells, stride) = (self.gates.width(), self.gates.cell_width(), self.gates.input_width());
        let scratch = &mut *lane.scratch;
        let (size, at) = (rows * n, step - self.layout.steps().start);
        let (gates, tanh_c) = match self.layout.rows_of(step) {
            Some(here) => {
                let block = here.start / self.layout.batch;
                let to = &mut *lane.inputs[block];
                copy_rows(to, stride, &scratch.h[..size], n, n);
                if !lane.projected {
                    to.chunks_exact_mut(stride).for_each(|row| row[stride - 1] = 1.0);
                    self.copy_input(at, step, lane.rows.clone(), &mut to[n..], stride);
                    let x = Matrix::strided(&to[n..], rows, inputs + 1, stride);
                    self.multiply_inputs(lane.gates[block], rows, x, Threads(1));
                }
                lane.c_before[block].copy_from_slice(&scratch.c[..rows * cells]);
                (&mut *lane.gates[block], &mut *lane.tanh_c[block])
            }
            None => {
                let to = &mut scratch.inputs[..rows * (inputs + 1)];
                self.copy_input(at, step, lane.rows.clone(), to, inputs + 1);
                let x = Matrix::new(to, rows, inputs + 1);
                self.multiply_inputs(&mut scratch.gates, rows, x, Threads(1));
                (&mut scratch.gates[..rows * columns], &mut scratch.tanh_c[..rows * cells])
            }
        };
        let here = self.gates.h_columns();
        let weights = Matrix::new(&self.packed.h, n, here.len());
        let out = MatrixMut::strided(&mut gates[here.start..], rows, here.len(), columns);
        product(out, Matrix::new(&scratch.h, rows, n), weights, true, Threads(1));
        let c = &mut scratch.c[..rows * cells];
        let separate_bias = &self.packed.separate_bias;
        let state = StepMut { gates, h: &mut scratch.h[..size], c, tanh_c, separate_bias };
        self.gates.cell.forward(self.arch, n, state);
    }

    /// Writes the states of a lane at a boundary.
    fn join(&self, lane: &mut Lane<'_>, boundary: usize) {
        let (n, width) = (self.gates.hidden, self.gates.state_width());
        let joined = &mut *lane.boundaries[boundary];
        copy_rows(joined, width, &lane.scratch.h, n, n);
        if width > n {
            copy_rows(&mut joined[n..], width, &lane.scratch.c, width - n, width - n);
        }
    }
}
