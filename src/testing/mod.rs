//! A conformance kit: functions for tests, which check the requirements on every plug-in.
//!
//! ```
//! use ccdni::tasks::LineDraw;
//! use ccdni::testing::{Draws, check_task};
//!
//! # fn main() -> ccdni::Result<()> {
//! check_task::<LineDraw>(serde_json::json!({"points": 3, "train_size": 20, "test_size": 10}), Draws::BySeed)
//! # }
//! ```

mod batches;
mod blocks;
mod cells;
mod learning;
mod optimizer;
mod rules;
mod synthesizer;

pub use blocks::check_block;
use candle_core::Device;
pub use optimizer::check_optimizer;
pub use rules::check_rule;
use serde_json::{Value, json};
pub use synthesizer::check_synthesizer;

use crate::data::{BatchIndex, Dataset, Inputs, Split};
use crate::error::{Error, Result};
use crate::nn::cells::Cell;
use crate::plugins::{Plugin, json_schema};
use crate::spec::Spec;
use crate::spec::task_shape::{First, Input, TaskShape};
use crate::tasks::Task;
use crate::train::Plugins;

/// Computes on the CPU, but transfers numbers as on a GPU: reported numbers are read at the end of an epoch, and an epoch's
/// batches are uploaded together. For tests without a GPU.
pub fn as_on_a_gpu<T>(compute: impl FnOnce() -> T) -> T {
    crate::nn::pretending(compute)
}

const BATCH_SIZE: usize = 3;

/// Whether the training data depend on the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draws {
    /// Another seed trains on other data, or on the same data in another order.
    BySeed,
    /// Every seed trains on the same data in the same order.
    Fixed,
}

/// Checks that a task meets the requirements of the rest of the crate.
///
/// `keys` are those under `task` in a spec, without `kind`; choose small sizes. What is checked:
///
/// - the keys: defaults are filled in and stable, unknown ones are refused, each has a description;
/// - there are validation data if and only if [`Task::shape`] declares them;
/// - batches of every split have the shapes and types that [`Task::shape`] declares, with finite numbers and classes in
///   range; they are the same for the same seed in whatever order they are requested, and depend on the seed as `draws`
///   states;
/// - training: two epochs of two steps change every parameter of a small network with a synthesizer, metrics are finite, and
///   a run that is stopped and resumed ends with the same bits;
/// - saved weights, loaded into another network, measure, draw and evaluate the same;
/// - the showcase has as many labels as sequences, and as many images if it has any.
///
/// # Errors
/// [`Error::Training`] with the first violation, or an error of the task itself.
pub fn check_task<T: Plugin + Task>(keys: Value, draws: Draws) -> Result<()> {
    let filled = check_keys::<T>(keys)?;
    let task = read::<T>(filled.clone())?;
    task.prepare()?;
    let opened = task.open_with(1, None)?;
    let shape = opened.shape(&task.shape());
    if shape.validates != (opened.dataset.batches(Split::Validation, BATCH_SIZE) > 0) {
        return Err(broken(T::KIND, "`validates` in its shape disagrees with its validation batches"));
    }
    let spec = spec(T::KIND, filled, &shape, &*opened.dataset)?;
    let open = |seed| Ok(task.open_with(seed, Some((&spec.model, &Device::Cpu)))?.dataset);
    batches::check(T::KIND, &shape, draws, &open)?;
    learning::check(T::KIND, &Plugins::built_in(), &spec, &shape, &open)
}

/// Checks that a recurrent cell meets the requirements of the rest of the crate.
///
/// `keys` are those of the cell in a layer's table, without `cell`. What is checked:
///
/// - the keys, as those of a task;
/// - [`Cell::step`] returns states of the declared width, and its gradients agree with finite differences (in `f64`);
/// - [`Cell::pointwise`], if it has one, gives the states of the step, and its derivatives agree with finite differences;
/// - a small network with two such layers and synthesizers, trained over several windows in both orders, ends with the same
///   weights, up to rounding, through the step alone, through its kernels and through its closed form, if it has these.
///
/// # Errors
/// [`Error::Training`] with the first violation, or an error of the cell itself.
///
/// ```
/// # fn main() -> ccdni::Result<()> {
/// ccdni::testing::check_cell::<ccdni::nn::cells::Gru>(serde_json::json!({}))
/// # }
/// ```
pub fn check_cell<C: Plugin + Cell>(keys: Value) -> Result<()> {
    let filled = check_keys::<C>(keys)?;
    cells::check_step(C::KIND, &read::<C>(filled.clone())?)?;
    cells::check_seeds(C::KIND, &read::<C>(filled.clone())?)?;
    cells::check_pointwise(C::KIND, &read::<C>(filled.clone())?)?;
    cells::check_fast_paths::<C>(&filled)
}

