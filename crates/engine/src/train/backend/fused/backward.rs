//! The backward pass: layer by layer from the top, all windows side by side, offset by offset from their ends.

use std::ops::Range;

use candle_core::Tensor;
use pulp::Arch;

use super::gates::Gates;
use super::layout::Layout;
use super::{Cotangents, Fused, InputGradients, Pass as ForwardPass, Plan, Saved, SavedLayer, room};
use crate::error::Result;
use crate::model::Model;
use crate::nn::kernel::cells::{Kept, StepBack};
use crate::nn::kernel::passes::{copy_rows, multiply, scale_rows, sum_rows};
use crate::nn::kernel::{Matrix, MatrixMut, Threads, cut, product};
use crate::nn::{Gradients, slices};
use crate::train::device_batch::{DeviceBatch, OnCpu};
use crate::train::rows::Rows;

/// Buffers of a backward pass.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[rows, hidden]`: the gradient at `h` at each step, from outputs and upper layers.
    dh_here: Vec<f32>,
    /// `[rows, inputs]`: the gradient at a layer's inputs.
    dx: Vec<f32>,
    /// `[windows · batch, hidden]`: the gradient at the state from later steps.
    dh: Vec<f32>,
    dc: Vec<f32>,
    weights: Vec<f32>,
    /// The gradient at the outputs, weighted by row multiplicity.
    outputs: Vec<f32>,
}

/// Backpropagates through the stack: accumulates into `gradients` and returns the gradients at the inputs.
pub(super) fn run(
    pass: &mut ForwardPass<'_>,
    cotangents: &Cotangents,
    mut gradients: Option<&mut Gradients>,
    scratch: &mut Scratch,
) -> Result<InputGradients> {
    let ForwardPass { fused, model, sequence, plan, saved } = pass;
    let (fused, model, sequence, plan) = (*fused, *model, *sequence, *plan);
    let params = slices::read(model.params.flat())?;
    let inputs = sequence.on_cpu()?;
    let Saved { layout, layers, top } = &mut **saved;
    // A layer that no cotangent reaches has no gradient, which is not the same as zero.
    let mut reached = false;
    if let (Some(cotangent), Some(last)) = (&cotangents.outputs, model.layers.last()) {
        let cotangent = slices::read(cotangent)?;
        reached = true;
        let [weight, _] = model.readout_indices()?.map(|index| &params[model.params.range(index)]);
        let readout = Readout { fused, model, plan, layout, cotangent: &cotangent, hidden: last.hidden };
        readout.pass_down(weight, scratch);
        mask_outputs(fused, &inputs, layout, model.layers.len() - 1, last.hidden, scratch);
        if let Some(gradients) = gradients.as_deref_mut() {
            readout.add_gradients(top, sequence.rows(), scratch, gradients)?;
        }
    }
    let mut starts = Vec::with_capacity(model.layers.len());
    let mut feature = None;
    for (k, layer) in model.layers.iter().enumerate().rev() {
        let gates = Gates::new(model, layer)?;
        let ends = cotangents.ends.get(k).and_then(Option::as_ref);
        if !reached && ends.is_none() && cotangents.activity == 0.0 {
            starts.extend(zeros(cotangents.starts, layout.starts(), gates.state_width(), model)?);
            continue;
        }
        if !reached {
            room(&mut scratch.dh_here, layout.rows() * gates.hidden).fill(0.0);
        }
        reached = true;
        let ends = ends.map(slices::read).transpose()?;
        let pass = Pass { fused, layout, rows: sequence.rows(), gates, cotangents, ends: ends.as_deref() };
        let saved = &mut layers[k];
        let weight_hh = gates.weight_hh(model, &params);
        if let Some(gradient) = pass.scan(weight_hh, saved, scratch) {
            let shape = (layout.starts(), gates.state_width());
            starts.push(Tensor::from_vec(gradient, shape, model.device())?);
        }
        let embeds = k == 0 && model.embedding_index().is_some();
        if k > 0 || (embeds && gradients.is_some()) {
            pass.pass_down(&gates.weight_ih(model, &params), saved, scratch);
        }
        if let Some(gradients) = gradients.as_deref_mut() {
            pass.add_gradients(saved, scratch, gradients)?;
            if embeds {
                add_embedding_gradient(model, sequence, &inputs, layout, scratch, gradients)?;
                feature = at_feature(model, sequence, &inputs, layout, scratch)?;
            }
        }
        if k > 0 {
            // The gradient at this layer's inputs is that at the outputs of the layer below, after dropout.
            std::mem::swap(&mut scratch.dx, &mut scratch.dh_here);
            mask_outputs(fused, &inputs, layout, k - 1, gates.inputs, scratch);
        }
    }
    starts.reverse();
    Ok(InputGradients { starts, feature, inputs: Vec::new() })
}

