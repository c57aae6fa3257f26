//! A pickled vocabulary.
#![no_main]

use ccdni::exchange::import::vocabulary;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = vocabulary(&fuzz::file("vocab.pkl", data));
});
