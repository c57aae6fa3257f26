//! The arguments of every command that reads a spec.

use std::path::PathBuf;

use crate::shell::quote;
use crate::spec::sweep::Sweep;
use crate::spec::{Count, ENV_PREFIX, Request, Seeds};

/// A spec file and its overrides.
#[derive(Debug, clap::Args)]
pub struct SpecArgs {
    /// The spec: a YAML file such as `experiments/linedraw_dni.yaml`.
    #[arg(value_name = "SPEC")]
    pub spec: PathBuf,
    /// Override a value of the spec: a dotted path and a YAML value; may be repeated, later ones win.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

impl SpecArgs {
    /// The request with these arguments and the environment.
    pub fn request(&self) -> Request {
        // Other variables may not be valid UTF-8.
        let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(ENV_PREFIX))?;
            Some((name, value.to_string_lossy().into_owned()))
        };
        Request { file: self.spec.clone(), set: self.set.clone(), env: std::env::vars_os().filter_map(ours).collect() }
    }
}

/// Which units are trained, how many at a time, and where the results go.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    /// Seeds to train instead of the file's: `3`, `1,2,7`, or `1..10` with both ends.
    #[arg(long, value_name = "SEEDS")]
    pub seeds: Option<Seeds>,
    /// Units trained at the same time: `auto` (as many as cores) or a number.
    #[arg(long, value_name = "N")]
    pub jobs: Option<Count>,
    /// Directory of the run directories.
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    pub outputs: PathBuf,
    /// Print a line about every epoch of every seed.
    #[arg(long)]
    pub verbose: bool,
    /// Write event files for TensorBoard: `tensorboard --logdir outputs` shows them, while training too.
    #[arg(long)]
    pub tensorboard: bool,
}

impl TrainArgs {
    /// Applies these to every run.
    pub fn apply(&self, sweep: &mut Sweep) {
        for run in &mut sweep.runs {
            let spec = &mut run.resolved.spec;
            spec.seeds = self.seeds.clone().unwrap_or_else(|| spec.seeds.clone());
            spec.run.jobs = self.jobs.unwrap_or(spec.run.jobs);
            spec.run.tensorboard |= self.tensorboard;
        }
    }
}

/// The shell command that started this process, for resuming after an interruption.
pub fn resume_line(request: &Request) -> String {
    resume(std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()), &request.env)
}

/// Omits `--force`: the new run that it started is resumed.
fn resume(arguments: impl Iterator<Item = String>, env: &[(String, String)]) -> String {
    env.iter()
        .map(|(name, value)| format!("{name}={}", quote(value)))
        .chain(arguments.filter(|argument| argument != "--force").map(|argument| quote(&argument)))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_resumes_survives_a_shell_and_forces_nothing() {
        let arguments = ["ccdni", "run", "my spec.yaml", "--force", "--set", "seeds=[1, 2]"].map(String::from);
        let env = [("CCDNI__NAME".to_string(), "it's".to_string())];
        assert_eq!(
            resume(arguments.into_iter(), &env),
            r"CCDNI__NAME='it'\''s' ccdni run 'my spec.yaml' --set 'seeds=[1, 2]'"
        );
    }
}
