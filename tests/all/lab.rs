//! A place to run the real program in: a temporary directory with a small spec, and what comes out of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

/// Epochs of the small spec.
pub const EPOCHS: usize = 12;

/// A small line-drawing experiment with a synthesizer and recordings. It writes a checkpoint after every batch.
pub const SPEC: &str = "
name: tiny
task: {kind: linedraw, train_size: 40, test_size: 20}
model:
  layers: [{cell: lstm, hidden: 6, dni: {hidden: [8]}}]
train:
  epochs: 12
  batch_size: 4
  bptt: 1
  feedback_every: 2
  keep: best
  optimizer: {kind: adam, lr: 1.0e-3, betas: [0.9, 0.98], eps: 1.0e-9}
  clip: {norm: 1.0}
record: {every: 3, what: [hidden, synthetic], cosine: true}
run: {device: cpu, checkpoint_every: 0s}
";

/// The program: where cargo says that it is when it runs the tests, and on machines without cargo the kit for GPUs (`tests/cuda/kit`).
pub fn program() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_ccdni").unwrap_or_else(|| env!("CARGO_BIN_EXE_ccdni").into()).into()
}

/// Numbers that differ from run to run of the tests, and are shown where one fails.
pub struct Chance(u64);

impl Chance {
    pub fn new() -> Self {
        let seed = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0);
        println!("chance {seed}");
        Chance(seed)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A directory of its own for each test.
pub struct Lab {
    pub dir: tempfile::TempDir,
}

impl Lab {
    /// A directory with the small spec as `spec.yaml`.
    pub fn new() -> Self {
        let lab = Lab { dir: tempfile::tempdir().unwrap() };
        lab.write("spec.yaml", SPEC);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The program with these arguments, in a process group of its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.dir.path()).args(arguments);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CCDNI")) {
            command.env_remove(name);
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }

    /// Runs the program to its end.
    pub fn ccdni(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    /// Starts the program, to be disturbed.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Running { child, stderr, said: String::new() }
    }

    /// The one run directory.
    pub fn run(&self) -> Run {
        Run(self.only_run("outputs"))
    }

    /// All run directories, by name.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs = self.listed("outputs");
        runs.retain(|path| path.join("spec.yaml").exists());
        runs.sort();
        runs.into_iter().map(Run).collect()
    }

    /// The one run in a directory of runs.
    pub fn only_run(&self, outputs: &str) -> PathBuf {
        let mut runs = self.listed(outputs);
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    /// What is in a directory, if it is there; without what a killed program had begun to make, whose names begin with a period.
    fn listed(&self, directory: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(directory)).into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.')).collect()
    }
}

