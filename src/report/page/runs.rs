//! The runs of a report: one table of all, and one section per run.

use serde_json::Value;

use super::charts;
use super::html::{Table, block, escape, number};
use super::{ReportedRun, ReportedSeed};
use crate::error::Result;
use crate::files;
use crate::records::Manifest;
use crate::report::compare::{differing_keys, tree, words};
use crate::report::statistics::{mean, standard_error};
use crate::report::units::FinishedSeed;
use crate::report::{tables, units};
use crate::spec::write_spec;

/// The columns of `results.csv` that count rather than measure.
const COUNTS: [&str; 4] = ["seed", "epochs", "best_epoch", "kept_epoch"];

/// Data read from a run's files.
pub struct RunFiles {
    /// The columns of `results.csv`.
    header: Vec<String>,
    /// Its rows, for the requested units that are done.
    rows: Vec<Vec<String>>,
    /// The units, by row.
    seeds: Vec<FinishedSeed>,
    /// `None` if it is missing or damaged, which the page reports.
    pub manifest: Option<Manifest>,
    /// Whether its learning curves are shown.
    with_curves: bool,
}

impl RunFiles {
    /// Reads a run; one that has not begun has no files.
    pub fn read(run: &ReportedRun, with_curves: bool) -> Result<Self> {
        let mut seeds = units::read_all(&run.path)?;
        seeds.retain(|done| run.units.iter().any(|unit| unit.done && unit.seed == done.seed));
        let mut rows = tables::result_rows(&seeds).into_iter();
        Ok(RunFiles {
            header: rows.next().unwrap_or_default(),
            rows: rows.collect(),
            seeds,
            manifest: files::read_json(&run.path.join("manifest.json"), "").ok().flatten(),
            with_curves,
        })
    }

    /// The commit of the repository in which it was begun.
    pub fn commit(&self) -> Option<&str> {
        Some(self.manifest.as_ref()?.git.as_ref()?.commit.as_str())
    }

    /// The available numbers of a column of `results.csv`.
    fn column(&self, name: &str) -> Vec<f64> {
        let Some(place) = self.header.iter().position(|column| column == name) else { return Vec::new() };
        self.rows.iter().filter_map(|row| row.get(place)?.parse().ok()).collect()
    }
}

/// One row per run: the keys that differ, its state, and mean and standard error over seeds of each result.
pub fn table(runs: &[ReportedRun], read: &[RunFiles]) -> String {
    let trees: Vec<Value> = runs.iter().map(|run| tree(&run.spec)).collect();
    let keys = differing_keys(&trees.iter().collect::<Vec<_>>());
    let mut columns: Vec<&String> = Vec::new();
    for column in read.iter().flat_map(|read| &read.header).filter(|column| !COUNTS.contains(&column.as_str())) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let named = runs.iter().any(|run| run.item.is_some() || run.spec.name.is_some());
    let mut header = vec!["run".to_owned()];
    header.extend(named.then(|| "name".into()));
    header.extend(keys.iter().cloned());
    header.extend(["seeds".into(), "state".into()]);
    header.extend(columns.iter().map(|column| column.to_string()));
    let mut table = Table::new(header);
    for ((run, read), tree) in runs.iter().zip(read).zip(&trees) {
        let hash = escape(&run.hash);
        let mut cells = vec![format!("<a href=\"#{hash}\"><code>{hash}</code></a>")];
        cells.extend(named.then(|| escape(run.item.as_ref().or(run.spec.name.as_ref()).map_or("", String::as_str))));
        cells.extend(keys.iter().map(|key| escape(&words(tree, key))));
        cells.extend([read.rows.len().to_string(), escape(&state(&run.units))]);
        cells.extend(columns.iter().map(|column| summary(&read.column(column))));
        table.row(cells);
    }
    let note = "<p class=\"faint\">Mean ± standard error over the seeds that are trained, of the last epoch; \
                <code>best_</code> is of the best epoch, <code>test_</code> of the weights that are kept.</p>\n";
    format!("<h2>Runs</h2>\n{note}{}", table.html("Runs and their results"))
}

/// Mean ± standard error.
fn summary(values: &[f64]) -> String {
    match values.len() {
        0 => "–".into(),
        1 => number(mean(values)),
        _ => format!("{} ± {}", number(mean(values)), number(standard_error(values))),
    }
}

/// State of units: one word, or counts.
fn state(units: &[ReportedSeed]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for unit in units {
        match counts.iter_mut().find(|(word, _)| *word == unit.standing) {
            Some((_, count)) => *count += 1,
            None => counts.push((&unit.standing, 1)),
        }
    }
    match counts.as_slice() {
        [(word, _)] => (*word).to_owned(),
        several => several.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", "),
    }
}

/// One section per run: its seeds, its curves, its spec.
pub fn details(runs: &[ReportedRun], read: &[RunFiles]) -> String {
    let mut html = String::from("<h2>Run by run</h2>\n");
    for (run, read) in runs.iter().zip(read) {
        let name = run.spec.name.as_ref().map_or_else(String::new, |name| format!(" {}", escape(name)));
        html += &format!("<h3 id=\"{0}\"><code>{0}</code>{name}</h3>\n", escape(&run.hash));
        html += &seeds(run, read);
        let notes = read.seeds.iter().flat_map(|unit| unit.record.notes.iter().map(move |note| (unit.seed, note)));
        for (seed, note) in notes {
            html += &format!("<p class=\"faint\">Seed {seed}: {}</p>\n", escape(note));
        }
        if read.with_curves && !read.seeds.is_empty() {
            html += &charts::curves(&run.hash, &run.spec, &read.seeds);
        }
        html += &format!("<details><summary>Spec</summary>\n{}</details>\n", block(&write_spec(&run.spec)));
    }
    html
}

/// One row per seed: `results.csv`, and where and when it was trained.
fn seeds(run: &ReportedRun, read: &RunFiles) -> String {
    if read.rows.is_empty() {
        return format!("<p>No seed is trained yet: {}.</p>\n", escape(&state(&run.units)));
    }
    let beside = ["seconds", "device", "host", "started", "ended"];
    let mut table = Table::new(read.header.iter().map(String::as_str).chain(beside));
    for (row, unit) in read.rows.iter().zip(&read.seeds) {
        let cell = |(name, text): (&String, &String)| match text.parse::<f64>() {
            Ok(value) if !COUNTS.contains(&name.as_str()) => number(value),
            _ => escape(text),
        };
        let mut cells: Vec<String> = read.header.iter().zip(row).map(cell).collect();
        let record = &unit.record;
        cells.push(number(unit.result.seconds));
        cells.extend([&record.device, &record.host, &record.started].map(|text| escape(text)));
        cells.push(escape(record.ended.as_deref().unwrap_or_default()));
        table.row(cells);
    }
    table.html(&format!("Seeds of run {}", run.hash))
}
