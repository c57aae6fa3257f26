//! IDX files: a big-endian header of magic number and sizes, then bytes. Gzip is detected from the first bytes.
//!
//! Sizes in a header are validated against the size of the file before memory is allocated.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{CLASSES, PIXELS, Part, SIDE};
use crate::error::{Error, Result};
use crate::files::at_home;

/// Unsigned bytes, three dimensions.
const IMAGES: u32 = 0x0803;
/// Unsigned bytes, one dimension.
const LABELS: u32 = 0x0801;
/// Bytes of the smallest header: magic number and one size.
const HEADER: u64 = 8;
/// The largest compression ratio of deflate.
const LARGEST_RATIO: u64 = 1032;

/// The file names of a part as distributed: images and labels.
fn names(part: Part) -> [&'static str; 2] {
    match part {
        Part::Train => ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
        Part::Test => ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
    }
}

/// The files of a part, images and labels; an uncompressed file takes precedence over a compressed one.
///
/// # Errors
/// [`Error::Data`] naming the directory, the expected files, and the key that selects them.
pub(super) fn find(dir: &Path, part: Part) -> Result<[PathBuf; 2]> {
    let dir = &at_home(dir);
    if !dir.is_dir() {
        return Err(Error::data(
            dir,
            "there is no such directory; `task.source.dir` is relative to where ccdni is run",
        ));
    }
    let there = files_like(dir);
    let [images, labels] = names(part).map(|name| {
        let packed = format!("{name}.gz");
        let exact = [name, &packed].into_iter().map(|name| dir.join(name)).find(|path| path.is_file());
        let found = exact.or_else(|| there.iter().find(|path| plain_name(path) == name).cloned());
        found.ok_or_else(|| {
            let (this, other) = match part {
                Part::Train => ("training", "test"),
                Part::Test => ("test", "training"),
            };
            let what = format!(
                "holds neither `{name}` nor `{packed}`, which has the {this} data; put it there, or choose with \
                 `task.source.use: {}` to do with the {other} data alone",
                if part == Part::Train { "test" } else { "train" }
            );
            let seen: Vec<_> =
                there.iter().map(|path| format!("`{}`", path.strip_prefix(dir).unwrap_or(path).display())).collect();
            let what = if seen.is_empty() { what } else { format!("{what}; it holds {}", seen.join(", ")) };
            Error::data(dir, what)
        })
    });
    Ok([images?, labels?])
}

/// The normalised name of a file (such as `Train-Images.idx3-ubyte`): lower case, hyphenated, without `.gz`.
fn plain_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.strip_suffix(".gz").unwrap_or(&name).replace([' ', '.', '_'], "-")
}

/// Files that look like IDX files, in a directory and its folders of such names; sorted.
fn files_like(dir: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        entries.filter(|path| !hidden(path) && plain_name(path).contains("ubyte")).collect()
    };
    let (folders, mut files): (Vec<_>, Vec<_>) = entries(dir).into_iter().partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| entries(folder)).filter(|path| path.is_file()));
    files.sort();
    files
}

/// Reads a part: pixels `[images, 784]` and labels `[images]`.
///
/// # Errors
/// [`Error::Data`] naming the file and the defect.
pub(super) fn read(dir: &Path, part: Part) -> Result<(Vec<u8>, Vec<u8>)> {
    let [images, labels] = find(dir, part)?;
    let pixels = read_images(&images)?;
    let classes = read_labels(&labels)?;
    if pixels.len() / PIXELS != classes.len() {
        let what = format!(
            "holds {} labels, but {} has {} images; the two do not belong together",
            classes.len(),
            images.display(),
            pixels.len() / PIXELS
        );
        return Err(Error::data(&labels, what));
    }
    Ok((pixels, classes))
}

