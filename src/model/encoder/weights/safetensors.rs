//! The description of a safetensors file: a length, a JSON text, and behind it the numbers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use serde::Deserialize;
use serde_json::Value;

use super::stored::{Stored, dense, dtype};

/// No description may be longer; that of a ResNet-152 has 100 kB.
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
/// What is wrong, for a message that names the file.
pub(super) fn open(file: &mut File, length: u64) -> Result<BTreeMap<String, Stored>, String> {
    let no = |why: &str| format!("is no safetensors file, or is damaged: {why}");
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| no("it ends within its first 8 bytes"))?;
    let size = u64::from_le_bytes(size);
    let data = match size.checked_add(8) {
        Some(data) if data <= length => data,
        _ => return Err(no(&format!("it claims a description of {size} bytes and has {length} altogether"))),
    };
    if size > MAX_HEADER {
        return Err(no(&format!("it claims a description of {size} bytes, more than {MAX_HEADER}")));
    }
    let mut header = Vec::new();
    file.take(size).read_to_end(&mut header).map_err(|error| no(&error.to_string()))?;
    let entries: BTreeMap<String, Value> =
        serde_json::from_slice(&header).map_err(|error| no(&format!("its description is no JSON ({error})")))?;
    let mut stored = BTreeMap::new();
    for (name, entry) in entries {
        if name == "__metadata__" {
            continue;
        }
        let entry = Entry::deserialize(entry).map_err(|error| no(&format!("`{name}`: {error}")))?;
        let (from, to) = entry.data_offsets;
        if from > to || to > length - data {
            let there = length - data;
            return Err(no(&format!(
                "`{name}` lies at {from} to {to} of {there} bytes; perhaps the file is cut short"
            )));
        }
        let strides = dense(&entry.shape);
        let (dtype, start, end) = (dtype(&entry.dtype), data + from, data + to);
        stored.insert(name, Stored { dtype, dims: entry.shape, strides, start, end });
    }
    Ok(stored)
}
