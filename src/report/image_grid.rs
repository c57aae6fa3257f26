//! A network's drawing of each pattern that has an image: the image, and beside it the drawing over its target.

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::drawings::{Bounds, path};
use super::figure::{Area, Drawn, FAINT, Figure, INK, Pen, tick};
use super::units::{FinishedSeed, InputImages, Showcase, ranked};

/// A cell: title above, image on the left, axes on the right; in shown units.
const CELL: (f64, f64) = (288.0, 202.0);
const COLUMNS: usize = 5;
/// Maximum number of cells in a figure.
const MOST: usize = 25;
const TITLE: f64 = 26.0;
const PICTURE: f64 = 84.0;
/// Side of the square of the axes.
const SIDE: f64 = 132.0;
const LEFT: f64 = 6.0;
/// Gap between image and axes, for tick labels.
const GAP: f64 = 48.0;
const HEAD: f64 = 40.0;

const LINE: RGBColor = RGBColor(0, 94, 162);

/// The best seed's drawings, one cell per pattern.
pub(super) struct ImageGrid<'a> {
    title: String,
    showcase: &'a Showcase,
    images: &'a InputImages,
    bounds: Bounds,
}

impl<'a> ImageGrid<'a> {
    /// The drawings of the best seed; `None` without images, or if outputs are not points in the plane.
    pub fn new(units: &'a [FinishedSeed]) -> Option<Self> {
        let best = *ranked(units).first()?;
        let showcase = best.showcase.as_ref().filter(|showcase| showcase.shape[2] == 2)?;
        let note = if units.len() > 1 { format!(", the best of {}", units.len()) } else { String::new() };
        Some(ImageGrid {
            title: format!("Seed {}{note}", best.seed),
            showcase,
            images: showcase.images.as_ref()?,
            bounds: Bounds::of([showcase])?,
        })
    }

    fn cells(&self) -> usize {
        self.showcase.shape[0].min(MOST)
    }
}

impl Figure for ImageGrid<'_> {
    fn size(&self) -> (u32, u32) {
        let columns = self.cells().clamp(1, COLUMNS);
        let rows = self.cells().div_ceil(COLUMNS).max(1);
        // A single cell has no room for the legend.
        let width = (CELL.0 * columns as f64).max(2.0 * CELL.0);
        (width as u32, (HEAD + CELL.1 * rows as f64) as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen) -> Drawn<DB> {
        let (head, rest) = area.split_vertically(pen.px(HEAD));
        self.draw_head(&head, pen)?;
        for pattern in 0..self.cells() {
            let (column, row) = (pattern % COLUMNS, pattern / COLUMNS);
            let place = (pen.px(CELL.0 * column as f64), pen.px(CELL.1 * row as f64));
            let cell = rest.clone().shrink(place, (pen.px(CELL.0), pen.px(CELL.1)));
            self.draw_cell(&cell, pen, pattern)?;
        }
        Ok(())
    }
}

