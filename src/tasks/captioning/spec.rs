//! The keys of the task, and what cannot be asked of it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::captions::sampler::VALIDATION_BATCHES;
use crate::data::image_set::Viewing;
use crate::data::scenes::Scenes;
use crate::error::Problem;
use crate::files::at_home;

/// Describes an image as people described it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Captioning {
    /// Where images and captions come from.
    pub source: Source,
    /// A tokenizer.json with the words, as another run has it or `ccdni data vocab` makes it; made of the captions to train
    /// with where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub vocabulary: Option<PathBuf>,
    /// Words seen less often are unknown (where the vocabulary is made here).
    #[schemars(range(min = 1))]
    pub threshold: u64,
    /// Captions of these lengths take part, both ends included: words, punctuation, start and end.
    #[schemars(inner(range(min = 3, max = 1000)))]
    pub lengths: [usize; 2],
    /// Every length gives as many batches as the rarest one.
    pub balance: bool,
    /// Side of the square to which images are resized, in pixels.
    #[schemars(range(min = 8, max = 4096))]
    pub resize: u32,
    /// Side of the square that is cut out of it: at random in training, the middle elsewhere; all of it where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 4096))]
    pub crop: Option<u32>,
    /// Mirror every other image in training; not where captions say left and right.
    pub flip: bool,
    /// What validation, scores and `ccdni sample` see of an image.
    pub eval_transform: EvalTransform,
    /// With a frozen backbone: stored views of each training image, cut out and mirrored at random; 0 for the one view
    /// that validation has.
    #[schemars(range(max = 1000))]
    pub variants: usize,
    /// Captions of a batch in validation.
    #[schemars(range(min = 1, max = 100_000))]
    pub validation_batch_size: usize,
    /// Batches that validation looks at, the same ones in every epoch; 0 for all.
    pub validation_batches: usize,
    /// Adds a column for each position of a caption: the negative log-likelihood there.
    pub by_position: bool,
    /// Captions every validation image once training is over, and adds BLEU, ROUGE-L and CIDEr to the results.
    pub scores: bool,
}

/// Where images and captions come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Scenes of coloured shapes that the program draws itself, once, into a folder.
    Scenes(ScenesSpec),
    /// Files of captions and folders of images: COCO, Flickr8k, Flickr30k, or your own in their formats.
    Files {
        /// What is trained with.
        train: FilesSpec,
        /// What is validated with.
        validation: FilesSpec,
    },
}

/// Scenes that the program draws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScenesSpec {
    /// The folder; made where it is not there.
    #[schemars(length(min = 1))]
    pub dir: PathBuf,
    /// Images to train with.
    #[schemars(range(min = 1, max = 900_000))]
    pub train: usize,
    /// Images to validate with.
    #[schemars(range(min = 1, max = 90_000))]
    pub validation: usize,
    /// Width and height of an image, in pixels.
    #[schemars(range(min = 16, max = 1024))]
    pub size: u32,
    /// Other scenes for another number here: the same for every seed of a run.
    pub draw: u64,
}

/// A file of captions and the folder of its images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesSpec {
    /// The captions: COCO's JSON, that of Karpathy's splits, or a table as those of Flickr8k and Flickr30k are.
    #[schemars(length(min = 1))]
    pub captions: PathBuf,
    /// The folder that the images' file names are relative to.
    #[schemars(length(min = 1))]
    pub images: PathBuf,
    /// Only the images that this file names, one a line, as the splits of Flickr8k have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub only: Option<PathBuf>,
    /// Of a file with splits, the one that is used, or several: `train`, `train+restval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub split: Option<String>,
}

/// What is seen of an image outside of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvalTransform {
    /// The middle, as large as what training cuts out.
    Center,
    /// The whole square, as in the original.
    Whole,
}

impl Default for ScenesSpec {
    fn default() -> Self {
        let Scenes { train, validation, size, seed } = Scenes::default();
        ScenesSpec { dir: "datasets/scenes".into(), train, validation, size, draw: seed }
    }
}

impl ScenesSpec {
    /// The folder.
    pub fn folder(&self) -> PathBuf {
        at_home(&self.dir)
    }

