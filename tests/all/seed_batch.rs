//! Seeds that are trained together (`run.seed_batch`) are the seeds trained alone: the same weights and numbers, within rounding, for any
//! stack, task and optimizer; the same bits from run to run; and the same files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use ccdni::data::{Batch, BatchIndex, Dataset, Inputs, Metric, Split, Targets};
use ccdni::plugins::Catalogue;
use ccdni::rng::Stream;
use ccdni::spec::Spec;
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::testing::as_on_a_gpu;
use ccdni::train::{
    BatchProgress, Callback, Checkpoint, EpochRow, Finished, MetricInfo, Next, Outcome, Plugins, Trainer, train_seeds,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::lab::Lab;
use crate::orders::stack;
use crate::trainer::Keeper;

/// What a random task is made of.
#[derive(Debug, Clone, Copy)]
struct Kind {
    tokens: bool,
    classes: bool,
    last: bool,
    steps: usize,
}

const WIDTH: usize = 3;

/// An adaptive optimizer divides by the size of gradients: with its usual `eps` it would turn rounding of a gradient near zero into a
/// whole step, and seeds together sum in another order than a seed alone.
const EPS: f64 = 0.1;

/// At which few random stacks diverge.
const LR: f64 = 0.002;

impl Kind {
    fn shape(self) -> TaskShape {
        let input = match self.tokens {
            true => Input::Tokens { vocabulary: 5, first: First::Feature },
            false => Input::Dense { features: WIDTH },
        };
        let kind = match self.classes {
            true => TargetKind::Classes { count: WIDTH },
            false => TargetKind::Values { size: WIDTH },
        };
        let when = if self.last { When::LastStep } else { When::EveryStep };
        TaskShape { input, target: Target { kind, when }, steps: Some(self.steps), validates: true }
    }
}

/// Noise, of a seed.
struct Noise {
    kind: Kind,
    seed: u64,
    /// From this epoch on, the data are too large for any network.
    explodes_in: Option<usize>,
}

impl Dataset for Noise {
    fn metrics(&self) -> Vec<Metric> {
        vec![if self.kind.classes { Metric::accuracy() } else { Metric::squared_distance() }]
    }

    fn batches(&self, split: Split, _batch_size: usize) -> usize {
        if split == Split::Train { 3 } else { 2 }
    }

    fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
        let Kind { tokens, classes, last, steps } = self.kind;
        let mut stream = Stream::new(self.seed, &format!("data.{:?}", at.split), at.epoch, at.index);
        let rows = at.batch_size;
        let explodes = at.split == Split::Train && self.explodes_in.is_some_and(|epoch| at.epoch >= epoch);
        let size = if explodes { f32::INFINITY } else { 1.0 };
        let mut numbers = |dims: &[usize]| {
            let values: Vec<f32> = (0..dims.iter().product()).map(|_| size * stream.normal()).collect();
            Tensor::from_vec(values, dims, &Device::Cpu)
        };
        let (dense, feature) = (numbers(&[rows, steps, WIDTH])?, numbers(&[rows, WIDTH])?);
        let (values, last_value) = (numbers(&[rows, steps, WIDTH])?, numbers(&[rows, WIDTH])?);
        let mut whole = |dims: &[usize], below: usize| {
            let values: Vec<u32> = (0..dims.iter().product()).map(|_| stream.below(below) as u32).collect();
            Tensor::from_vec(values, dims, &Device::Cpu)
        };
        let inputs = match tokens {
            true => Inputs::Tokens { feature: Some(feature), ids: whole(&[rows, steps - 1], 5)? },
            false => Inputs::Dense(dense),
        };
        let targets = match (classes, last) {
            (false, false) => Targets::Values(values),
            (false, true) => Targets::FinalValues(last_value),
            (true, false) => Targets::Classes(whole(&[rows, steps], WIDTH)?),
            (true, true) => Targets::FinalClass(whole(&[rows], WIDTH)?),
        };
        // Each seed has other sequences twice.
        let repeated = (0..rows).map(|_| stream.below(rows) as u32).chain(0..rows as u32).collect();
        Ok(Batch::repeating(inputs, targets, repeated))
    }
}

fn trainer(spec: &Spec, kind: Kind, seed: u64) -> Trainer {
    let data = Noise { kind, seed, explodes_in: None };
    Trainer::new(&Plugins::built_in(), spec, &kind.shape(), Box::new(data), seed, Device::Cpu).expect("a trainer")
}

