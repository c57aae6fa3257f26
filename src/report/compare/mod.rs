//! Several runs on one pair of axes, or on a grid of panels.
//!
//! All input is in the runs' directories: labels come from `spec.yaml`, results from `seeds/`.

mod claims;
mod difference;
mod groups;
mod keys;
mod labels;
mod read;
mod relative;
mod results;

pub use claims::{Find, Outcome, Verdict, judge};
pub use difference::difference;
pub(in crate::report) use groups::digits;
pub use groups::{Groups, Test, correct};
pub(crate) use keys::tree;
pub use keys::{CCRNN, network};
pub use labels::short as short_key;
pub use results::Results;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::axis::Axis;
use super::figure::{self, Format};
use super::grid::{Grid, entry, remark};
use super::legend::{LegendEntry, Sample};
use super::panel::{self, Mark, Panel, Series, Summary};
use super::style::Style;
use crate::error::{Error, Result};
use crate::spec::{PairedTest, Plugins, Relative};
use read::{Loaded, Metric};

/// Paths of the keys in which specs differ, of their [`tree`]s.
pub(crate) fn differing_keys(trees: &[&Value]) -> Vec<String> {
    keys::differing(trees)
}

/// The labels of specs, of their [`tree`]s: the keys in which they differ, in the papers' terms.
pub(crate) fn distinctions(trees: &[&Value]) -> Vec<String> {
    let keys = keys::differing(trees);
    let usual = labels::usual(trees, &keys);
    trees.iter().map(|tree| labels::label(tree, &keys, &usual)).collect()
}

/// A spec's value of a key in the papers' terms; a dash if the key does not apply.
pub(crate) fn words(tree: &Value, key: &str) -> String {
    if keys::applies(tree, key) { labels::label(tree, &[key.to_owned()], &[]) } else { "–".into() }
}

/// A finished run, and the seeds to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedRun {
    /// Its directory.
    pub path: PathBuf,
    /// Seeds, all of which are finished.
    pub seeds: Vec<u64>,
}

/// What is drawn, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A column of `metrics.csv`, with or without `val_`; by default the first validation metric, or `train_loss` without
    /// validation.
    pub metric: Option<String>,
    /// A logarithmic value axis.
    pub log: bool,
    /// Factor for the values; 1 if `None`.
    pub times: Option<f64>,
    /// Keys of the legend; by default those in which the runs differ.
    pub label: Vec<String>,
    /// Makes one panel per value of this key.
    pub panels: Option<String>,
    /// A key with integer values for the horizontal axis, or `event` or `unlock`, which then shows last values; by default the axis
    /// shows epochs.
    pub x: Option<String>,
    /// A reference run, drawn in every panel.
    pub reference: Option<FinishedRun>,
    /// Label of the reference; derived from its keys by default.
    pub reference_name: Option<String>,
    /// The runs' names in a list, which a legend of names shows instead of those of their specs.
    pub names: Vec<Option<String>>,
    /// Another run that the runs are relative to.
    pub relative_to: Option<RelativeTo>,
    /// Windows on the horizontal axis in per cent of the sequence.
    pub percent: bool,
}

/// Another run that runs are relative to, seed by seed.
#[derive(Debug, Clone)]
pub struct RelativeTo {
    /// Its name.
    pub name: String,
    /// Each run with the run that it is relative to. Runs without one are not drawn.
    pub partners: Vec<(FinishedRun, FinishedRun)>,
    /// How values are related.
    pub relative: Relative,
    /// The test whose outcome is marked.
    pub test: PairedTest,
    /// Whether p is corrected for the number of tests (Holm).
    pub holm: bool,
}

/// Runs arranged for drawing.
pub struct Comparison {
    grid: Grid,
    table: Vec<Vec<String>>,
}

/// A run and its label.
struct Named<'a> {
    run: &'a Loaded,
    label: String,
    /// The title of its panel.
    panel: String,
    /// Its position on the horizontal axis, if that is not the epoch.
    x: Option<usize>,
    /// p of its difference from the run that it is relative to.
    p: Option<f64>,
}

