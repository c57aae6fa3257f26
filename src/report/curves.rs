//! Learning curves of a run: individual seeds, and mean and standard error over seeds.

use plotters::prelude::*;

use super::axis::Axis;
use super::figure::{Area, Drawn, Figure, Pen, tint};
use super::legend::{self, LegendEntry, Sample};
use super::panel::{EPOCH, Panel, PanelRows, Series, curve, labelled};
use super::style::Style;
use super::units::FinishedSeed;
use crate::data::Direction;

const CURVE: Style = Style { color: RGBColor(0, 94, 162), dash: None, width: 2.2 };

/// Diagnostic columns: in the tables, not in the figure.
pub(super) const DIAGNOSTICS: [&str; 2] = ["learning_rate", "grad_norm"];

/// One panel for the training loss, one for each validation metric and further column.
pub(super) struct LearningCurves {
    panels: Vec<Panel>,
}

impl LearningCurves {
    /// The curves of all units.
    pub fn new(units: &[FinishedSeed]) -> Self {
        let Some(first) = units.first() else { return LearningCurves { panels: Vec::new() } };
        let unit = first.result.metrics.first().map(|metric| metric.unit.as_str());
        let mut panels = vec![panel(units, "train_loss", "Training", labelled("loss", unit))];
        let mut comparable = false;
        for name in first.table.scores().into_iter().skip(2) {
            if DIAGNOSTICS.contains(&name) {
                continue;
            }
            let metric =
                name.strip_prefix("val_").and_then(|name| first.result.metrics.iter().find(|m| m.name == name));
            comparable |= panels.len() == 1 && metric.is_some_and(|metric| metric.direction == Direction::Lower);
            panels.push(match metric {
                Some(metric) => panel(units, name, "Validation", labelled(&metric.name, Some(&metric.unit))),
                None => panel(units, name, name, name.to_owned()),
            });
        }
        // The training loss is in the unit of the first validation metric: a common scale makes them comparable.
        if let (true, [training, validation, ..]) = (comparable, panels.as_mut_slice()) {
            let values = [&*training, &*validation].map(values).concat();
            (training.axis, validation.axis) = (Axis::linear(values.clone()), Axis::linear(values));
        }
        LearningCurves { panels }
    }
}

fn panel(units: &[FinishedSeed], column: &str, title: &str, label: String) -> Panel {
    let seeds = units.iter().map(|unit| curve(unit.table.column(column))).collect();
    let series = vec![Series { style: CURVE, seeds }];
    let mut panel = Panel {
        title: title.to_owned(),
        x: EPOCH.into(),
        words: &[],
        label,
        axis: Axis::linear([]),
        series,
        singles: true,
        events: Default::default(),
        marks: Vec::new(),
    };
    panel.axis = Axis::linear(values(&panel));
    panel
}

/// The values of every seed.
fn values(panel: &Panel) -> Vec<f64> {
    panel.series.iter().flat_map(|series| &series.seeds).flat_map(|curve| curve.values().copied()).collect()
}

impl Figure for LearningCurves {
    fn size(&self) -> (u32, u32) {
        PanelRows(&self.panels).size()
    }

    fn draw<DB: DrawingBackend>(&self, area: &Area<DB>, pen: Pen) -> Drawn<DB> {
        let frame = PanelRows(&self.panels).draw(area, pen)?;
        let seeds = self.panels.first().map_or(0, |panel| panel.series[0].seeds.len());
        let (Some([_, right, top, _]), true) = (frame, seeds > 1) else { return Ok(()) };
        let thin = Style { color: tint(CURVE.color, 0.4), dash: None, width: 0.8 };
        let entries = [
            LegendEntry { text: format!("mean ± s.e.m. ({seeds} seeds)"), sample: Sample::Band(CURVE) },
            LegendEntry { text: "single seeds".to_owned(), sample: Sample::Line(thin) },
        ];
        let left = right - legend::measure(area, pen, &entries)?;
        legend::draw(area, pen, (left, top + pen.px(4.0)), &entries)
    }
}
