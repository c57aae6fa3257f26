//! The command line: one file per command, each of which parses, calls and prints.

mod analyse;
mod caption_set;
mod check;
mod compare;
mod completions;
mod data;
mod diff;
mod evaluate;
mod explain;
mod export;
mod hash;
mod import;
mod list;
mod plot;
mod report;
mod reproduce;
mod run;
mod sample;
mod schema;
mod score;
mod show;
mod spec_args;
mod sweep;
mod table;
mod tasks;
mod view;
mod watch;
mod which_runs;
mod worker;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};
use crate::files::{at_home, write_atomically};
use crate::run::directory;
use crate::run::progress::eprint_line;
use crate::tasks::Registry;

/// Experiments with recurrent networks and decoupled neural interfaces (synthetic gradients).
#[derive(Parser)]
#[command(name = "ccdni", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
    Sweep(sweep::Args),
    Reproduce(reproduce::Args),
    Check(check::Args),
    Hash(hash::Args),
    List(list::Args),
    Show(show::Args),
    Tasks(tasks::Args),
    Explain(explain::Args),
    Plot(plot::Args),
    Compare(compare::Args),
    Diff(diff::Args),
    Table(table::Args),
    Report(report::Args),
    View(view::Args),
    Watch(watch::Args),
    Analyse(analyse::Args),
    Evaluate(evaluate::Args),
    Sample(sample::Args),
    CaptionSet(caption_set::Args),
    Export(export::Args),
    Import(import::Args),
    Data(data::Args),
    Score(score::Args),
    Schema(schema::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Worker(worker::Args),
}

/// What `ccdni` by itself prints where nothing was trained yet.
const FIRST_STEPS: &str = "There are no runs in outputs/ yet. Three commands to begin with:

  ccdni run experiments/linedraw_dni.yaml   train a small network with a synthesizer: a few seconds
  ccdni list                                list the runs and their results
  ccdni reproduce fig2 --quick              train the networks of a paper's figure, draw it, check its claims

`ccdni --help` lists all commands.";

/// Exit code where no command is given, as clap has it.
const NO_COMMAND: u8 = 2;

/// Parses and executes the command line, and reports errors on standard error.
pub fn main(registry: &Registry) -> ExitCode {
    let has_runs = || directory::all(Path::new("outputs")).is_ok_and(|runs| !runs.is_empty());
    if std::env::args_os().len() <= 1 && !has_runs() {
        eprint_line(FIRST_STEPS);
        if !Path::new("experiments").is_dir() {
            eprint_line("The specs in experiments/ are part of the repository: run these commands from its root.");
        }
        return ExitCode::from(NO_COMMAND);
    }
    let cli = Cli::parse_from(std::env::args_os().map(expand_home));
    let result = match cli.command {
        Command::Run(args) => run::execute(args, registry),
        Command::Sweep(args) => sweep::execute(args, registry),
        Command::Reproduce(args) => reproduce::execute(args, registry),
        Command::Check(args) => check::execute(args, registry),
        Command::Hash(args) => hash::execute(args, registry),
        Command::List(args) => list::execute(args),
        Command::Show(args) => show::execute(args),
        Command::Tasks(args) => tasks::execute(&args, registry),
        Command::Explain(args) => explain::execute(&args, registry),
        Command::Plot(args) => plot::execute(args, registry),
        Command::Compare(args) => compare::execute(args, registry),
        Command::Diff(args) => diff::execute(args, registry),
        Command::Table(args) => table::execute(args, registry),
        Command::Report(args) => report::execute(args, registry),
        Command::View(args) => view::execute(args, registry),
        Command::Watch(args) => watch::execute(args),
        Command::Analyse(args) => analyse::execute(args),
        Command::Evaluate(args) => evaluate::execute(args, registry),
        Command::Sample(args) => sample::execute(args, registry),
        Command::CaptionSet(args) => caption_set::execute(args, registry),
        Command::Export(args) => export::execute(args, registry),
        Command::Import(args) => import::execute(args, registry),
        Command::Data(args) => data::execute(args, registry),
        Command::Score(args) => score::execute(args),
        Command::Schema(args) => schema::execute(args, registry),
        Command::Completions(args) => completions::execute(args),
        Command::Worker(args) => worker::execute(args, registry),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The interrupted command has already printed how to resume.
        Err(error @ Error::Interrupted) => ExitCode::from(error.exit_code()),
        Err(error) => {
            // If this fails, the exit code still reports the error.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Expands `~/` where a shell does not: `--out=~/runs`. Values of `--set` are unchanged.
fn expand_home(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else { return argument };
    let (flag, path) = match text.split_once('=').filter(|(flag, _)| flag.starts_with("--")) {
        Some((flag, path)) => (format!("{flag}="), path),
        None => (String::new(), text),
    };
    match path.starts_with("~/") {
        true => [OsString::from(flag), at_home(path).into()].into_iter().collect(),
        false => argument,
    }
}

/// Writes a file that a flag names, whole or not at all; its directory is created if missing.
fn write_out(flag: &str, out: &Path, bytes: &[u8]) -> Result<()> {
    if out.is_dir() || out.file_name().is_none() {
        return Err(Error::Usage(format!("{flag} {}: is a directory; name a file in it", out.display())));
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), |folder| std::fs::create_dir_all(folder).map_err(Error::io("create the directory", folder)))?;
    write_atomically(out, bytes)
}

/// Prints on standard output. A closed pipe (`ccdni tasks | head -1`) is not an error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write to", Path::new("standard output"))(error))
        }
        _ => Ok(()),
    }
}
