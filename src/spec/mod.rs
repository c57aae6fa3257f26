//! The spec of an experiment: merging its layers, validation, and its hash.

mod blocks;
mod canonical;
mod check;
mod describe;
mod forms;
mod init_from;
mod launcher;
mod layers;
mod locate;
mod merge;
mod plugin_tables;
mod provenance;
mod schema;
pub mod sweep;
mod validator;
mod yaml;

use std::path::{Path, PathBuf};

use serde_json::Value;

pub use blocks::*;
pub(crate) use canonical::with_force_forget;
pub use ccdni_engine::spec::*;
pub(crate) use forms::{Forms, constant};
pub use launcher::*;
pub use layers::ENV_PREFIX;
pub(crate) use layers::nearest;
pub use schema::{file_schema, make_schema};
pub(crate) use validator::find_key;
pub(crate) use yaml::{line, whole_line, write_spec};

use crate::error::{Error, Problem, Problems, Result};
use crate::files::read_at_most;
use crate::plugins::Catalogue;
use layers::Layers;
use plugin_tables::PluginTables;
use provenance::Provenance;
use task_shape::{BlockShape, CellShape, RuleShape, TaskShape};
use validator::Validator;

/// The keys of a plug-in with its defaults filled in, and its properties; or all problems with them, whose keys are relative to the
/// plug-in's table.
pub type Read<T> = Result<(Keys, T), Vec<Problem>>;

/// The registered plug-ins, as far as specs depend on them; implemented by `tasks::Registry`.
pub trait Plugins {
    /// The schema of a spec with the keys of these plug-ins: [`make_schema`], which takes far longer than all that is done with it, once.
    fn schema(&self) -> &Value;

    /// The tasks (`task.kind`).
    fn tasks(&self) -> &dyn Catalogue;

    /// The optimizers (`train.optimizer`).
    fn optimizers(&self) -> &dyn Catalogue;

    /// The learning rules (`train.rule`).
    fn rules(&self) -> &dyn Catalogue;

    /// The cells (`model.layers[].cell`).
    fn cells(&self) -> &dyn Catalogue;

    /// The synthesizers (`model.layers[].dni.kind`, `model.blocks[].dni.kind`).
    fn synthesizers(&self) -> &dyn Catalogue;

    /// Reads a task's keys; returns the shape of its data.
    fn read_task(&self, task: &PluginTable) -> Read<TaskShape>;

    /// Reads the keys of a learning rule; returns its properties.
    fn read_rule(&self, rule: &RuleSpec) -> Read<RuleShape>;

    /// Reads the keys of a layer's cell; returns the cell's properties.
    fn read_cell(&self, layer: &LayerSpec) -> Read<CellShape>;

    /// The blocks (`model.blocks`).
    fn blocks(&self) -> &dyn Catalogue;

    /// Reads the keys of a block for samples of this shape, in a network with `targets` outputs; returns the block's properties.
    fn read_block(&self, block: &BlockSpec, input: &[usize], targets: usize) -> Read<BlockShape>;

    /// Reads a synthesizer's own keys and normalises them for triggers and messages of these shapes (which are equal where gradients
    /// are predicted); returns problems that depend on the shapes or on `learn`.
    fn read_synthesizer(&self, dni: &DniSpec, trigger: &[usize], message: &[usize]) -> Read<Vec<Problem>>;

    /// Number of parameters of a model for a task, without those whose number depends on the data.
    ///
    /// # Errors
    /// Fails if a part of the model is not registered.
    fn parameters(&self, model: &ModelSpec, shape: &TaskShape) -> Result<usize>;
}

/// Most bytes of the spec in a run's directory.
const LARGEST_RESOLVED: u64 = 64 << 20;

/// A spec file and its overrides.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The spec file.
    pub file: PathBuf,
    /// `--set path=value`, in order.
    pub set: Vec<String>,
    /// Environment variables, as from `std::env::vars`; only `CCDNI__*` are used.
    pub env: Vec<(String, String)>,
}

/// A spec that passed every check, with its defaults filled in.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The spec; `bptt` in steps or `None`.
    pub spec: Spec,
    /// The shape of the task's data.
    pub shape: TaskShape,
    /// Number of parameters of the model, without those whose number depends on the data.
    pub parameters: usize,
    /// The canonical JSON that is hashed.
    pub canonical: String,
    /// 12 hex digits: the name of the run's directory.
    pub hash: String,
    /// Dotted path and origin of every value that a layer set to something other than its default.
    pub origins: Vec<(String, String)>,
}

