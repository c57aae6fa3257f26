//! The keys of the task and their validation.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::captions::sampler::VALIDATION_BATCHES;
use crate::data::image_set::Viewing;
use crate::data::scenes::Scenes;
use crate::error::Problem;
use crate::files::at_home;
use crate::plugins::Plugin;

/// Describes an image with a caption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Captioning {
    /// Source of images and captions.
    pub source: Source,
    /// The vocabulary: a tokenizer.json of another run or of `ccdni data vocab`; built from the training captions if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub vocabulary: Option<PathBuf>,
    /// Minimum number of occurrences of a word in the vocabulary, if it is built here.
    #[schemars(range(min = 1))]
    pub threshold: u64,
    /// Range of caption lengths, inclusive: words, punctuation, start and end.
    #[schemars(inner(range(min = 3, max = 1000)))]
    pub lengths: [usize; 2],
    /// Every length yields as many batches as the rarest one.
    pub balance: bool,
    /// Side of the square to which images are resized, in pixels.
    #[schemars(range(min = 8, max = 4096))]
    pub resize: u32,
    /// Side of the crop: at a random position in training, centred otherwise; no crop if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 4096))]
    pub crop: Option<u32>,
    /// Mirror training images with probability 1/2; unsuitable if captions mention left and right.
    pub flip: bool,
    /// The view of an image in validation, evaluation and `ccdni sample`.
    pub eval_transform: EvalTransform,
    /// With a frozen backbone: randomly augmented views stored per training image; 0 for the single view of validation.
    #[schemars(range(max = 1000))]
    pub variants: usize,
    /// Captions per validation batch.
    #[schemars(range(min = 1, max = 100_000))]
    pub validation_batch_size: usize,
    /// Number of validation batches, the same in every epoch; 0 for all.
    pub validation_batches: usize,
    /// Adds the negative log-likelihood at each position of a caption to the metrics.
    pub by_position: bool,
    /// Captions every validation image after training and adds BLEU, ROUGE-L and CIDEr to the results.
    pub scores: bool,
    /// Adds the scores of the images with short, medium and long reference captions, a third each.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scores_by_length: bool,
}

/// Source of images and captions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Scenes of coloured shapes, generated once into a folder.
    Scenes(ScenesSpec),
    /// Caption files and folders of images: COCO, Flickr8k, Flickr30k, or your own in these formats.
    Files {
        /// Training data.
        train: FilesSpec,
        /// Validation data.
        validation: FilesSpec,
    },
}

/// Generated scenes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScenesSpec {
    /// The folder; created if it does not exist.
    #[schemars(length(min = 1))]
    pub dir: PathBuf,
    /// Training images.
    #[schemars(range(min = 1, max = 900_000))]
    pub train: usize,
    /// Validation images.
    #[schemars(range(min = 1, max = 90_000))]
    pub validation: usize,
    /// Width and height of an image, in pixels.
    #[schemars(range(min = 16, max = 1024))]
    pub size: u32,
    /// Seed of the scenes, independent of the seeds of a run.
    pub draw: u64,
}

/// A caption file and the folder of its images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesSpec {
    /// The caption file: COCO's JSON, that of Karpathy's splits, or a table as of Flickr8k and Flickr30k.
    #[schemars(length(min = 1))]
    pub captions: PathBuf,
    /// The folder that the images' file names are relative to.
    #[schemars(length(min = 1))]
    pub images: PathBuf,
    /// Only the images listed in this file, one per line, as in the splits of Flickr8k.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub only: Option<PathBuf>,
    /// The split or splits to use, if the file has any: `train`, `train+restval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub split: Option<String>,
}

/// The view of an image outside training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvalTransform {
    /// The centre, of the size of the training crop.
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

    /// The scenes to generate.
    pub fn scenes(&self) -> Scenes {
        Scenes { train: self.train, validation: self.validation, size: self.size, seed: self.draw }
    }
}

impl Source {
    /// Captions and images for training and validation.
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
            scores_by_length: false,
        }
    }
}

impl Captioning {
    /// The file of the vocabulary, if given.
    pub fn vocabulary_file(&self) -> Option<PathBuf> {
        self.vocabulary.as_ref().map(at_home)
    }

    /// Preprocessing of images.
    pub fn view(&self) -> Viewing {
        Viewing {
            resize: self.resize,
            crop: self.crop.filter(|crop| *crop != self.resize),
            flip: self.flip,
            whole: self.eval_transform == EvalTransform::Whole,
            variants: self.variants,
        }
    }
}

impl Plugin for Captioning {
    const KIND: &'static str = "captioning";
    const ABOUT: &'static str = "describe an image with a caption, word by word";

    fn check(&self) -> Vec<Problem> {
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
        if self.scores_by_length && !self.scores {
            refuse("scores_by_length", "there are no scores to separate".into(), "set `scores: true`, too");
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
    fn invalid_settings_are_rejected() {
        for (change, key) in [
            (r#"{}"#, None),
            (r#"{"lengths": [12, 11]}"#, Some("lengths")),
            (r#"{"resize": 64, "crop": 65}"#, Some("crop")),
            (r#"{"resize": 64, "crop": 64}"#, None),
            (r#"{"variants": 2}"#, Some("variants")),
            (r#"{"variants": 2, "crop": 60}"#, None),
            (r#"{"flip": true}"#, Some("flip")),
            (r#"{"scores_by_length": true}"#, Some("scores_by_length")),
            (r#"{"scores_by_length": true, "scores": true}"#, None),
            (r#"{"vocabulary": "outputs/abc"}"#, Some("vocabulary")),
        ] {
            let spec: Captioning = serde_json::from_str(change).unwrap();
            let keys: Vec<String> = spec.check().into_iter().map(|problem| problem.key).collect();
            assert_eq!(keys, key.into_iter().collect::<Vec<_>>(), "{change}");
        }
    }

    #[test]
    fn a_crop_of_the_whole_image_is_no_crop() {
        let spec = |text: &str| serde_json::from_str::<Captioning>(text).unwrap();
        assert_eq!(spec(r#"{"crop": 64}"#).view(), spec("{}").view());
        assert_eq!(spec(r#"{"crop": 60}"#).view().trained_side(), 60);
    }
}
