//! `ccdni reproduce`: reproducing a paper's figure and checking its claims.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::spec_args::{SpecArgs, resume_line};
use super::{plot, which_runs};
use crate::error::{Error, Result};
use crate::report::analysis;
use crate::report::compare::{FinishedRun, Outcome, Verdict, judge};
use crate::run::clock;
use crate::run::progress::print_line;
use crate::run::status::{Retry, Standing};
use crate::run::survey::Survey;
use crate::run::table::align;
use crate::run::{Options, Schedule};
use crate::spec::sweep::{expand, expand_quick};
use crate::spec::{Count, Seeds, nearest};
use crate::tasks::Registry;

/// Train the missing runs of a paper's figure, draw it, and check the paper's claims.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni reproduce fig2
  ccdni reproduce fig2 --quick
  ccdni reproduce my/figure.yaml --jobs 4
  ccdni reproduce nc3_lines --set 'task.source={kind: idx, dir: datasets/mnist}'
  ccdni reproduce --list

The exit code is 0 where all claims hold, and 1 where one does not. \"n.s.\" is a claim that holds, but
with so few seeds or so much noise that chance would do, too.")]
pub struct Args {
    /// A file in experiments/paper/ without its extension, or any spec file with `claims`.
    #[arg(value_name = "FIGURE|FILE", required_unless_present = "list")]
    figure: Option<String>,
    /// List the papers' figures: file, runs, seeds, units that are trained, and the time that the rest takes here.
    #[arg(long, conflicts_with_all = ["figure", "quick", "set", "seeds"])]
    list: bool,
    /// Override a value of all runs: a dotted path and a YAML value; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Seeds to train and test instead of the file's: `3`, `1,2,7`, or `1..10` with both ends.
    #[arg(long, value_name = "SEEDS", conflicts_with = "quick")]
    seeds: Option<Seeds>,
    /// Run the small version of the file's `quick` block: seconds instead of minutes, fewer claims.
    #[arg(long)]
    quick: bool,
    /// Units trained at the same time: `auto` (as many as cores) or a number.
    #[arg(long, value_name = "N")]
    jobs: Option<Count>,
    /// Write event files for TensorBoard: `tensorboard --logdir outputs` shows them, while training too.
    #[arg(long)]
    tensorboard: bool,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
}

/// Directory of the papers' figures, relative to the repository's root.
const FIGURES: &str = "experiments/paper";

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let Some(figure) = &args.figure else { return super::print(&list(&args.outputs, registry)?) };
    let file = file(figure)?;
    let request = SpecArgs { spec: file.clone(), set: args.set.clone() }.request();
    let mut sweep = if args.quick { expand_quick(&request, registry)? } else { expand(&request, &[], registry)? };
    if sweep.claims.is_empty() {
        let what = "claims nothing that could be checked; `ccdni sweep` trains it and `ccdni plot` draws it";
        return Err(Error::Usage(format!("{} {what}", file.display())));
    }
    // Report claims about unknown runs before hours of training.
    for claim in &sweep.claims {
        let (names, at) = claim.runs();
        names.into_iter().try_for_each(|name| which_runs::named(&sweep, name, at).map(drop))?;
    }
    for run in &mut sweep.runs {
        let spec = &mut run.resolved.spec;
        spec.seeds = args.seeds.clone().unwrap_or_else(|| spec.seeds.clone());
        let run = &mut spec.run;
        run.jobs = args.jobs.unwrap_or(run.jobs);
        run.tensorboard |= args.tensorboard;
    }
    let options = Options {
        outputs: args.outputs.clone(),
        retry: Retry::Always,
        resume: resume_line(&request),
        advice: "the same command tries them again",
        ..Options::default()
    };
    Schedule::check(&sweep, &options, registry)?.train()?;

    let runs = which_runs::of_sweep(&sweep, &file, &args.outputs)?;
    let find = |name: &str, at: &BTreeMap<String, serde_json::Value>| -> Result<FinishedRun> {
        Ok(runs[which_runs::named(&sweep, name, at)?].clone())
    };
    let verdicts = judge(&sweep.claims, &find, &|_| Ok(None), args.quick, registry)?;
    if sweep.figure.is_some() {
        let name = plot::stem(&file) + if args.quick { "_quick" } else { "" };
        let drawn = plot::draw_file(&file, &sweep, &args.outputs.join("plots").join(name), &args.outputs, registry)?;
        print_line(&format!("\n{}", drawn.trim_end()));
    }
    if sweep.figure.as_ref().is_some_and(|figure| figure.analyse) {
        for (swept, run) in sweep.runs.iter().zip(&runs) {
            let analysis = analysis::analyse(&run.path, &swept.resolved.spec, &run.seeds)?;
            let files = analysis.write(&run.path.join("analysis"))?;
            let files: String = files.iter().map(|file| format!("\n{}", file.display())).collect();
            print_line(&format!("\nanalysis of {}:{files}", swept.description()));
        }
    }
    print_line(&format!("\n{}", table(&verdicts).trim_end()));
    let count = |outcome: Outcome| verdicts.iter().filter(|verdict| verdict.outcome == outcome).count();
    match count(Outcome::NotSignificant) {
        0 => {}
        some => print_line(&format!(
            "n.s.: in {some} of {} the medians lie as claimed, but a paired test over these seeds does not distinguish that from chance",
            verdicts.len()
        )),
    }
    match count(Outcome::Fail) {
        0 => Ok(()),
        1 => Err(Error::Training("1 claim does not hold".into())),
        several => Err(Error::Training(format!("{several} claims do not hold"))),
    }
}

