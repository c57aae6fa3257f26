//! Which address has what.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::commands::{self, Command};
use super::guard::Guard;
use super::http::{Body, Request, Response};
use super::index::{Change, Index};
use super::recordings::Measured;
use super::summary::Summary;
use super::{assets, compare, curves, files, run, sweep};
use crate::error::{Error, Result};
use crate::report::compare::differing_keys;
use crate::run::directory::Directory;
use crate::spec::sweep::Sweep;
use crate::tasks::Registry;

/// Longest time without an event, after which the connection is tested.
const SILENCE: Duration = Duration::from_secs(15);

/// Everything that is served.
pub struct Site<'a> {
    /// The runs.
    pub index: Index,
    /// Who may read.
    pub guard: Guard,
    /// Directory of the run directories.
    pub outputs: PathBuf,
    /// Spec files with their sweeps.
    pub sweeps: Vec<(PathBuf, Sweep)>,
    /// What was measured of recordings.
    pub measured: Measured,
    /// Plug-ins.
    pub registry: &'a Registry,
}

impl Site<'_> {
    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Response {
        if let Some(refusal) = self.guard.refuses(request) {
            return refusal;
        }
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            [] => assets::page(),
            ["assets", name] => found(assets::find(name)),
            ["api", "runs"] => self.runs(),
            ["api", "events"] => self.events(request.value("after").and_then(|text| text.parse().ok()).unwrap_or(0)),
            ["api", "compare"] => answered(self.compare(request)),
            ["api", "sweeps", number] => found(self.sweep(number)),
            ["api", "runs", name, rest @ ..] => match self.index.run(name) {
                Some(summary) => self.of_run(&summary, rest, request),
                None => Response::refusal(404, &format!("there is no run {name} in {}", self.outputs.display())),
            },
            ["files", name, rest @ ..] if self.index.run(name).is_some() => {
                found(files::open(&Directory::of(&self.outputs, name).path, rest))
            }
            _ => found(None),
        }
    }

    fn of_run(&self, summary: &Summary, rest: &[&str], request: &Request) -> Response {
        let directory = Directory::of(&self.outputs, &summary.run);
        match rest {
            [] => answered(run::details(&directory, summary, &self.outputs, self.registry)),
            ["curves"] => Response::json(&curves::of(&directory, summary, request.value("seeds"))),
            ["showcase", seed] => answered(run::showcase(&directory, seed, request.value("epoch"))),
            ["captions", seed] => answered(run::captions(&directory, seed, request.value("epoch"))),
            ["recordings"] => answered(self.measured.of(&directory, summary)),
            _ => found(None),
        }
    }

    /// All runs, and the keys in which they differ.
    fn runs(&self) -> Response {
        let all = self.index.all();
        let outputs = self.outputs.display().to_string();
        let trees: Vec<&Value> = all.runs.iter().map(|run| &run.tree).collect();
        Response::json(&All {
            changed: Changed::of(&all),
            differing: differing_keys(&trees),
            sweeps: self.sweeps.iter().map(|(file, sweep)| sweep::members(file, sweep)).collect(),
            commands: commands::of_all(&self.outputs),
            flag: commands::outputs_flag(&self.outputs),
            outputs,
        })
    }

    /// A stream of the changes after a version.
    fn events(&self, mut version: u64) -> Response {
        let index = self.index.clone();
        let next = move || {
            let now = index.wait(version, SILENCE);
            let is_new = now.version > version;
            version = now.version;
            Some(if is_new { serde_json::to_string(&Changed::of(&now)).unwrap_or_default() } else { String::new() })
        };
        Response { body: Body::Events(Box::new(next)), ..Response::new("text/event-stream", "") }
    }

    fn compare(&self, request: &Request) -> Result<Value> {
        let mut runs = Vec::new();
        for name in request.value("runs").unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
            let gone = || Error::Usage(format!("there is no run {name} in {}", self.outputs.display()));
            runs.push(self.index.run(name).ok_or_else(gone)?);
        }
        compare::of(&runs, request.value("metric"), &self.outputs, self.registry)
    }

    fn sweep(&self, number: &str) -> Option<Response> {
        let (file, sweep) = self.sweeps.get(number.parse::<usize>().ok()?)?;
        Some(Response::json(&sweep::of(file, sweep, &self.outputs)))
    }
}

/// Everything that the table of runs needs.
#[derive(Serialize)]
struct All<'a> {
    #[serde(flatten)]
    changed: Changed<'a>,
    /// The keys in which runs differ.
    differing: Vec<String>,
    sweeps: Vec<Value>,
    commands: Vec<Command>,
    outputs: String,
    /// What a command needs to find these runs.
    flag: String,
}

/// Runs that changed.
#[derive(Serialize)]
struct Changed<'a> {
    version: u64,
    runs: Vec<&'a Summary>,
    gone: &'a [String],
}

impl<'a> Changed<'a> {
    fn of(change: &'a Change) -> Self {
        Changed { version: change.version, runs: change.runs.iter().map(|run| &**run).collect(), gone: &change.gone }
    }
}

fn found(response: Option<Response>) -> Response {
    response.unwrap_or_else(|| Response::refusal(404, "there is no such page"))
}

/// A value, or why there is none.
fn answered(result: Result<Value>) -> Response {
    match result {
        Ok(value) => Response::json(&value),
        Err(error) => Response::refusal(if error.exit_code() == 2 { 400 } else { 500 }, &error.to_string()),
    }
}
