//! The runs of the directory, and what changed in them.
//!
//! Changes are found by looking at the times of a few files, and only while a page is open. Notification by the system would need a
//! watch on every directory of every seed, and does not see what other machines write to a shared file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rayon::prelude::*;

use super::summary::Summary;
use crate::error::{Error, Result};
use crate::run::directory::{self, Directory};

/// Time between two looks while a unit is in training, and otherwise.
const LOOK: Duration = Duration::from_millis(700);
const QUIET: Duration = Duration::from_millis(1500);

/// Time between two looks at all runs, as a multiple of what a look takes, and at most: many runs must not keep a core busy.
const SHARE: u32 = 1000;
const RARE: Duration = Duration::from_secs(10);

/// Time after which a unit in training is looked at in any case: a process that is killed changes no file.
const ALIVE: Duration = Duration::from_secs(5);

/// The runs of a directory.
#[derive(Clone)]
pub struct Index(Arc<Shared>);

struct Shared {
    outputs: PathBuf,
    state: Mutex<State>,
    /// Notified of every new version, and of the first page that waits for one.
    changed: Condvar,
    /// Held while the directory is read.
    reading: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Counts the changes.
    version: u64,
    /// The runs by name, with the version in which each last changed.
    runs: BTreeMap<String, (u64, Known)>,
    /// The versions in which runs disappeared.
    gone: BTreeMap<String, u64>,
    /// When the directory was last read.
    read: Option<Instant>,
    /// Number of pages that wait for changes.
    pages: usize,
}

/// A run as it was read.
#[derive(Clone)]
struct Known {
    stamp: Stamp,
    read: Instant,
    summary: Arc<Summary>,
}

/// Time and size of a file.
type Times = Option<(SystemTime, u64)>;

/// The times of the files that change with a run: its directory, where results appear; its log, to which each process that
/// begins, ends or resumes a seed writes; and the table, progress, record and claim of each seed in training.
#[derive(Clone, PartialEq)]
struct Stamp {
    run: [Times; 3],
    running: Vec<[Times; 4]>,
}

/// What changed after a version.
pub struct Change {
    /// The version that it leads to.
    pub version: u64,
    /// Runs that are new or have changed.
    pub runs: Vec<Arc<Summary>>,
    /// Names of runs that are no longer there.
    pub gone: Vec<String>,
}

impl Index {
    /// The runs under `outputs`, which are read when they are first needed.
    pub fn new(outputs: PathBuf) -> Self {
        let (state, changed, reading) = (Mutex::default(), Condvar::new(), Mutex::default());
        Index(Arc::new(Shared { outputs, state, changed, reading }))
    }

    /// Reads the directory on a thread of its own, once and then for as long as a page waits for changes.
    ///
    /// # Errors
    /// [`Error::Io`] if there can be no thread.
    pub fn follow(&self) -> Result<()> {
        let index = self.clone();
        let work = move || {
            let (mut next, mut outputs) = (Instant::now(), None);
            loop {
                let (begun, now) = (Instant::now(), times(&index.0.outputs));
                // Runs that appear or go change the time of their directory, but a new one has no spec at first.
                let is_new = outputs != now;
                if begun >= next || is_new {
                    index.look(None);
                    next = if is_new { begun } else { begun + (begun.elapsed() * SHARE).min(RARE) };
                } else {
                    index.look(Some(&index.running()));
                }
                outputs = now;
                std::thread::sleep(if index.running().is_empty() { QUIET } else { LOOK });
                drop(index.0.changed.wait_while(index.lock(), |state| state.pages == 0));
            }
        };
        let thread = std::thread::Builder::new().name("index".into()).spawn(work);
        thread.map(|_| ()).map_err(Error::io("start a thread for", &self.0.outputs))
    }

    /// All runs as they are now.
    pub fn all(&self) -> Change {
        self.refresh();
        self.since(&self.lock(), None)
    }

    /// One run as it is now.
    pub fn run(&self, name: &str) -> Option<Arc<Summary>> {
        if self.lock().runs.contains_key(name) {
            self.look(Some(&[name.to_owned()]));
        } else {
            self.refresh();
        }
        self.lock().runs.get(name).map(|(_, known)| known.summary.clone())
    }