/// Trains together, from checkpoints or from the beginning; stops after some batches.
fn train(trainers: Vec<Trainer>, stop_after: Option<usize>) -> (Vec<ccdni::Result<Outcome>>, Vec<Keeper>) {
    let mut keepers: Vec<Keeper> = trainers.iter().map(|_| Keeper::until(stop_after)).collect();
    let mut seeds: Vec<(Trainer, &mut dyn Callback)> = Vec::new();
    for (trainer, keeper) in trainers.into_iter().zip(&mut keepers) {
        seeds.push((trainer, keeper));
    }
    (train_seeds(seeds), keepers)
}

/// The seeds trained alone; `None` if one of them diverges, or comes near it, as random stacks may whose states have no bound: rounding then
/// grows with the numbers. What becomes of a seed that fails is a test of its own.
fn steady(spec: &Spec, kind: Kind, seeds: &[u64]) -> Option<Vec<Finished>> {
    let alone = seeds.iter().map(|&seed| match trainer(spec, kind, seed).train(&mut Keeper::default()) {
        Ok(Outcome::Finished(finished)) => Some(*finished),
        _ => None,
    });
    let alone: Vec<Finished> = alone.collect::<Option<_>>()?;
    let is_small =
        |(_, numbers): &(String, Vec<f64>)| numbers.iter().all(|number| number.is_nan() || number.abs() < 1e3);
    alone.iter().all(|one| numbers(one).iter().all(is_small)).then_some(alone)
}

fn finished(outcome: ccdni::Result<Outcome>) -> Finished {
    match outcome.expect("training") {
        Outcome::Finished(finished) => *finished,
        Outcome::Stopped => panic!("stopped although nobody asked"),
    }
}

fn together(spec: &Spec, kind: Kind, seeds: &[u64]) -> Vec<Finished> {
    let trainers = seeds.iter().map(|&seed| trainer(spec, kind, seed)).collect();
    train(trainers, None).0.into_iter().map(finished).collect()
}

fn alone(spec: &Spec, kind: Kind, seed: u64) -> Finished {
    finished(trainer(spec, kind, seed).train(&mut Keeper::default()))
}

/// Every number of a result but the times, by name.
fn numbers(finished: &Finished) -> Vec<(String, Vec<f64>)> {
    let mut all = vec![
        ("test".into(), finished.test.clone()),
        ("epochs".into(), vec![finished.best_epoch as f64, finished.kept_epoch as f64]),
    ];
    for row in &finished.history {
        let mut numbers = vec![row.train_loss, row.train_loss_original];
        numbers.extend(&row.validation);
        numbers.extend(row.extra.iter().map(|extra| extra.value));
        numbers.extend(row.batches.iter().map(|batch| batch.train_loss));
        all.push((format!("epoch {}", row.epoch), numbers));
    }
    for (name, value) in &finished.weights {
        let values = value.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("numbers");
        all.push((name.clone(), values.into_iter().map(f64::from).collect()));
    }
    all
}

#[track_caller]
fn assert_close(found: &Finished, expected: &Finished) {
    let (found, expected) = (numbers(found), numbers(expected));
    assert_eq!(found.len(), expected.len());
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        assert_eq!(found.len(), expected.len(), "{name}");
        let differ = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-5 * b.abs().max(1.0);
        let differ = found.iter().zip(expected).position(differ);
        assert_eq!(differ, None, "{name}: {found:?} {expected:?}");
    }
}

fn spec(model: &Value, changes: Value) -> Spec {
    let mut train = json!({ "epochs": 3, "batch_size": 4, "optimizer": { "kind": "adam", "lr": 0.01, "eps": EPS } });
    changes.as_object().into_iter().flatten().for_each(|(key, value)| train[key] = value.clone());
    let spec = json!({
        "task": { "kind": "noise" }, "model": model, "train": train,
        "run": { "device": "cpu", "seed_batch": "auto" }, "record": { "batches": true },
    });
    serde_json::from_value(spec).expect("a valid spec")
}

