//! Where tensors live: `run.device` to a device, and what the processor can do.

use candle_core::Device;
use candle_core::utils::{cuda_is_available, metal_is_available};

use crate::error::{Error, Result};

/// Opens the device that `run.device` names: `auto`, `cpu`, `cuda`, `cuda:<index>` or `metal`.
///
/// `auto` is a CUDA device if this program was built for one and one is there, else Metal, else the CPU.
///
/// # Errors
/// [`Error::Usage`] where the device is unknown, absent, or this program was not built for it.
pub fn open(name: &str) -> Result<Device> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("auto", _) => Ok(cuda(0).or_else(|_| metal()).unwrap_or(Device::Cpu)),
        ("cpu", _) => Ok(Device::Cpu),
        ("metal", _) => metal(),
        ("cuda", index) => match index.parse() {
            Ok(index) => cuda(index),
            Err(_) => Err(unknown(name)),
        },
        _ => Err(unknown(name)),
    }
}

/// Makes sure that this program could open a device on a machine that has it.
///
/// # Errors
/// [`Error::Usage`] where it is unknown, or this program was not built for it.
pub fn check_built(name: &str) -> Result<()> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cuda", _) if !cuda_is_available() => Err(not_built("cuda")),
        ("metal", _) if !metal_is_available() => Err(not_built("metal")),
        ("auto" | "cpu" | "metal", _) => Ok(()),
        ("cuda", index) if index.parse::<usize>().is_ok() => Ok(()),
        _ => Err(unknown(name)),
    }
}

/// The device in words, as manifests and tables name it: `cpu`, `cuda:0`, `metal`.
pub fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { .. } => "metal".into(),
    }
}

/// The architecture and those extensions of this processor that matrix products may use: results are bit-identical
/// only where this is the same.
pub fn instruction_set() -> String {
    let mut parts = vec![std::env::consts::ARCH];
    parts.extend(extensions());
    parts.join("+")
}

#[cfg(target_arch = "x86_64")]
fn extensions() -> Vec<&'static str> {
    let found = [
        ("avx", std::is_x86_feature_detected!("avx")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
    ];
    found.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn extensions() -> Vec<&'static str> {
    if std::arch::is_aarch64_feature_detected!("neon") { vec!["neon"] } else { Vec::new() }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn extensions() -> Vec<&'static str> {
    Vec::new()
}

fn cuda(index: usize) -> Result<Device> {
    if !cuda_is_available() {
        return Err(not_built("cuda"));
    }
    // The CUDA bindings panic where the driver's library is missing: to the user that is an absent device.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let opened = std::panic::catch_unwind(|| Device::new_cuda(index));
    std::panic::set_hook(hook);
    match opened {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => Err(absent(&format!("cuda:{index}"), &error.to_string())),
        Err(_) => Err(absent(&format!("cuda:{index}"), "the NVIDIA driver was not found")),
    }
}

fn metal() -> Result<Device> {
    if !metal_is_available() {
        return Err(not_built("metal"));
    }
    Device::new_metal(0).map_err(|error| absent("metal", &error.to_string()))
}

fn not_built(feature: &str) -> Error {
    Error::Usage(format!(
        "`run.device` asks for {feature}, which this program was not built for; build it with \
         `cargo build --release --features {feature}`, or use `run.device: cpu`"
    ))
}

fn absent(name: &str, why: &str) -> Error {
    Error::Usage(format!("`run.device` asks for {name}, which is not there ({why}); use `run.device: auto` or `cpu`"))
}

fn unknown(name: &str) -> Error {
    Error::Usage(format!("`run.device` is `{name}`: expected `auto`, `cpu`, `cuda`, `cuda:<index>` or `metal`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_opens_and_nonsense_is_refused() {
        assert_eq!(name(&open("cpu").unwrap()), "cpu");
        for bad in ["gpu", "cuda:x", ""] {
            assert!(open(bad).unwrap_err().to_string().contains("expected `auto`"), "{bad}");
        }
    }

    #[test]
    fn a_device_that_was_not_built_in_says_how_to_build_it() {
        if !cuda_is_available() {
            assert_eq!(name(&open("auto").unwrap()), if metal_is_available() { "metal" } else { "cpu" });
            let error = open("cuda:1").unwrap_err();
            assert!(error.to_string().contains("--features cuda"), "{error}");
            assert_eq!(error.exit_code(), 2);
            assert_eq!(check_built("cuda:1").unwrap_err().to_string(), error.to_string());
        }
        check_built("auto").unwrap();
    }

    #[test]
    fn the_instruction_set_names_the_architecture() {
        assert!(instruction_set().starts_with(std::env::consts::ARCH));
    }
}
