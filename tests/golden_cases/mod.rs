//! The walk over a directory of golden cases, and what the cases share.

mod analysis;
mod caption;
mod ff;
mod lm;
mod optim;
mod rnn;
mod rules;
mod tasks;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::on_device;

/// What a case's test returns; any error fails it.
pub type Outcome = Result<(), Failed>;

/// One test per case below `root`. A directory that should hold cases and holds none is a test that fails.
pub fn trials(root: &Path) -> Vec<Trial> {
    let mut all = Vec::new();
    for dir in entries(root).into_iter().filter(|path| path.is_dir()) {
        let room = stem(&dir);
        let trials = match room.as_str() {
            "analysis" => analysis::trials(&dir),
            "caption" => caption::trials(&dir),
            "ff" => on_device(ff::trials(&dir)),
            "lm" => on_device(lm::trials(&dir)),
            "rnn" => on_device(rnn::trials(&dir)),
            "optim" => on_device(optim::trials(&dir)),
            "rules" => rules::trials(&dir),
            "tasks" => tasks::trials(&dir),
            _ => {
                not_covered(&room, "not covered yet");
                continue;
            }
        };
        if trials.is_empty() && json_files(&dir).is_empty() {
            all.push(failing(room, format!("{} holds no case", dir.display())));
        }
        all.extend(trials);
    }
    if all.is_empty() {
        all.push(failing("golden", format!("{} holds no case", root.display())));
    }
    all
}

/// Says that something is there and why it is not tested. On standard error: the other one is for the tests' names.
pub fn not_covered(name: &str, why: &str) {
    eprintln!("{name}: {why}");
}

/// A test that fails: something is there that cannot be a case.
pub fn failing(name: impl Into<String>, why: String) -> Trial {
    Trial::test(name, move || Err(why.into()))
}

/// What is in a directory, sorted by name; nothing where it cannot be read.
pub fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}

/// The JSON files of a directory, sorted by name.
pub fn json_files(dir: &Path) -> Vec<PathBuf> {
    entries(dir).into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
}

/// The name of a case: a folder's, or a file's without its extension.
pub fn stem(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads a JSON file.
pub fn read_json(path: &Path) -> Result<Value, Failed> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Reads a safetensors file onto the CPU.
pub fn read_tensors(path: &Path) -> Result<HashMap<String, Tensor>, Failed> {
    candle_core::safetensors::load(path, &Device::Cpu).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A tensor by name.
pub fn tensor<'a>(tensors: &'a HashMap<String, Tensor>, name: &str) -> Result<&'a Tensor, Failed> {
    tensors.get(name).ok_or_else(|| format!("there is no tensor `{name}`").into())
}

/// A number at a JSON pointer.
pub fn number(case: &Value, pointer: &str) -> Result<f64, Failed> {
    let value = case.pointer(pointer).and_then(Value::as_f64);
    value.ok_or_else(|| format!("there is no number at {pointer}").into())
}

/// Marks tests as left out where the device that they are for is not there.
pub fn on_device(trials: Vec<Trial>) -> Vec<Trial> {
    if on_device::device().is_some() {
        return trials;
    }
    if let Some(trial) = trials.first() {
        on_device::skipped(&format!("{}/*", trial.name().split('/').next().unwrap_or_default()));
    }
    trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect()
}

/// Fails if shapes differ or any element is off by more than `tolerance`.
pub fn assert_close(what: &str, actual: &Tensor, expected: &Tensor, tolerance: f64) -> Outcome {
    if actual.dims() != expected.dims() {
        return Err(format!("{what}: shape {:?}, expected {:?}", actual.dims(), expected.dims()).into());
    }
    let flat = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    for (index, (a, e)) in flat(actual)?.into_iter().zip(flat(expected)?).enumerate() {
        // Not the other way round: a NaN has to fail.
        let within = (a - e).abs() <= tolerance;
        if !within {
            return Err(format!("{what}: element {index} is {a}, expected {e} within {tolerance}").into());
        }
    }
    Ok(())
}
