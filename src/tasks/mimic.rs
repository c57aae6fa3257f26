//! The Mimic task (Marschall, Cho and Savin 2020): reproduce the outputs of a fixed random recurrent network on the same inputs.
//!
//! Inputs are independent bits, held for some steps. The teacher is a network of leaky rate units,
//! `a' = (1 - 1/tau) a + (1/tau) tanh(W a + W_in x)`, `y = W_out a'`, that starts from `a = 0`. Its weights are drawn for each seed: W orthogonal,
//! those of W_in and W_out normal with variances 1/inputs and 1/hidden.

use candle_core::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Task;
use crate::data::{Batch, Dataset, Generated, Inputs, Metric, Sequences, Targets};
use crate::error::{Problem, Result};
use crate::nn::init;
use crate::plugins::Plugin;
use crate::rng::Stream;
use crate::spec::Init;
use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};

/// The outputs of another network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mimic {
    /// Steps of a sequence.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub seq_len: usize,
    /// Inputs of the teacher.
    #[schemars(range(min = 1, max = 10_000))]
    pub inputs: usize,
    /// Units of the teacher.
    #[schemars(range(min = 1, max = 10_000))]
    pub hidden: usize,
    /// Outputs of the teacher.
    #[schemars(range(min = 1, max = 10_000))]
    pub outputs: usize,
    /// Time constant of the teacher's leak, in steps; 1 for none.
    #[schemars(range(min = 1.0, max = 1_000_000.0))]
    pub tau: f64,
    /// Probability that an input is 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub density: f64,
    /// Number of different bits in an input, each repeated over neighbouring channels; a divisor of `inputs`, and by default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub latent: Option<usize>,
    /// Steps for which an input is held.
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

impl Default for Mimic {
    fn default() -> Self {
        Mimic {
            seq_len: 100,
            inputs: 8,
            hidden: 8,
            outputs: 4,
            tau: 1.0,
            density: 0.5,
            latent: None,
            hold: 1,
            train_size: 100,
            validation_size: 20,
            test_size: 100,
        }
    }
}

impl Plugin for Mimic {
    const KIND: &'static str = "mimic";
    const ABOUT: &'static str = "reproduce the outputs of a fixed random recurrent network";

    fn check(&self) -> Vec<Problem> {
        match self.latent {
            Some(latent) if !self.inputs.is_multiple_of(latent) => {
                let message = format!("{} inputs cannot be shared out evenly among {latent} bits", self.inputs);
                vec![Problem::new("latent", message).help("choose a divisor of `inputs`")]
            }
            _ => Vec::new(),
        }
    }
}

impl Task for Mimic {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Dense { features: self.inputs },
            target: Target { kind: TargetKind::Values { size: self.outputs }, when: When::EveryStep },
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
            sequences: Imitation::new(self.clone(), seed)?,
        }))
    }
}

struct Imitation {
    spec: Mimic,
    /// The teacher's weights of inputs, `[inputs, hidden]`, units, `[hidden, hidden]`, and outputs, `[hidden, outputs]`.
    teacher: [Tensor; 3],
}

impl Imitation {
    fn new(spec: Mimic, seed: u64) -> Result<Imitation> {
        let mut stream = Stream::new(seed, "data.teacher", 0, 0);
        let mut normal = |rows: usize, columns: usize| {
            let scale = 1.0 / (rows as f32).sqrt();
            let numbers: Vec<f32> =
                init::normal(&mut stream, rows * columns).into_iter().map(|number| scale * number).collect();
            Tensor::from_vec(numbers, (rows, columns), &Device::Cpu)
        };
        let (inputs, outputs) = (normal(spec.inputs, spec.hidden)?, normal(spec.hidden, spec.outputs)?);
        let units = init::recurrent_weight(&mut stream, Init::Orthogonal, 1, spec.hidden, spec.hidden);
        let units = Tensor::from_vec(units, (spec.hidden, spec.hidden), &Device::Cpu)?;
        Ok(Imitation { spec, teacher: [inputs, units, outputs] })
    }

    /// The teacher's outputs, `[batch, time, outputs]`, for inputs, `[batch, time, inputs]`.
    fn outputs(&self, inputs: &Tensor) -> Result<Tensor> {
        let (rows, steps, _) = inputs.dims3()?;
        let [from_inputs, units, to_outputs] = &self.teacher;
        let leak = 1.0 / self.spec.tau;
        let mut state = Tensor::zeros((rows, self.spec.hidden), candle_core::DType::F32, &Device::Cpu)?;
        let mut states = Vec::with_capacity(steps);
        for step in 0..steps {
            let sums =
                (inputs.narrow(1, step, 1)?.squeeze(1)?.contiguous()?.matmul(from_inputs)? + state.matmul(units)?)?;
            state = ((state * (1.0 - leak))? + (sums.tanh()? * leak)?)?;
            states.push(state.clone());
        }
        Ok(Tensor::stack(&states, 1)?.reshape((rows * steps, ()))?.matmul(to_outputs)?.reshape((rows, steps, ()))?)
    }
}

