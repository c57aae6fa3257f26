//! A synthesizer that learns by temporal differences and eligibility traces: its last layer does, and no other.

use std::collections::HashMap;

use candle_core::Tensor;

use super::traces::Traces;
use crate::error::Result;
use crate::nn::kernel::{Matrix, MatrixMut, Threads, product};
use crate::nn::{Gradients, ParamStore, slices};
use crate::train::rules::network::values;
use crate::train::rules::{Stored, misfit};

/// How the last layer learns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Learning {
    /// Factor on the traces of earlier steps, γ λ.
    pub decay: f32,
    /// Whether the update of each parameter and step is at most 1 in norm, as published.
    pub capped: bool,
    /// The rate of its own gradient descent, in place of the optimizer.
    pub own_sgd: Option<f32>,
}

/// A hidden layer with rectified units.
struct Hidden {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

/// The synthesizer: hidden layers and a linear last one, of whose outputs `n` from `first` on are used.
pub(super) struct Head {
    indices: Vec<usize>,
    learning: Learning,
    first: usize,
    n: usize,
    hidden: Vec<Hidden>,
    /// `[outputs, units]`
    weight: Vec<f32>,
    bias: Vec<f32>,
    units: usize,
    traces: Traces,
    /// The sum of the updates since the last [`Head::finish`], `[n, units + 1]`.
    sum: Vec<f32>,
    has_learned: bool,
}

impl Head {
    pub(super) fn new(indices: &[usize], learning: Learning, first: usize, n: usize) -> Head {
        Head {
            indices: indices.to_vec(),
            learning,
            first,
            n,
            hidden: Vec::new(),
            weight: Vec::new(),
            bias: Vec::new(),
            units: 0,
            traces: Traces::new(n, learning.decay),
            sum: Vec::new(),
            has_learned: false,
        }
    }

    /// Copies the present values of its parameters.
    pub(super) fn load(&mut self, params: &ParamStore) -> Result<()> {
        self.hidden.clear();
        for pair in self.indices.chunks_exact(2) {
            let layer = Hidden { weight: values(params, pair[0])?, bias: values(params, pair[1])? };
            self.hidden.push(layer);
        }
        let last = self.hidden.pop().ok_or_else(|| misfit("synthesizer"))?;
        (self.weight, self.bias) = (last.weight, last.bias);
        self.units = self.weight.len() / self.bias.len();
        self.sum.resize(self.n * (self.units + 1), 0.0);
        Ok(())
    }

    /// The inputs of the last layer at states `[rows, width]`, and a 1: `[rows, units + 1]`.
    pub(super) fn features(&self, states: &[f32], width: usize) -> Vec<f32> {
        let (rows, mut values, mut inputs) = (states.len() / width, states.to_vec(), width);
        for layer in &self.hidden {
            let units = layer.bias.len();
            let mut next = layer.bias.repeat(rows);
            let (a, b) = (Matrix::new(&values, rows, inputs), Matrix::new(&layer.weight, units, inputs).t());
            product(MatrixMut::new(&mut next, rows, units), a, b, true, Threads(1));
            next.iter_mut().for_each(|unit| *unit = unit.max(0.0));
            (values, inputs) = (next, units);
        }
        values.chunks_exact(inputs).flat_map(|row| row.iter().copied().chain([1.0])).collect()
    }

    /// The predictions at features, `[rows, n]`.
    pub(super) fn predict(&self, features: &[f32]) -> Vec<f32> {
        let (units, used) = (self.units, self.first..self.first + self.n);
        let rows = features.len() / (units + 1);
        let mut out = self.bias[used.clone()].repeat(rows);
        let weight = &self.weight[used.start * units..used.end * units];
        let (a, b) = (Matrix::strided(features, rows, units, units + 1), Matrix::new(weight, self.n, units).t());
        product(MatrixMut::new(&mut out, rows, self.n), a, b, true, Threads(1));
        out
    }