    /// What is to be drawn.
    pub fn scenes(&self) -> Scenes {
        Scenes { train: self.train, validation: self.validation, size: self.size, seed: self.draw }
    }
}

impl Source {
    /// Captions and images to train and to validate with.
    pub fn files(&self) -> [FilesSpec; 2] {
        match self {
            Source::Scenes(scenes) => ["train", "validation"].map(|part| FilesSpec {
                captions: scenes.folder().join(format!("captions_{part}.json")),
                images: scenes.folder().join(part),
                only: None,
                split: None,
            }),
            Source::Files { train, validation } => [train, validation].map(|files| FilesSpec {
                captions: at_home(&files.captions),
                images: at_home(&files.images),
                only: files.only.as_ref().map(at_home),
                split: files.split.clone(),
            }),
        }
    }
}

impl Default for Captioning {
    fn default() -> Self {
        Captioning {
            source: Source::Scenes(ScenesSpec::default()),
            vocabulary: None,
            threshold: 4,
            lengths: [11, 15],
            balance: false,
            resize: 64,
            crop: None,
            flip: false,
            eval_transform: EvalTransform::Center,
            variants: 0,
            validation_batch_size: 256,
            validation_batches: VALIDATION_BATCHES,
            by_position: false,
            scores: false,
        }
    }
}

impl Captioning {
    /// The file of the words, where one is named.
    pub fn vocabulary_file(&self) -> Option<PathBuf> {
        self.vocabulary.as_ref().map(at_home)
    }

    /// How images are looked at.
    pub fn view(&self) -> Viewing {
        Viewing {
            resize: self.resize,
            crop: self.crop.filter(|crop| *crop != self.resize),
            flip: self.flip,
            whole: self.eval_transform == EvalTransform::Whole,
            variants: self.variants,
        }
    }

    /// What cannot work, with keys relative to `task`.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |key: &str, message: String, help: &str| {
            problems.push(Problem::new(key, message).help(help));
        };
        let [low, high] = self.lengths;
        if low > high {
            refuse("lengths", format!("from {low} to {high} there is no length"), "write the smaller one first");
        }
        if let Some(crop) = self.crop.filter(|crop| *crop > self.resize) {
            let message = format!("{crop} pixels cannot be cut out of {}", self.resize);
            refuse("crop", message, "lower it, or raise `resize`");
        }
        if self.variants > 0 && !self.view().augments() {
            let message = "all views of an image are the same: nothing is cut out or mirrored".into();
            refuse("variants", message, "leave it out, or set `crop` below `resize`, or `flip: true`");
        }
        if let Source::Scenes(_) = &self.source
            && self.flip
        {
            let message = "the captions of scenes say left and right, which a mirrored image has the other way round";
            refuse("flip", message.into(), "leave it out");
        }
        if let Some(vocabulary) = &self.vocabulary
            && vocabulary.extension().is_none_or(|extension| extension != "json")
        {
            let message = format!("{} is no tokenizer.json", vocabulary.display());
            refuse("vocabulary", message, "name the `tokenizer.json` of a run, or make one with `ccdni data vocab`");
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        for (change, key) in [
            (r#"{}"#, None),
            (r#"{"lengths": [12, 11]}"#, Some("lengths")),
            (r#"{"resize": 64, "crop": 65}"#, Some("crop")),
            (r#"{"resize": 64, "crop": 64}"#, None),
            (r#"{"variants": 2}"#, Some("variants")),
            (r#"{"variants": 2, "crop": 60}"#, None),
            (r#"{"flip": true}"#, Some("flip")),
            (r#"{"vocabulary": "outputs/abc"}"#, Some("vocabulary")),
        ] {
            let spec: Captioning = serde_json::from_str(change).unwrap();
            let keys: Vec<String> = spec.problems().into_iter().map(|problem| problem.key).collect();
            assert_eq!(keys, key.into_iter().collect::<Vec<_>>(), "{change}");
        }
    }

    #[test]
    fn cutting_out_everything_is_no_cut() {
        let spec = |text: &str| serde_json::from_str::<Captioning>(text).unwrap();
        assert_eq!(spec(r#"{"crop": 64}"#).view(), spec("{}").view());
        assert_eq!(spec(r#"{"crop": 60}"#).view().trained_side(), 60);
    }
}
