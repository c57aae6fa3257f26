//! The network of a learning rule: one recurrent layer and its readout, and the derivatives of its steps.
//!
//! Weights of the layer are one matrix, `[gates · hidden, width]`, whose columns belong to `(h before, input, 1)`: the
//! *presynaptic* row of a step. Gradients have the same layout.

use std::sync::Arc;

use super::Scaling;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::cells::{Cell, MAX_GATES, MAX_PARTS, UnitStep};
use crate::nn::kernel::{Matrix, MatrixMut, Threads, product};
use crate::nn::{Gradients, ParamStore, slices};

/// Sizes of a network of one recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Units.
    pub hidden: usize,
    /// Gates of a unit.
    pub gates: usize,
    /// Parts of a unit's state: 1, or 2 for an LSTM (`h` and `c`).
    pub parts: usize,
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
}

impl Sizes {
    /// Those of a model with one recurrent layer.
    ///
    /// # Errors
    /// Fails if there are more layers.
    pub fn of(model: &Model) -> Result<Sizes> {
        let [layer] = model.layers.as_slice() else {
            return Err(Error::Usage("learning rules other than bptt are defined for one recurrent layer".into()));
        };
        let inputs = model.params.get(layer.weights[0]).dims()[1];
        let outputs = model.params.get(model.readout_indices()?[0]).dims()[0];
        let parts = layer.state_width() / layer.hidden;
        Ok(Sizes { hidden: layer.hidden, gates: layer.cell.gates(), parts, inputs, outputs })
    }

    /// Width of a presynaptic row: `hidden + inputs + 1`.
    pub fn width(&self) -> usize {
        self.hidden + self.inputs + 1
    }

    /// Width of a state: `parts · hidden`.
    pub fn state(&self) -> usize {
        self.parts * self.hidden
    }

    /// Number of sums, and of rows of the weights: `gates · hidden`.
    pub fn sums(&self) -> usize {
        self.gates * self.hidden
    }

    /// Number of recurrent weights.
    pub fn weights(&self) -> usize {
        self.sums() * self.width()
    }
}

/// A network with the present values of its parameters.
#[derive(Debug)]
pub struct Network {
    /// Its sizes.
    pub sizes: Sizes,
    cell: Arc<dyn Cell>,
    layer: [usize; 4],
    readout_indices: [usize; 2],
    /// `[gates · hidden, width]`
    pub recurrent: Vec<f32>,
    /// `[outputs, hidden]`
    pub readout: Vec<f32>,
    readout_bias: Vec<f32>,
}

/// One step of a network.
pub struct Forward {
    /// `[rows, width]`
    pub presynaptic: Vec<f32>,
    /// The state after the step, `[rows, parts · hidden]`.
    pub after: Vec<f32>,
    /// The derivatives of the state after the step.
    pub slopes: Slopes,
}

impl Network {
    /// A network without values.
    ///
    /// # Errors
    /// Fails if the model has more than one recurrent layer.
    pub fn new(model: &Model) -> Result<Network> {
        Ok(Network {
            sizes: Sizes::of(model)?,
            cell: model.layers[0].cell.clone(),
            layer: model.layers[0].weights,
            readout_indices: model.readout_indices()?,
            recurrent: Vec::new(),
            readout: Vec::new(),
            readout_bias: Vec::new(),
        })
    }

    /// Copies the present values of the parameters.
    ///
    /// # Errors
    /// Fails if they are not on the CPU.
    pub fn load(&mut self, params: &ParamStore) -> Result<()> {
        let (hidden, inputs, width) = (self.sizes.hidden, self.sizes.inputs, self.sizes.width());
        let [weight_ih, weight_hh, bias_ih, bias_hh] = self.layer.map(|index| values(params, index));
        let (weight_ih, weight_hh, bias_ih, bias_hh) = (weight_ih?, weight_hh?, bias_ih?, bias_hh?);
        self.recurrent.resize(self.sizes.weights(), 0.0);
        for (row, to) in self.recurrent.chunks_exact_mut(width).enumerate() {
            to[..hidden].copy_from_slice(&weight_hh[row * hidden..][..hidden]);
            to[hidden..width - 1].copy_from_slice(&weight_ih[row * inputs..][..inputs]);
            to[width - 1] = bias_ih[row] + bias_hh[row];
        }
        self.readout = values(params, self.readout_indices[0])?;
        self.readout_bias = values(params, self.readout_indices[1])?;
        Ok(())
    }

