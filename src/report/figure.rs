//! Renders a figure as SVG and PNG with the same code, identically on every machine.
//!
//! plotters rounds all positions to pixels, so figures are drawn much larger than shown: an SVG is scaled down by its view
//! box, and a PNG by averaging over squares of pixels, which also smooths edges.

use std::path::{Path, PathBuf};
use std::sync::Once;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::bitmap::SmoothBitmap;
use crate::data::images::mean_of_squares;
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// Drawn units per shown unit in an SVG.
const SVG_FINENESS: u32 = 10;
/// Pixels of a PNG per shown unit, for high-resolution displays and print.
const PNG_DENSITY: u32 = 2;
/// The PNG chunk for 300 dots per inch (11811 per metre), length and checksum included.
const PNG_RESOLUTION: &[u8; 21] = b"\0\0\0\x09pHYs\x00\x00\x2e\x23\x00\x00\x2e\x23\x01\x78\xa5\x3f\x76";
/// Its position: after the signature and the header.
const PNG_HEADER_END: usize = 33;
/// Drawn pixels per PNG pixel, in each direction.
const PNG_SMOOTHING: u32 = 3;

/// The bundled font comes first, so that a viewer that has it uses the metrics used for layout.
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

pub(super) const INK: RGBColor = RGBColor(38, 38, 38);
pub(super) const FAINT: RGBColor = RGBColor(150, 150, 150);
pub(super) const GRID: RGBColor = RGBColor(232, 232, 232);

/// A drawing area.
pub(super) type Area<DB> = DrawingArea<DB, Shift>;
/// The result of drawing.
pub(super) type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Something that can be drawn at any scale.
pub(super) trait Figure {
    /// Width and height in shown units (CSS pixels).
    fn size(&self) -> (u32, u32);
    /// Draws on a white area of that size times the pen's scale.
    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen) -> Drawn<DB>;
}

/// Converts shown units to drawn ones.
#[derive(Clone, Copy)]
pub(super) struct Pen {
    scale: f64,
}

impl Pen {
    /// A length.
    pub fn px(self, units: f64) -> i32 {
        (units * self.scale).round() as i32
    }

    /// A stroke style.
    pub fn line(self, color: impl Color, width: f64) -> ShapeStyle {
        ShapeStyle { color: color.to_rgba(), filled: false, stroke_width: self.px(width).max(1) as u32 }
    }

    /// A text style of a height, anchored at the given point of the text's box.
    pub fn text(self, color: RGBColor, height: f64, x: HPos, y: VPos) -> TextStyle<'static> {
        let font = (FONT, height * self.scale).into_font();
        TextStyle { color: color.to_backend_color(), pos: Pos::new(x, y), ..TextStyle::from(font) }
    }
}

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Vector graphics.
    Svg,
    /// Pixels, at 300 dots an inch.
    Png,
}

impl Format {
    /// Both.
    pub const ALL: [Format; 2] = [Format::Svg, Format::Png];

    /// The file name extension.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Svg => "svg",
            Format::Png => "png",
        }
    }
}

/// Draws `figure` into `<dir>/<name>.svg`, `<dir>/<name>.png` or both, and returns the paths.
///
/// # Errors
/// Fails if a file cannot be written.
pub(super) fn save(figure: &impl Figure, dir: &Path, name: &str, formats: &[Format]) -> Result<Vec<PathBuf>> {
    let path = |format: Format| dir.join(format!("{name}.{}", format.extension()));
    formats.iter().map(|&format| save_as(figure, path(format), format)).collect()
}

/// Draws `figure` into one file, and returns its path.
///
/// # Errors
/// Fails if the file cannot be written.
fn save_as(figure: &impl Figure, path: PathBuf, format: Format) -> Result<PathBuf> {
    register();
    let drawn = match format {
        Format::Svg => svg(figure).map(String::into_bytes),
        Format::Png => png(figure).map(|png| png.bytes),
    };
    write_atomically(&path, &drawn.map_err(|error| undrawable(&path, error))?)?;
    Ok(path)
}

