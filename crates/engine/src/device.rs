//! Resolving `run.device`, and the processor's instruction set.

use candle_core::Device;
use candle_core::utils::{cuda_is_available, metal_is_available};

#[cfg(feature = "cuda")]
use crate::error::driver_code;
use crate::error::{Error, Result};

/// The device that `run.device` resolves to on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU with this index.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

/// Resolves `run.device` (`auto`, `cpu`, `cuda`, `cuda:<index>` or `metal`) without opening the device. `auto` is a CUDA device
/// if this program was built with CUDA and one is present, else Metal, else the CPU.
///
/// # Errors
/// [`Error::Usage`] if the device is unknown or absent, or this program was not built for it; for `auto`, also if the GPU driver
/// fails: falling back to the CPU silently would hide it.
pub fn find(name: &str) -> Result<Found> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("auto", _) if cuda_is_available() => Ok(match cuda_count()? {
            0 => Found::Cpu,
            _ => Found::Cuda(0),
        }),
        ("auto", _) => Ok(if metal_is_available() { Found::Metal } else { Found::Cpu }),
        ("cpu", _) => Ok(Found::Cpu),
        ("metal", _) if metal_is_available() => Ok(Found::Metal),
        ("metal", _) => Err(not_built("metal")),
        ("cuda", index) => {
            let index: usize = index.parse().map_err(|_| unknown(name))?;
            match cuda_count()? {
                0 => Err(absent(&format!("cuda:{index}"), "no driver on this machine reports an NVIDIA GPU")),
                count if index >= count => {
                    Err(absent(&format!("cuda:{index}"), &format!("there are {count}, counted from 0")))
                }
                _ => Ok(Found::Cuda(index)),
            }
        }
        _ => Err(unknown(name)),
    }
}

/// Opens the device that [`find`] resolves, until the process ends. `tf32` allows matrix products on CUDA devices to round their
/// factors to 10 bits.
///
/// # Errors
/// As [`find`]; [`Error::Device`] if the device cannot be opened, for example because its memory is full.
pub fn open(name: &str, tf32: bool) -> Result<Device> {
    open_for_now(name, tf32).inspect(keep)
}

/// As [`open`], until the last reference is dropped. After a device error, the caller has to [`keep`] it.
///
/// # Errors
/// As [`open`].
pub fn open_for_now(name: &str, tf32: bool) -> Result<Device> {
    let device = match find(name)? {
        Found::Cpu => return Ok(Device::Cpu),
        Found::Cuda(index) => {
            candle_core::cuda::set_gemm_reduced_precision_f32(tf32);
            Device::new_cuda_with_stream(index)?
        }
        Found::Metal => Device::new_metal(0)?,
    };
    without_events(&device);
    Ok(device)
}

/// Keeps a device open until the process ends: the bindings panic on closing a failed device, which would hide the cause.
pub fn keep(device: &Device) {
    let _ = std::mem::ManuallyDrop::new(device.clone());
}

/// Computes without TF32 whatever the run allows: for cached results that are shared with runs without it.
pub fn exactly<T>(compute: impl FnOnce() -> T) -> T {
    let allowed = candle_core::cuda::gemm_reduced_precision_f32();
    candle_core::cuda::set_gemm_reduced_precision_f32(false);
    let computed = compute();
    candle_core::cuda::set_gemm_reduced_precision_f32(allowed);
    computed
}

/// Disables event tracking, which orders streams: there is only one, and each allocation would cost two events.
#[cfg(feature = "cuda")]
fn without_events(device: &Device) {
    if let Device::Cuda(device) = device {
        // SAFETY: the device was opened with its own stream, which all threads use, and this program creates no other.
        unsafe { device.disable_event_tracking() }
    }
}

#[cfg(not(feature = "cuda"))]
fn without_events(_device: &Device) {}

