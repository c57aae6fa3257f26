//! Blocks below recurrent layers: gradients through windows, interfaces between both, resuming, and the program.

use std::fs;

use candle_core::{Device, Tensor};
use ccdni::data::{Batch, Inputs, Targets};
use ccdni::model::{Model, Plugins};
use ccdni::nn::{Gradients, Part};
use ccdni::rng::Stream;
use ccdni::spec::ModelSpec;
use ccdni::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
use ccdni::train::backend::Composed;
use ccdni::train::device_batch::DeviceBatch;
use ccdni::train::engine::{self, Order, Role};
use ccdni::train::feedforward::{self, Delays, Pass};
use ccdni::train::loss::Feedback;
use serde_json::json;

use crate::lab::Lab;

const STEPS: usize = 6;
const ROWS: usize = 3;
const WIDTH: usize = 4;

fn shape() -> TaskShape {
    let target = Target { kind: TargetKind::Values { size: 2 }, when: When::EveryStep };
    TaskShape { input: Input::Dense { features: 3 }, target, steps: Some(STEPS), validates: true }
}

fn model(dni: serde_json::Value) -> Model {
    let spec: ModelSpec = serde_json::from_value(json!({
        "blocks": [{ "kind": "linear", "units": 5 }, { "kind": "tanh" }, { "kind": "linear", "units": WIDTH, "dni": dni }],
        "layers": [{ "cell": "lstm", "hidden": 3, "dni": { "init_last": "uniform" } }, { "cell": "gru", "hidden": 4 }],
    }))
    .unwrap();
    Model::new(&Plugins::built_in(), &spec, &shape(), 3, &Device::Cpu).unwrap()
}

