//! From the bytes of an image to the input of a backbone: cropped to a square, optionally mirrored, normalised.

use image::RgbImage;

use crate::error::{Error, Result};
use crate::rng::Stream;

/// Mean of each channel over ImageNet, for values in 0..1.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of each channel over ImageNet.
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Lookup table per channel: `(byte / 255 - mean) / deviation`.
const NORMALISED: [[f32; 256]; 3] = {
    let mut table = [[0.0; 256]; 3];
    let mut channel = 0;
    while channel < 3 {
        let mut byte = 0;
        while byte < 256 {
            table[channel][byte] = (byte as f32 / 255.0 - MEAN[channel]) / DEVIATION[channel];
            byte += 1;
        }
        channel += 1;
    }
    table
};

/// How an image becomes an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transform {
    /// The crop.
    pub crop: Crop,
    /// Whether it is mirrored left to right with probability 1/2.
    pub flip: bool,
}

/// Which part of an image is used; sides are in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crop {
    /// The whole image.
    None,
    /// A centred square of this side.
    Centre(usize),
    /// A square of this side at a random position.
    Random(usize),
}

/// A square part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Side, in pixels.
    pub size: usize,
    /// Whether it is mirrored left to right.
    pub mirrored: bool,
}

impl Transform {
    /// The whole image, not mirrored.
    pub const PLAIN: Transform = Transform { crop: Crop::None, flip: false };

    /// Side of the view of an image of `side` x `side` pixels.
    pub fn size(self, side: usize) -> usize {
        match self.crop {
            Crop::None => side,
            Crop::Centre(size) | Crop::Random(size) => size,
        }
    }

    /// The view of an image of `side` x `side` pixels. Draws from `stream` only for random crops and flips.
    ///
    /// # Errors
    /// [`Error::Usage`] if the crop is larger than the image.
    pub fn view(self, side: usize, stream: &mut Stream) -> Result<View> {
        let size = self.size(side);
        let Some(room) = side.checked_sub(size) else {
            return Err(Error::Usage(format!(
                "cannot take {size} x {size} pixels from an image of {side} x {side}: resize images to at least that"
            )));
        };
        let (left, top) = match self.crop {
            Crop::None => (0, 0),
            // Half pixels are rounded to even, as in torchvision.
            Crop::Centre(_) => {
                ((room as f64 / 2.0).round_ties_even() as usize, (room as f64 / 2.0).round_ties_even() as usize)
            }
            Crop::Random(_) => {
                let top = stream.below(room + 1);
                (stream.below(room + 1), top)
            }
        };
        Ok(View { left, top, size, mirrored: self.flip && stream.below(2) == 1 })
    }
}

impl View {
    /// Length of the output of [`View::write`].
    pub fn numbers(&self) -> usize {
        3 * self.size * self.size
    }

    /// Writes the view of `image` as normalised values, `[3, size, size]`.
    ///
    /// # Errors
    /// [`Error::Usage`] if it exceeds the image, or `out` does not have [`View::numbers`] elements.
    pub fn write(&self, image: &RgbImage, out: &mut [f32]) -> Result<()> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let inside = |from: usize, extent: usize| from.checked_add(self.size).is_some_and(|end| end <= extent);
        if !inside(self.left, width) || !inside(self.top, height) || out.len() != self.numbers() {
            let View { left, top, size, .. } = self;
            return Err(Error::Usage(format!(
                "cannot take {size} x {size} pixels at ({left}, {top}) from an image of {width} x {height}"
            )));
        }
        if self.size == 0 {
            return Ok(());
        }
        let pixels = self.size * self.size;
        let (red, rest) = out.split_at_mut(pixels);
        let (green, blue) = rest.split_at_mut(pixels);
        let rows = image.as_raw().chunks_exact(3 * width).skip(self.top);
        let [red, green, blue] = [red, green, blue].map(|channel| channel.chunks_exact_mut(self.size));
        for (((row, red), green), blue) in rows.zip(red).zip(green).zip(blue) {
            let row = row[3 * self.left..][..3 * self.size].chunks_exact(3);
            let places = red.iter_mut().zip(green).zip(blue);
            let put = |((r, g), b): ((&mut f32, &mut f32), &mut f32), pixel: &[u8]| {
                *r = NORMALISED[0][usize::from(pixel[0])];
                *g = NORMALISED[1][usize::from(pixel[1])];
                *b = NORMALISED[2][usize::from(pixel[2])];
            };
            if self.mirrored {
                places.zip(row.rev()).for_each(|(place, pixel)| put(place, pixel));
            } else {
                places.zip(row).for_each(|(place, pixel)| put(place, pixel));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RgbImage {
        RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8, y as u8, (16 * x + y) as u8]))
    }

    fn stream() -> Stream {
        Stream::new(1, "test", 0, 0)
    }

    #[test]
    fn each_value_is_a_normalised_byte_of_the_view() {
        for mirrored in [false, true] {
            let view = View { left: 2, top: 1, size: 5, mirrored };
            let mut out = vec![0.0; view.numbers()];
            view.write(&image(), &mut out).unwrap();
            for (index, number) in out.into_iter().enumerate() {
                let (channel, y, x) = (index / 25, index / 5 % 5, index % 5);
                let x = if mirrored { 4 - x } else { x };
                let byte = image().get_pixel(2 + x as u32, 1 + y as u32)[channel];
                let expected = (f64::from(byte) / 255.0 - f64::from(MEAN[channel])) / f64::from(DEVIATION[channel]);
                assert!((f64::from(number) - expected).abs() < 1e-6, "{index}: {number} {expected}");
            }
        }
    }

    #[test]
    fn crops_lie_where_they_should() {
        let view = |crop, flip| Transform { crop, flip }.view(10, &mut stream()).unwrap();
        assert_eq!(view(Crop::None, false), View { left: 0, top: 0, size: 10, mirrored: false });
        assert_eq!(view(Crop::Centre(6), false), View { left: 2, top: 2, size: 6, mirrored: false });
        assert_eq!(view(Crop::Centre(7), false).left, 2);
        let (mut stream, mut seen) = (stream(), std::collections::HashSet::new());
        let transform = Transform { crop: Crop::Random(8), flip: true };
        let views: Vec<View> = (0..2000).map(|_| transform.view(10, &mut stream).unwrap()).collect();
        seen.extend(views.iter().map(|view| (view.left, view.top, view.mirrored)));
        assert_eq!(seen.len(), 18, "three columns, three rows, mirrored or not");
        assert!(views.iter().filter(|view| view.mirrored).count().abs_diff(1000) < 120);
    }

    #[test]
    fn crops_that_do_not_fit_are_rejected() {
        let too_large = Transform { crop: Crop::Random(11), flip: false }.view(10, &mut stream());
        assert!(too_large.unwrap_err().to_string().contains("11 x 11 pixels from an image of 10 x 10"));
        for (left, size) in [(5, 5), (usize::MAX, 2), (0, 8)] {
            let view = View { left, top: 0, size, mirrored: false };
            assert!(view.write(&image(), &mut vec![0.0; 3 * size * size]).is_err());
        }
        let view = View { left: 0, top: 0, size: 5, mirrored: false };
        assert!(view.write(&image(), &mut [0.0; 74]).is_err());
    }
}
