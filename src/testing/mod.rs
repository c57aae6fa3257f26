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
/// - there are data to validate with where [`Task::validates`] says so;
/// - batches of every split have the shapes and types that [`Task::interface`] promises, with finite numbers and classes
///   in range; they are the same for the same seed in whatever order they are asked for, and depend on the seed as
///   `draws` says;
/// - training: two epochs of two steps change every parameter of a small network with a synthesizer, metrics are finite,
///   and a run that is stopped and resumed ends with the same bits;
/// - saved weights, loaded into another network, measure and draw the same;
/// - the showcase has as many labels as sequences, and as many images where it has any.
///
/// # Errors
/// [`Error::Training`] with the first thing that the task does not keep, or whatever the task itself reports.
pub fn check_task<T: Task>(keys: Value, draws: Draws) -> Result<()> {
    let subject = Subject::<T> { filled: fill::<T>(keys)?, task: std::marker::PhantomData };
    subject.check_keys()?;
    T::prepare(&subject.spec()?)?;
    let open = |seed| T::open(subject.spec()?, seed);
    let mut interface = T::interface(&subject.spec()?);
    if let Some(vocabulary) = open(1)?.vocabulary() {
        interface = interface.with_vocabulary(vocabulary.words().len());
    }
    let validated = open(1)?.batches(Split::Validation, BATCH_SIZE) > 0;
    if validated != T::validates(&subject.spec()?) {
        return Err(broken(T::KIND, "its `validates` does not say whether there are batches to validate with"));
    }
    batches::check(T::KIND, &interface, draws, &open)?;
    learning::check(T::KIND, &subject.filled, &interface, &open)
}

/// Opens the task's data for a seed.
type Open<'a> = &'a dyn Fn(u64) -> Result<Box<dyn Dataset>>;

/// What is wrong with a task.
fn broken(kind: &str, what: impl std::fmt::Display) -> Error {
    Error::Training(format!("the task `{kind}`: {what}"))
}

struct Subject<T> {
    /// The keys with the defaults filled in.
    filled: Value,
    task: std::marker::PhantomData<T>,
}

fn fill<T: Task>(keys: Value) -> Result<Value> {
    let spec: T::Spec = serde_json::from_value(keys).map_err(|error| broken(T::KIND, format!("its keys: {error}")))?;
    serde_json::to_value(spec).map_err(|error| broken(T::KIND, format!("its keys: {error}")))
}

impl<T: Task> Subject<T> {
    fn spec(&self) -> Result<T::Spec> {
        serde_json::from_value(self.filled.clone()).map_err(|error| broken(T::KIND, format!("its keys: {error}")))
    }

    fn check_keys(&self) -> Result<()> {
        let kind = T::KIND;
        if kind.is_empty() || T::ABOUT.is_empty() {
            return Err(broken(kind, "has no name or no description"));
        }
        if fill::<T>(self.filled.clone())? != self.filled {
            return Err(broken(kind, "its keys change when they are written and read again"));
        }
        let problems = T::check(&self.spec()?);
        if let Some(problem) = problems.first() {
            return Err(broken(kind, format!("refuses these keys: {problem}")));
        }
        let mut unknown = self.filled.clone();
        let Some(table) = unknown.as_object_mut() else { return Err(broken(kind, "its spec is not a table")) };
        table.insert("no_such_key".into(), json!(1));
        if fill::<T>(unknown).is_ok() {
            return Err(broken(kind, "takes keys that it does not know; add `#[serde(deny_unknown_fields)]`"));
        }
        let schema = schemars::schema_for!(T::Spec).to_value();
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            if property["description"].as_str().is_none_or(str::is_empty) {
                return Err(broken(kind, format!("its key `{key}` has no description; add a doc comment")));
            }
        }
        Ok(())
    }
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
