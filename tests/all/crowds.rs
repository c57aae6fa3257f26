//! Many programs on one directory of runs, clocks that jump, and places that are unusual or vanish. `just crowds` runs the long ones.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, thread};

use crate::lab::{Chance, Lab, Ran, asked};
use crate::slurm;

const RUN: [&str; 4] = ["run", "spec.yaml", "--seeds", "1,2"];

fn undisturbed() -> Lab {
    let lab = Lab::new();
    lab.ccdni(&RUN).exits(0);
    lab
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
#[ignore = "takes minutes: `just crowds`"]
fn a_thousand_starts_at_once_train_each_seed_once() {
    let (lab, expected) = (Lab::new(), undisturbed());
    let all: Vec<Child> = (0..asked("CCDNI_STARTS", 1000)).map(|_| spawn(lab.command(&RUN))).collect();
    let ran: Vec<Ran> = all.into_iter().map(|child| Ran::of(child.wait_with_output().unwrap())).collect();
    for ran in &ran {
        match ran.code {
            Some(0) => {}
            _ => assert!(ran.exits(1).contains("is held by process "), "{ran:?}"),
        }
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    }
    let run = lab.run();
    assert_eq!([1, 2].map(|seed| run.times_done(seed)), [1, 1], "{}", run.log());
    run.assert_equals(&expected.run());
    let trained = ran.iter().filter(|ran| ran.code == Some(0)).count();
    println!("{} starts: {trained} ended well, {} found all held", ran.len(), ran.len() - trained);
}

#[test]
#[ignore = "takes minutes: `just crowds`"]
fn two_sweeps_on_one_directory_survive_kills() {
    let expected = slurm::lab();
    let sweep = ["sweep", "sweep.yaml", "--launcher", "local"];
    expected.ccdni(&sweep).exits(0);
    let mut chance = Chance::new();
    let times = asked("CCDNI_TIMES", 20);
    for _ in 0..times {
        let lab = slurm::lab();
        let mut both = [spawn(lab.command(&sweep)), spawn(lab.command(&sweep))];
        thread::sleep(Duration::from_millis(chance.below(600)));
        let _ = Command::new("kill")
            .args(["-s", "KILL", "--", &format!("-{}", both[chance.below(2) as usize].id())])
            .stderr(Stdio::null())
            .status();
        for child in &mut both {
            child.wait().unwrap();
        }
        lab.ccdni(&sweep).exits(0);
        lab.runs().iter().zip(expected.runs()).for_each(|(ours, theirs)| ours.assert_equals(&theirs));
    }
    println!("{times} pairs of sweeps, one of each pair killed, all bits equal");
}

#[test]
#[ignore = "takes a minute: `just crowds`"]
fn readers_always_see_whole_files() {
    let lab = Lab::new();
    let ended = AtomicBool::new(false);
    let read = AtomicUsize::new(0);
    thread::scope(|scope| {
        for reader in 0..32 {
            let (lab, ended, read) = (&lab, &ended, &read);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    // At the beginning there is no run.
                    let Some(run) = lab.runs().pop() else { continue };
                    let hash = run.0.file_name().unwrap().to_str().unwrap();
                    let page = format!("{reader}.html");
                    let commands: [&[&str]; 3] = [&["list"], &["show", hash], &["report", hash, "--out", &page]];
                    let ran = lab.ccdni(commands[reader % 3]);
                    let said = ran.exits(0);
                    assert!(!said.contains("damaged") && !said.contains("panicked"), "{said}");
                    read.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for seeds in ["1..3", "4..6", "1..9"] {
            lab.ccdni(&["run", "spec.yaml", "--seeds", seeds, "--jobs", "2"]).exits(0);
        }
        ended.store(true, Ordering::Relaxed);
    });
    println!("{} readings by 32 readers while 9 seeds were trained", read.into_inner());
}

/// The library of `faketime`, where Debian has it.
fn faketime() -> Option<PathBuf> {
    let library = |folder: fs::DirEntry| folder.path().join("faketime/libfaketimeMT.so.1");
    fs::read_dir("/usr/lib").ok()?.flatten().map(library).find(|library| library.exists())
}

#[test]
fn a_clock_that_jumps_by_an_hour_changes_nothing() {
    let Some(faketime) = faketime() else {
        println!("SKIPPED: there is no libfaketime (apt-get install libfaketime)");
        return;
    };
    let (lab, expected) = (Lab::new(), undisturbed());
    for shift in ["+1h", "-1h", "+1h", "+0"] {
        let mut command = lab.command(&RUN);
        command.env("LD_PRELOAD", &faketime).env("FAKETIME", shift).env("DONT_FAKE_MONOTONIC", "1");
        let mut child = spawn(command);
        if shift != "+0" {
            thread::sleep(Duration::from_millis(60));
            child.kill().unwrap();
        }
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert!(ran.code.is_none() || ran.code == Some(0), "{ran:?}");
        lab.runs().iter().for_each(|run| run.wait_until_free());
    }
    lab.run().assert_equals(&expected.run());
}

/// Trains in a directory of runs somewhere, and compares.
fn trains_in(outputs: &Path) {
    let (lab, expected) = (Lab::new(), undisturbed());
    let outputs = outputs.to_str().unwrap();
    lab.ccdni(&[&RUN[..], &["--outputs", outputs]].concat()).exits(0);
    crate::lab::Run(lab.only_run(outputs)).assert_equals(&expected.run());
}

#[test]
fn any_file_system_and_a_long_path_will_do() {
    let folder = tempfile::tempdir().unwrap();
    trains_in(&folder.path().join(["x".repeat(100), "y".repeat(100)].join("/")));
    match tempfile::tempdir_in("/dev/shm") {
        Ok(memory) => trains_in(&memory.path().join("outputs")),
        Err(_) => println!("SKIPPED: there is no /dev/shm"),
    }
}

/// Mounts something, for as long as the guard lives; `None` where that is not permitted.
struct Mounted(PathBuf);

impl Mounted {
    fn new(arguments: &[&str], at: PathBuf) -> Option<Self> {
        let done = Command::new("mount").args(arguments).arg(&at).stderr(Stdio::null()).status();
        let mounted = done.is_ok_and(|status| status.success());
        if !mounted {
            println!("SKIPPED: cannot mount {arguments:?} here (needs root)");
        }
        mounted.then_some(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn an_overlay_will_do_and_a_read_only_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| path(name).display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    // An overlay on an overlay, as in a container, may not be permitted.
    if let Some(overlay) = Mounted::new(&["-t", "overlay", "overlay", "-o", &options], path("merged")) {
        trains_in(&overlay.0.join("outputs"));
    }
    if let Some(fixed) = Mounted::new(&["-t", "tmpfs", "-o", "ro", "tmpfs"], path("fixed")) {
        let lab = Lab::new();
        let outputs = fixed.0.join("outputs");
        let said = lab.ccdni(&["run", "spec.yaml", "--outputs", outputs.to_str().unwrap()]).exits(2);
        assert!(said.contains("Read-only file system") && said.contains("--outputs DIR"), "{said}");
    }
}

#[test]
fn outputs_that_vanish_end_the_run_with_a_message() {
    let lab = Lab::new();
    let mut running = lab.start(&["run", "spec.yaml", "--verbose", "--set", "train.epochs=400"]);
    assert!(running.saw_epochs(2));
    // New files may appear while others are deleted.
    while fs::remove_dir_all(lab.path("outputs")).is_err() && lab.path("outputs").exists() {}
    let ran = running.end();
    let said = ran.exits(1);
    assert!(said.contains("error: ") && !said.contains("panicked"), "{said}");
    lab.ccdni(&RUN).exits(0);
}
