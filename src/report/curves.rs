//! Learning curves: each seed, and mean and standard error over seeds.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::figure::{Area, Drawn, Figure, GRID, INK, Pen, tick, tint};
use super::units::Unit;
use crate::data::Direction;

const CURVE: RGBColor = RGBColor(0, 94, 162);
const PANEL: (u32, u32) = (400, 310);
const PANELS_A_ROW: usize = 3;

/// Columns that are for finding mistakes, not for looking at results: in the tables, not in the figure.
const BOOKKEEPING: [&str; 2] = ["learning_rate", "grad_norm"];

/// One panel for the training loss, one for each validation metric and further column.
pub(super) struct LearningCurves {
    panels: Vec<Panel>,
}

struct Panel {
    title: String,
    axis: String,
    /// Numbers of each seed, one an epoch; seeds may have stopped at different epochs.
    seeds: Vec<Vec<f64>>,
    range: (f64, f64),
    /// Whether curves come from below, so that the legend has to lie there.
    rising: bool,
}

impl LearningCurves {
    /// The curves of all units.
    pub fn new(units: &[Unit]) -> Self {
        let Some(first) = units.first() else { return LearningCurves { panels: Vec::new() } };
        let unit = first.metrics.first().map(|metric| metric.unit.as_str());
        let mut panels = vec![Panel::new(units, "train_loss", "Training", labelled("loss", unit), false)];
        for name in first.table.scores().into_iter().skip(2) {
            if BOOKKEEPING.contains(&name) {
                continue;
            }
            let metric = name.strip_prefix("val_").and_then(|name| first.metrics.iter().find(|m| m.name == name));
            panels.push(match metric {
                Some(metric) => {
                    let axis = labelled(&metric.name, Some(&metric.unit));
                    Panel::new(units, name, "Validation", axis, metric.direction == Direction::Higher)
                }
                None => Panel::new(units, name, name, name.to_owned(), true),
            });
        }
        // The training loss is in the unit of the first validation metric: on one scale they can be compared.
        if let [training, validation, ..] = panels.as_mut_slice()
            && validation.title == "Validation"
            && !validation.rising
        {
            let range = (training.range.0.min(validation.range.0), training.range.1.max(validation.range.1));
            (training.range, validation.range) = (range, range);
        }
        LearningCurves { panels }
    }

    fn columns(&self) -> usize {
        self.panels.len().clamp(1, PANELS_A_ROW)
    }
}

impl Figure for LearningCurves {
    fn size(&self) -> (u32, u32) {
        let columns = self.columns();
        let rows = self.panels.len().div_ceil(columns).max(1);
        (PANEL.0 * columns as u32, PANEL.1 * rows as u32)
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen) -> Drawn<DB> {
        let columns = self.columns();
        let places = area.split_evenly((self.panels.len().div_ceil(columns).max(1), columns));
        for (index, (panel, place)) in self.panels.iter().zip(&places).enumerate() {
            panel.draw(place, pen, index == 0)?;
        }
        Ok(())
    }
}

impl Panel {
    fn new(units: &[Unit], column: &str, title: &str, axis: String, rising: bool) -> Self {
        let seeds: Vec<Vec<f64>> = units.iter().map(|unit| unit.table.column(column)).collect();
        let finite = || seeds.iter().flatten().copied().filter(|value| value.is_finite());
        let (low, high) = (finite().fold(0.0, f64::min), finite().fold(f64::MIN, f64::max));
        let high = if high > low { high } else { low + 1.0 };
        let margin = 0.04 * (high - low);
        // Zero is the natural floor of an error, and needs no margin.
        let range = (if low < 0.0 { low - margin } else { 0.0 }, high + margin);
        Panel { title: title.to_owned(), axis, seeds, range, rising }
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen, legend: bool) -> Drawn<DB> {
        let epochs = self.seeds.iter().map(Vec::len).max().unwrap_or(1);
        let (first, last) = if epochs > 1 { (1.0, epochs as f64) } else { (0.5, 1.5) };
        let mut chart = ChartBuilder::on(area)
            .margin_top(pen.px(36.0))
            .margin_right(pen.px(18.0))
            .margin_bottom(pen.px(8.0))
            .margin_left(pen.px(8.0))
            .x_label_area_size(pen.px(40.0))
            .y_label_area_size(pen.px(54.0))
            .build_cartesian_2d(first..last, self.range.0..self.range.1)?;
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
            .x_label_formatter(&|&epoch| if epoch.fract() == 0.0 { tick(epoch) } else { String::new() })
            .y_label_formatter(&|&value| tick(value))
            .x_desc("Epoch")
            .y_desc(&self.axis)
            .draw()?;

        let summary = Summary::of(&self.seeds);
        let several = self.seeds.len() > 1;
        if several {
            let upper = summary.points(|mean, error| mean + error);
            let lower = summary.points(|mean, error| mean - error);
            let outline: Vec<(f64, f64)> = upper.into_iter().chain(lower.into_iter().rev()).collect();
            chart.draw_series([Polygon::new(outline, tint(CURVE, 0.22))])?;
            for seed in &self.seeds {
                chart.draw_series([PathElement::new(points(seed), pen.line(tint(CURVE, 0.4), 0.8))])?;
            }
        }
        let mean = summary.points(|mean, _| mean);
        if epochs == 1 {
            chart.draw_series(mean.iter().map(|&point| Circle::new(point, pen.px(3.0), CURVE.filled())))?;
        }
        chart.draw_series([PathElement::new(mean, pen.line(CURVE, 2.2))])?;

        let (x, y) = chart.plotting_area().get_pixel_range();
        let (x0, y0) = area.get_base_pixel();
        let title = pen.text(INK, 16.0, HPos::Center, VPos::Bottom);
        area.draw_text(&self.title, &title, ((x.start + x.end) / 2 - x0, y.start - y0 - pen.px(8.0)))?;
        if legend && several {
            let top = if self.rising { y.end - y0 - pen.px(48.0) } else { y.start - y0 + pen.px(12.0) };
            draw_legend(area, pen, (x.end - x0, top), self.seeds.len())?;
        }
        Ok(())
    }
}

