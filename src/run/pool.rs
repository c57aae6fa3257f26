//! The pool: trains units in a limited number of worker processes, each of which trains one unit, or several seeds of a run together.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use super::event::{Ended, Event, Line};
use super::interrupt::Stop;
use super::thread;
use crate::error::{Error, Result};

/// Timeout for worker messages, after which the pool checks for a stop.
const TICK: Duration = Duration::from_millis(50);

/// Number of first and of last lines of a worker's output kept for the error message if it dies.
const KEPT_LINES: usize = 10;

/// A unit: the index of its run among those being trained, and the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitId {
    /// Index of its run.
    pub run: usize,
    /// The seed.
    pub seed: u64,
}

/// The units that a pool trains.
pub trait Units {
    /// The next units to begin in one worker; empty if there is none.
    ///
    /// # Errors
    /// Any error that prevents them, and all after them, from starting.
    fn next(&mut self) -> Result<Vec<UnitId>>;

    /// The command that trains units of one run; the pool sets its pipes.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Usage`].
    fn command(&self, units: &[UnitId]) -> Result<Command>;

    /// Receives every event of every unit; the last is [`Event::Ended`].
    fn follow(&mut self, unit: UnitId, event: &Event);
}

/// A message from a worker's pipes.
enum Message {
    Event(Line),
    Output(String),
    Closed,
}

struct Worker {
    child: Child,
    /// The worker stops when this is closed.
    stdin: Option<ChildStdin>,
    units: Vec<UnitId>,
    /// What it reported of its units' ends.
    ended: BTreeMap<UnitId, Ended>,
    output: VecDeque<String>,
    /// Number of open output pipes (standard output and standard error).
    open_pipes: usize,
}

