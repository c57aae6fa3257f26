//! Training that is killed again and again: the program, one of its workers, or all of them, at random moments, until it comes to its
//! end. The bits must be those of training that was left alone. `just torture MINUTES`; `runs_interrupted.rs` has the short tests.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::lab::{Chance, Lab, Ran, asked};
use crate::slurm;

/// What is trained.
struct Scenario {
    name: &'static str,
    lab: fn() -> Lab,
    command: fn(&Lab) -> Command,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "line drawing, three seeds",
        lab: Lab::new,
        command: |lab| lab.command(&["run", "spec.yaml", "--seeds", "1..3", "--jobs", "2"]),
    },
    Scenario {
        name: "a sweep of two runs of two seeds",
        lab: slurm::lab,
        command: |lab| lab.command(&["sweep", "sweep.yaml", "--launcher", "local", "--jobs", "2"]),
    },
    Scenario {
        name: "captions of drawn scenes, with a store of features",
        lab: || {
            let lab = Lab::new();
            lab.write("spec.yaml", CAPTIONS);
            lab
        },
        command: |lab| lab.command(&["run", "spec.yaml", "--seeds", "1,2", "--jobs", "2"]),
    },
    Scenario {
        name: "the task of a cluster",
        lab: || {
            let lab = slurm::lab();
            slurm::put(&lab, "sbatch", slurm::SBATCH);
            slurm::ccdni(&lab, &["sweep", "sweep.yaml"]).exits(0);
            lab
        },
        command: |lab| slurm::task(lab, 12),
    },
];

/// A frozen backbone: its features are made once, and stored.
const CAPTIONS: &str = "
name: captions
task:
  kind: captioning
  source: {kind: scenes, dir: scenes, train: 60, validation: 10}
  resize: 32
  threshold: 1
  validation_batch_size: 10
model:
  encoder: {kind: conv, channels: [4, 8], trainable: projection}
  embed: {size: 6}
  layers: [{cell: lstm, hidden: 6, dni: {hidden: [8]}}]
train: {epochs: 2, batch_size: 10, bptt: 5, step_every: window, keep: best}
run: {device: cpu, checkpoint_every: 0s}
";

/// Processes of the child's group except itself: its workers.
fn workers(child: &Child) -> Vec<u32> {
    // `number (name) state parent group ...`
    let group_of = |pid: u32| -> Option<u32> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        text.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| pid != child.id() && group_of(pid) == Some(child.id())).collect()
}

fn kill(target: &str) {
    // It may be gone already.
    let _ = Command::new("kill").args(["-s", "KILL", "--", target]).stderr(Stdio::null()).status().unwrap();
}

/// Kills the program, a worker, or both; false if it had ended by itself.
fn disturb(child: &mut Child, chance: &mut Chance) -> bool {
    if child.try_wait().unwrap().is_some() {
        return false;
    }
    match chance.below(3) {
        0 => kill(&child.id().to_string()),
        1 => kill(&format!("-{}", child.id())),
        _ => {
            let workers = workers(child);
            match workers.len() as u64 {
                0 => return true,
                count => kill(&workers[chance.below(count) as usize].to_string()),
            }
        }
    }
    true
}

fn begin(scenario: &Scenario, lab: &Lab) -> Child {
    (scenario.command)(lab).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Trains under kills until the end; the number of kills.
fn torture(scenario: &Scenario, expected: &Lab, span: u64, chance: &mut Chance) -> u64 {
    let lab = (scenario.lab)();
    let mut kills = 0;
    // What is killed faster than it gets on would never end.
    for _ in 0..10 {
        let mut child = begin(scenario, &lab);
        sleep(Duration::from_millis(chance.below(span)));
        let disturbed = disturb(&mut child, chance);
        child.wait().unwrap();
        lab.runs().iter().for_each(|run| run.wait_until_free());
        if !disturbed {
            break;
        }
        kills += 1;
    }
    Ran::of((scenario.command)(&lab).stdin(Stdio::null()).output().unwrap()).exits(0);
    let (ours, theirs) = (lab.runs(), expected.runs());
    assert_eq!(ours.len(), theirs.len(), "{}", scenario.name);
    ours.iter().zip(&theirs).for_each(|(ours, theirs)| ours.assert_same(theirs));
    kills
}

#[test]
#[ignore = "takes as long as it is given: `just torture MINUTES`"]
fn training_survives_being_killed_at_random() {
    let until = Instant::now() + Duration::from_secs(60 * asked("CCDNI_MINUTES", 5));
    let mut chance = Chance::new();
    let mut undisturbed = Vec::new();
    for scenario in SCENARIOS {
        let lab = (scenario.lab)();
        let begun = Instant::now();
        assert!(begin(&scenario, &lab).wait().unwrap().success(), "{}", scenario.name);
        undisturbed.push((scenario, lab, begun.elapsed().as_millis() as u64, 0, 0));
    }
    while Instant::now() < until {
        for (scenario, expected, span, rounds, kills) in &mut undisturbed {
            *kills += torture(scenario, expected, *span, &mut chance);
            *rounds += 1;
        }
    }
    for (scenario, _, _, rounds, kills) in undisturbed {
        println!("{}: {rounds} times to the end, {kills} kills, all bits equal", scenario.name);
    }
}
