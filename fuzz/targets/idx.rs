//! IDX files of images and labels, packed or not; the last byte is `task.source.side`.
#![no_main]

use ccdni::data::digits::idx::{read_images, read_labels};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (side, bytes) = fuzz::choice(data);
    let path = fuzz::file("idx-ubyte", bytes);
    if let Ok(pixels) = read_images(&path, side.max(1)) {
        assert!(!pixels.is_empty() && pixels.len().is_multiple_of(side.max(1).pow(2)));
    }
    let _ = read_labels(&path);
});
