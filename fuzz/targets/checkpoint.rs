//! Checkpoints. The seal of a checkpoint refuses all but the bytes that were written, so tensors of an arbitrary safetensors file
//! are sealed here, and must come back.
#![no_main]

use candle_core::Device;
use ccdni::train::{Checkpoint, CheckpointState};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(checkpoint) = Checkpoint::from_bytes(data) {
        let _ = checkpoint.to_bytes().expect("a checkpoint that can be written");
    }
    let Ok(tensors) = candle_core::safetensors::load_buffer(data, &Device::Cpu) else { return };
    let checkpoint = Checkpoint { state: CheckpointState::default(), tensors: tensors.into_iter().collect() };
    let Ok(bytes) = checkpoint.to_bytes() else { return };
    let read = Checkpoint::from_bytes(&bytes).expect("the checkpoint that was written");
    assert_eq!(read.to_bytes().expect("a checkpoint that can be written"), bytes);
});