/// Normal numbers that depend on their purpose alone.
pub fn normal(dims: &[usize], purpose: &str) -> Tensor {
    let mut stream = Stream::new(5, purpose, 0, 0);
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// What a batch gives.
struct Ran {
    loss: f64,
    /// By parameter.
    gradients: Vec<Option<Tensor>>,
    /// At the outputs of the blocks, `[batch · time, width]`.
    arrived: Tensor,
    /// The outputs of the blocks.
    outputs: Tensor,
}

fn run(model: &Model, window: usize, order: Order, role: Role, targets: &str) -> Ran {
    let (inputs, targets) = (normal(&[ROWS, STEPS, 3], "inputs"), normal(&[ROWS, STEPS, 2], targets));
    let batch = Batch::new(Inputs::Dense(inputs), Targets::Values(targets));
    let sequence = DeviceBatch::new(model, &batch, None).unwrap();
    let feedback = Feedback::new(&batch.targets, &shape(), STEPS, 1, sequence.rows(), &Device::Cpu).unwrap();
    let roles = vec![role; model.synthesizers.len()];
    let masks = |_: usize, _: f64, _: &[usize]| Err(ccdni::Error::Training("nothing is dropped".into()));
    let input = sequence.read_by_blocks().unwrap().unwrap();
    let blocks = feedforward::Batch { input: &input, feedback: &feedback, roles: &roles, masks: &masks, trace: false };
    let pass = Pass::forward(model, &blocks).unwrap();
    let outputs = pass.outputs().unwrap();
    let read = sequence.of_blocks(&outputs, true).unwrap();
    let batch =
        engine::Batch { sequence: &read, feedback: &feedback, window, roles: &roles, activity: 0.0, trace: false };
    let mut gradients = Gradients::none(&model.params).unwrap();
    let (mut loss, mut inputs) = (0.0, Vec::new());
    engine::run(model, &Composed, order, &batch, None, &mut gradients, &mut |group, _| {
        loss += group.losses.read()?.iter().map(|window| window.loss).sum::<f64>();
        inputs.extend(group.inputs);
        Ok(())
    })
    .unwrap();
    let arrived = read.at_blocks(inputs).unwrap();
    pass.learn(&arrived, &mut Delays::default(), &mut gradients).unwrap();
    let gradients = (0..model.params.len()).map(|index| gradients.get(index).unwrap()).collect();
    Ran { loss, gradients, arrived, outputs }
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The gradients of the blocks.
fn of_blocks(model: &Model, ran: &Ran) -> Vec<Vec<f32>> {
    let named = model.params.iter().zip(&ran.gradients);
    let of_blocks =
        named.filter(|(parameter, _)| parameter.part == Part::Network && parameter.name.starts_with("blocks"));
    of_blocks
        .map(|(parameter, gradient)| flat(gradient.as_ref().unwrap_or_else(|| panic!("{}", parameter.name))))
        .collect()
}

#[test]
fn gradients_through_the_whole_sequence_are_those_of_finite_differences() {
    let model = model(json!(null));
    let run = || run(&model, STEPS, Order::SideBySide, Role::Lesioned, "targets");
    let ran = run();
    for (index, parameter) in model.params.iter().enumerate().filter(|(_, one)| one.part == Part::Network) {
        let gradient = ran.gradients[index].as_ref().unwrap_or_else(|| panic!("{}", parameter.name));
        let norm = flat(gradient).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let before = parameter.value().copy().unwrap();
        let at = |by: f64| {
            model.params.set(index, &(&before + (gradient * (by / norm)).unwrap()).unwrap()).unwrap();
            run().loss
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        model.params.set(index, &before).unwrap();
        assert!((slope / norm - 1.0).abs() < 0.02, "{}: {norm} {slope}", parameter.name);
    }
}

#[test]
fn windows_side_by_side_send_the_gradients_of_windows_one_after_the_other() {
    let model = model(json!({ "init_last": "uniform" }));
    for window in [1, 2, 4] {
        let [a, b] =
            [Order::SideBySide, Order::Sequential].map(|order| run(&model, window, order, Role::Learning, "targets"));
        assert_eq!(a.arrived.dims(), [ROWS * STEPS, WIDTH]);
        for (a, b) in a.gradients.iter().zip(&b.gradients).chain([(&Some(a.arrived), &Some(b.arrived))]) {
            let (a, b) = (flat(a.as_ref().unwrap()), flat(b.as_ref().unwrap()));
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "window of {window}");
        }
    }
}

#[test]
fn decoupled_blocks_learn_from_the_synthetic_gradient_alone_and_the_synthesizer_from_what_arrives() {
    let model = model(json!({ "init_last": "uniform" }));
    let run = |role, targets| run(&model, 2, Order::SideBySide, role, targets);
    let (ran, other) = (run(Role::Learning, "targets"), run(Role::Learning, "other targets"));
    assert!(flat(&ran.arrived) != flat(&other.arrived));
    assert_eq!(of_blocks(&model, &ran), of_blocks(&model, &other), "no target reaches the blocks");
    let locked = run(Role::Lesioned, "targets");
    assert!(of_blocks(&model, &locked) != of_blocks(&model, &ran));
    // The bias of the last block has the sum of S(a) over rows as its gradient.
    let index = |name: &str| model.params.iter().position(|one| one.name == name).unwrap();
    let stored = model.synthesizer(0);
    let synthetic = stored.values(&ran.outputs, None).unwrap();
    let close = |a: &Tensor, b: &Tensor| flat(a).iter().zip(flat(b)).all(|(a, b)| (a - b).abs() < 1e-5);
    let bias = ran.gradients[index("blocks.2.bias")].clone().unwrap();
    assert!(close(&bias, &synthetic.sum(0).unwrap()));
    // S learns from (1/B) Σ (S - δ)²; every step of every sequence is a row.
    let error = ((synthetic - &ran.arrived).unwrap() * (2.0 / (ROWS * STEPS) as f64)).unwrap();
    let last = model.synthesizers[0].params.last().copied().unwrap();
    assert!(close(&ran.gradients[last].clone().unwrap(), &error.sum(0).unwrap()));
}

const NETWORK: &str = "
task: {kind: seqmnist, source: {kind: glyphs, train: 60, test: 20}}
model:
  blocks:
    - {kind: linear, units: 12}
    - kind: batch_norm
    - {kind: dropout, p: 0.1}
    - kind: relu
      dni: {hidden: [9], context: input, delay: 1}
  layers:
    - {cell: lstm, hidden: 10, dni: {hidden: [8]}}
train: {epochs: 3, batch_size: 16, bptt: 7, optimizer: {kind: adam, lr: 0.01}}
run: {device: cpu}
";

#[test]
fn the_program_trains_resumes_and_evaluates_a_recurrent_network_above_blocks() {
    let lab = Lab::new();
    lab.write("spec.yaml", NETWORK);
    let run = |outputs: &str, epochs: &str| {
        let epochs = format!("train.epochs={epochs}");
        let output = lab.command(&["run", "spec.yaml", "--set", &epochs, "--outputs", outputs]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("ccRNN"), "{text}");
        fs::read_dir(lab.path(outputs)).unwrap().next().unwrap().unwrap().path()
    };
    let whole = run("outputs", "3");
    let tensors = candle_core::safetensors::load(whole.join("decoder.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(tensors["blocks.0.weight"].dims(), [12, 28]);
    assert_eq!(tensors["rnn.rnn.weight_ih_l0"].dims(), [40, 12]);
    assert!(flat(&tensors["blocks.1.running_mean"]).iter().any(|mean| *mean != 0.0));
    let evaluated = lab.command(&["evaluate", whole.to_str().unwrap(), "--split", "test"]).output().unwrap();
    assert!(evaluated.status.success(), "{}", String::from_utf8_lossy(&evaluated.stderr));
    let manifest = fs::read_to_string(whole.join("manifest.json")).unwrap();
    assert!(manifest.contains("\"composed\""), "`auto` chooses the backend that knows blocks");
    let again = run("again", "3");
    let weights = |run: &std::path::Path| fs::read(run.join("decoder.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&again));
}

#[test]
fn blocks_that_layers_cannot_read_are_refused_with_the_key() {
    let lab = Lab::new();
    lab.write("spec.yaml", NETWORK);
    for (set, says) in [
        ("model.blocks.3.dni.context=target", "`model.blocks.3.dni.context`"),
        ("run.backend=fused", "does not compute `blocks` below recurrent layers"),
        ("train.step_every=window", "`train.step_every`"),
        ("model.input_dropout=0.1", "end `blocks` with a `dropout` block"),
        ("train.rule={kind: rtrl}", "`train.rule`"),
        ("model.blocks.0.kind=pool", "`model.blocks.0`"),
        ("task={kind: language}", "blocks read numbers"),
    ] {
        let output = lab.command(&["check", "spec.yaml", "--set", set]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(says), "{set}: {error}");
    }
}
