//! `ccdni reproduce`: reproducing a paper's figure and checking its claims.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::spec_args::{SpecArgs, resume_line};
use super::{plot, which_runs};
use crate::error::{Error, Result};
use crate::report::compare::{FinishedRun, Outcome, Verdict, judge};
use crate::run::progress::print_line;
use crate::run::status::Retry;
use crate::run::table::align;
use crate::run::{Options, Schedule};
use crate::spec::sweep::{expand, expand_quick};
use crate::spec::{Jobs, nearest};
use crate::tasks::Registry;

/// Train the missing runs of a paper's figure, draw it, and check the paper's claims.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni reproduce fig2
  ccdni reproduce fig2 --quick
  ccdni reproduce my/figure.yaml --jobs 4

The exit code is 0 where all claims hold, and 1 where one does not. \"n.s.\" is a claim that holds, but
with so few seeds or so much noise that chance would do, too.")]
pub struct Args {
    /// A file in experiments/paper/ without its extension, or any spec file with `claims`.
    #[arg(value_name = "FIGURE|FILE")]
    figure: String,
    /// Run the small version of the file's `quick` block: seconds instead of minutes, fewer claims.
    #[arg(long)]
    quick: bool,
    /// Units trained at the same time: `auto` (as many as cores) or a number.
    #[arg(long, value_name = "N")]
    jobs: Option<Jobs>,
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
    let file = file(&args.figure)?;
    let request = SpecArgs { spec: file.clone(), set: Vec::new() }.request();
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
        let run = &mut run.resolved.spec.run;
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
    let verdicts: Vec<Verdict> =
        sweep.claims.iter().map(|claim| judge(claim, &find, args.quick, registry)).collect::<Result<_>>()?;
    if sweep.figure.is_some() {
        let name = plot::stem(&file) + if args.quick { "_quick" } else { "" };
        let drawn = plot::draw_file(&file, &sweep, &args.outputs.join("plots").join(name), &args.outputs, registry)?;
        print_line(&format!("\n{}", drawn.trim_end()));
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

fn file(name: &str) -> Result<PathBuf> {
    if name.ends_with(".yaml") || name.ends_with(".yml") {
        return Ok(name.into());
    }
    let file = Path::new(FIGURES).join(format!("{name}.yaml"));
    if file.is_file() {
        return Ok(file);
    }
    let names: Vec<String> = std::fs::read_dir(FIGURES)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .collect();
    let help = match nearest(name, names.iter().map(String::as_str)) {
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
