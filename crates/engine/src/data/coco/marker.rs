//! `coco.json`: records which archives were unpacked completely, even if they were deleted since.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Archive;
use super::unpack::Unpacked;
use crate::error::{Error, Result};
use crate::files::write_atomically;

const NAME: &str = "coco.json";

/// Entries by name of the archive.
#[derive(Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Marker(BTreeMap<String, Entry>);

#[derive(Serialize, Deserialize)]
struct Entry {
    files: u64,
    bytes: u64,
    /// The published digest, if the archive was verified.
    sha256: Option<String>,
}

impl Marker {
    /// Empty if the file cannot be read; the archives are then examined again.
    pub(super) fn read(folder: &Path) -> Marker {
        let bytes = fs::read(folder.join(NAME)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Whether an archive was unpacked and all of its files still exist.
    pub(super) fn is_there(&self, archive: &Archive, folder: &Path) -> bool {
        let entry =
            self.0.get(&archive.name).filter(|entry| archive.sha256.is_none() || archive.sha256 == entry.sha256);
        entry.is_some_and(|entry| count(&folder.join(&archive.folder)) >= entry.files)
    }

    pub(super) fn add(&mut self, archive: &Archive, unpacked: Unpacked, folder: &Path) -> Result<()> {
        let entry = Entry { files: unpacked.files, bytes: unpacked.bytes, sha256: archive.sha256.clone() };
        self.0.insert(archive.name.clone(), entry);
        let path = folder.join(NAME);
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|error| Error::io("write", &path)(error.into()))?;
        write_atomically(&path, (text + "\n").as_bytes())
    }
}

/// Number of files below a directory.
fn count(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count(&entry.path()),
            Ok(kind) => u64::from(kind.is_file()),
            Err(_) => 0,
        })
        .sum()
}