impl Comparison {
    /// Reads runs and arranges them; `plugins` provides the lengths of sequences.
    ///
    /// # Errors
    /// [`Error::Usage`] for a run that is named twice, an unknown key or metric, metrics with different units, or values
    /// without a logarithm; [`Error::Data`] naming a damaged file.
    pub fn new(runs: &[FinishedRun], options: &Options, plugins: &dyn Plugins) -> Result<Self> {
        for (index, run) in runs.iter().enumerate() {
            let same = |other: &FinishedRun| {
                other.path == run.path || other.path.canonicalize().ok() == run.path.canonicalize().ok()
            };
            if runs[..index].iter().any(same) {
                return Err(Error::Usage(format!("the run {} is named twice", run.path.display())));
            }
        }
        let mut loaded: Vec<Loaded> = runs.iter().map(|run| Loaded::read(run, plugins)).collect::<Result<_>>()?;
        for (run, name) in loaded.iter_mut().zip(&options.names) {
            if let Some(name) = name {
                run.tree["name"] = name.as_str().into();
            }
        }
        let related = match &options.relative_to {
            Some(to) => Some(relative::relate(&mut loaded, runs, to, options.metric.as_deref(), plugins)?),
            None => None,
        };
        let reference = options.reference.as_ref().map(|run| Loaded::read(run, plugins)).transpose()?;
        let all: Vec<&Loaded> = loaded.iter().chain(&reference).collect();
        let Some(first) = all.first() else { return Err(Error::Usage("there is no run to plot".into())) };
        let (metric, p) = match related {
            Some((metric, p)) => (metric, p),
            None => (Metric::choose(options.metric.as_deref(), &all)?, Vec::new()),
        };
        let metric = metric.times(options.times.unwrap_or(1.0));
        let trees: Vec<&Value> = all.iter().map(|run| &run.tree).collect();
        let chosen = |flag: &str, key: &String| keys::resolve(flag, key, &trees);
        let label: Vec<String> = options.label.iter().map(|key| chosen("--label", key)).collect::<Result<_>>()?;
        let panels = options.panels.as_ref().map(|key| chosen("--panels", key)).transpose()?;

        let x = match options.x.as_deref() {
            Some(key @ (labels::EVENT | labels::UNLOCK)) => Some(key.to_owned()),
            key => key.map(|key| chosen("--x", &key.to_owned())).transpose()?,
        };
        let x = x.as_deref().map(|key| Abscissa { key, percent: options.percent });

        let mut named = name(&loaded, &label, panels.as_deref(), x)?;
        for run in &mut named {
            let place = loaded.iter().position(|loaded| loaded.hash == run.run.hash);
            run.p = place.and_then(|place| p.get(place)).copied();
        }
        let mut comparison = Comparison { grid: Grid { panels: Vec::new(), legend: Vec::new() }, table: Vec::new() };
        comparison.table.push(vec!["label".into(), "run".into(), "seeds".into(), "epoch".into(), metric.title()]);
        if !p.is_empty() {
            comparison.table[0].push("p".into());
        }
        comparison.arrange(&named, &metric, x);
        if let Some(reference) = &reference {
            let keys = if label.is_empty() { keys::differing(&trees) } else { label };
            let made = || labels::label(&reference.tree, &keys, &[]);
            let name = options.reference_name.clone().unwrap_or_else(made);
            let places: Vec<usize> = named.iter().filter_map(|run| run.x).collect();
            comparison.refer(reference, name, &metric, &places);
        }
        comparison.finish(options.log, first, &metric)?;
        Ok(comparison)
    }

