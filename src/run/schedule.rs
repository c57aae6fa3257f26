//! The scheduler: trains the missing units of runs, the longest first, as many at a time as there are jobs. One run is a
//! sweep of one.
//!
//! A sweep has no file of its own: which units there are follows from the spec file, and how each stands from its
//! directory. So it can be asked for again after anything, two programs can share directories, and a cluster's tasks are
//! nothing but the same sweep started many times.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::process::Command;

use super::aggregate::{self, Aggregator};
use super::claim::{Attempt, Claim};
use super::directory::{self, Directory};
use super::event::{Ended, Event};
use super::inspect::{self, Inspector};
use super::interrupt::Stop;
use super::pool::{self, UnitId, Units};
use super::progress::{Display, print_line};
use super::status::{Retry, SeedStatus, Standing};
use super::survey::Survey;
use super::{manifest, tensorboard, worker};
use crate::device::{self, Found};
use crate::error::{Error, Result};
use crate::files::sync_directory;
use crate::records::SeedRun;
use crate::spec::sweep::{Sweep, SweptRun};
use crate::spec::{Count, Spec};
use crate::tasks::Registry;

/// How runs are to be trained.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where run directories are.
    pub outputs: PathBuf,
    /// Train every wanted unit anew; what it gave before is kept beside.
    pub force: bool,
    /// Which failed units are retried.
    pub retry: Retry,
    /// Begin no further unit once one has failed.
    pub fail_fast: bool,
    /// Print a line about every epoch.
    pub verbose: bool,
    /// The command that goes on if this one is interrupted.
    pub resume: String,
    /// What a person can do about units that failed.
    pub advice: &'static str,
    /// How finished units are trained anew, added to the message that they are finished.
    pub anew: &'static str,
    /// Where the training happens.
    pub place: Place,
}

/// Where units are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// Here.
    #[default]
    Here,
    /// Here, as one of many tasks of a cluster's array: `USR1` announces the end of the task's time, and that others train
    /// the rest is as it should be.
    Task,
    /// On other machines, whose devices are not known here.
    Elsewhere,
}

/// Runs that have been checked against what is on disk.
pub struct Schedule<'a> {
    pub(super) sweep: &'a Sweep,
    pub(super) options: &'a Options,
    /// The directory of each run.
    pub(super) directories: Vec<Directory>,
    /// Digests of each run's data.
    data: Vec<BTreeMap<String, String>>,
}

impl<'a> Schedule<'a> {
    /// Checks everything that may be refused, for every run, before anything is written.
    ///
    /// # Errors
    /// Mistakes of the user: no device, data that are missing or changed, a place that cannot hold results, damaged files
    /// of an earlier run.
    pub fn check(sweep: &'a Sweep, options: &'a Options, registry: &Registry) -> Result<Self> {
        directory::check_outputs(&options.outputs)?;
        let mut inspector = Inspector::new(registry, options.place == Place::Elsewhere);
        let mut schedule = Schedule { sweep, options, directories: Vec::new(), data: Vec::new() };
        for SweptRun { resolved, .. } in &sweep.runs {
            let data = inspector.inspect(resolved)?;
            let directory = Directory::of(&options.outputs, &resolved.hash);
            let forced = if options.force { resolved.spec.seeds.0.as_slice() } else { &[] };
            inspect::check_old(resolved, &directory, &data, forced, registry)?;
            schedule.directories.push(directory);
            schedule.data.push(data);
        }
        Ok(schedule)
    }

