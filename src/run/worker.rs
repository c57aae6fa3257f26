//! The worker: trains one unit, or several seeds together, in this process and reports to its parent.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};

use super::claim::{Attempt, Claim};
use super::directory::Directory;
use super::event::{Ended, Event, Line};
use super::interrupt::{self, Stop};
use super::tensorboard::EventFile;
use super::weights::BackboneSource;
use super::{clock, resume, thread};
use crate::device;
use crate::error::{Error, Result};
use crate::files;
use crate::records::{EpochProgress, SeedRecord, SeedResult, SeedRun, SeedState};
use crate::spec::{CheckpointEvery, Count, Resolved, RunSpec, Spec};
use crate::tasks::Registry;
use crate::train::{
    BatchProgress, Callback, Checkpoint, EpochRow, Finished, MetricInfo, Next, Outcome, TaskOutputs, Trainer,
    train_seeds,
};

/// Minimum interval between batch events.
const BATCH_EVENTS: Duration = Duration::from_millis(100);

/// Minimum interval between two writes of what a unit in training shows, also as a multiple of the time that writing one takes.
const SHOWN: Duration = Duration::from_millis(500);
const SHARE: u32 = 100;

/// Stack size in bytes of the training thread; only pages that are used are allocated.
const STACK: usize = 256 << 20;

/// Makes the allocator keep what a batch frees for the next batch. By default it gives large buffers back to the system, which
/// then clears every page of them again.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    // SAFETY: sets two numbers of the allocator, which may be done at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}

/// The path of this program; where the system cannot tell it (a bare directory tree without /proc), as it was called by path.
///
/// # Errors
/// [`Error::Io`] if it was called by name there.
pub fn program() -> Result<PathBuf> {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    std::env::current_exe()
        .or_else(|error| as_called(called, error))
        .map_err(Error::io("find", Path::new("this program")))
}

fn as_called(called: PathBuf, error: std::io::Error) -> std::io::Result<PathBuf> {
    let is_path = called.parent().is_some_and(|parent| parent != Path::new("")) && called.is_file();
    if is_path { std::path::absolute(called) } else { Err(error) }
}

/// The command that trains units of a run in a process of their own, on so many threads: `ccdni worker DIR --run JSON --seed N`.
///
/// # Errors
/// [`Error::Io`] if the program's path cannot be determined.
pub fn command(directory: &Directory, spec: &Spec, seeds: &[u64], threads: usize) -> Result<Command> {
    let refused = |error: serde_json::Error| Error::Usage(format!("the spec cannot be passed to the worker: {error}"));
    let mut command = Command::new(program()?);
    command.arg("worker").arg(&directory.path).arg("--run");
    let run = RunSpec { threads: Count::Number(threads), ..spec.run.clone() };
    command.arg(serde_json::to_string(&run).map_err(refused)?);
    if let Some(from) = &spec.train.init_from {
        command.arg("--init-from").arg(serde_json::to_string(from).map_err(refused)?);
    }
    for seed in seeds {
        command.arg("--seed").arg(seed.to_string());
    }
    command.env("RAYON_NUM_THREADS", threads_of_a_product(spec, threads).to_string());
    // Those of candle beside them wait for one another without leaving their cores: in vain for a whole time slice where another
    // program computes.
    command.env("CANDLE_NUM_THREADS", "1");
    Ok(command)
}

/// How many of the threads share one of candle's matrix products: those that there are for each of the segments of a decoupled network,
/// which run side by side.
fn threads_of_a_product(spec: &Spec, threads: usize) -> usize {
    let model = &spec.model;
    let interfaces = model.blocks.iter().filter(|block| block.dni.is_some()).count();
    if model.layers.is_empty() { threads.div_ceil(interfaces + 1) } else { threads }
}

/// Trains seeds in this process, together if there are several. Events go to standard output. The end of standard input is a request
/// to stop: the batch is finished and a checkpoint written.
///
/// # Errors
/// The first error that ended a unit, after it was sent as an event; [`Error::Interrupted`] if stopped on request.
pub fn work(directory: &Directory, seeds: &[u64], resolved: &Resolved, registry: &Registry) -> Result<()> {
    interrupt::ignore_time_limit();
    keep_freed_memory();
    let stop = Stop::on_signal()?;
    let parent_stop = stop.clone();
    let parent = thread::start(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        parent_stop.ask();
    });
    let emit = |seed: u64, event: Event| {
        // Errors are ignored: the end of the parent is detected on standard input.
        let _ = writeln!(std::io::stdout().lock(), "{}", Line { seed: Some(seed), event }.to_text());
    };
    // Automatic differentiation traverses and frees graphs recursively: full backpropagation through long sequences needs
    // more stack than the main thread has.
    let worker = Worker { directory, resolved, registry, stop: &stop, emit: &emit };
    let outcomes = parent.and_then(|_| {
        std::thread::scope(|scope| {
            let train = || worker.train(seeds);
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, train);
            let thread = thread.map_err(Error::io("start a thread for", &directory.path))?;
            Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    });
    let mut all = Ok(());
    for (seed, outcome) in outcomes? {
        all = all.and(conclude(directory, seed, outcome, &emit));
    }
    all
}

