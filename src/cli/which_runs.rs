//! The finished runs that a command is asked about: by name, or those of a spec file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::spec_args::SpecArgs;
use crate::error::{Error, Result};
use crate::report::compare::FinishedRun;
use crate::run::directory::{self, Directory};
use crate::run::finished::Finished;
use crate::run::status::Standing;
use crate::run::survey::Survey;
use crate::spec::Seeds;
use crate::spec::sweep::{Sweep, SweptRun, expand};
use crate::tasks::Registry;

/// Finished runs, and what should be said about them.
pub struct Runs {
    pub runs: Vec<FinishedRun>,
    pub notes: String,
    /// The file that says them, if one does.
    pub file: Option<(PathBuf, Sweep)>,
}

/// The file that is meant, where a single name is one of a spec file.
pub fn file_of(names: &[String]) -> Option<&Path> {
    match names {
        [name] if name.ends_with(".yaml") || name.ends_with(".yml") => Some(Path::new(name)),
        _ => None,
    }
}

/// The runs of these names with all their finished seeds (or with `seeds`), or all runs of one spec file with exactly the
/// seeds that it says.
pub fn find(names: &[String], seeds: Option<&Seeds>, outputs: &Path, registry: &Registry) -> Result<Runs> {
    if let Some(file) = file_of(names) {
        let request = SpecArgs { spec: file.to_path_buf(), set: Vec::new() }.request();
        let mut sweep = expand(&request, &[], registry)?;
        if let Some(seeds) = seeds {
            sweep.runs.iter_mut().for_each(|run| run.resolved.spec.seeds = seeds.clone());
        }
        let runs = of_sweep(&sweep, file, outputs)?;
        return Ok(Runs { runs, notes: String::new(), file: Some((file.to_path_buf(), sweep)) });
    }
    let mut found = Runs { runs: Vec::new(), notes: String::new(), file: None };
    for name in names {
        let (run, note) = one(name, seeds, outputs)?;
        found.runs.push(run);
        found.notes.extend(note);
    }
    Ok(found)
}

/// One run, and a note on what is missing of it.
pub fn one(name: &str, seeds: Option<&Seeds>, outputs: &Path) -> Result<(FinishedRun, Option<String>)> {
    let run = directory::locate(outputs, name)?;
    let finished = Finished::of(&run, seeds)?;
    let note = finished.note(&run).map(|note| format!("note: {note}\n"));
    let Directory { path } = run;
    Ok((FinishedRun { path, seeds: finished.seeds }, note))
}

/// The runs of a sweep, all of whose units must be finished.
pub fn of_sweep(sweep: &Sweep, file: &Path, outputs: &Path) -> Result<Vec<FinishedRun>> {
    let survey = Survey::of(sweep, outputs);
    if !survey.is_done() {
        let (done, all) = (survey.count(Standing::Done), survey.units().count());
        return Err(Error::Usage(format!(
            "{done} of {all} units of {} are trained: `ccdni sweep {} --outputs {}` trains the rest",
            file.display(),
            file.display(),
            outputs.display()
        )));
    }
    let run = |run: &SweptRun| FinishedRun {
        path: Directory::of(outputs, &run.resolved.hash).path,
        seeds: run.resolved.spec.seeds.0.clone(),
    };
    Ok(sweep.runs.iter().map(run).collect())
}

/// The run of a sweep that a list calls so, and that has these values where several are called so: its place.
pub fn named(sweep: &Sweep, name: &str, at: &BTreeMap<String, serde_json::Value>) -> Result<usize> {
    let called = |run: &SweptRun| run.item.as_deref() == Some(name);
    let all: Vec<usize> = (0..sweep.runs.len()).filter(|&place| called(&sweep.runs[place])).collect();
    let shows = |run: &SweptRun, path: &String, value: &serde_json::Value| {
        let shown = run.values.iter().find(|(of, _)| of == path).map(|(_, shown)| shown.as_str());
        shown == value.as_str().or(Some(value.to_string().as_str()))
    };
    let fits = |place: &&usize| at.iter().all(|(path, value)| shows(&sweep.runs[**place], path, value));
    // A run that is alone with its name is meant whatever its values are: it stands beside those of a grid.
    let meant: Vec<&usize> = if all.len() > 1 { all.iter().filter(fits).collect() } else { all.iter().collect() };
    let values: Vec<String> = at.iter().map(|(path, value)| format!("{path}={value}")).collect();
    let values = if values.is_empty() { String::new() } else { format!(" at {}", values.join(", ")) };
    match (meant.as_slice(), all.len()) {
        ([place], _) => Ok(**place),
        ([], 0) => Err(Error::Usage(format!("`claims` name `{name}`, which no run of a list is called"))),
        ([], _) => {
            Err(Error::Usage(format!("`claims` name `{name}`{values}, but no run of that name has these values")))
        }
        (several, _) => Err(Error::Usage(format!(
            "`claims` name `{name}`{values}, which {} runs are; say which one, such as `at: {{train.bptt: 1}}`",
            several.len()
        ))),
    }
}
