//! The files that weights are exported to.

use std::io::{Cursor, Write};

use candle_core::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::error::{Error, Result};
use crate::report::npy;
use crate::run::unit::to_safetensors;

/// Multiple of bytes at which the data of an entry start, as PyTorch has it.
const ALIGNMENT: u16 = 64;

/// A format of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A state dictionary for `torch.load(FILE, weights_only=True)`: .pt
    Torch,
    /// .safetensors
    Safetensors,
    /// Arrays for `numpy.load`: .npz
    Numpy,
}

impl Format {
    /// The ending of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Torch => "pt",
            Format::Safetensors => "safetensors",
            Format::Numpy => "npz",
        }
    }

    /// The bytes of a file with these tensors, f32 on the CPU, in this order.
    ///
    /// # Errors
    /// Fails on a tensor error, or if a zip file cannot hold the tensors.
    pub fn bytes(self, tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
        match self {
            Format::Torch => torch(tensors),
            Format::Safetensors => to_safetensors(tensors, None),
            Format::Numpy => numpy(tensors),
        }
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// `NAME.npy` for each tensor.
fn numpy(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let array = |(name, tensor): &(String, Tensor)| Ok((format!("{name}.npy"), npy(tensor.dims(), values(tensor)?)));
    zipped(tensors.iter().map(array).collect::<Result<_>>()?)
}

/// What `torch.save` writes: a pickled dictionary, and the values of each tensor by its number.
fn torch(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let dense = |(name, tensor): &(String, Tensor)| Ok((name.clone(), tensor.contiguous()?));
    let tensors = tensors.iter().map(dense).collect::<Result<Vec<_>>>()?;
    let mut entries =
        vec![("weights/data.pkl".to_string(), dictionary(&tensors)), ("weights/byteorder".into(), b"little".to_vec())];
    for (key, (_, tensor)) in tensors.iter().enumerate() {
        let bytes = values(tensor)?.iter().flat_map(|value| value.to_le_bytes()).collect();
        entries.push((format!("weights/data/{key}"), bytes));
    }
    entries.push(("weights/version".into(), b"3\n".to_vec()));
    zipped(entries)
}

/// A zip file of uncompressed entries.
fn zipped(entries: Vec<(String, Vec<u8>)>) -> Result<Vec<u8>> {
    let write = || -> zip::result::ZipResult<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let plain =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
        for (name, bytes) in entries {
            zip.start_file(name, plain)?;
            zip.write_all(&bytes)?;
        }
        Ok(zip.finish()?.into_inner())
    };
    write().map_err(|error| Error::Usage(format!("the weights do not fit a zip file: {error}")))
}

/// The pickle (protocol 2) of a dictionary of contiguous tensors, whose storages are numbered in order. It calls
/// `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)` alone, which `weights_only` permits.
fn dictionary(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for (key, (name, tensor)) in tensors.iter().enumerate() {
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(b"ctorch\nFloatStorage\n");
        text(&mut pickle, &key.to_string());
        text(&mut pickle, "cpu");
        number(&mut pickle, tensor.elem_count());
        pickle.extend(b"tQ");
        number(&mut pickle, 0);
        for sizes in [tensor.dims(), tensor.stride()] {
            pickle.push(b'(');
            sizes.iter().for_each(|&size| number(&mut pickle, size));
            pickle.push(b't');
        }
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    pickle
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn number(pickle: &mut Vec<u8>, number: usize) {
    match i32::try_from(number) {
        Ok(small) => {
            pickle.push(b'J');
            pickle.extend(small.to_le_bytes());
        }
        Err(_) => {
            pickle.extend(b"\x8a\x08");
            pickle.extend((number as u64).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use candle_core::Device;

    use super::*;

    fn tensors() -> Vec<(String, Tensor)> {
        let of = |dims: &[usize]| {
            let values = (0..dims.iter().product()).map(|index: usize| index as f32 / 3.0).collect::<Vec<f32>>();
            Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
        };
        vec![("rnn.weight_ih_l0".into(), of(&[4, 3])), ("linear.bias".into(), of(&[2])), ("scale".into(), of(&[]))]
    }

    #[test]
    fn the_same_tensors_are_the_same_bytes() {
        for format in [Format::Torch, Format::Safetensors, Format::Numpy] {
            assert_eq!(format.bytes(&tensors()).unwrap(), format.bytes(&tensors()).unwrap(), "{format:?}");
        }
    }

    #[test]
    fn an_archive_of_arrays_has_one_file_per_tensor() {
        let bytes = Format::Numpy.bytes(&tensors()).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!(archive.len(), 3);
        for (name, tensor) in tensors() {
            let mut array = Vec::new();
            archive.by_name(&format!("{name}.npy")).unwrap().read_to_end(&mut array).unwrap();
            assert_eq!(array, npy(tensor.dims(), values(&tensor).unwrap()));
        }
    }

    #[test]
    fn sizes_beyond_31_bits_have_a_form_of_their_own() {
        let mut pickle = Vec::new();
        number(&mut pickle, 1 << 31);
        assert_eq!(pickle, b"\x8a\x08\0\0\0\x80\0\0\0\0");
    }
}
