//! The mapping between a layer's weights and the blocks of its gates.
//!
//! Weight rows are ordered by gate, as in PyTorch. A row of gates consists of the blocks that the cell's kernels expect
//! ([`Blocks`]), with the input's and the state's part in adjacent blocks each.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::model::{Layer, Model};
use crate::nn::Accumulator;
use crate::nn::kernel::cells::{Blocks, Kernels};
use crate::nn::kernel::{PASS, Threads, cut, transpose};

/// The sizes of a layer and the order of its blocks.
#[derive(Clone, Copy)]
pub(super) struct Gates<'a> {
    pub(super) cell: &'a dyn Kernels,
    pub(super) blocks: Blocks,
    pub(super) hidden: usize,
    pub(super) inputs: usize,
    state_width: usize,
    /// Indices of `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
    weights: [usize; 4],
}

/// A layer's weights, packed for the forward pass.
#[derive(Default)]
pub(super) struct Packed {
    /// `[inputs + 1, x columns]`: transposed, with the biases as the last row.
    pub(super) x: Vec<f32>,
    /// `[hidden, h columns]`: transposed.
    pub(super) h: Vec<f32>,
    /// Recurrent biases that are not part of the sums, by gate.
    pub(super) separate_bias: Vec<f32>,
}

impl<'a> Gates<'a> {
    pub(super) fn new(model: &Model, layer: &'a Layer) -> Result<Self> {
        let inputs = model.params.get(layer.weights[0]).dims().last().copied().unwrap_or(0);
        let cell = layer.cell.kernels().ok_or_else(|| Error::Training("a cell without kernels".into()))?;
        let (blocks, hidden, state_width) = (cell.blocks(), layer.hidden, layer.state_width());
        Ok(Gates { cell, blocks, hidden, inputs, state_width, weights: layer.weights })
    }

    /// Width of a row of gates.
    pub(super) fn width(&self) -> usize {
        self.blocks.count() * self.hidden
    }

    /// Width of a row of [`super::SavedLayer::inputs`].
    pub(super) fn input_width(&self) -> usize {
        self.hidden + self.inputs + 1
    }

    pub(super) fn x_columns(&self) -> usize {
        self.blocks.input.len() * self.hidden
    }

    pub(super) fn h_columns(&self) -> Range<usize> {
        let first = self.blocks.first * self.hidden;
        first..first + self.blocks.state.len() * self.hidden
    }

    /// Width of the state besides `h`.
    pub(super) fn cell_width(&self) -> usize {
        self.state_width - self.hidden
    }

    pub(super) fn state_width(&self) -> usize {
        self.state_width
    }

    pub(super) fn pack(&self, model: &Model, params: &[f32], packed: &mut Packed, threads: Threads) {
        let [w_ih, w_hh, b_ih, b_hh] = self.weights.map(|index| &params[model.params.range(index)]);
        let (n, inputs) = (self.hidden, self.inputs);
        let columns = self.x_columns();
        packed.x.resize((inputs + 1) * columns, 0.0);
        let (weights, biases) = packed.x.split_at_mut(inputs * columns);
        transpose_blocks(weights, w_ih, self.blocks.input, (n, inputs), threads);
        for (at, &block) in self.blocks.input.iter().enumerate() {
            for unit in 0..n {
                let row = block * n + unit;
                let recurrent = if self.blocks.separates_bias(block) { 0.0 } else { b_hh[row] };
                biases[at * n + unit] = b_ih[row] + recurrent;
            }
        }
        packed.h.resize(n * self.h_columns().len(), 0.0);
        transpose_blocks(&mut packed.h, w_hh, self.blocks.state, (n, n), threads);
        packed.separate_bias.clear();
        for &block in self.blocks.state.iter().filter(|&&block| self.blocks.separates_bias(block)) {
            packed.separate_bias.extend_from_slice(&b_hh[block * n..][..n]);
        }
    }

    /// PyTorch's `weight_hh`, whose rows are in the order of the state's part.
    pub(super) fn weight_hh<'p>(&self, model: &Model, params: &'p [f32]) -> &'p [f32] {
        &params[model.params.range(self.weights[1])]
    }

    /// PyTorch's `weight_ih` in runs of adjacent blocks: columns of the input's part, and the rows that belong to them.
    pub(super) fn weight_ih<'p>(&self, model: &Model, params: &'p [f32]) -> Vec<(Range<usize>, &'p [f32])> {
        let w_ih = &params[model.params.range(self.weights[0])];
        let size = self.hidden * self.inputs;
        let mut runs: Vec<(Range<usize>, &[f32])> = Vec::new();
        let mut at = 0;
        for run in self.blocks.input.chunk_by(|a, b| a + 1 == *b) {
            let columns = at * self.hidden..(at + run.len()) * self.hidden;
            runs.push((columns, &w_ih[run[0] * size..(run[0] + run.len()) * size]));
            at += run.len();
        }
        runs
    }

    /// Adds `[width, input width]`, the product of the gates' gradient with the inputs, to the weights' gradients.
    pub(super) fn scatter(&self, all: &[f32], gradients: &mut Accumulator<'_>) {
        let (n, inputs, width) = (self.hidden, self.inputs, self.input_width());
        let rows = |blocks: &'static [usize], first: usize| {
            blocks.iter().enumerate().flat_map(move |(at, &block)| {
                (0..n).map(move |unit| (block * n + unit, &all[((first + at) * n + unit) * width..][..width]))
            })
        };
        let [w_ih, w_hh, b_ih, b_hh] = self.weights;
        put(gradients.take(w_ih), inputs, rows(self.blocks.input, 0).map(|(row, from)| (row, &from[n..n + inputs])));
        put(gradients.take(w_hh), n, rows(self.blocks.state, self.blocks.first).map(|(row, from)| (row, &from[..n])));
        put(gradients.take(b_ih), 1, rows(self.blocks.input, 0).map(|(row, from)| (row, &from[n + inputs..])));
        put(
            gradients.take(b_hh),
            1,
            rows(self.blocks.state, self.blocks.first).map(|(row, from)| (row, &from[n + inputs..])),
        );
    }
}

/// Writes the weights of some gates, `[n, inputs]` each, side by side as columns: `[inputs, gates · n]`.
fn transpose_blocks(to: &mut [f32], weights: &[f32], gates: &[usize], (n, inputs): (usize, usize), threads: Threads) {
    let columns = gates.len() * n;
    let parts = threads.parts(inputs, inputs * columns * PASS);
    threads.each(parts.iter().zip(cut(to, columns, &parts)), |(part, to)| {
        for (at, &gate) in gates.iter().enumerate() {
            let from = &weights[gate * n * inputs + part.start..];
            transpose(&mut to[at * n..], from, inputs, part.len(), n, columns);
        }
    });
}

/// Writes rows of `width` numbers into a gradient, or adds them to it.
fn put<'a>((to, add): (&mut [f32], bool), width: usize, rows: impl Iterator<Item = (usize, &'a [f32])>) {
    for (row, from) in rows {
        let to = &mut to[row * width..][..width];
        match add {
            true => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
            false => to.copy_from_slice(from),
        }
    }
}
