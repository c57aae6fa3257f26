//! One pair of axes: curves over epochs, with mean and standard error over seeds.

use std::collections::BTreeMap;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::figure::{Area, GRID, INK, Pen, tick, tint};
use super::legend::{BAND, EVENT};
use super::style::Style;

/// Size of a panel, in shown units.
pub(super) const PANEL: (u32, u32) = (400, 310);
/// Panels per row.
pub(super) const PANELS_A_ROW: usize = 3;

/// Values of one seed by epoch. Seeds may have stopped at different epochs.
pub(super) type Curve = BTreeMap<usize, f64>;

/// The curves of one quantity, one per seed.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub style: Style,
    pub seeds: Vec<Curve>,
}

/// The horizontal axis of learning curves.
pub(super) const EPOCH: &str = "Epoch";

/// One pair of axes.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    pub title: String,
    /// Label of the horizontal axis.
    pub x: String,
    /// Words for the positions 0, 1, ... on the horizontal axis; numbers without them.
    pub words: &'static [&'static str],
    /// Label of the value axis, with the unit.
    pub label: String,
    pub axis: Axis,
    pub series: Vec<Series>,
    /// Whether individual seeds are drawn too.
    pub singles: bool,
    /// Epochs at whose start an event happens, with the colour of the affected curve if it is only one.
    pub events: BTreeMap<usize, Option<RGBColor>>,
    /// Texts above points, such as the outcome of a test.
    pub marks: Vec<Mark>,
}

/// A text above a point.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub x: f64,
    pub y: f64,
    pub text: &'static str,
    pub color: RGBColor,
}

impl Panel {
    /// The least and the greatest position of any curve.
    fn ends(&self) -> (usize, usize) {
        let places = || self.series.iter().flat_map(|series| series.seeds.iter().flat_map(BTreeMap::keys).copied());
        (places().min().unwrap_or(1), places().max().unwrap_or(1))
    }

    /// Draws the panel. Returns the pixels of its frame within `area`: left, right, top, bottom.
    pub fn draw<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        pen: Pen,
    ) -> Result<[i32; 4], DrawingAreaErrorKind<DB::ErrorType>> {
        let (first, last) = match self.ends() {
            (first, last) if first < last => (first as f64, last as f64),
            (only, _) => (only as f64 - 0.5, only as f64 + 0.5),
        };
        let mut chart = ChartBuilder::on(area)
            .margin_top(pen.px(36.0))
            .margin_right(pen.px(18.0))
            .margin_bottom(pen.px(8.0))
            .margin_left(pen.px(8.0))
            .x_label_area_size(pen.px(40.0))
            .y_label_area_size(pen.px(54.0))
            .build_cartesian_2d(first..last, self.axis)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(pen.line(GRID, 1.0))
            .axis_style(pen.line(INK, 1.0))
            .label_style(pen.text(INK, 13.0, HPos::Center, VPos::Center))
            .axis_desc_style(pen.text(INK, 14.5, HPos::Center, VPos::Center))
            .set_all_tick_mark_size(pen.px(4.0))
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|&place| self.x_tick(place))
            .x_desc(&self.x)
            .y_desc(&self.label)
            .draw()?;
        let plot = chart.plotting_area();

        let (low, high) = self.axis.ends();
        for (&epoch, color) in &self.events {
            // Values of an epoch are of its end: an event at its start lies between two of them.
            let x = epoch as f64 - 0.5;
            if x > first && x < last {
                Style { color: color.unwrap_or(INK), ..EVENT }.draw(plot, pen, vec![(x, low), (x, high)])?;
            }
        }
        let summaries: Vec<Summary> = self.series.iter().map(|series| Summary::of(&series.seeds)).collect();
        let several = |series: &&Series| series.seeds.len() > 1;
        for (series, summary) in self.series.iter().zip(&summaries).filter(|(series, _)| several(series)) {
            // Bands of several curves may overlap and need blending, a single one does not.
            let color = series.style.color;
            let fill = if self.series.len() > 1 { color.mix(BAND) } else { tint(color, BAND).to_rgba() };
            for run in summary.runs(&self.axis) {
                let upper = run.iter().map(|&(x, mean, error)| (x, self.axis.clamp(mean + error)));
                let lower = run.iter().rev().map(|&(x, mean, error)| (x, self.axis.clamp(mean - error)));
                plot.draw(&Polygon::new(upper.chain(lower).collect::<Vec<_>>(), fill))?;
            }
        }
        for series in self.series.iter().filter(several).filter(|_| self.singles) {
            let thin = Style { color: tint(series.style.color, 0.4), dash: None, width: 0.8 };
            for curve in &series.seeds {
                thin.draw(plot, pen, self.points(curve))?;
            }
        }
        for (series, summary) in self.series.iter().zip(&summaries) {
            for run in summary.runs(&self.axis) {
                let mean: Vec<(f64, f64)> = run.iter().map(|&(x, mean, _)| (x, mean)).collect();
                if let [(x, mean)] = mean[..] {
                    plot.draw(&Circle::new((x, mean), pen.px(3.0), series.style.color.filled()))?;
                }
                series.style.draw(plot, pen, mean)?;
            }
        }

        for Mark { x, y, text, color } in &self.marks {
            let (x, y) = chart.backend_coord(&(*x, self.axis.clamp(*y)));
            let (x0, y0) = area.get_base_pixel();
            let style = pen.text(*color, 12.0, HPos::Center, VPos::Bottom);
            area.draw_text(text, &style, (x - x0, y - y0 - pen.px(4.0)))?;
        }

        let (x, y) = plot.get_pixel_range();
        let (x0, y0) = area.get_base_pixel();
        let title = pen.text(INK, 16.0, HPos::Center, VPos::Bottom);
        area.draw_text(&self.title, &title, ((x.start + x.end) / 2 - x0, y.start - y0 - pen.px(8.0)))?;
        Ok([x.start - x0, x.end - x0, y.start - y0, y.end - y0])
    }

    /// The label of a position on the horizontal axis; none between whole numbers.
    fn x_tick(&self, place: f64) -> String {
        match self.words.get(place as usize) {
            _ if place.fract() != 0.0 => String::new(),
            Some(word) => (*word).to_owned(),
            None => tick(place),
        }
    }

    fn points(&self, curve: &Curve) -> Vec<(f64, f64)> {
        let numbered = curve.iter().map(|(&epoch, &value)| (epoch as f64, value));
        numbered.filter(|&(_, value)| self.axis.shows(value)).collect()
    }
}

