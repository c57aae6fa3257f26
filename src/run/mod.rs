//! A spec's life on disk: directory, manifest, claims, units, workers, resume and aggregation.
//!
//! The unit of work is (spec, seed). [`run`] finds out which wanted units are missing and has a [`pool`] of [`worker`]
//! processes train them; many programs may do so in one directory at the same time. What a unit gave lies in its own
//! directory, and everything at the top of the run's directory is made from that.

pub mod aggregate;
pub mod captioner;
pub mod claim;
pub mod clock;
pub mod directory;
pub mod event;
pub mod finished;
pub mod fs;
pub mod init_from;
pub mod interrupt;
pub mod manifest;
pub mod network;
pub mod pictures;
pub mod pool;
pub mod progress;
pub mod shell;
pub mod sweep;
pub mod table;
pub mod unit;
pub mod weights;
pub mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Device;

use crate::data::Dataset;
use crate::device::{self, Found};
use crate::error::{Error, Result};
use crate::spec::{EncoderSpec, Jobs, Resolved, Spec, TaskTable, Trainable};
use crate::tasks::Registry;
use crate::train::check_data;
use claim::{Attempt, Claim};
use directory::Directory;
use event::Ended;
use interrupt::Stop;
use manifest::Manifest;
use progress::{Display, eprint_line, print_line};
use unit::{State, Unit};

/// How a spec is to be run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where run directories are.
    pub outputs: PathBuf,
    /// Train every wanted seed anew.
    pub force: bool,
    /// The command that goes on with this run if it is interrupted.
    pub resume: String,
}

/// Trains the seeds of a spec that are not trained yet, and says where the result is.
///
/// # Errors
/// Mistakes of the user before anything is written; [`Error::Training`] if a unit failed; [`Error::Held`] if nothing
/// could be trained because others hold units; [`Error::Interrupted`] after Ctrl-C.
pub fn run(resolved: &Resolved, options: &Options, registry: &Registry) -> Result<()> {
    let spec = &resolved.spec;
    let directory = Directory::of(&options.outputs, &resolved.hash);
    let held = prepare(resolved, &directory, options, registry)?;

    let mut display = Display::new();
    let mut missing = not_done(&directory, &spec.seeds.0)?;
    missing.retain(|seed| !held.contains_key(seed));
    if missing.is_empty() && held.is_empty() {
        print_line(&format!("{} is finished already; `--force` trains it anew", title(resolved)));
        aggregate::refresh(&directory)?;
        return print_result(&directory, spec, &BTreeMap::new());
    }
    print_line(&format!(
        "{}: {} of {} seeds to train in {}",
        title(resolved),
        missing.len(),
        spec.seeds.0.len(),
        directory.path.display()
    ));
    directory.log(&format!("run of seeds {missing:?} begins"));

    let stop = Stop::on_signal()?;
    let mut ended = train(&directory, spec, &missing, &stop, &mut display)?;
    ended.extend(held);
    // What became of the units is said first: a file that cannot be aggregated must not hide it.
    let aggregated = aggregate::refresh(&directory);
    conclude(&directory, spec, &ended, &stop, options)?;
    aggregated
}

/// Everything that may be refused, and then the directory; `--force` moves old units away. Returns the units that could not
/// be moved away since somebody holds them: to train these on would not be to train them anew.
fn prepare(
    resolved: &Resolved,
    directory: &Directory,
    options: &Options,
    registry: &Registry,
) -> Result<BTreeMap<u64, Ended>> {
    let seeds = &resolved.spec.seeds.0;
    directory::check_outputs(&options.outputs)?;
    let data = Inspector::new(registry).inspect(resolved)?;
    if !directory.exists() {
        directory.create(resolved, &Manifest::new(resolved, data.clone()))?;
    }
    check_same(resolved, directory, registry)?;
    directory.mend(resolved, &data)?;
    check_old(directory, &data, if options.force { seeds } else { &[] })?;
    let held = if options.force { set_aside(directory, seeds)? } else { BTreeMap::new() };
    aggregate::ask(directory, seeds, data)?;
    Ok(held)
}

/// Looks at what specs need beyond themselves: device, data, weights. What several specs share is looked at once.
struct Inspector<'a> {
    registry: &'a Registry,
    /// Whether training happens on another machine, whose devices are not known here.
    elsewhere: bool,
    devices: Vec<(String, bool, Device)>,
    tasks: Vec<OpenTask>,
}

/// A task whose data have been opened, and the digests of its files.
struct OpenTask {
    task: TaskTable,
    encoder: Option<EncoderSpec>,
    digests: BTreeMap<String, String>,
    dataset: Box<dyn Dataset>,
}

impl<'a> Inspector<'a> {
    fn new(registry: &'a Registry) -> Self {
        Inspector { registry, elsewhere: false, devices: Vec::new(), tasks: Vec::new() }
    }

