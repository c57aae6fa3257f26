//! Numbers of the original PyTorch code, one test per case, named after its file or folder: `rnn/gru_T3`, `optim/adam`.
//!
//! Walks `tests/golden/`, or the directory that the environment variable `CCDNI_GOLDEN` names. The cases and their
//! tolerances are described in `tests/golden/README.md`. What concerns a device is done on the one that `CCDNI_TEST_DEVICE` names.

mod golden_cases;
#[path = "all/on_device.rs"]
mod on_device;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = std::env::var_os("CCDNI_GOLDEN")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")), PathBuf::from);
    let mut arguments = libtest_mimic::Arguments::from_args();
    // A GPU is one thing, whose kernels wait for each other.
    if on_device::device().is_some_and(|device| !device.is_cpu()) {
        arguments.test_threads = Some(1);
    }
    libtest_mimic::run(&arguments, golden_cases::trials(&root)).exit_code()
}
