//! Downloads, verifies and unpacks the images and captions of COCO 2014.
//!
//! Interrupted jobs resume: downloads from their `.part` file, archives file by file. Only complete files have their final
//! name. Only downloads require the cargo feature `hub`.

#[cfg(feature = "hub")]
mod download;
mod marker;
mod space;
mod unpack;

pub use space::free;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use self::marker::Marker;
use crate::error::{Error, Result};
use crate::files::FileLock;

/// Address of the published archives. Plain HTTP, since the host has no certificate; the SHA-256 authenticates the content.
pub const BASE: &str = "http://images.cocodataset.org";

/// An archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Its name, such as `train2014.zip`.
    pub name: String,
    /// Its path below the base address.
    pub path: String,
    /// Its top-level folder.
    pub folder: String,
    /// Its published size in bytes; not checked if absent.
    pub size: Option<u64>,
    /// Its published SHA-256; not checked if absent.
    pub sha256: Option<String>,
    /// Approximate uncompressed size in bytes, for the check before the download.
    pub unpacked: u64,
}

/// An archive of COCO 2014.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// 82,783 training images: train2014.zip, 13.5 GB.
    Train,
    /// 40,504 validation images: val2014.zip, 6.6 GB.
    Validation,
    /// Captions and other annotations of both: annotations_trainval2014.zip, 0.25 GB.
    Annotations,
}

impl Part {
    /// The archive as published, with the size and digest listed by TensorFlow Datasets.
    pub fn archive(self) -> Archive {
        let (path, folder, size, sha256, unpacked) = match self {
            Part::Train => (
                "zips/train2014.zip",
                "train2014",
                13_510_573_713,
                "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
                13_800_000_000,
            ),
            Part::Validation => (
                "zips/val2014.zip",
                "val2014",
                6_645_013_297,
                "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
                6_800_000_000,
            ),
            Part::Annotations => (
                "annotations/annotations_trainval2014.zip",
                "annotations",
                252_872_794,
                "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
                900_000_000,
            ),
        };
        Archive {
            name: path.rsplit('/').next().unwrap_or(path).into(),
            path: path.into(),
            folder: folder.into(),
            size: Some(size),
            sha256: Some(sha256.into()),
            unpacked,
        }
    }
}

/// Progress of a job.
#[derive(Debug)]
pub enum Event<'a> {
    /// A line of text.
    Line(String),
    /// Progress in bytes.
    Bytes {
        /// The activity, such as `downloading train2014.zip`.
        what: &'a str,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        of: u64,
    },
}

/// A job that fetches archives into a folder.
pub struct Job<'a> {
    /// The folder of the archives and their content; created if necessary.
    pub folder: PathBuf,
    /// The base address of the archives' paths.
    pub base: String,
    /// The archives.
    pub archives: Vec<Archive>,
    /// Whether to delete archives after unpacking.
    pub delete: bool,
    /// Free bytes on the file system of a directory.
    pub free: &'a dyn Fn(&Path) -> Result<u64>,
    /// Whether to stop.
    pub stop: &'a dyn Fn() -> bool,
    /// Displays progress.
    pub show: &'a dyn Fn(Event<'_>),
}

