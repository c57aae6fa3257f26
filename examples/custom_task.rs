//! A custom task in a custom program: delayed addition.
//!
//! Two of the numbers in a sequence are marked; the target is their sum, at the end (after the adding problem of Hochreiter
//! and Schmidhuber, 1997). Full backpropagation through time learns it, truncated does not:
//!
//! ```text
//! cargo run --release --example custom_task -- run examples/delayed_addition.yaml
//! ```

use candle_core::{Device, Tensor};
use ccdni::data::{Batch, BatchIndex, Dataset, Inputs, Metric, Split, Targets};
use ccdni::plugins::Plugin;
use ccdni::rng::Stream;
use ccdni::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
use ccdni::tasks::Task;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Add two marked numbers of a sequence. The fields are the keys under `task`; their doc comments are what `tasks` and
/// editors show.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DelayedAddition {
    /// Steps of a sequence; the numbers to add are in its first half.
    #[schemars(range(min = 4, max = 10_000))]
    steps: usize,
    /// Training batches per epoch.
    #[schemars(range(min = 1))]
    batches: usize,
}

impl Default for DelayedAddition {
    fn default() -> Self {
        DelayedAddition { steps: 20, batches: 50 }
    }
}

impl Plugin for DelayedAddition {
    const KIND: &'static str = "delayed_addition";
    const ABOUT: &'static str = "remember two marked numbers and give their sum at the end";
}

impl Task for DelayedAddition {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Dense { features: 2 },
            target: Target { kind: TargetKind::Values { size: 1 }, when: When::LastStep },
            steps: Some(self.steps),
            validates: true,
        }
    }

    fn open(&self, seed: u64) -> ccdni::Result<Box<dyn Dataset>> {
        Ok(Box::new(Sums { keys: self.clone(), seed }))
    }
}

/// The sequences of one seed.
struct Sums {
    keys: DelayedAddition,
    seed: u64,
}

impl Dataset for Sums {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::squared_distance()]
    }

    fn batches(&self, split: Split, _batch_size: usize) -> usize {
        if split == Split::Train { self.keys.batches } else { 10 }
    }

    fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
        // All randomness comes from a named stream, which makes runs reproducible and resumable.
        let mut stream = Stream::new(self.seed, &format!("data.{:?}", at.split), at.epoch, at.index);
        let (rows, steps, half) = (at.batch_size, self.keys.steps, self.keys.steps / 2);
        let (mut inputs, mut sums) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let first = stream.below(half);
            let second = (first + 1 + stream.below(half - 1)) % half;
            let numbers: Vec<f32> = (0..steps).map(|_| stream.unit()).collect();
            let marked = |step| f32::from(u8::from(step == first || step == second));
            inputs.extend(numbers.iter().enumerate().flat_map(|(step, &number)| [number, marked(step)]));
            sums.push(numbers[first] + numbers[second]);
        }
        Ok(Batch::new(
            Inputs::Dense(Tensor::from_vec(inputs, (rows, steps, 2), &Device::Cpu)?),
            Targets::FinalValues(Tensor::from_vec(sums, (rows, 1), &Device::Cpu)?),
        ))
    }
}

fn main() -> std::process::ExitCode {
    ccdni::App::new().task::<DelayedAddition>().main()
}
