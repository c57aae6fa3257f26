//! `manifest.json`: which program, on which machine and from which data made a run's numbers.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::SeedRecord;
use crate::error::{Error, Result};

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
    pub seeds: BTreeMap<u64, SeedRecord>,
}

/// A program that makes numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// [`crate::train::NUMERICS`] of it.
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

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ccdni {} (numerics {}, {})", self.version, self.numerics, self.target)?;
        if !self.features.is_empty() {
            write!(f, " with {}", self.features.join(", "))?;
        }
        if self.debug { f.write_str(", built without optimisation") } else { Ok(()) }
    }
}
