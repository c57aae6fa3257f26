//! IDX files: a big-endian header of magic number and sizes, then the values. Gzip is detected from the first bytes.
//!
//! Sizes in a header are validated against the size of the file before memory is allocated.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::{Digits, Idx, Part};
use crate::error::{Error, Result};
use crate::files::at_home;

/// Unsigned bytes, three dimensions.
const IMAGES: u32 = 0x0803;
/// Unsigned bytes, one dimension.
const LABELS: u32 = 0x0801;
/// 32-bit integers, two dimensions: the labels of QMNIST, a row of numbers for each image; the first is its class.
const ROWS_OF_LABELS: u32 = 0x0c02;
/// Most numbers in such a row.
const MAX_COLUMNS: u32 = 64;
/// Bytes of the smallest header: magic number and one size.
const HEADER: u64 = 8;
/// The largest compression ratio of deflate.
const LARGEST_RATIO: u64 = 1032;
/// Most images of a file; the largest data sets in this format have 814,255.
const MAX_COUNT: u32 = 1 << 22;

/// The ends of the names of a part's files: images and labels. Those of MNIST come first.
fn names(part: Part) -> [&'static [&'static str]; 2] {
    match part {
        Part::Train => [&["train-images-idx3-ubyte"], &["train-labels-idx1-ubyte", "train-labels-idx2-int"]],
        Part::Test => [
            &["t10k-images-idx3-ubyte", "test-images-idx3-ubyte"],
            &["t10k-labels-idx1-ubyte", "test-labels-idx1-ubyte", "test-labels-idx2-int"],
        ],
    }
}

/// The files of a part, images and labels; an uncompressed file takes precedence over a compressed one, and MNIST's names
/// over those with a prefix (`emnist-letters-train-images-idx3-ubyte`).
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
    let [images, labels] = names(part).map(|names| choose(dir, part, names, &there));
    Ok([images?, labels?])
}

/// The one file of a directory with one of these names.
fn choose(dir: &Path, part: Part, names: &[&str], there: &[PathBuf]) -> Result<PathBuf> {
    let packed = format!("{}.gz", names[0]);
    let exact = [names[0], &packed].into_iter().map(|name| dir.join(name)).find(|path| path.is_file());
    if let Some(path) = exact.or_else(|| there.iter().find(|path| plain_name(path) == names[0]).cloned()) {
        return Ok(path);
    }
    let prefix = |path: &Path| names.iter().find_map(|name| plain_name(path).strip_suffix(name).map(str::to_owned));
    let fits = |path: &&PathBuf| prefix(path).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('-'));
    let mut found: Vec<&PathBuf> = there.iter().filter(fits).collect();
    // Sorted: a compressed file comes after the uncompressed one.
    found.dedup_by_key(|path| plain_name(path));
    let list = |paths: &[&PathBuf]| {
        let shown = |path: &&PathBuf| format!("`{}`", path.strip_prefix(dir).unwrap_or(path).display());
        paths.iter().map(shown).collect::<Vec<_>>().join(", ")
    };
    let (this, other, r#use) = match part {
        Part::Train => ("training", "test", "test"),
        Part::Test => ("test", "training", "train"),
    };
    match found.as_slice() {
        [path] => Ok((*path).clone()),
        [] => {
            let what = format!(
                "holds neither `{}` nor `{packed}`, which has the {this} data; put it there, or choose with \
                 `task.source.use: {use}` to do with the {other} data alone",
                names[0]
            );
            let seen = list(&there.iter().collect::<Vec<_>>());
            Err(Error::data(dir, if seen.is_empty() { what } else { format!("{what}; it holds {seen}") }))
        }
        several => {
            let what = format!("holds several files of {this} data: {}", list(several));
            Err(Error::data(dir, format!("{what}; put the files of one data set into a directory of their own")))
        }
    }
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
        let is_like = |path: &PathBuf| ["ubyte", "idx2-int"].iter().any(|kind| plain_name(path).contains(kind));
        entries.filter(|path| !hidden(path) && is_like(path)).collect()
    };
    let (folders, mut files): (Vec<_>, Vec<_>) = entries(dir).into_iter().partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| entries(folder)).filter(|path| path.is_file()));
    files.sort();
    files
}

