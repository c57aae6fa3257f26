//! A tensor in a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use candle_core::{DType, Device, Tensor};

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its dtype, if supported.
    pub(super) dtype: Option<DType>,
    pub(super) dims: Vec<usize>,
    /// In elements.
    pub(super) strides: Vec<usize>,
    /// Offset of its first element in bytes.
    pub(super) start: u64,
    /// End of its storage in bytes; within the file.
    pub(super) end: u64,
}

/// The supported dtypes by their names in safetensors and PyTorch's storages.
pub(super) fn dtype(name: &str) -> Option<DType> {
    match name {
        "F32" | "FloatStorage" => Some(DType::F32),
        "F16" | "HalfStorage" => Some(DType::F16),
        "BF16" | "BFloat16Storage" => Some(DType::BF16),
        "F64" | "DoubleStorage" => Some(DType::F64),
        _ => None,
    }
}

/// The strides of a contiguous tensor.
pub(super) fn dense(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(dims[axis]);
    }
    strides
}

impl Stored {
    /// Its values as f32. The caller must have checked its shape, which bounds the memory used.
    ///
    /// # Errors
    /// A description of the problem, without the tensor's name.
    pub(super) fn read(&self, file: &mut File) -> Result<Tensor, String> {
        let dtype = self.dtype.ok_or("has an unsupported dtype")?;
        let last = self
            .dims
            .iter()
            .zip(&self.strides)
            .try_fold(0usize, |last, (&dim, &stride)| last.checked_add(dim.checked_sub(1)?.checked_mul(stride)?));
        let size = dtype.size_in_bytes();
        let bytes = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        let bytes = bytes.filter(|&bytes| self.start.checked_add(bytes as u64).is_some_and(|end| end <= self.end));
        let bytes = bytes.ok_or("extends beyond its storage")?;
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

    /// The offsets of its elements in row-major order.
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
