//! Sweeps through the real program: what is missing is trained, nothing twice, whatever happens in between.

use std::path::PathBuf;
use std::time::Duration;

use crate::lab::{Lab, Run};

/// Four runs of two seeds: small, but long enough to be disturbed.
const SWEEP: &str = "
name: tiny
task: {kind: linedraw, train_size: 40, test_size: 20}
model:
  layers: [{cell: lstm, hidden: 6}]
train: {epochs: 40, batch_size: 4, bptt: 1, feedback_every: 2}
run: {device: cpu, checkpoint_every: 0s}
sweep:
  grid:
    model.layers.0.dni: [null, {hidden: [8]}]
    train.bptt: [1, 2]
seeds: 1..2
";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("sweep.yaml", SWEEP);
    lab
}

/// The runs of a lab, by name.
fn runs(lab: &Lab) -> Vec<Run> {
    let mut runs: Vec<PathBuf> = std::fs::read_dir(lab.path("outputs"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        // A directory that a killed program was making has a dot before its name.
        .filter(|path| path.join("spec.yaml").exists() && !path.file_name().unwrap().to_string_lossy().starts_with('.'))
        .collect();
    runs.sort();
    runs.into_iter().map(Run).collect()
}

#[track_caller]
fn assert_equal(ours: &Lab, theirs: &Lab) {
    let (ours, theirs) = (runs(ours), runs(theirs));
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert_eq!(a.0.file_name(), b.0.file_name());
        a.assert_equals(b);
    }
}

#[test]
fn only_what_is_missing_is_trained() {
    let lab = lab();
    let dry = lab.ccdni(&["sweep", "sweep.yaml", "--dry-run"]).exits(0);
    assert!(dry.contains("4 runs, 8 units: 0 done, 0 running, 0 failed, 8 waiting"), "{dry}");
    assert!(!lab.path("outputs").exists());
    lab.ccdni(&["sweep", "sweep.yaml", "--seeds", "1"]).exits(0);
    let said = lab.ccdni(&["sweep", "sweep.yaml", "--grid", "train.bptt=[1, 2, 5]"]).exits(0);
    assert!(said.contains("6 runs, 12 units: 8 to train"), "{said}");
    let again = lab.ccdni(&["sweep", "sweep.yaml"]).exits(0);
    assert!(again.contains("8 units: 0 to train"), "{again}");
    for run in runs(&lab) {
        assert_eq!((run.times_done(1), run.times_done(2)), (1, 1), "{}", run.log());
        assert_eq!(run.json("manifest.json")["seeds_asked"], serde_json::json!([1, 2]));
    }
    let dry = lab.ccdni(&["sweep", "sweep.yaml", "--dry-run"]).exits(0);
    assert!(dry.contains("nothing is left to train"), "{dry}");
    // One of its runs by itself is the same directory.
    let one = lab.ccdni(&["sweep", "sweep.yaml", "--status"]).exits(0);
    assert!(one.contains("8 done"), "{one}");
}

#[test]
fn kills_at_random_moments_lose_nothing_and_train_nothing_twice() {
    let expected = lab();
    expected.ccdni(&["sweep", "sweep.yaml"]).exits(0);
    let lab = lab();
    let chance = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0);
    println!("chance {chance}");
    for round in 0..10u32 {
        let running = lab.start(&["sweep", "sweep.yaml", "--jobs", "2"]);
        std::thread::sleep(Duration::from_millis(20 + chance.rotate_right(6 * round) % 120));
        // The parent alone, or with its workers.
        if round % 2 == 0 {
            running.signal_group("KILL")
        } else {
            running.signal("KILL")
        }
        running.end();
        runs(&lab).iter().for_each(Run::wait_until_free);
    }
    lab.ccdni(&["sweep", "sweep.yaml"]).exits(0);
    assert_equal(&lab, &expected);
    for run in runs(&lab) {
        // A worker may be killed between its result and its line in the log.
        assert!(run.times_done(1) <= 1 && run.times_done(2) <= 1, "{}", run.log());
    }
}

#[test]
fn two_sweeps_share_the_work() {
    let expected = lab();
    expected.ccdni(&["sweep", "sweep.yaml"]).exits(0);
    let lab = lab();
    let both = [lab.start(&["sweep", "sweep.yaml"]), lab.start(&["sweep", "sweep.yaml"])];
    for ran in both.map(crate::lab::Running::end) {
        assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
    }
    lab.ccdni(&["sweep", "sweep.yaml"]).exits(0);
    assert_equal(&lab, &expected);
    for run in runs(&lab) {
        assert_eq!((run.times_done(1), run.times_done(2)), (1, 1), "{}", run.log());
    }
}

