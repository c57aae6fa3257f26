//! The spec: what an experiment says, how its layers become one, and the hash that names it.

mod canonical;
mod check;
mod describe;
mod init_from;
pub mod interface;
mod layers;
mod locate;
mod merge;
mod said;
mod schema;
pub mod sweep;
mod types;
mod values;
mod walk;
mod yaml;

use std::path::{Path, PathBuf};

pub use layers::ENV_PREFIX;
pub(crate) use layers::nearest;
pub use schema::{file_schema, schema};
pub use types::*;
pub(crate) use yaml::{line, write_spec};

use crate::error::{Error, Problem, Problems, Result};
use crate::plugins::Catalogue;
pub use crate::plugins::Keys;
use interface::Interface;
use layers::Layers;
use said::Said;
use walk::Walk;

/// What this room needs to know of the registered plug-ins; `tasks::Registry` implements it.
pub trait Plugins {
    /// The tasks (`task.kind`).
    fn tasks(&self) -> &dyn Catalogue;

    /// What a task's data look like.
    ///
    /// # Errors
    /// Fails where the task cannot read the keys.
    fn shape(&self, kind: &str, keys: &Keys) -> Result<Interface>;
}

/// What a user asked for: a file and what is laid over it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The spec file.
    pub file: PathBuf,
    /// `--set path=value`, in order.
    pub set: Vec<String>,
    /// Environment variables, as from `std::env::vars`; only `CCDNI__*` count.
    pub env: Vec<(String, String)>,
}

/// A spec that passed every check, with its defaults filled in.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The spec; `bptt` in steps or `None`.
    pub spec: Spec,
    /// What the task's data look like.
    pub interface: Interface,
    /// The canonical JSON that is hashed.
    pub canonical: String,
    /// 12 hex digits: the name of the run's directory.
    pub hash: String,
    /// Dotted path of every value that some layer said and that is not the default, and where.
    pub origins: Vec<(String, String)>,
}

/// Layers, checks and resolves a spec, and names it. Touches nothing but the files that it reads.
///
/// # Errors
/// [`crate::Error::Spec`] with every problem found.
pub fn resolve(request: &Request, plugins: &dyn Plugins) -> Result<Resolved> {
    resolve_within(request, plugins, 0)
}

/// Resolves the spec of a run that `depth` others start from, one from the next.
fn resolve_within(request: &Request, plugins: &dyn Plugins, depth: usize) -> Result<Resolved> {
    let schema = schema::schema(plugins);
    let layers = Layers::read(request, layers::defaults(&schema));
    if !layers.incomplete && layers.has_block("sweep") {
        let problem = Problem::new("", "this file says many runs: it has a `sweep` block");
        let file = request.file.display();
        let help =
            format!("`ccdni sweep {file}` trains what is missing, `ccdni sweep {file} --dry-run` shows all runs");
        let problem = Problem { origin: Some(file.to_string()), ..problem.help(help) };
        return Err(Error::Spec(Problems(vec![problem])));
    }
    resolve_layers(layers, &schema, request, plugins, depth)
}

/// Resolves what the layers of a request say.
fn resolve_layers(
    mut layers: Layers,
    schema: &serde_json::Value,
    request: &Request,
    plugins: &dyn Plugins,
    depth: usize,
) -> Result<Resolved> {
    if layers.incomplete {
        return Err(Error::Spec(Problems(layers.problems)));
    }
    let merged = layers.merge();
    let mut problems = std::mem::take(&mut layers.problems);

    let mut walk = Walk::new(&layers, schema);
    let mut mended = merged.clone();
    walk.run(&mut mended);
    let mut broken = walk.broken;
    problems.extend(walk.problems);

    let said = Said { layers: &layers, schema, merged: &merged, file: &request.file };
    let Some(mut spec) = said.extract(mended, &mut broken, &mut problems) else {
        return Err(Error::Spec(Problems(said.finish(problems))));
    };

    let interface = task_interface(&mut spec, plugins, &broken, &mut problems);
    problems.extend(check::check(&spec, interface.as_ref(), &broken));
    let init_run = match &spec.train.init_from {
        Some(from) if !broken.iter().any(|key| key.starts_with("train.init_from")) => {
            init_from::run_hash(from, plugins, depth).map_err(|problem| problems.push(problem)).ok()
        }
        _ => None,
    };
    let Some(interface) = interface.filter(|_| problems.is_empty()) else {
        return Err(Error::Spec(Problems(said.finish(problems))));
    };

    canonical::normalise(&mut spec, &interface);
    let canonical = canonical::canonical(&spec, init_run.as_deref());
    let hash = canonical::hash(&canonical);
    Ok(Resolved { origins: said.origins(), spec, interface, canonical, hash })
}

/// Fills in the task's defaults and asks for its interface; `None`, with the problems, where its keys are wrong.
fn task_interface(
    spec: &mut Spec,
    plugins: &dyn Plugins,
    broken: &[String],
    problems: &mut Vec<Problem>,
) -> Option<Interface> {
    if broken.iter().any(|key| key == "task" || key.starts_with("task.")) {
        return None;
    }
    let kind = &spec.task.kind;
    match plugins.tasks().fill(kind, &spec.task.keys) {
        Ok(keys) => spec.task.keys = keys,
        Err(found) => {
            let within_task = |problem: Problem| Problem { key: yaml::join("task", &problem.key), ..problem };
            problems.extend(found.into_iter().map(within_task));
            return None;
        }
    }
    plugins.shape(kind, &spec.task.keys).map_err(|error| problems.push(Problem::new("task", error.to_string()))).ok()
}

/// Reads the `spec.yaml` of a run, which has every default written out, as it stands: it is not checked again, so that
/// a run can be looked at where the run that it started from has gone.
///
/// # Errors
/// [`Error::Data`] if the file is missing or is no resolved spec.
pub fn read_resolved(path: &Path) -> Result<Spec> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::data(path, format!("cannot be read: {error}")))?;
    yaml::read_spec(&text).map_err(|error| {
        Error::data(path, format!("is not the spec that a run wrote here: {error}; restore it, or run the spec again"))
    })
}

impl Resolved {
    /// The resolved spec as YAML: it can be run again as it is, and hashes to the same name.
    pub fn to_yaml(&self) -> String {
        yaml::write_spec(&self.spec)
    }
}