/// Multiplies the gradient at the outputs of a layer of `hidden` units, after dropout, by the dropout mask.
fn mask_outputs(
    fused: &Fused,
    inputs: &OnCpu<'_>,
    layout: &Layout,
    layer: usize,
    hidden: usize,
    scratch: &mut Scratch,
) {
    for step in layout.steps() {
        if let (Some(rows), Some(mask)) = (layout.rows_of(step), inputs.layer_mask(layer, step)) {
            multiply(fused.arch, &mut scratch.dh_here[rows.start * hidden..rows.end * hidden], mask);
        }
    }
}

/// The gradient at the feature before the tokens, if an encoder learns from it and its window needed a backward pass.
fn at_feature(
    model: &Model,
    sequence: &DeviceBatch,
    inputs: &OnCpu<'_>,
    layout: &Layout,
    scratch: &Scratch,
) -> Result<Option<Tensor>> {
    let first = layout.steps().find(|&step| step == 0).and_then(|step| layout.rows_of(step));
    let (Some(feature), Some(here)) = (sequence.learned_feature(), first) else { return Ok(None) };
    let width = sequence.width();
    let gradient = inputs.at_feature(&scratch.dx[here.start * width..here.end * width]);
    Ok(Some(Tensor::from_vec(gradient, feature.dims(), model.device())?))
}

/// The gradient at a start that no cotangent reaches, if requested.
fn zeros(wanted: bool, rows: usize, width: usize, model: &Model) -> Result<Option<Tensor>> {
    let zeros = || Tensor::zeros((rows, width), candle_core::DType::F32, model.device());
    Ok(wanted.then(zeros).transpose()?)
}

/// The backward pass through the readout.
struct Readout<'a> {
    fused: &'a Fused,
    model: &'a Model,
    plan: Plan<'a>,
    layout: &'a Layout,
    /// `[outputs, batch, width]`
    cotangent: &'a [f32],
    hidden: usize,
}

impl Readout<'_> {
    fn width(&self) -> usize {
        self.cotangent.len() / (self.plan.outputs.len() * self.layout.batch).max(1)
    }

    /// From the outputs to the top layer's `h`.
    fn pass_down(&self, weight: &[f32], scratch: &mut Scratch) {
        let (batch, n, width) = (self.layout.batch, self.hidden, self.width());
        let dh_here = room(&mut scratch.dh_here, self.layout.rows() * n);
        dh_here.fill(0.0);
        for (step, cotangent) in self.plan.outputs.iter().zip(self.cotangent.chunks_exact(batch * width)) {
            let Some(rows) = self.layout.rows_of(*step) else { continue };
            let to = MatrixMut::new(&mut dh_here[rows.start * n..rows.end * n], batch, n);
            let cotangent = Matrix::new(cotangent, batch, width);
            product(to, cotangent, Matrix::new(weight, width, n), false, self.fused.threads);
        }
    }

    fn add_gradients(&self, top: &[f32], rows: &Rows, scratch: &mut Scratch, gradients: &mut Gradients) -> Result<()> {
        let (count, n, width) = (self.plan.outputs.len() * self.layout.batch, self.hidden, self.width());
        let cotangent = match &rows.multiplicity {
            Some(multiplicity) => {
                let weighted = room(&mut scratch.outputs, self.cotangent.len());
                weighted.copy_from_slice(self.cotangent);
                scale_rows(self.fused.arch, weighted, width, multiplicity);
                &*weighted
            }
            None => self.cotangent,
        };
        let [weight, bias] = self.model.readout_indices()?;
        gradients.on_cpu(|mut gradients| {
            let (to, add) = gradients.take(weight);
            let (cotangent_t, top) = (Matrix::new(cotangent, count, width).t(), Matrix::new(top, count, n));
            product(MatrixMut::new(to, width, n), cotangent_t, top, add, self.fused.threads);
            let (to, add) = gradients.take(bias);
            sum_rows(self.fused.arch, to, cotangent, add);
        })
    }
}

/// The backward pass through one layer.
struct Pass<'a> {
    fused: &'a Fused,
    layout: &'a Layout,
    rows: &'a Rows,
    gates: Gates<'a>,
    cotangents: &'a Cotangents,
    /// `[windows · batch, width]`: the cotangents at the ends of the windows.
    ends: Option<&'a [f32]>,
}

