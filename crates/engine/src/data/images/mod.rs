//! Reading, resizing and writing image files.

mod folder;
mod resize;
mod transform;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub use ccdni_images::{MAX_PIXELS, decode, dimensions};
use image::{ImageFormat, RgbImage};

pub use folder::{BAD_FILES, FolderReport, ResizeFolder, SETTINGS, images_in, is_image_name};
pub use resize::mean_of_squares;
pub use transform::{Crop, DEVIATION, MEAN, Transform, View};

use crate::error::{Error, Result};

/// Maximum size of a file, in bytes.
pub const MAX_FILE: u64 = 128 << 20;
/// Images with more pixels are resized one at a time, which bounds memory on machines with many cores.
const LARGE: u64 = 1 << 24;
/// Held while a large image is in memory.
static LARGE_IMAGE: Mutex<()> = Mutex::new(());

/// Reads an image file as [`decode`] does.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Data`] if it is no such file, is damaged or truncated, or has more than
/// [`MAX_PIXELS`] (checked before memory is allocated).
pub fn read(path: &Path) -> Result<RgbImage> {
    let bytes = read_bytes(path)?;
    decode(&bytes).map(|(image, _)| image).map_err(|what| Error::data(path, what))
}

/// Reads an image as [`read`] does, and resizes it as [`resize_square`] does; large ones one at a time.
///
/// # Errors
/// As [`read`].
pub fn read_square(path: &Path, size: u32) -> Result<RgbImage> {
    let bytes = read_bytes(path)?;
    square(&bytes, size).map(|(image, _)| image).map_err(|what| Error::data(path, what))
}

/// The bytes of an image file as a square, and the format of the file.
fn square(bytes: &[u8], size: u32) -> Result<(RgbImage, ImageFormat), String> {
    let (width, height, _) = dimensions(bytes)?;
    let is_large = u64::from(width) * u64::from(height) > LARGE;
    let _alone = is_large.then(|| LARGE_IMAGE.lock().unwrap_or_else(PoisonError::into_inner));
    let (image, format) = decode(bytes)?;
    Ok((ccdni_images::resize_square(&image, size)?, format))
}

/// The bytes of a file of at most [`MAX_FILE`] bytes.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let about = fs::metadata(path).map_err(Error::io("read", path))?;
    if !about.is_file() {
        return Err(Error::data(path, "is no file"));
    }
    if about.len() > MAX_FILE {
        return Err(Error::data(path, format!("has {} bytes: too many for an image", about.len())));
    }
    fs::read(path).map_err(Error::io("read", path))
}

/// Resizes an image to `size` x `size` pixels as [`ccdni_images::resize_square`] does.
///
/// # Errors
/// [`Error::Usage`] if a side is 0.
pub fn resize_square(image: &RgbImage, size: u32) -> Result<RgbImage> {
    ccdni_images::resize_square(image, size).map_err(Error::Usage)
}

/// Encodes an image as JPEG with a quality from 1 to 100, or, for every other format, as PNG.
///
/// # Errors
/// [`Error::Usage`] if the encoder fails.
pub fn encode(image: &RgbImage, format: ImageFormat, quality: u8) -> Result<Vec<u8>> {
    ccdni_images::encode(image, format, quality).map_err(Error::Usage)
}
