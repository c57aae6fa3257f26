//! Resizes a folder of images into another; up-to-date files are skipped.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{dimensions, encode, read_bytes, square};
use crate::error::{Error, Result};
use crate::files::{TEMPORARY, put_whole, write_atomically};

/// File in the target folder with the settings of its images.
pub const SETTINGS: &str = "resized.json";
/// File in the target folder that lists failures, one `file<TAB>reason` per line; absent if there are none.
pub const BAD_FILES: &str = "bad-files.tsv";

/// Extensions of images; the content is checked later.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff"];
/// Bytes of a file written here that contain its width and height.
const HEADER: u64 = 4096;

/// A job that resizes a folder.
#[derive(Debug, Clone)]
pub struct ResizeFolder {
    /// The source folder, searched recursively.
    pub source: PathBuf,
    /// The target folder; names are kept, JPEG is written as JPEG and everything else as PNG.
    pub target: PathBuf,
    /// Width and height of the result, in pixels.
    pub size: u32,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// Stop with an error at the first bad file.
    pub strict: bool,
}

/// The result of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderReport {
    /// Resized images.
    pub written: usize,
    /// Images that were up to date.
    pub kept: usize,
    /// Images that could not be resized, with reasons, sorted by name.
    pub bad: Vec<(PathBuf, String)>,
}

/// Content of [`SETTINGS`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Settings {
    size: u32,
    filter: String,
    quality: u8,
}

enum Done {
    Written,
    Kept,
    Bad(String),
}

impl ResizeFolder {
    /// Resizes all images that are not up to date, on all threads of the current pool. `progress` is called from any thread
    /// with the number of images done and in all; no image is started once `stop` returns true.
    ///
    /// An image is up to date if its target is not older than the source and has the right size. Files are written
    /// atomically.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are no images, or the target has other files or images with other settings; [`Error::Held`]
    /// if another process is writing to it; [`Error::Io`] if a file cannot be written; with `strict`, [`Error::Data`] for a
    /// bad file; [`Error::Interrupted`] after `stop`, whereupon the same call resumes.
    pub fn run(
        &self,
        stop: &(dyn Fn() -> bool + Sync),
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<FolderReport> {
        if self.size == 0 || !(1..=100).contains(&self.quality) {
            return Err(Error::Usage("an image needs at least one pixel and a quality from 1 to 100".into()));
        }
        let names = images_in(&self.source)?;
        if names.is_empty() {
            return Err(Error::Usage(format!("there are no images in {}", self.source.display())));
        }
        let _lock = self.claim()?;
        let folders: BTreeSet<PathBuf> =
            names.iter().filter_map(|name| Some(self.target.join(name.parent()?))).collect();
        for folder in &folders {
            fs::create_dir_all(folder).map_err(Error::io("create the directory", folder))?;
            remove_leftovers(folder);
        }

        let done = AtomicUsize::new(0);
        let each = |name: &PathBuf| -> Result<Done> {
            if stop() {
                return Err(Error::Interrupted);
            }
            let result = self.one(name)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, names.len());
            match result {
                Done::Bad(why) if self.strict => Err(Error::data(&self.source.join(name), why)),
                result => Ok(result),
            }
        };
        let results: Vec<Done> = names.par_iter().map(each).collect::<Result<_>>()?;

        let mut report = FolderReport::default();
        for (name, result) in names.into_iter().zip(results) {
            match result {
                Done::Written => report.written += 1,
                Done::Kept => report.kept += 1,
                Done::Bad(why) => report.bad.push((name, why)),
            }
        }
        self.list_bad(&report.bad)?;
        Ok(report)
    }

