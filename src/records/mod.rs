//! What a run leaves on disk, declared once: `manifest.json`, `unit.json`, and where the files of a seed are. [`crate::run`]
//! writes these files, [`crate::report`] reads them.

mod manifest;
mod seed;

pub use manifest::{Git, Manifest, Program};
pub use seed::{SeedRecord, SeedResult, SeedRun, SeedState};