/// Reports how a unit ended.
fn conclude(directory: &Directory, seed: u64, outcome: Result<Ended>, emit: Emit<'_>) -> Result<()> {
    let ended = match &outcome {
        Ok(ended) => ended.clone(),
        Err(Error::Interrupted) => Ended::Stopped,
        Err(Error::ClaimLost(_)) => Ended::Held { by: "another host, which took it over".into() },
        Err(error) => Ended::Failed { reason: error.to_string(), again: error.may_pass() },
    };
    match &ended {
        Ended::Done => directory.log(&format!("seed {seed}: done")),
        Ended::Stopped => directory.log(&format!("seed {seed}: stopped as requested, after a checkpoint")),
        Ended::Failed { reason, .. } => directory.log(&format!("seed {seed}: failed: {reason}")),
        Ended::Held { .. } | Ended::AlreadyDone => {}
    }
    emit(seed, Event::Ended(ended));
    match outcome? {
        Ended::Held { by } => Err(Error::Held(format!("seed {seed} is held by {by}"))),
        _ => Ok(()),
    }
}

/// Sends an event of a seed.
type Emit<'a> = &'a (dyn Fn(u64, Event) + Sync);

/// What a worker trains with.
struct Worker<'a> {
    directory: &'a Directory,
    resolved: &'a Resolved,
    registry: &'a Registry,
    stop: &'a Stop,
    emit: Emit<'a>,
}

/// A claimed unit.
struct Claimed {
    unit: SeedRun,
    claim: Claim,
    device: Device,
    checkpoint: Option<Checkpoint>,
}

/// A claimed unit, with what follows its training.
struct InTraining<'a> {
    claimed: &'a Claimed,
    record: SeedRecord,
    follower: Follower<'a>,
    source: BackboneSource,
}