    /// Zero traces, once the parameters are loaded.
    pub(super) fn begin(&mut self, rows: usize) {
        self.traces.begin(rows, self.units + 1);
    }

    /// Whether traces depend on earlier steps.
    pub(super) fn passes_on(&self) -> bool {
        self.traces.pass_on()
    }

    /// One update: `errors` are the TD errors, `[rows, n]`; `jacobians`, `[rows, n, n]`, and `features`, `[rows, units + 1]`,
    /// those of the step whose prediction was wrong by them.
    pub(super) fn learn(&mut self, errors: &[f32], jacobians: &[f32], features: &[f32]) {
        let (n, width) = (self.n, self.units + 1);
        self.traces.follow(jacobians, features);
        let mut update = vec![0.0; n * width];
        let rows = errors.len() / n;
        self.traces.add_update(errors, &mut update);
        update.iter_mut().for_each(|number| *number /= rows as f32);
        if self.learning.capped {
            cap(&mut update, width);
        }
        match self.learning.own_sgd {
            Some(rate) => self.descend(rate, &update),
            None => self.sum.iter_mut().zip(&update).for_each(|(sum, by)| *sum += by),
        }
        self.has_learned = true;
    }

    fn descend(&mut self, rate: f32, update: &[f32]) {
        let units = self.units;
        for (k, update) in update.chunks_exact(units + 1).enumerate() {
            let weight = &mut self.weight[(self.first + k) * units..][..units];
            weight.iter_mut().zip(update).for_each(|(weight, by)| *weight += rate * by);
            self.bias[self.first + k] += rate * update[units];
        }
    }

    /// Adds the gradients since the last call, or stores what its own descent has changed.
    pub(super) fn finish(&mut self, params: &ParamStore, gradients: &mut Gradients) -> Result<()> {
        let &[.., weight, bias] = self.indices.as_slice() else { return Err(misfit("synthesizer")) };
        if !std::mem::take(&mut self.has_learned) {
            return Ok(());
        }
        if self.learning.own_sgd.is_some() {
            slices::write(params.get(weight).value(), |values| values.copy_from_slice(&self.weight))?;
            return slices::write(params.get(bias).value(), |values| values.copy_from_slice(&self.bias));
        }
        let (units, first) = (self.units, self.first);
        gradients.on_cpu(|mut all| {
            let to = &mut all.sum(weight)[first * units..];
            for (to, sum) in to.chunks_exact_mut(units).zip(self.sum.chunks_exact(units + 1)) {
                to.iter_mut().zip(sum).for_each(|(to, by)| *to -= by);
            }
            let to = &mut all.sum(bias)[first..];
            to.iter_mut().zip(self.sum.chunks_exact(units + 1)).for_each(|(to, sum)| *to -= sum[units]);
        })?;
        self.sum.fill(0.0);
        Ok(())
    }

    pub(super) fn state(&self) -> Vec<Stored> {
        self.traces.state()
    }

    pub(super) fn restore(&mut self, stored: &HashMap<String, Tensor>) -> Result<()> {
        self.traces.restore(stored)
    }
}

/// Scales the weights, and the biases, of an update `[n, width]` down to norm 1, where they are above.
fn cap(update: &mut [f32], width: usize) {
    let squares = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
    let weights = update.chunks_exact(width).map(|row| squares(&row[..width - 1])).sum::<f64>().sqrt();
    let biases = update.chunks_exact(width).map(|row| squares(&row[width - 1..])).sum::<f64>().sqrt();
    for row in update.chunks_exact_mut(width) {
        let (of_weights, bias) = row.split_at_mut(width - 1);
        if weights > 1.0 {
            of_weights.iter_mut().for_each(|x| *x = (f64::from(*x) / weights) as f32);
        }
        if biases > 1.0 {
            bias.iter_mut().for_each(|x| *x = (f64::from(*x) / biases) as f32);
        }
    }
}
