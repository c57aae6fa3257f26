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
    let bp_lambda = "{kind: bp_lambda, lambda: 0.9, own_sgd: 0.01}";
    for rule in ["{kind: rtrl}", "{kind: uoro}", "{kind: kernl, noise: 0.01}", bp_lambda] {
        let spec =
            SPEC.replace("{kind: rtrl}", rule).replace("step_every: step", "step_every: step\n  keep_hidden: true");
        let spec = if rule == bp_lambda {
            spec.replace("hidden: 6}", "hidden: 6, dni: {hidden: [], scale: 1}}")
        } else {
            spec
        };
        // Gradients in the middle of a stream are drawn from traces, which must stay as they are.
        let spec = spec.replace("what: [hidden, weights]", "what: [hidden, weights, gradient], gradients: true");
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
        ("record.draws=3", "the gradient of `rtrl` is the same in every draw"),
        ("record={draws: 3, what: [hidden]}", "the gradient of `rtrl` is the same in every draw"),
        ("model.layers=[{cell: tanh, hidden: 3}, {cell: tanh, hidden: 3}]", "is defined for one recurrent layer"),
    ] {
        let lab = lab();
        let ran = lab.ccdni(&["run", "spec.yaml", "--set", set]);
        let text = ran.exits(2);
        assert!(text.contains(says), "{set}:\n{text}");
        assert!(!lab.path("outputs").exists(), "{set} left something behind");
    }
}

#[test]
fn draws_of_a_gradient_that_is_not_recorded_are_refused() {
    let lab = lab();
    let set = ["--set", "train.rule.kind=uoro", "--set", "record={draws: 3, what: [hidden]}"];
    let text = lab.ccdni(&[&["run", "spec.yaml"], &set[..]].concat()).exits(2);
    assert!(text.contains("there are no gradients to draw"), "{text}");
}

/// The synthesizer of the traced variant predicts for the next step's `c`: there is nothing at a window's start to record.
#[test]
fn synthetic_gradients_of_traces_are_refused() {
    let spec = SPEC.replace("cell: leaky, hidden: 6", "cell: lstm, hidden: 6, dni: {hidden: [], scale: 1}");
    for (record, says) in [("what: [synthetic]", "record.what.0"), ("cosine: true", "record.cosine")] {
        let lab = lab();
        lab.write("spec.yaml", &spec);
        let rule = "train.rule={kind: bp_lambda, traces: true, variant: published}";
        let record = format!("record={{{record}}}");
        let text = lab.ccdni(&["run", "spec.yaml", "--set", rule, "--set", &record]).exits(2);
        assert!(text.contains(says) && text.contains("does not predict at a window's start"), "{text}");
    }
}

/// The columns of a run's metrics at its last epoch, by name.
fn last_row(metrics: &str) -> std::collections::BTreeMap<String, String> {
    let mut rows = metrics.lines();
    let names = rows.next().unwrap().split(',').map(str::to_owned);
    names.zip(rows.last().unwrap().split(',').map(str::to_owned)).collect()
}

/// Trains with these settings, and returns seed 1's metrics, and its measures after `ccdni analyse`.
fn measured(settings: &[&str]) -> (String, String) {
    let lab = lab();
    let mut args = vec!["run", "spec.yaml", "--set", "train.epochs=3", "--set", "train.step_every=batch"];
    args.extend(settings.iter().flat_map(|set| ["--set", set]));
    lab.ccdni(&args).exits(0);
    let run = lab.only_run("outputs");
    let metrics = std::fs::read_to_string(run.join("seeds/1/metrics.csv")).unwrap();
    lab.ccdni(&["analyse", run.to_str().unwrap()]).exits(0);
    (metrics, std::fs::read_to_string(run.join("analysis/measures.csv")).unwrap())
}

