//! Files of weights: safetensors, and what PyTorch's `save` writes, new and old.
#![no_main]

use ccdni::exchange::import::StateDictionaries;
use ccdni::model::encoder::TensorFile;

/// Most numbers of a tensor that is read; the program checks shapes before.
const MOST: usize = 1 << 16;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = fuzz::file("weights", data);
    let Ok(mut file) = TensorFile::open(&path) else { return };
    let modest =
        |dims: &[usize]| dims.iter().try_fold(1usize, |all, &dim| all.checked_mul(dim)).is_some_and(|n| n <= MOST);
    let names: Vec<String> = file.shapes().filter(|(_, dims)| modest(dims)).map(|(name, _)| name.to_owned()).collect();
    for name in names.iter().take(64) {
        let _ = file.read(name);
    }
    if let Ok(dictionaries) = StateDictionaries::open(&[path]) {
        let _ = dictionaries.description();
    }
});
