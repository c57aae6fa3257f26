//! Tensors on the CPU as slices, without a copy.

use std::cell::Cell;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, StorageRef, Tensor};

use crate::error::Result;

/// The values of a tensor, locked for reading.
pub struct Slice<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Slice<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[self.range.clone()],
            // Excluded by `read`.
            _ => &[],
        }
    }
}

/// The range of a contiguous tensor in its storage.
fn range(layout: &Layout) -> candle_core::Result<Range<usize>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(start..end),
        None => candle_core::bail!("a slice of a tensor that is not contiguous"),
    }
}

/// The values of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// Fails for any other tensor.
pub fn read(tensor: &Tensor) -> Result<Slice<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let range = range(layout)?;
    match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => Ok(Slice { storage, range }),
        _ => Err(not_here(tensor).into()),
    }
}

/// Applies `change` to the values of a contiguous f32 tensor on the CPU in place and returns its result. Deadlocks while a
/// [`Slice`] of the same storage is alive.
///
/// # Errors
/// Fails for any other tensor.
pub fn write<R>(tensor: &Tensor, change: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let op = Change { change: Cell::new(Some(change)), result: Cell::new(None) };
    tensor.inplace_op1(&op)?;
    op.result.take().ok_or_else(|| not_here(tensor).into())
}

fn not_here(tensor: &Tensor) -> candle_core::Error {
    candle_core::Error::Msg(format!("a slice of a tensor of {:?} on {:?}", tensor.dtype(), tensor.device().location()))
}

/// A closure as candle's in-place operation.
struct Change<F, R> {
    change: Cell<Option<F>>,
    result: Cell<Option<R>>,
}

impl<R, F: FnOnce(&mut [f32]) -> R> InplaceOp1 for Change<F, R> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let range = range(layout)?;
        if let (CpuStorage::F32(numbers), Some(change)) = (storage, self.change.take()) {
            self.result.set(Some(change(&mut numbers[range])));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn a_view_is_read_and_written_where_it_lies() -> Result<()> {
        let all = Tensor::arange(0f32, 6., &Device::Cpu)?;
        let view = all.narrow(0, 2, 3)?;
        assert_eq!(*read(&view)?, [2., 3., 4.]);
        assert_eq!(write(&view, |numbers| std::mem::replace(&mut numbers[1], 9.))?, 3.);
        assert_eq!(all.to_vec1::<f32>()?, [0., 1., 2., 9., 4., 5.]);
        Ok(())
    }

    #[test]
    fn other_tensors_are_refused() -> Result<()> {
        let matrix = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        assert!(read(&matrix.t()?).is_err() && write(&matrix.t()?, |_| ()).is_err());
        let doubles = Tensor::zeros(2, DType::F64, &Device::Cpu)?;
        assert!(read(&doubles).is_err() && write(&doubles, |_| ()).is_err());
        Ok(())
    }
}
