//! `ccdni report`: an HTML report of runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::spec_args::SpecArgs;
use super::{plot, which_runs};
use crate::error::{Error, Result};
use crate::report::compare::{Comparison, FinishedRun, Options, Verdict, judge};
use crate::report::page::{self, Page};
use crate::run::clock;
use crate::run::directory::{self, Directory};
use crate::run::status::{SeedStatus, Standing};
use crate::shell::quote;
use crate::spec::sweep::{Sweep, expand};
use crate::spec::{Claim, Spec, read_resolved};
use crate::tasks::Registry;

/// Write one page of HTML about runs: figure, results, claims, provenance, and the commands that reproduce them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni report experiments/paper/fig2.yaml -o fig2.html
  ccdni report 3f9a 5c11 -o two_runs.html

The page is one file that loads nothing; its curves need JavaScript. Units that are not trained yet are listed in it.")]
pub struct Args {
    /// The runs: first digits of their hashes, or their directories; or one spec file, for all of its runs.
    #[arg(value_name = "RUN|FILE", required = true)]
    runs: Vec<String>,
    /// The page to write; by default reports/ and the name of the file or run, in the directory of the run directories.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let (page, name) = match which_runs::file_of(&args.runs) {
        Some(file) => (of_file(file, &args, registry)?, plot::stem(file)),
        None => of_runs(&args, registry)?,
    };
    let out = args.out.unwrap_or_else(|| args.outputs.join("reports").join(format!("{name}.html")));
    super::write_out("--out", &out, page.html()?.as_bytes())?;
    let lacks = page.runs.iter().flat_map(|run| &run.units).filter(|unit| !unit.done).count();
    let note = if lacks == 0 { String::new() } else { format!("note: {lacks} units are not trained yet\n") };
    super::print(&format!("{}\n{note}", out.display()))
}

/// All runs of a file, trained or not.
fn of_file(file: &Path, args: &Args, registry: &Registry) -> Result<Page> {
    let request = SpecArgs { spec: file.to_path_buf(), set: Vec::new() }.request();
    let sweep = expand(&request, &[], registry)?;
    let of = |run: &crate::spec::sweep::SweptRun| {
        let directory = Directory::of(&args.outputs, &run.resolved.hash);
        reported(&directory, run.item.clone(), run.resolved.spec.clone(), &run.resolved.spec.seeds.0)
    };
    let runs: Vec<page::ReportedRun> = sweep.runs.iter().map(of).collect();
    let done: Vec<FinishedRun> = runs.iter().map(done).collect();
    let any = done.iter().any(|run| !run.seeds.is_empty());
    let figure = match any {
        true => drawn(plot::of_done(&sweep, done.clone(), registry))?,
        false => Err("no unit is trained yet".into()),
    };
    let mut commands = Vec::new();
    for (what, flags) in
        [("sweep", Vec::new()), ("report", args.out.iter().map(|out| ("--out", out.as_path())).collect())]
    {
        commands.push(command(what, &[&file.to_string_lossy()], &args.outputs, &flags));
    }
    let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
    Ok(Page {
        title: plot::stem(file),
        written: clock::now(),
        figure: Some(figure),
        verdicts: verdicts(&sweep, &runs, &done, registry)?,
        runs,
        commands,
        file: Some((file.display().to_string(), text)),
    })
}

