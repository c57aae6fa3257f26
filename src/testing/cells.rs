//! A cell's step against finite differences, and its fast paths against the step.

use candle_core::{Device, Tensor, Var};
use serde_json::{Value, json};

use super::broken;
use super::learning::{Stop, values};
use crate::error::Result;

use crate::nn::cells::{Cell, CellWeights, State};
use crate::plugins::{Catalogue, Plugin};
use crate::rng::Stream;
use crate::spec::Spec;
use crate::tasks::{LineDraw, Task};
use crate::train::rows::{alternate, of_seed};
use crate::train::{Outcome, Plugins, Trainer};

const ROWS: usize = 2;
const HIDDEN: usize = 4;
const INPUTS: usize = 3;
const STEPS: usize = 3;

/// Half-width of the central differences, and the relative tolerance of gradients.
const STEP: f64 = 1e-6;
const TOLERANCE: f64 = 1e-6;

/// Tolerance of one step in single precision.
const SINGLE: f64 = 1e-5;

/// Tolerance of trained weights, relative where they are above 1.
const ROUNDING: f64 = 1e-4;

const ARGUMENTS: [&str; 6] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "the state", "the input"];

pub(super) fn check_step(kind: &str, cell: &dyn Cell) -> Result<()> {
    let (rows, width) = (cell.gates() * HIDDEN, cell.state_width(HIDDEN));
    let shapes: [&[usize]; 6] =
        [&[rows, INPUTS], &[rows, HIDDEN], &[rows], &[rows], &[ROWS, width], &[STEPS, ROWS, INPUTS]];
    let mut stream = Stream::new(1, "testing.cell", 0, 0);
    let mut random = |shape: &[usize]| -> Result<Tensor> {
        let count = shape.iter().product();
        let numbers: Vec<f64> = (0..count).map(|_| f64::from(stream.uniform(-0.9, 0.9))).collect();
        Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
    };
    let at = shapes.iter().map(|shape| random(shape)).collect::<Result<Vec<_>>>()?;
    let probe = random(&[STEPS, ROWS, width])?;
    let variables = at.iter().map(|value| Ok(Var::from_tensor(value)?)).collect::<Result<Vec<_>>>()?;
    let tracked: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
    let slopes = probed(kind, cell, &tracked, &probe)?.backward()?;
    for (index, variable) in variables.iter().enumerate() {
        let direction = random(shapes[index])?;
        let moved = |by: f64| -> Result<f64> {
            let mut at = at.clone();
            at[index] = (&at[index] + (&direction * by)?)?;
            Ok(probed(kind, cell, &at, &probe)?.to_scalar::<f64>()?)
        };
        let difference = (moved(STEP)? - moved(-STEP)?) / (2.0 * STEP);
        let slope = match slopes.get(variable) {
            Some(slope) => (slope * &direction)?.sum_all()?.to_scalar::<f64>()?,
            None => 0.0,
        };
        if !is_close(slope, difference, TOLERANCE) {
            let what = ARGUMENTS[index];
            return Err(broken(
                kind,
                format!("the gradient of a step at {what} is {slope}, and should be {difference}"),
            ));
        }
    }
    Ok(())
}

/// A step of several seeds at once is their steps, if it is computed at all: a run with `run.seed_batch` refuses other cells.
pub(super) fn check_seeds(kind: &str, cell: &dyn Cell) -> Result<()> {
    let (gates, width) = (cell.gates() * HIDDEN, cell.state_width(HIDDEN));
    let mut stream = Stream::new(1, "testing.seeds", 0, 0);
    let mut random = |shape: &[usize]| -> Result<[Tensor; 2]> {
        let count: usize = shape.iter().product();
        let mut one = || Tensor::from_vec((0..count).map(|_| stream.uniform(-0.9, 0.9)).collect(), shape, &Device::Cpu);
        Ok([one()?, one()?])
    };
    let (weight_ih, weight_hh) = (random(&[gates, INPUTS])?, random(&[gates, HIDDEN])?);
    let (bias_ih, bias_hh) = (random(&[gates])?, random(&[gates])?);
    let (state, input) = (random(&[ROWS, width])?, random(&[ROWS, INPUTS])?);
    let step = |weights: [Tensor; 4], state: &Tensor, input: &Tensor| {
        let [weight_ih, weight_hh, bias_ih, bias_hh] = weights;
        cell.step(&CellWeights { weight_ih, weight_hh, bias_ih, bias_hh }, input, &State::split(state, HIDDEN)?)?.join()
    };
    let both = |seeds: &[Tensor; 2]| Tensor::stack(seeds, 0);
    let weights = [both(&weight_ih)?, both(&weight_hh)?, both(&bias_ih)?, both(&bias_hh)?];
    let rows = |seeds: &[Tensor; 2]| alternate(&seeds.iter().collect::<Vec<_>>(), 0);
    let Ok(together) = step(weights, &rows(&state)?, &rows(&input)?) else { return Ok(()) };
    for seed in 0..2 {
        let weights = [&weight_ih, &weight_hh, &bias_ih, &bias_hh].map(|seeds| seeds[seed].clone());
        let alone = step(weights, &state[seed], &input[seed])?.flatten_all()?.to_vec1::<f32>()?;
        let found = of_seed(&together, 2, seed)?.flatten_all()?.to_vec1::<f32>()?;
        if found.iter().zip(&alone).any(|(a, b)| !is_close((*a).into(), (*b).into(), SINGLE)) {
            return Err(broken(kind, "a step of several seeds at once is not the step of each"));
        }
    }
    Ok(())
}

