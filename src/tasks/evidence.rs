//! Accumulation of evidence: puffs on two cheeks, and after an optional delay the answer which cheek had more of them.
//!
//! At each step of the stimulus there is a puff with probability `density`, on the left or the right with equal odds: channel 0
//! or channel 1 is 1. The last step's target is 0 (left), 1 (right) or 2 (as many on both).

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::data::{Batch, Dataset, Generated, Inputs, Metric, Sequences, Targets};
use crate::error::Result;
use crate::plugins::Plugin;
use crate::rng::Stream;
use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};

/// Which cheek had more puffs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// Steps with puffs.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub stimulus: usize,
    /// Silent steps between the stimulus and the answer.
    #[schemars(range(max = 1_000_000))]
    pub delay: usize,
    /// Probability of a puff at a step.
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1.0))]
    pub density: f64,
    /// Training sequences per epoch, rounded up to whole batches.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub train_size: usize,
    /// Validation sequences; 0 for none.
    #[schemars(range(max = 100_000_000))]
    pub validation_size: usize,
    /// Test sequences; 0 for none.
    #[schemars(range(max = 100_000_000))]
    pub test_size: usize,
}

impl Default for Evidence {
    fn default() -> Self {
        Evidence { stimulus: 20, delay: 0, density: 0.5, train_size: 1000, validation_size: 500, test_size: 1000 }
    }
}

impl Evidence {
    /// One step more, in which the answer is given.
    fn steps(&self) -> usize {
        self.stimulus + self.delay + 1
    }
}

impl Plugin for Evidence {
    const KIND: &'static str = "evidence";
    const ABOUT: &'static str = "accumulate puffs on two cheeks, and answer which had more";
}

impl Task for Evidence {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Dense { features: 2 },
            target: Target { kind: TargetKind::Classes { count: 3 }, when: When::LastStep },
            steps: Some(self.steps()),
            validates: self.validation_size > 0,
        }
    }

    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Generated {
            seed,
            train: self.train_size,
            validation: self.validation_size,
            test: self.test_size,
            sequences: self.clone(),
        }))
    }
}

impl Sequences for Evidence {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::accuracy(), Metric::nll()]
    }

    fn draw(&self, stream: &mut Stream, rows: usize, _: usize) -> Result<Batch> {
        let steps = self.steps();
        let mut inputs = vec![0f32; rows * steps * 2];
        let mut answers = Vec::with_capacity(rows);
        for row in inputs.chunks_exact_mut(steps * 2) {
            let mut counts = [0usize; 2];
            for puff in row.chunks_exact_mut(2).take(self.stimulus) {
                if f64::from(stream.unit()) < self.density {
                    let cheek = stream.below(2);
                    puff[cheek] = 1.0;
                    counts[cheek] += 1;
                }
            }
            answers.push(match counts[0].cmp(&counts[1]) {
                std::cmp::Ordering::Greater => 0u32,
                std::cmp::Ordering::Less => 1,
                std::cmp::Ordering::Equal => 2,
            });
        }
        let inputs = Tensor::from_vec(inputs, (rows, steps, 2), &Device::Cpu)?;
        Ok(Batch::new(Inputs::Dense(inputs), Targets::FinalClass(Tensor::from_vec(answers, rows, &Device::Cpu)?)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Draws, check_task};

    #[test]
    fn it_conforms() -> Result<()> {
        let small = json!({ "stimulus": 4, "delay": 2, "train_size": 6, "validation_size": 3, "test_size": 3 });
        check_task::<Evidence>(small, Draws::BySeed)
    }

    #[test]
    fn the_answer_is_the_cheek_with_more_puffs() -> Result<()> {
        let spec = Evidence { stimulus: 10, delay: 3, density: 0.4, ..Evidence::default() };
        let batch = spec.draw(&mut Stream::new(1, "data.train", 1, 0), 2000, 0)?;
        let (Inputs::Dense(inputs), Targets::FinalClass(answers)) = (batch.inputs, batch.targets) else {
            panic!("dense inputs and a class at the end");
        };
        let mut puffs = 0.0;
        let mut seen = [0usize; 3];
        for (row, answer) in inputs.to_vec3::<f32>()?.iter().zip(answers.to_vec1::<u32>()?) {
            let count = |cheek: usize| row.iter().map(|step| step[cheek]).sum::<f32>();
            assert!(row.iter().all(|step| step[0] + step[1] <= 1.0), "one cheek at a time");
            assert!(row[10..].iter().all(|step| step == &[0.0, 0.0]), "a silent delay");
            let expected = [count(0) > count(1), count(0) < count(1), count(0) == count(1)];
            assert!(expected[answer as usize], "{} {} {answer}", count(0), count(1));
            puffs += count(0) + count(1);
            seen[answer as usize] += 1;
        }
        assert!((puffs / 20_000.0 - 0.4).abs() < 0.02, "{puffs}");
        assert!(seen[0].abs_diff(seen[1]) < 200 && seen[2] > 100, "{seen:?}");
        Ok(())
    }
}
