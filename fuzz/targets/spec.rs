//! The text of a spec, resolved. A resolved spec that is written and resolved again has the same hash.
#![no_main]

use ccdni::spec::{Request, resolve};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let hash = |name: &str, text: &[u8]| {
        let request = Request { file: fuzz::file(name, text), ..Request::default() };
        resolve(&request, fuzz::registry())
    };
    match hash("spec.yaml", text) {
        Ok(resolved) => {
            let again = hash("resolved.yaml", resolved.to_yaml().as_bytes());
            let again = again.unwrap_or_else(|error| panic!("{error}\n{}", resolved.to_yaml()));
            assert_eq!(again.hash, resolved.hash, "{}", resolved.to_yaml());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