/// Moves the sums and the state of a unit.
type Change<'a> = &'a dyn Fn(&mut [f64], &mut [f64; 2], f64);

/// The step unit by unit gives the states of the step, and its derivatives are those of its states.
pub(super) fn check_pointwise(kind: &str, cell: &dyn Cell) -> Result<()> {
    let Some(pointwise) = cell.pointwise() else { return Ok(()) };
    let (gates, parts) = (cell.gates(), cell.state_width(1));
    let mut stream = Stream::new(1, "testing.pointwise", 0, 0);
    for _ in 0..20 {
        let mut random = || f64::from(stream.uniform(-1.5, 1.5));
        let sums: Vec<f64> = (0..gates).map(|_| random()).collect();
        let state = [random(), if parts > 1 { random() } else { 0.0 }];
        let unit = pointwise.unit(&sums, state);
        for (part, (found, expected)) in unit.next.into_iter().zip(stepped(cell, &sums, &state[..parts])?).enumerate() {
            if !is_close(found, expected, TOLERANCE) {
                return Err(broken(kind, format!("its units step to {found} in part {part}, its step to {expected}")));
            }
        }
        for part in 0..parts {
            let moved = |change: Change<'_>| {
                let at = |by| {
                    let (mut sums, mut state) = (sums.clone(), state);
                    change(&mut sums, &mut state, by);
                    pointwise.unit(&sums, state).next[part]
                };
                (at(STEP) - at(-STEP)) / (2.0 * STEP)
            };
            let by_sum = (0..gates).map(|g| (unit.by_sum[part][g], moved(&|sums, _, by| sums[g] += by)));
            let by_part = (0..parts).map(|l| (unit.by_part[part][l], moved(&|_, state, by| state[l] += by)));
            if let Some((slope, difference)) = by_sum.chain(by_part).find(|(a, b)| !is_close(*a, *b, TOLERANCE)) {
                return Err(broken(kind, format!("a slope of its units is {slope}, and should be {difference}")));
            }
        }
    }
    Ok(())
}

/// The parts of the state of one unit after a step in which the sums are these.
fn stepped(cell: &dyn Cell, sums: &[f64], state: &[f64]) -> Result<Vec<f64>> {
    let gates = sums.len();
    let zero = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F64, &Device::Cpu);
    let bias_ih = Tensor::new(sums, &Device::Cpu)?;
    let (weight_ih, weight_hh, bias_hh) = (zero(&[gates, 1])?, zero(&[gates, 1])?, zero(&[gates])?);
    let weights = CellWeights { weight_ih, weight_hh, bias_ih, bias_hh };
    let state = State::split(&Tensor::from_slice(state, (1, state.len()), &Device::Cpu)?, 1)?;
    Ok(cell.step(&weights, &zero(&[1, 1])?, &state)?.join()?.flatten_all()?.to_vec1()?)
}

/// Whether two numbers agree up to `tolerance`, relative to the second where it is above 1. NaN never agrees.
fn is_close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1.0)
}