    /// What changed after a version; an empty change if nothing did in this time.
    pub fn wait(&self, version: u64, time: Duration) -> Change {
        let mut state = self.lock();
        state.pages += 1;
        self.0.changed.notify_all();
        let waited = self.0.changed.wait_timeout_while(state, time, |state| state.version <= version);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.pages -= 1;
        self.since(&state, Some(version))
    }

    fn since(&self, state: &State, version: Option<u64>) -> Change {
        let is_new = |at: u64| version.is_none_or(|version| at > version);
        let runs = state.runs.values().filter(|(at, _)| is_new(*at)).map(|(_, known)| known.summary.clone());
        let gone = state.gone.iter().filter(|(_, at)| version.is_some() && is_new(**at)).map(|(name, _)| name.clone());
        Change { version: state.version, runs: runs.collect(), gone: gone.collect() }
    }

    /// Reads the directory unless that was done just now.
    fn refresh(&self) {
        if self.lock().read.is_none_or(|read| read.elapsed() >= LOOK) {
            self.look(None);
        }
    }

    /// The runs in training, ascending.
    fn running(&self) -> Vec<String> {
        let state = self.lock();
        let running = state.runs.iter().filter(|(_, (_, known))| !known.summary.running().is_empty());
        running.map(|(name, _)| name.clone()).collect()
    }

    /// Reads what changed since the last look in all runs, or in these known ones, ascending.
    fn look(&self, only: Option<&[String]>) {
        let _reading = self.0.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |(name, (_, known)): (&String, &(u64, Known))| (name.clone(), known.clone());
        let is_meant = |name: &String| only.is_none_or(|only| only.contains(name));
        let before: BTreeMap<String, Known> =
            self.lock().runs.iter().filter(|(name, _)| is_meant(name)).map(known).collect();
        let runs = match only {
            // A directory that does not exist yet has no runs.
            None => directory::all(&self.0.outputs).unwrap_or_default(),
            Some(names) => {
                let runs = names.iter().map(|name| Directory::of(&self.0.outputs, name));
                runs.filter(Directory::exists).collect()
            }
        };
        let changed = |run: &Directory| Known::changed(run, before.get(&run.hash()));
        // The threads of a pool are not worth waking for a few.
        let now: Vec<Option<Known>> = match only {
            None => runs.par_iter().map(changed).collect(),
            Some(_) => runs.iter().map(changed).collect(),
        };

        let mut state = self.lock();
        let next = state.version + 1;
        let mut changed = false;
        for (run, known) in runs.iter().zip(now) {
            let (Some(known), name) = (known, run.hash()) else { continue };
            let same = before.get(&name).is_some_and(|before| before.summary == known.summary);
            let version = if same { state.runs.get(&name).map_or(next, |(version, _)| *version) } else { next };
            changed |= !same;
            state.gone.remove(&name);
            state.runs.insert(name, (version, known));
        }
        for name in before.keys().filter(|name| runs.binary_search_by(|run| run.hash().cmp(name)).is_err()) {
            state.runs.remove(name);
            state.gone.insert(name.clone(), next);
            changed = true;
        }
        if only.is_none() {
            state.read = Some(Instant::now());
        }
        if changed {
            state.version = next;
            self.0.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Reads a run; `None` if nothing changed since it was read.
    fn changed(run: &Directory, before: Option<&Known>) -> Option<Known> {
        let running = before.map_or_else(Vec::new, |before| before.summary.running());
        let stamp = Stamp::of(run, &running);
        if let Some(before) = before
            && before.stamp == stamp
            && (running.is_empty() || before.read.elapsed() < ALIVE)
        {
            return None;
        }
        let summary = Arc::new(Summary::read(run, before.map(|before| &*before.summary)));
        // The times before reading: what changes meanwhile is read again.
        let stamp = if summary.running() == running { stamp } else { Stamp { running: Vec::new(), ..stamp } };
        Some(Known { stamp, read: Instant::now(), summary })
    }
}

/// Time and size of a file, or `None` if it cannot be read.
fn times(path: &Path) -> Times {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

impl Stamp {
    fn of(run: &Directory, running: &[u64]) -> Self {
        let unit = |&seed: &u64| {
            let unit = run.unit(seed);
            [unit.metrics_path(), unit.progress_path(), unit.record_path(), unit.directory.join("lock")]
                .map(|path| times(&path))
        };
        Stamp {
            run: [run.path.clone(), run.path.join("log.txt"), run.path.join("seeds")].map(|path| times(&path)),
            running: running.iter().map(unit).collect(),
        }
    }
}