/// Reads a file of images: `[images, 784]`, row by row.
///
/// # Errors
/// [`Error::Data`] naming the file and the defect.
pub fn read_images(path: &Path) -> Result<Vec<u8>> {
    let mut shape = [SIDE as u32; 2];
    let pixels = with_file(path, |bytes, size| {
        let [count, rows, columns] = header(bytes, IMAGES, "images")?;
        shape = [rows, columns];
        match shape == [SIDE as u32; 2] {
            true => body(bytes, count, PIXELS as u64, size, "images"),
            false => Ok(Vec::new()),
        }
    })?;
    match shape == [SIDE as u32; 2] {
        true => Ok(pixels),
        false => {
            let [rows, columns] = shape;
            Err(Error::data(path, format!("holds images of {rows} x {columns} pixels; they must be {SIDE} x {SIDE}")))
        }
    }
}

/// Reads a file of labels, each below 10.
///
/// # Errors
/// [`Error::Data`] naming the file and the defect.
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    let labels = with_file(path, |bytes, size| {
        let [count] = header(bytes, LABELS, "labels")?;
        body(bytes, count, 1, size, "labels")
    })?;
    match labels.iter().position(|&label| usize::from(label) >= CLASSES) {
        Some(index) => {
            let what = format!(
                "label {index} is {}; labels are from 0 to {}, and data of more classes are not read",
                labels[index],
                CLASSES - 1
            );
            Err(Error::data(path, what))
        }
        None => Ok(labels),
    }
}

/// Opens a file, decompressing if necessary, and calls `read` with an upper bound of its uncompressed size.
fn with_file(path: &Path, read: impl FnOnce(&mut dyn Read, u64) -> Result<Vec<u8>, String>) -> Result<Vec<u8>> {
    let mut file = File::open(path).map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    let mut first = [0; 2];
    let packed = size >= 2 && file.read_exact(&mut first).is_ok() && first == [0x1f, 0x8b];
    let file = File::open(path).map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
    let bytes = BufReader::with_capacity(1 << 16, file);
    let outcome = match packed {
        true => read(&mut MultiGzDecoder::new(bytes), size.saturating_mul(LARGEST_RATIO)),
        false => {
            let mut bytes = bytes;
            read(&mut bytes, size)
        }
    };
    outcome.map_err(|what| Error::data(path, format!("{what}; get the file again")))
}

/// Reads the header: the sizes after the magic number.
fn header<const DIMENSIONS: usize>(bytes: &mut dyn Read, magic: u32, what: &str) -> Result<[u32; DIMENSIONS], String> {
    let mut word = || -> Result<u32, String> {
        let mut word = [0; 4];
        bytes.read_exact(&mut word).map_err(|error| broken(&error, "within its header"))?;
        Ok(u32::from_be_bytes(word))
    };
    let found = word()?;
    if found != magic {
        return Err(format!("begins with {found:#010x}, not with {magic:#010x}: it is no IDX file of {what}"));
    }
    let mut sizes = [0; DIMENSIONS];
    for size in &mut sizes {
        *size = word()?;
    }
    Ok(sizes)
}

/// Reads `count` items of `each` bytes, which must end the file.
fn body(bytes: &mut dyn Read, count: u32, each: u64, most: u64, what: &str) -> Result<Vec<u8>, String> {
    let expected = u64::from(count) * each;
    if count == 0 {
        return Err(format!("holds no {what}"));
    }
    if expected > most.saturating_sub(HEADER) {
        return Err(format!("says that it holds {count} {what}, for which it is too small: it is cut off or damaged"));
    }
    // Grows with the data read, not with the declared size.
    let mut items = Vec::new();
    let place = |length: usize| format!("after {} of {count} {what}", length as u64 / each);
    if let Err(error) = bytes.take(expected).read_to_end(&mut items) {
        return Err(broken(&error, &place(items.len())));
    }
    if (items.len() as u64) < expected {
        return Err(format!("ends {}: it is cut off", place(items.len())));
    }
    // Reading to the end verifies the checksum of a compressed file.
    match bytes.read(&mut [0]) {
        Ok(0) => Ok(items),
        Ok(_) => Err(format!("holds more than the {count} {what} that its header names")),
        Err(error) => Err(broken(&error, &format!("at the end, after the {count} {what}"))),
    }
}

fn broken(error: &std::io::Error, place: &str) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => format!("ends {place}: it is cut off"),
        _ => format!("cannot be read {place}: {error}"),
    }
}
