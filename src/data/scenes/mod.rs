//! `scenes`: images of coloured shapes, with captions from a small grammar, so that captioning can be learned and shown
//! without anybody's photographs.
//!
//! `scene.rs` draws what is in a scene, `paint.rs` paints it, and `tell.rs` tells it five times. All of it depends on the seed alone.

mod paint;
mod scene;
mod tell;

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::ImageFormat;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::captions::{Caption, CaptionSet, Image, write_coco};
use super::images::encode;
use crate::error::{Error, Result};
use crate::files::{TEMPORARY, put_whole, sync_directory, sync_everything, write_atomically};
use crate::rng::Stream;
use scene::Scene;

/// Captions of a image.
pub const CAPTIONS: usize = 5;
/// In the folder: how the scenes were made.
pub const SETTINGS: &str = "scenes.json";
/// More images would not fit into the numbers of their names.
const MAX_PICTURES: usize = 999_999;

/// A set of scenes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenes {
    /// Images to train with, in `train/`, with `captions_train.json`.
    pub train: usize,
    /// Images to validate with, in `validation/`, with `captions_validation.json`.
    pub validation: usize,
    /// Width and height of a image.
    pub size: u32,
    /// Another seed is another set.
    pub seed: u64,
}

impl Default for Scenes {
    fn default() -> Self {
        Scenes { train: 4000, validation: 500, size: 64, seed: 1 }
    }
}

/// Whether the scenes had to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// They were.
    Now,
    /// They were there.
    Before,
}

impl Scenes {
    /// Makes the folder `out`, whole or not at all, on all threads of the current pool; does nothing where it is there.
    /// `progress` hears how many of how many images are done, from any thread; `stop` is asked before each.
    ///
    /// # Errors
    /// [`Error::Usage`] if the folder holds something else, or if there are too many images or none in a part;
    /// [`Error::Io`]; [`Error::Interrupted`] after `stop`.
    pub fn make(
        &self,
        out: &Path,
        stop: &(dyn Fn() -> bool + Sync),
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Made> {
        let images = self.train.saturating_add(self.validation);
        if self.train == 0 || self.validation == 0 || images > MAX_PICTURES || self.size == 0 {
            return Err(Error::Usage(format!("scenes need 1 to {MAX_PICTURES} images, in both parts, of some size")));
        }
        if self.is_there(out)? {
            return Ok(Made::Before);
        }
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io("create the directory", parent))?;
        remove_unfinished(parent);
        let prefix = unfinished();
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        // For whom the umask allows, not for the owner alone as temporary directories are.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let folder = builder.tempdir_in(parent).map_err(Error::io("write to", parent))?;
        let lock = folder.path().join(LOCK);
        let held =
            File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(Error::io("write", &lock))?;

        let done = AtomicUsize::new(0);
        let step = || -> Result<()> {
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, images);
            if stop() { Err(Error::Interrupted) } else { Ok(()) }
        };
        self.part(folder.path(), "train", 0, self.train, &step)?;
        self.part(folder.path(), "validation", self.train, self.validation, &step)?;
        let settings = serde_json::to_vec(self).map_err(|error| Error::data(out, error.to_string()))?;
        write_atomically(&folder.path().join(SETTINGS), &settings)?;

        fs::remove_file(&lock).map_err(Error::io("write to", folder.path()))?;
        drop(held);
        sync_everything();
        if let Err(error) = fs::rename(folder.path(), out) {
            // Somebody else may have been faster.
            return if self.is_there(out)? { Ok(Made::Before) } else { Err(Error::io("write", out)(error)) };
        }
        sync_directory(parent).map_err(Error::io("write to", parent))?;
        Ok(Made::Now)
    }

    /// Whether these scenes are in a folder.
    fn is_there(&self, out: &Path) -> Result<bool> {
        let path = out.join(SETTINGS);
        if !path.exists() {
            let empty = fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
            if !empty || out.is_file() {
                let what = "is there and holds no scenes; name another folder";
                return Err(Error::Usage(format!("{} {what}", out.display())));
            }
            return Ok(false);
        }
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        let made: Scenes = serde_json::from_slice(&text)
            .map_err(|error| Error::data(&path, format!("is damaged ({error}); remove the folder")))?;
        if made != *self {
            return Err(Error::Usage(format!(
                "{} holds other scenes ({} and {} images of {} pixels, seed {}); name another folder, or remove it",
                out.display(),
                made.train,
                made.validation,
                made.size,
                made.seed
            )));
        }
        Ok(true)
    }

    /// One part: its images and its captions. Image `first` is the first one.
    fn part(
        &self,
        root: &Path,
        name: &str,
        first: usize,
        count: usize,
        step: &(dyn Fn() -> Result<()> + Sync),
    ) -> Result<()> {
        let folder = root.join(name);
        fs::create_dir(&folder).map_err(Error::io("create the directory", &folder))?;
        let file_name = |index: usize| format!("{:06}.png", first + index + 1);
        let one = |index: usize| -> Result<Vec<String>> {
            step()?;
            let mut stream = Stream::new(self.seed, &format!("scenes.{name}"), 0, index);
            let scene = Scene::draw(&mut stream);
            let image = paint::paint(&scene, self.size, &mut stream);
            put_whole(&folder.join(file_name(index)), &encode(&image, ImageFormat::Png, 100)?)?;
            Ok(tell::tell(&scene, CAPTIONS, &mut stream))
        };
        let told: Vec<Vec<String>> = (0..count).into_par_iter().map(one).collect::<Result<_>>()?;
        let mut set = CaptionSet::default();
        for (index, captions) in told.into_iter().enumerate() {
            let id = (first + index + 1) as u64;
            set.images.push(Image { id, file_name: file_name(index), split: None });
            let ids = (id - 1) * CAPTIONS as u64 + 1..;
            set.captions.extend(ids.zip(captions).map(|(id, text)| Caption { id, image: index, text }));
        }
        write_coco(&root.join(format!("captions_{name}.json")), "scenes of coloured shapes", &set)
    }
}

