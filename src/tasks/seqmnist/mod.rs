//! Sequential digits (Pemberton, Boven et al., NeurIPS 2021, Fig. S3; Boven, Pemberton et al., Nature Communications 2023,
//! Fig. 3): an image is presented piece by piece; the network classifies it at the last step or draws at every step.
//!
//! [`curves`] defines the drawings, `sequences.rs` the batches, [`crate::data::digits`] reads the images.

pub mod curves;
mod sequences;
mod spec;

pub use spec::{Ends, Mode, SeqMnist, SplitBy};

use std::path::PathBuf;

use super::Task;
use crate::data::Dataset;
use crate::data::digits::{Digits, Source};
use crate::error::Result;
use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
use sequences::Sequences;

impl Task for SeqMnist {
    fn shape(&self) -> TaskShape {
        let (kind, when) = match self.mode {
            Mode::Recognise => (TargetKind::Classes { count: self.numbers.len() }, When::LastStep),
            Mode::Lines | Mode::Digits => (TargetKind::Values { size: 2 }, When::EveryStep),
        };
        TaskShape {
            input: Input::Dense { features: self.row },
            target: Target { kind, when },
            steps: Some(self.steps()),
            validates: self.val_split > 0.0,
        }
    }

    fn prepare(&self) -> Result<()> {
        self.source.prepare()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.source.files()
    }

    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>> {
        let digits = Digits::open(&self.source)?;
        Ok(Box::new(Sequences::new(self.clone(), digits, seed)?))
    }
}

/// The name of a source in messages.
fn named(source: &Source) -> String {
    match source {
        Source::Glyphs(_) => "the digits drawn".into(),
        Source::Idx(idx) => format!("the data in {}", idx.dir.display()),
        Source::Hub { .. } => "the data from the hub".into(),
    }
}