    /// The device that computes features, or the CPU where there are none: a GPU is not opened here for nothing.
    fn device(&mut self, spec: &Spec) -> Result<Device> {
        let name = &spec.run.device;
        let needed = spec.model.encoder.as_ref().is_some_and(|encoder| encoder.trainable() != Trainable::All);
        if let Some((.., device)) = self.devices.iter().find(|(known, open, _)| known == name && *open == needed) {
            return Ok(device.clone());
        }
        let device = match (self.elsewhere, needed) {
            (true, _) => device::check_built(name).map(|()| Device::Cpu)?,
            (false, true) => device::open_for_now(name, spec.run.tf32)?,
            (false, false) => device::find(name).map(|_| Device::Cpu)?,
        };
        self.devices.push((name.clone(), needed, device.clone()));
        Ok(device)
    }

    /// Everything about a spec that may be refused before anything is written. Gives the digests of its data.
    fn inspect(&mut self, resolved: &Resolved) -> Result<BTreeMap<String, String>> {
        let (spec, registry) = (&resolved.spec, self.registry);
        let device = self.device(spec)?;
        init_from::check(resolved, registry)?;
        let place =
            match self.tasks.iter().position(|open| open.task == spec.task && open.encoder == spec.model.encoder) {
                Some(place) => place,
                None => {
                    let task = registry.task(&spec.task)?;
                    task.prepare()?;
                    let mut digests = manifest::digests(&task.files())?;
                    let seed = spec.seeds.0.first().copied().unwrap_or(1);
                    let (dataset, pictures) = match self.elsewhere {
                        // What becomes of pictures is made where they are read, by whoever is first.
                        true => (task.open(seed)?, BTreeMap::new()),
                        // It is closed again before training begins: a GPU may admit only one program.
                        false => {
                            pictures::open(registry, spec, seed, &device).inspect_err(|_| device::keep(&device))?
                        }
                    };
                    digests.extend(pictures);
                    let encoder = spec.model.encoder.clone();
                    self.tasks.push(OpenTask { task: spec.task.clone(), encoder, digests, dataset });
                    self.tasks.len() - 1
                }
            };
        let OpenTask { digests, dataset, .. } = &self.tasks[place];
        check_data(spec, dataset.as_ref())?;
        init_from::check_words(spec, dataset.as_ref())?;
        let mut data = digests.clone();
        data.extend(init_from::digests(spec, &spec.seeds.0, registry)?);
        Ok(data)
    }
}

/// Makes sure that a directory which is there is that of this very spec.
fn check_same(resolved: &Resolved, directory: &Directory, registry: &Registry) -> Result<()> {
    if directory.spec(resolved.spec.train.init_from.as_ref(), registry)?.canonical != resolved.canonical {
        return Err(Error::data(
            &directory.spec_path(),
            "is another spec whose hash begins with the same digits; use `--outputs DIR` to keep the two apart",
        ));
    }
    Ok(())
}

/// Makes sure that units which stay as they are can stand beside new ones, or be resumed: all but those of the `forced`
/// seeds.
fn check_old(directory: &Directory, data: &BTreeMap<String, String>, forced: &[u64]) -> Result<()> {
    let old: Vec<_> = directory.units().into_iter().filter(|unit| !forced.contains(&unit.seed)).collect();
    old.iter().try_for_each(Unit::check_numerics)?;
    if old.iter().any(|unit| unit.record_path().exists()) {
        directory.manifest()?.check_data(data)?;
    }
    Ok(())
}

/// Renames the directories of old units away, so that these seeds start again whatever happens from now on. Units that
/// somebody trains right now are left alone, and returned.
fn set_aside(directory: &Directory, seeds: &[u64]) -> Result<BTreeMap<u64, Ended>> {
    let mut held = BTreeMap::new();
    for &seed in seeds {
        let unit = directory.unit(seed);
        if !unit.directory.exists() {
            continue;
        }
        let _claim = match Claim::attempt(&unit.directory)? {
            Attempt::Claimed(claim) => claim,
            Attempt::Held(by) => {
                held.insert(seed, Ended::held(by));
                continue;
            }
        };
        let old = |n: usize| unit.directory.with_file_name(format!("{seed}.old-{n}"));
        let mut n = 1;
        while old(n).exists() {
            n += 1;
        }
        std::fs::rename(&unit.directory, old(n)).map_err(Error::io("rename", &unit.directory))?;
        directory.log(&format!("seed {seed}: set aside as {}", old(n).display()));
    }
    Ok(held)
}

/// Trains units in two passes: what others held in the first may be free in the second.
fn train(
    directory: &Directory,
    spec: &Spec,
    missing: &[u64],
    stop: &Stop,
    display: &mut Display,
) -> Result<BTreeMap<u64, Ended>> {
    let launch = worker_of(directory, spec)?;
    let mut ended: BTreeMap<u64, Ended> = BTreeMap::new();
    for pass in 0..2 {
        let held = |seed: &u64| matches!(ended.get(seed), Some(Ended::Held { .. }));
        let seeds: Vec<u64> = missing.iter().copied().filter(|seed| ended.is_empty() || held(seed)).collect();
        let jobs = jobs(spec)?.min(seeds.len());
        let stale = std::cell::Cell::new(false);
        let mut follow = |seed: u64, event: &event::Event| {
            if pass > 0 || !matches!(event, event::Event::Ended(Ended::Held { .. })) {
                display.show(seed, event);
            }
            stale.set(stale.get() || matches!(event, event::Event::Ended(Ended::Done)));
        };
        // An aggregate that cannot be made now is made, or reported, at the end.
        let mut idle = || {
            if stale.take() {
                let _ = aggregate::refresh(directory);
            }
        };
        let mut queue = seeds.into_iter();
        ended.extend(pool::train(&mut || Ok(queue.next()), jobs, &launch, stop, &mut follow, &mut idle)?);
    }
    for (&seed, how) in &ended {
        // What was killed, or lost its device, is not to blame: it is unfinished. Of other failures of the machine the worker
        // has written.
        if let Ended::Failed { reason, again: false } = how {
            note_failure(&directory.unit(seed), reason);
        }
    }
    Ok(ended)
}

