//! Line drawing (Pemberton, Boven et al., NeurIPS 2021, Fig. 2): a cue at the first step selects the line to draw.
//!
//! Point 0 is the origin ("stay"); point `j >= 1` of `n` lies on a circle of radius `r` at `(r sin a, r cos a)` with
//! `a = 2 pi (j - 1) / (n - 1)`. Cue 0 selects the origin; the other cues, ascending, select the points in descending order.
//! Step `t` of `T` is `t / (T - 1)` of the way from the origin to the point.

use std::f64::consts::TAU;

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::data::movement;
use crate::data::{Batch, BatchIndex, Dataset, Inputs, Metric, Showcase, Split, Targets};
use crate::error::{Problem, Result};
use crate::plugins::Plugin;
use crate::rng::Stream;
use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};

/// Factor from a cue to its input.
const CUE_SCALE: f64 = 0.1;

/// Rows of a test batch: bounds memory without affecting metrics.
const TEST_BATCH: usize = 1000;

/// Draws a straight line to the point that a cue selects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LineDraw {
    /// Number of points, each with its cue: the origin ("stay"), the others evenly spaced on a circle.
    #[schemars(range(min = 1, max = 10_000))]
    pub points: usize,
    /// Steps of a line, both ends included.
    #[schemars(range(min = 2, max = 100_000))]
    pub seq_len: usize,
    /// Radius of the circle.
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1e6))]
    pub radius: f64,
    /// Sequences per epoch: for training, rounded up to whole batches, and for validation.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub train_size: usize,
    /// Test sequences; 0 for none.
    #[schemars(range(max = 100_000_000))]
    pub test_size: usize,
    /// Fraction of `train_size` for validation.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub val_split: f64,
    /// Standard deviation of the noise on the input, from the second step on, in training and validation.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub train_noise: f64,
    /// Standard deviation of the noise on the input, from the second step on, in the test.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub test_noise: f64,
    /// Draw the sequences once, rather than anew in every epoch.
    pub fixed_data: bool,
    /// Adds measures of the movement to the metrics: `dysmetria`, `sparc` and `jerk`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub movement: bool,
}

impl Default for LineDraw {
    fn default() -> Self {
        LineDraw {
            points: 7,
            seq_len: 10,
            radius: 10.0,
            train_size: 1000,
            test_size: 10_000,
            val_split: 0.2,
            train_noise: 0.0,
            test_noise: 0.0,
            fixed_data: false,
            movement: false,
        }
    }
}

impl LineDraw {
    /// Number of validation sequences.
    fn validation_size(&self) -> usize {
        (self.train_size as f64 * self.val_split).round() as usize
    }

    /// The cues in ascending order: one per point, centred on zero, without the lowest if the number is even.
    fn cues(&self) -> impl Iterator<Item = i64> {
        let half = (self.points / 2) as i64;
        let dropped = i64::from(self.points.is_multiple_of(2));
        dropped - half..=half
    }

    /// The end of each cue's line, in the order of [`Self::cues`].
    fn ends(&self) -> Vec<[f64; 2]> {
        // Point 1 is straight up, the next clockwise.
        let mut circle = (1..self.points).rev().map(|point| {
            let angle = TAU * (point - 1) as f64 / (self.points - 1) as f64;
            [self.radius * angle.sin(), self.radius * angle.cos()]
        });
        self.cues().map(|cue| if cue == 0 { [0.0; 2] } else { circle.next().unwrap_or_default() }).collect()
    }
}

impl Plugin for LineDraw {
    const KIND: &'static str = "linedraw";
    const ABOUT: &'static str = "draw a straight line to the point that a cue at the first step names";

    fn check(&self) -> Vec<Problem> {
        let too_short = movement::too_short(self.movement, self.seq_len);
        let validation = self.validation_size();
        let message = if validation >= self.train_size {
            "leaves no sequence to train with"
        } else if validation == 0 && self.val_split > 0.0 {
            "is less than half a sequence"
        } else {
            return too_short.into_iter().collect();
        };
        let message = format!("{} of `train_size` {} {message}", self.val_split, self.train_size);
        let problem = Problem::new("val_split", message);
        let problem = problem.help("raise `train_size`, or use another share (0: no validation)");
        too_short.into_iter().chain([problem]).collect()
    }
}

impl Task for LineDraw {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Dense { features: 1 },
            target: Target { kind: TargetKind::Values { size: 2 }, when: When::EveryStep },
            steps: Some(self.seq_len),
            validates: self.validation_size() > 0,
        }
    }

    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Lines { spec: self.clone(), ends: self.ends(), seed }))
    }
}

/// The data of one seed.
struct Lines {
    spec: LineDraw,
    /// Ends of the lines, by ascending cue.
    ends: Vec<[f64; 2]>,
    seed: u64,
}

