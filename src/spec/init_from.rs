//! Resolving `train.init_from` to the hash of a run.

use super::{InitFrom, Plugins, Request, resolve_within};
use crate::error::{Error, Problem};
use crate::files::at_home;

/// Longest chain of runs that start from one another; beyond it, the chain is taken for a cycle.
const LONGEST_CHAIN: usize = 32;

/// The hash of the run that `init_from` names, computed from the spec in its directory, not from the directory's name.
pub(super) fn run_hash(from: &InitFrom, plugins: &dyn Plugins, depth: usize) -> Result<String, Problem> {
    let (key, run, seed) = match from {
        InitFrom::Run(run) => ("train.init_from", run, None),
        InitFrom::Seed(named) => ("train.init_from.run", &named.run, Some(named.seed)),
    };
    let directory = at_home(run);
    let refuse = |message: String, help: &str| Err(Problem::new(key, message).help(help));
    if !directory.is_dir() {
        let help = "name a finished run, relative to the working directory: `outputs/<hash>` (`ccdni list` shows them)";
        return refuse("there is no such directory".into(), help);
    }
    let file = directory.join("spec.yaml");
    if !file.is_file() {
        return refuse(
            "this is no run: it holds no `spec.yaml`".into(),
            "name the directory of a finished run: `outputs/<hash>`",
        );
    }
    if let Some(seed) = seed
        && !directory.join("seeds").join(seed.to_string()).is_dir()
    {
        let problem = Problem::new("train.init_from.seed", "the run holds no such seed");
        return Err(problem.help(format!("`ccdni show` lists the seeds of a run; this one is {}", directory.display())));
    }
    if depth >= LONGEST_CHAIN {
        return refuse("runs start from one another in a circle".into(), "name a run that started from fresh weights");
    }
    match resolve_within(&Request { file, ..Request::default() }, plugins, depth + 1) {
        Ok(resolved) => Ok(resolved.hash),
        Err(Error::Spec(problems)) => {
            let first = problems.0.first().map(ToString::to_string).unwrap_or_default();
            refuse(
                format!("the run's `spec.yaml` is not valid here: {first}"),
                "was it made by another version or program?",
            )
        }
        Err(error) => refuse(error.to_string(), "name the directory of a finished run"),
    }
}