/// Draws `figure` as SVG.
///
/// # Errors
/// Fails if it cannot be drawn.
pub(super) fn to_svg(figure: &impl Figure) -> Result<String> {
    register();
    svg(figure).map_err(|error| undrawable(Path::new("a figure"), error))
}

/// A figure as PNG.
#[derive(Debug)]
pub(super) struct Png {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Draws `figure` as PNG.
///
/// # Errors
/// Fails if it cannot be drawn.
pub(super) fn to_png(figure: &impl Figure) -> Result<Png> {
    register();
    png(figure).map_err(|error| undrawable(Path::new("a figure"), error))
}

/// Registers the font once per process, in plotters' own table.
fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let bytes = include_bytes!("../../assets/fonts/DejaVuSans.ttf");
        let _ = register_font(FONT, FontStyle::Normal, bytes);
    });
}

fn undrawable(path: &Path, why: String) -> Error {
    Error::io("draw", path)(std::io::Error::other(why))
}

fn svg(figure: &impl Figure) -> Result<String, String> {
    let (width, height) = figure.size();
    let (drawn_width, drawn_height) = (width * SVG_FINENESS, height * SVG_FINENESS);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (drawn_width, drawn_height)).into_drawing_area();
        render(figure, &area, f64::from(SVG_FINENESS))?;
    }
    let drawn_size = format!("width=\"{drawn_width}\" height=\"{drawn_height}\"");
    Ok(text.replacen(&drawn_size, &format!("width=\"{width}\" height=\"{height}\""), 1))
}

fn png(figure: &impl Figure) -> Result<Png, String> {
    let (width, height) = figure.size();
    let (width, height) = (width * PNG_DENSITY, height * PNG_DENSITY);
    let drawn_size = (width * PNG_SMOOTHING, height * PNG_SMOOTHING);
    let mut drawn = vec![255; drawn_size.0 as usize * drawn_size.1 as usize * 3];
    {
        let area = SmoothBitmap(BitMapBackend::with_buffer(&mut drawn, drawn_size)).into_drawing_area();
        render(figure, &area, f64::from(PNG_DENSITY * PNG_SMOOTHING))?;
    }
    let pixels = mean_of_squares(&drawn, width as usize, height as usize, PNG_SMOOTHING as usize);
    let mut bytes = Vec::new();
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| error.to_string())?;
    bytes.splice(PNG_HEADER_END..PNG_HEADER_END, PNG_RESOLUTION.iter().copied());
    Ok(Png { width, height, bytes })
}

fn render<DB: DrawingBackend>(figure: &impl Figure, area: &Area<DB>, scale: f64) -> Result<(), String> {
    let drawn = || {
        area.fill(&WHITE)?;
        figure.draw(area, Pen { scale })?;
        area.present()
    };
    drawn().map_err(|error| error.to_string())
}

/// The opaque colour that equals `color` at this opacity on white. Lines are drawn in pieces, whose overlaps must not show.
pub(super) fn tint(color: RGBColor, opacity: f64) -> RGBColor {
    let mix = |channel: u8| (255.0 - opacity * (255.0 - f64::from(channel))).round() as u8;
    RGBColor(mix(color.0), mix(color.1), mix(color.2))
}

/// Formats a number on an axis: as short as possible, with a true minus sign.
pub(super) fn tick(value: f64) -> String {
    // Ticks are sums of steps with rounding errors: three digits suffice for steps, and the remainder of a sum that should
    // be zero is far below any number shown.
    let magnitude = value.abs();
    let text = if magnitude < 1e-12 {
        "0".into()
    } else if (1e-3..1e5).contains(&magnitude) {
        ((value * 1e6).round() / 1e6).to_string()
    } else {
        let digits = format!("{value:.2e}");
        let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
        format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
    };
    text.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (-2.8e-17, "0"),
            (0.1 + 0.2, "0.3"),
            (-10.0, "\u{2212}10"),
            (100_000.0, "1e5"),
            (250_000.0, "2.5e5"),
            (0.0001, "1e\u{2212}4"),
            (0.0001 + 0.0002, "3e\u{2212}4"),
        ] {
            assert_eq!(tick(value), text);
        }
    }
}
