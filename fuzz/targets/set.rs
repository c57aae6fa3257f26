//! Lines of `path=value` over a spec, as `--set` and as environment variables.
#![no_main]

use ccdni::spec::{Request, resolve};

const SPEC: &[u8] = b"task: {kind: linedraw}\n\
    model: {layers: [{cell: lstm, hidden: 5, dni: {hidden: [4]}}]}\n\
    train: {epochs: 10, batch_size: 50, bptt: 1}\n";

libfuzzer_sys::fuzz_target!(|text: &str| {
    let set = text.lines().filter(|line| !line.starts_with("CCDNI__")).map(str::to_owned).collect();
    let env = text.lines().filter(|line| line.starts_with("CCDNI__")).filter_map(|line| line.split_once('='));
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let file = fuzz::file("spec.yaml", SPEC);
    if let Err(error) = resolve(&Request { file, set, env }, fuzz::registry()) {
        assert!(!error.to_string().is_empty());
    }
});