impl Worker<'_> {
    /// Claims the units and trains them from their current state to the end: together those that stand at the same batch.
    fn train(&self, seeds: &[u64]) -> Vec<(u64, Result<Ended>)> {
        let Worker { directory, resolved, .. } = self;
        // This thread is one of the pool: what it divides begins at once, and nothing waits for another thread to wake up.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(resolved.spec.run.threads.or_cores()).stack_size(STACK);
        if let Err(error) = pool.use_current_thread().build_global() {
            directory.log(&format!("seed {}: goes on with one thread: {error}", seeds[0]));
        }
        let (mut ended, mut claimed) = (Vec::new(), Vec::new());
        // One for all: tensors of seeds that are trained together meet, and a second GPU context would have a stream of its own, which
        // nothing orders with the first.
        let mut device = None;
        for &seed in seeds {
            match self.claim(seed, &mut device) {
                Ok(Ok(one)) => claimed.push(one),
                Ok(Err(how)) => ended.push((seed, Ok(how))),
                Err(error) => ended.push((seed, Err(error))),
            }
        }
        let mut begun: Vec<(InTraining<'_>, Trainer)> = Vec::new();
        for (claimed, record) in &claimed {
            let mut one = self.in_training(claimed, record.clone());
            match self.trainer(claimed) {
                Ok((trainer, source)) => {
                    one.source = source;
                    begun.push((one, trainer));
                }
                Err(error) => ended.push((claimed.unit.seed, one.end(Err(error)))),
            }
        }
        begun.sort_by_key(|(_, trainer)| trainer.position());
        while let Some((_, first)) = begun.first() {
            let position = first.position();
            let count = begun.iter().take_while(|(_, trainer)| trainer.position() == position).count();
            let (mut units, trainers): (Vec<_>, Vec<_>) = begun.drain(..count).unzip();
            let mut together: Vec<(Trainer, &mut dyn Callback)> = Vec::with_capacity(count);
            for (one, trainer) in units.iter_mut().zip(trainers) {
                together.push((trainer, &mut one.follower));
            }
            let outcomes = train_seeds(together);
            ended.extend(units.into_iter().zip(outcomes).map(|(one, how)| (one.claimed.unit.seed, one.end(how))));
        }
        ended
    }

    /// Claims a unit, opens the device if it is not yet, and says that training begins; or how the unit has ended, if it is not to be trained.
    fn claim(&self, seed: u64, opened: &mut Option<Device>) -> Result<Result<(Claimed, SeedRecord), Ended>> {
        let Worker { directory, resolved, registry, emit, .. } = self;
        let run = &resolved.spec.run;
        let unit = directory.unit(seed);
        let claim = match Claim::attempt(&unit.directory)? {
            Attempt::Claimed(claim) => claim,
            Attempt::Held(by) => return Ok(Err(Ended::held(by))),
        };
        // Only under the claim is it certain that no other process is about to finish it.
        if unit.is_done()? {
            return Ok(Err(Ended::AlreadyDone));
        }
        unit.check_numerics()?;
        files::remove_leftovers(&unit.directory);

        let device = match opened {
            Some(device) => device.clone(),
            None => opened.insert(device::open(&run.device, run.tf32)?).clone(),
        };
        let checkpoint = resume::checkpoint(&unit, &claim)?;
        let record = resume::record(&unit, &device, &resolved.spec, checkpoint.is_some(), registry)?;
        for text in &record.notes {
            directory.log(&format!("seed {seed}: {text}"));
            emit(seed, Event::Note { text: text.clone() });
        }
        unit.write_record(&claim, &record)?;
        if checkpoint.is_some() {
            directory.log(&format!("seed {seed}: goes on from its checkpoint"));
        }
        // Of an earlier attempt; nothing but its absence matters.
        let _ = std::fs::remove_file(unit.progress_path());
        let epochs_done = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.history.len());
        emit(seed, Event::Started { epochs_done });
        Ok(Ok((Claimed { unit, claim, device, checkpoint }, record)))
    }

    fn trainer(&self, claimed: &Claimed) -> Result<(Trainer, BackboneSource)> {
        let Claimed { unit, device, checkpoint, .. } = claimed;
        let Worker { directory, resolved, registry, .. } = self;
        resume::trainer(directory, resolved, unit.seed, device.clone(), checkpoint.as_ref(), registry)
    }

    fn in_training<'u>(&'u self, claimed: &'u Claimed, record: SeedRecord) -> InTraining<'u> {
        let Claimed { unit, claim, checkpoint, .. } = claimed;
        let spec = &self.resolved.spec;
        let follower = Follower {
            directory: self.directory,
            unit,
            claim,
            emit: self.emit,
            stop: self.stop,
            every: spec.run.checkpoint_every,
            epochs: spec.train.epochs,
            events: EventFile::new(spec.run.tensorboard, self.directory, unit, claim),
            metrics: Vec::new(),
            history: checkpoint.as_ref().map_or_else(Vec::new, |checkpoint| checkpoint.state.history.clone()),
            saved: Instant::now(),
            reported: None,
            shown: Shown::default(),
            within: Shown::default(),
        };
        InTraining { claimed, record, follower, source: BackboneSource::default() }
    }
}

impl InTraining<'_> {
    /// Writes what came of the training.
    fn end(self, outcome: Result<Outcome>) -> Result<Ended> {
        let InTraining { claimed: Claimed { unit, claim, .. }, mut record, mut follower, source } = self;
        match outcome {
            Ok(Outcome::Finished(finished)) => {
                finish(unit, claim, &mut record, &finished, &source, follower.events.as_mut())?;
                Ok(Ended::Done)
            }
            Ok(Outcome::Stopped) | Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                // Errors are ignored: without the claim nothing may be written, and the log has the reason. If the machine
                // failed, the unit stays unfinished.
                if !error.may_pass() {
                    record.state = SeedState::Failed;
                    record.reason = Some(error.to_string());
                    record.ended = Some(clock::now());
                }
                if !follower.metrics.is_empty() {
                    let _ = unit.write_metrics(claim, &follower.metrics, &follower.history);
                }
                let _ = unit.write_record(claim, &record);
                Err(error)
            }
        }
    }
}

/// Writes the files of a finished unit; its record, which marks it as done, comes last.
fn finish(
    unit: &SeedRun,
    claim: &Claim,
    record: &mut SeedRecord,
    finished: &Finished,
    source: &BackboneSource,
    events: Option<&mut EventFile>,
) -> Result<()> {
    unit.write_weights(claim, &finished.weights, source)?;
    unit.write_outputs(claim, &unit.directory, &finished.outputs)?;
    unit.write_metrics(claim, &finished.metrics, &finished.history)?;
    record.state = SeedState::Done;
    record.ended = Some(clock::now());
    record.result = Some(SeedResult::of(finished));
    if let Some(events) = events {
        events.finish(&finished.metrics, &finished.history, record)?;
    }
    unit.write_record(claim, record)?;
    // The result supersedes the checkpoint.
    let _ = std::fs::remove_file(unit.checkpoint_path());
    let _ = std::fs::remove_file(unit.progress_path());
    Ok(())
}

