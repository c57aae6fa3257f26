//! The keys of the task and their validation.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::curves;
use crate::data::digits::{CLASSES, Idx, Source};
use crate::data::{movement, share_of};
use crate::error::Problem;
use crate::plugins::Plugin;

/// Reads images of digits piece by piece and classifies or draws them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
// Derived as functions of the type: the default of `numbers` depends on the source.
#[serde(deny_unknown_fields, default, remote = "Self")]
pub struct SeqMnist {
    /// The target: the class at the last step, a line to the point of the class, or a drawing of the digit.
    pub mode: Mode,
    /// Source of the images.
    pub source: Source,
    /// Pixels per step, row by row from the top; a divisor of the number of pixels of an image, for MNIST 784 (28 is one row).
    #[schemars(range(min = 1, max = Idx::MAX_SIDE * Idx::MAX_SIDE))]
    pub row: usize,
    /// The digits to use, or other classes, counted from 0, in any order; by default all classes of the source.
    #[serde(default, deserialize_with = "ascending")]
    #[schemars(extend("minItems" = 1, "uniqueItems" = true, "default" = all(CLASSES)))]
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
    /// Adds measures of the movement to the metrics: `dysmetria`, `sparc` and `jerk` (`mode: lines` and `mode: digits`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub movement: bool,
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
            numbers: all(CLASSES),
            ends: Ends::Circle,
            radius: 10.0,
            val_split: 0.2,
            split: SplitBy::Random,
            shuffle: true,
            movement: false,
        }
    }
}

impl<'de> Deserialize<'de> for SeqMnist {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut spec = SeqMnist::deserialize(deserializer)?;
        if spec.numbers.is_empty() {
            spec.numbers = all(spec.source.classes());
        }
        Ok(spec)
    }
}

impl Serialize for SeqMnist {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SeqMnist::serialize(self, serializer)
    }
}

/// The numbers of all classes.
fn all(classes: usize) -> Vec<u8> {
    (0..=u8::MAX).take(classes).collect()
}

/// Sorts the digits, since their order does not matter.
fn ascending<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let mut numbers = Vec::<u8>::deserialize(deserializer)?;
    numbers.sort_unstable();
    Ok(numbers)
}

impl Plugin for SeqMnist {
    const KIND: &'static str = "seqmnist";
    const ABOUT: &'static str = "read the image of a digit piece by piece, and name it at the end or draw all along";

    fn check(&self) -> Vec<Problem> {
        let problems = [
            self.row_problem(),
            self.numbers_problem(),
            self.ends_problem(),
            self.split_problem(),
            movement::too_short(self.movement, self.steps()),
        ];
        problems.into_iter().flatten().chain(self.unused()).collect()
    }
}

impl SeqMnist {
    /// Pixels per image.
    fn pixels(&self) -> usize {
        self.source.side().pow(2)
    }

    /// Steps per sequence.
    pub fn steps(&self) -> usize {
        self.pixels() / self.row.max(1)
    }

    /// Number of validation images out of `total`.
    pub(super) fn validation_size(&self, total: usize) -> usize {
        share_of(total, self.val_split)
    }

    fn row_problem(&self) -> Option<Problem> {
        let (pixels, steps) = (self.pixels(), self.steps());
        if self.row == 0 || !pixels.is_multiple_of(self.row) {
            let divisors = (1..=pixels).filter(|row| pixels.is_multiple_of(*row)).map(|row| row.to_string());
            let message = format!("does not divide the {pixels} pixels of an image");
            let help = format!("choose one of {}", divisors.collect::<Vec<_>>().join(", "));
            return Some(Problem::new("row", message).help(help));
        }
        let needed = match self.mode {
            Mode::Recognise => 1,
            Mode::Lines => 2,
            Mode::Digits => self.numbers.iter().filter_map(|&number| curves::corners(number)).max().unwrap_or(1),
        };
        let message = format!("makes sequences of {steps} steps, and what is drawn has up to {needed} points");
        let help = format!("choose a divisor of {pixels} that is at most {}", pixels / needed);
        (steps < needed).then(|| Problem::new("row", message).help(help))
    }

