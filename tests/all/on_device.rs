//! Where tests compute: on the device that the environment variable `CCDNI_TEST_DEVICE` names (`cuda`, `metal`), else on the CPU.

use std::io::Write;
use std::sync::OnceLock;

use candle_core::Device;
use ccdni::device::{self, Found};

/// Its name.
pub fn name() -> String {
    std::env::var("CCDNI_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// What the environment variable `CCDNI_TEST_EXPECTS` names, with commas between: `device`, which then has to be there; `bits`, the
/// same from run to run.
pub fn expects(what: &str) -> bool {
    std::env::var("CCDNI_TEST_EXPECTS").is_ok_and(|expected| expected.split(',').any(|word| word == what))
}

/// The device, opened once. `None` where this machine has none: the test says that it was [`skipped`].
///
/// # Panics
/// If the name means nothing, the tests were built without the feature, the device is there and does not open, or it is
/// [expected](expects) and not there.
pub fn device() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let open = || {
        let name = name();
        device::check_built(&name).unwrap_or_else(|error| panic!("CCDNI_TEST_DEVICE={name}: {error}"));
        let absent = device::find(&name).is_err() && matches!(device::find("auto"), Ok(Found::Cpu));
        assert!(!absent || !expects("device"), "there is no {name}");
        (!absent)
            .then(|| device::open(&name, false).unwrap_or_else(|error| panic!("CCDNI_TEST_DEVICE={name}: {error}")))
    };
    DEVICE.get_or_init(open).clone()
}

/// Says that a test was skipped, where the harness does not hide it as it hides what goes through `eprintln!`.
pub fn skipped(what: &str) {
    let why = match name().as_str() {
        "cpu" => "it is not for the CPU (CCDNI_TEST_DEVICE=cuda)".into(),
        name => format!("this machine has no {name}"),
    };
    let _ = writeln!(std::io::stderr(), "{what} was skipped: {why}");
}

/// Factor on tolerances of float32, which are those of the CPU: other devices sum up in another order, and have exponentials of
/// their own.
pub fn slack() -> f64 {
    match device() {
        Some(device) if !device.is_cpu() => 10.0,
        _ => 1.0,
    }
}
