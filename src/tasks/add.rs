//! The Add task (Marschall, Cho and Savin 2020, after Pitis 2016): labels depend on bits that were seen some steps before.
//!
//! `x_t` is a fair bit, and the label of step t is 1 with probability `0.5 + 0.5 x_{t - first_lag} - 0.25 x_{t - second_lag}`. The lags
//! wrap around: the first steps depend on bits that come at the sequence's end. The best cross-entropy is 0.4545 nats with a
//! memory of both bits, 0.5192 with the first alone, 0.6277 with the second alone, and 0.6616 without a memory.

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::data::{Batch, Dataset, Generated, Inputs, Metric, Sequences, Targets};
use crate::error::{Problem, Result};
use crate::plugins::Plugin;
use crate::rng::Stream;
use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};

/// Labels that depend on earlier bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Add {
    /// Steps of a sequence.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub seq_len: usize,
    /// Lag of the bit that raises the odds of the label, in held bits.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub first_lag: usize,
    /// Lag of the bit that lowers them.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub second_lag: usize,
    /// Steps for which a bit and its label are held.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub hold: usize,
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

impl Default for Add {
    fn default() -> Self {
        Add { seq_len: 100, first_lag: 5, second_lag: 9, hold: 1, train_size: 100, validation_size: 20, test_size: 100 }
    }
}

impl Plugin for Add {
    const KIND: &'static str = "add";
    const ABOUT: &'static str = "predict labels whose odds depend on two earlier bits";

    fn check(&self) -> Vec<Problem> {
        let bits = self.seq_len.div_ceil(self.hold);
        let lags = [("first_lag", self.first_lag), ("second_lag", self.second_lag)];
        let too_long = lags.into_iter().filter(|(_, lag)| *lag >= bits).map(|(key, lag)| {
            let message = format!("a sequence has {bits} bits, so none is {lag} before another");
            Problem::new(key, message).help("choose a shorter lag, or a longer sequence (`seq_len`)")
        });
        too_long.collect()
    }
}

impl Task for Add {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Dense { features: 2 },
            target: Target { kind: TargetKind::Classes { count: 2 }, when: When::EveryStep },
            steps: Some(self.seq_len),
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

impl Add {
    /// Inputs and labels of one sequence, step by step.
    fn sequence(&self, stream: &mut Stream) -> (Vec<f32>, Vec<u32>) {
        let count = self.seq_len.div_ceil(self.hold);
        let bits: Vec<u32> = (0..count).map(|_| stream.below(2) as u32).collect();
        let before = |at: usize, lag: usize| bits[(at + count - lag) % count] as f32;
        let odds = |at: usize| 0.5 + 0.5 * before(at, self.first_lag) - 0.25 * before(at, self.second_lag);
        let labels: Vec<u32> = (0..count).map(|at| u32::from(stream.unit() < odds(at))).collect();
        let held = |step: usize| step / self.hold;
        let inputs = (0..self.seq_len).flat_map(|step| [bits[held(step)] as f32, 1.0 - bits[held(step)] as f32]);
        (inputs.collect(), (0..self.seq_len).map(|step| labels[held(step)]).collect())
    }
}

impl Sequences for Add {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::nll(), Metric::accuracy()]
    }

    fn draw(&self, stream: &mut Stream, rows: usize, _: usize) -> Result<Batch> {
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let (more_inputs, more_labels) = self.sequence(stream);
            inputs.extend(more_inputs);
            labels.extend(more_labels);
        }
        let inputs = Tensor::from_vec(inputs, (rows, self.seq_len, 2), &Device::Cpu)?;
        let labels = Tensor::from_vec(labels, (rows, self.seq_len), &Device::Cpu)?;
        Ok(Batch::new(Inputs::Dense(inputs), Targets::Classes(labels)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Draws, check_task};

    #[test]
    fn it_conforms() -> Result<()> {
        let small = json!({ "seq_len": 12, "train_size": 6, "validation_size": 3, "test_size": 3 });
        check_task::<Add>(small.clone(), Draws::BySeed)?;
        let mut held = small;
        (held["hold"], held["first_lag"], held["second_lag"]) = (json!(5), json!(1), json!(2));
        check_task::<Add>(held, Draws::BySeed)
    }

    /// The mean cross-entropy of the true odds given the bits that are remembered.
    fn best(first: bool, second: bool) -> Result<f64> {
        let spec = Add::default();
        let batch = spec.draw(&mut Stream::new(1, "data.train", 1, 0), 3000, 0)?;
        let (Inputs::Dense(inputs), Targets::Classes(labels)) = (batch.inputs, batch.targets) else {
            return Ok(f64::NAN);
        };
        let (inputs, labels) = (inputs.to_vec3::<f32>()?, labels.to_vec2::<u32>()?);
        let (mut sum, mut count) = (0.0, 0.0);
        for (inputs, labels) in inputs.iter().zip(labels) {
            for (step, label) in labels.into_iter().enumerate() {
                let bit = |lag: usize| f64::from(inputs[(step + spec.seq_len - lag) % spec.seq_len][0]);
                let known = |is_known: bool, lag: usize| if is_known { bit(lag) } else { 0.5 };
                let odds = 0.5 + 0.5 * known(first, spec.first_lag) - 0.25 * known(second, spec.second_lag);
                sum -= if label == 1 { odds.ln() } else { (1.0 - odds).ln() };
                count += 1.0;
            }
        }
        Ok(sum / count)
    }

    #[test]
    fn the_best_losses_are_those_of_the_task() -> Result<()> {
        for ((first, second), expected) in
            [((false, false), 0.6616), ((false, true), 0.6277), ((true, false), 0.5192), ((true, true), 0.4545)]
        {
            let found = best(first, second)?;
            assert!((found - expected).abs() < 0.005, "{first} {second}: {found}, expected {expected}");
        }
        Ok(())
    }

    #[test]
    fn a_lag_beyond_the_sequence_is_a_problem() {
        let keys = |hold, first_lag| Add { seq_len: 20, hold, first_lag, ..Add::default() };
        assert!(keys(1, 19).check().is_empty());
        assert_eq!(keys(1, 20).check()[0].key, "first_lag");
        assert_eq!(keys(4, 5).check().len(), 2);
    }
}
