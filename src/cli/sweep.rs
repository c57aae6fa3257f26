//! `ccdni sweep`: trains the runs of a file that are missing.

use std::path::{Path, PathBuf};

use super::plot;
use super::spec_args::{SpecArgs, TrainArgs, resume_line};
use crate::error::{Error, Result};
use crate::run::cluster::queue::Queue;
use crate::run::cluster::slurm::{self, Array};
use crate::run::interrupt::Stop;
use crate::run::progress::{eprint_line, print_line};
use crate::run::status::{Retry, Standing};
use crate::run::survey::Survey;
use crate::run::worker::program;
use crate::run::{Options, Place, Schedule, clock};
use crate::spec::sweep::{Sweep, expand};
use crate::spec::{Count, LauncherKind, Request};
use crate::tasks::Registry;

/// Train what is missing of all the runs that a file says.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni sweep experiments/paper/fig2.yaml --dry-run
  ccdni sweep experiments/linedraw_dni.yaml --grid 'train.bptt=[1, 2, 5]' --seeds 1..5 --jobs 2
  ccdni sweep experiments/paper/fig2.yaml --status
  ccdni sweep experiments/paper/fig2.yaml --launcher slurm --dry-run

Run it again after anything: only what is missing is trained. docs/sweeps.md says how a file says
its runs, and what a cluster is asked for.")]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// All combinations with these values: a dotted path and a list; may be repeated. Replaces what the file's grids
    /// say of that path.
    #[arg(long, value_name = "PATH=[VALUES]")]
    grid: Vec<String>,
    #[command(flatten)]
    train: TrainArgs,
    /// Where to train, instead of what the file's `launcher` block says.
    #[arg(long, value_enum, value_name = "WHERE")]
    launcher: Option<Launcher>,
    /// Show all runs, how they stand and how long the rest may take, and the script for a cluster; train nothing.
    #[arg(long, conflicts_with_all = ["status", "retry_failed", "fail_fast"])]
    dry_run: bool,
    /// Show how every unit stands, who trains it and why it failed; train nothing.
    #[arg(long, conflicts_with_all = ["retry_failed", "fail_fast"])]
    status: bool,
    /// Try units again that failed.
    #[arg(long)]
    retry_failed: bool,
    /// Stop at the first unit that fails; what is being trained stops after writing a checkpoint.
    #[arg(long)]
    fail_fast: bool,
    /// A task of a cluster's array: what is left when its time is up goes back into the queue.
    #[arg(long, hide = true)]
    array_task: bool,
    /// Try units again that failed at this time or before, so that of many tasks one tries.
    #[arg(long, hide = true, value_name = "TIME")]
    failed_before: Option<String>,
}

/// Where units are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Launcher {
    /// Worker processes of this machine.
    Local,
    /// A job array of a SLURM cluster.
    Slurm,
}

/// Trains, prints or submits what is missing of a sweep.
pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let request = args.spec.request();
    let mut sweep = expand(&request, &args.grid, registry)?;
    args.train.apply(&mut sweep);
    if args.status {
        return status(&sweep, &args);
    }
    let on_cluster = match args.launcher {
        Some(launcher) => launcher == Launcher::Slurm,
        None => sweep.launcher.kind == LauncherKind::Slurm,
    };
    let place = match (args.array_task, on_cluster) {
        (true, _) => Place::Task,
        (false, true) => Place::Elsewhere,
        (false, false) => Place::Here,
    };
    if place == Place::Elsewhere && !args.dry_run {
        slurm::find()?;
    }
    let failed_before = args.failed_before.clone().or_else(|| args.retry_failed.then(clock::now));
    let options = Options {
        outputs: args.train.outputs.clone(),
        retry: failed_before.map_or(Retry::Never, Retry::FailedBefore),
        fail_fast: args.fail_fast,
        verbose: args.train.verbose,
        resume: resume_line(&request),
        advice: "`--status` shows all that have failed; `--retry-failed` tries them again",
        place,
        ..Options::default()
    };
    let schedule = Schedule::check(&sweep, &options, registry)?;
    if args.dry_run || place == Place::Elsewhere {
        let survey = schedule.survey();
        let missing = survey.missing(&options.retry).len();
        let array = (place == Place::Elsewhere && missing > 0)
            .then(|| array(&sweep, &args, &request, &options, missing))
            .transpose()?;
        match array {
            array if args.dry_run => return dry_run(&sweep, &survey, array.as_ref()),
            Some(array) => return submit(&survey, &args.train.outputs, &array, missing),
            None => {}
        }
    }
    let survey = match schedule.train() {
        Err(Error::Interrupted) if place == Place::Task && Stop::out_of_time() => {
            eprint_line("the time is nearly up: back into the queue");
            return slurm::requeue();
        }
        trained => trained?,
    };
    if sweep.figure.is_some() && survey.is_done() {
        let file = &args.spec.spec;
        let out = args.train.outputs.join("plots").join(plot::stem(file));
        super::print(&format!("\n{}", plot::draw_file(file, &sweep, &out, &args.train.outputs, registry)?))?;
    }
    Ok(())
}

