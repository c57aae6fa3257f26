//! Where tests compute: on the device that the environment variable `CCDNI_TEST_DEVICE` names (`cuda`, `metal`), else on the CPU.

use std::sync::OnceLock;

use candle_core::Device;

/// Its name.
pub fn name() -> String {
    std::env::var("CCDNI_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}

/// The device, opened once; or why there is none, in which case a test has to say that it was skipped.
pub fn device() -> Result<Device, String> {
    static DEVICE: OnceLock<Result<Device, String>> = OnceLock::new();
    DEVICE.get_or_init(|| ccdni::device::open(&name(), false).map_err(|error| error.to_string())).clone()
}

/// Factor on tolerances of float32, which are those of the CPU: other devices sum up in another order, and have exponentials of
/// their own.
pub fn slack() -> f64 {
    match device() {
        Ok(device) if !device.is_cpu() => 10.0,
        _ => 1.0,
    }
}
