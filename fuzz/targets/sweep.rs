//! A file with a sweep, a figure, claims and a launcher; after a line `---`, lists of `--grid`.
#![no_main]

use ccdni::spec::sweep::{expand, expand_quick};
use ccdni::spec::{Plugins, Request};

libfuzzer_sys::fuzz_target!(
    init: { fuzz::registry().schema(); },
    |text: &str| {
        let (text, grid) = text.split_once("\n---\n").unwrap_or((text, ""));
        // Thousands of runs take seconds each time.
        if text.len() > 4096 || text.matches(',').count() + grid.matches(',').count() > 24 {
            return;
        }
        let grid: Vec<String> = grid.lines().map(str::to_owned).collect();
        let request = Request { file: fuzz::file("sweep.yaml", text.as_bytes()), ..Request::default() };
        if let Err(error) = expand(&request, &grid, fuzz::registry()) {
            assert!(!error.to_string().is_empty());
        }
        if grid.is_empty() {
            let _ = expand_quick(&request, fuzz::registry());
        }
    }
);
