//! Image files as RGB: decoded within bounds, resized, encoded.
//!
//! A package of its own, since decoders and resizing are a fifth of the code that the engine would have to generate.

#![warn(missing_docs)]

mod jpeg;
mod resize;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageReader, Limits};
pub use image::{ImageFormat, RgbImage};

pub use resize::resize_square;

/// Maximum number of pixels of an image; a header that declares more is damaged or malicious.
pub const MAX_PIXELS: u64 = 1 << 26;
/// Maximum allocation of a decoder, in bytes.
const MAX_MEMORY: u64 = 768 << 20;

/// Supported formats.
const FORMATS: [ImageFormat; 6] =
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Tiff, ImageFormat::Bmp];

/// Width, height and format according to the header of an image.
///
/// # Errors
/// The reason, to be completed with the name of the file.
pub fn dimensions(bytes: &[u8]) -> Result<(u32, u32, ImageFormat), String> {
    if bytes.is_empty() {
        return Err("is empty".into());
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let format = match reader.format() {
        Some(format) if FORMATS.contains(&format) => format,
        Some(other) => return Err(format!("is {other:?}; PNG, JPEG, WebP, GIF, TIFF and BMP are read: convert it")),
        None => return Err("is no image: neither PNG nor JPEG, WebP, GIF, TIFF or BMP".into()),
    };
    let (width, height) = reader.into_dimensions().map_err(|error| match error {
        ImageError::Limits(_) => format!("claims more than {MAX_PIXELS} pixels"),
        error => format!("is damaged: {error}"),
    })?;
    Ok((width, height, format))
}

/// Decodes the bytes of a PNG, JPEG, WebP, GIF, TIFF or BMP file as RGB and applies its EXIF orientation.
///
/// Grey levels are copied to all channels, palettes are resolved, the alpha channel is dropped without blending, CMYK is
/// converted, and an animation yields its first frame. The format is determined from the content, not from the name.
///
/// # Errors
/// The reason, to be completed with the name of the file.
pub fn decode(bytes: &[u8]) -> Result<(RgbImage, ImageFormat), String> {
    let (width, height, format) = dimensions(bytes)?;
    if width == 0 || height == 0 {
        return Err(format!("has no pixels ({width} x {height})"));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("claims {width} x {height} pixels, more than {MAX_PIXELS}"));
    }
    if format == ImageFormat::Jpeg && !jpeg::is_whole(bytes) {
        // The decoder would fill the missing part with grey.
        return Err("is cut short: the end of the JPEG is missing".into());
    }
    // A decoder that panics indicates a bad file; other files are unaffected.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode_checked(bytes, format)));
    let image = decoded.unwrap_or_else(|_| Err("is damaged: its decoder failed".into()))?;
    Ok((image, format))
}

