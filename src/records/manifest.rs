//! `manifest.json`: the program, machine and data that produced a run's numbers.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::SeedRecord;
use crate::error::{Error, Result};
use crate::spec::Count;

/// Contents of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The run's hash.
    pub hash: String,
    /// The spec's name.
    pub name: Option<String>,
    /// `task.kind`.
    pub task: String,
    /// Epochs requested.
    pub epochs: usize,
    /// Where the values come from that differ from their defaults, by key: a file and line, a sweep or the command line, as they were
    /// when the directory was created.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub origins: BTreeMap<String, String>,
    /// When the directory was created.
    pub created: String,
    /// The program that created it.
    pub program: Program,
    /// State of the git repository that contains the working directory, if any.
    pub git: Option<Git>,
    /// The machine.
    pub host: String,
    /// Its instruction set.
    pub instruction_set: String,
    /// `run.threads`.
    pub threads: Count,
    /// Environment variables that may affect numbers or speed, where set.
    pub environment: BTreeMap<String, String>,
    /// BLAKE3 digests (hex) of the data files, by path, and of the initial weights, by run and seed.
    pub data: BTreeMap<String, String>,
    /// Every seed ever requested of this run, ascending.
    pub seeds_asked: Vec<u64>,
    /// The seed whose weights are at the top of the directory.
    pub best_seed: Option<u64>,
    /// The units that the aggregated files were made from, by seed.
    pub seeds: BTreeMap<u64, SeedRecord>,
}

/// The program that produced the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// Its [`crate::train::NUMERICS`].
    pub numerics: u32,
    /// The architecture and system it was built for.
    pub target: String,
    /// The features it was built with.
    pub features: Vec<String>,
    /// Whether it was built without optimisation.
    pub debug: bool,
}

/// State of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit checked out.
    pub commit: String,
    /// Whether the working tree has uncommitted changes.
    pub dirty: bool,
}

impl Manifest {
    /// Checks that the data files are those the run was started with.
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

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ccdni {} (numerics {}, {})", self.version, self.numerics, self.target)?;
        if !self.features.is_empty() {
            write!(f, " with {}", self.features.join(", "))?;
        }
        if self.debug { f.write_str(", built without optimisation") } else { Ok(()) }
    }
}
