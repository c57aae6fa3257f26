//! Selecting finished runs: by name, or those of a spec file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::spec_args::SpecArgs;
use crate::error::{Error, Result};
use crate::report::compare::FinishedRun;
use crate::run::directory::{self, Directory};
use crate::run::finished::Finished;
use crate::run::status::Standing;
use crate::run::survey::Survey;
use crate::shell::quote;
use crate::spec::Seeds;
use crate::spec::sweep::{Sweep, SweptRun, expand, expand_quick};
use crate::tasks::Registry;

/// Finished runs, and notes to print.
pub struct Runs {
    pub runs: Vec<FinishedRun>,
    pub notes: String,
    /// The spec file and its sweep, if one was named.
    pub file: Option<(PathBuf, Sweep)>,
}

/// The spec file, if it is the only name.
pub fn file_of(names: &[String]) -> Option<&Path> {
    match names {
        [name] if name.ends_with(".yaml") || name.ends_with(".yml") => Some(Path::new(name)),
        _ => None,
    }
}

/// The runs of these names with all their finished seeds (or with `seeds`), or all runs of one spec file, or of its `quick`
/// version, with exactly its seeds.
pub fn find(names: &[String], quick: bool, seeds: Option<&Seeds>, outputs: &Path, registry: &Registry) -> Result<Runs> {
    if let Some(file) = file_of(names) {
        let request = SpecArgs { spec: file.to_path_buf(), set: Vec::new() }.request();
        let mut sweep = if quick { expand_quick(&request, registry)? } else { expand(&request, &[], registry)? };
        if let Some(seeds) = seeds {
            sweep.runs.iter_mut().for_each(|run| run.resolved.spec.seeds = seeds.clone());
        }
        let runs = of_version(&sweep, file, quick, seeds, outputs)?;
        return Ok(Runs { runs, notes: String::new(), file: Some((file.to_path_buf(), sweep)) });
    }
    if quick {
        return Err(Error::Usage("--quick stands for the `quick` block of a spec file; name one, and no runs".into()));
    }
    let mut found = Runs { runs: Vec::new(), notes: String::new(), file: None };
    for name in names {
        let (run, note) = one(name, seeds, outputs)?;
        found.runs.push(run);
        found.notes.extend(note);
    }
    Ok(found)
}

/// One run, and a note on missing seeds.
pub fn one(name: &str, seeds: Option<&Seeds>, outputs: &Path) -> Result<(FinishedRun, Option<String>)> {
    let run = directory::locate(outputs, name)?;
    let finished = Finished::of(&run, seeds)?;
    let note = finished.note(&run).map(|note| format!("note: {note}\n"));
    let Directory { path } = run;
    Ok((FinishedRun { path, seeds: finished.seeds }, note))
}

/// The runs of a sweep, all of whose units must be finished.
pub fn of_sweep(sweep: &Sweep, file: &Path, outputs: &Path) -> Result<Vec<FinishedRun>> {
    of_version(sweep, file, false, None, outputs)
}

/// As [`of_sweep`], for a sweep of the `quick` version of `file` or of other `seeds`, which the error names.
fn of_version(
    sweep: &Sweep,
    file: &Path,
    quick: bool,
    seeds: Option<&Seeds>,
    outputs: &Path,
) -> Result<Vec<FinishedRun>> {
    let survey = Survey::of(sweep, outputs);
    if !survey.is_done() {
        let (done, failed, all) =
            (survey.count(Standing::Done), survey.count(Standing::Failed), survey.units().count());
        let [file, outputs] = [file, outputs].map(|path| quote(&path.to_string_lossy()));
        let mut command = if quick { format!("reproduce {file} --quick") } else { format!("sweep {file}") };
        // `reproduce` retries in any case.
        command += if failed > 0 && !quick { " --retry-failed" } else { "" };
        command += &seeds.filter(|_| !quick).map_or_else(String::new, |seeds| format!(" --seeds {seeds}"));
        let failed = if failed > 0 { format!(" ({failed} failed)") } else { String::new() };
        return Err(Error::Usage(format!(
            "{done} of {all} units of {file} are trained{failed}: `ccdni {command} --outputs {outputs}` trains the rest"
        )));
    }
    let run = |run: &SweptRun| FinishedRun {
        path: Directory::of(outputs, &run.resolved.hash).path,
        seeds: run.resolved.spec.seeds.0.clone(),
    };
    Ok(sweep.runs.iter().map(run).collect())
}

/// The index of a sweep's run with this name in a list; `at` selects one of several with the name.
pub fn named(sweep: &Sweep, name: &str, at: &BTreeMap<String, serde_json::Value>) -> Result<usize> {
    let called = |run: &SweptRun| run.item.as_deref() == Some(name);
    let all: Vec<usize> = (0..sweep.runs.len()).filter(|&place| called(&sweep.runs[place])).collect();
    let shows = |run: &SweptRun, path: &String, value: &serde_json::Value| {
        let shown = run.values.iter().find(|(of, _)| of == path).map(|(_, shown)| shown.as_str());
        shown == value.as_str().or(Some(value.to_string().as_str()))
    };
    let fits = |place: &&usize| at.iter().all(|(path, value)| shows(&sweep.runs[**place], path, value));
    // `at` does not apply to a run with a unique name, such as one beside those of a grid.
    let meant: Vec<&usize> = if all.len() > 1 { all.iter().filter(fits).collect() } else { all.iter().collect() };
    let values: Vec<String> = at.iter().map(|(path, value)| format!("{path}={value}")).collect();
    let values = if values.is_empty() { String::new() } else { format!(" at {}", values.join(", ")) };
    match (meant.as_slice(), all.len()) {
        ([place], _) => Ok(**place),
        ([], 0) => Err(Error::Usage(format!("`claims` name `{name}`, which is not the name of a run in a list"))),
        ([], _) => {
            Err(Error::Usage(format!("`claims` name `{name}`{values}, but no run of that name has these values")))
        }
        (several, _) => Err(Error::Usage(format!(
            "`claims` name `{name}`{values}, which {} runs are; select one, such as `at: {{train.bptt: 1}}`",
            several.len()
        ))),
    }
}
