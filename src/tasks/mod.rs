//! The task registry: what can be learned.
//!
//! A task is one file that implements [`Task`] for a marker type, and one line that registers it.

pub mod captioning;
pub mod linedraw;
mod registry;
pub mod seqmnist;

pub use captioning::Captioning;
pub use linedraw::LineDraw;
pub use registry::Registry;
pub use seqmnist::SeqMnist;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::data::Dataset;
use crate::data::pictures::Viewing;
use crate::error::{Problem, Result};
use crate::spec::interface::Interface;

/// A kind of experiment: its name, its keys, and how to open its data.
pub trait Task: 'static {
    /// The name in `task.kind`.
    const KIND: &'static str;
    /// One line for `ccdni tasks`.
    const ABOUT: &'static str;
    /// Everything else under `task`; defaults and descriptions come from serde and the doc comments.
    /// Derive `Serialize, Deserialize, JsonSchema` and refuse unknown fields.
    type Spec: Serialize + DeserializeOwned + JsonSchema;

    /// Problems beyond types and ranges; keys are relative to `task`.
    fn check(_spec: &Self::Spec) -> Vec<Problem> {
        Vec::new()
    }

    /// What the data look like; called only with specs that pass [`Task::check`].
    fn interface(spec: &Self::Spec) -> Interface;

    /// Whether its datasets have batches to validate with; called only with specs that pass [`Task::check`].
    fn validates(_spec: &Self::Spec) -> bool {
        true
    }

    /// Gets ready what [`Task::files`] and [`Task::open`] need: finds files, downloads those that have to be. Called once
    /// before a run writes anything, and tells people on standard error what takes its time.
    ///
    /// # Errors
    /// Says what is missing and what to do.
    fn prepare(_spec: &Self::Spec) -> Result<()> {
        Ok(())
    }

    /// Files that the data come from: their content is part of a run's manifest.
    fn files(_spec: &Self::Spec) -> Vec<std::path::PathBuf> {
        Vec::new()
    }

    /// How pictures are looked at, of a task that shows some.
    fn view(_spec: &Self::Spec) -> Option<Viewing> {
        None
    }

    /// Opens the data for one seed.
    fn open(spec: Self::Spec, seed: u64) -> Result<Box<dyn Dataset>>;
}
