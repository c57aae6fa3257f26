//! One run in full: its spec with origins, provenance, log and files, and what its seeds draw or describe.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::commands;
use super::files;
use super::summary::Summary;
use crate::data::captions::results;
use crate::error::{Error, Result};
use crate::records::{SHOWCASE, SeedRun};
use crate::report::units::{Showcase, read_showcase};
use crate::run::directory::Directory;
use crate::tasks::Registry;
use crate::tasks::captioning::Sheet;

/// Most bytes of a log that are shown: its end.
const LOG: usize = 64 << 10;

/// What the page of a run shows besides its curves.
///
/// # Errors
/// None of the parts may stop the others: what cannot be read is left out, and named in the summary.
pub fn details(run: &Directory, summary: &Summary, outputs: &Path, registry: &Registry) -> Result<Value> {
    let spec = std::fs::read_to_string(run.spec_path()).unwrap_or_default();
    // The keys that were set to something other than their defaults; unknown for the tasks of another program.
    let set: Option<Vec<String>> =
        run.spec(None, registry).ok().map(|resolved| resolved.origins.into_iter().map(|(key, _)| key).collect());
    let units: Vec<Value> = run.units()?.iter().map(unit).collect();
    let has = [
        units.iter().any(|unit| unit["showcase"]["kept"] == true),
        units.iter().any(|unit| unit["recordings"] == true),
    ];
    Ok(json!({
        "summary": summary,
        "spec": spec,
        "set": set,
        "manifest": run.manifest().ok(),
        "program": run.manifest().ok().map(|manifest| manifest.program.to_string()),
        "units": units,
        "log": log(&run.path.join("log.txt")),
        "files": files::list(&run.path),
        "commands": commands::of_run(&run.path, summary, outputs, has),
    }))
}

/// A seed's record, and which of its files there are.
fn unit(unit: &SeedRun) -> Value {
    json!({
        "seed": unit.seed,
        "record": unit.record().ok().flatten(),
        "showcase": outputs(unit, SHOWCASE),
        "captions": outputs(unit, results::FILE),
        "recordings": unit.recordings_path().is_dir(),
    })
}

/// Of which weights there is this file: the recorded epochs, ascending, and whether of those that are kept.
fn outputs(unit: &SeedRun, file: &str) -> Value {
    let entries = std::fs::read_dir(unit.outputs_path()).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.path().join(file).is_file());
    let epoch = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("epoch-")?.parse().ok();
    let mut epochs: Vec<usize> = entries.filter_map(epoch).collect();
    epochs.sort_unstable();
    json!({ "epochs": epochs, "kept": unit.directory.join(file).is_file() })
}

/// The end of a log.
fn log(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(LOG)..];
    let text = String::from_utf8_lossy(end);
    // The first line may be cut.
    let whole = if end.len() < bytes.len() { text.split_once('\n').map_or("", |(_, rest)| rest) } else { &text };
    whole.to_owned()
}

/// A seed, and the directory with what its network draws or generates: of a recorded epoch, or of the kept weights.
fn place(run: &Directory, seed: &str, epoch: Option<&str>) -> Result<(SeedRun, PathBuf)> {
    let number = |text: &str| Error::Usage(format!("`{text}` is no number"));
    let unit = run.unit(seed.parse().map_err(|_| number(seed))?);
    let directory = match epoch {
        None => unit.directory.clone(),
        Some(epoch) => unit.outputs_of(epoch.parse().map_err(|_| number(epoch))?),
    };
    Ok((unit, directory))
}

/// What a seed has drawn for its task's showcase, with targets and input images.
///
/// # Errors
/// [`Error::Usage`] if it has not, [`Error::Data`] if the file is damaged.
pub fn showcase(run: &Directory, seed: &str, epoch: Option<&str>) -> Result<Value> {
    let (unit, directory) = place(run, seed, epoch)?;
    let none = || Error::Usage(format!("seed {seed} has drawn nothing yet"));
    let Showcase { shape, predictions, targets, labels, images } =
        read_showcase(&unit, &directory.join(SHOWCASE))?.ok_or_else(none)?;
    let images =
        images.map(|images| json!({ "height": images.height, "width": images.width, "pixels": images.pixels }));
    Ok(json!({ "shape": shape, "predictions": predictions, "targets": targets, "labels": labels, "images": images }))
}

/// The captions that a seed's network has generated for the validation images, and how the pictures of the first ones lie in
/// their file, if there is one.
///
/// # Errors
/// [`Error::Io`] if there are none, [`Error::Data`] if the file is damaged.
pub fn captions(run: &Directory, seed: &str, epoch: Option<&str>) -> Result<Value> {
    let (unit, directory) = place(run, seed, epoch)?;
    let sheet = Sheet::OF_CAPTIONS;
    let there = unit.directory.join(sheet.file).is_file();
    let pictures =
        there.then(|| json!({ "file": sheet.file, "shown": sheet.shown, "row": sheet.row, "side": sheet.side }));
    Ok(json!({ "captions": results::read(&directory.join(results::FILE))?, "pictures": pictures }))
}