#[test]
fn failures_are_told_with_their_reason_and_tried_again_only_when_asked() {
    let lab = lab();
    let grid = "train.optimizer.lr=[1.0e+30, 1.0e-3]";
    let arguments = ["sweep", "sweep.yaml", "--grid", grid, "--jobs", "1"];
    let said = lab.ccdni(&arguments).exits(1);
    assert!(said.contains("8 done") && said.contains("8 failed") && said.contains("--retry-failed"), "{said}");
    let told = said.split("units failed:").nth(1).unwrap();
    let mut lines: Vec<_> = told.lines().filter(|line| line.contains(" seed ")).collect();
    let count = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert!(count > 0 && lines.len() == count, "each once: {said}");
    assert!(!said.contains("what was killed"), "{said}");
    let status = lab.ccdni(&["sweep", "sweep.yaml", "--grid", grid, "--status"]).exits(0);
    assert_eq!(status.matches("failed: ").count(), 8, "{status}");
    assert!(status.contains("epoch 1"), "{status}");
    let begun = || runs(&lab).iter().map(|run| run.began_at(1).len() + run.began_at(2).len()).sum::<usize>();
    let before = begun();
    lab.ccdni(&arguments).exits(1);
    assert_eq!(begun(), before, "what has failed is left alone");
    lab.ccdni(&[&arguments[..], &["--retry-failed", "--fail-fast"]].concat()).exits(1);
    assert_eq!(begun(), before + 1, "the first failure ends it");
}

#[test]
fn a_damaged_unit_of_another_seed_stops_no_training() {
    for file in ["decoder.safetensors", "unit.json"] {
        let lab = lab();
        lab.ccdni(&["sweep", "sweep.yaml", "--seeds", "2"]).exits(0);
        let run = &runs(&lab)[0];
        std::fs::write(run.0.join("seeds/2").join(file), "").unwrap();
        let dry = lab.ccdni(&["sweep", "sweep.yaml", "--seeds", "1", "--dry-run"]).exits(0);
        assert!(dry.contains("4 waiting"), "{dry}");
        let said = lab.ccdni(&["sweep", "sweep.yaml", "--seeds", "1"]).exits(2);
        assert!(said.contains("4 done"), "{said}");
        let command = said.split('`').find(|text| text.starts_with("ccdni run ")).expect(&said);
        lab.ccdni(&command.split(' ').skip(1).collect::<Vec<_>>()).exits(0);
        lab.ccdni(&["sweep", "sweep.yaml"]).exits(0);
        assert_eq!((run.times_done(1), run.times_done(2)), (1, 2), "{}", run.log());
    }
}

#[test]
fn a_run_that_cannot_be_written_does_not_hide_the_others() {
    let lab = lab();
    let arguments = ["sweep", "sweep.yaml", "--grid", "model.layers.0.dni=[null]", "--jobs", "1"];
    let dry = lab.ccdni(&[&arguments[..], &["--dry-run"]].concat()).exits(0);
    let second = dry.lines().nth(2).unwrap().split_whitespace().next().unwrap();
    std::fs::create_dir(lab.path("outputs")).unwrap();
    // Nothing can be created there, whatever the user may do.
    std::os::unix::fs::symlink("nowhere", lab.path("outputs").join(second)).unwrap();
    let said = lab.ccdni(&arguments).exits(1);
    assert!(said.contains("2 done, 0 running, 0 failed, 2 waiting"), "{said}");
    assert!(said.contains(&format!("cannot create the directory outputs/{second}")), "{said}");
    assert!(lab.path("outputs").read_dir().unwrap().any(|run| run.unwrap().path().join("results.csv").exists()));
}

#[test]
fn ctrl_c_says_how_to_go_on() {
    let lab = lab();
    let running = lab.start(&["sweep", "sweep.yaml", "--set", "train.epochs=2000", "--jobs", "2"]);
    while !runs(&lab).iter().any(|run| run.0.join("log.txt").exists() && !run.began_at(1).is_empty()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal("INT");
    let said = running.end().exits(130);
    assert!(said.contains("sweep sweep.yaml --set train.epochs=2000 --jobs 2"), "{said}");
}

#[test]
fn a_file_with_a_sweep_is_no_single_run_and_mistakes_write_nothing() {
    let lab = lab();
    for command in ["run", "check", "hash"] {
        let said = lab.ccdni(&[command, "sweep.yaml"]).exits(2);
        assert!(said.contains("`ccdni sweep sweep.yaml`"), "{said}");
    }
    for grid in ["train.bppt=[1]", "train.bptt=[]", "train.bptt=[1, -1]"] {
        lab.ccdni(&["sweep", "sweep.yaml", "--grid", grid]).exits(2);
    }
    lab.ccdni(&["sweep", "sweep.yaml", "--outputs", "sweep.yaml/x"]).exits(2);
    assert!(!lab.path("outputs").exists());
}
