//! The tasks: what can be learned.
//!
//! A task is one type in one file: its fields are the keys under `task` ([`Plugin`](crate::plugins::Plugin)), and it
//! implements [`Task`]. One line registers it.

pub mod captioning;
pub mod linedraw;
mod registry;
pub mod seqmnist;

pub use captioning::Captioning;
pub use linedraw::LineDraw;
pub use registry::Registry;
pub use seqmnist::SeqMnist;

use std::path::PathBuf;

use crate::data::Dataset;
use crate::data::pictures::Viewing;
use crate::error::Result;
use crate::spec::interface::Interface;

/// A kind of experiment: the shape of its data, and how to open them. Only asked where its keys pass its check.
pub trait Task {
    /// What the data look like.
    fn shape(&self) -> Interface;

    /// Gets ready what [`Task::files`] and [`Task::open`] need: finds files, downloads those that have to be. Called once
    /// before a run writes anything, and tells people on standard error what takes its time.
    ///
    /// # Errors
    /// Says what is missing and what to do.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Files that the data come from: their content is part of a run's manifest.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// How pictures are looked at, of a task that shows some.
    fn view(&self) -> Option<Viewing> {
        None
    }

    /// Opens the data for one seed.
    ///
    /// # Errors
    /// Names what is missing or damaged.
    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>>;
}
