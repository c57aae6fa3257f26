//! The pool: trains units in worker processes, so many at a time.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use super::event::{Ended, Event};
use super::interrupt::Stop;
use crate::error::{Error, Result};

/// How often the pool looks up from its workers' messages.
const TICK: Duration = Duration::from_millis(50);

/// So many of the first and of the last lines of a worker's standard error are kept, for the message if it dies.
const LAST_WORDS: usize = 10;

/// How a worker process is started for a unit: its arguments and environment. `K` tells the units apart.
pub trait Launch<K> {
    /// The command that trains a unit, ready but for its pipes.
    fn command(&self, unit: K) -> Command;
}

/// This program as a worker: `ccdni worker DIR --seed N --run JSON`.
pub struct ThisProgram {
    /// Path of the program.
    pub program: std::path::PathBuf,
    /// What comes before the seed.
    pub arguments: Vec<OsString>,
    /// Threads within a worker.
    pub threads: usize,
}

impl Launch<u64> for ThisProgram {
    fn command(&self, seed: u64) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg("--seed").arg(seed.to_string());
        command.env("RAYON_NUM_THREADS", self.threads.to_string());
        command
    }
}

/// What a worker's pipes say.
enum Message {
    Event(Event),
    Words(String),
    Closed,
}

struct Worker {
    child: Child,
    /// Open as long as the worker shall live.
    stdin: Option<ChildStdin>,
    ended: Option<Ended>,
    words: VecDeque<String>,
    /// Standard output and standard error.
    open_pipes: usize,
}

/// Trains units in worker processes, at most `jobs` at a time, in the order in which `next` gives them. `follow` hears
/// every event, and `idle` is called when there is nothing to hear. If `stop` is asked, workers are told to stop, and no
/// further unit is begun. The answer has every unit that was begun.
///
/// # Errors
/// [`Error::Io`] if a worker cannot be started, or what `next` says; workers that are at work then stop by themselves.
pub fn train<K: Copy + Ord + Send + 'static>(
    next: &mut dyn FnMut() -> Result<Option<K>>,
    jobs: usize,
    launch: &dyn Launch<K>,
    stop: &Stop,
    follow: &mut dyn FnMut(K, &Event),
    idle: &mut dyn FnMut(),
) -> Result<BTreeMap<K, Ended>> {
    let (sender, receiver) = mpsc::channel();
    let mut workers: BTreeMap<K, Worker> = BTreeMap::new();
    let mut ended = BTreeMap::new();
    let mut more = true;
    loop {
        if stop.asked() {
            more = false;
            workers.values_mut().for_each(|worker| drop(worker.stdin.take()));
        }
        while more && workers.len() < jobs.max(1) {
            match next()? {
                Some(unit) => drop(workers.insert(unit, start(launch.command(unit), unit, &sender)?)),
                None => more = false,
            }
        }
        if workers.is_empty() {
            return Ok(ended);
        }
        let received = receiver.try_recv().or_else(|_| {
            idle();
            receiver.recv_timeout(TICK)
        });
        let Ok((unit, message)) = received else { continue };
        let Some(worker) = workers.get_mut(&unit) else { continue };
        match message {
            Message::Event(event) => {
                if let Event::Ended(how) = &event {
                    worker.ended = Some(how.clone());
                }
                follow(unit, &event);
            }
            Message::Words(line) => {
                worker.words.push_back(line);
                if worker.words.len() > 2 * LAST_WORDS {
                    worker.words.remove(LAST_WORDS);
                }
            }
            Message::Closed => worker.open_pipes -= 1,
        }
        if worker.open_pipes == 0
            && let Some(worker) = workers.remove(&unit)
        {
            let told = worker.ended.is_some();
            let how = bury(worker, stop)?;
            if !told {
                follow(unit, &Event::Ended(how.clone()));
            }
            ended.insert(unit, how);
        }
    }
}

fn start<K: Copy + Send + 'static>(mut command: Command, unit: K, sender: &Sender<(K, Message)>) -> Result<Worker> {
    let program = std::path::PathBuf::from(command.get_program());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::io("start a worker from", &program))?;
    let mut open_pipes = 0;
    if let Some(stdout) = child.stdout.take() {
        open_pipes += 1;
        let read = |line: String| Event::from_line(&line).map_or(Message::Words(line), Message::Event);
        listen(stdout, unit, sender.clone(), read);
    }
    if let Some(stderr) = child.stderr.take() {
        open_pipes += 1;
        listen(stderr, unit, sender.clone(), Message::Words);
    }
    Ok(Worker { stdin: child.stdin.take(), child, ended: None, words: VecDeque::new(), open_pipes })
}