prop_compose! {
    fn experiment()(
        layers in stack(), tokens in any::<bool>(), classes in any::<bool>(), last in any::<bool>(), steps in 2..8usize,
        input_dropout in prop::sample::select(vec![0.0, 0.2]), window in prop::option::of(1..8usize),
        clip in prop::sample::select(vec![json!(null), json!({"norm": 0.3}), json!({"norm": 0.3, "scope": "separate"})]),
        kind in prop::sample::select(ccdni::train::optimizer::built_in().kinds()), decay in prop::sample::select(vec![0.0, 0.1]),
        activity in prop::sample::select(vec![0.0, 0.5]), every in 1..3usize, by_window in any::<bool>(), keep in any::<bool>(),
    ) -> (Spec, Kind) {
        let mut model = json!({ "layers": layers, "input_dropout": input_dropout });
        if tokens {
            model["embed"] = json!({ "size": WIDTH });
        }
        let optimizer = match kind {
            "sgd" => json!({ "kind": kind, "lr": LR, "weight_decay": decay }),
            _ => json!({ "kind": kind, "lr": LR, "weight_decay": decay, "eps": EPS }),
        };
        let changes = json!({
            "optimizer": optimizer, "clip": clip, "bptt": window, "activity_l2": activity, "keep_hidden": keep,
            "feedback_every": if last { 1 } else { every }, "step_every": if by_window { "window" } else { "batch" },
            "keep": if keep { "best" } else { "last" },
        });
        (spec(&model, changes), Kind { tokens, classes, last, steps })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn seeds_together_are_seeds_alone((spec, kind) in experiment(), count in 2..5u64) {
        let seeds: Vec<u64> = (1..=count).collect();
        let expected = steady(&spec, kind, &seeds);
        prop_assume!(expected.is_some());
        let found = together(&spec, kind, &seeds);
        for (found, expected) in found.iter().zip(expected.iter().flatten()) {
            assert_close(found, expected);
        }
        let again = together(&spec, kind, &seeds);
        prop_assert_eq!(again.iter().map(numbers).collect::<Vec<_>>(), found.iter().map(numbers).collect::<Vec<_>>());
        // Where numbers are read late.
        for (late, found) in as_on_a_gpu(|| together(&spec, kind, &seeds)).iter().zip(&found) {
            assert_close(late, found);
        }
    }

    #[test]
    fn stopped_anywhere_and_resumed_is_never_stopped((spec, kind) in experiment(), stop_after in 1..9usize) {
        let seeds = [1, 2, 3];
        prop_assume!(steady(&spec, kind, &seeds).is_some());
        let expected = together(&spec, kind, &seeds);
        let begin = || seeds.iter().map(|&seed| trainer(&spec, kind, seed)).collect::<Vec<_>>();
        let (outcomes, keepers) = train(begin(), Some(stop_after));
        prop_assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::Stopped))));
        let mut resumed = begin();
        for (trainer, keeper) in resumed.iter_mut().zip(&keepers) {
            trainer.resume(&keeper.checkpoint()).expect("it fits");
        }
        for (found, expected) in train(resumed, None).0.into_iter().zip(&expected) {
            prop_assert_eq!(numbers(&finished(found)), numbers(expected));
        }
        // A seed that goes on alone, from a checkpoint that all wrote together.
        let mut one = trainer(&spec, kind, 2);
        one.resume(&keepers[1].checkpoint()).expect("it fits");
        assert_close(&finished(one.train(&mut Keeper::default())), &expected[1]);
    }
}

const DENSE: Kind = Kind { tokens: false, classes: false, last: false, steps: 5 };

fn layers() -> Value {
    let dni = json!({ "hidden": [5], "fibres": 2, "freeze_at": 2, "frozen_in_norm": "accumulate" });
    json!({ "layers": [
        { "cell": "lstm", "hidden": 4, "dni": dni },
        { "cell": "gru", "hidden": 3, "feedback": { "kind": "cerebellum", "hidden": [4] } },
    ]})
}

#[test]
fn feedback_and_frozen_synthesizers_have_seeds_too() {
    let spec = spec(&layers(), json!({ "bptt": 2, "clip": { "norm": 0.1 } }));
    for (seed, found) in [3, 8].into_iter().zip(together(&spec, DENSE, &[3, 8])) {
        assert_close(&found, &alone(&spec, DENSE, seed));
    }
}

#[test]
fn a_seed_that_fails_or_is_done_leaves_the_others_as_they_are() {
    let spec = spec(&layers(), json!({ "epochs": 12, "early_stopping": { "patience": 2 }, "clip": { "norm": 0.1 } }));
    let seeds = [1, 2, 3, 4, 5];
    let expected: Vec<Finished> = seeds.iter().map(|&seed| alone(&spec, DENSE, seed)).collect();
    let epochs: BTreeSet<usize> = expected.iter().map(|one| one.history.len()).collect();
    assert!(epochs.len() > 1, "they stop at different epochs: {epochs:?}");
    let check = || {
        let explodes = |seed: u64| {
            let data = Noise { kind: DENSE, seed, explodes_in: Some(2) };
            let plugins = Plugins::built_in();
            Trainer::new(&plugins, &spec, &DENSE.shape(), Box::new(data), seed, Device::Cpu).expect("a trainer")
        };
        let mut trainers: Vec<Trainer> = seeds.iter().map(|&seed| trainer(&spec, DENSE, seed)).collect();
        trainers.insert(2, explodes(9));
        let (mut outcomes, _) = train(trainers, None);
        let failed = outcomes.remove(2).expect_err("it diverged").to_string();
        assert!(failed.contains("epoch 2, batch 1: the loss is NaN"), "{failed}");
        for (found, expected) in outcomes.into_iter().zip(&expected) {
            assert_close(&finished(found), expected);
        }
    };
    check();
    as_on_a_gpu(check);
}