/// Panels arranged in rows.
pub(super) struct PanelRows<'a>(pub &'a [Panel]);

impl PanelRows<'_> {
    fn columns(&self) -> usize {
        // Four panels make two rows of two.
        if self.0.len() == 4 { 2 } else { self.0.len().clamp(1, PANELS_A_ROW) }
    }

    fn rows(&self) -> usize {
        self.0.len().div_ceil(self.columns()).max(1)
    }

    /// Width and height in shown units.
    pub fn size(&self) -> (u32, u32) {
        (PANEL.0 * self.columns() as u32, PANEL.1 * self.rows() as u32)
    }

    /// Draws every panel, and returns the frame of the first as [`Panel::draw`] does.
    pub fn draw<DB: DrawingBackend>(
        &self,
        area: &Area<DB>,
        pen: Pen,
    ) -> Result<Option<[i32; 4]>, DrawingAreaErrorKind<DB::ErrorType>> {
        let mut frame = None;
        for (panel, place) in self.0.iter().zip(area.split_evenly((self.rows(), self.columns()))) {
            let drawn = panel.draw(&place, pen)?;
            frame = frame.or(Some(drawn));
        }
        Ok(frame)
    }
}

/// Mean and standard error over seeds, by epoch; none for epochs that some seed lacks, since the mean over the others would
/// jump whenever a seed stops.
pub(super) struct Summary(pub Vec<(f64, f64, f64)>);

impl Summary {
    pub fn of(seeds: &[Curve]) -> Self {
        let n = seeds.len() as f64;
        let of_epoch = |&epoch: &usize| {
            let values: Option<Vec<f64>> = seeds.iter().map(|seed| seed.get(&epoch).copied()).collect();
            let values = values?;
            let mean = values.iter().sum::<f64>() / n;
            let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
            let error = if n > 1.0 { (squares / (n - 1.0) / n).sqrt() } else { 0.0 };
            (mean + error).is_finite().then_some((epoch as f64, mean, error))
        };
        Summary(seeds.first().into_iter().flat_map(|seed| seed.keys().filter_map(of_epoch)).collect())
    }

    /// Means plus and minus errors: what the axis must include.
    pub fn extent(&self) -> impl Iterator<Item = f64> {
        self.0.iter().flat_map(|&(_, mean, error)| [mean, mean + error, mean - error])
    }

    /// The points that an axis can show.
    fn runs<'a>(&'a self, axis: &'a Axis) -> impl Iterator<Item = &'a [(f64, f64, f64)]> {
        self.0.split(|&(_, mean, _)| !axis.shows(mean)).filter(|run| !run.is_empty())
    }
}

/// A column of a table as a curve.
pub(super) fn curve(values: Vec<f64>) -> Curve {
    values.into_iter().enumerate().map(|(index, value)| (index + 1, value)).collect()
}

/// A name with its unit, for an axis.
pub(super) fn labelled(name: &str, unit: Option<&str>) -> String {
    match unit {
        Some(unit) if !unit.is_empty() => format!("{name} ({unit})"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_ends_where_the_first_seed_stops() {
        let seeds = [vec![1.0, 4.0, f64::NAN, 2.0], vec![3.0, 4.0, 1.0, 2.0, 5.0]].map(curve);
        assert_eq!(Summary::of(&seeds).0, [(1.0, 2.0, 1.0), (2.0, 4.0, 0.0), (4.0, 2.0, 0.0)]);
        assert!(Summary::of(&[]).0.is_empty());
    }

    #[test]
    fn a_logarithmic_axis_omits_values_without_logarithm() {
        let summary = Summary::of(&[curve(vec![0.0, 1.0, 2.0, -1.0, 3.0])]);
        let axis = Axis::logarithmic(summary.extent());
        assert_eq!(summary.runs(&axis).map(<[_]>::len).collect::<Vec<_>>(), [2, 1]);
    }
}
