//! Declares the files of a run: `manifest.json`, `unit.json`, and the paths within a seed's directory. [`crate::run`] writes
//! these files, [`crate::report`] reads them.

mod manifest;
mod seed;

pub use manifest::{Git, Manifest, Program};
pub use seed::{Imported, SeedRecord, SeedResult, SeedRun, SeedState};