/// What the lines are, right-aligned below a corner.
fn draw_legend<DB: DrawingBackend>(area: &Area<DB>, pen: Pen, corner: (i32, i32), seeds: usize) -> Drawn<DB> {
    let style = pen.text(INK, 13.0, HPos::Left, VPos::Center);
    let entries = [
        (format!("mean ± s.e.m. ({seeds} seeds)"), pen.line(CURVE, 2.2)),
        ("single seeds".to_owned(), pen.line(tint(CURVE, 0.4), 0.8)),
    ];
    let mut width = 0;
    for (text, _) in &entries {
        width = width.max(area.estimate_text_size(text, &style)?.0 as i32);
    }
    let left = corner.0 - width - pen.px(36.0);
    for (index, (text, line)) in entries.iter().enumerate() {
        let y = corner.1 + pen.px(8.0) + index as i32 * pen.px(19.0);
        if index == 0 {
            let band = [(left, y - pen.px(5.0)), (left + pen.px(24.0), y + pen.px(5.0))];
            area.draw(&Rectangle::new(band, tint(CURVE, 0.22).filled()))?;
        }
        area.draw(&PathElement::new(vec![(left, y), (left + pen.px(24.0), y)], *line))?;
        area.draw_text(text, &style, (left + pen.px(31.0), y))?;
    }
    Ok(())
}

/// Mean and standard error over seeds, by epoch. Where not every seed has a number there is none: a mean over those
/// that have not stopped yet would jump whenever one does.
struct Summary(Vec<(f64, f64, f64)>);

impl Summary {
    fn of(seeds: &[Vec<f64>]) -> Self {
        let n = seeds.len() as f64;
        let epochs = seeds.iter().map(Vec::len).min().unwrap_or(0);
        let of_epoch = |index: usize| {
            let values = || seeds.iter().map(|seed| seed[index]);
            let mean = values().sum::<f64>() / n;
            let squares = values().map(|value| (value - mean).powi(2)).sum::<f64>();
            let error = if n > 1.0 { (squares / (n - 1.0) / n).sqrt() } else { 0.0 };
            (mean + error).is_finite().then_some(((index + 1) as f64, mean, error))
        };
        Summary((0..epochs).filter_map(of_epoch).collect())
    }

    fn points(&self, of: impl Fn(f64, f64) -> f64) -> Vec<(f64, f64)> {
        self.0.iter().map(|&(epoch, mean, error)| (epoch, of(mean, error))).collect()
    }
}

fn points(values: &[f64]) -> Vec<(f64, f64)> {
    let numbered = values.iter().enumerate().map(|(index, &value)| ((index + 1) as f64, value));
    numbered.filter(|(_, value)| value.is_finite()).collect()
}

fn labelled(name: &str, unit: Option<&str>) -> String {
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
        let summary = Summary::of(&[vec![1.0, 4.0, f64::NAN, 2.0], vec![3.0, 4.0, 1.0, 2.0, 5.0]]);
        assert_eq!(summary.0, [(1.0, 2.0, 1.0), (2.0, 4.0, 0.0), (4.0, 2.0, 0.0)]);
    }
}
