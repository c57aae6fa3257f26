//! An image encoder made of blocks: the gradients of the `conv` encoder where both are one network, interfaces to what reads it, resuming,
//! and the program.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ccdni::data::{Batch, BatchIndex, Dataset, Inputs, Metric, Split, Targets};
use ccdni::model::{Model, Plugins};
use ccdni::nn::{Gradients, Part};
use ccdni::rng::Stream;
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::spec::{BackendKind, ModelSpec, Spec};
use ccdni::train::backend;
use ccdni::train::device_batch::{DeviceBatch, Dropout};
use ccdni::train::engine::{self, Order, Role};
use ccdni::train::feedforward::{self, Delays, Pass};
use ccdni::train::loss::Feedback;
use ccdni::train::{self, Finished, Outcome, Trainer};
use serde_json::{Value, json};

use crate::blocks_below::normal;
use crate::lab::Lab;
use crate::trainer::Keeper;

const SIDE: usize = 12;
const ROWS: usize = 4;
const WORDS: usize = 7;
const STEPS: usize = 5;
const WIDTH: usize = 5;

fn shape() -> TaskShape {
    TaskShape {
        input: Input::Tokens { vocabulary: WORDS, first: First::Image { side: SIDE } },
        target: Target { kind: TargetKind::Classes { count: WORDS }, when: When::EveryStep },
        steps: None,
        validates: true,
    }
}

/// The network of `conv()` as blocks, with an interface to the decoder.
fn blocks(dni: Value) -> Value {
    let conv =
        |channels: usize| json!({ "kind": "conv", "channels": channels, "kernel": 3, "stride": 2, "padding": 1 });
    json!({ "kind": "blocks", "blocks": [
        conv(3), { "kind": "relu" }, conv(4), { "kind": "relu" }, { "kind": "flatten" }, { "kind": "linear" },
        { "kind": "batch_norm", "running_momentum": 0.01, "dni": dni },
    ] })
}

fn conv() -> Value {
    json!({ "kind": "conv", "channels": [3, 4] })
}

/// The block with the parameters of a part of `conv()`.
const SAME: [(&str, &str); 4] =
    [("conv.0", "blocks.0"), ("conv.1", "blocks.2"), ("linear", "blocks.5"), ("bn", "blocks.6")];

/// The name among blocks of a parameter of `conv()`.
fn renamed(name: &str) -> String {
    let encoder = SAME.iter().find_map(|(from, to)| Some((to, name.strip_prefix(&format!("encoder.{from}."))?)));
    encoder.map_or_else(|| name.to_string(), |(to, rest)| format!("encoder.{to}.{rest}"))
}

fn model(encoder: Value) -> Model {
    let spec: ModelSpec = serde_json::from_value(json!({
        "encoder": encoder, "embed": { "size": WIDTH },
        "layers": [{ "cell": "lstm", "hidden": 6, "dni": { "init_last": "uniform" } }],
    }))
    .unwrap();
    Model::new(&Plugins::built_in(), &spec, &shape(), 3, &Device::Cpu).unwrap()
}

fn words(dims: (usize, usize), purpose: &str) -> Tensor {
    let mut stream = Stream::new(5, purpose, 0, 0);
    let ids: Vec<u32> = (0..dims.0 * dims.1).map(|_| stream.below(WORDS) as u32).collect();
    Tensor::from_vec(ids, dims, &Device::Cpu).unwrap()
}

fn images() -> Tensor {
    normal(&[ROWS, 3, SIDE, SIDE], "images")
}

fn batch(targets: &str) -> Batch {
    let inputs = Inputs::Tokens { feature: Some(images()), ids: words((ROWS, STEPS - 1), "ids") };
    Batch::new(inputs, Targets::Classes(words((ROWS, STEPS), targets)))
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    let scale = b.iter().fold(1e-3_f32, |largest, x| largest.max(x.abs()));
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4 * scale)
}