#[test]
fn gradients_of_rules_are_compared_with_the_true_ones() {
    let record = "record={every: 2, gradients: true, what: [gradient]}";
    let number = |row: &std::collections::BTreeMap<String, String>, name: &str| -> f64 { row[name].parse().unwrap() };
    let exact = last_row(&measured(&[record]).0);
    assert!((number(&exact, "gradient_cosine") - 1.0).abs() < 1e-5, "{exact:?}");
    assert!((number(&exact, "gradient_norm_ratio") - 1.0).abs() < 1e-4, "{exact:?}");
    assert!(number(&exact, "gradient_bias") < 1e-3 && !exact.contains_key("gradient_variance"), "{exact:?}");

    let truncated = last_row(&measured(&["train.rule={kind: bptt}", "train.bptt=1", record]).0);
    let cosine = number(&truncated, "gradient_cosine");
    assert!(cosine > 0.0 && cosine < 0.9999, "{truncated:?}");

    // The mean of many draws comes close, one does not.
    let draws = "record={every: 2, gradients: true, what: [gradient], draws: 400}";
    let (metrics, measures) = measured(&["train.rule={kind: uoro}", draws]);
    let random = last_row(&metrics);
    let (bias, variance) = (number(&random, "gradient_bias"), number(&random, "gradient_variance"));
    assert!(bias < 3.0 * (variance / 400.0).sqrt() && variance > 0.1, "{random:?}");
    let in_analysis = |measure: &str| -> f64 {
        let start = format!("1,3,{measure},gradient.layer0,true_gradient.layer0,");
        measures.lines().find_map(|row| row.strip_prefix(&start)).unwrap().parse().unwrap()
    };
    for measure in ["cosine", "norm_ratio", "bias", "variance"] {
        let (file, column) = (in_analysis(measure), number(&random, &format!("gradient_{measure}")));
        assert!((file / column - 1.0).abs() < 1e-6, "{measure}: {file} {column}");
    }
}

/// Looking at gradients changes no number of training, whatever the rule keeps from batch to batch.
#[test]
fn recorded_gradients_leave_training_as_it_is() {
    let losses = |metrics: &str| -> Vec<String> {
        metrics.lines().map(|row| row.split(',').take(4).collect::<Vec<_>>().join(",")).collect()
    };
    let synthesizer = "model.layers.0.dni={hidden: [], scale: 1}";
    let rules: [&[&str]; 4] = [
        &["train.rule={kind: kernl, noise: 0.01}"],
        &["train.rule={kind: dni}"],
        &["train.rule={kind: bp_lambda, own_sgd: 0.01}", synthesizer],
        &["train.rule={kind: bptt}", "train.bptt=2", synthesizer],
    ];
    for rule in rules {
        let with = measured(&[rule, &["record={gradients: true, what: [hidden]}"]].concat()).0;
        let without = measured(&[rule, &["record={what: [hidden]}"]].concat()).0;
        assert_eq!(losses(&with), losses(&without), "{rule:?}");
        assert!(with.contains("gradient_cosine") && !without.contains("gradient_cosine"));
    }
}

/// The curriculum of `copy` goes on while the loss is low, is part of checkpoints, and shows in the metrics.
#[test]
fn a_curriculum_goes_on_and_survives_interruptions() {
    let spec = "
name: copy
task: {kind: copy, bits: 2, threshold: 0.9, train_size: 200}
model:
  layers: [{cell: lstm, hidden: 8}]
train:
  epochs: 12
  batch_size: 10
  optimizer: {kind: adam, lr: 1.0e-2}
run: {device: cpu, checkpoint_every: 0s}
";
    let expected = lab();
    expected.write("spec.yaml", spec);
    expected.ccdni(&["run", "spec.yaml"]).exits(0);
    let metrics = std::fs::read_to_string(expected.run().0.join("seeds/1/metrics.csv")).unwrap();
    let last = last_row(&metrics);
    let (length, repeats): (usize, usize) = (last["length"].parse().unwrap(), last["repeats"].parse().unwrap());
    assert!(length > 1 && (repeats == length || repeats + 1 == length), "{metrics}");
    assert_eq!(last["steps"], ((repeats + 1) * length + 3).to_string());

    let lab = lab();
    lab.write("spec.yaml", spec);
    let mut running = lab.start(&["run", "spec.yaml", "--verbose"]);
    if running.saw_epochs(2) {
        running.signal_group("KILL");
        running.end();
        lab.run().wait_until_free();
    }
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    assert!(lab.run().results() == expected.run().results(), "{}", lab.run().log());
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
