//! Captioning (Boven, Pemberton et al., Nature Communications 2023, Fig. 4): a picture is seen, and words are said about it, one
//! a step, each given those before.
//!
//! The captions of a batch have one length. What the pictures become before the network sees them is not the task's
//! business: it names them by number.

mod captions;
mod spec;

pub use spec::{CaptioningSpec, EvalTransform, FilesSpec, ScenesSpec, Source};

use std::path::PathBuf;

use super::Task;
use crate::counter::Counter;
use crate::data::Dataset;
use crate::data::captions::CaptionSet;
use crate::data::pictures::Viewing;
use crate::error::{Problem, Result};
use crate::spec::interface::{First, Input, Interface, Target, TargetKind, When};
use captions::Captions;

/// Says about a picture what people said about it.
pub struct Captioning;

impl Task for Captioning {
    const KIND: &'static str = "captioning";
    const ABOUT: &'static str = "see a picture, and say about it what people said";
    type Spec = CaptioningSpec;

    fn check(spec: &CaptioningSpec) -> Vec<Problem> {
        spec.problems()
    }

    fn interface(spec: &CaptioningSpec) -> Interface {
        Interface {
            // Which words there are is known once the captions are.
            input: Input::Tokens { vocabulary: 0, first: First::Picture { side: spec.view().trained_side() as usize } },
            target: Target { kind: TargetKind::Classes { count: 0 }, when: When::EveryStep },
            // Where only one length takes part, that is the number of steps: the picture, and all ids but the last.
            steps: Some(spec.lengths[0]).filter(|_| spec.lengths[0] == spec.lengths[1]),
        }
    }

    fn prepare(spec: &CaptioningSpec) -> Result<()> {
        match &spec.source {
            Source::Scenes(scenes) => {
                let counter = Counter::new("pictures drawn");
                let made = scenes.scenes().make(&scenes.folder(), &|| false, &|done, of| counter.show(done, of));
                counter.end();
                made.map(|_| ())
            }
            Source::Files { .. } => spec.source.files().iter().try_for_each(|files| CaptionSet::find(&files.captions)),
        }
    }

    fn view(spec: &CaptioningSpec) -> Option<Viewing> {
        Some(spec.view())
    }

    fn files(spec: &CaptioningSpec) -> Vec<PathBuf> {
        let [train, validation] = spec.source.files();
        let of = |files: FilesSpec| std::iter::once(files.captions).chain(files.only);
        of(train).chain(of(validation)).chain(spec.vocabulary_file()).collect()
    }

    fn open(spec: CaptioningSpec, seed: u64) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Captions::open(spec, seed)?))
    }
}
