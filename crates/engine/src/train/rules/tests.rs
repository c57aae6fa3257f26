//! Identities: what a rule computes is a derivative, or a known part or estimate of one.

use candle_core::{DType, Device, Tensor, Var};
use serde_json::{Value, json};

use super::online::{Errors, Online, Sequence};
use super::*;
use crate::data::{Batch, Inputs, Targets};
use crate::model::{self, Model, Weights};
use crate::nn::Part;
use crate::nn::cells::State;
use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
use crate::train::backend::Composed;
use crate::train::device_batch::DeviceBatch;
use crate::train::engine::{self, Order};
use crate::train::loss::Feedback;
use crate::train::optimizer::{self, Optimizer};

const INPUTS: usize = 2;
const OUTPUTS: usize = 3;

fn shape() -> TaskShape {
    let target = Target { kind: TargetKind::Values { size: OUTPUTS }, when: When::EveryStep };
    TaskShape { input: Input::Dense { features: INPUTS }, target, steps: None, validates: false }
}

/// A network, and a batch of random sequences.
struct Lab {
    model: Model,
    steps: usize,
    rows: usize,
    inputs: Tensor,
    targets: Tensor,
}

impl Lab {
    fn new(layer: &Value, steps: usize, rows: usize, seed: u64) -> Result<Lab> {
        let spec = serde_json::from_value(json!({ "layers": [layer] })).expect("a valid layer");
        let model = Model::new(&model::Plugins::built_in(), &spec, &shape(), seed, &Device::Cpu)?;
        let mut stream = Stream::new(seed, "test", 0, 0);
        let mut random = |width: usize| {
            let numbers: Vec<f32> = (0..rows * steps * width).map(|_| stream.normal()).collect();
            Tensor::from_vec(numbers, (rows, steps, width), &Device::Cpu)
        };
        let (inputs, targets) = (random(INPUTS)?, random(OUTPUTS)?);
        Ok(Lab { model, steps, rows, inputs, targets })
    }

    fn batch(&self) -> Result<(DeviceBatch, Feedback)> {
        let batch = Batch::new(Inputs::Dense(self.inputs.clone()), Targets::Values(self.targets.clone()));
        let sequence = DeviceBatch::new(&self.model, &batch, None)?;
        let feedback = Feedback::new(&batch.targets, &shape(), self.steps, 1, sequence.rows(), &Device::Cpu)?;
        Ok((sequence, feedback))
    }

    /// The gradients of the loss summed over steps, by backpropagation through time, joined into one vector.
    fn true_gradient(&self) -> Result<Vec<f32>> {
        let (sequence, feedback) = self.batch()?;
        let roles = vec![Role::Lesioned; self.model.synthesizers.len()];
        let (window, activity, trace) = (self.steps, 0.0, false);
        let batch = engine::Batch { sequence: &sequence, feedback: &feedback, window, roles: &roles, activity, trace };
        let mut gradients = Gradients::none(&self.model.params)?;
        engine::run(&self.model, &Composed, Order::SideBySide, &batch, None, &mut gradients, &mut |_, _| Ok(()))?;
        self.joined(&gradients)
    }

    /// The gradients by a rule.
    fn gradient(&self, rule: Value, noise: &mut dyn Noise) -> Result<Vec<f32>> {
        let mut gradients = Gradients::none(&self.model.params)?;
        self.run(&mut self.rule(rule)?, noise, &mut gradients)?;
        self.joined(&gradients)
    }

    fn rule(&self, rule: Value) -> Result<Online> {
        let spec: RuleSpec = serde_json::from_value(rule).expect("a valid rule");
        let plugin = built_in().open(&spec.kind, &spec.keys)?;
        Ok(Online::new(&spec, plugin.as_ref(), &self.model, 1)?.expect("a rule that goes forward in time"))
    }

    fn run(&self, online: &mut Online, noise: &mut dyn Noise, gradients: &mut Gradients) -> Result<()> {
        let inputs: Vec<f32> = self.inputs.transpose(0, 1)?.flatten_all()?.to_vec1()?;
        let sequence = Sequence { inputs: &inputs, steps: self.steps, goes_on: false };
        let targets: Vec<f32> = self.targets.transpose(0, 1)?.flatten_all()?.to_vec1()?;
        let mut errors = Squares { targets, rows: self.rows, steps: self.steps };
        let windows = engine::windows(self.steps, self.steps);
        let with = (Role::Learning, noise);
        online.run(&self.model, &sequence, &mut errors, &windows, None, with, gradients, &mut |_, _| Ok(()))?;
        Ok(())
    }

