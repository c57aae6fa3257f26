//! A short run of every built-in task on the device that `CCDNI_TEST_DEVICE` names, by the backend that is made for GPUs, beside the same
//! run by the CPU's own kernels. Without the variable that backend computes on the CPU.

use std::fs;
use std::io::Write;

use ccdni::spec::Plugins;
use ccdni::tasks::Registry;

use crate::lab::Lab;
use crate::on_device;

const LINEDRAW: &str = "
task: {kind: linedraw, train_size: 80, val_split: 0.25, test_size: 20}
model:
  layers: [{cell: lstm, hidden: 12, dni: {hidden: [20]}}, {cell: gru, hidden: 8, dropout: 0.1}]
train: {epochs: 3, batch_size: 20, bptt: 3, feedback_every: 2, keep: best, clip: {norm: 0.1, scope: separate}}
record: {every: 2, what: [hidden, synthetic, target], cosine: true}
";
const SEQMNIST: &str = "
task: {kind: seqmnist, mode: lines, source: {kind: glyphs, train: 60, test: 20}}
model:
  layers: [{cell: gru, hidden: 10, dni: {hidden: [12], context: target}}]
train: {epochs: 3, batch_size: 20, bptt: 5, clip: {norm: 1}}
";
const RECOGNISE: &str = "
task: {kind: seqmnist, mode: recognise, source: {kind: glyphs, train: 60, test: 20}}
model:
  layers: [{cell: lstm, hidden: 10, dni: {hidden: []}}]
train: {epochs: 3, batch_size: 20, bptt: 7, activity_l2: 1.0e-3}
";
const CAPTIONING: &str = "
task:
  kind: captioning
  source: {kind: scenes, dir: scenes, train: 40, validation: 8, size: 16}
  threshold: 1
  lengths: [11, 18]
  resize: 16
  validation_batch_size: 4
  scores: true
model:
  input_dropout: 0.1
  encoder: {kind: conv, channels: [4, 6]}
  embed: {size: 8}
  layers: [{cell: lstm, hidden: 10, dni: {hidden: [12]}}]
train: {epochs: 2, batch_size: 5, bptt: 5, step_every: window, clip: {norm: 1, scope: separate}}
";

const LANGUAGE: &str = "
task: {kind: language, steps: 6, columns: 2, source: {kind: grammar, train: 30, valid: 10, test: 10}}
model:
  embed: {size: 8, range: 0.1}
  readout: tied
  input_dropout: 0.1
  layers: [{cell: lstm, hidden: 8, dni: {hidden: [9]}}]
train: {epochs: 2, batch_size: 4, bptt: 3, keep_hidden: true}
";
/// A network without a sequence: it has one backend.
const CLASSIFY: &str = "
task: {kind: classify, source: {kind: glyphs, train: 60, test: 10}}
model:
  blocks:
    - {kind: conv, channels: 2, kernel: 5}
    - {kind: pool, size: 4, dni: {kind: conv, kernel: 3, context: target}}
    - kind: relu
    - kind: flatten
    - {kind: linear, units: 9}
    - {kind: batch_norm, dni: {unlock: both, hidden: [8]}}
    - kind: tanh
    - {kind: dropout, p: 0.2}
    - kind: linear
# Adam would make steps of what rounding leaves of the gradient of a bias before a normalisation, which is 0.
train: {epochs: 2, batch_size: 10, optimizer: {kind: sgd, lr: 0.05}}
";
/// Tasks that draw patterns, with cells that the others do not have.
const PATTERNS: [(&str, &str); 5] = [
    ("add", "{kind: add, first_lag: 2, second_lag: 4, seq_len: 8, train_size: 12, validation_size: 6, test_size: 6}"),
    ("evidence", "{kind: evidence, stimulus: 6, delay: 2, train_size: 12, validation_size: 6, test_size: 6}"),
    ("copy", "{kind: copy, bits: 2, length: 2, repeats: 2, train_size: 12}"),
    ("mimic", "{kind: mimic, seq_len: 8, hidden: 6, train_size: 12, validation_size: 6, test_size: 6}"),
    ("delayed_association", "{kind: delayed_association, delay: 2, train_size: 12, validation_size: 6, test_size: 6}"),
];
const CELLS: &str = "
model: {layers: [{cell: leaky, hidden: 6, dni: {hidden: [8]}}, {cell: tanh, hidden: 5}, {cell: relu, hidden: 4}]}
train: {epochs: 2, batch_size: 6, bptt: 3}
";