/// What a batch gives: gradients and new statistics by parameter.
struct Ran {
    loss: f64,
    gradients: BTreeMap<String, Vec<f32>>,
    statistics: BTreeMap<String, Vec<f32>>,
    /// The gradient at the first input, if blocks receive it.
    arrived: Option<Tensor>,
    /// The outputs of the blocks.
    outputs: Option<Tensor>,
}

impl Ran {
    /// The gradients of the encoder's blocks.
    fn of_blocks(&self) -> BTreeMap<&str, &[f32]> {
        let all = self.gradients.iter().map(|(name, gradient)| (name.as_str(), gradient.as_slice()));
        all.filter(|(name, _)| name.starts_with("encoder.") && !name.contains("synthesizer")).collect()
    }
}

fn run(model: &Model, backend: BackendKind, order: Order, role: Role, targets: &str) -> Ran {
    let batch = batch(targets);
    let dropout = Dropout { input: 0.0, seed: 1, epoch: 1, batch: 0 };
    let sequence = DeviceBatch::new(model, &batch, Some(dropout)).unwrap();
    let feedback = Feedback::new(&batch.targets, &shape(), STEPS, 1, sequence.rows(), &Device::Cpu).unwrap();
    let of_interface =
        |slot: &ccdni::model::SynthesizerSlot| if slot.layers.is_empty() { role } else { Role::Learning };
    let roles: Vec<Role> = model.synthesizers.iter().map(of_interface).collect();
    let masks = |_: usize, _: f64, _: &[usize]| Err(ccdni::Error::Training("nothing is dropped".into()));
    let input = images();
    let below = feedforward::Batch { input: &input, feedback: &feedback, roles: &roles, masks: &masks, trace: false };
    let pass = model.blocks.as_ref().map(|_| Pass::forward(model, &below).unwrap());
    let outputs = pass.as_ref().map(|pass| pass.outputs().unwrap());
    let read = outputs.as_ref().map_or_else(|| sequence.clone(), |outputs| sequence.of_blocks(outputs, true).unwrap());
    let batch =
        engine::Batch { sequence: &read, feedback: &feedback, window: 2, roles: &roles, activity: 0.0, trace: false };
    let mut gradients = Gradients::none(&model.params).unwrap();
    let (mut loss, mut inputs) = (0.0, Vec::new());
    let backend = backend::open(backend, 1, model).unwrap();
    engine::run(model, backend.as_ref(), order, &batch, None, &mut gradients, &mut |group, _| {
        loss += group.losses.read()?.iter().map(|window| window.loss).sum::<f64>();
        inputs.extend(group.inputs);
        Ok(())
    })
    .unwrap();
    let (mut statistics, mut arrived) = (read.statistics().to_vec(), None);
    if let Some(pass) = pass {
        let cotangent = read.at_blocks(inputs).unwrap();
        statistics = pass.learn(&cotangent, &mut Delays::default(), &mut gradients).unwrap().statistics;
        arrived = Some(cotangent);
    }
    let name = |index: usize| model.params.get(index).name.clone();
    let gradient = |index: usize| Some((name(index), flat(&gradients.get(index).unwrap()?)));
    Ran {
        loss,
        gradients: (0..model.params.len()).filter_map(gradient).collect(),
        statistics: statistics.iter().map(|(index, value)| (name(*index), flat(value))).collect(),
        arrived,
        outputs,
    }
}