    /// One step of all rows from a state, `[rows, parts · hidden]`, and an input, `[rows, inputs]`.
    pub fn step(&self, state: &[f32], input: &[f32]) -> Forward {
        let Sizes { hidden, gates, parts, inputs, .. } = self.sizes;
        let (width, sums_width) = (self.sizes.width(), self.sizes.sums());
        let rows = state.len() / self.sizes.state();
        let mut presynaptic = vec![1.0; rows * width];
        for (row, to) in presynaptic.chunks_exact_mut(width).enumerate() {
            to[..hidden].copy_from_slice(&state[row * parts * hidden..][..hidden]);
            to[hidden..width - 1].copy_from_slice(&input[row * inputs..][..inputs]);
        }
        let mut sums = vec![0.0; rows * sums_width];
        let (a, b) = (Matrix::new(&presynaptic, rows, width), Matrix::new(&self.recurrent, sums_width, width).t());
        product(MatrixMut::new(&mut sums, rows, sums_width), a, b, false, Threads(1));
        let mut after = vec![0.0; state.len()];
        let mut slopes = Slopes::zero(rows, self.sizes);
        for row in 0..rows {
            for unit in 0..hidden {
                let mut of_unit = [0.0; MAX_GATES];
                for (gate, sum) in of_unit[..gates].iter_mut().enumerate() {
                    *sum = f64::from(sums[row * sums_width + gate * hidden + unit]);
                }
                let mut before = [0.0; MAX_PARTS];
                for (part, before) in before[..parts].iter_mut().enumerate() {
                    *before = f64::from(state[(row * parts + part) * hidden + unit]);
                }
                let step = self.unit(&of_unit[..gates], before);
                for part in 0..parts {
                    after[(row * parts + part) * hidden + unit] = step.next[part] as f32;
                }
                slopes.set(row * hidden + unit, &step);
            }
        }
        Forward { presynaptic, after, slopes }
    }

    /// The state after a step of one row, in double precision, for rules that take differences of nearby states.
    pub fn step_precisely(&self, state: &[f64], input: &[f32]) -> Vec<f64> {
        let Sizes { hidden, gates, parts, .. } = self.sizes;
        let width = self.sizes.width();
        let sum = |row: usize| -> f64 {
            let weights = &self.recurrent[row * width..][..width];
            let recurrent: f64 = weights.iter().zip(&state[..hidden]).map(|(w, h)| f64::from(*w) * h).sum();
            let inputs = weights[hidden..].iter().zip(input).map(|(w, x)| f64::from(*w) * f64::from(*x));
            recurrent + inputs.sum::<f64>() + f64::from(weights[width - 1])
        };
        let mut after = vec![0.0; parts * hidden];
        for unit in 0..hidden {
            let sums: Vec<f64> = (0..gates).map(|gate| sum(gate * hidden + unit)).collect();
            let mut before = [0.0; MAX_PARTS];
            (0..parts).for_each(|part| before[part] = state[part * hidden + unit]);
            let step = self.unit(&sums, before);
            (0..parts).for_each(|part| after[part * hidden + unit] = step.next[part]);
        }
        after
    }

    fn unit(&self, sums: &[f64], state: [f64; MAX_PARTS]) -> UnitStep {
        self.cell.pointwise().map(|cell| cell.unit(sums, state)).unwrap_or_default()
    }

