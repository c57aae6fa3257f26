//! Classification of whole images by a feed-forward network (`model.blocks`): digits, clothes, letters (Jaderberg et al. 2017,
//! section 3.2; the MNIST examples of koz4k/dni-pytorch).

mod images;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::data::digits::{Digits, Source};
use crate::data::{Dataset, share_of};
use crate::error::{Problem, Result};
use crate::plugins::Plugin;
use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
use images::LabelledImages;

/// Classifies whole images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Classify {
    /// Source of the images.
    pub source: Source,
    /// Subtracted from every pixel, from 0 to 1.
    pub mean: f64,
    /// Then every pixel is divided by this.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub std: f64,
    /// Fraction of the training images for validation, random ones for each seed, rounded down to whole images.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub val_split: f64,
}

impl Default for Classify {
    /// Mean and standard deviation are those of MNIST, as in the original.
    fn default() -> Self {
        Classify { source: Source::default(), mean: 0.1307, std: 0.3081, val_split: 0.2 }
    }
}

impl Plugin for Classify {
    const KIND: &'static str = "classify";
    const ABOUT: &'static str = "classify whole images of digits, clothes or letters with a feed-forward network";

    fn check(&self) -> Vec<Problem> {
        let Source::Glyphs(glyphs) = &self.source else { return Vec::new() };
        let validation = share_of(glyphs.train, self.val_split);
        let message = format!("{} of {} images is none or all of them", self.val_split, glyphs.train);
        let help = "raise `source.train`, or use another share (0: no validation)";
        let refused = self.val_split > 0.0 && (validation == 0 || validation == glyphs.train);
        refused.then(|| Problem::new("val_split", message).help(help)).into_iter().collect()
    }
}

impl Task for Classify {
    fn shape(&self) -> TaskShape {
        let side = self.source.side();
        TaskShape {
            input: Input::Image { channels: 1, height: side, width: side },
            target: Target { kind: TargetKind::Classes { count: self.source.classes() }, when: When::LastStep },
            steps: Some(1),
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
        Ok(Box::new(LabelledImages::new(self, Digits::open(&self.source)?, seed)?))
    }
}
