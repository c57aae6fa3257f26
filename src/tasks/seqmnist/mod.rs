//! Sequential digits (Pemberton, Boven et al., NeurIPS 2021, Fig. S3; Boven, Pemberton et al., Nature Communications 2023,
//! Fig. 3): an image is read piece by piece, and is named at the end or answered with a drawing all along.
//!
//! What is drawn is in [`curves`], which image comes when in `sequences.rs`, where images come from in
//! [`crate::data::digits`].

pub mod curves;
mod sequences;
mod spec;

pub use spec::{Ends, Mode, SeqMnistSpec, SplitBy};

use std::path::PathBuf;

use super::Task;
use crate::data::Dataset;
use crate::data::digits::{Digits, Source};
use crate::error::{Problem, Result};
use crate::spec::interface::{Input, Interface, Target, TargetKind, When};
use sequences::Sequences;

/// Reads images of digits piece by piece, and names or draws them.
pub struct SeqMnist;

impl Task for SeqMnist {
    const KIND: &'static str = "seqmnist";
    const ABOUT: &'static str = "read the image of a digit piece by piece, and name it at the end or draw all along";
    type Spec = SeqMnistSpec;

    fn check(spec: &SeqMnistSpec) -> Vec<Problem> {
        spec.problems()
    }

    fn interface(spec: &SeqMnistSpec) -> Interface {
        let (kind, when) = match spec.mode {
            Mode::Recognise => (TargetKind::Classes { count: spec.numbers.len() }, When::LastStep),
            Mode::Lines | Mode::Digits => (TargetKind::Values { size: 2 }, When::EveryStep),
        };
        Interface {
            input: Input::Dense { features: spec.row },
            target: Target { kind, when },
            steps: Some(spec.steps()),
        }
    }

    fn validates(spec: &SeqMnistSpec) -> bool {
        spec.val_split > 0.0
    }

    fn prepare(spec: &SeqMnistSpec) -> Result<()> {
        spec.source.prepare()
    }

    fn files(spec: &SeqMnistSpec) -> Vec<PathBuf> {
        spec.source.files()
    }

    fn open(spec: SeqMnistSpec, seed: u64) -> Result<Box<dyn Dataset>> {
        let digits = Digits::open(&spec.source)?;
        Ok(Box::new(Sequences::new(spec, digits, seed)?))
    }
}

/// What a source is called in a message.
fn named(source: &Source) -> String {
    match source {
        Source::Glyphs(_) => "the digits drawn".into(),
        Source::Idx { dir, .. } => format!("the data in {}", dir.display()),
        Source::Hub { .. } => "the data from the hub".into(),
    }
}