    /// The outputs, `[rows, outputs]`, at a state.
    pub fn outputs(&self, state: &[f32]) -> Vec<f32> {
        let Sizes { hidden, outputs, .. } = self.sizes;
        let rows = state.len() / self.sizes.state();
        let mut out = self.readout_bias.repeat(rows);
        let (a, b) = (self.h(state, rows), Matrix::new(&self.readout, outputs, hidden).t());
        product(MatrixMut::new(&mut out, rows, outputs), a, b, true, Threads(1));
        out
    }

    fn h<'a>(&self, state: &'a [f32], rows: usize) -> Matrix<'a> {
        Matrix::strided(state, rows, self.sizes.hidden, self.sizes.state())
    }

    /// The gradient at `h`, `[rows, hidden]`, of the loss whose gradient at the outputs is `errors`, `[rows, outputs]`;
    /// `matrix` is the readout, or what takes its place on the way back, `[outputs, hidden]`.
    pub fn credit(&self, errors: &[f32], matrix: &[f32]) -> Vec<f32> {
        let Sizes { hidden, outputs, .. } = self.sizes;
        let rows = errors.len() / outputs;
        let mut credit = vec![0.0; rows * hidden];
        let (a, b) = (Matrix::new(errors, rows, outputs), Matrix::new(matrix, outputs, hidden));
        product(MatrixMut::new(&mut credit, rows, hidden), a, b, false, Threads(1));
        credit
    }

    /// Adds the readout's gradient, times `factor`, at a state.
    ///
    /// # Errors
    /// Fails if the gradients are not on the CPU.
    pub fn add_readout(&self, errors: &[f32], state: &[f32], factor: f32, gradients: &mut Gradients) -> Result<()> {
        let Sizes { hidden, outputs, .. } = self.sizes;
        let rows = errors.len() / outputs;
        let errors: Vec<f32> = errors.iter().map(|error| error * factor).collect();
        gradients.on_cpu(|mut all| {
            let weight = all.sum(self.readout_indices[0]);
            let (a, b) = (Matrix::new(&errors, rows, outputs).t(), self.h(state, rows));
            product(MatrixMut::new(weight, outputs, hidden), a, b, true, Threads(1));
            let bias = all.sum(self.readout_indices[1]);
            errors
                .chunks_exact(outputs)
                .for_each(|row| bias.iter_mut().zip(row).for_each(|(sum, error)| *sum += error));
        })
    }

    /// Adds a gradient of the recurrent weights, `[gates · hidden, width]`. Both biases have the same gradient, except in the
    /// published codes, where there is only one.
    ///
    /// # Errors
    /// Fails if the gradients are not on the CPU.
    pub fn add_recurrent(&self, sum: &[f32], scaling: Scaling, gradients: &mut Gradients) -> Result<()> {
        let (hidden, inputs, width) = (self.sizes.hidden, self.sizes.inputs, self.sizes.width());
        let [weight_ih, weight_hh, bias_ih, bias_hh] = self.layer;
        let doubled = if scaling.is_published() && self.sizes.parts > 1 { 2.0 } else { 1.0 };
        gradients.on_cpu(|mut all| {
            let mut add = |index: usize, columns: std::ops::Range<usize>, factor: f32| {
                let count = columns.len();
                let to = all.sum(index).chunks_exact_mut(count);
                for (to, from) in to.zip(sum.chunks_exact(width)) {
                    to.iter_mut().zip(&from[columns.clone()]).for_each(|(to, from)| *to += factor * from);
                }
            };
            add(weight_hh, 0..hidden, 1.0);
            add(weight_ih, hidden..hidden + inputs, 1.0);
            add(bias_ih, width - 1..width, doubled);
            if !scaling.is_published() {
                add(bias_hh, width - 1..width, 1.0);
            }
        })
    }
}

/// The values of a parameter.
///
/// # Errors
/// Fails if they are not on the CPU.
pub(super) fn values(params: &ParamStore, index: usize) -> Result<Vec<f32>> {
    Ok(slices::read(params.get(index).value())?.to_vec())
}

