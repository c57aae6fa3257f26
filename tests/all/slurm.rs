//! Sweeps on a cluster, with programs of our own in the place of SLURM's: what is submitted, what is refused, what a task
//! does when its time is up. `just slurm-test` does the same with a real SLURM.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::lab::{Lab, Ran, Run};

/// Two runs of two seeds.
const SWEEP: &str = "
name: tiny
task: {kind: linedraw, train_size: 40, test_size: 20}
model:
  layers: [{cell: lstm, hidden: 6}]
train: {epochs: 40, batch_size: 4, bptt: 1, feedback_every: 2}
run: {device: cpu, checkpoint_every: 0s}
sweep: {grid: {train.bptt: [1, 2]}}
seeds: 1..2
launcher:
  kind: slurm
  partition: long
  time: '2:00:00'
  memory: 4G
  cpus: 2
  tasks: 8
  at_once: 3
  sbatch: [--constraint=avx2]
  setup: [export GREETING='hello']
";

/// Keeps what it is given, and gives a number.
pub const SBATCH: &str = "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\nwhile IFS= read -r line; do printf '%s\\n' \"$line\"; done > given\necho 12\n";

pub fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("sweep.yaml", SWEEP);
    std::fs::create_dir(lab.path("bin")).unwrap();
    lab
}