#[test]
fn blocks_have_the_gradients_of_the_encoder_that_they_spell_out() {
    let (of_conv, of_blocks) = (model(conv()), model(blocks(json!(null))));
    for parameter in of_conv.params.iter() {
        let index = of_blocks.params.find(&renamed(&parameter.name)).unwrap_or_else(|| panic!("{}", parameter.name));
        assert_eq!(of_blocks.params.get(index).part, parameter.part, "{}", parameter.name);
        of_blocks.params.set(index, parameter.value()).unwrap();
    }
    for backend in [BackendKind::Composed, BackendKind::Unrolled, BackendKind::Fused] {
        for order in [Order::SideBySide, Order::Sequential] {
            let expected = run(&of_conv, backend, order, Role::Lesioned, "targets");
            let ran = run(&of_blocks, backend, order, Role::Lesioned, "targets");
            assert!((ran.loss - expected.loss).abs() < 1e-5 * expected.loss, "{} {}", ran.loss, expected.loss);
            assert_eq!((ran.gradients.len(), ran.statistics.len()), (expected.gradients.len(), 2));
            for (name, expected) in expected.gradients.iter().chain(&expected.statistics) {
                // A bias before a normalisation has no effect.
                let (name, null) = (renamed(name), name == "encoder.linear.bias");
                let found = ran.gradients.get(&name).or(ran.statistics.get(&name));
                let found = found.unwrap_or_else(|| panic!("no gradient of {name}"));
                assert!(null || close(found, expected), "{backend:?} {order:?} {name}: {found:?} {expected:?}");
            }
        }
    }
    let sequence = DeviceBatch::new(&of_conv, &batch("targets"), None).unwrap();
    let backend = backend::open(BackendKind::Fused, 1, &of_conv).unwrap();
    let evaluated = |model: &Model| {
        let (outputs, _) =
            engine::evaluate(model, backend.as_ref(), &sequence_of(model), None, When::EveryStep).unwrap();
        flat(&outputs)
    };
    assert_eq!(sequence.steps(), STEPS);
    assert!(close(&evaluated(&of_blocks), &evaluated(&of_conv)));
}

fn sequence_of(model: &Model) -> DeviceBatch {
    DeviceBatch::new(model, &batch("targets"), None).unwrap()
}

#[test]
fn a_batch_whose_images_no_encoder_has_read_is_an_error() {
    let model = model(blocks(json!(null)));
    assert!(sequence_of(&model).on_cpu().is_err());
}

#[test]
fn a_decoupled_encoder_learns_from_the_synthetic_gradient_and_its_synthesizer_from_what_arrives_at_the_first_input() {
    let model = model(blocks(json!({ "init_last": "uniform", "scale": 0.5 })));
    let run = |role, targets| run(&model, BackendKind::Fused, Order::SideBySide, role, targets);
    let (ran, other) = (run(Role::Learning, "targets"), run(Role::Learning, "other targets"));
    assert_eq!(ran.of_blocks(), other.of_blocks(), "no target reaches the encoder");
    let locked = run(Role::Lesioned, "targets");
    assert!(locked.of_blocks() != ran.of_blocks());
    assert!(locked.loss == ran.loss && flat(locked.arrived.as_ref().unwrap()) == flat(ran.arrived.as_ref().unwrap()));
    for (name, gradient) in locked.gradients.iter().filter(|(name, _)| !name.starts_with("encoder.")) {
        assert_eq!(gradient, &ran.gradients[name], "the decoder learns as from a locked encoder: {name}");
    }

    // The same blocks, locked, with scale · S(a) in place of the gradient from the decoder.
    let interface = model.synthesizers.iter().position(|slot| slot.layers.is_empty()).unwrap();
    let (outputs, arrived) = (ran.outputs.as_ref().unwrap(), ran.arrived.as_ref().unwrap());
    let synthetic = model.synthesizer(interface).values(outputs, None).unwrap();
    let batch = batch("targets");
    let sequence = sequence_of(&model);
    let feedback = Feedback::new(&batch.targets, &shape(), STEPS, 1, sequence.rows(), &Device::Cpu).unwrap();
    let (roles, input) = (vec![Role::Lesioned; model.synthesizers.len()], images());
    let masks = |_: usize, _: f64, _: &[usize]| Err(ccdni::Error::Training("nothing is dropped".into()));
    let locked = feedforward::Batch { input: &input, feedback: &feedback, roles: &roles, masks: &masks, trace: false };
    let mut expected = Gradients::none(&model.params).unwrap();
    let pass = Pass::forward(&model, &locked).unwrap();
    pass.learn(&(&synthetic * 0.5).unwrap(), &mut Delays::default(), &mut expected).unwrap();
    for (index, parameter) in model.params.iter().enumerate().filter(|(_, one)| one.part == Part::Encoder) {
        let expected = flat(&expected.get(index).unwrap().unwrap());
        assert!(close(&ran.gradients[&parameter.name], &expected), "{}", parameter.name);
    }

    // S learns from (1/B) Σ (S - δ)², whose gradient at the bias of its last layer is 2/B Σ (S - δ).
    let error = ((synthetic - arrived).unwrap() * (2.0 / ROWS as f64)).unwrap();
    let last = model.synthesizers[interface].params.last().copied().unwrap();
    assert!(close(&ran.gradients[&model.params.get(last).name], &flat(&error.sum(0).unwrap())));
}

