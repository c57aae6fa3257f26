//! A file of results, as the COCO tools read it.
#![no_main]

use ccdni::data::captions::results::{read, write};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = fuzz::file("results.json", data);
    if let Ok(results) = read(&path) {
        write(&path, &results).expect("results that can be written");
        assert_eq!(read(&path).expect("the file that was written"), results);
    }
});
