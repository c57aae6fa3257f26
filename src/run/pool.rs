//! The pool: trains units in worker processes, so many at a time.

use std::collections::{BTreeMap, VecDeque};
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

/// A unit: the place of its run among the runs that are trained, and the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitId {
    /// The place of its run.
    pub run: usize,
    /// The seed.
    pub seed: u64,
}

/// The units that a pool trains.
pub trait Units {
    /// The next unit to begin.
    ///
    /// # Errors
    /// Whatever keeps it from being begun, and so everything after it.
    fn next(&mut self) -> Result<Option<UnitId>>;

    /// The command that trains a unit, ready but for its pipes.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Usage`].
    fn command(&self, unit: UnitId) -> Result<Command>;

    /// Receives every event of every unit; the last one of each is how it ended.
    fn follow(&mut self, unit: UnitId, event: &Event);
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

/// Trains units in worker processes, at most `jobs` at a time, in their order. If `stop` is asked, workers are told to stop,
/// and no further unit is begun.
///
/// # Errors
/// [`Error::Io`] if a worker cannot be started, or what [`Units::next`] gives; workers that are at work then stop by
/// themselves.
pub fn train(units: &mut dyn Units, jobs: usize, stop: &Stop) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    let mut workers: BTreeMap<UnitId, Worker> = BTreeMap::new();
    let mut more = true;
    loop {
        if stop.asked() {
            more = false;
            workers.values_mut().for_each(|worker| drop(worker.stdin.take()));
        }
        while more && workers.len() < jobs.max(1) {
            match units.next()? {
                Some(unit) => drop(workers.insert(unit, start(units.command(unit)?, unit, &sender)?)),
                None => more = false,
            }
        }
        if workers.is_empty() {
            return Ok(());
        }
        let Ok((unit, message)) = receiver.recv_timeout(TICK) else { continue };
        let Some(worker) = workers.get_mut(&unit) else { continue };
        match message {
            Message::Event(event) => {
                if let Event::Ended(how) = &event {
                    worker.ended = Some(how.clone());
                }
                units.follow(unit, &event);
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
                units.follow(unit, &Event::Ended(how));
            }
        }
    }
}

fn start(mut command: Command, unit: UnitId, sender: &Sender<(UnitId, Message)>) -> Result<Worker> {
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

fn listen(
    pipe: impl std::io::Read + Send + 'static,
    unit: UnitId,
    sender: Sender<(UnitId, Message)>,
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

    /// Seeds whose workers are written in shell: `$seed` is theirs.
    struct Shell {
        script: &'static str,
        seeds: VecDeque<u64>,
        ended: BTreeMap<u64, Ended>,
        /// Asked to stop as soon as a unit has started.
        stop: Option<Stop>,
    }

    impl Units for Shell {
        fn next(&mut self) -> Result<Option<UnitId>> {
            Ok(self.seeds.pop_front().map(|seed| UnitId { run: 0, seed }))
        }

        fn command(&self, unit: UnitId) -> Result<Command> {
            let mut command = Command::new("sh");
            command.arg("-c").arg(self.script).env("seed", unit.seed.to_string());
            Ok(command)
        }

        fn follow(&mut self, unit: UnitId, event: &Event) {
            match event {
                Event::Started { .. } => self.stop.iter().for_each(Stop::ask),
                Event::Ended(how) => drop(self.ended.insert(unit.seed, how.clone())),
                _ => {}
            }
        }
    }

    const DONE: &str = r#"echo '{"event":"ended","how":"done"}'"#;

    fn ends(seeds: &[u64], jobs: usize, script: &'static str, stop: Option<Stop>) -> BTreeMap<u64, Ended> {
        let mut shell = Shell { script, seeds: seeds.to_vec().into(), ended: BTreeMap::new(), stop };
        let stop = shell.stop.clone().unwrap_or_default();
        train(&mut shell, jobs, &stop).unwrap();
        shell.ended
    }

    #[test]
    fn every_seed_is_trained_once_for_any_number_of_jobs() {
        for jobs in [1, 2, 9] {
            let ended = ends(&[3, 1, 2, 7], jobs, DONE, None);
            assert_eq!(ended.into_iter().collect::<Vec<_>>(), [1, 2, 3, 7].map(|seed| (seed, Ended::Done)));
        }
    }

    #[test]
    fn a_worker_that_dies_has_failed_with_its_last_words() {
        let ended = ends(&[1, 2], 2, "echo careful >&2; if [ $seed = 1 ]; then kill -9 $$; else exit 3; fi", None);
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
        let script = r#"echo '{"event":"started","epochs_done":0}'; cat; echo '{"event":"ended","how":"stopped"}'"#;
        let ended = ends(&[1, 2, 3], 1, script, Some(Stop::default()));
        assert_eq!(ended.into_iter().collect::<Vec<_>>(), [(1, Ended::Stopped)]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let (sender, _receiver) = mpsc::channel();
        let started = start(Command::new("/nowhere/ccdni"), UnitId { run: 0, seed: 1 }, &sender);
        let error = started.err().unwrap().to_string();
        assert!(error.contains("/nowhere/ccdni"), "{error}");
    }
}