/// Opens the task's data for a seed.
type Open<'a> = &'a dyn Fn(u64) -> Result<Box<dyn Dataset>>;

/// The error for a plug-in that does not conform.
fn broken(kind: &str, what: impl std::fmt::Display) -> Error {
    Error::Training(format!("`{kind}`: {what}"))
}

fn read<T: Plugin>(keys: Value) -> Result<T> {
    serde_json::from_value(keys).map_err(|error| broken(T::KIND, format!("its keys: {error}")))
}

/// The keys with the defaults filled in.
fn fill<T: Plugin>(keys: Value) -> Result<Value> {
    serde_json::to_value(read::<T>(keys)?).map_err(|error| broken(T::KIND, format!("its keys: {error}")))
}

/// Checks a plug-in's keys, and fills in the defaults.
fn check_keys<T: Plugin>(keys: Value) -> Result<Value> {
    let kind = T::KIND;
    if kind.is_empty() || T::ABOUT.is_empty() {
        return Err(broken(kind, "has no name or no description"));
    }
    let filled = fill::<T>(keys)?;
    if fill::<T>(filled.clone())? != filled {
        return Err(broken(kind, "its keys change when they are written and read again"));
    }
    if let Some(problem) = read::<T>(filled.clone())?.check().first() {
        return Err(broken(kind, format!("refuses these keys: {problem}")));
    }
    let mut unknown = filled.clone();
    let Some(table) = unknown.as_object_mut() else { return Err(broken(kind, "its keys are not a table")) };
    table.insert("no_such_key".into(), json!(1));
    if fill::<T>(unknown).is_ok() {
        return Err(broken(kind, "accepts unknown keys; add `#[serde(deny_unknown_fields)]`"));
    }
    let schema = json_schema::<T>();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        if property["description"].as_str().is_none_or(str::is_empty) {
            return Err(broken(kind, format!("its key `{key}` has no description; add a doc comment")));
        }
    }
    Ok(filled)
}

/// A small network, with a synthesizer if the sequence has a window boundary, or between blocks for whole images.
fn spec(kind: &str, keys: Value, shape: &TaskShape, data: &dyn Dataset) -> Result<Spec> {
    let mut task = keys;
    task["kind"] = json!(kind);
    let mut layer = json!({ "cell": "lstm", "hidden": 6 });
    if shape.steps != Some(1) {
        layer["dni"] = json!({ "hidden": [7] });
    }
    let mut model = json!({ "layers": [layer] });
    if let Input::Image { .. } = shape.input {
        let dni = json!({ "hidden": [7], "context": "target" });
        model = json!({ "blocks": [
            { "kind": "flatten" }, { "kind": "linear", "units": 6, "dni": dni }, { "kind": "relu" }, { "kind": "linear" },
        ] });
    }
    if let Input::Tokens { first, .. } = shape.input {
        model["embed"] = json!({ "size": if first == First::Feature { feature(data)? } else { 4 } });
        if let First::Image { .. } = first {
            // A trainable backbone, so that every part of it can be checked.
            model["encoder"] = json!({ "kind": "conv", "channels": [2, 3] });
        }
    }
    let window = shape.steps.map_or(2, |steps| (steps / 2).max(1));
    let train =
        json!({ "epochs": 2, "batch_size": BATCH_SIZE, "bptt": window, "optimizer": { "kind": "adam", "lr": 0.01 } });
    serde_json::from_value(json!({ "task": task, "model": model, "train": train }))
        .map_err(|error| broken(kind, format!("has keys that a spec cannot hold: {error}")))
}

/// The width of the feature vectors that are the first step.
fn feature(data: &dyn Dataset) -> Result<usize> {
    let first = data.batch(BatchIndex { split: Split::Train, epoch: 1, index: 0, batch_size: BATCH_SIZE, level: 0 })?;
    match &first.inputs {
        Inputs::Tokens { feature: Some(feature), .. } => Ok(feature.dim(1)?),
        _ => Ok(4),
    }
}