#[test]
fn with_full_unlock_the_decoder_reads_a_synthetic_input_in_training_alone() {
    let model = model(blocks(json!({ "unlock": "both", "hidden": [4], "init_last": "uniform" })));
    let ran = run(&model, BackendKind::Fused, Order::SideBySide, Role::Learning, "targets");
    let inputs = model.synthesizers.iter().position(|slot| slot.role.contains("forward_interface")).unwrap();
    let synthetic = model.synthesizer(inputs).values(&images().flatten_from(1).unwrap(), None).unwrap();
    assert!(close(&flat(ran.outputs.as_ref().unwrap()), &flat(&synthetic)));
    let evaluated = feedforward::evaluate(&model, &images()).unwrap();
    assert_eq!(evaluated.dims(), synthetic.dims());
    assert!(!close(&flat(&evaluated), &flat(&synthetic)));
}

/// Images and words that mean nothing.
struct Noise;

impl Dataset for Noise {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::nll()]
    }

    fn batches(&self, split: Split, _: usize) -> usize {
        if split == Split::Train { 3 } else { 1 }
    }

    fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
        let key = format!("{:?} {} {}", at.split, at.epoch, at.index);
        let feature = Some(normal(&[ROWS, 3, SIDE, SIDE], &key));
        let inputs = Inputs::Tokens { feature, ids: words((ROWS, STEPS - 1), &key) };
        Ok(Batch::new(inputs, Targets::Classes(words((ROWS, STEPS), &(key + "targets")))))
    }
}

/// Two interfaces, one whose true gradients arrive late and one that is removed, and dropout between them.
fn trainer(step_every: &str) -> Trainer {
    let spec: Spec = serde_json::from_value(json!({
        "task": { "kind": "captioning" },
        "model": {
            "encoder": { "kind": "blocks", "blocks": [
                { "kind": "conv", "channels": 3, "kernel": 3 }, { "kind": "batch_norm" },
                { "kind": "pool", "size": 2, "dni": { "kind": "conv", "kernel": 3, "context": "input", "lesion_at": 3 } },
                { "kind": "flatten" }, { "kind": "dropout", "p": 0.2 }, { "kind": "linear" },
                { "kind": "batch_norm", "dni": { "unlock": "both", "hidden": [6], "delay": 2 } },
            ] },
            "embed": { "size": WIDTH },
            "layers": [{ "cell": "lstm", "hidden": 6, "dni": { "hidden": [4] } }],
        },
        "train": { "epochs": 3, "batch_size": ROWS, "bptt": 2, "step_every": step_every, "clip": { "norm": 1.0 },
            "optimizer": { "kind": "adam", "lr": 0.01 } },
        "record": { "batches": true },
    }))
    .unwrap();
    Trainer::new(&train::Plugins::built_in(), &spec, &shape(), Box::new(Noise), 3, Device::Cpu).unwrap()
}