/// Number of usable CUDA devices; 0 without a driver.
#[cfg(feature = "cuda")]
fn cuda_count() -> Result<usize> {
    use candle_core::cuda_backend::cudarc::driver::{CudaContext, sys};
    let fails = |code: &str, remedy: &str| {
        Error::Usage(format!(
            "the NVIDIA driver of this machine {code}: {remedy}, or compute on the CPU (`run.device: cpu`, or `--device cpu`)"
        ))
    };
    match CudaContext::device_count().map_err(|error| candle_core::Error::wrap(error).to_string()) {
        Ok(0) => Ok(0),
        Ok(count) => {
            let mut version = 0;
            // SAFETY: the pointer is valid; counting the devices has initialised the driver.
            let code = unsafe { sys::cuDriverGetVersion(&raw mut version) };
            let (version, wanted) = (u32::try_from(version).unwrap_or(0), sys::CUDA_VERSION);
            // The driver compiles the kernels, and rejects those of a newer toolkit.
            if code == sys::CUresult::CUDA_SUCCESS && version < wanted {
                let name = |version: u32| format!("{}.{}", version / 1000, version % 1000 / 10);
                let is = format!("is for CUDA {}, and this program was built with {}", name(version), name(wanted));
                return Err(fails(&is, "update the driver, or build with an older toolkit (docs/devices.md)"));
            }
            Ok(usize::try_from(count).unwrap_or(0))
        }
        // The second is the error of the toolkit's stub library.
        Err(message) => match driver_code(&message).unwrap_or(&message) {
            "CUDA_ERROR_NO_DEVICE" | "CUDA_ERROR_STUB_LIBRARY" => Ok(0),
            code => Err(fails(&format!("fails ({code})"), "repair it (does `nvidia-smi` work?)")),
        },
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda_count() -> Result<usize> {
    Err(not_built("cuda"))
}

/// Checks that this program was built with support for a device.
///
/// # Errors
/// [`Error::Usage`] if the device is unknown, or this program was not built for it.
pub fn check_built(name: &str) -> Result<()> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cuda", _) if !cuda_is_available() => Err(not_built("cuda")),
        ("metal", _) if !metal_is_available() => Err(not_built("metal")),
        ("auto" | "cpu" | "metal", _) => Ok(()),
        ("cuda", index) if index.parse::<usize>().is_ok() => Ok(()),
        _ => Err(unknown(name)),
    }
}

/// The device's name in manifests and tables: `cpu`, `cuda:0`, `metal`.
pub fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { .. } => "metal".into(),
    }
}

/// The processor's architecture and the extensions that matrix products may use: results are bit-identical only where this is
/// the same.
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

fn not_built(feature: &str) -> Error {
    let how = match feature {
        "cuda" => "`just build-cuda` (docs/devices.md)".to_string(),
        other => format!("`cargo build --release --features {other}`"),
    };
    Error::Usage(format!(
        "this program was not built for the device {feature}; build it with {how}, or compute on the CPU (`run.device: cpu`, or \
         `--device cpu`)"
    ))
}

fn absent(name: &str, why: &str) -> Error {
    Error::Usage(format!(
        "the device {name} is not there ({why}); compute on the CPU (`run.device: cpu`, or `--device cpu`)"
    ))
}

fn unknown(name: &str) -> Error {
    Error::Usage(format!("there is no device `{name}`: expected `auto`, `cpu`, `cuda`, `cuda:<index>` or `metal`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_opens_and_nonsense_is_refused() {
        assert_eq!(name(&open("cpu", false).unwrap()), "cpu");
        for bad in ["gpu", "cuda:x", ""] {
            assert!(open(bad, false).unwrap_err().to_string().contains("expected `auto`"), "{bad}");
        }
    }

    #[test]
    fn a_device_that_was_not_built_in_says_how_to_build_it() {
        if !cuda_is_available() {
            assert_eq!(name(&open("auto", false).unwrap()), if metal_is_available() { "metal" } else { "cpu" });
            let error = open("cuda:1", false).unwrap_err();
            assert!(error.to_string().contains("just build-cuda"), "{error}");
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