    /// How every unit stands now.
    pub fn survey(&self) -> Survey<'a> {
        Survey::of(self.sweep, &self.options.outputs)
    }

    /// Trains every unit that is missing, and makes the aggregates of all runs. Returns the status of the units after it.
    ///
    /// # Errors
    /// [`Error::Training`] if a unit failed, now or before; [`Error::Held`] if nothing could be trained because others hold
    /// units; [`Error::Interrupted`] after Ctrl-C.
    pub fn train(&self) -> Result<Survey<'a>> {
        let Some(first) = self.sweep.runs.first() else { return Ok(self.survey()) };
        let stop = Stop::on_signal()?;
        if self.options.place == Place::Task {
            stop.on_time_limit()?;
        }
        // Directories that are there get what they lack, even where nothing is left to train.
        for run in (0..self.directories.len()).filter(|run| self.directories[*run].path.is_dir()) {
            self.establish(run)?;
        }
        let held = if self.options.force { self.set_aside()? } else { BTreeMap::new() };
        let queue = self.missing(&held);
        let division = Division::of(&first.resolved.spec, self.workers(&queue))?;

        let mut training = Training {
            schedule: self,
            stop: &stop,
            threads: division.threads,
            begun: vec![false; self.directories.len()],
            display: Display::new(self.sweep, queue.len(), self.options.verbose),
            aggregator: Aggregator::start(),
            queue: VecDeque::new(),
            held: queue,
            ended: held,
            failed_fast: false,
        };
        let trained = training.train(division.jobs);
        let Training { display, aggregator, ended, failed_fast, .. } = training;
        display.end();
        self.note_failures(&ended);
        // What became of the units is printed first: a file that cannot be aggregated must not hide it.
        let aggregated = aggregator.finish(&self.directories);
        let stopped = stop.asked() || ended.values().any(|how| *how == Ended::Stopped);
        let concluded = self.conclude(&ended, stopped && !failed_fast && trained.is_ok());
        let completed = if stopped { Ok(()) } else { tensorboard::complete(self.sweep, &self.directories) };
        // Figures and analyses that follow are written whole.
        stop.exit_on_signal();
        trained.and(concluded).and_then(|survey| aggregated.and(completed).map(|()| survey))
    }

    /// What is to be trained, the longest first; announced on standard output.
    fn missing(&self, held: &BTreeMap<UnitId, Ended>) -> Vec<UnitId> {
        let survey = self.survey();
        let mut missing = survey.missing(&self.options.retry);
        missing.retain(|unit| !held.contains_key(unit));
        let mut line = format!("{}: {} to train", survey.title(), missing.len());
        if survey.is_done() {
            line += ", finished already";
            line += self.options.anew;
        }
        print_line(&line);
        missing
    }

    /// Makes the directory of a run, or has the one that is there know its seeds.
    fn establish(&self, run: usize) -> Result<()> {
        let (resolved, directory) = (&self.sweep.runs[run].resolved, &self.directories[run]);
        if !directory.path.is_dir() {
            directory.create(resolved, &manifest::begin(resolved, self.data[run].clone()))?;
        }
        directory.repair(resolved, &self.data[run])?;
        aggregate::ask(directory, &resolved.spec.seeds.0, self.data[run].clone())
    }

    /// Renames the directories of old units away, so that these units start again whatever happens from now on. Units that
    /// somebody trains right now are left alone, and returned: to train these on would not be to train them anew.
    fn set_aside(&self) -> Result<BTreeMap<UnitId, Ended>> {
        let mut held = BTreeMap::new();
        for (run, directory) in self.directories.iter().enumerate() {
            for &seed in &self.sweep.runs[run].resolved.spec.seeds.0 {
                let unit = directory.unit(seed);
                if !unit.directory.exists() {
                    continue;
                }
                let _claim = match Claim::attempt(&unit.directory)? {
                    Attempt::Claimed(claim) => claim,
                    Attempt::Held(by) => {
                        held.insert(UnitId { run, seed }, Ended::held(by));
                        continue;
                    }
                };
                let old = |n: usize| unit.directory.with_file_name(format!("{seed}.old-{n}"));
                let mut n = 1;
                while old(n).exists() {
                    n += 1;
                }
                std::fs::rename(&unit.directory, old(n))
                    .and_then(|()| sync_directory(&directory.path.join("seeds")))
                    .map_err(Error::io("rename", &unit.directory))?;
                directory.log(&format!("seed {seed}: set aside as {}", old(n).display()));
            }
        }
        Ok(held)
    }

    /// How many seeds of a run one worker trains at most.
    fn seed_batch(&self, run: usize) -> usize {
        match self.sweep.runs[run].resolved.spec.run.seed_batch {
            Count::Number(count) => count,
            Count::Auto => usize::MAX,
        }
    }

    /// How many workers will train these units.
    fn workers(&self, units: &[UnitId]) -> usize {
        let of_run = |run| units.iter().filter(|unit| unit.run == run).count().div_ceil(self.seed_batch(run));
        (0..self.directories.len()).map(of_run).sum()
    }

    fn unit(&self, unit: UnitId) -> SeedRun {
        self.directories[unit.run].unit(unit.seed)
    }

    fn status(&self, unit: UnitId) -> SeedStatus {
        SeedStatus::of(&self.directories[unit.run], unit.seed)
    }

    /// Writes into the records of units that they failed, where their workers could not. What was killed, or lost its
    /// device, is unfinished and has not failed. A record that cannot be written is still reported.
    fn note_failures(&self, ended: &BTreeMap<UnitId, Ended>) {
        for (&unit, how) in ended {
            let unit = self.unit(unit);
            if let Ended::Failed { reason, again: false } = how
                && unit.directory.exists()
                && let Ok(Attempt::Claimed(claim)) = Claim::attempt(&unit.directory)
            {
                let _ = unit.fail(&claim, reason);
            }
        }
    }
}

