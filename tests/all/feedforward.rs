//! Feed-forward networks: interfaces, resuming, threads, and the program from a spec to results.

use std::fs;

use candle_core::{Device, Tensor};
use ccdni::spec::Spec;
use ccdni::tasks::{Classify, LineDraw, Task};
use ccdni::train::{Finished, Outcome, Plugins, Trainer};
use serde_json::json;

use crate::lab::Lab;
use crate::trainer::Keeper;

/// A recurrent network above blocks with an interface, dropout and late gradients, whose state goes on from batch to batch.
fn recurrent() -> Trainer {
    let spec: Spec = serde_json::from_value(json!({
        "task": { "kind": "linedraw" },
        "model": {
            "blocks": [
                { "kind": "linear", "units": 9 }, { "kind": "batch_norm", "dni": { "hidden": [8], "delay": 2 } },
                { "kind": "dropout", "p": 0.2 }, { "kind": "linear", "units": 6, "dni": { "unlock": "both", "hidden": [7] } },
            ],
            "layers": [{ "cell": "lstm", "hidden": 5, "dni": { "hidden": [6] } }],
        },
        "train": { "epochs": 3, "batch_size": 10, "bptt": 3, "keep_hidden": true, "optimizer": { "kind": "adam", "lr": 0.01 } },
        "record": { "batches": true },
    }))
    .unwrap();
    let task = LineDraw { points: 5, seq_len: 8, train_size: 40, test_size: 0, ..LineDraw::default() };
    Trainer::new(&Plugins::built_in(), &spec, &task.shape(), task.open(3).unwrap(), 3, Device::Cpu).unwrap()
}

/// A network with every kind of interface, dropout and late gradients.
fn feed_forward() -> Trainer {
    let task = json!({ "source": { "kind": "glyphs", "train": 60, "test": 10 } });
    let spec: Spec = serde_json::from_value(json!({
        "task": { "kind": "classify" },
        "model": { "blocks": [
            { "kind": "conv", "channels": 2, "kernel": 5 },
            { "kind": "pool", "size": 4, "dni": { "kind": "conv", "kernel": 3, "context": "target", "delay": 2 } },
            { "kind": "relu" }, { "kind": "flatten" }, { "kind": "linear", "units": 9 },
            { "kind": "batch_norm", "dni": { "unlock": "both", "hidden": [8], "context": "input" } },
            { "kind": "tanh" }, { "kind": "dropout", "p": 0.2 }, { "kind": "linear", "units": 7, "dni": { "freeze_at": 2 } },
            { "kind": "linear" },
        ] },
        "train": { "epochs": 3, "batch_size": 10, "optimizer": { "kind": "adam", "lr": 0.01 } },
        "record": { "batches": true },
    }))
    .unwrap();
    let task: Classify = serde_json::from_value(task).unwrap();
    Trainer::new(&Plugins::built_in(), &spec, &task.shape(), task.open(3).unwrap(), 3, Device::Cpu).unwrap()
}

/// The weights, and the loss of every batch.
fn result(finished: &Finished) -> (Vec<Vec<f32>>, Vec<f64>) {
    let flat = |(_, tensor): &(String, Tensor)| tensor.flatten_all().unwrap().to_vec1().unwrap();
    let losses = finished.history.iter().flat_map(|epoch| epoch.batches.iter().map(|batch| batch.train_loss));
    (finished.weights.iter().map(flat).collect(), losses.collect())
}

fn finish(mut trainer: Trainer) -> (Vec<Vec<f32>>, Vec<f64>) {
    match trainer.train(&mut Keeper::default()).unwrap() {
        Outcome::Finished(finished) => result(&finished),
        Outcome::Stopped => panic!("nothing stopped it"),
    }
}

