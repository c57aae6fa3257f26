//! System calls that fail, in a small run: the first of a kind, the second, and so on to the last. The program ends with one message
//! or goes on, it never panics, and the same command without the fault gives the bits of a run that was left alone.
//!
//! `strace` makes the calls fail: of every thread of the program and of its workers the n-th. `just faults` tries every n.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use crate::lab::{Lab, Ran, Run};

/// Kinds of system calls, as `strace` names them, and the errors that they are given.
const FAULTS: [(&str, &[&str]); 11] = [
    ("write", &["ENOSPC", "EIO", "EINTR"]),
    ("fsync", &["EIO", "ENOSPC"]),
    ("/^rename", &["EIO", "EROFS", "EACCES"]),
    ("openat", &["EACCES", "EROFS", "EMFILE", "EINTR"]),
    ("flock", &["ENOLCK", "EINTR", "EIO"]),
    ("mmap", &["ENOMEM"]),
    ("read", &["EIO", "EINTR"]),
    ("/^mkdir", &["ENOSPC", "EROFS", "EACCES"]),
    ("ftruncate", &["EIO"]),
    ("/^unlink", &["EIO"]),
    ("/^clone", &["EAGAIN"]),
];

/// What the C library's loader, the allocator and the standard library's start of a thread say, to whom these calls belong before and
/// beside the program's own.
const NOT_OURS: [&str; 3] =
    ["error while loading shared libraries", "memory allocation of", "failed to allocate an alternative stack"];

/// Two short epochs, with a checkpoint after every batch, recordings, a showcase and all aggregates.
const SPEC: &str = "
name: tiny
task: {kind: linedraw, train_size: 8, test_size: 4}
model:
  layers: [{cell: lstm, hidden: 4, dni: {hidden: [4]}}]
train: {epochs: 2, batch_size: 4, bptt: 1, feedback_every: 2, keep: best}
record: {every: 1, what: [hidden], cosine: true}
run: {device: cpu, checkpoint_every: 0s}
";

const RUN: [&str; 2] = ["run", "spec.yaml"];

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("spec.yaml", SPEC);
    lab
}

/// The run that was left alone.
fn undisturbed() -> (Lab, Run) {
    let lab = lab();
    lab.ccdni(&RUN).exits(0);
    let run = lab.run();
    (lab, run)
}

/// Runs the program under `strace`, whose log is `calls` in the lab.
fn traced(lab: &Lab, strace: &[&str]) -> Ran {
    let program = lab.command(&RUN);
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-e", "signal=none", "-o", "calls"]).args(strace);
    command.arg("--").arg(program.get_program()).args(program.get_args());
    command.current_dir(lab.dir.path()).stdin(Stdio::null());
    for (name, _) in program.get_envs() {
        command.env_remove(name);
    }
    Ran::of(command.output().unwrap())
}

/// Whether `strace` can be used here; says so if not.
fn can_trace() -> bool {
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).stderr(Stdio::null());
    let works = command.status().is_ok_and(|status| status.success());
    if !works {
        println!("SKIPPED: strace is not there, or may trace nothing (apt-get install strace)");
    }
    works
}

/// The most calls of this kind that one thread makes.
fn most(kind: &str) -> usize {
    let lab = lab();
    traced(&lab, &["-e", &format!("trace={kind}")]).exits(0);
    let log = fs::read_to_string(lab.path("calls")).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in log.lines().filter(|line| !line.contains("resumed>")) {
        *counts.entry(line.split(' ').next().unwrap_or_default()).or_default() += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// Fails the n-th call, and then runs the program again. Gives how often a call failed, or what is wrong.
fn survives(kind: &str, error: &str, n: usize, expected: &Run) -> Result<usize, String> {
    let lab = lab();
    let ran = traced(&lab, &["-e", &format!("trace={kind}"), "-e", &format!("inject={kind}:error={error}:when={n}")]);
    let log = fs::read_to_string(lab.path("calls")).unwrap_or_default();
    let injected: Vec<&str> = log.lines().filter(|line| line.contains("INJECTED")).collect();
    let wrong =
        |what: String| format!("{kind}, {error}, {n}: {what}\n{}\n{}{}", injected.join("\n"), ran.stdout, ran.stderr);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    // Without memory the loader crashes, too, before the program has said anything.
    let is_loader = kind == "mmap" && ran.code.is_none() && said.is_empty();
    let is_not_ours = is_loader || NOT_OURS.iter().any(|text| said.contains(text));
    if (said.contains("panicked") || said.contains("RUST_BACKTRACE")) && !is_not_ours {
        return Err(wrong("panicked".into()));
    }
    // The message itself may be what could not be written.
    let is_mute = injected.iter().any(|line| line.contains("write(2,"));
    match ran.code {
        Some(0) => same(&lab, expected).map_err(wrong)?,
        Some(1 | 2) if is_mute || ran.stderr.lines().filter(|line| line.starts_with("error: ")).count() == 1 => {}
        _ if is_not_ours => {}
        code => return Err(wrong(format!("ended with {code:?} and without one message"))),
    }
    let again = lab.ccdni(&RUN);
    if again.code != Some(0) {
        return Err(wrong(format!("and then:\n{}{}", again.stdout, again.stderr)));
    }
    same(&lab, expected).map_err(wrong)?;
    Ok(injected.len())
}

fn same(lab: &Lab, expected: &Run) -> Result<(), String> {
    let run = lab.runs().pop().ok_or("there is no run")?;
    match run.results() == expected.results() {
        true => Ok(()),
        false => Err("the results differ".into()),
    }
}

/// Tries every `stride`-th call of every kind with so many of its errors, and prints how many.
fn try_all(stride: usize, most_errors: usize) {
    let (_keep, expected) = undisturbed();
    let mut failures = Vec::new();
    let (mut runs, mut faults) = (0, 0);
    for (kind, errors) in FAULTS {
        let most = most(kind);
        for error in errors.iter().take(most_errors) {
            let (mut tried, mut failed) = (0, 0);
            for n in (1..=most).step_by(stride) {
                match survives(kind, error, n, &expected) {
                    Ok(injected) => failed += injected,
                    Err(what) => failures.push(what),
                }
                tried += 1;
            }
            println!("{kind} {error}: {tried} runs, {failed} calls failed");
            (runs, faults) = (runs + tried, faults + failed);
        }
    }
    println!("all: {runs} runs, {faults} calls failed, {} not as they should be", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn a_system_call_that_fails_costs_no_bits() {
    if can_trace() {
        try_all(97, 1);
    }
}

#[test]
#[ignore = "takes half an hour: `just faults`"]
fn every_system_call_may_fail() {
    assert!(can_trace());
    try_all(1, usize::MAX);
}

#[test]
fn short_and_interrupted_reads_and_writes_change_nothing() {
    let (_keep, expected) = undisturbed();
    let lab = lab();
    let Some(shim) = crate::power::shim(&lab) else { return };
    let mut command = lab.command(&RUN);
    command.env("LD_PRELOAD", shim).env("SHIM_SHORT", "1").stdin(Stdio::null());
    Ran::of(command.output().unwrap()).exits(0);
    lab.run().assert_equals(&expected);
}
