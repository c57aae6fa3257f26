//! A conformance kit: what every task has to keep, whoever wrote it, checked by a function that a test can call.
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
mod learning;

use serde_json::{Value, json};

use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::plugins::Plugin;
use crate::spec::interface::Interface;
use crate::tasks::Task;

/// Computes on the CPU and moves numbers as a run on a GPU does: those that are only reported are read when an epoch ends, and an
/// epoch's batches are brought to the device together. For tests where there is no GPU.
pub fn as_on_a_gpu<T>(compute: impl FnOnce() -> T) -> T {
    crate::nn::pretending(compute)
}

/// Rows of the batches that are asked for.
const BATCH_SIZE: usize = 3;

/// Whether the training data depend on the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draws {
    /// Another seed trains on other data, or on the same in another order.
    BySeed,
    /// Every seed sees the same.
    Fixed,
}

/// Checks that a task keeps what the rest of the crate relies on.
///
/// `keys` are those under `task` in a spec, without `kind`; choose small sizes. What is checked:
///
/// - the keys: defaults are filled in and stable, unknown ones are refused, each has a description;
/// - there are data to validate with where [`Task::shape`] promises some;
/// - batches of every split have the shapes and types that [`Task::shape`] promises, with finite numbers and classes
///   in range; they are the same for the same seed in whatever order they are asked for, and depend on the seed as
///   `draws` says;
/// - training: two epochs of two steps change every parameter of a small network with a synthesizer, metrics are finite,
///   and a run that is stopped and resumed ends with the same bits;
/// - saved weights, loaded into another network, measure and draw the same;
/// - the showcase has as many labels as sequences, and as many images where it has any.
///
/// # Errors
/// [`Error::Training`] with the first thing that the task does not keep, or whatever the task itself reports.
pub fn check_task<T: Plugin + Task>(keys: Value, draws: Draws) -> Result<()> {
    let filled = check_keys::<T>(keys)?;
    let task = read::<T>(filled.clone())?;
    task.prepare()?;
    let open = |seed| task.open(seed);
    let mut interface = task.shape();
    if let Some(vocabulary) = open(1)?.vocabulary() {
        interface = interface.with_vocabulary(vocabulary.words().len());
    }
    if interface.validates != (open(1)?.batches(Split::Validation, BATCH_SIZE) > 0) {
        return Err(broken(T::KIND, "`validates` in its shape is not whether there are batches to validate with"));
    }
    batches::check(T::KIND, &interface, draws, &open)?;
    learning::check(T::KIND, &filled, &interface, &open)
}

/// Opens the task's data for a seed.
type Open<'a> = &'a dyn Fn(u64) -> Result<Box<dyn Dataset>>;

/// What is wrong with a task.
fn broken(kind: &str, what: impl std::fmt::Display) -> Error {
    Error::Training(format!("the task `{kind}`: {what}"))
}

fn read<T: Plugin>(keys: Value) -> Result<T> {
    serde_json::from_value(keys).map_err(|error| broken(T::KIND, format!("its keys: {error}")))
}

/// The keys with the defaults filled in.
fn fill<T: Plugin>(keys: Value) -> Result<Value> {
    serde_json::to_value(read::<T>(keys)?).map_err(|error| broken(T::KIND, format!("its keys: {error}")))
}

/// Checks what a plug-in makes of its keys, and fills in the defaults.
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
        return Err(broken(kind, "takes keys that it does not know; add `#[serde(deny_unknown_fields)]`"));
    }
    let schema = schemars::schema_for!(T).to_value();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        if property["description"].as_str().is_none_or(str::is_empty) {
            return Err(broken(kind, format!("its key `{key}` has no description; add a doc comment")));
        }
    }
    Ok(filled)
}

/// What reads the task's pictures, if it has some: a net that learns, so that every part of it can be checked.
fn encoder(interface: &Interface) -> Option<Value> {
    use crate::spec::interface::{First, Input};
    let pictures = matches!(interface.input, Input::Tokens { first: First::Picture { .. }, .. });
    pictures.then(|| json!({ "kind": "conv", "channels": [2, 3] }))
}

/// What a network has to be to read and answer the task.
fn embedding(interface: &Interface, data: &dyn Dataset) -> Result<Option<Value>> {
    use crate::data::{At, Inputs};
    use crate::spec::interface::Input;
    let Input::Tokens { .. } = interface.input else { return Ok(None) };
    let first = data.batch(At { split: Split::Train, epoch: 1, index: 0, batch_size: BATCH_SIZE })?;
    let width = match &first.inputs {
        Inputs::Tokens { feature: Some(feature), .. } => feature.dim(1)?,
        _ => 4,
    };
    Ok(Some(json!({ "size": width })))
}
