//! Small files of a run: JSON, logs, and what killed processes leave behind.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::files::{TEMPORARY, write_atomically};

/// A value as JSON that a person can read, for the file `path`.
///
/// # Errors
/// [`Error::Data`] if it has no JSON form.
pub fn to_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::data(path, error.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

/// Writes a value as JSON that a person can read.
///
/// # Errors
/// [`Error::Io`]; an older file is then still there.
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    write_atomically(path, &to_json(path, value)?)
}

/// Reads a file that may not be there.
///
/// # Errors
/// [`Error::Io`] for anything but its absence.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Reads JSON from a file that may not be there. `advice` is what to do where it is damaged.
///
/// # Errors
/// [`Error::Data`] if it is not what it should be.
pub fn read_json<T: DeserializeOwned>(path: &Path, advice: &str) -> Result<Option<T>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let damaged = |error| Error::data(path, format!("is damaged ({error}); {advice}"));
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Removes what killed processes left in `directory`. Only for a directory that nobody else writes to.
pub fn remove_leftovers(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Adds a line to a file that many processes write to: one system call, so that lines never mix.
///
/// # Errors
/// [`Error::Io`].
pub fn append_line(path: &Path, line: &str) -> Result<()> {
    let line = format!("{}\n", line.replace('\n', " "));
    File::options()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_removed_and_files_are_not() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(format!("{TEMPORARY}x")), "half").unwrap();
        fs::write(directory.path().join("whole"), "").unwrap();
        remove_leftovers(directory.path());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("unit.json");
        assert!(read_json::<Vec<u8>>(&path, "mend it").unwrap().is_none());
        fs::write(&path, "[1,").unwrap();
        let error = read_json::<Vec<u8>>(&path, "mend it").unwrap_err().to_string();
        assert!(error.contains("unit.json: is damaged") && error.ends_with("; mend it"), "{error}");
    }
}