/// How the cores are divided.
#[derive(Debug, Clone, Copy)]
struct Division {
    /// Workers at the same time.
    jobs: usize,
    /// Threads of each.
    threads: usize,
}

impl Division {
    /// Workers at the same time are as many as fit the cores, or one on a GPU; what is left of the cores are their threads.
    fn of(spec: &Spec, workers: usize) -> Result<Division> {
        let cores = Count::Auto.or_cores();
        let jobs = match (spec.run.jobs, spec.run.threads) {
            (Count::Number(jobs), _) => jobs,
            (Count::Auto, _) if device::find(&spec.run.device)? != Found::Cpu => 1,
            (Count::Auto, Count::Number(threads)) => (cores / threads).max(1),
            (Count::Auto, Count::Auto) => cores,
        };
        let threads = match spec.run.threads {
            Count::Number(threads) => threads,
            Count::Auto => (cores / jobs.min(workers.max(1))).max(1),
        };
        Ok(Division { jobs, threads })
    }
}

/// A schedule that is being trained.
struct Training<'a> {
    schedule: &'a Schedule<'a>,
    stop: &'a Stop,
    /// Threads of each unit.
    threads: usize,
    /// Runs of which a unit was begun.
    begun: Vec<bool>,
    display: Display<'a>,
    aggregator: Aggregator,
    /// What is still to be begun in this pass.
    queue: VecDeque<UnitId>,
    /// What is left for the next pass.
    held: Vec<UnitId>,
    ended: BTreeMap<UnitId, Ended>,
    /// Whether a unit failed after which the rest is not wanted any more.
    failed_fast: bool,
}

impl Training<'_> {
    /// Two passes: what others held in the first may be free in the second.
    fn train(&mut self, jobs: usize) -> Result<()> {
        for _ in 0..2 {
            self.queue = std::mem::take(&mut self.held).into();
            let stop = self.stop;
            pool::train(self, jobs, stop)?;
            if self.stop.asked() {
                break;
            }
        }
        Ok(())
    }

    /// Whether every unit of a run is done or has failed.
    fn is_over(&self, run: usize) -> bool {
        let standing = |&seed: &u64| self.schedule.status(UnitId { run, seed }).standing;
        let seeds = &self.schedule.sweep.runs[run].resolved.spec.seeds.0;
        seeds.iter().map(standing).all(|standing| matches!(standing, Standing::Done | Standing::Failed))
    }
}

impl Units for Training<'_> {
    fn next(&mut self) -> Result<Vec<UnitId>> {
        let mut next: Vec<UnitId> = Vec::new();
        while let Some(&unit) = self.queue.front() {
            if next
                .first()
                .is_some_and(|first| first.run != unit.run || next.len() >= self.schedule.seed_batch(first.run))
            {
                break;
            }
            self.queue.pop_front();
            let status = self.schedule.status(unit);
            match status.standing {
                Standing::Running => {
                    self.ended.insert(unit, Ended::held(status.holder));
                    self.held.push(unit);
                }
                // Another program was faster, perhaps while this one was at other units.
                Standing::Done | Standing::Imported => {
                    self.ended.insert(unit, Ended::AlreadyDone);
                    self.display.skip();
                }
                Standing::Failed if !status.is_retried(&self.schedule.options.retry) => {
                    self.ended.remove(&unit);
                    self.display.skip();
                }
                Standing::Failed | Standing::Waiting => {
                    if !std::mem::replace(&mut self.begun[unit.run], true) {
                        self.schedule.establish(unit.run)?;
                        self.schedule.directories[unit.run].log("training begins");
                    }
                    next.push(unit);
                }
            }
        }
        Ok(next)
    }

    fn command(&self, units: &[UnitId]) -> Result<Command> {
        let (run, seeds) = (units[0].run, units.iter().map(|unit| unit.seed).collect::<Vec<_>>());
        let spec = &self.schedule.sweep.runs[run].resolved.spec;
        worker::command(&self.schedule.directories[run], spec, &seeds, self.threads)
    }

    fn follow(&mut self, unit: UnitId, event: &Event) {
        self.display.show(unit, event);
        let Event::Ended(how) = event else { return };
        self.ended.insert(unit, how.clone());
        match how {
            Ended::Held { .. } => self.held.push(unit),
            Ended::Failed { .. } if self.schedule.options.fail_fast => {
                self.failed_fast = true;
                self.stop.ask();
            }
            // Of many runs each is aggregated when it is complete: drawing may take longer than a small unit.
            Ended::Done if self.begun.len() == 1 || self.is_over(unit.run) => {
                self.aggregator.refresh(&self.schedule.directories[unit.run]);
            }
            _ => {}
        }
    }
}