/// The images and labels of a part.
struct Content {
    file: PathBuf,
    /// `[images, side, side]`
    pixels: Vec<u8>,
    /// `[images]`
    labels: Vec<u8>,
}

/// Reads the parts of a source.
///
/// # Errors
/// [`Error::Data`] naming the file, the defect, and the key that describes the data.
pub(super) fn read(source: &Idx) -> Result<Digits> {
    let parts = source.r#use.parts().iter().map(|&part| read_part(source, part));
    let mut parts = parts.collect::<Result<Vec<_>>>()?;
    count_from_zero(&mut parts, source.classes)?;
    if source.transpose {
        parts.iter_mut().for_each(|part| transpose(&mut part.pixels, source.side));
    }
    Ok(Digits::of_parts(parts.into_iter().map(|part| (part.pixels, part.labels)).collect(), source.side))
}

fn read_part(source: &Idx, part: Part) -> Result<Content> {
    let [images, file] = find(&source.dir, part)?;
    let (pixels, labels) = (read_images(&images, source.side)?, read_labels(&file)?);
    let count = pixels.len() / (source.side * source.side);
    if count != labels.len() {
        let what = format!(
            "holds {} labels, but {} has {count} images; the two do not belong together",
            labels.len(),
            images.display()
        );
        return Err(Error::data(&file, what));
    }
    Ok(Content { file, pixels, labels })
}

/// Subtracts 1 from labels that count from 1: that is so if all `classes` are above 0 and the last is reached.
fn count_from_zero(parts: &mut [Content], classes: usize) -> Result<()> {
    let all = || parts.iter().flat_map(|part| part.labels.iter().copied().map(usize::from));
    let (least, most) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
    if least > 0 && most == classes {
        parts.iter_mut().flat_map(|part| &mut part.labels).for_each(|label| *label -= 1);
        return Ok(());
    }
    let beyond = |part: &Content| part.labels.iter().position(|&label| usize::from(label) >= classes);
    let Some((part, index)) = parts.iter().find_map(|part| Some((part, beyond(part)?))) else { return Ok(()) };
    let what = format!(
        "label {index} is {}, and `task.source.classes` is {classes}; the labels of these data are from {least} to {most}: \
         set `task.source.classes` to {}",
        part.labels[index],
        most + usize::from(least == 0)
    );
    Err(Error::data(&part.file, what))
}

/// Exchanges rows and columns of every image.
fn transpose(pixels: &mut [u8], side: usize) {
    for image in pixels.chunks_exact_mut(side * side) {
        for row in 0..side {
            for column in 0..row {
                image.swap(row * side + column, column * side + row);
            }
        }
    }
}

/// Reads a file of square images: `[images, side, side]`, row by row.
///
/// # Errors
/// [`Error::Data`] naming the file and the defect.
pub fn read_images(path: &Path, side: usize) -> Result<Vec<u8>> {
    with_file(path, |bytes, size| {
        let magic = word(bytes)?;
        if magic != IMAGES {
            return Err(no_idx(magic, IMAGES, "images"));
        }
        let [count, rows, columns] = [word(bytes)?, word(bytes)?, word(bytes)?];
        if rows != columns {
            return Err(format!("holds images of {rows} x {columns} pixels; they must be square"));
        }
        if rows as usize != side {
            return Err(format!(
                "holds images of {rows} x {columns} pixels, and `task.source.side` is {side}; set it to {rows} (at most {})",
                Idx::MAX_SIDE
            ));
        }
        body(bytes, count, (side * side) as u64, size, "images")
    })
}