/// A number that a recipe of the justfile passes on to a long test, or its default.
pub fn asked(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

/// What a program that ended has said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Checks the exit code, and gives everything that was said.
    #[track_caller]
    pub fn exits(&self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A program at work.
pub struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Running {
    /// Waits until this many epochs were reported; false if the program ended before.
    pub fn saw_epochs(&mut self, count: usize) -> bool {
        while self.said.matches(": epoch ").count() < count {
            if self.stderr.read_line(&mut self.said).unwrap() == 0 {
                return false;
            }
        }
        true
    }

    /// The last epoch that a seed has reported so far.
    pub fn last_epoch(&self, seed: u64) -> usize {
        let begin = format!("seed {seed}: epoch ");
        let epochs = self.said.lines().filter_map(|line| line.strip_prefix(&begin)?.split('/').next()?.parse().ok());
        epochs.max().unwrap_or(0)
    }

    /// Sends a signal to the program alone.
    pub fn signal(&self, signal: &str) {
        send(signal, &self.child.id().to_string());
    }

    /// Sends a signal to the program and its workers, as a terminal does.
    pub fn signal_group(&self, signal: &str) {
        send(signal, &format!("-{}", self.child.id()));
    }

    /// Stops the program and its workers where they are, but not while they put a file into `directory`.
    pub fn hold(&self, directory: &Path) {
        loop {
            self.signal_group("STOP");
            while !self.is_still() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
            if !names.into_iter().any(|name| name.to_string_lossy().starts_with(".tmp-")) {
                return;
            }
            self.signal_group("CONT");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether every thread of the program and of its workers has stopped: a signal takes its time, and a system call
    /// that has begun is finished first.
    fn is_still(&self) -> bool {
        // `number (name) state parent group ...`
        let states = |path: PathBuf| -> Option<(String, String)> {
            let text = fs::read_to_string(path.join("stat")).ok()?;
            let mut fields = text.rsplit_once(')')?.1.split_whitespace();
            Some((fields.next()?.to_string(), fields.nth(1)?.to_string()))
        };
        let within = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let group = self.child.id().to_string();
        within("/proc".into())
            .filter(|process| states(process.clone()).is_some_and(|(_, of)| of == group))
            .flat_map(|process| within(process.join("task")))
            .filter_map(states)
            .all(|(state, _)| matches!(state.as_str(), "T" | "Z"))
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ran {
        self.stderr.read_to_string(&mut self.said).unwrap();
        let mut ran = Ran::of(self.child.wait_with_output().unwrap());
        ran.stderr = self.said;
        ran
    }
}

fn send(signal: &str, target: &str) {
    // It may be gone already, and that is fine.
    let _ = Command::new("kill").args(["-s", signal, "--", target]).stderr(Stdio::null()).status().unwrap();
}

/// A run's directory.
pub struct Run(pub PathBuf);

impl Run {
    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.0.join(name)).unwrap()).unwrap()
    }

    /// Changes a file as text.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.0.join(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from}:\n{text}");
        fs::write(self.0.join(name), text.replace(from, to)).unwrap();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.0.join("log.txt")).unwrap()
    }

    /// How often the log says that a seed was trained to the end.
    pub fn times_done(&self, seed: u64) -> usize {
        self.log().lines().filter(|line| line.ends_with(&format!(" seed {seed}: done"))).count()
    }

    /// Epoch and batch of every first batch that a seed's workers trained.
    pub fn began_at(&self, seed: u64) -> Vec<(usize, usize)> {
        let begin = format!(" seed {seed}: trains from epoch ");
        let number = |text: &str| text.parse().unwrap();
        self.log()
            .lines()
            .filter_map(|line| line.split_once(&begin)?.1.split_once(", batch "))
            .map(|(epoch, batch)| (number(epoch), number(batch)))
            .collect()
    }

    /// Waits until nobody holds any unit any more.
    pub fn wait_until_free(&self) {
        for entry in fs::read_dir(self.0.join("seeds")).into_iter().flatten() {
            let Ok(lock) = fs::File::open(entry.unwrap().path().join("lock")) else { continue };
            while lock.try_lock_shared().is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Every file that must not depend on interruptions, with its content. Of tables, the clock is left out.
    pub fn results(&self) -> BTreeMap<String, Vec<u8>> {
        let mut results = BTreeMap::new();
        self.collect(&self.0, &mut results);
        results
    }

    fn collect(&self, dir: &Path, results: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&self.0).unwrap().to_string_lossy().into_owned();
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !file.contains(".old-") {
                    self.collect(&path, results);
                }
            } else if file == "metrics.csv" {
                results.insert(name, without_seconds(&fs::read_to_string(&path).unwrap()).into_bytes());
            } else if file != "checkpoint.safetensors" && (file.ends_with(".safetensors") || file.ends_with(".npy")) {
                results.insert(name, fs::read(&path).unwrap());
            }
        }
    }

    /// Checks that two runs of a task that draws gave the same bits.
    #[track_caller]
    pub fn assert_equals(&self, other: &Run) {
        self.assert_same(other);
        assert!(self.0.join("predictions.npy").exists());
    }

    /// Checks that two runs gave the same bits.
    #[track_caller]
    pub fn assert_same(&self, other: &Run) {
        let (ours, theirs) = (self.results(), other.results());
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "log:\n{}", self.log());
        for (name, bytes) in &ours {
            assert!(*bytes == theirs[name], "{name} differs; log:\n{}", self.log());
        }
        for expected in ["decoder.safetensors", "scores.npy", "metrics.csv"] {
            assert!(ours.contains_key(expected), "{expected} is missing");
        }
    }
}

fn without_seconds(table: &str) -> String {
    let clock = table.lines().next().unwrap().split(',').position(|column| column == "seconds").unwrap();
    let cut = |line: &str| {
        let cells = line.split(',').enumerate().filter(|(column, _)| *column != clock).map(|(_, cell)| cell);
        cells.collect::<Vec<_>>().join(",") + "\n"
    };
    table.lines().map(cut).collect()
}