/// A weighted sum of the states after each step, given arguments in the order of [`ARGUMENTS`].
fn probed(kind: &str, cell: &dyn Cell, arguments: &[Tensor], probe: &Tensor) -> Result<Tensor> {
    let [weight_ih, weight_hh, bias_ih, bias_hh] = [0, 1, 2, 3].map(|index| arguments[index].clone());
    let weights = CellWeights { weight_ih, weight_hh, bias_ih, bias_hh };
    let mut state = State::split(&arguments[4], HIDDEN)?;
    let mut states = Vec::new();
    for step in 0..STEPS {
        state = cell.step(&weights, &arguments[5].get(step)?, &state)?;
        let joined = state.join()?;
        if joined.dims() != [ROWS, cell.state_width(HIDDEN)] || state.h.dims() != [ROWS, HIDDEN] {
            return Err(broken(kind, format!("a step gives a state of shape {:?}", joined.dims())));
        }
        states.push(joined);
    }
    Ok((Tensor::stack(&states, 0)? * probe)?.sum_all()?)
}

pub(super) fn check_fast_paths<C: Plugin + Cell>(keys: &Value) -> Result<()> {
    let mut plugins = Plugins::built_in();
    if !plugins.model.cells.kinds().contains(&C::KIND) {
        plugins.model.cells.register::<C>(|cell| Box::new(cell));
    }
    let cell: C = super::read(keys.clone())?;
    let paths = [("fused", cell.kernels().is_some()), ("unrolled", cell.closed_form().is_some())];
    for order in ["batch", "window"] {
        let expected = trained::<C>(keys, "composed", order, &plugins)?;
        for (backend, _) in paths.iter().filter(|(_, there)| *there) {
            for ((name, found), (_, expected)) in trained::<C>(keys, backend, order, &plugins)?.iter().zip(&expected) {
                let differ = |(a, b): (&f32, &f32)| !is_close((*a).into(), (*b).into(), ROUNDING);
                if found.iter().zip(expected).any(differ) {
                    let what = format!("the backend `{backend}` trains `{name}` to other values than its step does");
                    return Err(broken(C::KIND, format!("{what} (`step_every: {order}`)")));
                }
            }
        }
    }
    Ok(())
}

/// The weights of two layers of the cell after training with plain SGD.
fn trained<C: Plugin>(keys: &Value, backend: &str, order: &str, plugins: &Plugins) -> Result<Vec<(String, Vec<f32>)>> {
    let task = json!({
        "points": 3, "seq_len": 7, "train_size": 6, "val_split": 0, "test_size": 0, "radius": 1, "train_noise": 0.1
    });
    let layer = |hidden: usize| {
        let mut layer = keys.clone();
        layer["cell"] = json!(C::KIND);
        layer["hidden"] = json!(hidden);
        layer["dni"] = json!({ "init_last": "uniform", "scale": 1.0 });
        layer
    };
    let mut table = task.clone();
    table["kind"] = json!(LineDraw::KIND);
    let spec: Spec = serde_json::from_value(json!({
        "task": table,
        // One width fills SIMD registers, the other does not.
        "model": { "layers": [layer(18), layer(5)] },
        "train": {
            "epochs": 2, "batch_size": 3, "bptt": 3, "activity_l2": 0.1, "step_every": order,
            "optimizer": { "kind": "sgd", "lr": 0.1, "momentum": 0.0 },
        },
        "run": { "backend": backend },
    }))
    .map_err(|error| broken(C::KIND, error))?;
    let task: LineDraw = super::read(task)?;
    let mut trainer = Trainer::new(plugins, &spec, &task.shape(), task.open(1)?, 1, Device::Cpu)?;
    match trainer.train(&mut Stop { after: None, checkpoint: None })? {
        Outcome::Finished(finished) => values(&finished.weights),
        Outcome::Stopped => Err(broken(C::KIND, "training stopped without a request")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_cell;
    use super::*;
    use crate::nn::cells::{Gru, Leaky, Lstm, Relu, Tanh};

    /// The step, the closed form and the kernels of every cell of the engine.
    #[test]
    fn all_implementations_agree() -> Result<()> {
        check_cell::<Lstm>(json!({}))?;
        check_cell::<Gru>(json!({}))?;
        check_cell::<Tanh>(json!({}))?;
        check_cell::<Relu>(json!({}))?;
        check_cell::<Leaky>(json!({}))?;
        // A linear network diverges at the rate of this check unless it is slow.
        for (activation, tau) in [("relu", 1.5), ("sigmoid", 1.5), ("identity", 4.0)] {
            check_cell::<Leaky>(json!({ "tau": tau, "activation": activation }))?;
        }
        check_cell::<Leaky>(json!({ "tau": 5.5 }))
    }
}
