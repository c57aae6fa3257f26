//! True gradients that arrive some batches late (`dni.delay`).

use std::collections::{BTreeMap, VecDeque};

use candle_core::{Device, Tensor};

use crate::error::Result;

/// A gradient on its way, with what its synthesizer saw.
#[derive(Debug, Clone)]
pub struct Late {
    /// What the segment above received, `[rows, ...]`.
    pub received: Tensor,
    /// The context, `[rows, context]`.
    pub context: Option<Tensor>,
    /// The gradient that arrives, `[rows, ...]`.
    pub arrived: Tensor,
}

/// The gradients on their way, by block, the oldest first.
#[derive(Debug, Clone, Default)]
pub struct Delays(BTreeMap<usize, VecDeque<Late>>);

impl Delays {
    /// The gradient that arrives now, if those of `delay` batches are on their way.
    pub(super) fn due(&mut self, block: usize, delay: usize) -> Option<Late> {
        let queue = self.0.get_mut(&block)?;
        (queue.len() >= delay).then(|| queue.pop_front()).flatten()
    }

    pub(super) fn push(&mut self, block: usize, late: Late) {
        self.0.entry(block).or_default().push_back(late);
    }

    /// The state for a checkpoint, by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::new();
        for (block, queue) in &self.0 {
            for (place, late) in queue.iter().enumerate() {
                let mut add = |what: &str, tensor: &Tensor| tensors.push((name(*block, place, what), tensor.clone()));
                add("received", &late.received);
                add("arrived", &late.arrived);
                late.context.iter().for_each(|context| add("context", context));
            }
        }
        tensors
    }

    /// Restores [`Delays::state`] for a network of `blocks` blocks; `find` looks up a tensor.
    ///
    /// # Errors
    /// Fails if a tensor cannot be copied to the device.
    pub fn restore<'t>(blocks: usize, find: impl Fn(&str) -> Option<&'t Tensor>, device: &Device) -> Result<Delays> {
        let mut delays = Delays::default();
        for block in 0..blocks {
            for place in 0.. {
                let get = |what: &str| find(&name(block, place, what)).map(|t| t.to_device(device)).transpose();
                let (Some(received), Some(arrived)) = (get("received")?, get("arrived")?) else { break };
                delays.push(block, Late { received, arrived, context: get("context")? });
            }
        }
        Ok(delays)
    }
}

fn name(block: usize, place: usize, what: &str) -> String {
    format!("delayed.block{block}.{place}.{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(value: f32) -> Late {
        let tensor = Tensor::new(&[[value]], &Device::Cpu).unwrap();
        Late { received: tensor.clone(), context: None, arrived: tensor }
    }

    fn value(late: Option<Late>) -> Option<f32> {
        late.map(|late| late.arrived.to_vec2::<f32>().unwrap()[0][0])
    }

    #[test]
    fn a_gradient_arrives_after_as_many_batches() -> Result<()> {
        let mut delays = Delays::default();
        let mut arrivals = Vec::new();
        for batch in 0..5u8 {
            if batch == 3 {
                let state = delays.state();
                let find = |name: &str| state.iter().find(|(other, _)| other == name).map(|(_, tensor)| tensor);
                delays = Delays::restore(7, find, &Device::Cpu)?;
            }
            arrivals.push(value(delays.due(4, 2)));
            delays.push(4, late(f32::from(batch)));
        }
        assert_eq!(arrivals, [None, None, Some(0.0), Some(1.0), Some(2.0)]);
        assert_eq!(value(delays.due(1, 2)), None, "each block has its own");
        Ok(())
    }
}