impl Pass<'_> {
    /// Runs from the ends of the windows to their starts, and overwrites the gates with the gradients at their
    /// pre-activations. Returns the gradients at the starts, if requested.
    fn scan(&self, weight_hh: &[f32], saved: &mut SavedLayer, scratch: &mut Scratch) -> Option<Vec<f32>> {
        let (n, columns, cells) = (self.gates.hidden, self.gates.width(), self.gates.cell_width());
        let width = self.gates.state_width();
        if self.cotangents.activity > 0.0 {
            self.add_activity(saved, &mut scratch.dh_here);
        }
        let (starts, rows) = (self.layout.starts(), self.layout.rows());
        let dh = room(&mut scratch.dh, starts * n);
        let dc = room(&mut scratch.dc, starts * cells);
        let parts = self.fused.threads.parts(starts, rows * n * self.gates.h_columns().len());
        let scan = Scan {
            arch: self.fused.arch,
            layout: self.layout,
            gates: self.gates,
            to_starts: self.cotangents.starts,
            ends: self.ends,
            weight_hh,
            dh_here: &scratch.dh_here,
            inputs: &saved.inputs,
            c_before: &saved.c_before,
            tanh_c: &saved.tanh_c,
        };
        let mut gates: Vec<Vec<_>> = parts.iter().map(|_| Vec::with_capacity(self.layout.offsets.len())).collect();
        let mut rest = &mut saved.gates[..rows * columns];
        for offset in &self.layout.offsets {
            for (part, gates) in parts.iter().zip(&mut gates) {
                let (here, more) = rest.split_at_mut(within(part, offset.len()).len() * columns);
                gates.push(here);
                rest = more;
            }
        }
        let lanes = parts.iter().zip(gates).zip(cut(&mut *dh, n, &parts)).zip(cut(&mut *dc, cells, &parts));
        let lanes = lanes.map(|(((part, gates), dh), dc)| Lane { rows: part.clone(), gates, dh, dc });
        self.fused.threads.each(lanes, |lane| scan.run(lane));
        self.cotangents.starts.then(|| {
            let mut gradient = vec![0.0; starts * width];
            copy_rows(&mut gradient, width, dh, n, n);
            if cells > 0 {
                copy_rows(&mut gradient[n..], width, dc, cells, cells);
            }
            gradient
        })
    }

    /// From the gates to the layer's inputs.
    fn pass_down(&self, weight_ih: &[(std::ops::Range<usize>, &[f32])], saved: &SavedLayer, scratch: &mut Scratch) {
        let (rows, inputs, columns) = (self.layout.rows(), self.gates.inputs, self.gates.width());
        let dx = room(&mut scratch.dx, rows * inputs);
        for (run, (here, weight)) in weight_ih.iter().enumerate() {
            let gradient = Matrix::strided(&saved.gates[here.start..], rows, here.len(), columns);
            let weight = Matrix::new(weight, here.len(), inputs);
            product(MatrixMut::new(dx, rows, inputs), gradient, weight, run > 0, self.fused.threads);
        }
    }

    /// Gradients of the layer's parameters: one product over all rows, weighted by multiplicity.
    fn add_gradients(&self, saved: &mut SavedLayer, scratch: &mut Scratch, gradients: &mut Gradients) -> Result<()> {
        let (rows, columns, width) = (self.layout.rows(), self.gates.width(), self.gates.input_width());
        let gates = &mut saved.gates[..rows * columns];
        if let Some(multiplicity) = &self.rows.multiplicity {
            scale_rows(self.fused.arch, gates, columns, multiplicity);
        }
        let all = room(&mut scratch.weights, columns * width);
        let gradient = Matrix::new(gates, rows, columns).t();
        let inputs = Matrix::new(&saved.inputs, rows, width);
        product(MatrixMut::new(all, columns, width), gradient, inputs, false, self.fused.threads);
        gradients.on_cpu(|mut gradients| self.gates.scatter(all, &mut gradients))
    }

    /// Adds the gradient of `a · mean(h²)` over each window's steps, the sequences and the units.
    fn add_activity(&self, saved: &SavedLayer, dh_here: &mut [f32]) {
        let (n, columns, stride) = (self.gates.hidden, self.gates.width(), self.gates.input_width());
        let cells = self.gates.cell_width();
        let mut h = vec![0.0; n];
        for rows in &self.layout.offsets {
            for row in rows.clone() {
                let length = self.layout.lengths[(row - rows.start) / self.layout.batch];
                let count = (length * self.rows.sequences * n) as f64;
                let factor = (2.0 * self.cotangents.activity / count) as f32;
                let kept = Kept {
                    gates: &saved.gates[row * columns..][..columns],
                    tanh_c: &saved.tanh_c[row * cells..][..cells],
                    h_before: &saved.inputs[row * stride..][..n],
                };
                self.gates.cell.output(kept, &mut h);
                dh_here[row * n..][..n].iter_mut().zip(&h).for_each(|(dh, h)| *dh += factor * h);
            }
        }
    }
}