    /// One panel per title, one colour per label.
    fn arrange(&mut self, named: &[Named], metric: &Metric, x: Option<Abscissa<'_>>) {
        let mut titles: Vec<&str> = Vec::new();
        let mut styles: Vec<(&str, Style)> = Vec::new();
        // Greys are meaningful only beside colours, and for networks that differ in nothing but their synthesizers.
        let plain =
            |run: &Named| keys::network_of(&run.run.tree) == keys::CRNN && run.run.tree["train"]["rule"].is_null();
        let mixed = named.iter().any(plain) && !named.iter().all(plain);
        let (mut greys, mut colors) = ((0..).map(Style::grey), (0..).map(Style::color));
        for run in named {
            if !titles.contains(&run.panel.as_str()) {
                titles.push(&run.panel);
            }
            if !styles.iter().any(|(label, _)| *label == run.label) {
                let next = if mixed && plain(run) { greys.next() } else { colors.next() };
                styles.extend(next.map(|style| (run.label.as_str(), style)));
            }
        }
        for title in titles {
            let mut panel = Panel {
                title: title.to_owned(),
                x: x.map_or(panel::EPOCH, |x| labels::axis(x.key, x.percent)).to_owned(),
                words: if x.is_some_and(|x| x.key == labels::UNLOCK) { &labels::UNLOCKED } else { &[] },
                label: metric.label.clone(),
                axis: Axis::linear([]),
                series: Vec::new(),
                singles: false,
                events: BTreeMap::new(),
                marks: Vec::new(),
            };
            for run in named.iter().filter(|run| run.panel == title) {
                let style =
                    styles.iter().find(|(label, _)| *label == run.label).map_or(Style::reference(), |found| found.1);
                self.row(&format!("{}{}", prefix(title), run.label), run.run, metric);
                if let (Some(p), Some(row)) = (run.p, self.table.last_mut()) {
                    row.push(format!("{} {}", groups::digits(p), relative::stars(p)));
                    panel.marks.extend(mark(run, metric, p, style));
                }
                if let Some(x) = run.x {
                    // Runs of one colour are points of one line.
                    let line = panel.series.iter_mut().find(|series| series.style == style);
                    let points = run.run.last(metric, &[x]);
                    match line {
                        Some(line) => line.seeds.iter_mut().zip(points).for_each(|(seed, point)| seed.extend(point)),
                        None => panel.series.push(Series { style, seeds: points }),
                    }
                    continue;
                }
                for epoch in run.run.events() {
                    // An event that affects one curve alone has its colour.
                    let color = Some(style.color).filter(|_| !panel.events.contains_key(&epoch));
                    panel.events.insert(epoch, color);
                }
                panel.series.push(Series { style, seeds: run.run.curves(metric) });
            }
            self.grid.panels.push(panel);
        }
        for (label, style) in styles {
            let seeds = named.iter().filter(|run| run.label == label).map(|run| run.run.units.len()).max();
            self.grid.legend.push(entry(labels::cut(label), style, seeds.unwrap_or(1)));
        }
    }

    /// Draws the reference below the others in every panel: as a curve, or as a level over these positions.
    fn refer(&mut self, run: &Loaded, label: String, metric: &Metric, places: &[usize]) {
        let seeds = if places.is_empty() { run.curves(metric) } else { run.last(metric, places) };
        let style = Style::reference();
        for panel in &mut self.grid.panels {
            panel.series.insert(0, Series { style, seeds: seeds.clone() });
        }
        self.grid.legend.push(entry(labels::cut(&label), style, run.units.len()));
        self.row(&label, run, metric);
    }

    /// Sets one scale for all panels, and the legend entries common to all curves.
    fn finish(&mut self, log: bool, first: &Loaded, metric: &Metric) -> Result<()> {
        let series = || self.grid.panels.iter().flat_map(|panel| &panel.series);
        let summaries: Vec<Summary> = series().map(|series| Summary::of(&series.seeds)).collect();
        let extent = || summaries.iter().flat_map(Summary::extent);
        if extent().next().is_none() {
            return Err(Error::Usage(format!("{} has no number in any epoch of these runs", metric.column)));
        }
        if log && summaries.iter().flat_map(|summary| &summary.0).any(|&(_, mean, _)| mean <= 0.0) {
            let what = "has values of zero or below, which have no logarithm; leave out `--log`";
            return Err(Error::Usage(format!("{} {what}", metric.column)));
        }
        let axis = if log { Axis::logarithmic(extent()) } else { Axis::linear(extent()) };
        let seeds: Vec<usize> = series().map(|series| series.seeds.len()).collect();
        let events = self.grid.panels.iter().any(|panel| !panel.events.is_empty());
        self.grid.panels.iter_mut().for_each(|panel| panel.axis = axis);
        if events {
            self.grid.legend.push(LegendEntry { text: "lesion or freezing begins".into(), sample: Sample::Event });
        }
        let least = seeds.iter().copied().min().unwrap_or(first.units.len());
        self.grid.legend.push(remark(least, seeds.iter().copied().max().unwrap_or(least)));
        Ok(())
    }

    /// A row of the table: the mean and standard error of the last epoch that every seed has.
    fn row(&mut self, label: &str, run: &Loaded, metric: &Metric) {
        let summary = Summary::of(&run.curves(metric));
        let (epoch, value) = match summary.0.last() {
            Some((epoch, mean, error)) if run.units.len() > 1 => (epoch.to_string(), format!("{mean:.4} ± {error:.4}")),
            Some((epoch, mean, _)) => (epoch.to_string(), format!("{mean:.4}")),
            None => ("-".into(), "-".into()),
        };
        self.table.push(vec![label.into(), run.hash.clone(), run.units.len().to_string(), epoch, value]);
    }

    /// Text table, header first: label, run, number of seeds, last epoch, mean and standard error there.
    pub fn table(&self) -> &[Vec<String>] {
        &self.table
    }

