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

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Device;

use crate::data::image_set::Viewing;
use crate::data::{Dataset, Vocabulary};
use crate::error::Result;
use crate::spec::ModelSpec;
use crate::spec::task_shape::TaskShape;

/// A kind of experiment: the shape of its data, and how to open them. Only asked where its keys pass its check.
pub trait Task {
    /// What the data look like.
    fn shape(&self) -> TaskShape;

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

    /// How images are looked at, of a task that shows some.
    fn view(&self) -> Option<Viewing> {
        None
    }

    /// Opens the data for one seed.
    ///
    /// # Errors
    /// Names what is missing or damaged.
    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>>;

    /// As [`Task::open`], with all that a task of words and images has beside its batches. `encoder` is a model whose
    /// encoder reads the images, and the device that computes features; without one no batch shows an image.
    ///
    /// # Errors
    /// As [`Task::open`]; names images and weights that cannot be read.
    fn open_with(&self, seed: u64, _encoder: Option<(&ModelSpec, &Device)>) -> Result<TaskData> {
        Ok(TaskData { dataset: self.open(seed)?, vocabulary: None, images: 0, digests: BTreeMap::new() })
    }
}

/// The data of a task, opened for one seed.
pub struct TaskData {
    /// The batches.
    pub dataset: Box<dyn Dataset>,
    /// The words, where only the data determine them.
    pub vocabulary: Option<Vocabulary>,
    /// Number of images that the batches show.
    pub images: usize,
    /// BLAKE3 digests, in hex, of what was read beside [`Task::files`], by name.
    pub digests: BTreeMap<String, String>,
}

impl TaskData {
    /// The shape of the data, with the number of words where only the data determine it.
    pub fn shape(&self, shape: &TaskShape) -> TaskShape {
        self.vocabulary.as_ref().map_or_else(|| shape.clone(), |words| shape.with_vocabulary(words.words().len()))
    }
}
