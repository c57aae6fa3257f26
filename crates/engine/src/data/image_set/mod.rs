//! The images of a task: files, preprocessing, and a store for decoded images or features.

mod store;

use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use rayon::prelude::*;

pub use store::{Item, Store, Work};

use super::images::{Crop, Transform, View};
use crate::error::{Error, Result};
use crate::rng::Stream;

/// The images of a task, numbered from the first training image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    /// Training images.
    pub train: Vec<PathBuf>,
    /// Validation images.
    pub validation: Vec<PathBuf>,
    /// Preprocessing.
    pub view: Viewing,
}

/// Preprocessing of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewing {
    /// Side of the square to which every image is resized, in pixels.
    pub resize: u32,
    /// Side of the crop: at a random position in training, centred otherwise. No crop if absent.
    pub crop: Option<u32>,
    /// Whether training mirrors images with probability 1/2.
    pub flip: bool,
    /// Whether validation uses the whole square.
    pub whole: bool,
    /// For stored features: randomly augmented views per training image; 0 for the single view of validation.
    pub variants: usize,
}

impl Default for Viewing {
    fn default() -> Self {
        Viewing { resize: 256, crop: None, flip: false, whole: false, variants: 0 }
    }
}

impl Viewing {
    /// Side of the training inputs.
    pub fn trained_side(&self) -> u32 {
        self.crop.unwrap_or(self.resize)
    }

    /// Side of the validation inputs.
    pub fn measured_side(&self) -> u32 {
        if self.whole { self.resize } else { self.trained_side() }
    }

    /// The view of an image in validation.
    ///
    /// # Errors
    /// [`Error::Usage`] if the crop is larger than the image.
    pub fn measured(&self) -> Result<View> {
        let crop = self.crop.filter(|_| !self.whole).map_or(Crop::None, |side| Crop::Centre(side as usize));
        // The stream is not used.
        Transform { crop, flip: false }.view(self.resize as usize, &mut Stream::new(0, "data.view", 0, 0))
    }

    /// The view of an image in training.
    ///
    /// # Errors
    /// As [`Viewing::measured`].
    pub fn trained(&self, stream: &mut Stream) -> Result<View> {
        let crop = self.crop.map_or(Crop::None, |side| Crop::Random(side as usize));
        Transform { crop, flip: self.flip }.view(self.resize as usize, stream)
    }

    /// A stored variant of a training image; the same for every seed.
    ///
    /// # Errors
    /// As [`Viewing::measured`].
    pub fn variant(&self, image: usize, variant: usize) -> Result<View> {
        self.trained(&mut Stream::new(0, "data.variant", variant, image))
    }

    /// Whether training uses other views than validation.
    pub fn augments(&self) -> bool {
        self.flip || self.trained_side() != self.resize
    }
}

/// BLAKE3 digest, in hex, of the content of files and of their order.
///
/// The digest is cached in the directory `memory`, keyed by the paths, sizes and modification times of the files.
///
/// # Errors
/// [`Error::Data`] naming files that are missing; [`Error::Io`] if one cannot be read.
pub fn digest(files: &[PathBuf], memory: &std::path::Path) -> Result<String> {
    let stamps: Vec<Option<String>> = files.par_iter().map(|path| stamp(path)).collect();
    if let Some(first) = stamps.iter().position(Option::is_none) {
        let missing = stamps.iter().filter(|stamp| stamp.is_none()).count();
        return Err(Error::data(&files[first], format!("is missing; {missing} of {} images are", files.len())));
    }
    let mut all = blake3::Hasher::new();
    stamps.iter().flatten().for_each(|stamp| {
        all.update(stamp.as_bytes());
    });
    let remembered = memory.join(format!("{}.digest", &all.finalize().to_hex()[..24]));
    if let Ok(digest) = std::fs::read_to_string(&remembered)
        && digest.len() == 64
    {
        return Ok(digest);
    }
    let one = |path: &PathBuf| -> Result<[u8; 32]> {
        Ok(*blake3::hash(&std::fs::read(path).map_err(Error::io("read", path))?).as_bytes())
    };
    let digests: Vec<[u8; 32]> = files.par_iter().map(one).collect::<Result<_>>()?;
    let mut all = blake3::Hasher::new();
    digests.iter().for_each(|digest| {
        all.update(digest);
    });
    let digest = all.finalize().to_hex().to_string();
    crate::files::write_atomically(&remembered, digest.as_bytes())?;
    Ok(digest)
}

/// Path, size and modification time of a file; `None` if there is no such file.
fn stamp(path: &std::path::Path) -> Option<String> {
    let about = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let changed = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Some(format!("{}\0{}\0{:?}\n", path.display(), about.len(), changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_crops_at_random_and_validation_in_the_middle() -> Result<()> {
        let viewing = Viewing { resize: 10, crop: Some(8), flip: true, ..Viewing::default() };
        assert_eq!(viewing.measured()?, View { left: 1, top: 1, size: 8, mirrored: false });
        let views = (0..200).map(|image| viewing.variant(image, 0)).collect::<Result<Vec<View>>>()?;
        assert!((0..=2).all(|left| views.iter().any(|view| view.left == left && view.mirrored)));
        assert_eq!(viewing.variant(3, 1)?, viewing.variant(3, 1)?);
        assert!(viewing.augments() && !Viewing::default().augments());
        let whole = Viewing { whole: true, ..viewing };
        assert_eq!(whole.measured()?, View { left: 0, top: 0, size: 10, mirrored: false });
        assert_eq!((whole.trained_side(), whole.measured_side()), (8, 10));
        Ok(())
    }

    #[test]
    fn the_digest_is_of_the_content_and_is_cached() {
        let directory = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = ["a", "b"].map(|name| directory.path().join(name)).into();
        files.iter().for_each(|path| std::fs::write(path, path.to_str().unwrap()).unwrap());
        let memory = directory.path().join("memory");
        std::fs::create_dir(&memory).unwrap();
        let first = digest(&files, &memory).unwrap();
        assert_eq!(digest(&files, &memory).unwrap(), first);
        assert_eq!(std::fs::read_dir(&memory).unwrap().count(), 1);
        std::fs::write(&files[1], "another content").unwrap();
        assert_ne!(digest(&files, &memory).unwrap(), first);
        std::fs::remove_file(&files[0]).unwrap();
        let error = digest(&files, &memory).unwrap_err();
        assert!(error.to_string().contains("a: is missing; 1 of 2 images are") && error.exit_code() == 2, "{error}");
    }
}
