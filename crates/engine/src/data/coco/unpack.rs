//! Unpacks an untrusted archive: all of its entries are validated before anything is written.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::{Archive, Event, Job, gigabytes};
use crate::error::{Error, Result};
use crate::files::{TEMPORARY, sync_everything, temporary_in};

/// Largest compression ratio of an entry.
const MOST_PER_BYTE: u64 = 1032;
/// Largest allowed compression ratio of an archive; images and text are far below.
const MOST_IN_ALL: u64 = 100;
/// Block size of a file system.
const BLOCK: u64 = 4096;

/// Totals of an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unpacked {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// A file in an archive.
struct Entry {
    index: usize,
    /// Relative to the job's folder.
    path: PathBuf,
    size: u64,
}

/// Unpacks all files that do not exist with the right size; each is written atomically.
pub(super) fn unpack(job: &Job<'_>, archive: &Archive, path: &Path) -> Result<Unpacked> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    let mut zip = ZipArchive::new(BufReader::with_capacity(1 << 16, file))
        .map_err(|error| Error::data(path, format!("is no zip archive that can be read: {error}")))?;
    let entries = validated(&zip, archive, size).map_err(|what| Error::data(path, what + "; nothing was unpacked"))?;
    let all = Unpacked { files: entries.len() as u64, bytes: entries.iter().map(|entry| entry.size).sum() };
    clean(&job.folder.join(&archive.folder));
    let missing: Vec<&Entry> = entries.iter().filter(|entry| !is_there(&job.folder.join(&entry.path), entry)).collect();
    let needed: u64 = missing.iter().map(|entry| entry.size.next_multiple_of(BLOCK)).sum();
    let free = (job.free)(&job.folder)?;
    if needed > free {
        return Err(Error::Usage(format!(
            "{}: there is no room: to unpack {} needs {}, and {} are free; make room and run again",
            job.folder.display(),
            archive.name,
            gigabytes(needed),
            gigabytes(free)
        )));
    }
    let what = format!("unpacking {}", archive.name);
    let mut done = all.bytes - missing.iter().map(|entry| entry.size).sum::<u64>();
    for entry in missing {
        let mut packed = zip.by_index(entry.index).map_err(|error| damaged(path, &entry.path, &error))?;
        let target = job.folder.join(&entry.path);
        write(job, &mut packed, &target, entry.size, |error| damaged(path, &entry.path, error))?;
        done += entry.size;
        (job.show)(Event::Bytes { what: &what, done, of: all.bytes });
    }
    // Once for all files, before they are recorded as complete.
    sync_everything();
    Ok(all)
}

fn damaged(archive: &Path, entry: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::data(archive, format!("{} in it is damaged: {error}; delete the archive and run again", entry.display()))
}

/// All files of an archive, or the defect of one.
fn validated<R: Read + std::io::Seek>(zip: &ZipArchive<R>, archive: &Archive, size: u64) -> Result<Vec<Entry>, String> {
    let (mut entries, mut paths, mut total) = (Vec::with_capacity(zip.len()), HashSet::new(), 0u64);
    for index in 0..zip.len() {
        let entry = zip.by_index_data(index).map_err(|error| format!("cannot be read: {error}"))?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let refuse = |why: &str| Err(format!("has an entry `{}` that {why}", name.escape_default()));
        let Some(path) = safe(&name) else { return refuse("leads elsewhere") };
        if !path.starts_with(&archive.folder) {
            return refuse(&format!("does not belong to `{}`", archive.folder));
        }
        // File type bits of the Unix mode, which other systems do not store.
        let plain = entry.unix_mode().is_none_or(|mode| matches!(mode & 0o170_000, 0 | 0o100_000 | 0o040_000));
        if entry.is_symlink() || !plain {
            return refuse("is a link or a special file");
        }
        if entry.encrypted() {
            return refuse("is encrypted");
        }
        if entry.is_dir() {
            continue;
        }
        if path == Path::new(&archive.folder) || !paths.insert(path.clone()) {
            return refuse("is there twice");
        }
        if entry.size() > entry.compressed_size().saturating_mul(MOST_PER_BYTE) {
            return refuse(&format!("claims {} bytes from {}", entry.size(), entry.compressed_size()));
        }
        total = total.saturating_add(entry.size());
        entries.push(Entry { index, path, size: entry.size() });
    }
    if total > size.saturating_mul(MOST_IN_ALL) {
        return Err(format!("claims {} in {}", gigabytes(total), gigabytes(size)));
    }
    match entries.is_empty() {
        true => Err("has no files".into()),
        false => Ok(entries),
    }
}

/// The path of an entry, if it stays inside the folder on every system.
fn safe(name: &str) -> Option<PathBuf> {
    let inside = name.strip_suffix('/').unwrap_or(name);
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.starts_with(TEMPORARY) && !part.contains(['\\', ':', '\0'])
    };
    inside.split('/').all(plain).then(|| inside.split('/').collect())
}

fn is_there(path: &Path, entry: &Entry) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() == entry.size)
}

/// Removes temporary files of killed processes.
fn clean(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes exactly `size` bytes.
fn write(
    job: &Job<'_>,
    from: &mut impl Read,
    to: &Path,
    size: u64,
    damaged: impl Fn(&dyn std::fmt::Display) -> Error,
) -> Result<()> {
    let folder = to.parent().unwrap_or(&job.folder);
    fs::create_dir_all(folder).map_err(Error::io("create the directory", folder))?;
    let mut file = temporary_in(folder).map_err(Error::io("write", to))?;
    let (mut chunk, mut left) = (vec![0; 1 << 16], size);
    loop {
        if (job.stop)() {
            return Err(Error::Interrupted);
        }
        let count = from.read(&mut chunk).map_err(|error| damaged(&error))?;
        if count == 0 {
            break;
        }
        left = left.checked_sub(count as u64).ok_or_else(|| damaged(&format!("it is longer than {size} bytes")))?;
        file.write_all(&chunk[..count]).map_err(Error::io("write", to))?;
    }
    if left > 0 {
        return Err(damaged(&format!("it is {left} bytes shorter than {size}")));
    }
    file.persist(to).map_err(|error| Error::io("write", to)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_inside_are_safe() {
        for name in ["a/b.jpg", "a/b/c", "a/", "a"] {
            assert_eq!(safe(name).as_deref(), Some(Path::new(name.trim_end_matches('/'))));
        }
        for name in
            ["", "/", "/a", "../a", "a/../b", "a//b", "a/./b", "a\\b", "C:/a", "a/b\0", "a/..", "..", "a/.tmp-x"]
        {
            assert_eq!(safe(name), None, "{name:?}");
        }
    }
}
