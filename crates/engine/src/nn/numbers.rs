//! Values that are read from a device late, and constants that are copied to it once.
//!
//! Reading a value from a GPU waits for all work queued before it. Values that are only reported therefore stay there until
//! many are read at once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use candle_core::{Device, DeviceLocation, Tensor, WithDType};

use crate::error::Result;

thread_local! {
    static PRETENDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether transfers from and to the device are expensive, so that they are deferred and batched.
pub fn reads_are_deferred(device: &Device) -> bool {
    !device.is_cpu() || PRETENDED.get()
}

/// Runs `compute` with reads from the CPU deferred on this thread, as those from a GPU are.
pub fn pretending<T>(compute: impl FnOnce() -> T) -> T {
    let before = PRETENDED.replace(true);
    let computed = compute();
    PRETENDED.set(before);
    computed
}

/// A few values, read or not.
#[derive(Debug, Clone)]
pub enum Numbers {
    /// On the CPU.
    Read(Vec<f64>),
    /// `[n]`, f32, on the device that computed them.
    Deferred(Tensor),
}

impl Numbers {
    /// The values of a tensor `[n]`, read at once if that does not wait.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn of(tensor: Tensor) -> Result<Numbers> {
        match reads_are_deferred(tensor.device()) {
            true => Ok(Numbers::Deferred(tensor)),
            false => Ok(Numbers::Read(read(&tensor)?)),
        }
    }

    /// The values; may wait for the device.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn read(&self) -> Result<Vec<f64>> {
        match self {
            Numbers::Read(numbers) => Ok(numbers.clone()),
            Numbers::Deferred(tensor) => read(tensor),
        }
    }

    /// Reads all of these in one transfer.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn read_all<'a>(all: impl Iterator<Item = &'a mut Numbers>) -> Result<()> {
        let (mut deferred, mut tensors) = (Vec::new(), Vec::new());
        for numbers in all {
            if let Numbers::Deferred(tensor) = numbers {
                tensors.push(tensor.clone());
                deferred.push(numbers);
            }
        }
        if tensors.is_empty() {
            return Ok(());
        }
        let lengths: Vec<usize> = tensors.iter().map(Tensor::elem_count).collect();
        let mut numbers = read(&Tensor::cat(&tensors, 0)?)?.into_iter();
        for (target, length) in deferred.into_iter().zip(lengths) {
            *target = Numbers::Read(numbers.by_ref().take(length).collect());
        }
        Ok(())
    }
}

fn read(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

/// How many constants are cached.
const CACHED_CONSTANTS: usize = 256;

/// Device, dtype, shape and bytes. A process opens one device, so its location identifies it.
type Key = (DeviceLocation, &'static str, Vec<usize>, Vec<u8>);

thread_local! {
    static CONSTANTS: RefCell<HashMap<Key, Tensor>> = RefCell::default();
}

/// A tensor of a few values that are needed again and again, such as the weights of windows; it is copied to the device
/// once. It must not be changed in place.
///
/// # Errors
/// Fails if the shape does not have that many elements.
pub fn constant<T: WithDType>(numbers: Vec<T>, dims: &[usize], device: &Device) -> Result<Tensor> {
    match reads_are_deferred(device) {
        true => cached(numbers, dims, device),
        false => Ok(Tensor::from_vec(numbers, dims, device)?),
    }
}

fn cached<T: WithDType>(numbers: Vec<T>, dims: &[usize], device: &Device) -> Result<Tensor> {
    let bytes = numbers.iter().flat_map(|number| number.to_f64().to_bits().to_le_bytes()).collect();
    let key = (device.location(), T::DTYPE.as_str(), dims.to_vec(), bytes);
    if let Some(tensor) = CONSTANTS.with_borrow(|constants| constants.get(&key).cloned()) {
        return Ok(tensor);
    }
    let tensor = Tensor::from_vec(numbers, dims, device)?;
    CONSTANTS.with_borrow_mut(|constants| {
        if constants.len() >= CACHED_CONSTANTS {
            constants.clear();
        }
        constants.insert(key, tensor.clone());
    });
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deferred_values_are_read_together_and_keep_their_order() -> Result<()> {
        let deferred = |numbers: &[f32]| Ok::<_, crate::Error>(Numbers::Deferred(Tensor::new(numbers, &Device::Cpu)?));
        let mut all = [deferred(&[1.0, 2.0])?, Numbers::Read(vec![3.0]), deferred(&[4.0])?, deferred(&[5.0, 6.0])?];
        Numbers::read_all(all.iter_mut())?;
        let read = all.iter().map(|numbers| match numbers {
            Numbers::Read(numbers) => numbers.clone(),
            Numbers::Deferred(_) => Vec::new(),
        });
        assert_eq!(read.collect::<Vec<_>>(), [vec![1.0, 2.0], vec![3.0], vec![4.0], vec![5.0, 6.0]]);
        assert!(matches!(Numbers::of(Tensor::new(&[1f32], &Device::Cpu)?)?, Numbers::Read(_)), "nothing to wait for");
        Ok(())
    }

    #[test]
    fn a_constant_is_cached_by_values_dtype_and_shape() -> Result<()> {
        let one = cached(vec![1f32, 2.0], &[2], &Device::Cpu)?;
        assert_eq!(one.id(), cached(vec![1f32, 2.0], &[2], &Device::Cpu)?.id());
        assert_eq!(one.to_vec1::<f32>()?, [1.0, 2.0]);
        assert_ne!(one.id(), cached(vec![1f32, 2.0], &[2, 1], &Device::Cpu)?.id());
        assert_eq!(cached(vec![1u32, 2], &[2], &Device::Cpu)?.to_vec1::<u32>()?, [1, 2]);
        Ok(())
    }
}
