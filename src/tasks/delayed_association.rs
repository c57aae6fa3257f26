//! Delayed association: a cue, a delay, and the answer that belongs to the cue.
//!
//! One of `cues` channels is 1 for the first `cue_steps` steps; noise may be added to all steps. The last step, `delay` steps later, has the go
//! signal (the last channel), and the class that is associated with the cue as its target. Which answer belongs to which cue is drawn
//! for each seed, with as many cues for every answer as possible.

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::data::{Batch, Dataset, Generated, Inputs, Metric, Sequences, Targets};
use crate::error::{Problem, Result};
use crate::plugins::Plugin;
use crate::rng::Stream;
use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};

/// The answer that belongs to a cue, after a delay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DelayedAssociation {
    /// Number of cues.
    #[schemars(range(min = 2, max = 10_000))]
    pub cues: usize,
    /// Number of answers.
    #[schemars(range(min = 2, max = 10_000))]
    pub answers: usize,
    /// Steps for which a cue is shown.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub cue_steps: usize,
    /// Steps between the cue and the go signal.
    #[schemars(range(max = 1_000_000))]
    pub delay: usize,
    /// Standard deviation of the noise on the input.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub noise: f64,
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

impl Default for DelayedAssociation {
    fn default() -> Self {
        DelayedAssociation {
            cues: 8,
            answers: 4,
            cue_steps: 1,
            delay: 20,
            noise: 0.1,
            train_size: 1000,
            validation_size: 500,
            test_size: 1000,
        }
    }
}

impl Plugin for DelayedAssociation {
    const KIND: &'static str = "delayed_association";
    const ABOUT: &'static str = "answer, after a delay, with what belongs to a cue";

    fn check(&self) -> Vec<Problem> {
        if self.answers <= self.cues {
            return Vec::new();
        }
        let message = format!("there are {} cues, so some answer would belong to none", self.cues);
        vec![Problem::new("answers", message).help("choose at most as many answers as cues")]
    }
}

impl Task for DelayedAssociation {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Dense { features: self.cues + 1 },
            target: Target { kind: TargetKind::Classes { count: self.answers }, when: When::LastStep },
            steps: Some(self.cue_steps + self.delay + 1),
            validates: self.validation_size > 0,
        }
    }

    fn open(&self, seed: u64) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Generated {
            seed,
            train: self.train_size,
            validation: self.validation_size,
            test: self.test_size,
            sequences: Trials::new(self.clone(), seed),
        }))
    }
}

struct Trials {
    spec: DelayedAssociation,
    /// The answer of each cue.
    answers: Vec<u32>,
}

impl Trials {
    fn new(spec: DelayedAssociation, seed: u64) -> Trials {
        let mut answers: Vec<u32> = (0..spec.cues).map(|cue| (cue % spec.answers) as u32).collect();
        Stream::new(seed, "data.associations", 0, 0).shuffle(&mut answers);
        Trials { spec, answers }
    }
}

impl Sequences for Trials {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::accuracy(), Metric::nll()]
    }

    fn draw(&self, stream: &mut Stream, rows: usize, _: usize) -> Result<Batch> {
        let DelayedAssociation { cues, cue_steps, delay, noise, .. } = self.spec;
        let (steps, width) = (cue_steps + delay + 1, cues + 1);
        let mut inputs = vec![0f32; rows * steps * width];
        let mut answers = Vec::with_capacity(rows);
        for row in inputs.chunks_exact_mut(steps * width) {
            let cue = stream.below(cues);
            row.chunks_exact_mut(width).take(cue_steps).for_each(|step| step[cue] = 1.0);
            row[steps * width - 1] = 1.0;
            if noise > 0.0 {
                row.iter_mut().for_each(|x| *x += noise as f32 * stream.normal());
            }
            answers.push(self.answers[cue]);
        }
        let inputs = Tensor::from_vec(inputs, (rows, steps, width), &Device::Cpu)?;
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
        let small =
            json!({ "cues": 3, "answers": 2, "delay": 2, "train_size": 6, "validation_size": 3, "test_size": 3 });
        check_task::<DelayedAssociation>(small, Draws::BySeed)
    }

    #[test]
    fn every_cue_has_one_answer_and_every_answer_as_many_cues() -> Result<()> {
        let spec = DelayedAssociation { cue_steps: 2, delay: 3, noise: 0.0, ..DelayedAssociation::default() };
        let data = Trials::new(spec, 1);
        let mut counts = [0; 4];
        data.answers.iter().for_each(|&answer| counts[answer as usize] += 1);
        assert_eq!(counts, [2; 4]);
        assert_ne!(data.answers, Trials::new(data.spec.clone(), 2).answers, "drawn for each seed");
        let batch = data.draw(&mut Stream::new(1, "data.train", 1, 0), 100, 0)?;
        let (Inputs::Dense(inputs), Targets::FinalClass(answers)) = (batch.inputs, batch.targets) else {
            panic!("dense inputs and a class at the end");
        };
        for (row, answer) in inputs.to_vec3::<f32>()?.iter().zip(answers.to_vec1::<u32>()?) {
            let cue = row[0].iter().position(|x| *x == 1.0).unwrap();
            assert_eq!((&row[0], row[0].iter().sum::<f32>()), (&row[1], 1.0));
            assert!(row[2..5].iter().flatten().all(|x| *x == 0.0), "a silent delay");
            assert_eq!((row[5][8], row[5].iter().sum::<f32>()), (1.0, 1.0), "the go signal");
            assert_eq!(data.answers[cue], answer);
        }
        Ok(())
    }

    #[test]
    fn more_answers_than_cues_are_a_problem() {
        let keys = DelayedAssociation { cues: 3, answers: 4, ..DelayedAssociation::default() };
        assert_eq!(keys.check()[0].key, "answers");
    }
}