/// Weights, and every row of numbers but the time they took.
type Result = (Vec<u8>, Vec<Vec<f64>>);

/// Trains, from the beginning.
fn trained(lab: &Lab, arguments: &[&str]) -> Result {
    let _ = fs::remove_dir_all(lab.path("outputs"));
    goes_on(lab, arguments)
}

/// Trains what is left.
fn goes_on(lab: &Lab, arguments: &[&str]) -> Result {
    lab.ccdni(&[&["run", "spec.yaml", "--seeds", "1"], arguments].concat()).exits(0);
    let run = lab.run().0;
    let table = fs::read_to_string(run.join("metrics.csv")).unwrap();
    let seconds = table.lines().next().unwrap().split(',').position(|name| name == "seconds").unwrap();
    let row = |line: &str| {
        let numbers = line.split(',').enumerate().filter(|(at, _)| *at != seconds);
        numbers.map(|(_, number)| number.parse().unwrap_or(f64::NAN)).collect()
    };
    (fs::read(run.join("decoder.safetensors")).unwrap(), table.lines().skip(1).map(row).collect())
}

fn check(task: &str, spec: &str) {
    let name = on_device::name();
    if on_device::device().is_none() {
        return on_device::skipped(task);
    }
    let lab = Lab::new();
    lab.write("spec.yaml", spec);
    let recurrent = spec.contains("layers:");
    let device = format!("run.device={name}");
    let there = ["--set", &device, "--set", if recurrent { "run.backend=unrolled" } else { "run.backend=auto" }];
    let (expected_weights, expected) = trained(&lab, &["--set", "run.device=cpu"]);
    let (weights, numbers) = trained(&lab, &there);
    let record = lab.run().json("seeds/1/unit.json");
    assert!(record["device"].as_str().unwrap().starts_with(name.split(':').next().unwrap()), "{record}");
    if recurrent {
        assert_eq!(record["backend"], "unrolled");
        assert!(weights != expected_weights, "{task}: it was another backend");
    }
    assert_close(task, &numbers, &expected);
    let (again, _) = trained(&lab, &there);
    let bits = if weights == again { "the same" } else { "other" };
    let _ = writeln!(std::io::stderr(), "{task} on {name}: {bits} bits from run to run");
    assert!(weights == again || !repeats(), "every run gives the same bits");
}

/// Whether runs give the same bits.
fn repeats() -> bool {
    on_device::name() == "cpu" || on_device::expects("bits")
}

fn assert_close(what: &str, numbers: &[Vec<f64>], expected: &[Vec<f64>]) {
    assert_eq!(numbers.len(), expected.len(), "{what}");
    for (number, expected) in numbers.iter().flatten().zip(expected.iter().flatten()) {
        let close = (number - expected).abs() <= on_device::slack() * 1e-3 * (1e-2 + expected.abs());
        assert!(close || (number.is_nan() && expected.is_nan()), "{what}: {number} and {expected}");
    }
}

#[test]
fn linedraw() {
    check("linedraw", LINEDRAW);
}

#[test]
fn seqmnist() {
    check("lines", SEQMNIST);
    check("recognition", RECOGNISE);
}

#[test]
fn captioning() {
    check("captioning", CAPTIONING);
}

#[test]
fn language() {
    check("language", LANGUAGE);
}

#[test]
fn classify() {
    check("classify", CLASSIFY);
}

#[test]
fn patterns() {
    for (task, keys) in PATTERNS {
        check(task, &format!("task: {keys}{CELLS}"));
    }
}

