//! What computes a run changes its last bits at most: backends, threads, long sequences, seen from outside.

use std::fs;

use crate::lab::Lab;

/// A network large enough for its products to be divided among threads.
const WIDE: &str = "
task: {kind: linedraw, train_size: 80, val_split: 0.25, test_size: 20, train_noise: 0.1}
model:
  layers: [{cell: lstm, hidden: 64, dni: {hidden: [300, 300]}}, {cell: gru, hidden: 48}]
train: {epochs: 2, batch_size: 60, bptt: 2, clip: {norm: 1.0}}
run: {device: cpu}
";

/// The weights of a run of `spec.yaml` with these arguments.
fn weights(lab: &Lab, arguments: &[&str]) -> Vec<u8> {
    let _ = fs::remove_dir_all(lab.path("outputs"));
    lab.ccdni(&[&["run", "spec.yaml"], arguments].concat()).exits(0);
    fs::read(lab.run().0.join("decoder.safetensors")).unwrap()
}

/// The first and the last validation metric.
fn validation(lab: &Lab) -> [f64; 2] {
    let table = fs::read_to_string(lab.run().0.join("metrics.csv")).unwrap();
    let column = table.lines().next().unwrap().split(',').position(|name| name == "val_mse").unwrap();
    let values: Vec<f64> =
        table.lines().skip(1).map(|row| row.split(',').nth(column).unwrap().parse().unwrap()).collect();
    [values[0], values[values.len() - 1]]
}

#[test]
fn threads_change_no_bit() {
    let lab = Lab::new();
    lab.write("spec.yaml", WIDE);
    let one = weights(&lab, &["--set", "run.threads=1"]);
    for threads in ["2", "3", "auto"] {
        let more = weights(&lab, &["--set", &format!("run.threads={threads}")]);
        assert!(one == more, "{threads} threads gave other weights than one");
        if let Ok(number) = threads.parse::<usize>() {
            assert_eq!(lab.run().json("seeds/1/unit.json")["threads"], number);
        }
    }
    // Two seeds beside each other divide the cores.
    assert!(one == weights(&lab, &["--seeds", "1,2", "--jobs", "2"]));
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(lab.run().json("seeds/1/unit.json")["threads"], (cores / 2).max(1));
}

/// A last window that is shorter, so that threads have unequal blocks; and inputs so wide that sums are cut.
#[test]
fn many_threads_change_no_bit() {
    let uneven = "
task: {kind: mimic, inputs: 8, hidden: 16, seq_len: 25, train_size: 64, validation_size: 0, test_size: 0}
model: {layers: [{cell: gru, hidden: 256}]}
train: {epochs: 1, batch_size: 8, bptt: 3}
run: {device: cpu}
";
    let wide = "
task: {kind: mimic, inputs: 600, hidden: 16, seq_len: 200, train_size: 128, validation_size: 100, test_size: 100}
model: {layers: [{cell: tanh, hidden: 48}]}
train: {epochs: 1, batch_size: 128, bptt: 5}
run: {device: cpu}
";
    for spec in [uneven, wide] {
        let lab = Lab::new();
        lab.write("spec.yaml", spec);
        let results = ["1", "2", "8"].map(|threads| {
            let weights = weights(&lab, &["--set", &format!("run.threads={threads}")]);
            let unit = lab.run().json("seeds/1/unit.json");
            assert_eq!(unit["threads"].to_string(), threads);
            (weights, unit["validation"].clone(), unit["test"].clone())
        });
        assert!(results[0].2.is_array(), "there is a result to compare");
        assert!(results[0] == results[1] && results[0] == results[2], "{spec}");
    }
}

/// The size of the papers' networks: passes of some ten microseconds, each of which is divided; with a context, in both orders of the windows,
/// and beside another seed.
#[test]
fn small_passes_are_divided_without_a_changed_bit() {
    let spec = "
task: {kind: mimic, inputs: 28, hidden: 20, seq_len: 28, train_size: 150, validation_size: 50, test_size: 50}
model: {layers: [{cell: lstm, hidden: 30, dni: {hidden: [300], context: target}}]}
train: {epochs: 2, batch_size: 50, bptt: 3, clip: {norm: 1.0}}
run: {device: cpu}
seeds: [1, 2]
";
    for order in ["batch", "window"] {
        let lab = Lab::new();
        lab.write("spec.yaml", spec);
        let order = format!("train.step_every={order}");
        let results = [(1, "1"), (2, "1"), (3, "1"), (2, "2"), (3, "2")].map(|(threads, jobs)| {
            weights(&lab, &["--jobs", jobs, "--set", &order, "--set", &format!("run.threads={threads}")]);
            let of_seed = |seed| fs::read(lab.run().0.join(format!("seeds/{seed}/decoder.safetensors"))).unwrap();
            (threads, jobs, [1, 2].map(of_seed))
        });
        for (threads, jobs, weights) in &results {
            assert!(*weights == results[0].2, "{order}, {threads} threads, {jobs} jobs");
        }
    }
}

#[test]
fn the_composed_backend_trains_the_same_network() {
    let lab = Lab::new();
    lab.write("spec.yaml", WIDE);
    let fused = weights(&lab, &[]);
    let (before, unit) = (validation(&lab), lab.run().json("seeds/1/unit.json"));
    assert_eq!(unit["backend"], "fused");
    let composed = weights(&lab, &["--set", "run.backend=composed"]);
    assert_eq!(lab.run().json("seeds/1/unit.json")["backend"], "composed");
    assert!(fused != composed, "it was another backend");
    for (a, b) in before.iter().zip(validation(&lab)) {
        assert!((a / b - 1.0).abs() < 1e-3, "{a} and {b}");
    }
}

#[test]
fn a_thousand_steps_in_one_window_overflow_no_stack() {
    let lab = Lab::new();
    lab.write(
        "spec.yaml",
        "
task: {kind: linedraw, seq_len: 1000, train_size: 4, val_split: 0.5, test_size: 0, train_noise: 0.1}
model: {layers: [{cell: lstm, hidden: 4, dni: {hidden: [5]}}]}
train: {epochs: 1, batch_size: 2, bptt: 1000}
run: {device: cpu}
",
    );
    for backend in ["fused", "composed"] {
        weights(&lab, &["--set", &format!("run.backend={backend}")]);
        assert!(validation(&lab)[0].is_finite());
    }
}
