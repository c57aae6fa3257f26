//! Power failures: what was not synced is lost. A shim in place of `fsync` (`tests/faults/shim.c`) keeps what would be left; the program is
//! killed at a random moment, what is left becomes a directory of runs, and the same command goes on there. No unit that was
//! reported as done may be trained again, and the bits are those of a run that was left alone. `just power` tries it often.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};
use std::{fs, thread};

use crate::lab::{Chance, Lab, Ran, Run, asked};

const RUN: [&str; 6] = ["run", "spec.yaml", "--seeds", "1..3", "--jobs", "2"];

/// Compiles the shim; `None`, with a message, where there is no compiler.
pub fn shim(lab: &Lab) -> Option<PathBuf> {
    let (source, library) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c"), lab.path("shim.so"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source);
    match compiler.output() {
        Ok(output) if output.status.success() => Some(library),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => {
            println!("SKIPPED: there is no C compiler (cc)");
            None
        }
    }
}

/// How the shim calls a directory.
fn key(directory: &Path) -> String {
    let about = fs::metadata(directory).unwrap();
    let born = about.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
    format!("{}-{}-{}", about.ino(), born.as_secs(), born.subsec_nanos())
}

/// Makes `to` a copy of what is durable of a directory: of a file that was never synced, its name.
fn restore(durable: &Path, key: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for line in fs::read_to_string(durable.join(key)).unwrap_or_default().lines() {
        let mut words = line.splitn(3, ' ');
        let (kind, key, name) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        match kind {
            "d" => restore(durable, key, &to.join(name)),
            _ => fs::write(to.join(name), fs::read(durable.join(key)).unwrap_or_default()).unwrap(),
        }
    }
}

/// The directory of runs in what is durable, restored in a lab of its own; empty if its name is not durable yet.
fn after_power_failure(lab: &Lab, durable: &Path) -> Lab {
    let left = Lab::new();
    let names = fs::read_to_string(durable.join(key(lab.dir.path()))).unwrap_or_default();
    if let Some(key) = names.lines().find_map(|line| line.strip_prefix("d ")?.strip_suffix(" outputs")) {
        restore(durable, key, &left.path("outputs"));
    }
    left
}

fn start(lab: &Lab, shim: &Path, durable: &Path) -> Command {
    fs::create_dir_all(durable).unwrap();
    let mut command = lab.command(&RUN);
    command.env("LD_PRELOAD", shim).env("SHIM_DURABLE", durable).stdin(Stdio::null());
    command
}

fn try_it(times: u64) {
    let expected = Lab::new();
    let Some(shim) = shim(&expected) else { return };
    let begun = Instant::now();
    Ran::of(start(&expected, &shim, &expected.path("durable")).output().unwrap()).exits(0);
    let span = begun.elapsed().as_millis() as u64;
    let mut chance = Chance::new();
    let (mut done, mut unfinished) = (0, 0);
    for _ in 0..times {
        let lab = Lab::new();
        let durable = lab.path("durable");
        let mut command = start(&lab, &shim, &durable);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        thread::sleep(Duration::from_millis(chance.below(span + span / 8)));
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status().unwrap();
        let said = Ran::of(child.wait_with_output().unwrap()).stderr;
        let reported: Vec<u64> = (1..=3).filter(|seed| said.contains(&format!("seed {seed}: done"))).collect();

        let left = after_power_failure(&lab, &durable);
        for seed in &reported {
            let run = left.run();
            assert_eq!(run.json(&format!("seeds/{seed}/unit.json"))["state"], "done", "{said}");
        }
        left.ccdni(&RUN).exits(0);
        check(&left.run(), &expected.run(), &reported);
        (done, unfinished) = (done + reported.len(), unfinished + 3 - reported.len());
    }
    println!("{times} power failures; {done} units were reported as done before them, {unfinished} were not");
}

/// Checks the bits, and that what was reported as done was not trained again. The log is not synced, so it may have begun anew.
fn check(run: &Run, expected: &Run, reported: &[u64]) {
    run.assert_equals(expected);
    for &seed in reported {
        assert!(run.began_at(seed).is_empty(), "seed {seed} was trained again:\n{}", run.log());
    }
}

#[test]
fn what_was_reported_as_done_outlives_a_power_failure() {
    try_it(5);
}

#[test]
#[ignore = "takes minutes: `just power`"]
fn many_power_failures_lose_nothing_that_was_reported() {
    try_it(asked("CCDNI_TIMES", 200));
}
