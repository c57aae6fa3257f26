//! Reads the recordings of a unit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::records::SeedRun;
use crate::train::quality::LayerGradient;

/// The recordings of one batch of an epoch, before its update.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Number of the batch within its epoch, from 1.
    pub number: usize,
    /// States, gradients and activity, by name: `hidden.layer0`.
    pub windows: BTreeMap<String, Windows>,
    /// Values of parameters, by name.
    pub weights: BTreeMap<String, Vec<f64>>,
    /// Gradients of layers, by the layer's name.
    pub gradients: BTreeMap<String, LayerGradient>,
}

/// One recorded quantity of a batch, `[windows, batch, width]`, row-major.
#[derive(Debug, PartialEq)]
pub(super) struct Windows {
    pub count: usize,
    pub batch: usize,
    pub width: usize,
    pub values: Vec<f64>,
}

/// The recordings in a unit's directory: epoch and file, by ascending epoch.
///
/// # Errors
/// [`Error::Io`] if the directory of recordings exists but cannot be read.
pub(super) fn files(unit: &SeedRun) -> Result<Vec<(usize, PathBuf)>> {
    let dir = unit.recordings_path();
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("read", &dir))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", &dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let epoch = name.strip_prefix("epoch-").and_then(|name| name.strip_suffix(".safetensors")?.parse().ok());
        files.extend(epoch.map(|epoch| (epoch, path)));
    }
    files.sort();
    Ok(files)
}

/// Reads the batches of one epoch's recordings, in order.
///
/// # Errors
/// [`Error::Data`] naming the file and the invalid tensor.
pub(super) fn read(path: &Path) -> Result<Vec<Batch>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|error| damaged(path, format!("cannot be read as safetensors ({error})")))?;
    let mut batches: BTreeMap<usize, Batch> = BTreeMap::new();
    for (name, tensor) in tensors {
        let parts = name.strip_prefix("batch").and_then(|rest| rest.split_once('.'));
        let Some((number, what)) = parts.and_then(|(number, what)| Some((number.parse().ok()?, what))) else {
            return Err(damaged(
                path,
                format!("`{name}` is no name of a recording, such as `batch0001.hidden.layer0`"),
            ));
        };
        let batch = batches.entry(number).or_insert_with(|| Batch { number, ..Batch::default() });
        match what.split_once('.') {
            Some(("weights", parameter)) => {
                batch.weights.insert(parameter.to_owned(), values(&tensor)?);
            }
            Some((which @ ("gradient" | "true_gradient"), layer)) => {
                let draws = tensor.to_vec2::<f32>().map_err(|_| {
                    damaged(path, format!("`{name}` is {:?}, not [draws, width] of 32 bits", tensor.dims()))
                })?;
                let empty = || LayerGradient { draws: Vec::new(), truth: Vec::new() };
                let gradient = batch.gradients.entry(layer.to_owned()).or_insert_with(empty);
                match which {
                    "gradient" => gradient.draws = draws,
                    _ => gradient.truth = draws.concat(),
                }
            }
            _ => {
                let (count, of, width) = tensor.dims3().map_err(|_| {
                    damaged(path, format!("`{name}` is {:?}, not [windows, batch, width]", tensor.dims()))
                })?;
                let windows = Windows { count, batch: of, width, values: values(&tensor)? };
                batch.windows.insert(what.to_owned(), windows);
            }
        }
    }
    for batch in batches.values() {
        check(path, batch)?;
    }
    Ok(batches.into_values().collect())
}