impl Job<'_> {
    /// Downloads and unpacks the missing archives.
    ///
    /// # Errors
    /// [`Error::Usage`] if the disk is too small (checked in advance), another process is using the folder, or the program
    /// was built without downloads; [`Error::Download`]; [`Error::Data`] for an archive that fails verification;
    /// [`Error::Interrupted`]. The next run resumes.
    pub fn run(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(Error::io("create the directory", &self.folder))?;
        let _lock = self.lock()?;
        let mut marker = Marker::read(&self.folder);
        let missing: Vec<&Archive> =
            self.archives.iter().filter(|archive| !marker.is_there(archive, &self.folder)).collect();
        for archive in self.archives.iter().filter(|archive| !missing.contains(archive)) {
            self.say(format!("{} is there already", self.folder.join(&archive.folder).display()));
        }
        self.check_space(&missing)?;
        for archive in missing {
            let path = self.folder.join(&archive.name);
            if path.exists() {
                self.verify(archive, &path).map_err(|failure| {
                    failure.into_error(&path, "; delete it and run again, or take it as it is with `--unchecked`")
                })?;
            } else {
                self.download(archive, &path)?;
            }
            let unpacked = unpack::unpack(self, archive, &path)?;
            self.say(format!(
                "{}: {} files, {}",
                self.folder.join(&archive.folder).display(),
                unpacked.files,
                gigabytes(unpacked.bytes)
            ));
            marker.add(archive, unpacked, &self.folder)?;
            if self.delete {
                fs::remove_file(&path).map_err(Error::io("delete", &path))?;
            }
        }
        Ok(())
    }

    /// Prevents two processes from writing to one `.part` file.
    fn lock(&self) -> Result<FileLock> {
        let path = self.folder.join(".coco.lock");
        let file = File::create(&path).map_err(Error::io("write", &path))?;
        FileLock::attempt(file)
            .map_err(Error::io("lock", &path))?
            .ok_or_else(|| Error::Usage(format!("{}: another process is getting COCO there", self.folder.display())))
    }

    /// Checks the free space against peak usage: an archive next to its unpacked content.
    fn check_space(&self, missing: &[&Archive]) -> Result<()> {
        let (mut held, mut most, mut downloads, mut unpacked) = (0u64, 0u64, 0u64, 0u64);
        // Archives that are present are checked exactly before they are unpacked.
        for archive in missing.iter().filter(|archive| !self.folder.join(&archive.name).exists()) {
            let Some(size) = archive.size else { continue };
            let begun = fs::metadata(part_of(&self.folder.join(&archive.name))).map_or(0, |file| file.len());
            let left = size.saturating_sub(begun);
            (downloads, unpacked) = (downloads + left, unpacked + archive.unpacked);
            held += left + archive.unpacked;
            most = most.max(held);
            if self.delete {
                held = held.saturating_sub(size);
            }
        }
        let free = (self.free)(&self.folder)?;
        if most <= free {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "{}: there is no room: {} are needed (downloads {}, unpacked {}), and {} are free; make room, choose \
             another folder with `--out`, fewer parts with `--parts`, or delete each archive when it is unpacked with \
             `--delete-archives`; nothing was begun",
            self.folder.display(),
            gigabytes(most),
            gigabytes(downloads),
            gigabytes(unpacked),
            gigabytes(free)
        )))
    }

    #[cfg(feature = "hub")]
    fn download(&self, archive: &Archive, to: &Path) -> Result<()> {
        download::get(self, archive, to)
    }

    #[cfg(not(feature = "hub"))]
    fn download(&self, archive: &Archive, to: &Path) -> Result<()> {
        Err(Error::Usage(format!(
            "{} is not there, and this program was built without downloads: build it with its default features \
             (`cargo build --release --locked`), or download {}/{} yourself, and run again",
            to.display(),
            self.base,
            archive.path
        )))
    }

    /// Verifies the size and SHA-256 of a file.
    fn verify(&self, archive: &Archive, path: &Path) -> Result<(), Mismatch> {
        let mut file = File::open(path).map_err(|error| Mismatch::Failed(Error::io("read", path)(error)))?;
        let size = file.metadata().map_err(|error| Mismatch::Failed(Error::io("read", path)(error)))?.len();
        if let Some(published) = archive.size.filter(|published| *published != size) {
            return Err(Mismatch::Other(format!(
                "has {size} bytes, and {} was published with {published}",
                archive.name
            )));
        }
        let Some(published) = &archive.sha256 else { return Ok(()) };
        let what = format!("checking {}", archive.name);
        let (mut hasher, mut chunk, mut done) = (Sha256::new(), vec![0; 1 << 20], 0);
        loop {
            if (self.stop)() {
                return Err(Mismatch::Failed(Error::Interrupted));
            }
            match file.read(&mut chunk).map_err(|error| Mismatch::Failed(Error::io("read", path)(error)))? {
                0 => break,
                count => {
                    hasher.update(&chunk[..count]);
                    done += count as u64;
                    (self.show)(Event::Bytes { what: &what, done, of: size });
                }
            }
        }
        let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        match digest == *published {
            true => Ok(()),
            false => Err(Mismatch::Other(format!("its SHA-256 is {digest}, and {published} was published"))),
        }
    }

    fn say(&self, text: String) {
        (self.show)(Event::Line(text));
    }
}

/// Why a file could not be verified.
enum Mismatch {
    /// The content differs.
    Other(String),
    /// The check failed.
    Failed(Error),
}

impl Mismatch {
    fn into_error(self, path: &Path, help: &str) -> Error {
        match self {
            Mismatch::Other(what) => Error::data(path, what + help),
            Mismatch::Failed(error) => error,
        }
    }
}

/// The partial file of a download.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// A human-readable number of bytes.
fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
