//! A figure of several panels with one legend, beside the panels so that it covers no data.

use plotters::prelude::*;

use super::figure::{Area, Drawn, Figure, Pen};
use super::legend::{self, LegendEntry, Sample};
use super::panel::{Panel, PanelRows};
use super::style::Style;

/// Panels in rows, and a legend to their right.
pub(super) struct Grid {
    pub panels: Vec<Panel>,
    pub legend: Vec<LegendEntry>,
}

/// Space above the legend, which aligns it with the first panel's frame.
const TOP: f64 = 36.0;

impl Figure for Grid {
    fn size(&self) -> (u32, u32) {
        let (width, height) = PanelRows(&self.panels).size();
        (width + legend::width(&self.legend), height.max(legend::height(self.legend.len()) + TOP as u32))
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen) -> Drawn<DB> {
        let (width, height) = PanelRows(&self.panels).size();
        let (left, right) = area.split_horizontally(pen.px(f64::from(width)));
        let (grid, _) = left.split_vertically(pen.px(f64::from(height)));
        PanelRows(&self.panels).draw(&grid, pen)?;
        legend::draw(&right, pen, (pen.px(2.0), pen.px(TOP)), &self.legend)
    }
}

/// The legend entry of a line that represents this many seeds.
pub(super) fn entry(text: String, style: Style, seeds: usize) -> LegendEntry {
    LegendEntry { text, sample: if seeds > 1 { Sample::Band(style) } else { Sample::Line(style) } }
}

/// The legend entry that explains lines and bands; all curves have between `least` and `most` seeds.
pub(super) fn remark(least: usize, most: usize) -> LegendEntry {
    let text = match (least, most) {
        (1, 1) => "one seed each".into(),
        (least, most) if least == most => format!("mean ± s.e.m., {most} seeds"),
        (least, most) => format!("mean ± s.e.m., {least} to {most} seeds"),
    };
    LegendEntry { text, sample: Sample::None }
}