/// Requests a checkpoint after one batch, or none, and counts those that it gets.
struct Requests {
    after: usize,
    batches: usize,
    saved_after: Vec<usize>,
}

impl Callback for Requests {
    fn batch(&mut self, _progress: &BatchProgress) -> ccdni::Result<Next> {
        self.batches += 1;
        Ok(if self.batches == self.after { Next::Checkpoint } else { Next::Continue })
    }

    fn epoch(&mut self, _row: &EpochRow, _metrics: &[MetricInfo]) -> ccdni::Result<Next> {
        Ok(Next::Continue)
    }

    fn checkpoint(&mut self, _checkpoint: &Checkpoint) -> ccdni::Result<()> {
        self.saved_after.push(self.batches);
        Ok(())
    }
}

#[test]
fn a_checkpoint_of_one_seed_is_one_of_all_so_that_they_can_go_on_together() {
    let spec = spec(&layers(), json!({}));
    let mut requests = [2, usize::MAX].map(|after| Requests { after, batches: 0, saved_after: Vec::new() });
    let mut seeds: Vec<(Trainer, &mut dyn Callback)> = Vec::new();
    for (seed, requests) in (1..).zip(&mut requests) {
        seeds.push((trainer(&spec, DENSE, seed), requests));
    }
    assert!(train_seeds(seeds).iter().all(Result::is_ok));
    let saved = requests.map(|requests| requests.saved_after);
    assert!(saved[0].contains(&2) && saved[0] == saved[1], "{saved:?}");
}

const SPEC: &str = "
task: {kind: linedraw, train_size: 60, val_split: 0.25, test_size: 20, train_noise: 0.1}
model:
  layers: [{cell: lstm, hidden: 8, dni: {hidden: [10]}}]
train: {epochs: 4, batch_size: 15, bptt: 3, feedback_every: 2, keep: best, clip: {norm: 0.1}}
record: {outputs: 2, batches: true}
run: {device: cpu, backend: composed, checkpoint_every: {epochs: 1}}
seeds: 1..5
";

/// The files of a seed, and its table without times.
fn files(seed: &Path) -> (BTreeSet<String>, Vec<f64>) {
    let mut names = BTreeSet::new();
    let mut folders = vec![seed.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            names.insert(path.strip_prefix(seed).unwrap().display().to_string());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    let table = fs::read_to_string(seed.join("metrics.csv")).unwrap();
    let time = table.lines().next().unwrap().split(',').position(|name| name == "seconds").unwrap();
    let rows = table.lines().skip(1).flat_map(|row| row.split(',').enumerate().filter(|(at, _)| *at != time));
    (names, rows.map(|(_, number)| number.parse().unwrap()).collect())
}

#[test]
fn a_run_has_the_files_and_numbers_of_seeds_trained_one_by_one() {
    let lab = Lab::new();
    lab.write("spec.yaml", SPEC);
    lab.ccdni(&["run", "spec.yaml", "--outputs", "alone"]).exits(0);
    let together = ["run", "spec.yaml", "--set", "run.seed_batch=auto"];
    lab.ccdni(&together).exits(0);
    let (alone, run) = (lab.only_run("alone"), lab.run());
    assert_eq!(alone.file_name(), run.0.file_name(), "the key is not hashed");
    let mut seconds = 0.0;
    for seed in 1..=5 {
        let place = format!("seeds/{seed}");
        let ((names, numbers), (expected_names, expected)) = (files(&run.0.join(&place)), files(&alone.join(&place)));
        assert_eq!(names, expected_names);
        for (a, b) in numbers.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}");
        }
        let record = run.json(&format!("{place}/unit.json"));
        assert_eq!((&record["backend"], &record["state"]), (&json!("composed"), &json!("done")));
        seconds += record["seconds"].as_f64().unwrap();
    }
    assert!(seconds > 0.0);
    let said = lab.ccdni(&together).exits(0);
    assert!(said.contains("finished already"), "{said}");
    // In batches of two, two, and one, on two workers.
    let pairs = ["run", "spec.yaml", "--set", "run.seed_batch=2", "--jobs", "2", "--outputs", "pairs"];
    lab.ccdni(&pairs).exits(0);
    let weights = |run: &Path, seed: u64| fs::read(run.join(format!("seeds/{seed}/decoder.safetensors"))).unwrap();
    assert!(lab.only_run("pairs").join("seeds/5/decoder.safetensors").exists());
    lab.ccdni(&["run", "spec.yaml", "--set", "run.seed_batch=auto", "--outputs", "again"]).exits(0);
    for seed in 1..=5 {
        assert!(weights(&run.0, seed) == weights(&lab.only_run("again"), seed), "the same bits from run to run");
    }
}