    /// The drawing as SVG.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        figure::to_svg(&self.grid)
    }

    /// Draws `<dir>/<name>.svg`, `<dir>/<name>.png` or both, and returns the paths.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, dir: &Path, name: &str, formats: &[Format]) -> Result<Vec<PathBuf>> {
        if !dir.as_os_str().is_empty() {
            std::fs::create_dir_all(dir).map_err(Error::io("create the directory", dir))?;
        }
        figure::save(&self.grid, dir, name, formats)
    }
}

/// What the horizontal axis shows instead of epochs.
#[derive(Clone, Copy)]
struct Abscissa<'a> {
    key: &'a str,
    percent: bool,
}

/// The mark of a test at a run's last point.
fn mark(run: &Named, metric: &Metric, p: f64, style: Style) -> Option<Mark> {
    let &(x, mean, error) = Summary::of(&run.run.curves(metric)).0.last()?;
    let y = if error.is_nan() { mean } else { mean + error };
    Some(Mark { x: run.x.map_or(x, |x| x as f64), y, text: relative::stars(p), color: style.color })
}

/// Prefix with a panel's title for labels in the table.
fn prefix(title: &str) -> String {
    if title.is_empty() { String::new() } else { format!("{title}: ") }
}

/// Labels every run, in the order of panels: numbers ascending, windows that span the whole sequence last.
fn name<'a>(runs: &'a [Loaded], label: &[String], panels: Option<&str>, x: Option<Abscissa>) -> Result<Vec<Named<'a>>> {
    let trees: Vec<&Value> = runs.iter().map(|run| &run.tree).collect();
    let keys = if label.is_empty() { keys::differing(&trees) } else { label.to_vec() };
    // The legend omits what the title or the axis shows.
    let on_axis = |key: &str| match x.map(|x| x.key) {
        Some(labels::EVENT) => key.ends_with(".lesion_at") || key.ends_with(".freeze_at"),
        Some(labels::UNLOCK) => key.ends_with(".dni") || key.ends_with(".unlock"),
        x => x == Some(key),
    };
    let is_shown = |key: &str| Some(key) == panels || on_axis(key);
    let keys: Vec<String> = keys.into_iter().filter(|key| !is_shown(key) || !label.is_empty()).collect();
    let usual = if label.is_empty() { labels::usual(&trees, &keys) } else { Vec::new() };
    let mut order: Vec<&Loaded> = runs.iter().collect();
    let titles = panels.map(|key| titles(runs, key));
    if let Some(key) = panels {
        let rank = |run: &Loaded| keys::at(&run.tree, key).map_or(f64::INFINITY, |value| value.as_f64().unwrap_or(0.0));
        order.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    }
    let mut named: Vec<Named> = Vec::new();
    for run in order {
        named.push(Named {
            run,
            label: if runs.len() == 1 && label.is_empty() {
                run.name()
            } else {
                labels::label(&run.tree, &keys, &usual)
            },
            panel: titles.as_ref().and_then(|titles| titles.get(&run.hash)).cloned().unwrap_or_default(),
            x: x.map(|x| run.place(x.key, x.percent)).transpose()?,
            p: None,
        });
    }
    // Hashes distinguish curves of the same label in one panel.
    let twin = |a: &Named, b: &Named| (&a.label, &a.panel, a.x) == (&b.label, &b.panel, b.x);
    let twins: Vec<bool> = named.iter().map(|a| named.iter().filter(|b| twin(a, b)).count() > 1).collect();
    for (run, _) in named.iter_mut().zip(twins).filter(|(_, twin)| *twin) {
        run.label = format!("{} ({})", run.label, run.run.hash);
    }
    Ok(named)
}

/// The title of each run's panel, by hash. If per cent would be ambiguous (windows with equal titles, sequences of different
/// lengths), windows are in steps.
fn titles(runs: &[Loaded], key: &str) -> BTreeMap<String, String> {
    let steps = runs.first().and_then(|run| run.steps).filter(|steps| runs.iter().all(|run| run.steps == Some(*steps)));
    let with =
        |steps: Option<usize>| -> Vec<String> { runs.iter().map(|run| labels::title(&run.tree, key, steps)).collect() };
    let (in_percent, plain) = (with(steps), with(None));
    let clash = |a: usize, b: usize| in_percent[a] == in_percent[b] && plain[a] != plain[b];
    let clashes = (0..runs.len()).any(|a| (0..a).any(|b| clash(a, b)));
    let chosen = if clashes { plain } else { in_percent };
    runs.iter().map(|run| run.hash.clone()).zip(chosen).collect()
}