/// Reads a file of labels: one byte, or a row of integers, for each image.
///
/// # Errors
/// [`Error::Data`] naming the file and the defect.
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    with_file(path, |bytes, size| match word(bytes)? {
        LABELS => {
            let count = word(bytes)?;
            body(bytes, count, 1, size, "labels")
        }
        ROWS_OF_LABELS => {
            let [count, columns] = [word(bytes)?, word(bytes)?];
            if !(1..=MAX_COLUMNS).contains(&columns) {
                return Err(format!("holds labels of {columns} numbers; they have 1 to {MAX_COLUMNS}"));
            }
            let rows = body(bytes, count, 4 * u64::from(columns), size, "labels")?;
            rows.chunks_exact(4 * columns as usize).enumerate().map(|(index, row)| label(index, row)).collect()
        }
        other => Err(no_idx(other, LABELS, "labels")),
    })
}

/// The class in a row of integers.
fn label(index: usize, row: &[u8]) -> Result<u8, String> {
    let class = i32::from_be_bytes([row[0], row[1], row[2], row[3]]);
    u8::try_from(class).map_err(|_| format!("label {index} is {class}; labels are from 0 to 255"))
}

fn no_idx(found: u32, expected: u32, what: &str) -> String {
    format!("begins with {found:#010x}, not with {expected:#010x}: it is no IDX file of {what}")
}

/// Opens a file, decompressing if necessary, and calls `read` with an upper bound of its uncompressed size.
fn with_file(path: &Path, read: impl FnOnce(&mut dyn Read, u64) -> Result<Vec<u8>, String>) -> Result<Vec<u8>> {
    let mut file = File::open(path).map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    let mut first = [0; 2];
    let packed = size >= 2 && file.read_exact(&mut first).is_ok() && first == [0x1f, 0x8b];
    let file = File::open(path).map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
    let mut bytes = BufReader::with_capacity(1 << 16, file);
    let outcome = match packed {
        true => read(&mut MultiGzDecoder::new(bytes), size.saturating_mul(LARGEST_RATIO)),
        false => read(&mut bytes, size),
    };
    outcome.map_err(|what| Error::data(path, what))
}

/// The next number of a header.
fn word(bytes: &mut dyn Read) -> Result<u32, String> {
    let mut word = [0; 4];
    bytes.read_exact(&mut word).map_err(|error| broken(&error, "within its header"))?;
    Ok(u32::from_be_bytes(word))
}

/// Reads `count` items of `each` bytes, which must end the file.
fn body(bytes: &mut dyn Read, count: u32, each: u64, most: u64, what: &str) -> Result<Vec<u8>, String> {
    let expected = u64::from(count) * each;
    if count == 0 {
        return Err(format!("holds no {what}"));
    }
    if expected > most.saturating_sub(HEADER) {
        return Err(damaged(&format!("says that it holds {count} {what}, for which it is too small")));
    }
    if count > MAX_COUNT {
        return Err(format!("says that it holds {count} {what}; at most {MAX_COUNT} are read"));
    }
    // Grows with the data read, not with the declared size.
    let mut items = Vec::new();
    let place = |length: usize| format!("after {} of {count} {what}", length as u64 / each);
    if let Err(error) = bytes.take(expected).read_to_end(&mut items) {
        return Err(broken(&error, &place(items.len())));
    }
    if (items.len() as u64) < expected {
        return Err(damaged(&format!("ends {}", place(items.len()))));
    }
    // Reading to the end verifies the checksum of a compressed file.
    match bytes.read(&mut [0]) {
        Ok(0) => Ok(items),
        Ok(_) => Err(damaged(&format!("holds more than the {count} {what} that its header names"))),
        Err(error) => Err(broken(&error, &format!("at the end, after the {count} {what}"))),
    }
}

fn broken(error: &std::io::Error, place: &str) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged(&format!("ends {place}")),
        _ => damaged(&format!("cannot be read {place}: {error}")),
    }
}

fn damaged(what: &str) -> String {
    format!("{what}: it is cut off or damaged; get the file again")
}