impl Sequences for Imitation {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::squared_distance()]
    }

    fn draw(&self, stream: &mut Stream, rows: usize, _: usize) -> Result<Batch> {
        let Mimic { seq_len, inputs, density, hold, .. } = self.spec;
        let latent = self.spec.latent.unwrap_or(inputs);
        let mut numbers = Vec::with_capacity(rows * seq_len * inputs);
        for _ in 0..rows {
            let mut held = Vec::new();
            for step in 0..seq_len {
                if step.is_multiple_of(hold) {
                    held = (0..latent).map(|_| f32::from(u8::from(f64::from(stream.unit()) < density))).collect();
                }
                numbers.extend(held.iter().flat_map(|bit| std::iter::repeat_n(*bit, inputs / latent)));
            }
        }
        let inputs = Tensor::from_vec(numbers, (rows, seq_len, inputs), &Device::Cpu)?;
        let targets = self.outputs(&inputs)?;
        Ok(Batch::new(Inputs::Dense(inputs), Targets::Values(targets)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Draws, check_task};

    #[test]
    fn it_conforms() -> Result<()> {
        let small = json!({ "seq_len": 5, "hidden": 3, "train_size": 6, "validation_size": 3, "test_size": 3 });
        check_task::<Mimic>(small.clone(), Draws::BySeed)?;
        let mut held = small;
        (held["hold"], held["latent"], held["tau"]) = (json!(2), json!(2), json!(2.5));
        check_task::<Mimic>(held, Draws::BySeed)
    }

    #[test]
    fn targets_are_the_outputs_of_the_network_in_the_docs() -> Result<()> {
        let spec = Mimic { seq_len: 4, inputs: 2, hidden: 3, outputs: 1, tau: 2.0, ..Mimic::default() };
        let data = Imitation::new(spec, 1)?;
        let batch = data.draw(&mut Stream::new(1, "data.train", 1, 0), 3, 0)?;
        let (Inputs::Dense(inputs), Targets::Values(targets)) = (batch.inputs, batch.targets) else {
            panic!("numbers");
        };
        let [from_inputs, units, to_outputs] = &data.teacher;
        let [from_inputs, units, to_outputs] =
            [from_inputs.to_vec2::<f32>()?, units.to_vec2::<f32>()?, to_outputs.to_vec2::<f32>()?];
        for (inputs, targets) in inputs.to_vec3::<f32>()?.iter().zip(targets.to_vec3::<f32>()?) {
            let mut a = [0f32; 3];
            for (x, y) in inputs.iter().zip(targets) {
                let sum = |unit: usize| -> f32 {
                    (0..2).map(|i| x[i] * from_inputs[i][unit]).sum::<f32>()
                        + (0..3).map(|j| a[j] * units[j][unit]).sum::<f32>()
                };
                a = std::array::from_fn(|unit| 0.5 * a[unit] + 0.5 * sum(unit).tanh());
                let expected: f32 = (0..3).map(|unit| a[unit] * to_outputs[unit][0]).sum();
                assert!((y[0] - expected).abs() < 1e-5, "{} {expected}", y[0]);
            }
        }
        Ok(())
    }

    #[test]
    fn held_and_repeated_bits() -> Result<()> {
        let spec = Mimic { seq_len: 7, inputs: 4, latent: Some(2), hold: 3, density: 0.3, ..Mimic::default() };
        let data = Imitation::new(spec, 1)?;
        let batch = data.draw(&mut Stream::new(1, "data.train", 1, 0), 500, 0)?;
        let Inputs::Dense(inputs) = batch.inputs else { panic!("numbers") };
        let mut ones = 0.0;
        for row in inputs.to_vec3::<f32>()? {
            assert!(row.iter().all(|x| x[0] == x[1] && x[2] == x[3]));
            assert!((row[0] == row[2]) && (row[3] == row[5]));
            ones += row[0][0] + row[3][2];
        }
        assert!((ones / 1000.0 - 0.3).abs() < 0.05, "{ones}");
        Ok(())
    }

    #[test]
    fn bits_that_do_not_divide_the_inputs_are_a_problem() {
        assert_eq!(Mimic { latent: Some(3), ..Mimic::default() }.check()[0].key, "latent");
        assert!(Mimic { latent: Some(4), ..Mimic::default() }.check().is_empty());
    }
}