    /// All gradients of the network.
    fn joined(&self, gradients: &Gradients) -> Result<Vec<f32>> {
        let mut all = Vec::new();
        for index in self.model.layers[0].weights.into_iter().chain(self.model.readout_indices()?) {
            let gradient = gradients.get(index)?.expect("a gradient of every parameter of the network");
            all.extend(gradient.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(all)
    }
}

/// The engine's mean squared error over a window of all steps.
struct Squares {
    targets: Vec<f32>,
    rows: usize,
    steps: usize,
}

impl Errors for Squares {
    fn at(&mut self, step: usize, outputs: &[f32]) -> Result<Option<Vec<f32>>> {
        let factor = 2.0 / (self.steps * self.rows * OUTPUTS) as f32;
        let target = &self.targets[step * outputs.len()..];
        Ok(Some(outputs.iter().zip(target).map(|(y, t)| factor * (y - t)).collect()))
    }

    fn target(&self, step: usize) -> Result<Vec<f32>> {
        Ok(self.targets[step * self.rows * OUTPUTS..][..self.rows * OUTPUTS].to_vec())
    }
}

/// The largest difference, relative to the largest number expected.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    let largest = |numbers: &mut dyn Iterator<Item = f32>| numbers.fold(0f32, |a, b| a.max(b.abs()));
    assert_eq!(found.len(), expected.len());
    largest(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / largest(&mut expected.iter().copied())
}

fn stream() -> Stream {
    Stream::new(3, "test.noise", 0, 0)
}

#[test]
fn rtrl_is_backpropagation_through_all_of_time() -> Result<()> {
    let cells = [
        json!({ "cell": "tanh", "hidden": 7 }),
        json!({ "cell": "relu", "hidden": 6 }),
        json!({ "cell": "lstm", "hidden": 5 }),
        json!({ "cell": "leaky", "hidden": 6, "tau": 2.5 }),
        json!({ "cell": "leaky", "hidden": 6, "activation": "sigmoid" }),
        json!({ "cell": "leaky", "hidden": 32, "tau": 1.0, "activation": "identity" }),
    ];
    for (index, cell) in cells.iter().enumerate() {
        for seed in 1..4 {
            let lab = Lab::new(cell, 9 + 7 * index, 1 + seed as usize, seed)?;
            let found = lab.gradient(json!({ "kind": "rtrl" }), &mut stream())?;
            let error = error(&found, &lab.true_gradient()?);
            assert!(error < 2e-5, "{cell}: {error}");
        }
    }
    Ok(())
}

#[test]
fn uoro_is_rtrl_on_average() -> Result<()> {
    // Equal rows are as many draws.
    const DRAWS: usize = 100_000;
    const ROWS: usize = 1000;
    for cell in [json!({ "cell": "tanh", "hidden": 6 }), json!({ "cell": "lstm", "hidden": 3 })] {
        let one = Lab::new(&cell, 8, 1, 1)?;
        let repeated = |tensor: &Tensor| tensor.repeat((ROWS, 1, 1));
        let (inputs, targets) = (repeated(&one.inputs)?, repeated(&one.targets)?);
        let expected = one.gradient(json!({ "kind": "rtrl" }), &mut stream())?;
        let many = Lab { inputs, targets, rows: ROWS, ..Lab::new(&cell, 8, 1, 1)? };
        let mut mean = vec![0f64; expected.len()];
        let mut noise = stream();
        for _ in 0..DRAWS / ROWS {
            let found = many.gradient(json!({ "kind": "uoro" }), &mut noise)?;
            mean.iter_mut().zip(found).for_each(|(mean, x)| *mean += f64::from(x) * (ROWS as f64) / DRAWS as f64);
        }
        // The readout's gradient is exact, so only that of the recurrent weights counts.
        let count = expected.len() - OUTPUTS * (one.model.layers[0].hidden + 1);
        let norm = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>().sqrt();
        let differences = &mut mean.iter().zip(&expected).take(count).map(|(a, b)| a - f64::from(*b));
        let error = norm(differences) / norm(&mut expected[..count].iter().map(|&x| x.into()));
        assert!(error < 0.04, "{cell}: {error}");
    }
    Ok(())
}

/// The gradients of a network in which `h` before a step is a constant where it enters the sums, by automatic
/// differentiation.
fn gradient_of_cut_path(lab: &Lab, share: Option<f64>) -> Result<Vec<f32>> {
    let roles = lab.model.layers[0].weights.into_iter().chain(lab.model.readout_indices()?);
    let variables: Vec<Var> =
        roles.map(|index| Ok(Var::from_tensor(lab.model.params.get(index).value())?)).collect::<Result<_>>()?;
    let mut weights = lab.model.cell_weights(0, Weights::Constant);
    [&mut weights.weight_ih, &mut weights.weight_hh, &mut weights.bias_ih, &mut weights.bias_hh]
        .into_iter()
        .zip(&variables)
        .for_each(|(weight, variable)| *weight = variable.as_tensor().clone());
    let layer = &lab.model.layers[0];
    let joined = Tensor::zeros((lab.rows, layer.state_width()), DType::F32, &Device::Cpu)?;
    let mut state = State::split(&joined, layer.hidden)?;
    let mut losses = Vec::new();
    for step in 0..lab.steps {
        let input = lab.inputs.narrow(1, step, 1)?.squeeze(1)?;
        let cut = State { h: state.h.detach(), c: state.c.clone() };
        state = match share {
            None => layer.cell.step(&weights, &input, &cut)?,
            Some(share) => {
                let (of_input, of_state) = weights.sums(&input, &cut.h)?;
                let rate = (of_input + of_state)?.tanh()?;
                State { h: (rate.affine(share, 0.0)? + state.h.affine(1.0 - share, 0.0)?)?, c: None }
            }
        };
        let outputs = state.h.matmul(&variables[4].as_tensor().t()?)?.broadcast_add(variables[5].as_tensor())?;
        losses.push((outputs - lab.targets.narrow(1, step, 1)?.squeeze(1)?)?.sqr()?.mean_all()?);
    }
    let gradients = Tensor::stack(&losses, 0)?.mean_all()?.backward()?;
    let mut all = Vec::new();
    for variable in &variables {
        let gradient = gradients.get(variable).expect("a gradient of every parameter");
        all.extend(gradient.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(all)
}

#[test]
fn eprop_and_rflo_are_backpropagation_within_each_unit() -> Result<()> {
    for seed in 1..4 {
        let lab = Lab::new(&json!({ "cell": "lstm", "hidden": 5 }), 12, 3, seed)?;
        let found = lab.gradient(json!({ "kind": "eprop" }), &mut stream())?;
        let of_lstm = error(&found, &gradient_of_cut_path(&lab, None)?);
        assert!(of_lstm < 2e-5, "{of_lstm}");
        let lab = Lab::new(&json!({ "cell": "leaky", "hidden": 5, "tau": 2.5 }), 12, 3, seed)?;
        let expected = gradient_of_cut_path(&lab, Some(0.4))?;
        for rule in ["eprop", "rflo"] {
            let error = error(&lab.gradient(json!({ "kind": rule }), &mut stream())?, &expected);
            assert!(error < 2e-5, "{rule}: {error}");
        }
        // Sensitivities that stay the identity, and decay rates that are the leak, are RFLO.
        let fixed = json!({ "kind": "kernl", "lr": 0.0, "noise": 0.0, "decay_rate": 0.4 });
        let error = error(&lab.gradient(fixed, &mut stream())?, &expected);
        assert!(error < 2e-5, "kernl: {error}");
    }
    Ok(())
}

/// A layer with a linear synthesizer that starts with random weights.
fn with_synthesizer(cell: &str) -> Value {
    let dni = json!({ "hidden": [], "scale": 1.0, "init_last": "uniform" });
    let mut layer = json!({ "cell": cell, "hidden": 8, "dni": dni });
    if cell == "leaky" {
        (layer["tau"], layer["activation"]) = (json!(1.0), json!("identity"));
    }
    layer
}

/// The states after all but the last step, and the predicted and true gradients there, `[rows, width]` each.
fn predictions(lab: &Lab) -> Result<Vec<[Tensor; 3]>> {
    let (sequence, feedback) = lab.batch()?;
    let (window, activity, trace, roles) = (1, 0.0, true, [Role::Learning]);
    let batch = engine::Batch { sequence: &sequence, feedback: &feedback, window, roles: &roles, activity, trace };
    let truth = engine::true_gradients(&lab.model, &Composed, &batch, None, None)?;
    let (mut gradients, mut all) = (Gradients::none(&lab.model.params)?, Vec::new());
    engine::run(&lab.model, &Composed, Order::SideBySide, &batch, None, &mut gradients, &mut |group, _| {
        for (trace, truth) in group.traces.iter().zip(&truth) {
            let synthetic = trace.synthetic_start[0].clone().expect("a synthesizer");
            // The engine's losses are means over windows of one step.
            all.push([trace.start[0].clone(), synthetic, (&truth[0] / lab.steps as f64)?]);
        }
        Ok(())
    })?;
    // Before the first step there is no prediction.
    all.remove(0);
    Ok(all)
}

#[test]
fn bp_lambda_is_regression_on_the_true_gradients() -> Result<()> {
    for cell in ["leaky", "tanh", "lstm"] {
        let lab = Lab::new(&with_synthesizer(cell), 7, 3, 2)?;
        let mut gradients = Gradients::none(&lab.model.params)?;
        lab.run(&mut lab.rule(json!({ "kind": "bp_lambda" }))?, &mut stream(), &mut gradients)?;
        let [weight, bias] = lab.model.synthesizers[0].params[..] else { panic!("a linear synthesizer") };
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for [states, synthetic, truth] in predictions(&lab)? {
            let errors = ((synthetic - truth)? / lab.rows as f64)?;
            weights.push(errors.t()?.matmul(&states)?);
            biases.push(errors.sum(0)?);
        }
        for (index, terms) in [(weight, weights), (bias, biases)] {
            let flat = |tensor: Tensor| Ok::<_, Error>(tensor.flatten_all()?.to_vec1::<f32>()?);
            let found = gradients.get(index)?.expect("a gradient of the synthesizer");
            let error = error(&flat(found)?, &flat(Tensor::stack(&terms, 0)?.sum(0)?)?);
            assert!(error < 2e-5, "{cell}: {error}");
        }
    }
    Ok(())
}

/// The distance of predictions from the true gradients, relative to their length, after a synthesizer has learned alone from many
/// repetitions of one batch. Of so few states, a linear synthesizer can fit all.
fn error_after_learning(lambda: f64, updates: usize) -> Result<f64> {
    let lab = Lab::new(&with_synthesizer("leaky"), 5, 2, 2)?;
    let (params, rule) = (&lab.model.params, json!({ "kind": "bp_lambda", "lambda": lambda }));
    let keys = serde_json::from_value(json!({ "lr": 0.01 })).expect("keys of an optimizer");
    let mut optimizer = Optimizer::new(optimizer::built_in().open("adam", &keys)?, params)?;
    let factors: Vec<Option<f64>> =
        params.iter().map(|one| (one.part == Part::Synthesizer(0)).then_some(1.0)).collect();
    let mut online = lab.rule(rule)?;
    for _ in 0..updates {
        let mut gradients = Gradients::none(params)?;
        lab.run(&mut online, &mut stream(), &mut gradients)?;
        optimizer.step(params, &gradients, &factors)?;
    }
    let (mut squares, mut norm) = (0.0, 0.0);
    for [_, synthetic, truth] in predictions(&lab)? {
        let square = |tensor: Tensor| Ok::<_, Error>(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?));
        squares += square((synthetic - &truth)?)?;
        norm += square(truth)?;
    }
    Ok((squares / norm).sqrt())
}

#[test]
fn predictions_of_bp_lambda_approach_the_true_gradients_faster_with_traces() -> Result<()> {
    let (whole, one_step) = (error_after_learning(1.0, 400)?, error_after_learning(0.0, 400)?);
    assert!(whole < 0.25 && whole < 0.7 * one_step, "lambda 1: {whole}, lambda 0: {one_step}");
    let longer = error_after_learning(1.0, 4000)?;
    assert!(longer < 0.6 * whole, "{longer} after ten times as many updates as {whole}");
    Ok(())
}
