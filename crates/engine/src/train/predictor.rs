//! Inference with a trained network: whole sequences, without dropout or synthesizers.

use candle_core::{DType, Device, Tensor};

use super::backend::Backend;
use super::decode::decode;
use super::device_batch::DeviceBatch;
use super::engine;
use crate::data::{Batch, Decoded, Limits, Predictor, Strategy};
use crate::error::Result;
use crate::model::Model;
use crate::spec::task_shape::When;

/// A trained model and its backend.
#[derive(Clone, Copy)]
pub struct Trained<'a> {
    /// The model, with its trained weights.
    pub model: &'a Model,
    /// The backend that computes it.
    pub backend: &'a dyn Backend,
}

impl Trained<'_> {
    /// The states of all layers at the end of a batch, one row per sequence: `[batch][layers' states]`.
    ///
    /// # Errors
    /// Fails if the batch does not have the shape that the network was trained on.
    pub fn end_states(&self, batch: &Batch) -> Result<Vec<Vec<f64>>> {
        let sequence = DeviceBatch::new(self.model, batch, None)?;
        let (_, states) = engine::evaluate(self.model, self.backend, &sequence, None, When::LastStep)?;
        let states = sequence.rows().expand(&Tensor::cat(&states, 1)?, 0)?;
        Ok(states.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2()?)
    }
}

impl Predictor for Trained<'_> {
    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let sequence = DeviceBatch::new(self.model, batch, None)?;
        let (outputs, _) = engine::evaluate(self.model, self.backend, &sequence, None, When::EveryStep)?;
        sequence.rows().expand(&outputs, 0)
    }

    fn decode(&self, first: &Tensor, strategy: &Strategy, limits: &Limits) -> Result<Vec<Vec<Decoded>>> {
        decode(self.model, self.backend, first, strategy, limits)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use serde_json::json;

    use super::*;
    use crate::data::{Inputs, Targets};
    use crate::model::Plugins;
    use crate::spec::task_shape::{Input, Target, TargetKind, TaskShape};
    use crate::train::backend::{Composed, Outputs, Plan, Pullback};

    /// Keeps the number of rows that were computed last.
    struct Counting(Cell<usize>);

    impl Backend for Counting {
        fn forward<'a>(
            &'a self,
            model: &'a Model,
            sequence: &'a DeviceBatch,
            plan: Plan<'a>,
            start: &[Tensor],
        ) -> Result<(Outputs, Box<dyn Pullback + 'a>)> {
            self.0.set(sequence.rows().count);
            Composed.forward(model, sequence, plan, start)
        }
    }

    #[test]
    fn a_row_that_stands_for_several_sequences_is_computed_once() -> Result<()> {
        let spec = json!({ "layers": [{ "cell": "tanh", "hidden": 3 }] });
        let spec = serde_json::from_value(spec).expect("a valid model");
        let target = Target { kind: TargetKind::Values { size: 1 }, when: When::EveryStep };
        let shape = TaskShape { input: Input::Dense { features: 1 }, target, steps: Some(2), validates: false };
        let model = Model::new(&Plugins::built_in(), &spec, &shape, 1, &Device::Cpu)?;
        let inputs = Tensor::new(&[[[0.1f32], [0.2]], [[-0.4], [0.8]]], &Device::Cpu)?;
        let batch = Batch::repeating(Inputs::Dense(inputs.clone()), Targets::Values(inputs), vec![1, 0, 1]);
        let backend = Counting(Cell::default());
        let trained = Trained { model: &model, backend: &backend };
        let predict = |batch: &Batch| Ok::<_, crate::Error>(trained.predict(batch)?.to_vec3::<f32>()?);
        let (each, rows) = (predict(&batch.expanded()?)?, backend.0.get());
        assert_eq!((predict(&batch)?, backend.0.get(), rows), (each, 2, 3));
        Ok(())
    }
}
