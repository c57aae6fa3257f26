//! Trajectories drawn in the plane by a network, with their targets.

use std::f64::consts::TAU;

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::figure::{Area, Drawn, FAINT, Figure, INK, Pen, tick};
use super::units::{FinishedSeed, Showcase, ranked};

const PANEL: u32 = 330;
/// Maximum number of patterns in the legend.
const NAMED: usize = 13;

/// Distinguishable colours for up to ten patterns.
const COLORS: [RGBColor; 10] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(23, 190, 207),
    RGBColor(188, 189, 34),
    RGBColor(90, 90, 90),
];

/// The colour of one of `count` patterns. More than [`COLORS`] are spread over the hue circle, alternately light and dark.
fn color_of(pattern: usize, count: usize) -> RGBColor {
    match COLORS.get(pattern) {
        Some(&color) if count <= COLORS.len() => color,
        _ => {
            let lightness = if pattern.is_multiple_of(2) { 0.36 } else { 0.54 };
            let (r, g, b) = HSLColor(pattern as f64 / count as f64, 0.75, lightness).to_backend_color().rgb;
            RGBColor(r, g, b)
        }
    }
}

/// Marks at line ends, which distinguish patterns without colours: number of corners, direction of the first corner (in
/// turns, clockwise from the top), radius of the corners, and for a star the radius of the points between them.
const MARKS: [(usize, f64, f64, Option<f64>); 7] = [
    (24, 0.0, 1.0, None),        // disc
    (4, 0.125, 1.2, None),       // square
    (3, 0.0, 1.35, None),        // triangle
    (4, 0.0, 1.35, None),        // diamond
    (3, 0.5, 1.35, None),        // triangle on its tip
    (5, 0.0, 1.5, Some(0.6)),    // star
    (4, 0.125, 1.7, Some(0.55)), // cross
];

/// The outline of a pattern's mark around the origin, as large as a disc of this radius.
fn mark_of(pattern: usize, radius: f64) -> Vec<(i32, i32)> {
    let (corners, turn, outer, inner) = MARKS[pattern % MARKS.len()];
    let point = |step: usize, distance: f64| {
        let angle = TAU * (turn + step as f64 / (2 * corners) as f64);
        let (x, y) = (distance * radius * angle.sin(), -distance * radius * angle.cos());
        (x.round() as i32, y.round() as i32)
    };
    let corner = |index| std::iter::once(point(2 * index, outer)).chain(inner.map(|inner| point(2 * index + 1, inner)));
    (0..corners).flat_map(corner).collect()
}

/// One panel per seed: the best and, of several, the median and the worst, on one scale.
pub(super) struct Drawings<'a> {
    panels: Vec<(String, &'a Showcase)>,
    bounds: Bounds,
}

/// The square that contains everything drawn: its centre and half its side length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    center: (f64, f64),
    half: f64,
}

impl Bounds {
    /// The square around outputs and targets of showcases; `None` if nothing in them is finite.
    pub fn of<'a>(showcases: impl IntoIterator<Item = &'a Showcase> + Clone) -> Option<Bounds> {
        let bounds = |axis: usize| {
            let all = showcases.clone().into_iter().flat_map(|s| s.predictions.chunks(2).chain(s.targets.chunks(2)));
            let finite = all.map(|point| f64::from(point[axis])).filter(|x| x.is_finite());
            finite.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)))
        };
        let (x, y) = (bounds(0), bounds(1));
        if x.0 > x.1 || y.0 > y.1 {
            return None;
        }
        let side = (x.1 - x.0).max(y.1 - y.0);
        let half = if side > 0.0 { 0.5 * side * 1.12 } else { 1.0 };
        Some(Bounds { center: ((x.0 + x.1) / 2.0, (y.0 + y.1) / 2.0), half })
    }

    /// Its extent in x and y.
    pub fn ranges(&self) -> [std::ops::Range<f64>; 2] {
        [self.center.0, self.center.1].map(|center| center - self.half..center + self.half)
    }
}

impl<'a> Drawings<'a> {
    /// The drawings; `None` if outputs are not points in the plane.
    pub fn new(units: &'a [FinishedSeed]) -> Option<Self> {
        let order = ranked(units);
        let places: &[(usize, &str)] = match order.len() {
            0 => return None,
            1 => &[(0, "")],
            2 => &[(0, " (best)"), (1, "")],
            n => &[(0, " (best)"), (n / 2, " (median)"), (n - 1, " (worst)")],
        };
        let mut panels = Vec::new();
        for &(place, note) in places {
            let showcase = order[place].showcase.as_ref().filter(|showcase| showcase.shape[2] == 2)?;
            panels.push((format!("Seed {}{note}", order[place].seed), showcase));
        }
        let bounds = Bounds::of(panels.iter().map(|(_, showcase)| *showcase))?;
        Some(Drawings { panels, bounds })
    }
}

impl Figure for Drawings<'_> {
    fn size(&self) -> (u32, u32) {
        let names = self.panels.first().map(|(_, showcase)| showcase.labels.as_slice()).unwrap_or_default();
        let longest = names.iter().take(NAMED).map(|name| name.chars().count()).max().unwrap_or(0);
        (PANEL * self.panels.len() as u32 + 46 + 8 * longest.clamp(7, 40) as u32, PANEL + 10)
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen) -> Drawn<DB> {
        let (rest, legend) = area.split_horizontally(pen.px(f64::from(PANEL) * self.panels.len() as f64));
        let places = rest.split_evenly((1, self.panels.len()));
        for ((title, showcase), place) in self.panels.iter().zip(&places) {
            self.draw_panel(place, pen, title, showcase)?;
        }
        match self.panels.first() {
            Some((_, showcase)) => draw_legend(&legend, pen, &showcase.labels),
            None => Ok(()),
        }
    }
}

