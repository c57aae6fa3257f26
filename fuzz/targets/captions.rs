//! Files of captions: COCO's JSON, Karpathy's splits, the tables of Flickr. What was read is written as COCO's and read again.
#![no_main]

use ccdni::data::captions::{CaptionSet, write_coco};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let path = fuzz::file("captions", data);
    let Ok(set) = CaptionSet::open(&path) else { return };
    assert!(set.captions.iter().all(|caption| caption.image < set.images.len()));
    let _ = set.images_without_captions();
    let _ = set.clone().split("train,val", &path);
    let _ = set.clone().only(&path);
    let copy = fuzz::directory().join("copy.json");
    if write_coco(&copy, "fuzzed", &set).is_ok() {
        let read = CaptionSet::open(&copy).expect("what was written can be read");
        assert_eq!(read.captions, set.captions);
    }
});
