//! Declares the files of a run: `manifest.json`, `unit.json`, and the paths within a seed's directory. [`crate::run`] writes
//! these files, [`crate::report`] reads them.

use std::path::Path;

use crate::shell::quote;

mod manifest;
mod seed;

pub use manifest::{Git, Manifest, Program};
pub use seed::{EpochProgress, Imported, SHOWCASE, SeedRecord, SeedResult, SeedRun, SeedState};

/// The command that trains what is missing of the run in this directory.
pub fn train_command(run: &Path) -> String {
    let outputs = run.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let [spec, outputs] = [&run.join("spec.yaml"), outputs].map(|path| quote(&path.to_string_lossy()));
    format!("ccdni run {spec} --outputs {outputs}")
}
