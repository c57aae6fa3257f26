//! Sweeps on disk: the units of many runs share the workers.
//!
//! There is no file of a sweep's own: which units there are follows from the spec file, and how each stands from its
//! directory. So a sweep can be asked for again after anything, two of them can share directories, and a cluster's tasks
//! are nothing but the same sweep started many times.

pub mod queue;
pub mod slurm;
pub mod survey;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use indicatif::{ProgressBar, ProgressStyle};

use super::directory::{self, Directory};
use super::event::{Ended, Event};
use super::interrupt::Stop;
use super::manifest::Manifest;
use super::progress::{eprint_line, print_line};
use super::table::{self, Standing};
use super::{Inspector, aggregate, check_old, check_same, clock, jobs, note_failure, pool, worker_of};
use crate::error::{Error, Result};
use crate::spec::sweep::{Sweep, SweptRun};
use crate::tasks::Registry;
use survey::{Survey, is_retried};

/// How a sweep is to be trained.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where run directories are.
    pub outputs: PathBuf,
    /// Try units again that failed at this time or before.
    pub retry_failed: Option<String>,
    /// Begin no further unit once one has failed.
    pub fail_fast: bool,
    /// The command that goes on with this sweep if it is interrupted.
    pub resume: String,
    /// Where the training happens.
    pub place: Place,
}

/// Where a sweep is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// Here.
    #[default]
    Here,
    /// Here, as one of many tasks of a cluster's array: `USR1` says that the time is nearly up, and that others train
    /// the rest is as it should be.
    Task,
    /// On other machines, whose devices are not known here.
    Elsewhere,
}

/// Failed or held units that are named in a message.
const NAMED: usize = 10;

/// A unit of a sweep: the run's place in it, and the seed.
type Key = (usize, u64);

/// A sweep that has been checked against what is on disk.
pub struct Checked<'a> {
    sweep: &'a Sweep,
    directories: Vec<Directory>,
    /// Digests of each run's data.
    data: Vec<BTreeMap<String, String>>,
}

/// Everything that may be refused, for every run, before anything is written.
///
/// # Errors
/// Mistakes of the user: no device, data that are missing or changed, a place that cannot hold results.
pub fn check<'a>(sweep: &'a Sweep, options: &Options, registry: &Registry) -> Result<Checked<'a>> {
    directory::check_outputs(&options.outputs)?;
    let mut inspector = Inspector { elsewhere: options.place == Place::Elsewhere, ..Inspector::new(registry) };
    let mut checked = Checked { sweep, directories: Vec::new(), data: Vec::new() };
    for run in &sweep.runs {
        let data = inspector.inspect(&run.resolved)?;
        let directory = Directory::of(&options.outputs, &run.resolved.hash);
        if directory.exists() {
            check_same(&run.resolved, &directory, registry)?;
            check_old(&directory, &data, &[])?;
        }
        checked.directories.push(directory);
        checked.data.push(data);
    }
    Ok(checked)
}

/// Trains every unit that is missing, the longest first, and makes the aggregates of all runs.
///
/// # Errors
/// [`Error::Training`] if a unit failed, now or before; [`Error::Held`] if nothing could be trained because others hold
/// units; [`Error::Interrupted`] after Ctrl-C.
pub fn train(checked: &Checked, options: &Options) -> Result<()> {
    let (sweep, stop) = (checked.sweep, Stop::on_signal()?);
    let survey = Survey::of(sweep, &options.outputs);
    if options.place == Place::Task {
        stop.on_time_limit();
    }
    let queue = survey.missing(options.retry_failed.as_deref());
    let all = survey.units().count();
    print_line(&format!("{} runs, {all} units: {} to train", sweep.runs.len(), queue.len()));

    let mut trainer = Trainer {
        checked,
        established: vec![false; sweep.runs.len()],
        display: Display::new(queue.len()),
        aggregator: Aggregator::start(),
        ended: BTreeMap::new(),
        failed_fast: false,
    };
    trainer.train(queue, options, &stop)?;
    let Trainer { aggregator, ended, display, failed_fast, .. } = trainer;
    display.end();
    for ((run, seed), how) in &ended {
        // What was killed is not to blame: it is trained on when the sweep is asked for again.
        if let Ended::Failed { reason, again: false } = how {
            note_failure(&checked.directories[*run].unit(*seed), reason);
        }
    }
    // What became of the units is said first: a file that cannot be aggregated must not hide it.
    let aggregated = aggregator.finish(checked, &ended);
    conclude(checked, &ended, options, stop.asked() && !failed_fast)?;
    aggregated
}

struct Trainer<'a> {
    checked: &'a Checked<'a>,
    /// Runs whose directory is made and knows its seeds.
    established: Vec<bool>,
    display: Display,
    aggregator: Aggregator,
    ended: BTreeMap<Key, Ended>,
    /// Whether a unit failed after which the rest is not wanted any more.
    failed_fast: bool,
}

