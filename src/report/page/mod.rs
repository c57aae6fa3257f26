//! A report: one HTML page about a set of runs, made from their files alone.
//!
//! It loads nothing: the script that draws its curves, which is that of the live pages, is part of it. Numbers are shown rounded, with the full value in the `value` attribute of their
//! `data` element.

mod charts;
mod html;
mod provenance;
mod runs;

use std::path::PathBuf;

use super::compare::{Outcome, Verdict};
use crate::error::Result;
use crate::spec::Spec;
use html::{Table, block, code, escape};
use runs::RunFiles;

/// Contents of a report.
#[derive(Debug)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// Time of writing.
    pub written: String,
    /// Runs, in order of appearance.
    pub runs: Vec<ReportedRun>,
    /// The figure as SVG, or the reason why there is none.
    pub figure: Option<std::result::Result<String, String>>,
    /// Results of the file's claims.
    pub verdicts: Vec<Verdict>,
    /// Commands that made the runs and this page.
    pub commands: Vec<String>,
    /// The file that defines the runs: its name and its text.
    pub file: Option<(String, String)>,
}

/// A run of a report, which may not have begun.
#[derive(Debug)]
pub struct ReportedRun {
    /// The name of its directory.
    pub hash: String,
    /// Its directory.
    pub path: PathBuf,
    /// Its name in lists.
    pub item: Option<String>,
    /// Its spec.
    pub spec: Spec,
    /// Its units.
    pub units: Vec<ReportedSeed>,
}

/// A unit of a report.
#[derive(Debug)]
pub struct ReportedSeed {
    /// The seed.
    pub seed: u64,
    /// Whether it is trained to the end.
    pub done: bool,
    /// Its status, in one word.
    pub standing: String,
    /// Why it failed.
    pub reason: Option<String>,
}

/// Maximum number of missing units that are listed without being unfolded, which print cannot do.
const FEW: usize = 20;

/// Maximum number of runs with learning curves: more would make the page slow to open.
const CURVES: usize = 40;

impl Page {
    /// Renders the page.
    ///
    /// # Errors
    /// [`crate::Error::Data`] naming a damaged file of a unit that is done.
    pub fn html(&self) -> Result<String> {
        let files: Vec<RunFiles> =
            self.runs.iter().map(|run| RunFiles::read(run, self.runs.len() <= CURVES)).collect::<Result<_>>()?;
        let hashes = self.runs.iter().map(|run| run.hash.as_str());
        let manifests = hashes.zip(files.iter().map(|files| files.manifest.as_ref()));
        let sections = [
            self.head(),
            self.missing(),
            self.figure(),
            self.claims(),
            runs::table(&self.runs, &files),
            provenance::section(manifests),
            self.commands(&files),
            runs::details(&self.runs, &files),
        ];
        let title = escape(&self.title);
        Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"generator\" content=\"ccdni {}\">\n<title>{title}</title>\n<style>\n{}{}</style>\n</head>\n\
             <body>\n{}{}</body>\n</html>\n",
            env!("CARGO_PKG_VERSION"),
            include_str!("assets/page.css"),
            charts::STYLE,
            sections.concat(),
            charts::script()
        ))
    }

    fn head(&self) -> String {
        let units = || self.runs.iter().flat_map(|run| &run.units);
        let (all, done) = (units().count(), units().filter(|unit| unit.done).count());
        let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        format!(
            "<h1>{}</h1>\n<p class=\"faint\">{}, {done} of {} trained. Written {} by ccdni {}.</p>\n",
            escape(&self.title),
            many(self.runs.len(), "run"),
            many(all, "unit"),
            escape(&self.written),
            env!("CARGO_PKG_VERSION")
        )
    }

    /// The units missing from a partial sweep.
    fn missing(&self) -> String {
        let mut lines = String::new();
        for run in &self.runs {
            for unit in run.units.iter().filter(|unit| !unit.done) {
                let reason = unit.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", escape(reason)));
                lines += &format!(
                    "<li><a href=\"#{0}\"><code>{0}</code></a> seed {1}: {2}{reason}</li>\n",
                    escape(&run.hash),
                    unit.seed,
                    escape(&unit.standing)
                );
            }
        }
        match lines.matches("<li>").count() {
            0 => lines,
            count => format!(
                "<div class=\"notice\">\n<p><strong>This report is partial.</strong> {count} of the requested units are \
                 not trained; means and figures are of those that are.</p>\n<details{}><summary>Which ones</summary>\n\
                 <ul>\n{lines}</ul>\n</details>\n</div>\n",
                if count <= FEW { " open" } else { "" }
            ),
        }
    }

    fn figure(&self) -> String {
        match &self.figure {
            None => String::new(),
            Some(Err(why)) => format!("<h2>Figure</h2>\n<p class=\"notice\">There is none: {}</p>\n", escape(why)),
            Some(Ok(svg)) => format!(
                "<h2>Figure</h2>\n<figure>\n<div class=\"scroll\" tabindex=\"0\" role=\"img\" aria-label=\"The figure of {}\">\n\
                 {}\n</div>\n<figcaption>Mean and standard error over seeds.</figcaption>\n</figure>\n",
                escape(&self.title),
                svg.trim_end()
            ),
        }
    }

    fn claims(&self) -> String {
        if self.verdicts.is_empty() {
            return String::new();
        }
        let mut table = Table::new(["", "claim", "numbers"]);
        for verdict in &self.verdicts {
            let class = match verdict.outcome {
                Outcome::Pass => "pass",
                Outcome::NotSignificant => "ns",
                Outcome::Fail => "fail",
                Outcome::NotAsked => "faint",
            };
            let outcome = format!("<span class=\"{class}\">{}</span>", escape(&verdict.outcome.to_string()));
            table.row(vec![outcome, escape(&verdict.claim), escape(&verdict.numbers)]);
        }
        let note = if self.verdicts.iter().any(|verdict| verdict.outcome == Outcome::NotSignificant) {
            "<p class=\"faint\">n.s.: the medians lie as claimed, but the paired test over these seeds does not distinguish \
             that from chance at 5 %.</p>\n"
        } else {
            ""
        };
        format!("<h2>Claims</h2>\n{}{note}", table.html("Claims and the numbers behind them"))
    }

    fn commands(&self, runs: &[RunFiles]) -> String {
        let mut commits: Vec<&str> = runs.iter().filter_map(RunFiles::commit).collect();
        commits.sort_unstable();
        commits.dedup();
        let mut html =
            String::from("<h2>Commands</h2>\n<p>These made the runs and this page, and make them again:</p>\n");
        html += &block(&self.commands.join("\n"));
        if !commits.is_empty() {
            let commits: Vec<String> = commits.into_iter().map(code).collect();
            html += &format!(
                "<p class=\"faint\">The runs were begun in a repository at commit {}.</p>\n",
                commits.join(", ")
            );
        }
        if let Some((name, text)) = &self.file {
            let summary = escape(name);
            html += &format!("<details><summary>{summary}, as it is now</summary>\n{}</details>\n", block(text));
        }
        html
    }
}
