//! Atomic writes, human-readable JSON, and cleaning up after killed processes.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Most bytes of a record in JSON.
const MAX_RECORD: u64 = 64 << 20;

/// Prefix of temporary files: all that a killed process leaves behind.
pub const TEMPORARY: &str = ".tmp-";

/// Expands a leading `~/` to the home directory, as shells do.
pub fn at_home(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_path_buf(),
    }
}

/// The bytes of a text file without a byte order mark.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Writes a temporary file beside `path`, syncs it and renames it to `path`. The directory must exist.
///
/// # Errors
/// [`Error::Io`]; an existing file is then unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically_if(path, bytes, || Ok(()))
}

/// As [`write_atomically`], but calls `still` just before the rename: syncing can take long enough for the right to write to be
/// lost.
///
/// # Errors
/// The error of `still`, or [`Error::Io`]; an existing file is then unchanged.
pub fn write_atomically_if(path: &Path, bytes: &[u8], still: impl FnOnce() -> Result<()>) -> Result<()> {
    let file = synced(path, bytes)?;
    still()?;
    rename(file, path)
}

/// As [`write_atomically`] for files that belong together: none is renamed before all are written.
///
/// # Errors
/// [`Error::Io`]; existing files are then unchanged unless a rename failed.
pub fn write_together(files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    let written = files.iter().map(|(path, bytes)| synced(path, bytes)).collect::<Result<Vec<_>>>()?;
    written.into_iter().zip(files).try_for_each(|(file, (path, _))| rename(file, path))
}

/// A temporary file beside `path`, synced.
fn synced(path: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let write = || -> std::io::Result<NamedTempFile> {
        let mut file = temporary_in(directory_of(path))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    write().map_err(Error::io("write", path))
}

fn rename(file: NamedTempFile, path: &Path) -> Result<()> {
    file.persist(path)
        .map_err(|error| error.error)
        .and_then(|_| sync_directory(directory_of(path)))
        .map_err(Error::io("write", path))
}

/// As [`write_atomically`] without syncing: for many files that can be made again. If the process is killed, the file is whole or
/// absent; a power failure may leave it empty.
///
/// # Errors
/// [`Error::Io`]; an existing file is then unchanged.
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

/// A file in `directory` that is deleted on drop unless it is persisted.
///
/// # Errors
/// The system's error.
pub fn temporary_in(directory: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    // As the umask allows: temporary files are private by default.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(directory)
}

/// Syncs all file systems: one call for many files.
pub fn sync_everything() {
    // SAFETY: `sync` has no arguments and accesses no memory of this process.
    #[cfg(unix)]
    unsafe {
        libc::sync()
    };
}

/// Makes renames in a directory durable.
///
/// # Errors
/// The system's error.
pub fn sync_directory(directory: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    std::fs::File::open(directory)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}

/// Creates a directory, and those above it that are missing, and makes their entries durable.
///
/// # Errors
/// The system's error.
pub fn create_directory(directory: &Path) -> std::io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory_of(directory);
    create_directory(above)?;
    match std::fs::create_dir(directory) {
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        created => created.and_then(|()| sync_directory(above)),
    }
}

/// A value as indented JSON; `path` is for the error message.
///
/// # Errors
/// [`Error::Data`] if it has no JSON form.
pub fn to_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::data(path, error.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

/// Writes a value as indented JSON.
///
/// # Errors
/// [`Error::Io`]; an existing file is then unchanged.
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    write_atomically(path, &to_json(path, value)?)
}

/// Reads a file; `None` if it does not exist.
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

/// Reads a file of at most `most` bytes: no device without an end, and nothing that fills the memory before it is refused.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] if it is larger.
pub fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    let mut bytes = Vec::new();
    if size <= most {
        file.take(most + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    }
    match size.max(bytes.len() as u64) {
        size if size > most => {
            Err(Error::data(path, format!("has more than {} MiB, far too many for such a file", most >> 20)))
        }
        _ => Ok(bytes),
    }
}

/// Reads JSON from a file; `None` if it does not exist. `advice` is what to do if it is damaged.
///
/// # Errors
/// [`Error::Data`] if it cannot be parsed.
pub fn read_json<T: DeserializeOwned>(path: &Path, advice: &str) -> Result<Option<T>> {
    let bytes = match read_at_most(path, MAX_RECORD) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let damaged = |error| Error::data(path, format!("is damaged ({error}); {advice}"));
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Removes temporary files of killed processes from `directory`, which no other process may be writing to.
pub fn remove_leftovers(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Appends a line to a file that several processes write to: one system call, so that lines never interleave.
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

/// A lock on a file, released on drop. Closing the file would not be enough: a child process that another thread starts inherits
/// the descriptor, and with it the lock, until it calls `exec`.
pub struct FileLock(std::fs::File);

impl FileLock {
    /// Locks a file; `None` if another process holds the lock.
    ///
    /// # Errors
    /// The system's error.
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
    fn a_file_is_replaced_atomically_without_leftovers() {
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
    fn of_files_that_belong_together_all_are_written_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| (directory.path().join(name), name.as_bytes().to_vec());
        write_together(&[file("a"), file("absent/b")]).unwrap_err();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        write_together(&[file("a"), file("b")]).unwrap();
        assert_eq!(std::fs::read(directory.path().join("b")).unwrap(), b"b");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_is_too_large_or_has_no_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read_at_most(&path, 10).unwrap(), [7; 10]);
        let error = read_at_most(&path, 9).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("file: has more than 0 MiB"), "{error}");
        #[cfg(unix)]
        read_at_most(Path::new("/dev/zero"), 1 << 10).unwrap_err();
    }

    #[test]
    fn directories_are_made_with_those_above_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c");
        create_directory(&path).unwrap();
        create_directory(&path).unwrap();
        assert!(path.is_dir());
        std::fs::write(path.join("file"), "").unwrap();
        create_directory(&path.join("file/d")).unwrap_err();
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