#[test]
fn an_interrupted_run_goes_on_together_and_ends_with_the_same_bits() {
    let lab = Lab::new();
    lab.write("spec.yaml", SPEC);
    let long = ["--set", "run.seed_batch=auto", "--set", "train.epochs=120", "--set", "record=null"];
    lab.ccdni(&[&["run", "spec.yaml", "--outputs", "whole"], &long[..]].concat()).exits(0);
    let mut running = lab.start(&[&["run", "spec.yaml", "--verbose"], &long[..]].concat());
    assert!(running.saw_epochs(12));
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let (whole, run) = (lab.only_run("whole"), lab.run());
    for seed in 1..=5 {
        assert!(run.0.join(format!("seeds/{seed}/checkpoint.safetensors")).exists());
    }
    let said = lab.ccdni(&[&["run", "spec.yaml"], &long[..]].concat()).exits(0);
    assert!(said.contains("seed 3: goes on from a checkpoint"), "{said}");
    for seed in 1..=5 {
        let name = format!("seeds/{seed}/decoder.safetensors");
        assert!(fs::read(run.0.join(&name)).unwrap() == fs::read(whole.join(&name)).unwrap(), "{name}");
    }
}

/// Seeds that stand at different batches are trained as far as they are, and one that another program holds is left to it.
#[test]
fn seeds_at_different_batches_are_trained_apart() {
    let lab = Lab::new();
    lab.write("spec.yaml", SPEC);
    let mut running = lab.start(&["run", "spec.yaml", "--verbose", "--seeds", "2", "--set", "train.epochs=150"]);
    assert!(running.saw_epochs(2));
    running.signal("INT");
    running.end();
    let arguments = ["run", "spec.yaml", "--set", "train.epochs=150", "--set", "run.seed_batch=3"];
    let said = lab.ccdni(&arguments).exits(0);
    assert!(said.contains("seed 2: goes on from a checkpoint"), "{said}");
    for seed in 1..=5 {
        assert_eq!(lab.run().json(&format!("seeds/{seed}/unit.json"))["state"], "done");
    }
}

#[test]
fn what_cannot_be_trained_together_is_refused_before_anything_is_written() {
    let refused = |spec: &str, more: &[&str], names: &[&str]| {
        let lab = Lab::new();
        lab.write("spec.yaml", spec);
        let together = ["run", "spec.yaml", "--set", "run.seed_batch=2"];
        let said = lab.ccdni(&[&together, more].concat()).exits(2);
        for name in names {
            assert!(said.contains(name) && said.contains("run.seed_batch"), "{name}: {said}");
        }
        assert!(!lab.path("outputs").exists(), "nothing is written");
    };
    refused(SPEC, &["--set", "run.backend=fused"], &["`run.backend`", "one seed at a time"]);
    refused(SPEC, &["--set", "train.schedule={kind: reduce_on_plateau}"], &["`train.schedule`"]);
    refused(SPEC, &["--set", "record={cosine: true}"], &["`record`"]);
    refused(
        SPEC,
        &["--set", "train.rule={kind: rtrl}", "--set", "model.layers=[{cell: tanh, hidden: 3}]"],
        &["`train.rule`"],
    );
    let blocks = "
task: {kind: classify, source: {kind: glyphs, train: 40, test: 20}}
model: {blocks: [{kind: flatten}, {kind: linear, units: 4}]}
train: {epochs: 1, batch_size: 10}
";
    refused(blocks, &[], &["`model.blocks`"]);
    let copy = "
task: {kind: copy, bits: 2, train_size: 40}
model: {layers: [{cell: lstm, hidden: 4}]}
train: {epochs: 1, batch_size: 10}
";
    refused(copy, &[], &["curriculum"]);
    let lab = Lab::new();
    let said = lab.ccdni(&["run", "spec.yaml", "--set", "run.seed_batch=0"]).exits(2);
    assert!(said.contains("`run.seed_batch`") && said.contains("at least 1"), "{said}");
}