impl Lines {
    /// The sequences of the cues at these indices, without noise.
    fn draw(&self, indices: &[usize]) -> Result<(Vec<f32>, Tensor)> {
        let (rows, steps) = (indices.len(), self.spec.seq_len);
        let cues: Vec<i64> = self.spec.cues().collect();
        let mut inputs = vec![0f32; rows * steps]; // [rows, steps]
        let mut targets = Vec::with_capacity(rows * steps * 2); // [rows, steps, 2]
        for (row, &index) in indices.iter().enumerate() {
            inputs[row * steps] = (CUE_SCALE * cues[index] as f64) as f32;
            for step in 0..steps {
                let way = step as f64 / (steps - 1) as f64;
                targets.extend(self.ends[index].map(|coordinate| (way * coordinate) as f32));
            }
        }
        Ok((inputs, Tensor::from_vec(targets, (rows, steps, 2), &Device::Cpu)?))
    }

    fn batch_of(&self, (inputs, targets): (Vec<f32>, Tensor)) -> Result<Batch> {
        let shape = (targets.dim(0)?, self.spec.seq_len, 1);
        Ok(Batch::new(Inputs::Dense(Tensor::from_vec(inputs, shape, &Device::Cpu)?), Targets::Values(targets)))
    }
}

impl Dataset for Lines {
    fn metrics(&self) -> Vec<Metric> {
        let movement = self.spec.movement.then(movement::metrics).into_iter().flatten();
        std::iter::once(Metric::squared_distance()).chain(movement).collect()
    }

    fn batches(&self, split: Split, batch_size: usize) -> usize {
        match split {
            Split::Train => (self.spec.train_size - self.spec.validation_size()).div_ceil(batch_size),
            Split::Validation => usize::from(self.spec.validation_size() > 0),
            Split::Test => self.spec.test_size.div_ceil(TEST_BATCH),
        }
    }

    fn batch(&self, at: BatchIndex) -> Result<Batch> {
        let (purpose, rows, noise) = match at.split {
            // Full batches only, as in the original.
            Split::Train => ("data.train", at.batch_size, self.spec.train_noise),
            Split::Validation => ("data.validation", self.spec.validation_size(), self.spec.train_noise),
            Split::Test => {
                let left = self.spec.test_size.saturating_sub(at.index * TEST_BATCH);
                ("data.test", left.min(TEST_BATCH), self.spec.test_noise)
            }
        };
        let epoch = if self.spec.fixed_data { 0 } else { at.epoch };
        let mut stream = Stream::new(self.seed, purpose, epoch, at.index);

        // All cues are drawn before any noise, so that specs that differ only in noise have the same lines.
        let indices: Vec<usize> = (0..rows).map(|_| stream.below(self.spec.points)).collect();
        if noise == 0.0 {
            // Sequences of the same cue share a row.
            let mut distinct = indices.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let row = |index: &usize| distinct.binary_search(index).unwrap_or_default() as u32;
            let rows = indices.iter().map(row).collect();
            let Batch { inputs, targets, .. } = self.batch_of(self.draw(&distinct)?)?;
            return Ok(Batch::repeating(inputs, targets, rows));
        }
        let (mut inputs, targets) = self.draw(&indices)?;
        for row in inputs.chunks_mut(self.spec.seq_len) {
            for input in &mut row[1..] {
                *input = noise as f32 * stream.normal();
            }
        }
        self.batch_of((inputs, targets))
    }