/// No task is left out: each that is registered has a spec above.
#[test]
fn every_built_in_task_is_here() {
    let patterns = PATTERNS.map(|(_, keys)| keys);
    let specs = [LINEDRAW, SEQMNIST, CAPTIONING, LANGUAGE, CLASSIFY].into_iter().chain(patterns).collect::<String>();
    for kind in Registry::built_in().tasks().kinds() {
        assert!(specs.contains(&format!("kind: {kind},")) || specs.contains(&format!("kind: {kind}\n")), "{kind}");
    }
}

/// A run that was interrupted on the device goes on on the CPU.
#[test]
fn a_run_moves_to_the_cpu() {
    if on_device::device().is_none() {
        return on_device::skipped("a_run_moves_to_the_cpu");
    }
    let lab = Lab::new();
    lab.write("spec.yaml", LINEDRAW);
    let device = format!("run.device={}", on_device::name());
    let there = ["run", "spec.yaml", "--seeds", "1", "--set", &device, "--set", "run.backend=unrolled"];
    let long = ["--verbose", "--set", "train.epochs=100000", "--set", "run.checkpoint_every={epochs: 1}"];
    let mut running = lab.start(&[&there[..], &long].concat());
    assert!(running.saw_epochs(2));
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let unit = lab.run();
    assert!(unit.0.join("seeds/1/checkpoint.safetensors").exists());
    let mut running =
        lab.start(&[&["run", "spec.yaml", "--seeds", "1", "--set", "run.device=cpu"], &long[..]].concat());
    let more = 4;
    assert!(running.saw_epochs(more), "it goes on");
    assert!(running.last_epoch(1) > more, "behind the epochs that are done");
    running.signal("INT");
    running.end();
    let notes = unit.json("seeds/1/unit.json")["notes"].to_string();
    assert!(notes.contains("resumed with backend fused after unrolled"), "{notes}");
}

/// A run that was interrupted goes on on the same device as if nothing had happened.
#[test]
fn a_run_goes_on_where_it_was() {
    let name = on_device::name();
    if on_device::device().is_none() {
        return on_device::skipped("a_run_goes_on_where_it_was");
    }
    let lab = Lab::new();
    lab.write("spec.yaml", LINEDRAW);
    // Long enough to be interrupted: the stand-in for a GPU takes long for each.
    let epochs = if name == "cpu" || !on_device::expects("bits") { 400 } else { 12 };
    let (epochs, device) = (format!("train.epochs={epochs}"), format!("run.device={name}"));
    let there = ["--set", &epochs, "--set", &device, "--set", "run.backend=unrolled"];
    let (expected_weights, expected) = trained(&lab, &there);
    fs::remove_dir_all(lab.path("outputs")).unwrap();
    let mut running = lab.start(&[&["run", "spec.yaml", "--verbose", "--seeds", "1"], &there[..]].concat());
    assert!(running.saw_epochs(2));
    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let (weights, numbers) = goes_on(&lab, &there);
    assert!(weights == expected_weights || !repeats(), "other bits than without an interruption");
    assert_close("the run that went on", &numbers, &expected);
}

/// Rounded factors change what is trained, and are noted.
#[test]
fn tf32_rounds_where_it_is_asked_for() {
    let name = on_device::name();
    if on_device::device().is_none() || !name.starts_with("cuda") {
        return on_device::skipped("tf32_rounds_where_it_is_asked_for");
    }
    let lab = Lab::new();
    lab.write("spec.yaml", RECOGNISE);
    let device = format!("run.device={name}");
    let exact = trained(&lab, &["--set", &device]);
    let rounded = trained(&lab, &["--set", &device, "--set", "run.tf32=true"]);
    assert!(exact.0 != rounded.0, "nothing was rounded");
    let record = lab.run().json("seeds/1/unit.json");
    assert!(record["device"].as_str().unwrap().ends_with(", TF32"), "{record}");
}
