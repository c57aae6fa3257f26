//! Numbers that a computation gave and that nothing on the device waits for, and numbers that it needs and that stay the same.
//!
//! Reading a number from a GPU waits until everything before it is computed. What is only reported is therefore left there until
//! somebody reads much of it at once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use candle_core::{Device, DeviceLocation, Tensor, WithDType};

use crate::error::Result;

thread_local! {
    static PRETENDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether to read from a device is to wait for it, and to bring something to it costs, so that both are put off and bundled.
pub fn reads_are_deferred(device: &Device) -> bool {
    !device.is_cpu() || PRETENDED.get()
}

/// Treats the CPU as a device whose reads are deferred while something is computed on this thread.
pub(crate) fn pretending<T>(compute: impl FnOnce() -> T) -> T {
    let before = PRETENDED.replace(true);
    let computed = compute();
    PRETENDED.set(before);
    computed
}

/// A few numbers, read or not.
#[derive(Debug, Clone)]
pub enum Numbers {
    /// On the CPU.
    Read(Vec<f64>),
    /// `[n]`, f32, where they were computed.
    Deferred(Tensor),
}

impl Numbers {
    /// The numbers of a tensor `[n]`: read where that costs nothing.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn of(tensor: Tensor) -> Result<Numbers> {
        match reads_are_deferred(tensor.device()) {
            true => Ok(Numbers::Deferred(tensor)),
            false => Ok(Numbers::Read(read(&tensor)?)),
        }
    }

    /// The numbers themselves, which may have to be waited for.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn read(&self) -> Result<Vec<f64>> {
        match self {
            Numbers::Read(numbers) => Ok(numbers.clone()),
            Numbers::Deferred(tensor) => read(tensor),
        }
    }

    /// Reads all of these, and waits only once.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn read_all<'a>(all: impl Iterator<Item = &'a mut Numbers>) -> Result<()> {
        let (mut waiting, mut tensors) = (Vec::new(), Vec::new());
        for numbers in all {
            if let Numbers::Deferred(tensor) = numbers {
                tensors.push(tensor.clone());
                waiting.push(numbers);
            }
        }
        if tensors.is_empty() {
            return Ok(());
        }
        let lengths: Vec<usize> = tensors.iter().map(Tensor::elem_count).collect();
        let mut numbers = read(&Tensor::cat(&tensors, 0)?)?.into_iter();
        for (waiting, length) in waiting.into_iter().zip(lengths) {
            *waiting = Numbers::Read(numbers.by_ref().take(length).collect());
        }
        Ok(())
    }
}

fn read(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

/// How many constants are remembered.
const REMEMBERED: usize = 256;

/// Device, type, shape, and the numbers' bytes. A process opens one device, so that its place says which it is.
type Key = (DeviceLocation, &'static str, Vec<usize>, Vec<u8>);

thread_local! {
    static CONSTANTS: RefCell<HashMap<Key, Tensor>> = RefCell::default();
}

/// A tensor of a few numbers that are asked for again and again, such as the weights of windows: it is brought to a device once.
/// Nothing may change it in place.
///
/// # Errors
/// Fails if the shape has not as many numbers.
pub fn constant<T: WithDType>(numbers: Vec<T>, dims: &[usize], device: &Device) -> Result<Tensor> {
    match reads_are_deferred(device) {
        true => remembered(numbers, dims, device),
        false => Ok(Tensor::from_vec(numbers, dims, device)?),
    }
}

fn remembered<T: WithDType>(numbers: Vec<T>, dims: &[usize], device: &Device) -> Result<Tensor> {
    let bytes = numbers.iter().flat_map(|number| number.to_f64().to_bits().to_le_bytes()).collect();
    let key = (device.location(), T::DTYPE.as_str(), dims.to_vec(), bytes);
    if let Some(tensor) = CONSTANTS.with_borrow(|constants| constants.get(&key).cloned()) {
        return Ok(tensor);
    }
    let tensor = Tensor::from_vec(numbers, dims, device)?;
    CONSTANTS.with_borrow_mut(|constants| {
        if constants.len() >= REMEMBERED {
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
    fn numbers_are_read_together_and_go_back_to_where_they_belong() -> Result<()> {
        let there = |numbers: &[f32]| Ok::<_, crate::Error>(Numbers::Deferred(Tensor::new(numbers, &Device::Cpu)?));
        let mut all = [there(&[1.0, 2.0])?, Numbers::Read(vec![3.0]), there(&[4.0])?, there(&[5.0, 6.0])?];
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
    fn a_constant_is_made_once_for_its_numbers_type_and_shape() -> Result<()> {
        let one = remembered(vec![1f32, 2.0], &[2], &Device::Cpu)?;
        assert_eq!(one.id(), remembered(vec![1f32, 2.0], &[2], &Device::Cpu)?.id());
        assert_eq!(one.to_vec1::<f32>()?, [1.0, 2.0]);
        assert_ne!(one.id(), remembered(vec![1f32, 2.0], &[2, 1], &Device::Cpu)?.id());
        assert_eq!(remembered(vec![1u32, 2], &[2], &Device::Cpu)?.to_vec1::<u32>()?, [1, 2]);
        Ok(())
    }
}
