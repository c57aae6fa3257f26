//! Figures of an analysis: measures over epochs, mean and standard error over seeds.

use std::collections::BTreeMap;

use super::{Analysis, Key, Measure};
use crate::report::axis::Axis;
use crate::report::grid::{Grid, entry, remark};
use crate::report::panel::{Curve, EPOCH, Panel, Series, Summary};
use crate::report::style::Style;

/// All figures with data, by file name. With several layers each has its own.
pub(super) fn all(analysis: &Analysis) -> Vec<(String, Grid)> {
    let mut figures = Vec::new();
    let recorded: Vec<&Key> = analysis.values.keys().filter(|key| key.measure < Measure::WeightMean).collect();
    let mut layers: Vec<&str> = recorded.iter().map(|key| super::layer(&key.of)).collect();
    layers.sort_unstable();
    layers.dedup();
    for layer in &layers {
        let name = |what: &str| if layers.len() > 1 { format!("{what}_{layer}") } else { what.to_owned() };
        let of_layer = |key: &&Key| super::layer(&key.of) == *layer && key.measure < Measure::WeightMean;
        let names = quantities(analysis.values.keys().filter(of_layer));
        figures.push((name("populations"), populations(analysis, &names)));
        figures.push((name("correlations"), correlations(analysis, &names)));
        figures.push((name("cosines"), cosines(analysis, &names)));
        figures.push((name("gradients"), gradients(analysis, &names)));
    }
    figures.push(("weights".to_owned(), weights(analysis)));
    figures.retain(|(_, grid)| !grid.panels.is_empty());
    figures
}

/// The recorded quantities in these keys: states first, gradients last.
fn quantities<'a>(keys: impl Iterator<Item = &'a Key>) -> Vec<&'a str> {
    let mut names: Vec<&str> = keys.flat_map(|key| [key.of.as_str(), key.with.as_str()]).collect();
    names.retain(|name| !name.is_empty());
    let rank = |name: &str| {
        let order = ["hidden", "synthesizer", "synthetic", "target", "true"];
        order.iter().position(|begin| name.starts_with(begin)).unwrap_or(order.len())
    };
    names.sort_by_key(|name| (rank(name), *name));
    names.dedup();
    names
}

/// Label of a recorded quantity.
pub(super) fn words(name: &str) -> String {
    let what = name.rsplit_once('.').map_or(name, |(what, _)| what);
    match (what, what.strip_prefix("synthesizer").map(str::parse::<usize>)) {
        ("hidden", _) => "hidden state".into(),
        ("synthetic", _) => "synthetic gradient".into(),
        ("target", _) => "target gradient".into(),
        ("true", _) => "true gradient".into(),
        ("gradient", _) => "gradient of the weights by the rule".into(),
        ("true_gradient", _) => "true gradient of the weights".into(),
        (_, Some(Ok(layer))) => format!("synthesizer, layer {}", layer + 1),
        (other, _) => other.into(),
    }
}

fn populations(analysis: &Analysis, names: &[&str]) -> Grid {
    let panels = [
        (Measure::PopulationCorrelation, "Population correlation", "population correlation", false),
        (Measure::MeanAbsPearson, "Pairwise correlation", "mean |Pearson r| within", false),
        (Measure::CodingSpace, "Coding space", "trace of covariance (activity²)", true),
        (Measure::Sparsity, "Sparsity", "sparsity (0 even, 1 single unit)", false),
    ];
    let of = |measure| move |name: &str| Key { measure, of: name.to_owned(), with: String::new() };
    let panels = panels.map(|(measure, title, label, log)| panel(analysis, names, title, label, log, of(measure)));
    grid(panels.into(), names, words)
}

/// One panel per quantity: its correlation with the others.
fn correlations(analysis: &Analysis, names: &[&str]) -> Grid {
    // A pair is stored under one of its two orders.
    let pair = |a: &str, b: &str| Key { measure: Measure::MeanAbsPearson, of: a.min(b).into(), with: a.max(b).into() };
    let panels = names.iter().map(|of| {
        let title = format!("With the {}", words(of));
        panel(analysis, names, &title, "mean |Pearson r| between", false, |name| pair(of, name))
    });
    grid(panels.collect(), names, words)
}

fn cosines(analysis: &Analysis, names: &[&str]) -> Grid {
    let synthetic = names.iter().find(|name| name.starts_with("synthetic."));
    let panels = synthetic.map(|of| {
        let key = |name: &str| Key { measure: Measure::Cosine, of: (*of).to_owned(), with: name.to_owned() };
        panel(analysis, names, "Synthetic gradient", "mean cosine (1 same direction)", false, key)
    });
    grid(panels.into_iter().collect(), names, |name| format!("with the {}", words(name)))
}

