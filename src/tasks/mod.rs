//! The tasks.
//!
//! A task is one type in one file: its fields are the keys under `task` ([`Plugin`](crate::plugins::Plugin)), and it
//! implements [`Task`]. One line registers it.

pub mod add;
pub mod captioning;
pub mod classify;
pub mod copy;
pub mod delayed_association;
pub mod evidence;
pub mod language;
pub mod linedraw;
pub mod mimic;
mod registry;
pub mod seqmnist;

pub use add::Add;
pub use captioning::Captioning;
pub use classify::Classify;
pub use copy::CopyRepeat;
pub use delayed_association::DelayedAssociation;
pub use evidence::Evidence;
pub use language::Language;
pub use linedraw::LineDraw;
pub use mimic::Mimic;
pub use registry::Registry;
pub use seqmnist::SeqMnist;

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Device;

use crate::data::image_set::Viewing;
use crate::data::text::Unit;
use crate::data::{Dataset, Vocabulary};
use crate::error::Result;
use crate::spec::ModelSpec;
use crate::spec::task_shape::TaskShape;

/// A kind of experiment: the shape of its data, and how to open them. Methods are only called if the keys pass the check.
pub trait Task {
    /// The shape of the data.
    fn shape(&self) -> TaskShape;

    /// Prepares for [`Task::files`] and [`Task::open`]: finds and downloads files. Called once before a run writes anything;
    /// reports progress on standard error.
    ///
    /// # Errors
    /// Names what is missing and how to obtain it.
    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// The files of the data, whose content is part of a run's manifest.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Preprocessing of images, for tasks with images.
    fn view(&self) -> Option<Viewing> {
        None
    }

    /// The unit of the text, for tasks whose networks can continue one.
    fn text(&self) -> Option<Unit> {
        None
    }

    /// Opens the data for one seed.
    ///
    /// # Errors
    /// Names what is missing or damaged.
    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>>;

    /// As [`Task::open`], with the vocabulary and images of the task. `encoder` is the model whose encoder reads the images,
    /// and the device that computes features; without one the images are not opened.
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
    /// The vocabulary, if it is determined by the data.
    pub vocabulary: Option<Vocabulary>,
    /// Number of images.
    pub images: usize,
    /// BLAKE3 digests, in hex, of inputs other than [`Task::files`], by name.
    pub digests: BTreeMap<String, String>,
}

impl TaskData {
    /// The shape of the data, with the size of the vocabulary if it is determined by the data.
    pub fn shape(&self, shape: &TaskShape) -> TaskShape {
        self.vocabulary.as_ref().map_or_else(|| shape.clone(), |words| shape.with_vocabulary(words.words().len()))
    }
}
