//! Resizing: to a square, and by a whole factor.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use crate::error::{Error, Result};

/// Resizes to `size` x `size` pixels with a Lanczos window of 3; the aspect ratio is not kept.
///
/// Results differ from Pillow's by at most 3 of 255, 0.2 on average, except for patterns of single pixels.
///
/// # Errors
/// [`Error::Usage`] if a side is 0.
pub fn resize_square(image: &RgbImage, size: u32) -> Result<RgbImage> {
    if image.dimensions() == (size, size) {
        return Ok(image.clone());
    }
    let refused = |why: String| Error::Usage(format!("cannot resize an image to {size} x {size}: {why}"));
    let (width, height) = image.dimensions();
    if size == 0 || width == 0 || height == 0 {
        return Err(refused(format!("it has {width} x {height} pixels")));
    }
    let mut resized = RgbImage::new(size, size);
    // Typed: the untyped entry point would instantiate every pixel type, a quarter of the program's size.
    let source = TypedImageRef::<U8x3>::from_buffer(width, height, image.as_raw())
        .map_err(|error| refused(error.to_string()))?;
    let mut target =
        TypedImage::<U8x3>::from_buffer(size, size, &mut resized).map_err(|error| refused(error.to_string()))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3)).use_alpha(false);
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| refused(error.to_string()))?;
    Ok(resized)
}

/// Makes an image smaller by a whole factor: means over squares of `factor` pixels, three bytes per pixel.
///
/// `drawn` has `height * factor` rows of `width * factor` pixels.
pub fn mean_of_squares(drawn: &[u8], width: usize, height: usize, factor: usize) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(width * height * 3);
    let mut sums = vec![0u32; width * 3];
    for rows in drawn.chunks_exact(width * factor * 3 * factor).take(height) {
        sums.fill(0);
        for row in rows.chunks_exact(width * factor * 3) {
            for (square, sum) in row.chunks_exact(factor * 3).zip(sums.chunks_exact_mut(3)) {
                for pixel in square.chunks_exact(3) {
                    sum.iter_mut().zip(pixel).for_each(|(sum, &channel)| *sum += u32::from(channel));
                }
            }
        }
        let count = (factor * factor) as u32;
        pixels.extend(sums.iter().map(|sum| ((sum + count / 2) / count) as u8));
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_the_target_size_is_unchanged() {
        let image = RgbImage::from_fn(9, 5, |x, y| image::Rgb([x as u8, y as u8, 200]));
        let square = resize_square(&image, 7).unwrap();
        assert_eq!(square.dimensions(), (7, 7));
        assert!(square.pixels().all(|pixel| pixel[2] == 200));
        assert_eq!(resize_square(&square, 7).unwrap(), square);
        assert!(resize_square(&image, 0).is_err());
    }

    #[test]
    fn a_smaller_image_has_the_means_of_squares() {
        let drawn = [[0, 0, 0], [255, 0, 30], [255, 0, 30], [0, 0, 0]].concat();
        assert_eq!(mean_of_squares(&drawn, 1, 1, 2), [128, 0, 15]);
    }
}
