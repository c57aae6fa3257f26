//! Images of digits, or of other classes in the same format: squares of one byte per pixel, with a class.
//!
//! Three sources with one interface: [`glyphs`] are drawn by the program, [`idx`] are files in a local directory, and
//! [`hub`] are data sets of the Hugging Face hub.

pub mod glyphs;
pub mod hub;
pub mod idx;

use std::ops::Range;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Width and height of MNIST's images, in pixels.
pub const SIDE: usize = 28;
/// Pixels per image of MNIST.
pub const PIXELS: usize = SIDE * SIDE;
/// Number of classes of MNIST.
pub const CLASSES: usize = 10;

/// Source of the images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// Digits drawn by the program; nothing is downloaded.
    Glyphs(Glyphs),
    /// IDX files in a local directory, optionally gzipped, with the file names of MNIST, EMNIST or QMNIST.
    Idx(Idx),
    /// A data set from the Hugging Face hub, cached in `datasets/hub`.
    Hub {
        /// The data set.
        #[serde(default)]
        dataset: HubDataset,
        /// Which parts to use; with a single one, validation is taken from it and there is no test.
        #[serde(default)]
        r#use: Use,
    },
}

/// Digits drawn by the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Glyphs {
    /// Images for training and validation.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub train: usize,
    /// Test images; 0 for none.
    #[schemars(range(max = 1_000_000))]
    pub test: usize,
    /// Seed of the drawn digits, independent of the seeds of a run, as for a data set from a file.
    pub draw: u64,
}

/// IDX files in a local directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Idx {
    /// The directory with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two `t10k` files, each optionally
    /// with `.gz`.
    #[schemars(length(min = 1))]
    pub dir: PathBuf,
    /// Which parts to use; with a single one, validation is taken from it and there is no test.
    #[serde(default)]
    pub r#use: Use,
    /// Number of classes. Labels count from 0; or from 1, if there is no 0 and the last class occurs.
    #[serde(default = "ten", skip_serializing_if = "is_ten")]
    #[schemars(range(min = 1, max = 256), extend("default" = CLASSES))]
    pub classes: usize,
    /// Width and height of the images, in pixels.
    #[serde(default = "mnist_side", skip_serializing_if = "is_mnist_side")]
    #[schemars(range(min = 1, max = Idx::MAX_SIDE), extend("default" = SIDE))]
    pub side: usize,
    /// Whether the files hold the columns of an image in place of its rows, as those of EMNIST do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub transpose: bool,
}

impl Idx {
    /// Largest width and height, in pixels.
    pub const MAX_SIDE: usize = 256;
}

fn ten() -> usize {
    CLASSES
}
fn is_ten(classes: &usize) -> bool {
    *classes == CLASSES
}
fn mnist_side() -> usize {
    SIDE
}
fn is_mnist_side(side: &usize) -> bool {
    *side == SIDE
}

/// Which of the two parts of a data set to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Train and validate on one part, test on the other.
    #[default]
    TrainAndTest,
    /// Only the training images.
    Train,
    /// Only the test images.
    Test,
}

/// A data set of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HubDataset {
    /// MNIST: handwritten digits, 60,000 and 10,000.
    #[default]
    Mnist,
    /// Fashion-MNIST: ten kinds of clothes in the same format.
    FashionMnist,
}

impl Default for Glyphs {
    fn default() -> Self {
        Glyphs { train: 10_000, test: 2_000, draw: 1 }
    }
}

impl Default for Source {
    fn default() -> Self {
        Source::Glyphs(Glyphs::default())
    }
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The training images.
    Train,
    /// The test images.
    Test,
}

impl Use {
    /// The parts, in the order in which they are stored.
    pub(crate) fn parts(self) -> &'static [Part] {
        match self {
            Use::TrainAndTest => &[Part::Train, Part::Test],
            Use::Train => &[Part::Train],
            Use::Test => &[Part::Test],
        }
    }
}

/// Images and their classes: first those for training and validation, then the test images.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Digits {
    /// `[images, side, side]`, row by row from the top, 0 is background.
    pixels: Vec<u8>,
    /// Width and height, in pixels.
    side: usize,
    /// `[images]`, each below [`Source::classes`].
    labels: Vec<u8>,
    /// Number of images for training and validation.
    train: usize,
}

impl Digits {
    /// Reads or draws the images of a source.
    ///
    /// # Errors
    /// [`crate::Error::Data`] naming a file that is missing, damaged or of another kind; [`crate::Error::Usage`] if the
    /// source is not available.
    pub fn open(source: &Source) -> Result<Digits> {
        match source {
            Source::Glyphs(spec) => Ok(glyphs::draw(spec)),
            Source::Idx(source) => idx::read(source),
            Source::Hub { dataset, r#use } => hub::read(*dataset, *r#use),
        }
    }

    /// Concatenates parts, pixels and labels; the first is for training and validation.
    pub(crate) fn of_parts(parts: Vec<(Vec<u8>, Vec<u8>)>, side: usize) -> Digits {
        let mut digits = Digits::default();
        for (index, (pixels, labels)) in parts.into_iter().enumerate() {
            if index == 0 {
                digits = Digits { train: labels.len(), side, pixels, labels };
            } else {
                digits.pixels.extend(pixels);
                digits.labels.extend(labels);
            }
        }
        digits
    }

    /// Indices of the images for training and validation.
    pub fn train(&self) -> Range<usize> {
        0..self.train
    }

    /// Indices of the test images.
    pub fn test(&self) -> Range<usize> {
        self.train..self.labels.len()
    }

    /// Width and height of an image, in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The pixels of an image, row by row from the top.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn pixels(&self, index: usize) -> &[u8] {
        let count = self.side * self.side;
        &self.pixels[index * count..][..count]
    }

    /// The class of an image.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }
}

impl Source {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Source::Idx(idx) => idx.classes,
            Source::Glyphs(_) | Source::Hub { .. } => CLASSES,
        }
    }

    /// Width and height of the images, in pixels.
    pub fn side(&self) -> usize {
        match self {
            Source::Idx(idx) => idx.side,
            Source::Glyphs(_) | Source::Hub { .. } => SIDE,
        }
    }

    /// Prepares for [`Digits::open`]: finds the files of the source, downloading and verifying them if necessary.
    ///
    /// # Errors
    /// As [`Digits::open`].
    pub fn prepare(&self) -> Result<()> {
        match self {
            Source::Glyphs(_) => Ok(()),
            Source::Idx(Idx { dir, r#use, .. }) => {
                r#use.parts().iter().try_for_each(|&part| idx::find(dir, part).map(|_| ()))
            }
            Source::Hub { dataset, r#use } => hub::fetch(*dataset, *r#use),
        }
    }

    /// The existing files of the source, whose content is part of a run's manifest.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Source::Glyphs(_) => Vec::new(),
            Source::Idx(Idx { dir, r#use, .. }) => {
                r#use.parts().iter().filter_map(|&part| idx::find(dir, part).ok()).flatten().collect()
            }
            Source::Hub { dataset, r#use } => hub::files(*dataset, *r#use),
        }
    }
}
