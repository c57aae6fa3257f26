//! One run in full: its spec with origins, provenance, log and files, and what its seeds draw or describe.

use std::path::Path;

use serde_json::{Value, json};

use super::files;
use super::summary::Summary;
use crate::data::captions::results;
use crate::error::{Error, Result};
use crate::records::{SeedRun, train_command};
use crate::report::units::{Showcase, read_showcase};
use crate::run::directory::Directory;
use crate::shell::quote;
use crate::tasks::Registry;

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
    let units: Vec<Value> = run.units().iter().map(unit).collect();
    Ok(json!({
        "summary": summary,
        "spec": spec,
        "set": set,
        "manifest": run.manifest().ok(),
        "program": run.manifest().ok().map(|manifest| manifest.program.to_string()),
        "units": units,
        "log": log(&run.path.join("log.txt")),
        "files": files::list(&run.path),
        "commands": commands(run, summary, outputs),
    }))
}

/// A seed's record, and which of its files there are.
fn unit(unit: &SeedRun) -> Value {
    json!({
        "seed": unit.seed,
        "record": unit.record().ok().flatten(),
        "showcase": unit.showcase_path().is_file(),
        "captions": captions_path(unit).is_file(),
        "recordings": unit.recordings_path().is_dir(),
    })
}

/// Commands, by what they do.
fn commands(run: &Directory, summary: &Summary, outputs: &Path) -> Vec<[String; 2]> {
    let hash = &summary.run;
    let seeds: Vec<String> = summary.seeds.iter().map(|seed| seed.seed.to_string()).collect();
    let flag = match outputs == Path::new("outputs") {
        true => String::new(),
        false => format!(" --outputs {}", quote(&outputs.to_string_lossy())),
    };
    let mut commands = vec![(
        "Train its seeds, or what is missing of them",
        format!("{} --seeds {}", train_command(&run.path), seeds.join(",")),
    )];
    commands.push(("Draw its learning curves", format!("ccdni plot {hash}{flag}")));
    commands.push(("Write it as one page", format!("ccdni report {hash}{flag}")));
    commands.push(("Print its spec, provenance and results", format!("ccdni show {hash}{flag}")));
    if summary.keys.keys().any(|key| key.starts_with("record.")) {
        commands.push(("Measure its recordings", format!("ccdni analyse {hash}{flag}")));
    }
    commands.into_iter().map(|(what, command)| [what.to_owned(), command]).collect()
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

fn seed_of(run: &Directory, seed: &str) -> Result<SeedRun> {
    let seed = seed.parse().map_err(|_| Error::Usage(format!("`{seed}` is no seed")))?;
    Ok(run.unit(seed))
}

/// What a seed has drawn for its task's showcase, with targets and input images.
///
/// # Errors
/// [`Error::Usage`] if it has not, [`Error::Data`] if the file is damaged.
pub fn showcase(run: &Directory, seed: &str) -> Result<Value> {
    let unit = seed_of(run, seed)?;
    let none = || Error::Usage(format!("seed {seed} has drawn nothing yet"));
    let Showcase { shape, predictions, targets, labels, images } = read_showcase(&unit)?.ok_or_else(none)?;
    let images =
        images.map(|images| json!({ "height": images.height, "width": images.width, "pixels": images.pixels }));
    Ok(json!({ "shape": shape, "predictions": predictions, "targets": targets, "labels": labels, "images": images }))
}

/// The captions that a seed's network has generated for the validation images.
///
/// # Errors
/// [`Error::Io`] if there are none, [`Error::Data`] if the file is damaged.
pub fn captions(run: &Directory, seed: &str) -> Result<Value> {
    let unit = seed_of(run, seed)?;
    Ok(json!(results::read(&captions_path(&unit))?))
}

fn captions_path(unit: &SeedRun) -> std::path::PathBuf {
    unit.directory.join(results::FILE)
}