/// The derivatives of the states after a step, pointwise: in the sums and in the parts of the state before.
#[derive(Debug, Clone, PartialEq)]
pub struct Slopes {
    sizes: Sizes,
    rows: usize,
    /// `[parts, gates, rows, hidden]`
    by_sum: Vec<f32>,
    /// `[parts, parts, rows, hidden]`
    by_part: Vec<f32>,
    /// `[rows, hidden]`
    h_by_c: Vec<f32>,
}

impl Slopes {
    fn zero(rows: usize, sizes: Sizes) -> Slopes {
        let block = rows * sizes.hidden;
        let (by_sum, by_part) = (sizes.parts * sizes.gates, sizes.parts * sizes.parts);
        Slopes {
            sizes,
            rows,
            by_sum: vec![0.0; by_sum * block],
            by_part: vec![0.0; by_part * block],
            h_by_c: vec![0.0; block],
        }
    }

    fn set(&mut self, at: usize, step: &UnitStep) {
        let (Sizes { gates, parts, .. }, block) = (self.sizes, self.rows * self.sizes.hidden);
        for k in 0..parts {
            for g in 0..gates {
                self.by_sum[(k * gates + g) * block + at] = step.by_sum[k][g] as f32;
            }
            for l in 0..parts {
                self.by_part[(k * parts + l) * block + at] = step.by_part[k][l] as f32;
            }
        }
        self.h_by_c[at] = step.h_by_c as f32;
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Of part `k` of the state in the sum of gate `g`, `[rows, hidden]`.
    pub fn by_sum(&self, k: usize, g: usize) -> &[f32] {
        let block = self.rows * self.sizes.hidden;
        &self.by_sum[(k * self.sizes.gates + g) * block..][..block]
    }

    /// Of part `k` of the state in part `l` of the state before, the sums held constant, `[rows, hidden]`.
    pub fn by_part(&self, k: usize, l: usize) -> &[f32] {
        let block = self.rows * self.sizes.hidden;
        &self.by_part[(k * self.sizes.parts + l) * block..][..block]
    }

    /// Of `h` in `c` after the same step, the sums held constant, `[rows, hidden]`.
    pub fn h_by_c(&self) -> &[f32] {
        &self.h_by_c
    }

    /// The same without the paths from the sums to `h` that do not lead through `c`: the output gate of an LSTM.
    pub fn through_c(&self) -> Slopes {
        let mut slopes = self.clone();
        if self.sizes.parts > 1 {
            for g in 0..self.sizes.gates {
                let through: Vec<f32> = self.by_sum(1, g).iter().zip(&self.h_by_c).map(|(c, d)| c * d).collect();
                let block = through.len();
                slopes.by_sum[g * block..][..block].copy_from_slice(&through);
            }
        }
        slopes
    }

    /// A covector at the states after the step, `[rows, parts · hidden]`, to one at the sums, `[rows, gates · hidden]`.
    pub fn at_sums(&self, covector: &[f32]) -> Vec<f32> {
        let Sizes { hidden, gates, parts, .. } = self.sizes;
        let mut sums = vec![0.0; self.rows * gates * hidden];
        for k in 0..parts {
            for g in 0..gates {
                let slopes = self.by_sum(k, g);
                for row in 0..self.rows {
                    let to = &mut sums[(row * gates + g) * hidden..][..hidden];
                    let from = &covector[(row * parts + k) * hidden..][..hidden];
                    let slopes = &slopes[row * hidden..][..hidden];
                    to.iter_mut().zip(from.iter().zip(slopes)).for_each(|(to, (x, slope))| *to += x * slope);
                }
            }
        }
        sums
    }

    /// A covector `x` at the states after the step, `[rows, parts · hidden]`, to one at the states before: `x·J`.
    pub fn pull(&self, covector: &[f32], network: &Network) -> Vec<f32> {
        let Sizes { hidden, parts, .. } = self.sizes;
        let (sums, width) = (self.sizes.sums(), self.sizes.width());
        let mut before = vec![0.0; covector.len()];
        for k in 0..parts {
            for l in 0..parts {
                let slopes = self.by_part(k, l);
                for row in 0..self.rows {
                    let to = &mut before[(row * parts + l) * hidden..][..hidden];
                    let from = &covector[(row * parts + k) * hidden..][..hidden];
                    let slopes = &slopes[row * hidden..][..hidden];
                    to.iter_mut().zip(from.iter().zip(slopes)).for_each(|(to, (x, slope))| *to += x * slope);
                }
            }
        }
        let at_sums = self.at_sums(covector);
        let out = MatrixMut::strided(&mut before, self.rows, hidden, parts * hidden);
        let recurrent = Matrix::strided(&network.recurrent, sums, hidden, width);
        product(out, Matrix::new(&at_sums, self.rows, sums), recurrent, true, Threads(1));
        before
    }

    /// The Jacobians `∂ after / ∂ before` of all rows, `[rows, parts · hidden, parts · hidden]`.
    pub fn jacobians(&self, network: &Network) -> Vec<f32> {
        let Sizes { hidden, gates, parts, .. } = self.sizes;
        let (n, width) = (self.sizes.state(), self.sizes.width());
        let mut all = vec![0.0; self.rows * n * n];
        for (at, to) in all.chunks_exact_mut(n).enumerate() {
            let (row, k, unit) = (at / n, at % n / hidden, at % hidden);
            for g in 0..gates {
                let slope = self.by_sum(k, g)[row * hidden + unit];
                let weights = &network.recurrent[(g * hidden + unit) * width..][..hidden];
                to.iter_mut().zip(weights).for_each(|(to, weight)| *to += slope * weight);
            }
            for l in 0..parts {
                to[l * hidden + unit] += self.by_part(k, l)[row * hidden + unit];
            }
        }
        all
    }

    /// Multiplies the Jacobian `J` of one row, `∂ after / ∂ before`, with the columns of a matrix `[parts · hidden, columns]`.
    pub fn push(&self, row: usize, matrix: &[f32], network: &Network) -> Vec<f32> {
        let Sizes { hidden, gates, parts, .. } = self.sizes;
        let (sums, width) = (self.sizes.sums(), self.sizes.width());
        let columns = matrix.len() / (parts * hidden);
        let mut at_sums = vec![0.0; sums * columns];
        let (a, b) = (
            Matrix::strided(&network.recurrent, sums, hidden, width),
            Matrix::new(&matrix[..hidden * columns], hidden, columns),
        );
        product(MatrixMut::new(&mut at_sums, sums, columns), a, b, false, Threads(1));
        let mut after = vec![0.0; matrix.len()];
        for k in 0..parts {
            for unit in 0..hidden {
                let to = &mut after[(k * hidden + unit) * columns..][..columns];
                let mut add = |slope: f32, from: &[f32]| {
                    if slope != 0.0 {
                        to.iter_mut().zip(from).for_each(|(to, x)| *to += slope * x);
                    }
                };
                for g in 0..gates {
                    add(self.by_sum(k, g)[row * hidden + unit], &at_sums[(g * hidden + unit) * columns..][..columns]);
                }
                for l in 0..parts {
                    add(self.by_part(k, l)[row * hidden + unit], &matrix[(l * hidden + unit) * columns..][..columns]);
                }
            }
        }
        after
    }
}

/// Adds the outer products of signals at the sums, `[rows, sums]`, and presynaptic rows, `[rows, width]`, to a gradient.
pub fn add_outer(signals: &[f32], presynaptic: &[f32], sizes: Sizes, gradient: &mut [f32]) {
    let (sums, width) = (sizes.sums(), sizes.width());
    let rows = signals.len() / sums;
    let (a, b) = (Matrix::new(signals, rows, sums).t(), Matrix::new(presynaptic, rows, width));
    product(MatrixMut::new(gradient, sums, width), a, b, true, Threads(1));
}