/// The learning rule's gradient against the true one.
fn gradients(analysis: &Analysis, names: &[&str]) -> Grid {
    let of_rule: Vec<&str> = names.iter().copied().filter(|name| name.starts_with("gradient.")).collect();
    let panels = [
        (Measure::Cosine, "Direction", "cosine with the true gradient", false),
        (Measure::NormRatio, "Length", "norm relative to the true gradient", false),
        (Measure::Bias, "Bias", "distance of the mean, relative", true),
        (Measure::Variance, "Variance", "variance over draws, relative", true),
    ];
    let of = |measure| move |name: &str| Key { measure, of: name.to_owned(), with: format!("true_{name}") };
    let panels = panels.map(|(measure, title, label, log)| panel(analysis, &of_rule, title, label, log, of(measure)));
    grid(panels.into(), &of_rule, words)
}

fn weights(analysis: &Analysis) -> Grid {
    let of_weights = |key: &&Key| key.measure == Measure::WeightNorm;
    let names: Vec<&str> = analysis.values.keys().filter(of_weights).map(|key| key.of.as_str()).collect();
    let panels = [
        (Measure::WeightMeanAbs, "Magnitude", "mean absolute value"),
        (Measure::WeightNorm, "Norm", "2-norm"),
        (Measure::WeightSd, "Spread", "standard deviation"),
    ];
    let of = |measure| move |name: &str| Key { measure, of: name.to_owned(), with: String::new() };
    let panels = panels.map(|(measure, title, label)| panel(analysis, &names, title, label, false, of(measure)));
    grid(panels.into(), &names, str::to_owned)
}

/// One curve per name with data, coloured by its index.
fn panel(analysis: &Analysis, names: &[&str], title: &str, label: &str, log: bool, key: impl Fn(&str) -> Key) -> Panel {
    let mut series = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(seeds) = analysis.values.get(&key(name)) {
            let seeds: Vec<Curve> = seeds.values().cloned().collect();
            series.push(Series { style: Style::color(index), seeds });
        }
    }
    let extent: Vec<f64> = series.iter().flat_map(|s| Summary::of(&s.seeds).extent().collect::<Vec<_>>()).collect();
    let axis = if log { Axis::logarithmic(extent) } else { Axis::linear(extent) };
    Panel {
        title: title.into(),
        x: EPOCH.into(),
        words: &[],
        label: label.into(),
        axis,
        series,
        singles: false,
        events: BTreeMap::new(),
        marks: Vec::new(),
    }
}

/// A panel of these series, each with the index of its style.
pub(super) fn panel_of(title: &str, x: &str, label: &str, series: Vec<(usize, Vec<Curve>)>) -> Panel {
    let series = series.into_iter().filter(|(_, seeds)| !seeds.is_empty());
    let series: Vec<Series> = series.map(|(index, seeds)| Series { style: Style::color(index), seeds }).collect();
    let extent = series.iter().flat_map(|series| Summary::of(&series.seeds).extent().collect::<Vec<_>>());
    Panel {
        title: title.into(),
        x: x.into(),
        words: &[],
        label: label.into(),
        axis: Axis::linear(extent),
        series,
        singles: false,
        events: BTreeMap::new(),
        marks: Vec::new(),
    }
}

/// Panels with a legend of these names, by the index of their styles.
pub(super) fn with_legend(panels: Vec<Panel>, names: &[String]) -> Grid {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    grid(panels, &names, str::to_owned)
}

/// The panels with curves, and a legend of the names that occur in them.
fn grid(mut panels: Vec<Panel>, names: &[&str], words: impl Fn(&str) -> String) -> Grid {
    panels.retain(|panel| !panel.series.is_empty());
    let mut legend = Vec::new();
    let (mut least, mut most) = (usize::MAX, 0);
    for (index, name) in names.iter().enumerate() {
        let style = Style::color(index);
        let curves = panels.iter().flat_map(|panel| &panel.series).filter(|series| series.style == style);
        if let Some(seeds) = curves.map(|series| series.seeds.len()).max() {
            (least, most) = (least.min(seeds), most.max(seeds));
            legend.push(entry(words(name), style, seeds));
        }
    }
    legend.push(remark(least.min(most), most));
    Grid { panels, legend }
}