impl Drawings<'_> {
    fn draw_panel<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen, title: &str, showcase: &Showcase) -> Drawn<DB> {
        // Label areas and margins leave a square: lengths must not depend on direction.
        let (margin, left, right, bottom) = (6.0, 46.0, 8.0, 42.0);
        let (width, height) = area.dim_in_pixel();
        let side = width as i32 - pen.px(margin) - pen.px(left) - pen.px(right);
        let top = height as i32 - side - pen.px(bottom);
        let [x, y] = self.bounds.ranges();
        let mut chart = ChartBuilder::on(area)
            .margin_top(top)
            .margin_left(pen.px(margin))
            .margin_right(pen.px(right))
            .x_label_area_size(pen.px(bottom))
            .y_label_area_size(pen.px(left))
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(pen.line(INK, 1.0))
            .label_style(pen.text(INK, 13.0, HPos::Center, VPos::Center))
            .axis_desc_style(pen.text(INK, 14.5, HPos::Center, VPos::Center))
            .set_all_tick_mark_size(pen.px(4.0))
            .x_labels(5)
            .y_labels(5)
            .x_label_formatter(&|&value| tick(value))
            .y_label_formatter(&|&value| tick(value))
            .x_desc("x")
            .y_desc("y")
            .draw()?;
        let style = pen.text(INK, 15.0, HPos::Center, VPos::Bottom);
        area.draw_text(title, &style, (pen.px(margin) + pen.px(left) + side / 2, top - pen.px(4.0)))?;

        let [patterns, time, _] = showcase.shape;
        for pattern in 0..patterns {
            let target = path(&showcase.targets, pattern, time);
            chart.draw_series(DashedLineSeries::new(target.clone(), pen.px(6.0), pen.px(4.0), pen.line(FAINT, 1.4)))?;
            let end = target.last().copied();
            chart.draw_series(end.map(|end| Circle::new(end, pen.px(5.0), pen.line(FAINT, 1.4))))?;
        }
        for pattern in 0..patterns {
            let color = color_of(pattern, patterns);
            let line = path(&showcase.predictions, pattern, time);
            chart.draw_series([PathElement::new(line.clone(), pen.line(color, 1.8))])?;
            chart.draw_series(line.iter().map(|&point| Circle::new(point, pen.px(1.9), color.filled())))?;
            let mark = || Polygon::new(mark_of(pattern, f64::from(pen.px(3.4))), color);
            chart.draw_series(line.last().map(|&end| EmptyElement::at(end) + mark()))?;
        }
        Ok(())
    }
}

fn draw_legend<DB: DrawingBackend>(area: &Area<DB>, pen: Pen, labels: &[String]) -> Drawn<DB> {
    let style = pen.text(INK, 13.0, HPos::Left, VPos::Center);
    let row = |index: usize| pen.px(44.0 + 20.0 * index as f64);
    let (left, right, text) = (pen.px(6.0), pen.px(28.0), pen.px(38.0));
    let dash = [(left, row(0)), (right, row(0))];
    area.draw(&DashedPathElement::new(dash, pen.px(6.0), pen.px(4.0), pen.line(FAINT, 1.4)))?;
    area.draw(&Circle::new((right, row(0)), pen.px(4.0), pen.line(FAINT, 1.4)))?;
    area.draw_text("target", &style, (text, row(0)))?;
    for (index, label) in labels.iter().take(NAMED).enumerate() {
        let y = row(index + 1);
        let color = color_of(index, labels.len());
        area.draw(&PathElement::new(vec![(left, y), (right, y)], pen.line(color, 1.8)))?;
        let mark = Polygon::new(mark_of(index, f64::from(pen.px(3.4))), color);
        area.draw(&(EmptyElement::at((right, y)) + mark))?;
        area.draw_text(label, &style, (text, y))?;
    }
    if labels.len() > NAMED {
        area.draw_text("…", &style, (text, row(NAMED + 1)))?;
    }
    Ok(())
}

/// The finite points of one pattern.
pub(super) fn path(points: &[f32], pattern: usize, time: usize) -> Vec<(f64, f64)> {
    let of_pattern = points.chunks(2).skip(pattern * time).take(time);
    of_pattern.map(|p| (f64::from(p[0]), f64::from(p[1]))).filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_patterns_have_the_same_color() {
        for count in [1, 10, 11, 12, 50] {
            let colors: std::collections::BTreeSet<_> =
                (0..count).map(|pattern| color_of(pattern, count)).map(|c| (c.0, c.1, c.2)).collect();
            assert_eq!(colors.len(), count);
        }
    }

    #[test]
    fn named_patterns_are_distinguishable_without_colors() {
        let marks: std::collections::BTreeSet<_> = (0..MARKS.len()).map(|pattern| mark_of(pattern, 100.0)).collect();
        assert_eq!(marks.len(), MARKS.len());
        assert_eq!(mark_of(2, 100.0)[0], (0, -135), "a triangle points up, where y is negative");
    }
}
