//! Legends: the meaning of lines, bands and marks.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::figure::{Area, Drawn, FAINT, INK, Pen, tint};
use super::style::Style;

/// Opacity of a band.
pub(super) const BAND: f64 = 0.22;
/// Style of a vertical line that marks an event.
pub(super) const EVENT: Style = Style { color: FAINT, dash: Some((4.0, 4.0)), width: 1.4 };

const ROW: f64 = 19.0;
const SAMPLE: f64 = 30.0;

/// An entry of a legend.
pub(super) struct LegendEntry {
    pub text: String,
    pub sample: Sample,
}

/// The sample before the text.
pub(super) enum Sample {
    /// A line.
    Line(Style),
    /// A line on a band of its colour.
    Band(Style),
    /// A vertical dashed line.
    Event,
    /// None: a remark.
    None,
}

impl LegendEntry {
    /// Horizontal offset of the text, in shown units.
    fn indent(&self) -> f64 {
        if matches!(self.sample, Sample::None) { 0.0 } else { SAMPLE + 7.0 }
    }
}

/// Estimated width of entries in shown units, rounded up: a figure's size is determined before a font is available.
pub(super) fn width(entries: &[LegendEntry]) -> u32 {
    let room = |entry: &LegendEntry| 7.1 * entry.text.chars().count() as f64 + entry.indent();
    (entries.iter().map(room).fold(0.0, f64::max) + 16.0).ceil() as u32
}

/// The width of entries as drawn.
pub(super) fn measure<DB: DrawingBackend>(
    area: &Area<DB>,
    pen: Pen,
    entries: &[LegendEntry],
) -> Result<i32, DrawingAreaErrorKind<DB::ErrorType>> {
    let style = pen.text(INK, 13.0, HPos::Left, VPos::Center);
    let mut width = 0;
    for entry in entries {
        width = width.max(pen.px(entry.indent()) + area.estimate_text_size(&entry.text, &style)?.0 as i32);
    }
    Ok(width)
}

/// Height of this many entries, in shown units.
pub(super) fn height(entries: usize) -> u32 {
    (ROW * entries as f64 + 8.0).ceil() as u32
}

/// Draws entries in a column with its upper left at `corner`.
pub(super) fn draw<DB: DrawingBackend>(
    area: &Area<DB>,
    pen: Pen,
    corner: (i32, i32),
    entries: &[LegendEntry],
) -> Drawn<DB> {
    let style = pen.text(INK, 13.0, HPos::Left, VPos::Center);
    let (left, right) = (corner.0, corner.0 + pen.px(SAMPLE));
    for (index, entry) in entries.iter().enumerate() {
        let y = corner.1 + pen.px(8.0 + ROW * index as f64);
        match entry.sample {
            Sample::None => {}
            Sample::Line(line) => line.draw(area, pen, vec![(left, y), (right, y)])?,
            Sample::Band(line) => {
                let band = [(left, y - pen.px(5.0)), (right, y + pen.px(5.0))];
                area.draw(&Rectangle::new(band, tint(line.color, BAND).filled()))?;
                line.draw(area, pen, vec![(left, y), (right, y)])?;
            }
            Sample::Event => {
                let middle = (left + right) / 2;
                EVENT.draw(area, pen, vec![(middle, y - pen.px(8.0)), (middle, y + pen.px(8.0))])?;
            }
        }
        area.draw_text(&entry.text, &style, (left + pen.px(entry.indent()), y))?;
    }
    Ok(())
}
