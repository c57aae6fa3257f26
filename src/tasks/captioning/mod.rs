//! Captioning (Boven, Pemberton et al., Nature Communications 2023, Fig. 4): a picture is seen, and words are said about it, one
//! a step, each given those before.
//!
//! The captions of a batch have one length. What the pictures become before the network sees them is not the task's
//! business: it names them by number.

mod captions;
mod spec;

pub use spec::{Captioning, EvalTransform, FilesSpec, ScenesSpec, Source};

use std::path::PathBuf;

use super::Task;
use crate::counter::Counter;
use crate::data::Dataset;
use crate::data::pictures::Viewing;
use crate::error::{Problem, Result};
use crate::plugins::Plugin;
use crate::spec::interface::{First, Input, Interface, Target, TargetKind, When};
use captions::Captions;

impl Plugin for Captioning {
    const KIND: &'static str = "captioning";
    const ABOUT: &'static str = "see a picture, and say about it what people said";

    fn check(&self) -> Vec<Problem> {
        self.problems()
    }
}

impl Task for Captioning {
    fn shape(&self) -> Interface {
        Interface {
            // Which words there are is known once the captions are.
            input: Input::Tokens { vocabulary: 0, first: First::Picture { side: self.view().trained_side() as usize } },
            target: Target { kind: TargetKind::Classes { count: 0 }, when: When::EveryStep },
            // Where only one length takes part, that is the number of steps: the picture, and all ids but the last.
            steps: Some(self.lengths[0]).filter(|_| self.lengths[0] == self.lengths[1]),
            validates: true,
        }
    }

    fn prepare(&self) -> Result<()> {
        match &self.source {
            Source::Scenes(scenes) => {
                let counter = Counter::new("pictures drawn");
                let made = scenes.scenes().make(&scenes.dir, &|| false, &|done, of| counter.show(done, of));
                counter.end();
                made.map(|_| ())
            }
            Source::Files { .. } => Ok(()),
        }
    }

    fn view(&self) -> Option<Viewing> {
        Some(self.view())
    }

    fn files(&self) -> Vec<PathBuf> {
        let [train, validation] = self.source.files();
        let of = |files: FilesSpec| std::iter::once(files.captions).chain(files.only);
        of(train).chain(of(validation)).chain(self.vocabulary.clone()).collect()
    }

    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Captions::open(self.clone(), seed)?))
    }
}