/// The named runs with all seeds ever requested, and a name for the page.
fn of_runs(args: &Args, registry: &Registry) -> Result<(Page, String)> {
    let mut runs: Vec<page::ReportedRun> = Vec::new();
    let mut commands = Vec::new();
    for name in &args.runs {
        let directory = directory::locate(&args.outputs, name)?;
        let hash = directory.hash();
        if runs.iter().any(|run| run.hash == hash) {
            return Err(Error::Usage(format!("the run {hash} is named twice")));
        }
        let seeds = directory.seeds(&directory.manifest()?)?;
        seeds.iter().try_for_each(|&seed| directory.unit(seed).check_trained_here())?;
        let outputs = directory.path.parent().unwrap_or(Path::new("."));
        let flags = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        commands.push(command(
            "run",
            &[&directory.spec_path().to_string_lossy()],
            outputs,
            &[("--seeds", Path::new(&flags))],
        ));
        runs.push(reported(&directory, None, read_resolved(&directory.spec_path())?, &seeds));
    }
    let names: Vec<&str> = args.runs.iter().map(String::as_str).collect();
    let flags: Vec<(&str, &Path)> = args.out.iter().map(|out| ("--out", out.as_path())).collect();
    commands.push(command("report", &names, &args.outputs, &flags));
    let done: Vec<FinishedRun> = runs.iter().map(done).filter(|run| !run.seeds.is_empty()).collect();
    let figure = match done.is_empty() {
        false => drawn(Comparison::new(&done, &Options::default(), registry))?,
        true => Err("no unit is trained yet".into()),
    };
    let (title, name) = match runs.as_slice() {
        [run] => (run.spec.name.clone().unwrap_or_else(|| run.hash.clone()), run.hash.clone()),
        several => (format!("{} runs", several.len()), "comparison".into()),
    };
    let page =
        Page { title, written: clock::now(), figure: Some(figure), verdicts: Vec::new(), runs, commands, file: None };
    Ok((page, name))
}

/// A run with the status of its units.
fn reported(directory: &Directory, item: Option<String>, spec: Spec, seeds: &[u64]) -> page::ReportedRun {
    let unit = |&seed: &u64| {
        let SeedStatus { standing, reason, .. } = SeedStatus::of(directory, seed);
        page::ReportedSeed { seed, done: standing == Standing::Done, standing: standing.to_string(), reason }
    };
    page::ReportedRun {
        hash: directory.hash(),
        path: directory.path.clone(),
        item,
        spec,
        units: seeds.iter().map(unit).collect(),
    }
}

/// The finished seeds of a run.
fn done(run: &page::ReportedRun) -> FinishedRun {
    let seeds = run.units.iter().filter(|unit| unit.done).map(|unit| unit.seed).collect();
    FinishedRun { path: run.path.clone(), seeds }
}

/// A figure, or why these runs have no common one; a damaged file is an error.
fn drawn(comparison: Result<Comparison>) -> Result<std::result::Result<String, String>> {
    match comparison {
        Ok(comparison) => comparison.svg().map(Ok),
        Err(Error::Usage(why)) => Ok(Err(why)),
        Err(error) => Err(error),
    }
}

/// The verdicts on the claims of which every seed of their runs is trained.
fn verdicts(
    sweep: &Sweep,
    runs: &[page::ReportedRun],
    done: &[FinishedRun],
    registry: &Registry,
) -> Result<Vec<Verdict>> {
    let open = |claim: &Claim| -> Result<Option<String>> {
        let (names, at) = claim.runs();
        for name in &names {
            let run = &runs[which_runs::named(sweep, name, at)?];
            let trained = run.units.iter().filter(|unit| unit.done).count();
            if trained < run.units.len() {
                let all = run.units.len();
                return Ok(Some(format!("not yet asked: {trained} of {all} seeds of {name} are trained")));
            }
        }
        Ok(None)
    };
    let find = |name: &str, at: &BTreeMap<String, serde_json::Value>| -> Result<FinishedRun> {
        Ok(done[which_runs::named(sweep, name, at)?].clone())
    };
    judge(&sweep.claims, &find, &open, false, registry)
}

/// A shell command of this program; the default output directory is omitted.
fn command(what: &str, arguments: &[&str], outputs: &Path, flags: &[(&str, &Path)]) -> String {
    let mut words = vec!["ccdni".to_owned(), what.into()];
    words.extend(arguments.iter().map(|word| quote(word)));
    if outputs != Path::new("outputs") {
        words.extend(["--outputs".into(), quote(&outputs.to_string_lossy())]);
    }
    words.extend(flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), quote(&value.to_string_lossy())]));
    words.join(" ")
}
