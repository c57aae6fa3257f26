//! What training needs of the data.

use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::spec::{Keep, Spec};

/// Whether there is something to validate on; an error if the data do not suffice for what the spec asks.
///
/// # Errors
/// [`Error::Usage`] if the task has no training data, or no validation data where the spec needs them.
pub fn check_data(spec: &Spec, data: &dyn Dataset) -> Result<bool> {
    let batch_size = spec.train.batch_size;
    data.check(batch_size)?;
    if data.batches(Split::Train, batch_size) == 0 {
        return Err(Error::Usage("the task, as it is set, has no training data".into()));
    }
    let validated = data.batches(Split::Validation, batch_size) > 0 && !data.metrics().is_empty();
    let needs = [
        ("train.schedule", spec.train.schedule.is_some()),
        ("train.early_stopping", spec.train.early_stopping.is_some()),
        ("train.keep: best", spec.train.keep == Keep::Best),
    ];
    match needs.iter().find(|(_, needed)| *needed && !validated) {
        Some((key, _)) => {
            Err(Error::Usage(format!("`{key}` needs validation data, and the task, as it is set, has none")))
        }
        None => Ok(validated),
    }
}