/// Trains units in order, in at most `jobs` worker processes at a time. On `stop`, or if a unit cannot be started, the workers
/// are stopped, no further unit is started, and what became of the others is still reported.
///
/// # Errors
/// [`Error::Io`] if a worker cannot be started or waited for, or an error of [`Units::next`].
pub fn train(units: &mut dyn Units, jobs: usize, stop: &Stop) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    // By their first units.
    let mut workers: BTreeMap<UnitId, Worker> = BTreeMap::new();
    let mut outcome = Ok(());
    let mut more = true;
    loop {
        while more && outcome.is_ok() && !stop.asked() && workers.len() < jobs.max(1) {
            match begin(units, &sender) {
                Ok(begun) => {
                    more = begun.is_some();
                    workers.extend(begun);
                }
                Err(error) => outcome = Err(error),
            }
        }
        let stopping = stop.asked() || outcome.is_err();
        if stopping {
            workers.values_mut().for_each(|worker| drop(worker.stdin.take()));
        }
        if workers.is_empty() {
            return outcome;
        }
        let Ok((unit, message)) = receiver.recv_timeout(TICK) else { continue };
        let Some(worker) = workers.get_mut(&unit) else { continue };
        receive(units, worker, message);
        if worker.open_pipes == 0
            && let Some(mut worker) = workers.remove(&unit)
        {
            match reap(&mut worker, stopping) {
                Ok(how) => {
                    let unreported = worker.units.iter().filter(|unit| !worker.ended.contains_key(unit));
                    unreported.for_each(|&unit| units.follow(unit, &Event::Ended(how.clone())));
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
    }
}

/// Starts the next units, if there are any.
fn begin(units: &mut dyn Units, sender: &Sender<(UnitId, Message)>) -> Result<Option<(UnitId, Worker)>> {
    let next = units.next()?;
    let Some(&first) = next.first() else { return Ok(None) };
    Ok(Some((first, start(units.command(&next)?, next, sender)?)))
}

/// Takes a message of a worker.
fn receive(units: &mut dyn Units, worker: &mut Worker, message: Message) {
    match message {
        Message::Event(Line { seed, event }) => {
            let is_meant = |unit: &&UnitId| seed.is_none_or(|seed| unit.seed == seed);
            let Some(&unit) = worker.units.iter().find(is_meant) else { return };
            if let Event::Ended(how) = &event {
                worker.ended.insert(unit, how.clone());
            }
            units.follow(unit, &event);
        }
        Message::Output(line) => {
            worker.output.push_back(line);
            if worker.output.len() > 2 * KEPT_LINES {
                worker.output.remove(KEPT_LINES);
            }
        }
        Message::Closed => worker.open_pipes -= 1,
    }
}

fn start(mut command: Command, units: Vec<UnitId>, sender: &Sender<(UnitId, Message)>) -> Result<Worker> {
    let program = std::path::PathBuf::from(command.get_program());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::io("start a worker from", &program))?;
    match listen_to(&mut child, units[0], sender) {
        Ok(open_pipes) => {
            let (stdin, ended, output) = (child.stdin.take(), BTreeMap::new(), VecDeque::new());
            Ok(Worker { stdin, child, units, ended, output, open_pipes })
        }
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// Listens to standard output and standard error of a worker; the number of these pipes.
fn listen_to(child: &mut Child, unit: UnitId, sender: &Sender<(UnitId, Message)>) -> Result<usize> {
    let mut pipes = 0;
    if let Some(stdout) = child.stdout.take() {
        let read = |line: String| Line::from_text(&line).map_or(Message::Output(line), Message::Event);
        listen(stdout, unit, sender.clone(), read)?;
        pipes += 1;
    }
    if let Some(stderr) = child.stderr.take() {
        listen(stderr, unit, sender.clone(), Message::Output)?;
        pipes += 1;
    }
    Ok(pipes)
}

fn listen(
    pipe: impl std::io::Read + Send + 'static,
    unit: UnitId,
    sender: Sender<(UnitId, Message)>,
    read: impl Fn(String) -> Message + Send + 'static,
) -> Result<()> {
    let send = move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(std::io::Result::ok) {
            let _ = sender.send((unit, read(String::from_utf8_lossy(&line).into_owned())));
        }
        let _ = sender.send((unit, Message::Closed));
    };
    thread::start(send).map(drop)
}

/// Waits for a worker whose pipes are closed, and returns how the units ended whose end it did not report.
fn reap(worker: &mut Worker, stopping: bool) -> Result<Ended> {
    drop(worker.stdin.take());
    let status = worker.child.wait().map_err(Error::io("wait for the worker of", std::path::Path::new("a seed")))?;
    Ok(match stopping {
        // It was stopped before the worker installed its handler.
        true => Ended::Stopped,
        false => {
            // Indented, so that it is not taken for a message of this program.
            let output = worker.output.make_contiguous().join("\n  ");
            let message = if output.is_empty() { String::new() } else { format!("; its output:\n  {output}") };
            let reason = format!("the worker ended without a result ({}){message}", describe(status));
            // A killed worker may succeed when tried again; one that exited by itself would fail again.
            Ended::Failed { reason, again: status.code().is_none() }
        }
    })
}

#[cfg(unix)]
fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(9) => "killed by signal 9, possibly for lack of memory".into(),
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

    /// Units whose workers are shell scripts with `$seed` set.
    struct Shell {
        script: &'static str,
        /// The seeds to train; instead of seed 0 there is an error.
        seeds: VecDeque<u64>,
        ended: BTreeMap<u64, Ended>,
        /// Seeds of a worker.
        at_once: usize,
        /// Stop requested as soon as a unit has started.
        stop: Option<Stop>,
    }

    impl Units for Shell {
        fn next(&mut self) -> Result<Vec<UnitId>> {
            let count = self.at_once.min(self.seeds.len());
            match self.seeds.drain(..count).collect::<Vec<_>>().as_slice() {
                [0] => Err(Error::Usage("no directory for seed 0".into())),
                seeds => Ok(seeds.iter().map(|&seed| UnitId { run: 0, seed }).collect()),
            }
        }

        fn command(&self, units: &[UnitId]) -> Result<Command> {
            let mut command = Command::new("sh");
            command.arg("-c").arg(self.script).env("seed", units[0].seed.to_string());
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
        let mut shell = Shell { script, seeds: seeds.to_vec().into(), ended: BTreeMap::new(), at_once: 1, stop };
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
    fn a_worker_that_dies_has_failed_with_its_last_output() {
        let ended = ends(&[1, 2], 2, "echo careful >&2; if [ $seed = 1 ]; then kill -9 $$; else exit 3; fi", None);
        for (seed, expected) in [(1, "signal 9"), (2, "3")] {
            match &ended[&seed] {
                Ended::Failed { reason, again } => {
                    assert!(reason.contains(expected) && reason.contains("careful"), "{reason}");
                    assert_eq!(*again, seed == 1, "only what was killed may come further");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn seeds_of_one_worker_end_each_in_its_own_way() {
        let script = r#"if [ $seed = 1 ]; then echo '{"event":"ended","how":"done","seed":2}'; exit 3; fi
            echo '{"event":"ended","how":"done"}'"#;
        let mut shell = Shell { script, seeds: [1, 2, 3].into(), ended: BTreeMap::new(), at_once: 2, stop: None };
        train(&mut shell, 1, &Stop::default()).unwrap();
        assert_eq!((&shell.ended[&2], &shell.ended[&3]), (&Ended::Done, &Ended::Done));
        assert!(matches!(&shell.ended[&1], Ended::Failed { .. }), "{:?}", shell.ended);
    }

    #[test]
    fn stopping_closes_standard_input_and_begins_nothing_more() {
        let script = r#"echo '{"event":"started","epochs_done":0}'; cat; echo '{"event":"ended","how":"stopped"}'"#;
        let ended = ends(&[1, 2, 3], 1, script, Some(Stop::default()));
        assert_eq!(ended.into_iter().collect::<Vec<_>>(), [(1, Ended::Stopped)]);
    }

    #[test]
    fn a_unit_that_cannot_be_started_stops_the_others_and_hides_nothing() {
        let script = r#"cat; echo '{"event":"ended","how":"stopped"}'"#;
        let mut shell = Shell { script, seeds: [1, 2, 0, 3].into(), ended: BTreeMap::new(), at_once: 1, stop: None };
        let error = train(&mut shell, 4, &Stop::default()).unwrap_err();
        assert_eq!(error.to_string(), "no directory for seed 0");
        assert_eq!(shell.ended.into_iter().collect::<Vec<_>>(), [(1, Ended::Stopped), (2, Ended::Stopped)]);
    }

    #[test]
    fn a_missing_program_is_named() {
        let (sender, _receiver) = mpsc::channel();
        let started = start(Command::new("/nowhere/ccdni"), vec![UnitId { run: 0, seed: 1 }], &sender);
        let error = started.err().unwrap().to_string();
        assert!(error.contains("/nowhere/ccdni"), "{error}");
    }
}