/// Receives the trainer's callbacks: reports progress, and writes checkpoints and recordings.
struct Follower<'a> {
    directory: &'a Directory,
    unit: &'a SeedRun,
    claim: &'a Claim,
    emit: Emit<'a>,
    stop: &'a Stop,
    every: CheckpointEvery,
    epochs: usize,
    events: Option<EventFile<'a>>,
    metrics: Vec<MetricInfo>,
    history: Vec<EpochRow>,
    saved: Instant,
    reported: Option<Instant>,
    /// When the table may be written next, and the progress within the epoch.
    shown: Shown,
    within: Shown,
}

/// When a file of a unit in training may be written next: never so often that writing it takes a share of the time.
#[derive(Debug, Default)]
struct Shown {
    next: Option<Instant>,
}

impl Shown {
    /// Calls `write` if that is due.
    fn due(&mut self, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        if self.next.is_some_and(|next| begun < next) {
            return Ok(());
        }
        write()?;
        self.next = Some(Instant::now() + SHOWN.max(begun.elapsed() * SHARE));
        Ok(())
    }
}

impl Follower<'_> {
    /// Decides what follows a batch or an epoch.
    fn next(&self, epochs_done: Option<usize>) -> Next {
        let due = match (self.every, epochs_done) {
            (CheckpointEvery::Time(every), _) => self.saved.elapsed() >= every,
            (CheckpointEvery::Epochs(every), Some(epoch)) => epoch % every.max(1) == 0,
            (CheckpointEvery::Epochs(_), None) => false,
        };
        match (self.stop.asked(), due) {
            (true, _) => Next::Stop,
            (false, true) => Next::Checkpoint,
            (false, false) => Next::Continue,
        }
    }
}

impl Callback for Follower<'_> {
    fn batch(&mut self, progress: &BatchProgress) -> Result<Next> {
        let BatchProgress { epoch, epochs, batch, batches, .. } = *progress;
        if self.reported.is_none() {
            self.directory.log(&format!("seed {}: trains from epoch {epoch}, batch {batch}", self.unit.seed));
        }
        if self.reported.is_none_or(|reported| reported.elapsed() >= BATCH_EVENTS) {
            self.reported = Some(Instant::now());
            (self.emit)(self.unit.seed, Event::Batch { epoch, epochs, batch, batches });
            let Follower { unit, claim, within, .. } = self;
            within.due(|| unit.show_progress(claim, EpochProgress { epoch, batch, batches }))?;
        }
        Ok(self.next(None))
    }

    fn epoch(&mut self, row: &EpochRow, metrics: &[MetricInfo]) -> Result<Next> {
        self.metrics = metrics.to_vec();
        self.history.push(row.clone());
        if let Some(events) = &mut self.events {
            events.epoch(metrics, &self.history)?;
        }
        let Follower { unit, claim, metrics, history, shown, .. } = self;
        shown.due(|| unit.show_metrics(claim, metrics, history))?;
        let mut numbers = vec![("train_loss".to_string(), Some(row.train_loss))];
        numbers.extend(metrics.iter().zip(&row.validation).map(|(m, value)| (format!("val_{}", m.name), Some(*value))));
        (self.emit)(
            self.unit.seed,
            Event::Epoch { epoch: row.epoch, epochs: self.epochs, numbers, seconds: row.seconds },
        );
        Ok(self.next(Some(row.epoch)))
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.claim.write(&self.unit.checkpoint_path(), &checkpoint.to_bytes()?)?;
        self.saved = Instant::now();
        Ok(())
    }

    fn recording(&mut self, epoch: usize, tensors: &[(String, Tensor)]) -> Result<()> {
        self.unit.write_recording(self.claim, epoch, tensors)
    }

    fn outputs(&mut self, epoch: usize, outputs: &TaskOutputs) -> Result<()> {
        self.unit.write_outputs(self.claim, &self.unit.outputs_of(epoch), outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_where_it_was_called_unless_by_name() {
        let unknown = || std::io::Error::other("no /proc");
        let found = as_called("./Cargo.toml".into(), unknown()).unwrap();
        assert!(found.is_absolute() && found.ends_with("Cargo.toml"), "{found:?}");
        for elsewhere in ["Cargo.toml", "./no-such-file", "src/.", ""] {
            assert_eq!(as_called(elsewhere.into(), unknown()).unwrap_err().to_string(), "no /proc", "{elsewhere}");
        }
    }
}