    /// Checks the target and locks it for as long as the returned file is open.
    fn claim(&self) -> Result<File> {
        let (source, target) = (&self.source, &self.target);
        fs::create_dir_all(target).map_err(Error::io("create the directory", target))?;
        let absolute = |path: &Path| path.canonicalize().map_err(Error::io("open", path));
        let (from, to) = (absolute(source)?, absolute(target)?);
        if to.starts_with(&from) || from.starts_with(&to) {
            let what = "one folder is within the other; name another target";
            return Err(Error::Usage(format!("{} and {}: {what}", source.display(), target.display())));
        }
        let wanted = Settings { size: self.size, filter: "lanczos3".into(), quality: self.quality };
        let path = target.join(SETTINGS);
        if path.exists() {
            let text = fs::read(&path).map_err(Error::io("read", &path))?;
            let made: Settings = serde_json::from_slice(&text)
                .map_err(|error| Error::data(&path, format!("is damaged ({error}); remove the folder")))?;
            if made != wanted {
                return Err(Error::Usage(format!(
                    "{} holds images of {} x {} pixels and quality {}; name another folder, or remove this one",
                    target.display(),
                    made.size,
                    made.size,
                    made.quality
                )));
            }
        } else {
            let others = fs::read_dir(target).map_err(Error::io("read", target))?;
            let foreign = |name: &OsStr| !name.to_string_lossy().starts_with(TEMPORARY);
            if others.flatten().any(|entry| foreign(&entry.file_name())) {
                let what = "holds files that were not made here; name a new or an empty folder";
                return Err(Error::Usage(format!("{} {what}", target.display())));
            }
            let text = serde_json::to_vec(&wanted).map_err(|error| Error::data(&path, error.to_string()))?;
            write_atomically(&path, &text)?;
        }
        let lock = File::open(&path).map_err(Error::io("open", &path))?;
        if lock.try_lock().is_err() {
            return Err(Error::Held(format!("another process is resizing into {}", target.display())));
        }
        Ok(lock)
    }

    /// Resizes one image. A bad image is no error, a target that cannot be written is.
    fn one(&self, name: &Path) -> Result<Done> {
        let (from, to) = (self.source.join(name), self.target.join(name));
        if self.is_done(&from, &to) {
            return Ok(Done::Kept);
        }
        let made = || -> Result<Vec<u8>, String> {
            let plain = |error: Error| match error {
                Error::Data { what, .. } => what,
                Error::Io { source, .. } => format!("cannot be read: {source}"),
                other => other.to_string(),
            };
            let bytes = read_bytes(&from).map_err(plain)?;
            let (image, format) = square(&bytes, self.size)?;
            encode(&image, format, self.quality).map_err(plain)
        };
        match made() {
            Ok(bytes) => put_whole(&to, &bytes).map(|()| Done::Written),
            Err(why) => {
                // Remove the result of an earlier, good file of this name.
                match fs::remove_file(&to) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &to)(error)),
                    _ => Ok(Done::Bad(why)),
                }
            }
        }
    }

    fn is_done(&self, from: &Path, to: &Path) -> bool {
        let time = |path: &Path| fs::metadata(path).and_then(|about| about.modified());
        let (Ok(source), Ok(target)) = (time(from), time(to)) else { return false };
        let mut header = Vec::new();
        let read = File::open(to).and_then(|file| file.take(HEADER).read_to_end(&mut header));
        let size = (self.size, self.size);
        target >= source && read.is_ok() && dimensions(&header).is_ok_and(|(width, height, _)| (width, height) == size)
    }

    fn list_bad(&self, bad: &[(PathBuf, String)]) -> Result<()> {
        let path = self.target.join(BAD_FILES);
        if bad.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
                _ => Ok(()),
            };
        }
        let lines = bad.iter().map(|(name, why)| format!("{}\t{}\n", name.display(), why.replace(['\t', '\n'], " ")));
        write_atomically(&path, lines.collect::<String>().as_bytes())
    }
}

/// Removes partial files of a killed process; requires the lock.
fn remove_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The names of all images below a folder, relative to it and sorted, without hidden ones (`._a.png`). Links to folders are
/// not followed, which avoids cycles.
///
/// # Errors
/// [`Error::Io`].
pub fn images_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    collect(folder, Path::new(""), &mut names)?;
    names.sort();
    Ok(names)
}

fn collect(root: &Path, below: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    let folder = root.join(below);
    for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
        let entry = entry.map_err(Error::io("read", &folder))?;
        let name = below.join(entry.file_name());
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(Error::io("read", &folder))?.is_dir() {
            collect(root, &name, names)?;
        } else if is_image_name(&name) {
            names.push(name);
        }
    }
    Ok(())
}

