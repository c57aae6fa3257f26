//! Files that appear whole or not at all, JSON that a person can read, and what killed processes leave behind.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// How the names of files begin until they are whole: all that a killed process leaves behind.
pub const TEMPORARY: &str = ".tmp-";

/// A path that somebody wrote, with `~/` for the home folder, as shells read it.
pub fn at_home(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_path_buf(),
    }
}

/// The bytes of a text file without the mark of the byte order that some editors begin it with.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Writes a file beside `path`, makes it durable, and puts it in its place. The directory must be there.
///
/// # Errors
/// [`Error::Io`]; an older file is then still there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically_if(path, bytes, || Ok(()))
}

/// As [`write_atomically`], but asks `still` when nothing is left to do but to put the file in its place: making it
/// durable can take long enough for the right to write to be lost.
///
/// # Errors
/// What `still` says, or [`Error::Io`]; an older file is then still there.
pub fn write_atomically_if(path: &Path, bytes: &[u8], still: impl FnOnce() -> Result<()>) -> Result<()> {
    let directory = directory_of(path);
    let written = || -> std::io::Result<NamedTempFile> {
        let mut file = temporary_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    let file = written().map_err(Error::io("write", path))?;
    still()?;
    file.persist(path)
        .map_err(|error| error.error)
        .and_then(|_| sync_directory(directory))
        .map_err(Error::io("write", path))
}

/// Writes a file beside `path` and puts it in its place, without waiting until the disk has it: for many files that can be
/// made again. A process that is killed leaves it whole or absent; a power cut may leave it empty.
///
/// # Errors
/// [`Error::Io`]; an older file is then still there.
pub fn put_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let put = || -> std::io::Result<()> {
        let mut file = temporary_in(directory_of(path))?;
        file.write_all(bytes)?;
        file.persist(path).map(|_| ()).map_err(|error| error.error)
    };
    put().map_err(Error::io("write", path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file in `directory` that is deleted unless it is put in place.
///
/// # Errors
/// What the system says.
pub fn temporary_in(directory: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // Readable for whom the umask allows, not for the owner alone as temporary files are.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(directory)
}

/// Waits until the disk has everything that was written: one call for many files.
pub fn sync_everything() {
    // SAFETY: takes nothing, returns nothing, and touches no memory of ours.
    #[cfg(unix)]
    unsafe {
        libc::sync()
    };
}

/// Makes renames in a directory durable.
///
/// # Errors
/// What the system says.
pub fn sync_directory(directory: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    std::fs::File::open(directory)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}

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
    match std::fs::read(path) {
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
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Adds a line to a file that many processes write to: one system call, so that lines never mix.
///
/// # Errors
/// [`Error::Io`].
pub fn append_line(path: &Path, line: &str) -> Result<()> {
    let line = format!("{}\n", line.replace('\n', " "));
    std::fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(Error::io("write", path))
}

/// A file that is locked as long as this lives. Closing it would not do: a process that another thread starts holds a copy of
/// the file, and with it the lock, until it becomes another program.
pub struct FileLock(std::fs::File);

impl FileLock {
    /// Locks a file, or `None` where somebody else holds it.
    ///
    /// # Errors
    /// What the system says.
    pub fn attempt(file: std::fs::File) -> std::io::Result<Option<FileLock>> {
        match file.try_lock() {
            Ok(()) => Ok(Some(FileLock(file))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_atomically(&path, b"a longer first text").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        let error = write_atomically(directory.path(), b"x").unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let refused = write_atomically_if(&path, b"third", || Err(Error::Interrupted));
        assert!(matches!(refused, Err(Error::Interrupted)));
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_are_removed_and_files_are_not() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(format!("{TEMPORARY}x")), "half").unwrap();
        std::fs::write(directory.path().join("whole"), "").unwrap();
        remove_leftovers(directory.path());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("unit.json");
        assert!(read_json::<Vec<u8>>(&path, "repair it").unwrap().is_none());
        std::fs::write(&path, "[1,").unwrap();
        let error = read_json::<Vec<u8>>(&path, "repair it").unwrap_err().to_string();
        assert!(error.contains("unit.json: is damaged") && error.ends_with("; repair it"), "{error}");
    }
}
