//! A tensor within a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use candle_core::{DType, Device, Tensor};

/// A tensor within a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// The kind of its numbers, if it is one that can be read.
    pub(super) dtype: Option<DType>,
    pub(super) dims: Vec<usize>,
    /// Numbers from one to the next along each axis.
    pub(super) strides: Vec<usize>,
    /// Where its first number is.
    pub(super) start: u64,
    /// Where the numbers end that it may use; the file is at least as long.
    pub(super) end: u64,
}

/// The kinds of numbers that become f32, by the names of safetensors and of PyTorch's storages.
pub(super) fn dtype(name: &str) -> Option<DType> {
    match name {
        "F32" | "FloatStorage" => Some(DType::F32),
        "F16" | "HalfStorage" => Some(DType::F16),
        "BF16" | "BFloat16Storage" => Some(DType::BF16),
        "F64" | "DoubleStorage" => Some(DType::F64),
        _ => None,
    }
}

/// The strides of numbers that lie one after the other.
pub(super) fn dense(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(dims[axis]);
    }
    strides
}

impl Stored {
    /// Its numbers as f32. What is asked of memory is bounded by its shape, which must have been held against what is wanted.
    ///
    /// # Errors
    /// What is wrong with it, for a message that names it.
    pub(super) fn read(&self, file: &mut File) -> Result<Tensor, String> {
        let dtype = self.dtype.ok_or("has numbers of a kind that are no weights")?;
        let last = self
            .dims
            .iter()
            .zip(&self.strides)
            .try_fold(0usize, |last, (&dim, &stride)| last.checked_add(dim.checked_sub(1)?.checked_mul(stride)?));
        let size = dtype.size_in_bytes();
        let bytes = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        let bytes = bytes.filter(|&bytes| self.start.checked_add(bytes as u64).is_some_and(|end| end <= self.end));
        let bytes = bytes.ok_or("reaches beyond its numbers")?;
        let mut raw = vec![0; bytes];
        let read = file.seek(SeekFrom::Start(self.start)).and_then(|_| file.read_exact(&mut raw));
        read.map_err(|error| format!("cannot be read: {error}"))?;
        let broken = |error: candle_core::Error| format!("cannot be read: {error}");
        let flat =
            |raw: &[u8]| Tensor::from_raw_buffer(raw, dtype, &[raw.len() / size], &Device::Cpu)?.to_dtype(DType::F32);
        if self.strides == dense(&self.dims) {
            return flat(&raw).and_then(|numbers| numbers.reshape(self.dims.as_slice())).map_err(broken);
        }
        let dense: Vec<u8> = self.places().flat_map(|at| raw[at * size..][..size].iter().copied()).collect();
        flat(&dense).and_then(|numbers| numbers.reshape(self.dims.as_slice())).map_err(broken)
    }

    /// Where the numbers lie, in the order of the tensor.
    fn places(&self) -> impl Iterator<Item = usize> {
        let count: usize = self.dims.iter().product();
        (0..count).map(|mut index| {
            let mut place = 0;
            for (dim, stride) in self.dims.iter().zip(&self.strides).rev() {
                place += index % dim * stride;
                index /= dim;
            }
            place
        })
    }
}