/// Whether a name has the extension of an image.
pub fn is_image_name(name: &Path) -> bool {
    let ending = name.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    ENDINGS.contains(&ending.as_str())
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, RgbImage};

    use super::*;

    fn lab() -> (tempfile::TempDir, ResizeFolder) {
        let directory = tempfile::tempdir().unwrap();
        let (source, target) = (directory.path().join("in"), directory.path().join("out"));
        fs::create_dir_all(source.join("sub")).unwrap();
        for (name, format) in [("a.jpg", ImageFormat::Jpeg), ("sub/b.png", ImageFormat::Png)] {
            let image = RgbImage::from_pixel(30, 20, image::Rgb([200, 100, 50]));
            fs::write(source.join(name), encode(&image, format, 90).unwrap()).unwrap();
        }
        for name in ["notes.txt", "._a.jpg", ".hidden.png", "Thumbs.db"] {
            fs::write(source.join(name), "not an image").unwrap();
        }
        (directory, ResizeFolder { source, target, size: 8, quality: 95, strict: false })
    }

    fn run(job: &ResizeFolder) -> Result<FolderReport> {
        job.run(&|| false, &|_, _| {})
    }

    #[test]
    fn only_files_that_changed_are_resized_again() {
        let (_directory, job) = lab();
        assert_eq!(run(&job).unwrap(), FolderReport { written: 2, kept: 0, bad: vec![] });
        let image = super::super::read(&job.target.join("sub/b.png")).unwrap();
        assert_eq!((image.dimensions(), image.get_pixel(3, 3).0), ((8, 8), [200, 100, 50]));
        assert_eq!(run(&job).unwrap(), FolderReport { written: 0, kept: 2, bad: vec![] });
        // As after a power failure before the file was synced.
        fs::write(job.target.join("a.jpg"), "").unwrap();
        fs::write(job.target.join(format!("sub/{TEMPORARY}x")), "half").unwrap();
        assert_eq!(run(&job).unwrap(), FolderReport { written: 1, kept: 1, bad: vec![] });
        assert_eq!(fs::read_dir(job.target.join("sub")).unwrap().count(), 1);
    }

    #[test]
    fn bad_files_are_listed_or_fatal() {
        let (_directory, job) = lab();
        fs::write(job.source.join("empty.png"), "").unwrap();
        fs::write(job.source.join("text.jpg"), "not an image at all").unwrap();
        let report = run(&job).unwrap();
        assert_eq!((report.written, report.bad.len()), (2, 2));
        let list = fs::read_to_string(job.target.join(BAD_FILES)).unwrap();
        assert_eq!(list, "empty.png\tis empty\ntext.jpg\tis no image: neither PNG nor JPEG, WebP, GIF, TIFF or BMP\n");

        let error = run(&ResizeFolder { strict: true, ..job.clone() }).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        fs::remove_file(job.source.join("empty.png")).unwrap();
        fs::remove_file(job.source.join("text.jpg")).unwrap();
        run(&job).unwrap();
        assert!(!job.target.join(BAD_FILES).exists());
    }

    #[test]
    fn an_interrupted_job_resumes() {
        let (_directory, job) = lab();
        let begun = AtomicUsize::new(0);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let stop = || begun.fetch_add(1, Ordering::Relaxed) >= 1;
        let stopped = pool.install(|| job.run(&stop, &|_, _| {}));
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert_eq!(run(&job).unwrap(), FolderReport { written: 1, kept: 1, bad: vec![] });
    }

    #[test]
    fn unsuitable_folders_are_rejected_unchanged() {
        let (directory, job) = lab();
        run(&job).unwrap();
        let into = |target: PathBuf| run(&ResizeFolder { target, ..job.clone() }).unwrap_err().to_string();
        assert!(into(job.source.clone()).contains("within the other"));
        assert!(into(directory.path().to_owned()).contains("within the other"));
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("mine.txt"), "mine").unwrap();
        assert!(into(other.clone()).contains("not made here"));
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
        let error = run(&ResizeFolder { size: 9, ..job.clone() }).unwrap_err().to_string();
        assert!(error.contains("holds images of 8 x 8"), "{error}");
        let lock = File::open(job.target.join(SETTINGS)).unwrap();
        lock.try_lock().unwrap();
        assert!(matches!(run(&job), Err(Error::Held(_))));
        let error = run(&ResizeFolder { source: other, ..job.clone() }).unwrap_err().to_string();
        assert!(error.contains("there are no images"), "{error}");
    }
}