/// Checks that all quantities of a batch have the same windows and sequences, so that they can be correlated.
fn check(path: &Path, batch: &Batch) -> Result<()> {
    for (layer, gradient) in &batch.gradients {
        if gradient.draws.is_empty() || gradient.draws.iter().any(|draw| draw.len() != gradient.truth.len()) {
            let what = format!("in batch {}, the gradients of {layer} do not belong together", batch.number);
            return Err(damaged(path, what));
        }
    }
    let mut all = batch.windows.iter().map(|(name, windows)| (name, windows.count, windows.batch));
    let Some((first, count, of)) = all.next() else { return Ok(()) };
    match all.find(|(_, windows, sequences)| (*windows, *sequences) != (count, of)) {
        None => Ok(()),
        Some((name, windows, sequences)) => Err(damaged(
            path,
            format!(
                "in batch {}, `{name}` has {windows} windows of {sequences} sequences, and `{first}` {count} of {of}",
                batch.number
            ),
        )),
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn damaged(path: &Path, what: String) -> Error {
    Error::data(
        path,
        format!("{what}; train this seed again with `--force`, or remove the file to leave that epoch out"),
    )
}

impl Windows {
    /// The vectors of all windows and sequences, without the first `skip` windows.
    pub fn rows(&self, skip: usize) -> impl Iterator<Item = &[f64]> {
        // A width of zero has no rows.
        self.values.chunks_exact(self.width.max(1)).skip(skip * self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(tensors: &[(&str, Tensor)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recordings/epoch-0003.safetensors");
        std::fs::create_dir(dir.path().join("recordings")).unwrap();
        let tensors: std::collections::HashMap<String, Tensor> =
            tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        (dir, path)
    }

    fn windows(dims: (usize, usize, usize)) -> Tensor {
        let numbers = Tensor::arange(0f32, (dims.0 * dims.1 * dims.2) as f32, &Device::Cpu).unwrap();
        numbers.reshape(dims).unwrap()
    }

    #[test]
    fn batches_come_in_order_with_windows_and_weights() {
        let (dir, path) = write(&[
            ("batch0017.hidden.layer0", windows((3, 2, 2))),
            ("batch0001.hidden.layer0", windows((2, 1, 2))),
            ("batch0001.weights.linear.bias", Tensor::new(&[1f32, 2.], &Device::Cpu).unwrap()),
        ]);
        std::fs::write(dir.path().join("recordings/.tmp-x"), "half").unwrap();
        let unit = |directory: &Path| SeedRun { directory: directory.to_path_buf(), seed: 1 };
        assert_eq!(files(&unit(dir.path())).unwrap(), [(3, path.clone())]);
        let batches = read(&path).unwrap();
        assert_eq!(batches.iter().map(|batch| batch.number).collect::<Vec<_>>(), [1, 17]);
        assert_eq!(batches[0].weights["linear.bias"], [1.0, 2.0]);
        let hidden = &batches[1].windows["hidden.layer0"];
        assert_eq!((hidden.count, hidden.batch, hidden.width), (3, 2, 2));
        assert_eq!(hidden.rows(2).collect::<Vec<_>>(), [[8., 9.], [10., 11.]]);
        assert_eq!(hidden.rows(3).count(), 0);
        assert!(files(&unit(&dir.path().join("elsewhere"))).unwrap().is_empty());
    }

    #[test]
    fn invalid_recordings_are_named() {
        for (tensors, expected) in [
            (vec![("hidden.layer0", windows((1, 1, 1)))], "`hidden.layer0` is no name"),
            (vec![("batchx.hidden.layer0", windows((1, 1, 1)))], "is no name"),
            (vec![("batch0001.hidden.layer0", windows((1, 4, 1)).squeeze(0).unwrap())], "[4, 1], not [windows"),
            (
                vec![("batch0001.hidden.layer0", windows((2, 4, 1))), ("batch0001.true.layer0", windows((2, 3, 1)))],
                "`true.layer0` has 2 windows of 3 sequences",
            ),
            (vec![("batch0001.gradient.layer0", windows((1, 1, 1)))], "[1, 1, 1], not [draws"),
            (vec![("batch0001.gradient.layer0", windows((1, 2, 3)).squeeze(0).unwrap())], "do not belong together"),
        ] {
            let (_dir, path) = write(&tensors);
            let error = read(&path).unwrap_err();
            assert!(error.to_string().contains(expected) && error.exit_code() == 2, "{error}");
            assert!(error.to_string().contains("epoch-0003"), "{error}");
        }
        let (_dir, path) = write(&[]);
        std::fs::write(&path, "no tensors").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("safetensors"));
    }
}