    fn numbers_problem(&self) -> Option<Problem> {
        let classes = self.source.classes();
        if let Some(number) = self.numbers.iter().find(|number| usize::from(**number) >= classes) {
            let message = format!("the source has {classes} classes, from 0 to {}, and so no {number}", classes - 1);
            return Some(
                Problem::new("numbers", message).help("for IDX files, `source.classes` is how many there are"),
            );
        }
        let other = self.numbers.iter().find(|number| curves::corners(**number).is_none())?;
        let message = format!("there are drawings of the ten digits, 0 to 9, and none of class {other}");
        let help = "choose digits with `numbers`, or use `mode: lines` or `mode: recognise`";
        (self.mode == Mode::Digits).then(|| Problem::new("numbers", message).help(help))
    }

    fn ends_problem(&self) -> Option<Problem> {
        let (nodes, classes) = (curves::NODES, self.numbers.len());
        let message = format!("the grid has {nodes} nodes, too few for the lines of {classes} classes");
        (self.mode == Mode::Lines && self.ends == Ends::Grid && classes > nodes)
            .then(|| Problem::new("ends", message).help("use `ends: circle`, or choose fewer classes with `numbers`"))
    }

    fn split_problem(&self) -> Option<Problem> {
        let Source::Glyphs(glyphs) = &self.source else { return None };
        let validation = self.validation_size(glyphs.train);
        let message = format!("{} of {} images is none or all of them", self.val_split, glyphs.train);
        let help = "raise `source.train`, or use another share (0: no validation)";
        (self.val_split > 0.0 && (validation == 0 || validation == glyphs.train))
            .then(|| Problem::new("val_split", message).help(help))
    }

    /// Keys that another mode would use.
    fn unused(&self) -> Vec<Problem> {
        let plain = SeqMnist::default();
        let of_lines = [
            (self.ends != plain.ends, "ends", "only lines have ends to choose"),
            (self.radius != plain.radius, "radius", "only lines have a length to choose"),
        ];
        let unused = of_lines.into_iter().filter(|(set, ..)| *set && self.mode != Mode::Lines);
        let still = (self.movement && self.mode == Mode::Recognise).then_some((
            true,
            "movement",
            "a network that names the digit does not move",
        ));
        let help = |key| if key == "movement" { "leave it out, or draw" } else { "leave it out, or use `mode: lines`" };
        unused.chain(still).map(|(_, key, message)| Problem::new(key, message).help(help(key))).collect()
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
            (r#"{"movement": true}"#, Some("movement")),
            (r#"{"movement": true, "mode": "lines"}"#, None),
            (r#"{"movement": true, "mode": "lines", "row": 392}"#, Some("movement")),
            (r#"{"numbers": [3, 10]}"#, Some("numbers")),
            (r#"{"source": {"kind": "idx", "dir": "d", "classes": 26}}"#, None),
            (r#"{"source": {"kind": "idx", "dir": "d", "classes": 26}, "mode": "digits", "row": 7}"#, Some("numbers")),
            (r#"{"source": {"kind": "idx", "dir": "d", "classes": 47}, "mode": "digits", "numbers": [9]}"#, None),
            (r#"{"source": {"kind": "idx", "dir": "d", "classes": 26}, "mode": "lines"}"#, None),
            (
                r#"{"source": {"kind": "idx", "dir": "d", "classes": 17}, "mode": "lines", "ends": "grid"}"#,
                Some("ends"),
            ),
            (r#"{"source": {"kind": "idx", "dir": "d", "side": 32}}"#, Some("row")),
            (r#"{"source": {"kind": "idx", "dir": "d", "side": 32}, "row": 32}"#, None),
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
    fn all_classes_are_used_unless_the_spec_chooses() {
        let read = |text: &str| serde_json::from_str::<SeqMnist>(text).unwrap();
        assert_eq!(read("{}"), SeqMnist::default());
        let letters = read(r#"{"source": {"kind": "idx", "dir": "d", "classes": 26}}"#);
        assert_eq!(letters.numbers, (0..26).collect::<Vec<u8>>());
        // A spec of data like MNIST has the same keys as ever.
        let written = serde_json::to_value(read(r#"{"source": {"kind": "idx", "dir": "d"}}"#)).unwrap();
        assert_eq!(written["source"], serde_json::json!({"kind": "idx", "dir": "d", "use": "train_and_test"}));
        assert_eq!(written["numbers"], serde_json::json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    }

    #[test]
    fn a_share_is_rounded_down_to_whole_images() {
        let size = |val_split, total| SeqMnist { val_split, ..SeqMnist::default() }.validation_size(total);
        assert_eq!([size(0.2, 60_000), size(0.2, 9), size(0.29, 100), size(0.0, 5)], [12_000, 1, 29, 0]);
    }
}
