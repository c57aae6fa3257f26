//! The spec: what an experiment says, how its layers become one, and the hash that names it.

mod canonical;
mod check;
mod describe;
mod init_from;
mod layers;
mod locate;
mod merge;
mod provenance;
mod schema;
pub mod sweep;
pub mod task_shape;
mod types;
mod validator;
mod values;
mod yaml;

use std::path::{Path, PathBuf};

pub use layers::ENV_PREFIX;
pub(crate) use layers::nearest;
pub use schema::{file_schema, schema};
pub use types::*;
pub(crate) use validator::find_key;
pub(crate) use yaml::{line, write_spec};

use crate::error::{Error, Problem, Problems, Result};
use crate::plugins::Catalogue;
pub use crate::plugins::Keys;
use layers::Layers;
use provenance::Provenance;
use task_shape::{CellShape, TaskShape};
use validator::Validator;

/// What this room needs to know of the registered plug-ins; `tasks::Registry` implements it.
pub trait Plugins {
    /// The tasks (`task.kind`).
    fn tasks(&self) -> &dyn Catalogue;

    /// The optimizers (`train.optimizer`).
    fn optimizers(&self) -> &dyn Catalogue;

    /// What a task's data look like.
    ///
    /// # Errors
    /// Fails where the task cannot read the keys.
    fn shape(&self, kind: &str, keys: &Keys) -> Result<TaskShape>;

    /// The cells (`model.layers[].cell`).
    fn cells(&self) -> &dyn Catalogue;

    /// What a layer's cell looks like.
    ///
    /// # Errors
    /// Fails where there is no such cell, or where it cannot read its keys.
    fn cell(&self, layer: &LayerSpec) -> Result<CellShape>;

    /// The synthesizers (`model.layers[].dni.kind`).
    fn synthesizers(&self) -> &dyn Catalogue;

    /// The normal form of a synthesizer's own keys for a state of this width, and what is wrong with them there; problems'
    /// keys are relative to the `dni` table.
    ///
    /// # Errors
    /// Fails where there is no such synthesizer, or where it cannot read its keys.
    fn synthesizer(&self, dni: &DniSpec, state: usize) -> Result<(Keys, Vec<Problem>)>;

    /// How many parameters a model has for a task; those whose number only the data say are not counted.
    ///
    /// # Errors
    /// Fails where a part of the model is not registered.
    fn parameters(&self, model: &ModelSpec, shape: &TaskShape) -> Result<usize>;
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
    pub shape: TaskShape,
    /// Parameters of the model; those whose number only the data say are missing.
    pub parameters: usize,
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

    let mut validator = Validator::new(&layers, schema);
    let mut repaired = merged.clone();
    validator.run(&mut repaired);
    let mut broken = validator.broken;
    problems.extend(validator.problems);

    let said = Provenance { layers: &layers, schema, merged: &merged, file: &request.file };
    let Some(mut spec) = said.extract(repaired, &mut broken, &mut problems) else {
        return Err(Error::Spec(Problems(said.finish(problems))));
    };

    let shape = task_interface(&mut spec, plugins, &broken, &mut problems);
    let optimizer = &mut spec.train.optimizer;
    let filled = plugins.optimizers().fill(&optimizer.kind, &optimizer.keys);
    fill("train.optimizer", filled, &mut optimizer.keys, &broken, &mut problems);
    let cells = cells(&mut spec.model, plugins, &broken, &mut problems);
    synthesizers(&mut spec.model, &cells, plugins, &broken, &mut problems);
    problems.extend(check::check(&spec, shape.as_ref(), &cells, &broken));
    let init_run = match &spec.train.init_from {
        Some(from) if !broken.iter().any(|key| key.starts_with("train.init_from")) => {
            init_from::run_hash(from, plugins, depth).map_err(|problem| problems.push(problem)).ok()
        }
        _ => None,
    };
    let Some(shape) = shape.filter(|_| problems.is_empty()) else {
        return Err(Error::Spec(Problems(said.finish(problems))));
    };

    canonical::normalise(&mut spec, &shape);
    let canonical = canonical::canonical(&spec, init_run.as_deref());
    let hash = canonical::hash(&canonical);
    let parameters = plugins.parameters(&spec.model, &shape)?;
    Ok(Resolved { origins: said.origins(), spec, shape, parameters, canonical, hash })
}

/// Fills in the defaults of the cells' own keys, and says what each layer's cell looks like.
fn cells(
    model: &mut ModelSpec,
    plugins: &dyn Plugins,
    broken: &[String],
    problems: &mut Vec<Problem>,
) -> Vec<CellShape> {
    let cell = |(index, layer): (usize, &mut LayerSpec)| {
        let path = format!("model.layers.{index}");
        let filled = plugins.cells().fill(&layer.cell, &layer.keys);
        fill(&path, filled, &mut layer.keys, broken, problems);
        // What cannot be read has been reported.
        let unknown = CellShape { state_width: layer.hidden, kernels: true, closed_form: true };
        plugins.cell(layer).unwrap_or(unknown)
    };
    model.layers.iter_mut().enumerate().map(cell).collect()
}

/// Fills in the defaults of the synthesizers' own keys, and brings them into their normal form.
fn synthesizers(
    model: &mut ModelSpec,
    cells: &[CellShape],
    plugins: &dyn Plugins,
    broken: &[String],
    problems: &mut Vec<Problem>,
) {
    for (index, (layer, cell)) in model.layers.iter_mut().zip(cells).enumerate() {
        let Some(dni) = &mut layer.dni else { continue };
        let path = format!("model.layers.{index}");
        let table = yaml::join(&path, "dni");
        let filled = plugins.synthesizers().fill(&dni.kind, &dni.keys);
        fill(&table, filled, &mut dni.keys, broken, problems);
        // What cannot be read has been reported.
        let Ok((keys, found)) = plugins.synthesizer(dni, cell.state_width) else { continue };
        dni.keys = keys;
        let rests_on = ["cell", "hidden", "dni.learn"].map(|key| yaml::join(&path, key));
        if !rests_on.iter().any(|key| check::is_doubtful(key, broken)) {
            let of_table =
                found.into_iter().map(|problem| Problem { key: yaml::join(&table, &problem.key), ..problem });
            problems.extend(of_table.filter(|problem| !check::is_doubtful(&problem.key, broken)));
        }
    }
}

/// Takes over a plug-in's keys with its defaults filled in; `None`, with the problems, where they are wrong. `path` is their
/// table.
fn fill(
    path: &str,
    filled: Result<Keys, Vec<Problem>>,
    keys: &mut Keys,
    broken: &[String],
    problems: &mut Vec<Problem>,
) -> Option<()> {
    match filled {
        _ if check::is_doubtful(path, broken) => None,
        Ok(filled) => {
            *keys = filled;
            Some(())
        }
        Err(found) => {
            let of_table = |problem: Problem| Problem { key: yaml::join(path, &problem.key), ..problem };
            problems.extend(found.into_iter().map(of_table));
            None
        }
    }
}

/// Fills in the task's defaults and asks for its interface; `None`, with the problems, where its keys are wrong.
fn task_interface(
    spec: &mut Spec,
    plugins: &dyn Plugins,
    broken: &[String],
    problems: &mut Vec<Problem>,
) -> Option<TaskShape> {
    let filled = plugins.tasks().fill(&spec.task.kind, &spec.task.keys);
    fill("task", filled, &mut spec.task.keys, broken, problems)?;
    plugins
        .shape(&spec.task.kind, &spec.task.keys)
        .map_err(|error| problems.push(Problem::new("task", error.to_string())))
        .ok()
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
