//! `scores.npy`, `predictions.npy`, `targets.npy`, and the JSON files that name their axes.

use std::path::Path;

use serde_json::{Value, json};

use super::units::{FinishedSeed, Showcase};
use crate::error::{Error, Result};

/// A number type of NumPy.
pub trait Element: Copy {
    /// NumPy's name for the type.
    const DESCR: &'static str;
    /// Appends its bytes in little-endian order.
    fn extend(self, bytes: &mut Vec<u8>);
}

impl Element for f64 {
    const DESCR: &'static str = "<f8";
    fn extend(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
}

impl Element for f32 {
    const DESCR: &'static str = "<f4";
    fn extend(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
}

impl Element for i64 {
    const DESCR: &'static str = "<i8";
    fn extend(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
}

/// An array as a NumPy file, format version 1.0; `data` in C order.
pub fn npy<T: Element>(shape: &[usize], data: impl IntoIterator<Item = T>) -> Vec<u8> {
    // The notation of Python tuples: a single element needs a comma.
    let axes = match shape {
        [length] => format!("{length},"),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut header = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({axes}), }}", T::DESCR);
    // NumPy leaves room for the first length to grow to 21 digits. Magic, version and length take 10 bytes, a line
    // feed one more; the data start at a multiple of 64, after 1 to 64 spaces.
    let room = shape.first().map_or(0, |length| 21 - length.to_string().len());
    header.extend(std::iter::repeat_n(' ', room));
    let padding = 64 - (header.len() + 11) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    data.into_iter().for_each(|number| number.extend(&mut bytes));
    bytes
}

/// `scores.npy`, (seeds, models, metrics, epochs), and its axes. Epochs after an early stop are NaN.
pub(super) fn scores(run: &Path, units: &[FinishedSeed]) -> (Vec<u8>, Value) {
    let epochs = units.iter().map(|unit| unit.table.rows.len()).max().unwrap_or(0);
    let names = units.first().map(|unit| unit.table.scores()).unwrap_or_default();
    let mut data = Vec::with_capacity(units.len() * names.len() * epochs);
    for unit in units {
        for name in &names {
            let mut column = unit.table.column(name);
            column.resize(epochs, f64::NAN);
            data.extend(column);
        }
    }
    let model = run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let axes = json!({
        "axes": ["seeds", "models", "metrics", "epochs"],
        "seeds": seeds(units),
        "models": [model],
        "metrics": names,
        "epochs": (1..=epochs).collect::<Vec<_>>(),
    });
    (npy(&[units.len(), 1, names.len(), epochs], data), axes)
}

/// The showcase's outputs of all seeds.
pub(super) struct Drawn {
    /// `predictions.npy`, (seeds, patterns, time, size).
    pub predictions: Vec<u8>,
    /// `targets.npy`, of the same shape: targets may differ between seeds.
    pub targets: Vec<u8>,
    /// The names of the axes.
    pub axes: Value,
}

/// The showcase's outputs; `None` where the task has no showcase.
pub(super) fn drawn(run: &Path, units: &[FinishedSeed]) -> Result<Option<Drawn>> {
    let showcases: Vec<&Showcase> = units.iter().filter_map(|unit| unit.showcase.as_ref()).collect();
    let Some(&first) = showcases.first() else { return Ok(None) };
    let fits = |showcase: &&Showcase| showcase.shape == first.shape && showcase.labels == first.labels;
    if showcases.len() < units.len() || !showcases.iter().all(fits) {
        let what = "the seeds' showcase.safetensors differ in patterns or shape, or one is missing; \
                    train them again with `--force`";
        return Err(Error::data(&run.join("seeds"), what));
    }
    let mut shape = vec![units.len()];
    shape.extend(first.shape);
    let axes = json!({
        "axes": ["seeds", "patterns", "time", "size"],
        "seeds": seeds(units),
        "patterns": first.labels,
    });
    Ok(Some(Drawn {
        predictions: npy(&shape, showcases.iter().flat_map(|showcase| showcase.predictions.iter().copied())),
        targets: npy(&shape, showcases.iter().flat_map(|showcase| showcase.targets.iter().copied())),
        axes,
    }))
}

fn seeds(units: &[FinishedSeed]) -> Vec<u64> {
    units.iter().map(|unit| unit.seed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;

    #[test]
    fn headers_are_those_that_numpy_writes() {
        // From numpy.lib.format.write_array_header_1_0 of NumPy 2.4.
        for (shape, text, spaces) in [
            (&[][..], "()", 62),
            (&[3], "(3,)", 60),
            (&[2, 3], "(2, 3)", 58),
            (&[3, 1, 5], "(3, 1, 5)", 55),
            (&[3, 1, 5, 2], "(3, 1, 5, 2)", 52),
            (&[1000, 1, 12, 1_000_000], "(1000, 1, 12, 1000000)", 42),
        ] {
            let header =
                format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {text}, }}{}\n", " ".repeat(spaces));
            let expected = [b"\x93NUMPY\x01\x00v\x00", header.as_bytes()].concat();
            assert_eq!(npy(shape, std::iter::empty::<f64>()), expected, "{shape:?}");
        }
        let bytes = npy(&[1; 15], [1.0]);
        assert_eq!(bytes.len(), 192 + 8);
    }

    #[test]
    fn arrays_read_back_with_their_shape() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.npy");
        for shape in [vec![2, 3], vec![6], vec![1, 1, 6, 1]] {
            let bytes = npy(&shape, (0..6).map(f64::from));
            assert_eq!((bytes.len() - 6 * 8) % 64, 0, "data are aligned");
            std::fs::write(&path, bytes).unwrap();
            let array = Tensor::read_npy(&path).unwrap();
            assert_eq!(array.dims(), shape);
            let values = array.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        }
    }
}