impl ImageGrid<'_> {
    fn draw_head<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen) -> Drawn<DB> {
        let style = pen.text(INK, 15.0, HPos::Left, VPos::Center);
        let y = pen.px(20.0);
        area.draw_text(&self.title, &style, (pen.px(LEFT + 4.0), y))?;
        let mut x = pen.px(LEFT + 24.0) + area.estimate_text_size(&self.title, &style)?.0 as i32;
        let style = pen.text(INK, 13.0, HPos::Left, VPos::Center);
        for (name, drawn) in [("target", false), ("drawn", true)] {
            let ends = [(x, y), (x + pen.px(26.0), y)];
            if drawn {
                area.draw(&PathElement::new(ends.to_vec(), pen.line(LINE, 2.0)))?;
                area.draw(&Circle::new(ends[1], pen.px(3.4), LINE.filled()))?;
            } else {
                area.draw(&DashedPathElement::new(ends, pen.px(6.0), pen.px(4.0), pen.line(FAINT, 1.6)))?;
                area.draw(&Circle::new(ends[1], pen.px(4.6), pen.line(FAINT, 1.6)))?;
            }
            area.draw_text(name, &style, (x + pen.px(36.0), y))?;
            x += pen.px(60.0) + area.estimate_text_size(name, &style)?.0 as i32;
        }
        Ok(())
    }

    fn draw_cell<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen, pattern: usize) -> Drawn<DB> {
        let axes = (LEFT + PICTURE + GAP, TITLE);
        let title = pen.text(INK, 14.0, HPos::Center, VPos::Bottom);
        let middle = pen.px(LEFT + PICTURE / 2.0);
        let top = TITLE + (SIDE - PICTURE) / 2.0;
        area.draw_text(&self.showcase.labels[pattern], &title, (middle, pen.px(top - 5.0)))?;
        self.draw_image(area, pen, pattern, (LEFT, top))?;

        // Margins that leave a square.
        let (right, bottom) = (CELL.0 - axes.0 - SIDE, CELL.1 - axes.1 - SIDE);
        let [x, y] = self.bounds.ranges();
        let mut chart = ChartBuilder::on(area)
            .margin_top(pen.px(axes.1))
            .margin_left(pen.px(axes.0 - 40.0))
            .margin_right(pen.px(right))
            .margin_bottom(pen.px(bottom - 36.0))
            .x_label_area_size(pen.px(36.0))
            .y_label_area_size(pen.px(40.0))
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(pen.line(INK, 1.0))
            .label_style(pen.text(INK, 12.0, HPos::Center, VPos::Center))
            .axis_desc_style(pen.text(INK, 13.0, HPos::Center, VPos::Center))
            .set_all_tick_mark_size(pen.px(3.0))
            .x_labels(4)
            .y_labels(4)
            .x_label_formatter(&|&value| tick(value))
            .y_label_formatter(&|&value| tick(value))
            .x_desc("x")
            .y_desc("y")
            .draw()?;

        let time = self.showcase.shape[1];
        let target = path(&self.showcase.targets, pattern, time);
        chart.draw_series(DashedLineSeries::new(target.clone(), pen.px(6.0), pen.px(4.0), pen.line(FAINT, 1.6)))?;
        let end = target.last().copied();
        chart.draw_series(end.map(|end| Circle::new(end, pen.px(4.6), pen.line(FAINT, 1.6))))?;
        let line = path(&self.showcase.predictions, pattern, time);
        chart.draw_series([PathElement::new(line.clone(), pen.line(LINE, 1.6))])?;
        chart.draw_series(line.iter().map(|&point| Circle::new(point, pen.px(1.7), LINE.filled())))?;
        let end = line.last().copied();
        chart.draw_series(end.map(|end| Circle::new(end, pen.px(3.4), LINE.filled())))?;
        Ok(())
    }

    /// Draws the framed image, dark on white, its upper left corner at `(x, y)`.
    fn draw_image<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        pen: Pen,
        pattern: usize,
        (x, y): (f64, f64),
    ) -> Drawn<DB> {
        let InputImages { height, width, pixels } = self.images;
        // Corners are rounded instead of lengths, so that no gap opens between pixels.
        let scale = PICTURE / *height.max(width) as f64;
        let corner = |column: usize, row: usize| (pen.px(x + scale * column as f64), pen.px(y + scale * row as f64));
        for (place, &ink) in pixels.iter().skip(pattern * height * width).take(height * width).enumerate() {
            if ink == 0 {
                continue;
            }
            let (column, row) = (place % width, place / width);
            let shade = 255 - ink;
            let square = [corner(column, row), corner(column + 1, row + 1)];
            area.draw(&Rectangle::new(square, RGBColor(shade, shade, shade).filled()))?;
        }
        area.draw(&Rectangle::new([corner(0, 0), corner(*width, *height)], pen.line(FAINT, 1.0)))
    }
}