fn decode_checked(bytes: &[u8], format: ImageFormat) -> Result<RgbImage, String> {
    let damaged = |error: image::ImageError| format!("is damaged: {error}");
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    // Without a readable orientation the image is kept as stored.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Encodes an image as JPEG with a quality from 1 to 100, or, for every other format, as PNG.
///
/// # Errors
/// What the encoder reports.
pub fn encode(image: &RgbImage, format: ImageFormat, quality: u8) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let (width, height) = image.dimensions();
    let written = match format {
        ImageFormat::Jpeg => JpegEncoder::new_with_quality(&mut bytes, quality).write_image(
            image,
            width,
            height,
            ExtendedColorType::Rgb8,
        ),
        _ => PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive).write_image(
            image,
            width,
            height,
            ExtendedColorType::Rgb8,
        ),
    };
    written.map_err(|error| format!("cannot encode an image: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, (x + y) as u8]))
    }

    #[test]
    fn hostile_files_are_rejected_with_a_reason() {
        let jpeg = encode(&image(200, 150), ImageFormat::Jpeg, 90).unwrap();
        let png = encode(&image(40, 30), ImageFormat::Png, 90).unwrap();
        // A header that declares 2^31 - 1 pixels per side, with a valid checksum, on the data of a small image.
        let mut bomb = png.clone();
        bomb[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let sum = crc(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&sum.to_be_bytes());
        // The same in the frame header of a JPEG.
        let mut wide = jpeg.clone();
        let frame = wide.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        wide[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
        for (bytes, expected) in [
            (Vec::new(), "is empty"),
            (wide, "claims 65500 x 65500 pixels"),
            (b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0".to_vec(), "is damaged"),
            (b"hello, I am a text".to_vec(), "is no image"),
            (b"GIF89a\x01\x00\x01\x00\x00\x00\x00".to_vec(), "is damaged"),
            (b"qoif\0\0\0\x01\0\0\0\x01\x03\0".to_vec(), "is Qoi"),
            (jpeg[..jpeg.len() - 2].to_vec(), "is cut short"),
            (jpeg[..jpeg.len() / 2].to_vec(), "is cut short"),
            (jpeg[..30].to_vec(), "is damaged"),
            (png[..png.len() / 2].to_vec(), "is damaged"),
            (png[..20].to_vec(), "is damaged"),
            (bomb, "claims"),
        ] {
            let error = decode(&bytes).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    /// The CRC of a PNG chunk.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }

    #[test]
    fn an_animation_yields_its_first_frame() {
        let png = encode(&image(40, 30), ImageFormat::Png, 90).unwrap();
        let chunk = |kind: &[u8], data: &[u8]| {
            let body = [kind, data].concat();
            [&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat()
        };
        // Two frames: the first is the PNG's image, the second is missing.
        let control = chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]);
        let first = chunk(b"fcTL", &[0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 9, 0, 0]);
        let animation = [&png[..33], &control, &first, &png[33..]].concat();
        assert_eq!(decode(&animation).unwrap().0, image(40, 30));
    }

    #[test]
    fn other_formats_are_read() {
        let seen = image(40, 30);
        for format in [ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Tiff, ImageFormat::Bmp] {
            let mut bytes = Cursor::new(Vec::new());
            seen.write_to(&mut bytes, format).unwrap();
            let (read, found) = decode(bytes.get_ref()).unwrap();
            assert_eq!((found, read.dimensions()), (format, (40, 30)));
            // A GIF has 256 colours.
            assert!(format == ImageFormat::Gif || read == seen, "{format:?}");
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let mut state = 1u64;
        let mut below = |n: usize| {
            // Numerical Recipes' generator.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for format in FORMATS {
            let mut good = Cursor::new(Vec::new());
            image(24, 16).write_to(&mut good, format).unwrap();
            let good = good.into_inner();
            for _ in 0..300 {
                let mut bytes = good.clone();
                for _ in 0..=below(3) {
                    let at = below(bytes.len());
                    bytes[at] = below(256) as u8;
                }
                if let Ok((image, _)) = decode(&bytes) {
                    assert!(u64::from(image.width()) * u64::from(image.height()) <= MAX_PIXELS);
                }
            }
        }
    }

    #[test]
    fn orientation_is_honoured() {
        let mut stored = RgbImage::new(32, 16);
        for (x, y, pixel) in stored.enumerate_pixels_mut() {
            *pixel = image::Rgb(if x < 16 && y < 8 { [250, 0, 0] } else { [0, 0, 250] });
        }
        let plain = encode(&stored, ImageFormat::Jpeg, 100).unwrap();
        // An EXIF segment with a single entry, orientation 6: rotate by 90 degrees clockwise.
        let tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut segment = vec![0xff, 0xe1, 0, (2 + 6 + tiff.len()) as u8];
        segment.extend(b"Exif\0\0");
        segment.extend(tiff);
        let turned = [&plain[..2], &segment, &plain[2..]].concat();

        let (image, _) = decode(&turned).unwrap();
        assert_eq!(image.dimensions(), (16, 32));
        let red = |x, y| image.get_pixel(x, y)[0] > 128;
        assert_eq!([red(3, 3), red(12, 3), red(3, 28), red(12, 28)], [false, true, false, false]);
        assert_eq!(decode(&plain).unwrap().0.dimensions(), (32, 16));
    }
}