    fn showcase(&self) -> Result<Option<Showcase>> {
        let indices: Vec<usize> = (0..self.spec.points).collect();
        let labels = self.spec.cues().map(|cue| format!("cue {cue}")).collect();
        Ok(Some(Showcase { batch: self.batch_of(self.draw(&indices)?)?, labels, images: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(change: impl FnOnce(&mut LineDraw)) -> LineDraw {
        let mut spec = LineDraw::default();
        change(&mut spec);
        spec
    }

    fn open(seed: u64, change: impl FnOnce(&mut LineDraw)) -> Box<dyn Dataset> {
        spec(change).open(seed).unwrap()
    }

    /// Inputs `[rows][steps]` and end points of a batch of 50.
    fn drawn(data: &dyn Dataset, split: Split, epoch: usize, index: usize) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let batch =
            data.batch(BatchIndex { split, epoch, index, batch_size: 50, level: 0 }).unwrap().expanded().unwrap();
        let (Inputs::Dense(inputs), Targets::Values(targets)) = (batch.inputs, batch.targets) else {
            panic!("dense inputs and values");
        };
        let last = targets.dim(1).unwrap() - 1;
        let ends = targets.narrow(1, last, 1).unwrap().squeeze(1).unwrap();
        (inputs.squeeze(2).unwrap().to_vec2().unwrap(), ends.to_vec2().unwrap())
    }

    #[test]
    fn an_even_number_of_points_drops_the_lowest_cue() {
        let four = spec(|s| s.points = 4);
        assert_eq!(four.cues().collect::<Vec<_>>(), [-1, 0, 1, 2]);
        let ends = four.ends();
        assert_eq!(ends[1], [0.0, 0.0]);
        assert!((ends[3][1] - 10.0).abs() < 1e-9, "the highest cue is straight up: {ends:?}");
        assert_eq!(spec(|s| s.points = 2).cues().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(spec(|s| s.points = 1).ends(), [[0.0, 0.0]]);
    }

    #[test]
    fn sizes_are_those_of_the_original() {
        let data = open(1, |_| {});
        let batches = [Split::Train, Split::Validation, Split::Test].map(|split| data.batches(split, 50));
        assert_eq!(batches, [16, 1, 10]);
        assert_eq!(data.batches(Split::Train, 300), 3, "rounded up to whole batches");
        assert_eq!(drawn(&*data, Split::Train, 1, 15).0.len(), 50);
        assert_eq!(drawn(&*data, Split::Validation, 1, 0).0.len(), 200);
        assert_eq!(drawn(&*data, Split::Test, 0, 9).0.len(), 1000);
        let odd = open(1, |s| (s.test_size, s.val_split) = (1500, 0.0));
        assert_eq!((odd.batches(Split::Test, 50), odd.batches(Split::Validation, 50)), (2, 0));
        assert_eq!(drawn(&*odd, Split::Test, 0, 1).0.len(), 500);
    }

    #[test]
    fn noise_spares_the_cue_and_has_the_given_deviation() {
        let [quiet, noisy] = [0.0, 0.5].map(|noise| open(3, |s| (s.train_noise, s.seq_len) = (noise, 101)));
        let ((clean, ends), (inputs, noisy_ends)) =
            (drawn(&*quiet, Split::Train, 1, 0), drawn(&*noisy, Split::Train, 1, 0));
        assert_eq!(ends, noisy_ends);
        let noise: Vec<f64> = inputs.iter().flat_map(|row| &row[1..]).map(|&x| f64::from(x)).collect();
        let deviation = (noise.iter().map(|x| x * x).sum::<f64>() / noise.len() as f64).sqrt();
        assert!((deviation - 0.5).abs() < 0.02, "{deviation}");
        assert!(inputs.iter().zip(&clean).all(|(noisy, clean)| noisy[0] == clean[0]));
        assert!(clean.iter().all(|row| row[1..].iter().all(|&x| x == 0.0)));
        let validation = drawn(&*noisy, Split::Validation, 1, 0).0;
        assert!(validation[0][1] != 0.0, "validation has the training noise");
        assert!(drawn(&*noisy, Split::Test, 0, 0).0.iter().all(|row| row[1] == 0.0), "and the test its own");
    }

    #[test]
    fn without_noise_each_cue_is_one_row() {
        let rows = |noise| {
            let data = open(1, |s| s.train_noise = noise);
            let batch =
                data.batch(BatchIndex { split: Split::Train, epoch: 1, index: 0, batch_size: 50, level: 0 }).unwrap();
            (batch.rows().unwrap(), batch.sequences().unwrap())
        };
        assert_eq!((rows(0.0), rows(0.1)), ((7, 50), (50, 50)));
    }

    #[test]
    fn every_epoch_is_drawn_anew_unless_the_data_are_fixed() {
        let inputs = |data: &dyn Dataset, split, epoch| drawn(data, split, epoch, 0).0;
        let (fresh, fixed) = (open(1, |_| {}), open(1, |s| s.fixed_data = true));
        for split in [Split::Train, Split::Validation] {
            assert_ne!(inputs(&*fresh, split, 1), inputs(&*fresh, split, 2));
            assert_eq!(inputs(&*fixed, split, 1), inputs(&*fixed, split, 2));
        }
        assert_ne!(inputs(&*fresh, Split::Train, 1), inputs(&*open(2, |_| {}), Split::Train, 1));
        assert_ne!(inputs(&*fixed, Split::Train, 1), drawn(&*fixed, Split::Train, 1, 1).0);
    }

    #[test]
    fn cues_are_uniform() {
        let data = open(1, |_| {});
        let mut counts = [0usize; 7];
        for index in 0..10 {
            for row in drawn(&*data, Split::Test, 0, index).0 {
                counts[(3.0 + row[0] * 10.0).round() as usize] += 1;
            }
        }
        assert!(counts.iter().all(|&count| count.abs_diff(1429) < 150), "{counts:?}");
    }

    #[test]
    fn a_share_that_leaves_nothing_is_a_problem() {
        for (train_size, val_split, problems) in [(1000, 0.2, 0), (1, 0.9, 1), (2, 0.2, 1), (2, 0.0, 0), (2, 0.5, 0)] {
            let spec = spec(|s| (s.train_size, s.val_split) = (train_size, val_split));
            assert_eq!(spec.check().len(), problems, "{val_split} of {train_size}");
        }
    }
}
