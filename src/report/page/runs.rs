//! The runs of a report: one table of all, and a section for each.

use serde_json::Value;

use super::html::{Table, block, escape, number};
use super::provenance::{Manifest, UnitFile};
use super::{Run, Unit};
use crate::error::{Error, Result};
use crate::report::compare::{differing_keys, tree, words};
use crate::report::curves::LearningCurves;
use crate::report::statistics::{mean, standard_error};
use crate::report::{figure, tables, units};
use crate::spec::write_spec;

/// The columns of `results.csv` that count rather than measure.
const COUNTS: [&str; 4] = ["seed", "epochs", "best_epoch", "kept_epoch"];

/// What a run's files say.
pub struct Read {
    /// `results.csv` of the units that are asked for and done: its columns.
    pub header: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
    /// What `unit.json` says beside, by row.
    pub units: Vec<UnitFile>,
    pub manifest: Option<Manifest>,
    /// The learning curves, as SVG.
    curves: Option<String>,
}

impl Read {
    /// Reads a run; one that has not begun has no files.
    pub fn of(run: &Run, with_curves: bool) -> Result<Self> {
        let wanted = |seed: u64| run.units.iter().any(|unit| unit.done && unit.seed == seed);
        let mut done = if run.path.join("seeds").is_dir() { units::read_all(&run.path)? } else { Vec::new() };
        done.retain(|unit| wanted(unit.seed));
        let path = run.path.join("results.csv");
        let bytes = tables::results(&done);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes.as_slice());
        let broken = |error: csv::Error| Error::data(&path, error.to_string());
        let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().map_err(broken)?;
        let mut rows = records.iter().map(|record| record.iter().map(str::to_owned).collect::<Vec<String>>());
        let header = rows.next().unwrap_or_default();
        // Drawn anew rather than read: nothing that is not ours gets into the page.
        let curves = (with_curves && !done.is_empty()).then(|| figure::to_svg(&LearningCurves::new(&done)));
        Ok(Read {
            header,
            rows: rows.collect(),
            units: done.iter().map(|unit| UnitFile::read(&run.path, unit.seed)).collect(),
            manifest: Manifest::read(&run.path),
            curves: curves.transpose()?,
        })
    }

    /// The commit of the repository that it was begun in.
    pub fn commit(&self) -> Option<&str> {
        self.manifest.as_ref()?.commit()
    }

    /// Numbers of a column of `results.csv`, as far as there are some.
    fn column(&self, name: &str) -> Vec<f64> {
        let Some(place) = self.header.iter().position(|column| column == name) else { return Vec::new() };
        self.rows.iter().filter_map(|row| row.get(place)?.parse().ok()).collect()
    }
}

/// One row a run: the keys that differ, how it stands, and mean and standard error over seeds of each result.
pub fn table(runs: &[Run], read: &[Read]) -> String {
    let trees: Vec<Value> = runs.iter().map(|run| tree(&run.spec)).collect();
    let keys = differing_keys(&trees);
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

/// How units stand: one word, or counts.
fn state(units: &[Unit]) -> String {
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

/// A section for each run: its seeds, its curves, its spec.
pub fn details(runs: &[Run], read: &[Read]) -> String {
    let mut html = String::from("<h2>Run by run</h2>\n");
    for (run, read) in runs.iter().zip(read) {
        let name = run.spec.name.as_ref().map_or_else(String::new, |name| format!(" {}", escape(name)));
        html += &format!("<h3 id=\"{0}\"><code>{0}</code>{name}</h3>\n", escape(&run.hash));
        html += &seeds(run, read);
        let notes = read.units.iter().flat_map(|unit| unit.notes.iter().map(move |note| (unit.seed, note)));
        for (seed, note) in notes {
            html += &format!("<p class=\"faint\">Seed {seed}: {}</p>\n", escape(note));
        }
        if let Some(svg) = &read.curves {
            html += &format!(
                "<details><summary>Learning curves</summary>\n<figure><div class=\"scroll\" tabindex=\"0\" role=\"img\" \
                 aria-label=\"Learning curves of run {}\">\n{}\n</div></figure>\n</details>\n",
                escape(&run.hash),
                svg.trim_end()
            );
        }
        html += &format!("<details><summary>Spec</summary>\n{}</details>\n", block(&write_spec(&run.spec)));
    }
    html
}

/// One row a seed: `results.csv`, and where and when it was trained.
fn seeds(run: &Run, read: &Read) -> String {
    if read.rows.is_empty() {
        return format!("<p>No seed is trained yet: {}.</p>\n", escape(&state(&run.units)));
    }
    let beside = ["seconds", "device", "host", "started", "ended"];
    let mut table = Table::new(read.header.iter().map(String::as_str).chain(beside));
    for (row, unit) in read.rows.iter().zip(&read.units) {
        let cell = |(name, text): (&String, &String)| match text.parse::<f64>() {
            Ok(value) if !COUNTS.contains(&name.as_str()) => number(value),
            _ => escape(text),
        };
        let mut cells: Vec<String> = read.header.iter().zip(row).map(cell).collect();
        cells.push(unit.seconds.map_or_else(String::new, number));
        cells.extend([&unit.device, &unit.host, &unit.started, &unit.ended].map(|text| escape(text)));
        table.row(cells);
    }
    table.html(&format!("Seeds of run {}", run.hash))
}
