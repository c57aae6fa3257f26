//! A request to `ccdni view`.
#![no_main]

use ccdni::view::http::Request;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(Some(request)) = Request::parse(data) {
        assert!(request.path.iter().all(|part| part != ".." && !part.contains('/')), "{:?}", request.path);
    }
});