/// Held in a folder of scenes for as long as they are drawn.
const LOCK: &str = "lock";

/// What a folder of scenes is called until it is whole.
fn unfinished() -> String {
    format!("{TEMPORARY}scenes-")
}

/// Removes folders whose makers were killed.
fn remove_unfinished(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let lock = entry.path().join(LOCK);
        if entry.file_name().to_string_lossy().starts_with(&unfinished())
            && File::open(&lock).is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::captions::vocabulary::WordCounts;

    fn make(scenes: &Scenes, out: &Path) -> Result<Made> {
        scenes.make(out, &|| false, &|_, _| {})
    }

    #[test]
    fn scenes_are_made_once_and_depend_on_the_seed_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        let scenes = Scenes { train: 60, validation: 20, size: 32, seed: 1 };
        assert_eq!(make(&scenes, &one).unwrap(), Made::Now);
        assert_eq!(make(&scenes, &one).unwrap(), Made::Before);
        make(&scenes, &two).unwrap();
        for file in ["train/000060.png", "validation/000061.png", "captions_train.json", "captions_validation.json"] {
            assert_eq!(fs::read(one.join(file)).unwrap(), fs::read(two.join(file)).unwrap(), "{file}");
        }
        let error = make(&Scenes { seed: 2, ..scenes.clone() }, &one).unwrap_err().to_string();
        assert!(error.contains("holds other scenes (60 and 20 images of 32 pixels, seed 1)"), "{error}");
        assert!(make(&scenes, directory.path()).unwrap_err().to_string().contains("holds no scenes"));
        assert!(make(&Scenes { train: 0, ..scenes.clone() }, &two).is_err());
        // Of a maker that was killed; one that is at work holds its lock.
        for (name, held) in [("dead", false), ("alive", true)] {
            let folder = directory.path().join(format!("{}{name}", unfinished()));
            fs::create_dir(&folder).unwrap();
            let lock = File::create(folder.join(LOCK)).unwrap();
            if held {
                lock.lock().unwrap();
                std::mem::forget(lock);
            }
        }
        let stopped = scenes.make(&directory.path().join("three"), &|| true, &|_, _| {});
        assert!(matches!(stopped, Err(Error::Interrupted)));
        let left = |name: &str| directory.path().join(format!("{}{name}", unfinished())).exists();
        assert!(!left("dead") && left("alive"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn captions_are_varied_and_of_all_lengths() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("scenes");
        make(&Scenes { train: 400, validation: 1, size: 16, seed: 3 }, &out).unwrap();
        let set = CaptionSet::open(&out.join("captions_train.json")).unwrap();
        assert_eq!((set.images.len(), set.captions.len()), (400, 400 * CAPTIONS));
        let texts: Vec<&str> = set.captions.iter().map(|caption| caption.text.as_str()).collect();
        let counts = WordCounts::of(&texts);
        // Behind the words come a period, and the start and the end.
        for length in 8..=15 {
            let share = counts.lengths.iter().filter(|&&l| l == length + 3).count() as f64 / texts.len() as f64;
            assert!(share > 0.03, "{share} of the captions have {length} words");
        }
        assert!(counts.lengths.iter().all(|length| (8 + 3..=15 + 3).contains(length)));
        assert!((50..120).contains(&counts.words.len()), "{}", counts.words.len());
        for captions in texts.chunks(CAPTIONS) {
            let distinct: std::collections::BTreeSet<_> = captions.iter().collect();
            assert_eq!(distinct.len(), CAPTIONS, "{captions:?}");
        }
    }
}