/// Puts a program where the shell finds it, and no other.
pub fn put(lab: &Lab, name: &str, script: &str) {
    let path = lab.path("bin").join(name);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// The program, with nothing but these programs to find.
pub fn ccdni(lab: &Lab, arguments: &[&str]) -> Ran {
    Ran::of(lab.command(arguments).env("PATH", lab.path("bin")).stdin(Stdio::null()).output().unwrap())
}

/// A task of the array of a script.
pub fn task(lab: &Lab, job: u64) -> Command {
    let mut task = Command::new("/bin/bash");
    task.arg(lab.path(&format!("outputs/.slurm/{job}.sh")));
    task.current_dir("/").env("PATH", lab.path("bin")).stdin(Stdio::null());
    for (name, value) in [("SLURM_JOB_ID", "13"), ("SLURM_ARRAY_JOB_ID", "12"), ("SLURM_ARRAY_TASK_ID", "1")] {
        task.env(name, value);
    }
    std::os::unix::process::CommandExt::process_group(&mut task, 0);
    task
}

#[track_caller]
fn assert_equals_a_local_sweep(lab: &Lab) {
    let local = self::lab();
    ccdni(&local, &["sweep", "sweep.yaml", "--launcher", "local"]).exits(0);
    let (ours, theirs) = (lab.runs(), local.runs());
    assert_eq!((ours.len(), theirs.len()), (2, 2));
    ours.iter().zip(&theirs).for_each(|(a, b)| a.assert_equals(b));
}

#[test]
fn a_dry_run_shows_the_script_and_writes_nothing() {
    let lab = lab();
    let said = ccdni(&lab, &["sweep", "sweep.yaml", "--dry-run", "--set", "train.epochs=5"]).exits(0);
    assert!(said.contains("4 waiting"), "{said}");
    for line in [
        "#SBATCH --array=0-1%3",
        "#SBATCH --partition=long",
        "#SBATCH --time=2:00:00",
        "#SBATCH --mem=4G",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --signal=B:USR1@120",
        "#SBATCH --constraint=avx2",
        "export GREETING='hello'",
        "--set train.epochs=5",
        "--jobs 2",
        "--launcher local --array-task",
    ] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    let file = lab.path("sweep.yaml").canonicalize().unwrap();
    assert!(said.contains(&format!(" sweep {} ", file.display())), "{said}");
    assert!(!lab.path("outputs").exists());
    let local = ccdni(&lab, &["sweep", "sweep.yaml", "--dry-run", "--launcher", "local"]).exits(0);
    assert!(!local.contains("SBATCH"), "{local}");
}

#[test]
fn what_cannot_be_submitted_is_said_and_nothing_is_left() {
    let lab = lab();
    let said = ccdni(&lab, &["sweep", "sweep.yaml"]).exits(2);
    assert!(said.contains("`sbatch`") && said.contains("--launcher local"), "{said}");
    put(
        &lab,
        "sbatch",
        "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'sbatch: error: invalid partition specified: long' >&2\nexit 1\n",
    );
    let said = ccdni(&lab, &["sweep", "sweep.yaml"]).exits(2);
    assert!(said.contains("nothing was submitted") && said.contains("invalid partition specified: long"), "{said}");
    // Mistakes of the sweep come first.
    assert!(ccdni(&lab, &["sweep", "sweep.yaml", "--grid", "train.bppt=[1]"]).exits(2).contains("`train.bppt`"));
    assert!(!lab.path("outputs").exists());
}

#[test]
fn a_job_whose_number_stands_after_a_greeting_is_a_job() {
    let lab = lab();
    put(&lab, "sbatch", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/sbatch-banner")));
    let said = ccdni(&lab, &["sweep", "sweep.yaml"]).exits(0);
    assert!(said.contains("submitted job 12345: 2 tasks"), "{said}");
    assert!(lab.path("outputs/.slurm/12345.sh").is_file());
    // The array is queued and works in the folder, whatever is printed about it.
    put(&lab, "sbatch", "#!/bin/sh\necho what?\n");
    let said = ccdni(&lab, &["sweep", "sweep.yaml", "--outputs", "others"]).exits(1);
    assert!(said.contains("was submitted") && said.contains("printed: what?"), "{said}");
    assert!(lab.path("others/.slurm").is_dir());
}

#[test]
fn tasks_train_what_was_submitted() {
    let lab = lab();
    put(&lab, "sbatch", SBATCH);
    let said = ccdni(&lab, &["sweep", "sweep.yaml"]).exits(0);
    assert!(said.contains("submitted job 12: 2 tasks for 4 units"), "{said}");
    let script = std::fs::read_to_string(lab.path("outputs/.slurm/12.sh")).unwrap();
    assert_eq!(script, std::fs::read_to_string(lab.path("outputs/.slurm/given")).unwrap());
    assert!(ccdni(&lab, &["list"]).exits(0).contains("no runs"));
    assert!(task(&lab, 12).status().unwrap().success());
    // A task that finds nothing left is no failure.
    assert!(task(&lab, 12).status().unwrap().success());
    assert_equals_a_local_sweep(&lab);
    // Nothing is left to submit either.
    put(&lab, "sbatch", "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\nexit 1\n");
    assert!(ccdni(&lab, &["sweep", "sweep.yaml"]).exits(0).contains("0 to train"));
}

#[test]
fn a_task_that_finds_everything_held_is_no_failure() {
    use ccdni::run::claim::{Attempt, Claim};
    let lab = lab();
    put(&lab, "sbatch", SBATCH);
    ccdni(&lab, &["sweep", "sweep.yaml"]).exits(0);
    ccdni(&lab, &["sweep", "sweep.yaml", "--launcher", "local", "--seeds", "1"]).exits(0);
    let held: Vec<Attempt> = lab.runs().iter().map(|run| Claim::attempt(&run.0.join("seeds/2")).unwrap()).collect();
    assert!(held.iter().all(|attempt| matches!(attempt, Attempt::Claimed(_))));
    let said = Ran::of(task(&lab, 12).output().unwrap()).exits(0);
    assert!(said.contains("others train the rest"), "{said}");
    let said = ccdni(&lab, &["sweep", "sweep.yaml", "--launcher", "local"]).exits(1);
    assert!(said.contains("nothing was left to train here"), "{said}");
}

#[test]
fn a_task_whose_time_is_nearly_up_goes_back_into_the_queue() {
    let lab = lab();
    put(&lab, "sbatch", SBATCH);
    put(&lab, "scontrol", "#!/bin/sh\necho \"$@\" >> \"$0.said\"\n");
    put(
        &lab,
        "squeue",
        "#!/bin/sh\necho '12_0|PENDING|0:00|2:00:00|(Priority)'\necho '12_1|RUNNING|0:41|2:00:00|n1'\n",
    );
    ccdni(&lab, &["sweep", "sweep.yaml"]).exits(0);
    let said_again = ccdni(&lab, &["sweep", "sweep.yaml"]).exits(0);
    assert!(said_again.contains("note: job 12: 1 pending (Priority), 1 running"), "{said_again}");

    let mut running = task(&lab, 12).spawn().unwrap();
    let trains = |run: &Run| run.0.join("log.txt").exists() && !run.began_at(1).is_empty();
    while !lab.runs().iter().any(trains) {
        assert!(running.try_wait().unwrap().is_none(), "it ended before it was disturbed");
        std::thread::sleep(Duration::from_millis(2));
    }
    let status = ccdni(&lab, &["sweep", "sweep.yaml", "--status"]).exits(0);
    assert!(status.contains("cluster: job 12: 1 pending (Priority), 1 running"), "{status}");
    assert!(status.contains("(cluster job 12_1): running, 0:41 of 2:00:00 on n1"), "{status}");
    // To the shell's process alone, which is the program by now.
    let sent = Command::new("kill").args(["-s", "USR1", &running.id().to_string()]).status().unwrap();
    assert!(sent.success() && running.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(lab.path("bin/scontrol.said")).unwrap(), "requeue 12_1\n");
    assert!(lab.runs().iter().any(|run| run.log().contains("stopped as requested, after a checkpoint")));

    assert!(task(&lab, 12).status().unwrap().success());
    assert_equals_a_local_sweep(&lab);
    for run in lab.runs() {
        assert_eq!((run.times_done(1), run.times_done(2)), (1, 1), "{}", run.log());
    }
}

#[test]
fn a_cluster_that_is_away_is_not_spoken_of_and_one_that_forgot_says_to_submit_again() {
    let lab = lab();
    put(&lab, "sbatch", SBATCH);
    ccdni(&lab, &["sweep", "sweep.yaml"]).exits(0);
    let status = || ccdni(&lab, &["sweep", "sweep.yaml", "--status"]).exits(0);
    assert!(!status().contains("cluster"), "{}", status());
    put(&lab, "squeue", "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n");
    assert!(!status().contains("cluster"), "{}", status());
    put(&lab, "squeue", "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n");
    put(&lab, "sacct", "#!/bin/sh\necho '12_0|COMPLETED|00:01:00'\necho '12_1|CANCELLED by 0|00:00:03'\n");
    let said = status();
    assert!(said.contains("cluster: job 12: 1 cancelled, 1 completed"), "{said}");
    assert!(said.contains("the same command without `--status` submits what is left"), "{said}");
}