#[test]
fn a_resumed_network_ends_with_the_same_bits_wherever_it_stopped() {
    for trainer in [feed_forward, recurrent] {
        let whole = finish(trainer());
        assert!(!whole.1.is_empty(), "losses of batches are recorded");
        for after in [1, 4, 6, 8] {
            let mut keeper = Keeper::until(Some(after));
            assert!(matches!(trainer().train(&mut keeper).unwrap(), Outcome::Stopped));
            let mut resumed = trainer();
            resumed.resume(&keeper.checkpoint()).unwrap();
            assert!(finish(resumed) == whole, "stopped after {after} batches");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for trainer in [feed_forward, recurrent] {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| finish(trainer()))
        };
        assert!(on(1) == on(3));
    }
}

const NETWORK: &str = "
task: {kind: classify, source: {kind: glyphs, train: 120, test: 20}}
model:
  blocks:
    - kind: flatten
    - {kind: linear, units: 12}
    - {kind: batch_norm, dni: {unlock: both, hidden: [9], context: target}}
    - kind: relu
    - kind: linear
train: {epochs: 2, batch_size: 16}
run: {device: cpu}
";

#[test]
fn the_program_trains_a_network_of_blocks() {
    let lab = Lab::new();
    lab.write("spec.yaml", NETWORK);
    let output = lab.command(&["run", "spec.yaml"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("feed-forward"), "{text}");
    let run = fs::read_dir(lab.path("outputs")).unwrap().next().unwrap().unwrap().path();
    let rows = fs::read_to_string(run.join("metrics.csv")).unwrap();
    assert!(rows.lines().next().unwrap().contains("val_accuracy") && rows.lines().count() == 3, "{rows}");
    let tensors = candle_core::safetensors::load(run.join("decoder.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(tensors["blocks.2.forward_interface.synthesizer.input_trigger.weight"].dims(), [9, 784]);
    assert_eq!(tensors["blocks.4.weight"].dims(), [10, 12]);
}

#[test]
fn synthetic_inputs_alone_have_no_place_on_the_axis_of_unlocking() {
    let lab = Lab::new();
    lab.write("spec.yaml", NETWORK);
    for dni in ["{hidden: [9]}", "{unlock: forward, hidden: [9]}"] {
        let set = format!("model.blocks.2.dni={dni}");
        lab.ccdni(&["run", "spec.yaml", "--set", &set, "--set", "train.epochs=1"]).exits(0);
    }
    let runs: Vec<String> = lab.runs().iter().map(|run| run.0.display().to_string()).collect();
    let said = lab.ccdni(&["plot", &runs[0], &runs[1], "--x", "unlock"]).exits(2);
    assert!(said.contains("`unlock: forward`") && !said.contains("whole number"), "{said}");
}

#[test]
fn networks_that_cannot_be_are_refused_with_the_key() {
    let lab = Lab::new();
    lab.write("spec.yaml", NETWORK);
    for (set, says) in [
        ("model.blocks.0.dni={}", "`model.blocks.0.dni`"),
        ("model.blocks.2.dni.kind=conv", "there are vectors here"),
        ("model.blocks.4.units=9", "has targets of 10"),
        ("model.blocks.0.kind=pool", "`model.blocks.1`"),
        ("model.layers=[{cell: lstm, hidden: 3}]", "without a sequence to read"),
        ("model.blocks=null", "`model.blocks`: is missing"),
        ("model.blocks.2.dni={unlock: backward, forward: {hidden: [3]}}", "`model.blocks.2.dni.forward`"),
        ("train.rule={kind: rtrl}", "`train.rule`"),
        ("model.blocks.2.dni.lesion_at=9", "`model.blocks.2.dni.lesion_at`"),
        ("train.keep_hidden=true", "`train.keep_hidden`"),
        ("record={cosine: true}", "`record.cosine`"),
        ("task={kind: linedraw}", "shows sequences"),
    ] {
        let output = lab.command(&["check", "spec.yaml", "--set", set]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(says), "{set}: {error}");
    }
}