fn finish(mut trainer: Trainer) -> (Vec<(String, Vec<f32>)>, Vec<f64>) {
    let Outcome::Finished(finished) = trainer.train(&mut Keeper::default()).unwrap() else {
        panic!("nothing stops it")
    };
    let Finished { weights, history, .. } = *finished;
    let losses = history.iter().flat_map(|epoch| epoch.batches.iter().map(|batch| batch.train_loss)).collect();
    (weights.into_iter().map(|(name, tensor)| (name, flat(&tensor))).collect(), losses)
}

#[test]
fn a_resumed_encoder_ends_with_the_same_bits_wherever_it_stopped() {
    for step_every in ["batch", "window"] {
        let whole = finish(trainer(step_every));
        assert_eq!(whole.1.len(), 9);
        for after in [1, 3, 4, 7] {
            let mut keeper = Keeper::until(Some(after));
            assert!(matches!(trainer(step_every).train(&mut keeper).unwrap(), Outcome::Stopped));
            let mut resumed = trainer(step_every);
            resumed.resume(&keeper.checkpoint()).unwrap();
            assert!(finish(resumed) == whole, "{step_every}: stopped after {after} batches");
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert!(pool.install(|| finish(trainer(step_every))) == whole, "{step_every}: on threads");
    }
}

const CAPTIONS: &str = "
name: encoder-of-blocks
task:
  kind: captioning
  source: {kind: scenes, dir: scenes, train: 60, validation: 12, size: 32}
  threshold: 2
  lengths: [11, 18]
  resize: 32
  validation_batch_size: 4
  scores: true
model:
  encoder:
    kind: blocks
    blocks:
      - {kind: conv, channels: 4, kernel: 3, stride: 2, padding: 1}
      - kind: relu
      - {kind: pool, size: 4}
      - kind: flatten
      - kind: linear
      - {kind: batch_norm, dni: {hidden: [9], context: input}}
  embed: {size: 8}
  layers: [{cell: lstm, hidden: 10}]
train: {epochs: 2, batch_size: 5, bptt: 5, step_every: window, keep: best}
run: {device: cpu, checkpoint_every: 0s}
";

#[test]
fn the_program_trains_resumes_evaluates_and_samples() {
    let lab = Lab::new();
    lab.write("spec.yaml", CAPTIONS);
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let run = lab.run().0;
    let tensors = candle_core::safetensors::load(run.join("encoder.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(tensors["blocks.0.weight"].dims(), [4, 3, 3, 3]);
    assert_eq!(tensors["blocks.4.weight"].dims(), [8, 64]);
    assert_eq!(tensors["blocks.5.backward_interface.synthesizer.input_context.weight"].dims(), [9, 3 * 32 * 32]);
    assert!(flat(&tensors["blocks.5.running_mean"]).iter().any(|mean| *mean != 0.0));
    let decoder = candle_core::safetensors::load(run.join("decoder.safetensors"), &Device::Cpu).unwrap();
    assert!(decoder.keys().all(|name| !name.contains("blocks")), "{:?}", decoder.keys());

    // Its captions and its loss come back from the files.
    let decoder = run.join("decoder.safetensors").display().to_string();
    let set = ["--captions", "scenes/captions_validation.json", "--images", "scenes/validation"];
    lab.ccdni(&[&["caption-set", "--decoder", &decoder, "--out", "results.json"][..], &set].concat()).exits(0);
    let json = |path: &std::path::Path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(json(&lab.path("results.json")), json(&run.join("captions.json")));
    let said = lab.ccdni(&["evaluate", run.to_str().unwrap(), "--json"]).exits(0);
    let results = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    let mut rows = results.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let column = rows.next().unwrap().iter().position(|name| *name == "val_nll").unwrap();
    let best = rows.map(|row| row[column].parse::<f64>().unwrap()).fold(f64::INFINITY, f64::min);
    assert!(said.contains(&format!("{best}")[..8]), "{best}: {said}");
    let image = "scenes/validation/000061.png";
    assert_eq!(lab.ccdni(&["sample", "--decoder", &decoder, "--image", image]).exits(0).lines().count(), 1);
    let said = lab.ccdni(&["sample", "--decoder", &decoder, "--image", image, "--backbone", "random"]).exits(2);
    assert!(said.contains("--backbone"), "{said}");

    // PyTorch begins with the encoder's outputs.
    lab.ccdni(&["export", run.to_str().unwrap(), "--format", "numpy", "-o", "exported.npz"]).exits(0);
    let features = std::fs::read(lab.path("exported.features.npy")).unwrap();
    assert!(String::from_utf8_lossy(&features[..128]).contains("(16, 8)"));

    // A network that goes on from it, and one of another kind.
    let from = format!("train.init_from={{run: {}, seed: 1}}", run.display());
    lab.ccdni(&["run", "spec.yaml", "--set", &from, "--set", "train.epochs=1"]).exits(0);
    let other = ["run", "spec.yaml", "--set", &from, "--set", "model.encoder={kind: conv}"];
    assert!(lab.ccdni(&other).exits(2).contains("is of another kind"), "{other:?}");
    // The shapes of all parameters are the same, and what they compute is not.
    let changed = ["run", "spec.yaml", "--set", &from, "--set", "model.encoder.blocks.1={kind: tanh}"];
    let said = lab.ccdni(&changed).exits(2);
    assert!(said.contains("has other blocks") && said.contains("`dni` tables may differ"), "{said}");
}

#[test]
fn encoders_that_cannot_be_are_refused_with_the_key() {
    let lab = Lab::new();
    lab.write("spec.yaml", CAPTIONS);
    let last = "model.encoder.blocks.5";
    for (set, says) in [
        ("model.encoder.channels=[3]".to_string(), "`model.encoder.channels`"),
        ("model.encoder.trainable=none".into(), "`model.encoder.trainable`"),
        ("model.encoder={kind: conv, blocks: [{kind: flatten}]}".into(), "`model.encoder.blocks`"),
        ("model.encoder.blocks=[{kind: flatten, dni: {}}, {kind: linear}]".into(), "`model.encoder.blocks.0.dni`"),
        ("model.encoder.blocks=[{kind: conv, channels: 8, kernel: 3}]".into(), "end with `flatten`"),
        ("model.encoder.blocks.4.units=9".into(), "`model.embed.size`"),
        ("model.encoder.blocks.3.kind=relu".into(), "`model.encoder.blocks.4`"),
        ("model.encoder.blocks=[]".into(), "`model.encoder.blocks`"),
        (format!("{last}.dni.context=target"), "`model.encoder.blocks.5.dni.context`"),
        (format!("{last}.dni.lesion_at=9"), "`model.encoder.blocks.5.dni.lesion_at`"),
        (format!("{last}.dni={{unlock: backward, forward: {{hidden: [3]}}}}"), "`model.encoder.blocks.5.dni.forward`"),
        (format!("{last}.dni.hiden=[3]"), "did you mean `hidden`"),
        ("task={kind: language}".into(), "has no images"),
        ("task={kind: linedraw}".into(), "has no images"),
        ("run.seed_batch=2".into(), "`model.encoder`"),
    ] {
        let said = lab.ccdni(&["check", "spec.yaml", "--set", &set]).exits(2);
        assert!(said.contains(says), "{set}: {said}");
    }
    let without = "model.encoder.blocks=[{kind: pool, size: 16}, {kind: flatten}]";
    let said = lab.ccdni(&["check", "spec.yaml", "--set", without, "--set", "model.embed.size=12"]).exits(2);
    assert!(said.contains("no block of the encoder has parameters"), "{said}");
    let locked = lab.ccdni(&["check", "spec.yaml", "--set", &format!("{last}.dni=null")]).exits(0);
    assert!(!locked.contains("hidden: [9]") && !locked.contains("hidden:\n      - 9"), "{locked}");
}
