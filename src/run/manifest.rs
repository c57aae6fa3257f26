//! The manifest: which program, on which machine and from which data made a run's numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::unit::Record;
use super::{claim, clock};
use crate::device;
use crate::error::{Error, Result};
use crate::spec::Resolved;
use crate::train::NUMERICS;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Features of this program that may change bits.
const FEATURES: &[(&str, bool)] = &[
    ("cuda", cfg!(feature = "cuda")),
    ("cudnn", cfg!(feature = "cudnn")),
    ("metal", cfg!(feature = "metal")),
    ("mkl", cfg!(feature = "mkl")),
    ("accelerate", cfg!(feature = "accelerate")),
];

/// Environment variables that may change numbers or speed.
const VARIABLES: &[&str] = &["RAYON_NUM_THREADS", "CANDLE_GRAD_DO_NOT_DETACH", "CUDA_VISIBLE_DEVICES"];

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The run's hash.
    pub hash: String,
    /// The spec's name, for people.
    pub name: Option<String>,
    /// `task.kind`.
    pub task: String,
    /// Epochs asked for.
    pub epochs: usize,
    /// When the directory was made.
    pub created: String,
    /// The program that made it.
    pub program: Program,
    /// The working directory's repository, where git knows one.
    pub git: Option<Git>,
    /// The machine.
    pub host: String,
    /// Its instruction set.
    pub instruction_set: String,
    /// `run.threads`.
    pub threads: usize,
    /// Environment variables that may change numbers or speed, where they were set.
    pub environment: BTreeMap<String, String>,
    /// BLAKE3 digests, in hex, of the files that the data come from, by path, and of the initial weights, by run and seed.
    pub data: BTreeMap<String, String>,
    /// Every seed that was ever asked of this directory, ascending.
    pub seeds_asked: Vec<u64>,
    /// The seed whose weights lie at the top of the directory.
    pub best_seed: Option<u64>,
    /// The units that the aggregated files were made from, by seed.
    pub seeds: BTreeMap<u64, Record>,
}

/// A program that makes numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// See [`NUMERICS`].
    pub numerics: u32,
    /// System and architecture it was built for.
    pub target: String,
    /// The features it was built with.
    pub features: Vec<String>,
    /// Whether it was built without optimisation.
    pub debug: bool,
}

/// State of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit that is checked out.
    pub commit: String,
    /// Whether files differ from it.
    pub dirty: bool,
}

impl Manifest {
    /// The manifest of a run that is about to begin here and now.
    pub fn new(resolved: &Resolved, data: BTreeMap<String, String>) -> Self {
        let mut seeds_asked = resolved.spec.seeds.0.clone();
        seeds_asked.sort_unstable();
        Manifest {
            hash: resolved.hash.clone(),
            name: resolved.spec.name.clone(),
            task: resolved.spec.task.kind.clone(),
            epochs: resolved.spec.train.epochs,
            created: clock::now(),
            program: Program::this(),
            git: git(),
            host: claim::host(),
            instruction_set: device::instruction_set(),
            threads: resolved.spec.run.threads,
            environment: VARIABLES
                .iter()
                .filter_map(|name| Some(((*name).to_string(), std::env::var(name).ok()?)))
                .collect(),
            data,
            seeds_asked,
            best_seed: None,
            seeds: BTreeMap::new(),
        }
    }

    /// Makes sure that the files behind the run's data are those it was begun with.
    ///
    /// # Errors
    /// [`Error::Data`] naming the first file whose content changed.
    pub fn check_data(&self, now: &BTreeMap<String, String>) -> Result<()> {
        for (path, digest) in now {
            if self.data.get(path).is_some_and(|then| then != digest) {
                return Err(Error::data(
                    Path::new(path),
                    format!(
                        "its content changed since run {} was begun with it; restore the file, or train every seed of \
                         that run anew with `--force`",
                        self.hash
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Program {
    /// This program.
    pub fn this() -> Self {
        Program {
            version: VERSION.into(),
            numerics: NUMERICS,
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            features: FEATURES.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_string()).collect(),
            debug: cfg!(debug_assertions),
        }
    }
}

/// BLAKE3 digests of files, in hex, by path as written.
///
/// # Errors
/// [`Error::Data`] naming a file that cannot be read.
pub fn digests(files: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    files.iter().map(|path| Ok((path.display().to_string(), digest(path)?))).collect()
}

/// BLAKE3 digest of a file, in hex.
///
/// # Errors
/// [`Error::Data`] naming the file if it cannot be read.
pub fn digest(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let read = std::fs::File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    read.map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The state of the repository around the working directory, as it was when it was first asked for in this process.
fn git() -> Option<Git> {
    static GIT: OnceLock<Option<Git>> = OnceLock::new();
    GIT.get_or_init(ask_git).clone()
}

fn ask_git() -> Option<Git> {
    let ask = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    Some(Git { commit: ask(&["rev-parse", "HEAD"])?, dirty: !ask(&["status", "--porcelain"])?.is_empty() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_follow_the_content_and_missing_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        std::fs::write(&path, "one").unwrap();
        let before = digests(std::slice::from_ref(&path)).unwrap();
        assert_eq!(before.values().next().unwrap(), &blake3::hash(b"one").to_hex().to_string());
        std::fs::write(&path, "two").unwrap();
        assert_ne!(before, digests(&[path]).unwrap());
        let error = digests(&[directory.path().join("missing")]).unwrap_err();
        assert!(error.to_string().contains("missing") && error.exit_code() == 2);
    }
}
