//! The keys of the task and their validation.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::curves;
use crate::data::digits::{CLASSES, PIXELS, Source};
use crate::error::Problem;
use crate::plugins::Plugin;

/// Reads images of digits piece by piece and classifies or draws them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SeqMnist {
    /// The target: the class at the last step, a line to the point of the class, or a drawing of the digit.
    pub mode: Mode,
    /// Source of the images.
    pub source: Source,
    /// Pixels per step, row by row from the top; a divisor of 784 (28 is one row of the image).
    #[schemars(range(min = 1, max = 784))]
    pub row: usize,
    /// The digits to use, in any order.
    #[serde(deserialize_with = "ascending")]
    #[schemars(extend("minItems" = 1, "uniqueItems" = true), inner(range(max = 9)))]
    pub numbers: Vec<u8>,
    /// The ends of the lines: evenly spaced on a circle in the order of the classes, or random nodes of a 4 x 4 grid for
    /// each seed (`mode: lines`).
    pub ends: Ends,
    /// Radius of the circle, or side of the grid (`mode: lines`).
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1e6))]
    pub radius: f64,
    /// Fraction of the training images for validation, rounded down to whole images.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub val_split: f64,
    /// Which training images are used for validation: random ones for each seed, or the last.
    pub split: SplitBy,
    /// Shuffle the training images in every epoch.
    pub shuffle: bool,
}

/// The target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The class, at the last step.
    Recognise,
    /// A straight line to the point of the class, one position per step.
    Lines,
    /// The digit in one stroke, one position per step.
    Digits,
}

/// The ends of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// On a circle: all lines have the same length.
    Circle,
    /// On the nodes of a grid: lines differ in direction and length.
    Grid,
}

/// How validation images are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// At random for each seed.
    Random,
    /// The last images of the source.
    Ordered,
}

impl Default for SeqMnist {
    fn default() -> Self {
        SeqMnist {
            mode: Mode::Recognise,
            source: Source::default(),
            row: 28,
            numbers: (0..CLASSES as u8).collect(),
            ends: Ends::Circle,
            radius: 10.0,
            val_split: 0.2,
            split: SplitBy::Random,
            shuffle: true,
        }
    }
}

/// Sorts the digits, since their order does not matter.
fn ascending<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let mut numbers = Vec::<u8>::deserialize(deserializer)?;
    numbers.sort_unstable();
    Ok(numbers)
}

impl SeqMnist {
    /// Steps per sequence.
    pub fn steps(&self) -> usize {
        PIXELS / self.row.max(1)
    }

    /// Number of validation images out of `total`.
    pub(super) fn validation_size(&self, total: usize) -> usize {
        // The small constant compensates for rounding: 0.29 of 100 is 29.
        ((total as f64 * self.val_split + 1e-9) as usize).min(total)
    }
}

impl Plugin for SeqMnist {
    const KIND: &'static str = "seqmnist";
    const ABOUT: &'static str = "read the image of a digit piece by piece, and name it at the end or draw all along";

    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |key: &str, message: String, help: String| {
            problems.push(Problem::new(key, message).help(help));
        };
        if self.row == 0 || !PIXELS.is_multiple_of(self.row) {
            let divisors = (1..=PIXELS).filter(|row| PIXELS.is_multiple_of(*row)).map(|row| row.to_string());
            refuse(
                "row",
                format!("does not divide the {PIXELS} pixels of an image"),
                format!("choose one of {}", divisors.collect::<Vec<_>>().join(", ")),
            );
            return problems;
        }
        let steps = self.steps();
        let needed = match self.mode {
            Mode::Recognise => 1,
            Mode::Lines => 2,
            Mode::Digits => self.numbers.iter().map(|&number| curves::corners(number)).max().unwrap_or(1),
        };
        if steps < needed {
            refuse(
                "row",
                format!("makes sequences of {steps} steps, and what is drawn has up to {needed} points"),
                format!("choose a divisor of {PIXELS} that is at most {}", PIXELS / needed),
            );
        }
        let plain = SeqMnist::default();
        if self.mode != Mode::Lines {
            let help = || "leave it out, or use `mode: lines`".to_string();
            if self.ends != plain.ends {
                refuse("ends", "only lines have ends to choose".into(), help());
            }
            if self.radius != plain.radius {
                refuse("radius", "only lines have a length to choose".into(), help());
            }
        }
        if let Source::Glyphs(glyphs) = &self.source {
            let validation = self.validation_size(glyphs.train);
            if self.val_split > 0.0 && (validation == 0 || validation == glyphs.train) {
                refuse(
                    "val_split",
                    format!("{} of {} images is none or all of them", self.val_split, glyphs.train),
                    "raise `source.train`, or use another share (0: no validation)".into(),
                );
            }
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
            (r#"{"row": 30}"#, Some("row")),
            (r#"{"row": 784}"#, None),
            (r#"{"mode": "lines", "row": 784}"#, Some("row")),
            (r#"{"mode": "lines", "row": 392, "ends": "grid", "radius": 1}"#, None),
            (r#"{"mode": "digits", "row": 98}"#, Some("row")),
            (r#"{"mode": "digits", "row": 196, "numbers": [1]}"#, None),
            (r#"{"mode": "digits", "ends": "grid"}"#, Some("ends")),
            (r#"{"radius": 5}"#, Some("radius")),
            (r#"{"source": {"kind": "glyphs", "train": 4}}"#, Some("val_split")),
            (r#"{"source": {"kind": "glyphs", "train": 4}, "val_split": 0}"#, None),
        ] {
            let spec: SeqMnist = serde_json::from_str(change).unwrap();
            let keys: Vec<String> = spec.check().into_iter().map(|problem| problem.key).collect();
            assert_eq!(keys, key.into_iter().collect::<Vec<_>>(), "{change}");
        }
    }

    #[test]
    fn the_order_of_numbers_does_not_matter() {
        let read = |text: &str| serde_json::from_str::<SeqMnist>(text).unwrap();
        assert_eq!(read(r#"{"numbers": [7, 1]}"#), read(r#"{"numbers": [1, 7]}"#));
    }

    #[test]
    fn a_share_is_rounded_down_to_whole_images() {
        let size = |val_split, total| SeqMnist { val_split, ..SeqMnist::default() }.validation_size(total);
        assert_eq!([size(0.2, 60_000), size(0.2, 9), size(0.29, 100), size(0.0, 5)], [12_000, 1, 29, 0]);
    }
}
