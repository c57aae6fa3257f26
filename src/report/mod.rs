//! Reports: tables, arrays and plots of a run, made from the files of its finished units alone.
//!
//! The same files give byte-identical reports.

pub mod analysis;
mod arrays;
mod axis;
mod bitmap;
pub mod compare;
mod curves;
mod drawings;
mod figure;
pub mod frame;
mod grid;
mod image_grid;
mod legend;
pub mod page;
mod panel;
pub mod statistics;
mod style;
mod tables;
pub mod tensorboard;
pub(crate) mod units;

pub use arrays::{Element, npy};
pub use figure::Format;

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::write_atomically;

/// Writes every report of the run in `dir` anew from its finished units: `metrics.csv`, `results.csv`, `scores.npy`
/// with `scores.json`, `predictions.npy` and `targets.npy` with `predictions.json`, and `plots/`. Without a finished
/// unit there is nothing to write.
///
/// # Errors
/// [`Error::Data`] if a file of a finished unit is missing or damaged, [`Error::Io`] if a report cannot be written.
pub fn write_all(dir: &Path) -> Result<()> {
    let units = units::read_all(dir)?;
    if units.is_empty() {
        return Ok(());
    }
    let write = |name: &str, bytes: &[u8]| write_atomically(&dir.join(name), bytes);
    write("metrics.csv", tables::metrics(&units).as_bytes())?;
    write("results.csv", tables::results(&units).as_bytes())?;

    let (scores, axes) = arrays::scores(dir, &units);
    write("scores.npy", &scores)?;
    write("scores.json", format!("{axes:#}\n").as_bytes())?;
    if let Some(drawn) = arrays::drawn(dir, &units)? {
        write("predictions.npy", &drawn.predictions)?;
        write("targets.npy", &drawn.targets)?;
        write("predictions.json", format!("{:#}\n", drawn.axes).as_bytes())?;
    }

    let plots = dir.join("plots");
    fs::create_dir_all(&plots).map_err(Error::io("create the directory", &plots))?;
    figure::save(&curves::LearningCurves::new(&units), &plots, "learning", &Format::ALL)?;
    if let Some(drawings) = drawings::Drawings::new(&units) {
        figure::save(&drawings, &plots, "drawings", &Format::ALL)?;
    }
    if let Some(images) = image_grid::ImageGrid::new(&units) {
        figure::save(&images, &plots, "pictures", &Format::ALL)?;
    }
    Ok(())
}
