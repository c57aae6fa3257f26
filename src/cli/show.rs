//! `ccdni show`: one run.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::records::Manifest;
use crate::run::directory::{self, Directory};
use crate::run::table;

/// Show one run: its spec, where it comes from, its seeds and its files.
#[derive(clap::Args)]
#[command(after_help = "Example:
  ccdni show 3f9a")]
pub struct Args {
    /// The first digits of the run's hash.
    #[arg(value_name = "HASH-PREFIX")]
    prefix: String,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

pub fn execute(args: Args) -> Result<()> {
    let run = directory::find(&args.outputs, &args.prefix)?;
    let manifest = run.manifest()?;
    let spec = std::fs::read_to_string(run.spec_path()).map_err(Error::io("read", &run.spec_path()))?;
    let seeds = run.seeds(&manifest)?;
    let sections = [
        facts(&manifest),
        format!("{}\n", spec.trim_end()),
        table::seeds(&run, &seeds, &[])?,
        notes(&run, &seeds)?,
        files(&run.path)?,
    ];
    super::print(&sections.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n"))
}

/// The manifest, one line per entry.
fn facts(manifest: &Manifest) -> String {
    let Manifest { hash, name, program, git, data, .. } = manifest;
    let mut facts = vec![("run", hash.clone())];
    facts.extend(name.iter().map(|name| ("name", name.clone())));
    facts.push(("created", format!("{} on {} ({})", manifest.created, manifest.host, manifest.instruction_set)));
    facts.push(("program", program.to_string()));
    facts.extend(git.iter().map(|git| {
        ("git", format!("{}{}", git.commit, if git.dirty { ", with changes that are not committed" } else { "" }))
    }));
    facts.extend(
        data.iter().map(|(path, digest)| ("data", format!("{path} (blake3 {})", digest.get(..12).unwrap_or(digest)))),
    );
    facts.extend(manifest.best_seed.iter().map(|seed| ("best seed", seed.to_string())));
    facts.into_iter().map(|(what, fact)| format!("{what:<10} {fact}\n")).collect()
}

/// Failure reasons and other notes on seeds.
fn notes(run: &Directory, seeds: &[u64]) -> Result<String> {
    let mut text = String::new();
    for &seed in seeds {
        let record = run.unit(seed).record()?;
        for imported in record.iter().flat_map(|record| &record.imported) {
            let digest = imported.blake3.get(..12).unwrap_or_default();
            text.push_str(&format!("seed {seed}: imported from {} (blake3 {digest})\n", imported.file));
        }
        for note in record.iter().flat_map(|record| record.notes.iter().chain(&record.reason)) {
            text.push_str(&format!("seed {seed}: {note}\n"));
        }
    }
    Ok(text)
}

/// The files of the directory, sorted.
fn files(directory: &Path) -> Result<String> {
    let entries = std::fs::read_dir(directory).map_err(Error::io("read", directory))?;
    let mut files: Vec<String> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| format!("{}\n", entry.path().display()))
        .collect();
    files.sort();
    Ok(files.concat())
}