impl Trainer<'_> {
    /// Two passes: what others held in the first may be free in the second.
    fn train(&mut self, queue: Vec<Key>, options: &Options, stop: &Stop) -> Result<()> {
        let Some(first) = self.checked.sweep.runs.first() else { return Ok(()) };
        let jobs = jobs(&first.resolved.spec)?;
        let failed_before = options.retry_failed.as_deref();
        let mut queue: VecDeque<Key> = queue.into();
        for _ in 0..2 {
            let mut open: BTreeMap<usize, usize> = BTreeMap::new();
            queue.iter().for_each(|(run, _)| *open.entry(*run).or_default() += 1);
            let launch = Workers { checked: self.checked };
            let mut held = Vec::new();
            let (established, failed_fast) = (&mut self.established, &mut self.failed_fast);
            let (checked, display, aggregator) = (self.checked, &self.display, &self.aggregator);
            let ended = &mut self.ended;
            let mut next = || {
                while let Some((run, seed)) = queue.pop_front() {
                    let directory = &checked.directories[run];
                    match table::look(&directory.unit(seed)) {
                        // Another sweep was faster, perhaps while this one was at others.
                        Ok((Standing::Done, _)) => {
                            ended.insert((run, seed), Ended::AlreadyDone);
                            display.skip();
                        }
                        Ok((Standing::Running, _)) => held.push((run, seed)),
                        // So it was with what fails.
                        Ok((Standing::Failed, record))
                            if !is_retried(
                                record.as_ref().and_then(|record| record.ended.as_deref()),
                                failed_before,
                            ) =>
                        {
                            ended.remove(&(run, seed));
                            display.skip();
                        }
                        // What is damaged fails in its worker, with its reason.
                        _ => {
                            if !std::mem::replace(&mut established[run], true) {
                                checked.establish(run)?;
                            }
                            return Ok(Some((run, seed)));
                        }
                    }
                }
                Ok(None)
            };
            let mut follow = |(run, seed): Key, event: &Event| {
                display.show(&checked.sweep.runs[run], seed, event);
                let Event::Ended(how) = event else { return };
                if options.fail_fast && matches!(how, Ended::Failed { .. }) {
                    *failed_fast = true;
                    stop.ask();
                }
                let left = open.get_mut(&run).map_or(0, |open| {
                    *open -= 1;
                    *open
                });
                if left == 0 && matches!(how, Ended::Done) {
                    aggregator.refresh(&checked.directories[run]);
                }
            };
            let trained = pool::train(&mut next, jobs, &launch, stop, &mut follow, &mut || {})?;
            held.extend(trained.iter().filter(|(_, how)| matches!(how, Ended::Held { .. })).map(|(key, _)| *key));
            self.ended.extend(trained);
            for key in &held {
                let holder = super::claim::holder(&checked.directories[key.0].unit(key.1).directory);
                self.ended.insert(*key, Ended::held(holder));
            }
            queue = held.into();
            if stop.asked() {
                break;
            }
        }
        Ok(())
    }
}

impl Checked<'_> {
    /// Makes the directory of a run, or has the one that is there know its seeds.
    fn establish(&self, run: usize) -> Result<()> {
        let (resolved, directory) = (&self.sweep.runs[run].resolved, &self.directories[run]);
        if directory.exists() {
            directory.mend(resolved, &self.data[run])?;
            return aggregate::ask(directory, &resolved.spec.seeds.0, self.data[run].clone());
        }
        directory.create(resolved, &Manifest::new(resolved, self.data[run].clone()))
    }
}

/// Starts the workers of all runs.
struct Workers<'a> {
    checked: &'a Checked<'a>,
}

impl pool::Launch<Key> for Workers<'_> {
    fn command(&self, (run, seed): Key) -> std::process::Command {
        let spec = &self.checked.sweep.runs[run].resolved.spec;
        match worker_of(&self.checked.directories[run], spec) {
            Ok(worker) => pool::Launch::command(&worker, seed),
            // Starting it fails, and says what could not be found.
            Err(_) => std::process::Command::new("ccdni"),
        }
    }
}

/// Makes aggregates beside the training: drawing takes longer than a small unit.
struct Aggregator {
    sender: mpsc::Sender<Directory>,
    thread: JoinHandle<()>,
}

impl Aggregator {
    fn start() -> Self {
        let (sender, receiver) = mpsc::channel::<Directory>();
        // What cannot be made now is made, or reported, at the end.
        let work = move || receiver.iter().for_each(|directory| drop(aggregate::refresh(&directory)));
        Aggregator { sender, thread: std::thread::spawn(work) }
    }

    fn refresh(&self, directory: &Directory) {
        let _ = self.sender.send(directory.clone());
    }