/// Submits the array, and prints its job id.
fn submit(survey: &Survey, outputs: &Path, array: &Array, missing: usize) -> Result<()> {
    print_line(&format!("{}\n{}", survey.table(), survey.counts()));
    let arrays = slurm::arrays(outputs, &array.file);
    let queue = Queue::of(&arrays);
    if queue.is_busy() == Some(true) {
        for line in queue.lines(&arrays) {
            eprint_line(&format!("note: {line}; tasks of both arrays share the units"));
        }
    }
    let job = array.submit(outputs)?;
    let folder = slurm::folder(outputs);
    print_line(&format!("submitted job {job}: {} tasks for {missing} units", array.tasks));
    print_line(&format!("script and logs are in {}; `--status` shows how it goes", folder.display()));
    Ok(())
}

/// The array that trains so many missing units: each task is this very command again, wherever it is started.
fn array<'a>(sweep: &'a Sweep, args: &Args, request: &Request, options: &Options, missing: usize) -> Result<Array<'a>> {
    let launcher = &sweep.launcher;
    let run = sweep.runs.first().map(|run| &run.resolved.spec.run);
    // What `auto` means would be found from the whole node, of which the task has only a part.
    let jobs = match run {
        Some(run) if run.jobs == Count::Auto && launcher.gpus.is_none() => match run.threads {
            Count::Number(threads) => Some((launcher.cpus / threads).max(1)),
            Count::Auto => Some(launcher.cpus.max(1)),
        },
        _ => None,
    };
    let at_once = match run.map(|run| run.jobs) {
        Some(Count::Number(count)) => count,
        _ => jobs.unwrap_or(1),
    };
    let program = program()?;
    let file = absolute(&args.spec.spec)?;
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut command = vec![text(&program), "sweep".into(), text(&file)];
    let mut flag = |name: &str, value: String| command.extend([format!("--{name}"), value]);
    args.spec.set.iter().for_each(|set| flag("set", set.clone()));
    if run.is_some_and(|run| run.threads == Count::Auto) {
        flag("set", format!("run.threads={}", (launcher.cpus / at_once.min(missing).max(1)).max(1)));
    }
    args.grid.iter().for_each(|grid| flag("grid", grid.clone()));
    args.train.seeds.iter().for_each(|seeds| flag("seeds", seeds.to_string()));
    match (args.train.jobs, jobs) {
        (_, Some(jobs)) => flag("jobs", jobs.to_string()),
        (Some(Count::Number(count)), None) => flag("jobs", count.to_string()),
        (Some(Count::Auto), None) => flag("jobs", "auto".into()),
        (None, None) => {}
    }
    flag("outputs", text(&absolute(&args.train.outputs)?));
    flag("launcher", "local".into());
    if let Retry::FailedBefore(time) = &options.retry {
        flag("failed-before", time.clone());
    }
    command.push("--array-task".into());
    command.extend(args.fail_fast.then(|| "--fail-fast".into()));
    command.extend(args.train.verbose.then(|| "--verbose".into()));
    command.extend(args.train.tensorboard.then(|| "--tensorboard".into()));
    Ok(Array {
        launcher,
        file,
        tasks: launcher.tasks.min(missing.div_ceil(at_once.max(1))),
        directory: std::env::current_dir().map_err(Error::io("find", Path::new("the working directory")))?,
        variables: request.env.clone(),
        command,
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io("find", path))
}

fn dry_run(sweep: &Sweep, survey: &Survey, array: Option<&Array>) -> Result<()> {
    let mut text = format!("{}\n{}\n", survey.table(), survey.counts());
    if sweep.combinations > sweep.runs.len() {
        let (said, runs) = (sweep.combinations, sweep.runs.len());
        text += &format!("{said} combinations are {runs} runs: some of them say the same\n");
    }
    text += &match survey.left() {
        Some(0.0) => "nothing is left to train\n".into(),
        Some(seconds) => format!("about {} of one worker's time left, by what has run\n", clock::seconds(seconds)),
        None => "no unit is done yet that times could be estimated from\n".into(),
    };
    text.extend(array.map(|array| format!("\n{}", array.script())));
    super::print(&text)
}

fn status(sweep: &Sweep, args: &Args) -> Result<()> {
    let survey = Survey::of(sweep, &args.train.outputs);
    let arrays = slurm::arrays(&args.train.outputs, &absolute(&args.spec.spec)?);
    let queue = Queue::of(&arrays);
    let mut text = format!("{}\n{}\n", survey.table(), survey.counts());
    for (what, lines) in
        [("running", survey.holders(&queue)), ("failed", survey.failures()), ("cluster", queue.lines(&arrays))]
    {
        text.extend(lines.iter().map(|line| format!("{what}: {line}\n")));
    }
    if let Some(seconds) = survey.left().filter(|seconds| *seconds > 0.0) {
        text += &format!("about {} of one worker's time left\n", clock::seconds(seconds));
    }
    if queue.is_busy() == Some(false) && survey.count(Standing::Waiting) > 0 {
        text += "no task is queued any more: the same command without `--status` submits what is left\n";
    }
    if survey.count(Standing::Failed) > 0 {
        text += "`--retry-failed` tries again what has failed\n";
    }
    super::print(&text)
}
