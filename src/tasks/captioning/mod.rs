//! Captioning (Boven, Pemberton et al., Nature Communications 2023, Fig. 8): the first step reads an image, and every step
//! predicts the next word of its caption.
//!
//! The captions of a batch have one length. [`EncoderInputs`](crate::model::encoder::EncoderInputs) prepares the images.

mod captions;
mod evaluation;
mod spec;

pub use evaluation::{Sheet, limits};
pub use spec::{Captioning, EvalTransform, FilesSpec, ScenesSpec, Source};

use std::path::PathBuf;

use candle_core::Device;

use super::{Task, TaskData};
use crate::counter::Counter;
use crate::data::Dataset;
use crate::data::captions::CaptionSet;
use crate::data::image_set::Viewing;
use crate::error::Result;
use crate::spec::ModelSpec;
use crate::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use captions::Captions;

impl Task for Captioning {
    fn shape(&self) -> TaskShape {
        TaskShape {
            // The vocabulary is only known once the captions are read.
            input: Input::Tokens { vocabulary: 0, first: First::Image { side: self.view().trained_side() as usize } },
            target: Target { kind: TargetKind::Classes { count: 0 }, when: When::EveryStep },
            // With a single length, that is the number of steps: the image, and all ids but the last.
            steps: Some(self.lengths[0]).filter(|_| self.lengths[0] == self.lengths[1]),
            validates: true,
        }
    }

    fn prepare(&self) -> Result<()> {
        match &self.source {
            Source::Scenes(scenes) => {
                let counter = Counter::new("images drawn");
                let made = scenes.scenes().make(&scenes.folder(), &|| false, &|done, of| counter.show(done, of));
                counter.end();
                made.map(|_| ())
            }
            Source::Files { .. } => self.source.files().iter().try_for_each(|files| CaptionSet::find(&files.captions)),
        }
    }

    fn view(&self) -> Option<Viewing> {
        Some(self.view())
    }

    fn files(&self) -> Vec<PathBuf> {
        let [train, validation] = self.source.files();
        let of = |files: FilesSpec| std::iter::once(files.captions).chain(files.only);
        of(train).chain(of(validation)).chain(self.vocabulary_file()).collect()
    }

    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>> {
        Ok(self.open_with(seed, None)?.dataset)
    }

    fn open_with(&self, seed: u64, encoder: Option<(&ModelSpec, &Device)>) -> Result<TaskData> {
        let captions = Captions::open(self.clone(), seed, encoder)?;
        Ok(TaskData {
            vocabulary: Some(captions.vocabulary().clone()),
            images: captions.images(),
            digests: captions.digests(),
            dataset: Box::new(captions),
        })
    }
}