/// Merges, validates, resolves and hashes a spec. Has no side effects.
///
/// # Errors
/// [`crate::Error::Spec`] with every problem found.
pub fn resolve(request: &Request, plugins: &dyn Plugins) -> Result<Resolved> {
    resolve_within(request, plugins, 0)
}

/// Resolves the spec of a run at this depth of an `init_from` chain.
fn resolve_within(request: &Request, plugins: &dyn Plugins, depth: usize) -> Result<Resolved> {
    let layers = Layers::read(request, layers::defaults(plugins.schema()));
    if !layers.incomplete && layers.has_block("sweep") {
        let problem = Problem::new("", "this file defines several runs: it has a `sweep` block");
        let file = request.file.display();
        let help =
            format!("`ccdni sweep {file}` trains what is missing, `ccdni sweep {file} --dry-run` shows all runs");
        let problem = Problem { origin: Some(file.to_string()), ..problem.help(help) };
        return Err(Error::Spec(Problems(vec![problem])));
    }
    resolve_layers(layers, request, plugins, depth)
}

/// Resolves the layers of a request.
fn resolve_layers(mut layers: Layers, request: &Request, plugins: &dyn Plugins, depth: usize) -> Result<Resolved> {
    let schema = plugins.schema();
    if layers.incomplete {
        return Err(Error::Spec(Problems(layers.problems)));
    }
    let merged = layers.merge(schema);
    let mut problems = std::mem::take(&mut layers.problems);

    let mut validator = Validator::new(&layers, schema);
    let mut repaired = merged.clone();
    validator.run(&mut repaired);
    let mut broken = validator.broken;
    problems.extend(validator.problems);

    let provenance = Provenance { layers: &layers, schema, merged: &merged, file: &request.file };
    let Some(mut spec) = provenance.extract(repaired, &mut broken, &mut problems) else {
        return Err(Error::Spec(Problems(provenance.finish(problems))));
    };

    let mut tables = PluginTables { plugins, broken: &broken, problems: &mut problems };
    let shape = tables.task(&mut spec.task);
    tables.optimizer(&mut spec.train.optimizer);
    let rule = tables.rule(&mut spec.train.rule);
    let cells = tables.layers(&mut spec.model.layers);
    if let Some(shape) = &shape {
        tables.blocks(&mut spec.model, shape);
    }
    problems.extend(check::check(&spec, shape.as_ref(), (&cells, rule), &broken));
    let init_run = match &spec.train.init_from {
        Some(from) if !broken.iter().any(|key| key.starts_with("train.init_from")) => {
            init_from::run_hash(from, plugins, depth).map_err(|problem| problems.push(problem)).ok()
        }
        _ => None,
    };
    let Some(shape) = shape.filter(|_| problems.is_empty()) else {
        return Err(Error::Spec(Problems(provenance.finish(problems))));
    };

    canonical::normalise(&mut spec, &shape);
    let canonical = canonical::canonical(&spec, init_run.as_deref());
    let hash = canonical::hash(&canonical);
    let parameters = plugins.parameters(&spec.model, &shape)?;
    Ok(Resolved { origins: provenance.origins(), spec, shape, parameters, canonical, hash })
}

/// Reads the resolved `spec.yaml` of a run without validation, so that a run can be inspected after the run that it started from
/// was removed.
///
/// # Errors
/// [`Error::Data`] if the file is missing or not a resolved spec.
pub fn read_resolved(path: &Path) -> Result<Spec> {
    let bytes = read_at_most(path, LARGEST_RESOLVED).map_err(|error| match error {
        Error::Io { source, .. } => Error::data(path, format!("cannot be read: {source}")),
        other => other,
    })?;
    let text = String::from_utf8(bytes).map_err(|_| Error::data(path, "is not a text file (UTF-8)"))?;
    yaml::read_spec(&text).map_err(|error| {
        Error::data(path, format!("is not the spec that a run wrote here: {error}; restore it, or run the spec again"))
    })
}

impl Resolved {
    /// The resolved spec as YAML, which has the same hash when it is run again.
    pub fn to_yaml(&self) -> String {
        yaml::write_spec(&self.spec)
    }
}
