//! How a layer's weights and the blocks of its gates belong together.
//!
//! PyTorch's weights have their rows in the order i, f, g, o (lstm) and r, z, n (gru). The blocks of a row of gates are
//! those of [`crate::nn::kernel::cells`]: the gru's are n, r, z, b, so that the input's part (n, r, z) and the state's part
//! (r, z, and b of PyTorch's n) are adjacent blocks.

use std::ops::Range;

use crate::model::{Layer, Model};
use crate::nn::Accumulator;
use crate::nn::kernel::cells;
use crate::spec::Cell;

/// The sizes of a layer and the order of its blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gates {
    pub(super) cell: Cell,
    pub(super) hidden: usize,
    pub(super) inputs: usize,
    /// For each block of the input's part, which begins at the first, PyTorch's block.
    x_blocks: &'static [usize],
    /// For each block of the state's part PyTorch's block.
    h_blocks: &'static [usize],
    /// First block of the state's part.
    h_first: usize,
    /// Indices of `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
    weights: [usize; 4],
}

/// A layer's weights as its forward pass wants them.
#[derive(Default)]
pub(super) struct Packed {
    /// `[inputs + 1, x columns]`: transposed, the biases below.
    pub(super) x: Vec<f32>,
    /// `[hidden, h columns]`: transposed.
    pub(super) h: Vec<f32>,
    /// `[hidden]`, gru: the recurrent bias of n.
    pub(super) bias_n: Vec<f32>,
}

impl Gates {
    pub(super) fn new(model: &Model, layer: &Layer) -> Gates {
        let inputs = model.params.get(layer.weights[0]).dims().last().copied().unwrap_or(0);
        let (x_blocks, h_blocks, h_first): (&[_], &[_], _) = match layer.cell {
            Cell::Lstm => (&[0, 1, 2, 3], &[0, 1, 2, 3], 0),
            Cell::Gru => (&[2, 0, 1], &[0, 1, 2], 1),
            Cell::Tanh | Cell::Relu => (&[0], &[0], 0),
        };
        let (cell, hidden) = (layer.cell, layer.hidden);
        Gates { cell, hidden, inputs, x_blocks, h_blocks, h_first, weights: layer.weights }
    }

    /// Numbers in a row of gates.
    pub(super) fn width(&self) -> usize {
        cells::blocks(self.cell) * self.hidden
    }

    /// Numbers in a row of [`super::SavedLayer::inputs`].
    pub(super) fn input_width(&self) -> usize {
        self.hidden + self.inputs + 1
    }

    /// Columns of the input's part.
    pub(super) fn x_columns(&self) -> usize {
        self.x_blocks.len() * self.hidden
    }

    /// Columns of the state's part.
    pub(super) fn h_columns(&self) -> Range<usize> {
        let first = self.h_first * self.hidden;
        first..first + self.h_blocks.len() * self.hidden
    }

    /// The lstm's width of cells, 0 for others.
    pub(super) fn cell_width(&self) -> usize {
        if self.cell == Cell::Lstm { self.hidden } else { 0 }
    }

    /// Width of the joined state.
    pub(super) fn state_width(&self) -> usize {
        self.hidden + self.cell_width()
    }

    /// Whether the recurrent bias of a block is r's to multiply, and not part of a sum.
    fn multiplied(&self, block: usize) -> bool {
        self.cell == Cell::Gru && block == 2
    }

    /// Transposes the weights.
    pub(super) fn pack(&self, model: &Model, params: &[f32], packed: &mut Packed) {
        let [w_ih, w_hh, b_ih, b_hh] = self.weights.map(|index| &params[model.params.range(index)]);
        let (n, inputs) = (self.hidden, self.inputs);
        let columns = self.x_columns();
        packed.x.resize((inputs + 1) * columns, 0.0);
        for (at, &block) in self.x_blocks.iter().enumerate() {
            for unit in 0..n {
                let (column, row) = (at * n + unit, block * n + unit);
                for (input, weight) in w_ih[row * inputs..][..inputs].iter().enumerate() {
                    packed.x[input * columns + column] = *weight;
                }
                let recurrent = if self.multiplied(block) { 0.0 } else { b_hh[row] };
                packed.x[inputs * columns + column] = b_ih[row] + recurrent;
            }
        }
        let columns = self.h_columns().len();
        packed.h.resize(n * columns, 0.0);
        for (at, &block) in self.h_blocks.iter().enumerate() {
            for unit in 0..n {
                for (input, weight) in w_hh[(block * n + unit) * n..][..n].iter().enumerate() {
                    packed.h[input * columns + at * n + unit] = *weight;
                }
            }
        }
        packed.bias_n.clear();
        if self.cell == Cell::Gru {
            packed.bias_n.extend_from_slice(&b_hh[2 * n..]);
        }
    }

    /// PyTorch's `weight_hh`, whose rows are in the order of the state's part.
    pub(super) fn weight_hh<'a>(&self, model: &Model, params: &'a [f32]) -> &'a [f32] {
        &params[model.params.range(self.weights[1])]
    }

    /// PyTorch's `weight_ih` in runs of adjacent blocks: columns of the input's part, and the rows that belong to them.
    pub(super) fn weight_ih<'a>(&self, model: &Model, params: &'a [f32]) -> Vec<(Range<usize>, &'a [f32])> {
        let w_ih = &params[model.params.range(self.weights[0])];
        let size = self.hidden * self.inputs;
        let mut runs: Vec<(Range<usize>, &[f32])> = Vec::new();
        let mut at = 0;
        for run in self.x_blocks.chunk_by(|a, b| a + 1 == *b) {
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
        put(gradients.take(w_ih), inputs, rows(self.x_blocks, 0).map(|(row, from)| (row, &from[n..n + inputs])));
        put(gradients.take(w_hh), n, rows(self.h_blocks, self.h_first).map(|(row, from)| (row, &from[..n])));
        put(gradients.take(b_ih), 1, rows(self.x_blocks, 0).map(|(row, from)| (row, &from[n + inputs..])));
        put(gradients.take(b_hh), 1, rows(self.h_blocks, self.h_first).map(|(row, from)| (row, &from[n + inputs..])));
    }
}

/// Puts rows of `width` numbers into a gradient, or adds them to what is there.
fn put<'a>((to, add): (&mut [f32], bool), width: usize, rows: impl Iterator<Item = (usize, &'a [f32])>) {
    for (row, from) in rows {
        let to = &mut to[row * width..][..width];
        match add {
            true => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
            false => to.copy_from_slice(from),
        }
    }
}