    /// Waits for what is under way, and makes what is missing. The first error of all.
    fn finish(self, checked: &Checked, ended: &BTreeMap<Key, Ended>) -> Result<()> {
        drop(self.sender);
        let _ = self.thread.join();
        let mut outcome = Ok(());
        for (index, directory) in checked.directories.iter().enumerate() {
            let touched = ended.keys().any(|(run, _)| *run == index);
            if touched || directory.exists() {
                outcome = outcome.and(aggregate::refresh(directory));
            }
        }
        outcome
    }
}

/// Progress: a bar on a terminal, and one line a unit that ends.
struct Display {
    bar: ProgressBar,
    total: usize,
    is_terminal: bool,
}

impl Display {
    fn new(total: usize) -> Self {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let bar = if is_terminal { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
        bar.set_length(total as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} units, {eta} left  {wide_msg}") {
            bar.set_style(style);
        }
        Display { bar, total, is_terminal }
    }

    fn line(&self, text: &str) {
        if self.is_terminal { self.bar.println(text) } else { eprint_line(text) }
    }

    fn skip(&self) {
        self.bar.inc(1);
    }

    fn show(&self, run: &SweptRun, seed: u64, event: &Event) {
        let name = || format!("{} seed {seed}{}", run.resolved.hash, described(run));
        match event {
            Event::Note { text } => self.line(&format!("{}: {text}", name())),
            Event::Epoch { epoch, epochs, .. } => self.bar.set_message(format!("{}: epoch {epoch}/{epochs}", name())),
            Event::Ended(how) => {
                self.bar.inc(1);
                let place = format!("[{}/{}]", self.bar.position(), self.total);
                match how {
                    Ended::Done => self.line(&format!("{place} {}: done", name())),
                    Ended::Failed { reason, .. } => self.line(&format!("{place} {}: failed: {reason}", name())),
                    Ended::Stopped => self.line(&format!("{place} {}: stopped behind a checkpoint", name())),
                    // Said at the end, if it is so still.
                    Ended::Held { .. } | Ended::AlreadyDone => {}
                }
            }
            Event::Started { .. } | Event::Batch { .. } => {}
        }
    }

    fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// What sets a run apart, in brackets.
fn described(run: &SweptRun) -> String {
    let values = run.values.iter().map(|(path, value)| format!("{path}={value}"));
    let words: Vec<String> = run.item.iter().cloned().chain(values.filter(|_| run.item.is_none())).collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}

/// Says what came of it, and gives the error, if any.
fn conclude(checked: &Checked, ended: &BTreeMap<Key, Ended>, options: &Options, interrupted: bool) -> Result<()> {
    if interrupted {
        match options.place {
            Place::Task => eprint_line("stopped behind checkpoints"),
            _ => eprint_line(&format!("interrupted; to go on from the checkpoints:\n  {}", options.resume)),
        }
        return Err(Error::Interrupted);
    }
    let survey = Survey::of(checked.sweep, &options.outputs);
    print_line(&format!("\n{}", survey.table(checked.sweep)));
    print_line(&survey.counts());
    let here = ended.iter().filter(|(_, how)| **how == Ended::Done);
    let seconds: f64 = here.filter_map(|((run, seed), _)| survey.seconds(*run, *seed)).sum();
    if seconds > 0.0 {
        print_line(&format!("training took {} of one worker's time", clock::seconds(seconds)));
    }
    let mut failed: Vec<String> = Vec::new();
    for ((run, seed), how) in ended {
        if let Ended::Failed { reason, .. } = how
            && !survey.has_failed(*run, *seed)
        {
            failed.push(format!("{} seed {seed}: {reason}", checked.sweep.runs[*run].resolved.hash));
        }
    }
    let mut advice = Vec::new();
    if !failed.is_empty() {
        advice.push("run it again to go on with what was killed, or lost its device");
    }
    let recorded = survey.failures(NAMED);
    if !recorded.is_empty() {
        advice.push("`--status` shows all that have failed; `--retry-failed` tries them again");
    }
    failed.extend(recorded);
    if !failed.is_empty() {
        let count = failed.len();
        failed.truncate(NAMED);
        let more = if count > NAMED { format!("\nand {} more", count - NAMED) } else { String::new() };
        return Err(Error::Training(format!("units failed:\n{}{more}\n{}", failed.join("\n"), advice.join("\n"))));
    }
    let held: Vec<String> = ended
        .iter()
        .filter_map(|((run, seed), how)| match how {
            Ended::Held { by } => {
                Some(format!("{} seed {seed} is held by {by}", checked.sweep.runs[*run].resolved.hash))
            }
            _ => None,
        })
        .take(NAMED)
        .collect();
    match (held.is_empty(), ended.values().any(|how| *how == Ended::Done)) {
        (true, _) => Ok(()),
        (false, any) if any || options.place == Place::Task => {
            print_line(&format!("others train the rest:\n{}", held.join("\n")));
            Ok(())
        }
        (false, _) => Err(Error::Held(format!("{}\nnothing was left to train here", held.join("\n")))),
    }
}
