//! The header of a safetensors file: its length, then JSON; the data follow.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use serde::Deserialize;
use serde_json::Value;

use super::stored::{Stored, dense, dtype};

/// Largest header accepted; that of a ResNet-152 has 100 kB.
const MAX_HEADER: u64 = 4 << 20;

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// The tensors of a file of `length` bytes.
///
/// # Errors
/// A description of the problem, without the file's name.
pub(super) fn open(file: &mut File, length: u64) -> Result<BTreeMap<String, Stored>, String> {
    let no = |why: &str| format!("is not a safetensors file, or is damaged: {why}");
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| no("it ends within its first 8 bytes"))?;
    let size = u64::from_le_bytes(size);
    let data = match size.checked_add(8) {
        Some(data) if data <= length => data,
        _ => return Err(no(&format!("its header claims {size} bytes, and the file has {length}"))),
    };
    if size > MAX_HEADER {
        return Err(no(&format!("its header claims {size} bytes, more than {MAX_HEADER}")));
    }
    let mut header = Vec::new();
    file.take(size).read_to_end(&mut header).map_err(|error| no(&error.to_string()))?;
    let entries: BTreeMap<String, Value> =
        serde_json::from_slice(&header).map_err(|error| no(&format!("its header is not valid JSON ({error})")))?;
    let mut stored = BTreeMap::new();
    for (name, entry) in entries {
        if name == "__metadata__" {
            continue;
        }
        let entry = Entry::deserialize(entry).map_err(|error| no(&format!("`{name}`: {error}")))?;
        let (from, to) = entry.data_offsets;
        if from > to || to > length - data {
            let there = length - data;
            return Err(no(&format!("`{name}` is at {from} to {to} of {there} bytes; the file may be truncated")));
        }
        let strides = dense(&entry.shape);
        let (dtype, start, end) = (dtype(&entry.dtype), data + from, data + to);
        stored.insert(name, Stored { dtype, dims: entry.shape, strides, start, end });
    }
    Ok(stored)
}
