//! Creates the manifest of a new run, with the digests of its data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{claim, clock};
use crate::device;
use crate::error::{Error, Result};
use crate::records::{Git, Manifest, Program};
use crate::spec::Resolved;
use crate::train::NUMERICS;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Cargo features that may affect results bit for bit.
const FEATURES: &[(&str, bool)] = &[
    ("cuda", cfg!(feature = "cuda")),
    ("cudnn", cfg!(feature = "cudnn")),
    ("metal", cfg!(feature = "metal")),
    ("mkl", cfg!(feature = "mkl")),
    ("accelerate", cfg!(feature = "accelerate")),
];

/// Environment variables that may affect numbers or speed. Those of threads do not reach the workers.
const VARIABLES: &[&str] = &["CANDLE_GRAD_DO_NOT_DETACH", "CUDA_VISIBLE_DEVICES"];

/// The manifest of a run that begins now on this host.
pub fn begin(resolved: &Resolved, data: BTreeMap<String, String>) -> Manifest {
    let mut seeds_asked = resolved.spec.seeds.0.clone();
    seeds_asked.sort_unstable();
    Manifest {
        hash: resolved.hash.clone(),
        name: resolved.spec.name.clone(),
        task: resolved.spec.task.kind.clone(),
        epochs: resolved.spec.train.epochs,
        origins: resolved.origins.iter().cloned().collect(),
        created: clock::now(),
        program: this_program(),
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

/// This program.
fn this_program() -> Program {
    Program {
        version: VERSION.into(),
        numerics: NUMERICS,
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        features: FEATURES.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_string()).collect(),
        debug: cfg!(debug_assertions),
    }
}

/// BLAKE3 digests (hex) of files, by path as given.
///
/// # Errors
/// [`Error::Data`] naming a file that cannot be read.
pub fn digests(files: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    files.iter().map(|path| Ok((path.display().to_string(), digest(path)?))).collect()
}

/// BLAKE3 digest (hex) of a file.
///
/// # Errors
/// [`Error::Data`] naming the file if it cannot be read.
pub fn digest(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let read = std::fs::File::open(path).and_then(|file| hasher.update_reader(file).map(|_| ()));
    read.map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// State of the repository around the working directory, read once per process.
fn git() -> Option<Git> {
    static GIT: OnceLock<Option<Git>> = OnceLock::new();
    GIT.get_or_init(ask_git).clone()
}

fn ask_git() -> Option<Git> {
    let ask = |arguments: &[&str]| claim::answer(Command::new("git").args(arguments));
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
