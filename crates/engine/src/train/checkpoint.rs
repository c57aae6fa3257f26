//! A checkpoint: everything needed to resume a unit as if it had never stopped.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::EpochRow;

/// Everything needed to resume a unit, stored as one safetensors file with `state` in its header.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Counters and sums.
    pub state: CheckpointState,
    /// Parameters, optimizer slots, best weights, carried state, accumulated gradients, buffered recordings, by name.
    pub tensors: Vec<(String, Tensor)>,
}

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// The rows of the completed epochs.
    pub history: Vec<EpochRow>,
    /// Opaque except to the trainer.
    pub trainer: serde_json::Value,
}

/// The key of the state and its digest in the file's header. It is the only key: the order of several would be
/// nondeterministic, and so would the bytes.
const STATE: &str = "ccdni.checkpoint";

impl Checkpoint {
    /// Serialises the checkpoint.
    ///
    /// # Errors
    /// Fails if a tensor cannot be copied to the CPU.
    pub fn to_bytes(&self) -> crate::Result<Vec<u8>> {
        let failed =
            |error: &dyn std::fmt::Display| crate::Error::Training(format!("cannot write a checkpoint: {error}"));
        let state = serde_json::to_string(&self.state).map_err(|error| failed(&error))?;
        let on_cpu = self.tensors.iter().map(|(name, tensor)| Ok((name.as_str(), tensor.to_device(&Device::Cpu)?)));
        let on_cpu = on_cpu.collect::<crate::Result<Vec<_>>>()?;
        let serialize = |header: String| {
            let tensors = on_cpu.iter().map(|(name, tensor)| (*name, tensor));
            safetensors::serialize(tensors, Some(HashMap::from([(STATE.to_string(), header)])))
                .map_err(|error| failed(&error))
        };
        let unsealed = serialize(String::new())?;
        serialize(format!("{} {state}", digest(&state, &unsealed).map_err(|error| failed(&error))?))
    }

    /// Deserialises [`Self::to_bytes`] onto the CPU, so that an error is the file's, not a device's.
    ///
    /// # Errors
    /// Describes the problem if the bytes are not a valid checkpoint.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let sealed = header.metadata().as_ref().and_then(|metadata| metadata.get(STATE));
        let sealed = sealed.ok_or("it has no training state in its header: it is not a checkpoint of ccdni")?;
        let (seal, state) = sealed.split_once(' ').unwrap_or_default();
        if seal != digest(state, bytes)? {
            return Err("its bytes are not those that were written".into());
        }
        let state = serde_json::from_str(state).map_err(|error| format!("its training state: {error}"))?;
        let mut tensors: Vec<(String, Tensor)> = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)
            .map_err(|error| error.to_string())?
            .into_iter()
            .collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Checkpoint { state, tensors })
    }
}

/// BLAKE3 digest, in hex, of the state and of every tensor's name, type, shape and bytes in a safetensors file.
fn digest(state: &str, file: &[u8]) -> Result<String, String> {
    let file = SafeTensors::deserialize(file).map_err(|error| error.to_string())?;
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hasher = blake3::Hasher::new();
    hasher.update(state.as_bytes());
    for (name, view) in &tensors {
        hasher.update(format!("\n{name:?} {:?} {:?}\n", view.dtype(), view.shape()).as_bytes());
        hasher.update(view.data());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Extra;
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_bit_by_bit() -> crate::Result<()> {
        let row = EpochRow {
            epoch: 3,
            train_loss: 0.1 + 0.2,
            train_loss_original: 1e-17,
            validation: vec![f64::NAN, 2.0 / 3.0],
            seconds: 0.25,
            extra: vec![Extra { name: "cosine".into(), value: f64::NAN }],
            batches: vec![super::super::BatchLoss { train_loss: 0.1, train_loss_original: 1e-300 }],
        };
        let state = CheckpointState { history: vec![row], trainer: serde_json::json!({ "sum": 0.1 + 0.7 }) };
        let values = Tensor::new(&[[1.5f32, f32::MIN_POSITIVE], [-0.0, 3e38]], &Device::Cpu)?;
        let checkpoint = Checkpoint { state, tensors: vec![("a".into(), values)] };
        let bytes = checkpoint.to_bytes()?;
        // A flipped bit is detected, in the header or in a tensor.
        for index in 8..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1;
            if let Ok(read) = Checkpoint::from_bytes(&flipped) {
                assert_eq!(read.to_bytes()?, bytes, "byte {index}");
            }
        }
        let back = Checkpoint::from_bytes(&bytes).map_err(crate::Error::Training)?;
        assert_eq!(back.to_bytes()?, bytes);
        assert_eq!(back.state.history[0].train_loss, 0.1 + 0.2);
        assert!(back.state.history[0].validation[0].is_nan());
        Ok(())
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(Checkpoint::from_bytes(b"not a checkpoint at all").is_err());
        let plain = safetensors::serialize(Vec::<(&str, &Tensor)>::new(), None).unwrap_or_default();
        assert!(Checkpoint::from_bytes(&plain).is_err());
    }
}
