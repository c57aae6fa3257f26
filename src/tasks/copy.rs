//! Copy-repeat (after Graves et al. 2014, as in Pemberton and Costa 2024): a pattern of bits is read once and written several times.
//!
//! Inputs are a start signal (channel `bits`), `N` steps of the pattern (channels `0..bits`) and `repeats / 10` (channel `bits + 1`); all
//! else is 0. The targets of the last `R N + 1` steps are the pattern `R` times, and at the end a stop signal (channel `bits`). The curriculum
//! starts with one step once, and goes on after a batch whose loss is below `threshold` bits: to one repeat more, or with as
//! many repeats as steps to a longer pattern: (N, R) = (1, 1) (2, 1) (2, 2) (3, 2) ... What has been mastered is how far it goes.

use std::f64::consts::LN_2;

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::data::{Batch, Curriculum, Dataset, Generated, Inputs, Metric, Sequences, Targets};
use crate::error::Result;
use crate::plugins::Plugin;
use crate::rng::Stream;
use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};

/// The number of repeats is shown divided by this.
const REPEATS_SCALE: f32 = 10.0;

/// Write a pattern several times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CopyRepeat {
    /// Bits per step of the pattern.
    #[schemars(range(min = 1, max = 10_000))]
    pub bits: usize,
    /// Steps of the pattern, at the start of the curriculum.
    #[schemars(range(min = 1, max = 10_000))]
    pub length: usize,
    /// How often it is written, at the start of the curriculum.
    #[schemars(range(min = 1, max = 10_000))]
    pub repeats: usize,
    /// Whether patterns become longer and repeats more as training goes on.
    pub curriculum: bool,
    /// Mean loss of a batch, in bits, below which the curriculum goes on.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub threshold: f64,
    /// Training sequences per epoch, rounded up to whole batches.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub train_size: usize,
}

impl Default for CopyRepeat {
    fn default() -> Self {
        CopyRepeat { bits: 8, length: 1, repeats: 1, curriculum: true, threshold: 0.15, train_size: 1000 }
    }
}

impl CopyRepeat {
    /// Length of the pattern and number of repeats at a level of the curriculum.
    fn pattern(&self, level: usize) -> (usize, usize) {
        let harder = |(length, repeats): (usize, usize), _| match repeats < length {
            true => (length, repeats + 1),
            false => (length + 1, repeats),
        };
        (0..level).fold((self.length, self.repeats), harder)
    }
}

/// Steps of a sequence: start, pattern, number of repeats, repeats, stop.
fn steps((length, repeats): (usize, usize)) -> usize {
    (repeats + 1) * length + 3
}

impl Plugin for CopyRepeat {
    const KIND: &'static str = "copy";
    const ABOUT: &'static str = "write a pattern of bits several times, with a curriculum";
}

impl Task for CopyRepeat {
    fn shape(&self) -> TaskShape {
        let steps = (!self.curriculum).then(|| steps((self.length, self.repeats)));
        TaskShape {
            input: Input::Dense { features: self.bits + 2 },
            target: Target { kind: TargetKind::Bits { size: self.bits + 1 }, when: When::LastSteps },
            steps,
            validates: false,
        }
    }

    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Generated { seed, train: self.train_size, validation: 0, test: 0, sequences: self.clone() }))
    }
}

impl Curriculum for CopyRepeat {
    fn is_mastered(&self, _level: usize, loss: f64) -> bool {
        loss / LN_2 < self.threshold
    }

    fn columns(&self, level: usize) -> Vec<(&'static str, f64)> {
        let (length, repeats) = self.pattern(level);
        vec![("length", length as f64), ("repeats", repeats as f64), ("steps", steps((length, repeats)) as f64)]
    }
}

impl Sequences for CopyRepeat {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::bits()]
    }

    fn draw(&self, stream: &mut Stream, rows: usize, level: usize) -> Result<Batch> {
        let (bits, pattern @ (length, repeats)) = (self.bits, self.pattern(level));
        let (steps, written, inputs_width, targets_width) = (steps(pattern), repeats * length + 1, bits + 2, bits + 1);
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let drawn: Vec<f32> = (0..length * bits).map(|_| stream.below(2) as f32).collect();
            let mut input = vec![0.0; steps * inputs_width];
            let mut target = vec![0.0; written * targets_width];
            input[bits] = 1.0;
            input[(length + 1) * inputs_width + bits + 1] = repeats as f32 / REPEATS_SCALE;
            for (step, shown) in drawn.chunks_exact(bits).enumerate() {
                input[(step + 1) * inputs_width..][..bits].copy_from_slice(shown);
                for repeat in 0..repeats {
                    target[(repeat * length + step) * targets_width..][..bits].copy_from_slice(shown);
                }
            }
            target[(written - 1) * targets_width + bits] = 1.0;
            inputs.extend(input);
            targets.extend(target);
        }
        let inputs = Tensor::from_vec(inputs, (rows, steps, inputs_width), &Device::Cpu)?;
        let targets = Tensor::from_vec(targets, (rows, written, targets_width), &Device::Cpu)?;
        Ok(Batch::new(Inputs::Dense(inputs), Targets::Values(targets)))
    }

    fn curriculum(&self) -> Option<&dyn Curriculum> {
        self.curriculum.then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Draws, check_task};

    #[test]
    fn it_conforms() -> Result<()> {
        check_task::<CopyRepeat>(json!({ "train_size": 6 }), Draws::BySeed)?;
        let fixed = json!({ "train_size": 6, "bits": 3, "length": 4, "repeats": 2, "curriculum": false });
        check_task::<CopyRepeat>(fixed, Draws::BySeed)
    }

    #[test]
    fn the_curriculum_is_that_of_the_source() {
        let levels: Vec<_> = (0..7).map(|level| CopyRepeat::default().pattern(level)).collect();
        assert_eq!(levels, [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (4, 3), (4, 4)]);
        let data = CopyRepeat::default();
        assert!(data.is_mastered(3, 0.149 * LN_2) && !data.is_mastered(3, 0.15 * LN_2));
        assert_eq!(data.columns(1), [("length", 2.0), ("repeats", 1.0), ("steps", 7.0)]);
    }

    #[test]
    fn targets_are_the_pattern_repeated_and_a_stop_signal() -> Result<()> {
        let spec = CopyRepeat { bits: 2, length: 3, repeats: 2, ..CopyRepeat::default() };
        let batch = spec.draw(&mut Stream::new(1, "data.train", 1, 0), 8, 0)?;
        let (Inputs::Dense(inputs), Targets::Values(targets)) = (batch.inputs, batch.targets) else {
            panic!("numbers");
        };
        assert_eq!((inputs.dims(), targets.dims()), (&[8, 12, 4][..], &[8, 7, 3][..]));
        for (input, target) in inputs.to_vec3::<f32>()?.iter().zip(targets.to_vec3::<f32>()?) {
            assert_eq!((&input[0], &input[4]), (&vec![0., 0., 1., 0.], &vec![0., 0., 0., 0.2]));
            assert!(input[5..].iter().flatten().all(|x| *x == 0.0));
            for (step, target) in target[..6].iter().enumerate() {
                assert_eq!((&target[..2], target[2]), (&input[1 + step % 3][..2], 0.0));
            }
            assert_eq!(target[6], [0., 0., 1.]);
        }
        Ok(())
    }
}