/// How the workers of a run are started.
fn worker_of(directory: &Directory, spec: &Spec) -> Result<pool::ThisProgram> {
    let program = std::env::current_exe().map_err(Error::io("find", std::path::Path::new("this program")))?;
    let run = serde_json::to_string(&spec.run).map_err(|error| Error::Usage(format!("run: {error}")))?;
    let mut arguments = vec!["worker".into(), directory.path.clone().into(), "--run".into(), run.into()];
    if let Some(from) = &spec.train.init_from {
        let from = serde_json::to_string(from).map_err(|error| Error::Usage(format!("train.init_from: {error}")))?;
        arguments.extend(["--init-from".into(), from.into()]);
    }
    Ok(pool::ThisProgram { program, arguments, threads: spec.run.threads })
}

/// Writes into a unit's record that it failed, where its worker could not. Where that cannot be written it is still said.
fn note_failure(unit: &Unit, reason: &str) {
    if unit.directory.exists()
        && let Ok(Attempt::Claimed(claim)) = Claim::attempt(&unit.directory)
    {
        let _ = unit.fail(&claim, reason);
    }
}

/// Units at the same time: as many as fit the cores, or one on a GPU.
fn jobs(spec: &Spec) -> Result<usize> {
    Ok(match spec.run.jobs {
        Jobs::Count(count) => count,
        Jobs::Auto if device::find(&spec.run.device)? == Found::Cpu => {
            std::thread::available_parallelism().map_or(1, |cores| cores.get() / spec.run.threads.max(1)).max(1)
        }
        Jobs::Auto => 1,
    })
}

/// Says what came of it: the table and the paths, and then the error, if any.
fn conclude(
    directory: &Directory,
    spec: &Spec,
    ended: &BTreeMap<u64, Ended>,
    stop: &Stop,
    options: &Options,
) -> Result<()> {
    if stop.asked() || ended.values().any(|how| *how == Ended::Stopped) {
        eprint_line(&format!("interrupted; to go on from the checkpoints:\n  {}", options.resume));
        return Err(Error::Interrupted);
    }
    print_result(directory, spec, ended)?;
    let mut failed = Vec::new();
    let mut held = Vec::new();
    for (seed, how) in ended {
        match how {
            Ended::Failed { reason, .. } => failed.push(format!("seed {seed} failed: {reason}")),
            Ended::Held { by } => held.push(format!("seed {seed} is held by {by}")),
            Ended::Done | Ended::AlreadyDone | Ended::Stopped => {}
        }
    }
    let held = held.join("\n");
    if !failed.is_empty() {
        let again = ended.values().any(|how| matches!(how, Ended::Failed { again: true, .. }));
        let advice = match again {
            true => "run again to go on from the last good checkpoint, or with `--force` to start again",
            false => "`--force` starts a failed seed again from the beginning",
        };
        return Err(Error::Training(format!("{}\n{advice}", failed.join("\n"))));
    }
    match (held.is_empty(), ended.values().any(|how| *how == Ended::Done)) {
        (true, _) => Ok(()),
        (false, true) => {
            print_line(&format!("others train the rest:\n{held}"));
            Ok(())
        }
        (false, false) => Err(Error::Held(format!("{held}\nnothing was left to train here"))),
    }
}

fn print_result(directory: &Directory, spec: &Spec, ended: &BTreeMap<u64, Ended>) -> Result<()> {
    print_line(&format!("\n{}", table::seeds(directory, &spec.seeds.0, ended)?));
    for (what, path) in [("directory", ""), ("plots", "plots"), ("weights", "decoder.safetensors")] {
        let path = if path.is_empty() { directory.path.clone() } else { directory.path.join(path) };
        if path.exists() {
            print_line(&format!("{what:<10} {}", path.display()));
        }
    }
    Ok(())
}

fn not_done(directory: &Directory, seeds: &[u64]) -> Result<Vec<u64>> {
    let mut missing = Vec::new();
    for &seed in seeds {
        if directory.unit(seed).settled()?.is_none_or(|record| record.state != State::Done) {
            missing.push(seed);
        }
    }
    Ok(missing)
}

fn title(resolved: &Resolved) -> String {
    resolved.spec.name.as_ref().map_or_else(|| resolved.hash.clone(), |name| format!("{name} ({})", resolved.hash))
}
