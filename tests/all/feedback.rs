//! Activity feedback and frozen layers through the real program.

use crate::lab::Lab;

const SPEC: &str = "
name: feedback
task: {kind: linedraw, points: 4, seq_len: 6, train_size: 100, test_size: 20, radius: 1}
model:
  layers:
    - {cell: leaky, tau: 2, hidden: 20, learn: false, feedback: {kind: cerebellum, hidden: [40]}}
train:
  epochs: 12
  batch_size: 10
  optimizer: {kind: adam, lr: 5.0e-3}
run: {device: cpu, checkpoint_every: 0s}
";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("spec.yaml", SPEC);
    lab
}

/// Trains with these settings, and returns the validation errors and the weights.
fn trained(settings: &[&str]) -> (Vec<f64>, std::collections::HashMap<String, candle_core::Tensor>) {
    let lab = lab();
    let mut args = vec!["run", "spec.yaml"];
    args.extend(settings.iter().flat_map(|set| ["--set", set]));
    lab.ccdni(&args).exits(0);
    let seed = lab.only_run("outputs").join("seeds/1");
    let metrics = std::fs::read_to_string(seed.join("metrics.csv")).unwrap();
    let mut rows = metrics.lines();
    let column = rows.next().unwrap().split(',').position(|name| name == "val_mse").unwrap();
    let losses = rows.map(|row| row.split(',').nth(column).unwrap().parse().unwrap()).collect();
    let weights = candle_core::safetensors::load(seed.join("decoder.safetensors"), &candle_core::Device::Cpu).unwrap();
    (losses, weights)
}

fn numbers(tensor: &candle_core::Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// A frozen cortex keeps its weights; its cerebellum and readout learn, and the task is learned better than without.
#[test]
fn a_cerebellum_drives_a_frozen_cortex() {
    let (one, early) = trained(&["train.epochs=1"]);
    let (with, late) = trained(&[]);
    assert_eq!(one[0], with[0]);
    for (name, value) in &early {
        let is_frozen = name.starts_with("rnn.") && !name.contains("feedback");
        assert_eq!(numbers(value) == numbers(&late[name]), is_frozen, "{name}");
    }
    assert!(late.keys().filter(|name| name.contains("feedback0")).count() == 4, "{:?}", late.keys());
    let longer = ["train.epochs=40", "task.train_size=200", "task.points=2", "train.optimizer.lr=0.01"];
    let driven = trained(&longer).0;
    let alone = trained(&[&longer[..], &["model.layers.0.feedback.lesion_at=1"]].concat()).0;
    assert!(driven[39] < 0.6 * alone[39], "{driven:?} {alone:?}");
}

#[test]
fn a_lesion_cuts_the_feedback_by_epochs_and_by_steps() {
    let set = |what: &str| format!("model.layers.0.feedback={{kind: cerebellum, hidden: [40], {what}}}");
    let intact = trained(&[]).0;
    let late = trained(&[&set("lesion_at: 8")]).0;
    assert_eq!(intact[..7], late[..7]);
    assert!(late[7] != intact[7]);
    let never = trained(&[&set("lesion_at_step: 6")]).0;
    assert_eq!(intact, never, "all steps are before it");
    let cut = trained(&[&set("lesion_at_step: 0")]).0;
    let from_first = trained(&[&set("lesion_at: 1")]).0;
    assert_eq!(cut, from_first, "nothing is fed back in either");
    let delayed = trained(&[&set("delay: 2")]).0;
    assert!(delayed != intact);
    let readout = trained(&["model.layers.0.feedback={kind: readout, hidden: null}", "model.layers.0.learn=true"]).0;
    assert!(readout[11] < readout[0], "{readout:?}");
}

#[test]
fn an_interrupted_run_with_feedback_goes_on_with_the_same_bits() {
    let (expected, lab) = (lab(), lab());
    expected.ccdni(&["run", "spec.yaml"]).exits(0);
    let mut running = lab.start(&["run", "spec.yaml", "--verbose"]);
    if running.saw_epochs(3) {
        running.signal_group("KILL");
        running.end();
        lab.run().wait_until_free();
    }
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    lab.run().assert_equals(&expected.run());
    let run = lab.only_run("outputs");
    lab.ccdni(&["evaluate", run.to_str().unwrap()]).exits(0);
    let text = lab.ccdni(&["export", run.to_str().unwrap(), "--format", "torch"]).exits(2);
    assert!(text.contains("feedback"), "{text}");
}

#[test]
fn feedback_that_cannot_be_is_refused() {
    for (set, says) in [
        ("train.rule={kind: rtrl}", "knows no activity feedback"),
        ("model.layers.0.feedback={kind: readout, hidden: [4]}", "is for a cerebellum"),
        ("model.layers.0.feedback={kind: cerebellum, lesion_at: 13}", "would never happen"),
        ("model.layers.0.feedback={kind: cerebellum, delay: 6}", "no target would come"),
        ("model.layers.0.dni={hidden: [4]}", "nothing learns from the synthetic gradients"),
        ("record={every: 1, gradients: true}", "a frozen layer has no gradient"),
        (
            "model.layers=[{cell: leaky, hidden: 4, feedback: {kind: readout}}, {cell: leaky, hidden: 4}]",
            "the top layer alone",
        ),
        ("run.backend=fused", "feedback"),
        ("model.layers.0.feedback={kind: olive}", "model.layers.0.feedback.kind"),
    ] {
        let lab = lab();
        let text = lab.ccdni(&["run", "spec.yaml", "--set", set]).exits(2);
        assert!(text.contains(says), "{set}:\n{text}");
        assert!(!lab.path("outputs").exists(), "{set} left something behind");
    }
}
