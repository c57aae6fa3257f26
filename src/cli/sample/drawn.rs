//! The outputs for the patterns of a drawing task.

use std::path::Path;

use candle_core::Tensor;

use crate::cli::print;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::report::npy;
use crate::run::trained_network::TrainedNetwork;
use crate::tasks::Registry;
use crate::train::ShowcaseResult;

/// Fails if a file could not be written.
pub fn check_out(out: Option<&Path>) -> Result<()> {
    let folder = out.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(Error::Usage(format!(
            "`--out` names a file in {}, which is not a directory; create it first",
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// Prints the outputs, and writes them to `out`.
pub fn execute(network: &TrainedNetwork, out: Option<&Path>, registry: &Registry) -> Result<()> {
    let shown = network.show(registry)?;
    print(&table(&shown)?)?;
    if let Some(out) = out {
        let numbers = shown.predictions.flatten_all()?.to_vec1::<f32>()?;
        write_atomically(out, &npy(shown.predictions.dims(), numbers))?;
        print(&format!("\nall steps in {}\n", out.display()))?;
    }
    Ok(())
}

/// One line per pattern: last output, last target, and the mean squared distance over all steps.
fn table(shown: &ShowcaseResult) -> Result<String> {
    let squares = (&shown.predictions - &shown.targets)?.sqr()?.sum(2)?;
    let mse = squares.mean(1)?.to_vec1::<f32>()?;
    let last = |tensor: &Tensor| -> Result<Vec<Vec<f32>>> {
        Ok(tensor.narrow(1, tensor.dim(1)? - 1, 1)?.squeeze(1)?.to_vec2::<f32>()?)
    };
    let (ends, wanted) = (last(&shown.predictions)?, last(&shown.targets)?);
    let vector = |values: &[f32]| {
        let parts: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
        format!("({})", parts.join(", "))
    };
    let width = shown.labels.iter().map(String::len).max().unwrap_or(0).max("pattern".len());
    let mut text = format!("{:<width$}  {:<18}  {:<18}  mse\n", "pattern", "last answer", "target");
    for (index, label) in shown.labels.iter().enumerate() {
        let (end, target) = (vector(&ends[index]), vector(&wanted[index]));
        text += &format!("{label:<width$}  {end:<18}  {target:<18}  {:.4}\n", mse[index]);
    }
    Ok(text)
}
