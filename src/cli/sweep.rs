//! `ccdni sweep`: trains the runs of a file that are missing.

use std::path::PathBuf;

use super::plot;
use super::run::resume_line;
use super::spec_args::SpecArgs;
use crate::error::Result;
use crate::run::sweep::survey::Survey;
use crate::run::sweep::{self, Options};
use crate::run::{clock, table::Standing};
use crate::spec::sweep::{Sweep, expand};
use crate::spec::{Jobs, Seeds};
use crate::tasks::Registry;

/// Train what is missing of all the runs that a file says.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni sweep experiments/paper/fig2.yaml --dry-run
  ccdni sweep experiments/linedraw_dni.yaml --grid 'train.bptt=[1, 2, 5]' --seeds 1..5 --jobs 2
  ccdni sweep experiments/paper/fig2.yaml --status

Run it again after anything: only what is missing is trained. docs/sweeps.md says how a file says
its runs.")]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// All combinations with these values: a dotted path and a list; may be repeated. Replaces what the file's grids
    /// say of that path.
    #[arg(long, value_name = "PATH=[VALUES]")]
    grid: Vec<String>,
    /// Seeds of every run instead of the file's: `3`, `1,2,7`, or `1..10` with both ends.
    #[arg(long, value_name = "SEEDS")]
    seeds: Option<Seeds>,
    /// Units trained at the same time: `auto` (as many as cores) or a number.
    #[arg(long, value_name = "N")]
    jobs: Option<Jobs>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    outputs: PathBuf,
    /// Show all runs, how they stand and how long the rest may take; train nothing.
    #[arg(long, conflicts_with_all = ["status", "retry_failed", "fail_fast"])]
    dry_run: bool,
    /// Show how every unit stands, who trains it and why it failed; train nothing.
    #[arg(long, conflicts_with_all = ["retry_failed", "fail_fast"])]
    status: bool,
    /// Try units again that failed.
    #[arg(long)]
    retry_failed: bool,
    /// Stop at the first unit that fails; what is being trained stops behind a checkpoint.
    #[arg(long)]
    fail_fast: bool,
}

/// Does it.
pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let request = args.spec.request();
    let mut sweep = expand(&request, &args.grid, registry)?;
    for run in &mut sweep.runs {
        let spec = &mut run.resolved.spec;
        spec.seeds = args.seeds.clone().unwrap_or_else(|| spec.seeds.clone());
        spec.run.jobs = args.jobs.unwrap_or(spec.run.jobs);
    }
    if args.status {
        return status(&sweep, &args);
    }
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let options = Options {
        outputs: args.outputs.clone(),
        retry_failed: args.retry_failed,
        fail_fast: args.fail_fast,
        resume: resume_line(arguments, &request.env),
    };
    let checked = sweep::check(&sweep, &options, registry)?;
    if args.dry_run {
        return dry_run(&sweep, &args);
    }
    sweep::train(&checked, &options)?;
    if sweep.figure.is_some() && Survey::of(&sweep, &args.outputs).is_done() {
        let file = &args.spec.spec;
        let out = args.outputs.join("plots").join(plot::stem(file));
        super::print(&format!("\n{}", plot::draw_file(file, &sweep, &out, &args.outputs, registry)?))?;
    }
    Ok(())
}

fn dry_run(sweep: &Sweep, args: &Args) -> Result<()> {
    let survey = Survey::of(sweep, &args.outputs);
    let mut text = format!("{}\n{}\n", survey.table(sweep), survey.counts());
    if sweep.combinations > sweep.runs.len() {
        let (said, runs) = (sweep.combinations, sweep.runs.len());
        text += &format!("{said} combinations are {runs} runs: some of them say the same\n");
    }
    text += &match survey.left() {
        Some(0.0) => "nothing is left to train\n".into(),
        Some(seconds) => format!("about {} of one worker's time left, by what has run\n", clock::seconds(seconds)),
        None => "no unit is done yet that times could be estimated from\n".into(),
    };
    super::print(&text)
}

fn status(sweep: &Sweep, args: &Args) -> Result<()> {
    let survey = Survey::of(sweep, &args.outputs);
    let mut text = format!("{}\n{}\n", survey.table(sweep), survey.counts());
    for (what, lines) in [("running", survey.holders()), ("failed", survey.failures(usize::MAX))] {
        text.extend(lines.iter().map(|line| format!("{what}: {line}\n")));
    }
    if let Some(seconds) = survey.left().filter(|seconds| *seconds > 0.0) {
        text += &format!("about {} of one worker's time left\n", clock::seconds(seconds));
    }
    if survey.count(Standing::Failed) > 0 {
        text += "`--retry-failed` tries again what has failed\n";
    }
    super::print(&text)
}