/// The names of the files in [`FIGURES`], without extension, sorted.
fn names() -> Vec<String> {
    let entries = std::fs::read_dir(FIGURES).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".yaml")?.to_owned())).collect();
    names.sort_unstable();
    names
}

/// Every figure with claims, and what of it is trained.
fn list(outputs: &Path, registry: &Registry) -> Result<String> {
    let header = ["figure", "about", "runs", "seeds", "trained", "time left"].map(String::from);
    let mut rows = Vec::new();
    for name in names() {
        let file = file(&name)?;
        let sweep = expand(&SpecArgs { spec: file.clone(), set: Vec::new() }.request(), &[], registry)?;
        let text = std::fs::read_to_string(&file).map_err(Error::io("read", &file))?;
        // A file that only has another's name would list the same runs twice.
        if sweep.claims.is_empty() || !text.contains("name:") {
            continue;
        }
        let survey = Survey::of(&sweep, outputs);
        let (done, all) = (survey.count(Standing::Done), survey.units().count());
        let left = survey.left().map_or_else(|| "-".into(), clock::seconds);
        let seeds = sweep.runs.iter().map(|run| run.resolved.spec.seeds.0.len()).max().unwrap_or(0).to_string();
        rows.push(vec![name, about(&text), sweep.runs.len().to_string(), seeds, format!("{done} of {all}"), left]);
    }
    if rows.is_empty() {
        let what = format!("there are no figures in {FIGURES}; change to the repository's root");
        return Err(Error::Usage(what));
    }
    let note = "Times are of one worker, and known once a unit of the figure is trained.";
    Ok(format!("{}\n{} figures in {FIGURES}. {note}\n", align(&header, &rows), rows.len()))
}

/// The figure that a file's comment begins with: the text up to its first colon.
fn about(text: &str) -> String {
    let comment = text.lines().skip(1).map(|line| line.trim_start_matches('#').trim()).find(|line| !line.is_empty());
    let comment = comment.unwrap_or_default();
    comment.split(':').next().unwrap_or(comment).to_owned()
}

fn file(name: &str) -> Result<PathBuf> {
    if name.ends_with(".yaml") || name.ends_with(".yml") {
        return Ok(name.into());
    }
    let file = Path::new(FIGURES).join(format!("{name}.yaml"));
    if file.is_file() {
        return Ok(file);
    }
    let help = match nearest(name, names().iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "change to the repository's root, or name a spec file".into(),
    };
    Err(Error::Usage(format!("there is no {}; {help}", file.display())))
}

fn table(verdicts: &[Verdict]) -> String {
    let header = ["", "claim", "numbers"].map(String::from);
    let row = |verdict: &Verdict| vec![verdict.outcome.to_string(), verdict.claim.clone(), verdict.numbers.clone()];
    align(&header, &verdicts.iter().map(row).collect::<Vec<_>>())
}
