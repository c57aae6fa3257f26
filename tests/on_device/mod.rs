//! Where tests compute: on the device that the environment variable `CCDNI_TEST_DEVICE` names (`cuda`, `metal`), else on the CPU.

use std::io::Write;
use std::sync::OnceLock;

use candle_core::Device;
use ccdni::device::{self, Found};

/// Its name.
pub fn name() -> String {
    std::env::var("CCDNI_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// The device, opened once. `None` where this machine has none: the test says that it was [`skipped`].
///
/// # Panics
/// If the name means nothing, the tests were built without the feature, or the device is there and does not open.
pub fn device() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let open = || {
        let name = name();
        device::check_built(&name).unwrap_or_else(|error| panic!("CCDNI_TEST_DEVICE={name}: {error}"));
        let absent = device::find(&name).is_err() && matches!(device::find("auto"), Ok(Found::Cpu));
        (!absent)
            .then(|| device::open(&name, false).unwrap_or_else(|error| panic!("CCDNI_TEST_DEVICE={name}: {error}")))
    };
    DEVICE.get_or_init(open).clone()
}

/// Says that a test was skipped, where the harness does not hide it as it hides what goes through `eprintln!`.
pub fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what} was skipped: this machine has no {}", name());
}

/// Factor on tolerances of float32, which are those of the CPU: other devices sum up in another order, and have exponentials of
/// their own.
pub fn slack() -> f64 {
    match device() {
        Some(device) if !device.is_cpu() => 10.0,
        _ => 1.0,
    }
}