/// The steps of a backward pass, for any part of the rows.
struct Scan<'a> {
    arch: Arch,
    layout: &'a Layout,
    gates: Gates<'a>,
    /// Whether the gradients at the starts of the windows are needed.
    to_starts: bool,
    ends: Option<&'a [f32]>,
    weight_hh: &'a [f32],
    dh_here: &'a [f32],
    inputs: &'a [f32],
    c_before: &'a [f32],
    tanh_c: &'a [f32],
}

/// Some rows of the starts of the windows, on one thread.
struct Lane<'a> {
    rows: Range<usize>,
    /// The gates of these rows at each offset, as far as their windows are that long.
    gates: Vec<&'a mut [f32]>,
    dh: &'a mut [f32],
    dc: &'a mut [f32],
}

/// The part of `rows` that is below `count`.
fn within(rows: &Range<usize>, count: usize) -> Range<usize> {
    rows.start.min(count)..rows.end.min(count)
}

impl Scan<'_> {
    fn run(&self, mut lane: Lane<'_>) {
        let (n, columns, cells) = (self.gates.hidden, self.gates.width(), self.gates.cell_width());
        let stride = self.gates.input_width();
        let mut before = 0;
        for (offset, block) in self.layout.offsets.iter().enumerate().rev() {
            let rows = within(&lane.rows, block.len());
            self.start_windows(&mut lane, before, rows.len());
            before = rows.len();
            let here = block.start + rows.start..block.start + rows.end;
            let (dh, dc) = (&mut lane.dh[..rows.len() * n], &mut lane.dc[..rows.len() * cells]);
            let gates = &mut *lane.gates[offset];
            let step = StepBack {
                gates: &mut *gates,
                dh_here: &self.dh_here[here.start * n..here.end * n],
                dh: &mut *dh,
                dc,
                c_before: &self.c_before[here.start * cells..here.end * cells],
                tanh_c: &self.tanh_c[here.start * cells..here.end * cells],
                h_before: &self.inputs[here.start * stride..here.end * stride],
                stride,
            };
            self.gates.cell.backward(self.arch, n, step);
            if !rows.is_empty() && (offset > 0 || self.to_starts) {
                let state = self.gates.h_columns();
                let gradient = Matrix::strided(&gates[state.start..], rows.len(), state.len(), columns);
                let weight = Matrix::new(self.weight_hh, state.len(), n);
                // If the cell passes `h` on directly, `dh` already holds that part.
                let add = self.gates.blocks.passes_h;
                product(MatrixMut::new(dh, rows.len(), n), gradient, weight, add, Threads(1));
            }
        }
    }

    /// The gradients at the ends of the windows that end here: rows `from..to` of the lane.
    fn start_windows(&self, lane: &mut Lane<'_>, from: usize, to: usize) {
        let (n, cells, width) = (self.gates.hidden, self.gates.cell_width(), self.gates.state_width());
        let (dh, dc) = (&mut lane.dh[from * n..to * n], &mut lane.dc[from * cells..to * cells]);
        match self.ends {
            Some(ends) => {
                let ends = &ends[(lane.rows.start + from) * width..(lane.rows.start + to) * width];
                copy_rows(dh, n, ends, width, n);
                if cells > 0 && from < to {
                    copy_rows(dc, cells, &ends[n..], width, cells);
                }
            }
            None => {
                dh.fill(0.0);
                dc.fill(0.0);
            }
        }
    }
}

/// Accumulates the embedding's gradient over all steps whose input was looked up.
fn add_embedding_gradient(
    model: &Model,
    sequence: &DeviceBatch,
    inputs: &OnCpu<'_>,
    layout: &Layout,
    scratch: &mut Scratch,
    gradients: &mut Gradients,
) -> Result<()> {
    let looked_up = layout.steps().filter(|&step| sequence.looks_up(step));
    let looked_up: Vec<_> = looked_up.filter_map(|step| Some((step, layout.rows_of(step)?))).collect();
    let (Some(index), false) = (model.embedding_index(), looked_up.is_empty()) else { return Ok(()) };
    let multiplicity = sequence.rows().multiplicity.as_deref();
    let width = sequence.width();
    gradients.on_cpu(|mut gradients| {
        let table = gradients.sum(index);
        for (step, here) in looked_up {
            let gradient = &mut scratch.dx[here.start * width..here.end * width];
            inputs.add_to_embedding(step, gradient, multiplicity, table);
        }
    })
}
