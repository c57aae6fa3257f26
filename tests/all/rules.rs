//! Learning rules through the real program: training, sweeps, bad combinations, and runs that are interrupted.

use crate::lab::Lab;

const SPEC: &str = "
name: rules
task: {kind: linedraw, points: 2, seq_len: 6, train_size: 40, test_size: 20, radius: 1, train_noise: 0.1}
model:
  layers: [{cell: leaky, hidden: 6}]
train:
  epochs: 12
  batch_size: 4
  rule: {kind: rtrl}
  step_every: step
  optimizer: {kind: adam, lr: 1.0e-3}
record: {every: 3, what: [hidden, weights]}
run: {device: cpu, checkpoint_every: 0s}
";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("spec.yaml", SPEC);
    lab
}

#[test]
fn every_rule_learns_in_a_sweep() {
    let lab = lab();
    let sweep = "
extends: spec.yaml
sweep:
  list:
    - {name: rtrl, set: {}}
    - {name: uoro, set: {train.rule.kind: uoro}}
    - {name: rflo, set: {train.rule.kind: rflo, train.rule.feedback: random}}
    - {name: eprop, set: {train.rule.kind: eprop}}
    - {name: kernl, set: {train.rule.kind: kernl}}
    - {name: dni, set: {train.rule.kind: dni}}
    - {name: bp_lambda, set: {train.rule.kind: bp_lambda, train.rule.lambda: 0.9, 'model.layers.0.dni': {hidden: [], scale: 1}}}
";
    lab.write("sweep.yaml", sweep);
    lab.ccdni(&["sweep", "sweep.yaml", "--seeds", "1,2"]).exits(0);
    let runs: Vec<_> = std::fs::read_dir(lab.path("outputs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut trained = 0;
    for run in runs.iter().filter(|run| run.join("seeds").is_dir()) {
        for seed in ["1", "2"] {
            let metrics = std::fs::read_to_string(run.join("seeds").join(seed).join("metrics.csv")).unwrap();
            let mut rows = metrics.lines();
            let column = rows.next().unwrap().split(',').position(|name| name == "val_mse").unwrap();
            let losses: Vec<f64> = rows.map(|row| row.split(',').nth(column).unwrap().parse().unwrap()).collect();
            assert_eq!(losses.len(), 12);
            assert!(losses[11] < 0.9 * losses[0], "{}: {losses:?}", run.display());
            trained += 1;
        }
    }
    assert_eq!(trained, 14);
}

/// Without noise, the sequences of one pattern are equal and share a row of the batch; a rule counts each of them.
#[test]
fn a_rule_learns_as_much_from_equal_sequences_as_backpropagation() {
    let lab = lab();
    let losses = |rule: &str| -> Vec<f64> {
        let rule = format!("train.rule={{kind: {rule}}}");
        let set =
            ["task.train_noise=0", "train.step_every=batch", "train.epochs=3", "train.batch_size=8", "record=null"];
        let mut args = vec!["run", "spec.yaml", "--outputs", &rule, "--set", &rule];
        args.extend(set.iter().flat_map(|set| ["--set", set]));
        lab.ccdni(&args).exits(0);
        let run = std::fs::read_dir(lab.path(&rule)).unwrap().map(|entry| entry.unwrap().path());
        let run = run.into_iter().find(|run| run.join("metrics.csv").is_file()).unwrap();
        let metrics = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
        let mut rows = metrics.lines();
        let column = rows.next().unwrap().split(',').position(|name| name == "val_mse").unwrap();
        rows.map(|row| row.split(',').nth(column).unwrap().parse().unwrap()).collect()
    };
    let (online, backward) = (losses("rtrl"), losses("bptt"));
    assert_eq!(online.len(), 3);
    for (online, backward) in online.iter().zip(&backward) {
        assert!((online / backward - 1.0).abs() < 1e-4, "{online} {backward}");
    }
}

/// Kills a run in the middle of a stream that goes on over batches, and resumes it.
#[test]
fn an_interrupted_stream_goes_on_with_the_same_bits() {
    for rule in ["{kind: rtrl}", "{kind: uoro}", "{kind: kernl, noise: 0.01}"] {
        let spec =
            SPEC.replace("{kind: rtrl}", rule).replace("step_every: step", "step_every: step\n  keep_hidden: true");
        let expected = lab();
        expected.write("spec.yaml", &spec);
        expected.ccdni(&["run", "spec.yaml"]).exits(0);
        let lab = lab();
        lab.write("spec.yaml", &spec);
        for epochs in [2, 3] {
            let mut running = lab.start(&["run", "spec.yaml", "--verbose"]);
            if !running.saw_epochs(epochs) {
                break;
            }
            running.signal_group("KILL");
            running.end();
            lab.run().wait_until_free();
        }
        lab.ccdni(&["run", "spec.yaml"]).exits(0);
        lab.run().assert_equals(&expected.run());
    }
}

#[test]
fn a_combination_that_means_nothing_is_refused() {
    for (set, says) in [
        ("model.layers.0.cell=gru", "`rtrl`, as it is set, is not defined for the cell `gru`"),
        ("model.layers.0.dni.scale=1", "`rtrl` uses no synthesizer"),
        ("train.rule.kind=bp_lambda", "learns with a synthesizer"),
        ("train.rule.kind=rtlr", "did you mean `rtrl`?"),
        ("train.rule.decay=2", "train.rule.decay"),
        ("train.rule.lambda=0.5", "only `bp_lambda` has this key"),
        ("train.rule.kind=bptt", "`step` is for rules other than bptt"),
        ("train.bptt=2", "there are no windows"),
        ("train.activity_l2=0.1", "adds no penalty on activity"),
        ("record.what=[target]", "no gradient at a window's start"),
        ("model.layers=[{cell: tanh, hidden: 3}, {cell: tanh, hidden: 3}]", "is defined for one recurrent layer"),
    ] {
        let lab = lab();
        let ran = lab.ccdni(&["run", "spec.yaml", "--set", set]);
        let text = ran.exits(2);
        assert!(text.contains(says), "{set}:\n{text}");
        assert!(!lab.path("outputs").exists(), "{set} left something behind");
    }
}

/// The keys of synthesizers' targets, where the engine's windows learn.
#[test]
fn targets_of_synthesizers_are_spec_values() {
    let spec = |dni: &str| {
        let lab = lab();
        let text = SPEC.replace("rule: {kind: rtrl}", "bptt: 2").replace("step_every: step", "step_every: batch");
        lab.write("spec.yaml", &text.replace("hidden: 6}", &format!("hidden: 6, dni: {{hidden: [8], {dni}}}}}")));
        lab
    };
    let hash = |dni: &str| spec(dni).ccdni(&["hash", "spec.yaml"]).exits(0);
    let default = hash("scale: 0.4");
    assert_eq!(default, hash("scale: 0.4, gamma: 0.4, target: bootstrapped"), "that is the default");
    assert_ne!(default, hash("scale: 0.4, gamma: 0.5"));
    for dni in
        ["gamma: 0.9", "target: monte_carlo, gamma: 1", "target: n_step, windows: 2", "target: lambda, lambda: 0.5"]
    {
        let lab = spec(dni);
        lab.ccdni(&["run", "spec.yaml"]).exits(0);
    }
    for (dni, says) in [
        ("target: lambda", "`lambda` needs the key `lambda`"),
        ("target: n_step", "`n_step` needs the key `windows`"),
        ("lambda: 0.5", "is for the target `lambda`"),
        ("windows: 3", "is for the target `n_step`"),
    ] {
        let text = spec(dni).ccdni(&["run", "spec.yaml"]).exits(2);
        assert!(text.contains(says), "{dni}:\n{text}");
    }
    let text = spec("target: monte_carlo").ccdni(&["run", "spec.yaml", "--set", "train.step_every=window"]).exits(2);
    assert!(text.contains("depends on later windows"), "{text}");
}