fn listen<K: Copy + Send + 'static>(
    pipe: impl std::io::Read + Send + 'static,
    unit: K,
    sender: Sender<(K, Message)>,
    read: impl Fn(String) -> Message + Send + 'static,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let _ = sender.send((unit, read(String::from_utf8_lossy(&line).into_owned())));
        }
        let _ = sender.send((unit, Message::Closed));
    });
}

/// Waits for a worker whose pipes are closed, and says how it ended.
fn bury(mut worker: Worker, stop: &Stop) -> Result<Ended> {
    drop(worker.stdin.take());
    let status = worker.child.wait().map_err(Error::io("wait for the worker of", std::path::Path::new("a seed")))?;
    Ok(match worker.ended {
        Some(how) => how,
        // Ctrl-C reached it before it could listen.
        None if stop.asked() => Ended::Stopped,
        None => {
            let words = worker.words.make_contiguous().join("\n");
            let said = if words.is_empty() { String::new() } else { format!("; it said:\n{words}") };
            let reason = format!("the worker ended without a result ({}){said}", describe(status));
            // It was killed, by somebody or for want of memory; a worker that ended by itself would do so again.
            Ended::Failed { reason, again: status.code().is_none() }
        }
    })
}

#[cfg(unix)]
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(9) => "killed by signal 9: by somebody, or for want of memory".into(),
        Some(signal) => format!("killed by signal {signal}"),
        None => status.to_string(),
    }
}

#[cfg(not(unix))]
fn describe(status: ExitStatus) -> String {
    status.to_string()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Workers written in shell: `$seed` is theirs.
    struct Shell(&'static str);

    impl Launch<u64> for Shell {
        fn command(&self, seed: u64) -> Command {
            let mut command = Command::new("sh");
            command.arg("-c").arg(self.0).env("seed", seed.to_string());
            command
        }
    }

    const DONE: &str = r#"echo '{"event":"ended","how":"done"}'"#;

    /// Seeds in order.
    fn queue(seeds: &[u64]) -> impl FnMut() -> Result<Option<u64>> {
        let mut seeds = seeds.iter().copied();
        move || Ok(seeds.next())
    }

    fn ends(seeds: &[u64], jobs: usize, script: &'static str) -> BTreeMap<u64, Ended> {
        train(&mut queue(seeds), jobs, &Shell(script), &Stop::default(), &mut |_, _| {}, &mut || {}).unwrap()
    }

    #[test]
    fn every_seed_is_trained_once_for_any_number_of_jobs() {
        for jobs in [1, 2, 9] {
            let ended = ends(&[3, 1, 2, 7], jobs, DONE);
            assert_eq!(ended.into_iter().collect::<Vec<_>>(), [1, 2, 3, 7].map(|seed| (seed, Ended::Done)));
        }
    }

    #[test]
    fn a_worker_that_dies_has_failed_with_its_last_words() {
        let ended = ends(&[1, 2], 2, "echo careful >&2; if [ $seed = 1 ]; then kill -9 $$; else exit 3; fi");
        for (seed, said) in [(1, "signal 9"), (2, "3")] {
            match &ended[&seed] {
                Ended::Failed { reason, again } => {
                    assert!(reason.contains(said) && reason.contains("careful"), "{reason}");
                    assert_eq!(*again, seed == 1, "only what was killed may come further");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn stopping_closes_standard_input_and_begins_nothing_more() {
        let stop = Stop::default();
        let script = r#"echo '{"event":"started","epochs_done":0}'; cat; echo '{"event":"ended","how":"stopped"}'"#;
        let asking = stop.clone();
        let mut follow = |_: u64, event: &Event| {
            if matches!(event, Event::Started { .. }) {
                asking.ask();
            }
        };
        let ended = train(&mut queue(&[1, 2, 3]), 1, &Shell(script), &stop, &mut follow, &mut || {}).unwrap();
        assert_eq!(ended.into_iter().collect::<Vec<_>>(), [(1, Ended::Stopped)]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let launch = ThisProgram { program: "/nowhere/ccdni".into(), arguments: Vec::new(), threads: 1 };
        let error = train(&mut queue(&[1]), 1, &launch, &Stop::default(), &mut |_, _| {}, &mut || {}).unwrap_err();
        assert!(error.to_string().contains("/nowhere/ccdni"), "{error}");
    }
}
