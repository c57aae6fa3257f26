//! The registry: which tasks there are, and how the spec room asks about them.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Captioning, LineDraw, SeqMnist, Task};
use crate::data::Dataset;
use crate::data::pictures::Viewing;
use crate::error::{Error, Problem, Result};
use crate::model::{self, Layout};
use crate::plugins::Catalogue;
use crate::spec::interface::{CellShape, Interface};
use crate::spec::{Keys, LayerSpec, ModelSpec, TaskCatalogue, TaskTable};

/// One registered task, its type erased.
struct Entry {
    kind: &'static str,
    about: &'static str,
    schema: fn() -> Value,
    fill: fn(&Keys) -> Result<Keys, Vec<Problem>>,
    check: fn(&Keys) -> Vec<Problem>,
    interface: fn(&Keys) -> Result<Interface>,
    validates: fn(&Keys) -> Result<bool>,
    prepare: fn(&Keys) -> Result<()>,
    view: fn(&Keys) -> Result<Option<Viewing>>,
    files: fn(&Keys) -> Result<Vec<std::path::PathBuf>>,
    open: fn(&Keys, u64) -> Result<Box<dyn Dataset>>,
}

/// The registered tasks, in the order in which they were registered.
pub struct Registry {
    entries: Vec<Entry>,
    /// The parts of models.
    pub model: model::Plugins,
}

impl Default for Registry {
    /// A registry without tasks.
    fn default() -> Self {
        Registry { entries: Vec::new(), model: model::Plugins::built_in() }
    }
}

fn read<T: Task>(keys: &Keys) -> Result<T::Spec> {
    serde_json::from_value(Value::Object(keys.clone())).map_err(|error| Error::Usage(format!("task: {error}")))
}

impl Registry {
    /// The tasks that come with the crate.
    pub fn built_in() -> Self {
        let mut registry = Registry::default();
        registry.register::<LineDraw>();
        registry.register::<SeqMnist>();
        registry.register::<Captioning>();
        registry
    }

    /// Adds a task.
    ///
    /// # Panics
    /// If its kind is registered already: a mistake of the program, not of its user.
    pub fn register<T: Task>(&mut self) {
        assert!(!self.kinds().contains(&T::KIND), "the task `{}` is registered twice", T::KIND);
        self.entries.push(Entry {
            kind: T::KIND,
            about: T::ABOUT,
            schema: || {
                let generator = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true).into_generator();
                generator.into_root_schema_for::<T::Spec>().to_value()
            },
            fill: |keys| {
                let filled = read::<T>(keys).map_err(|error| vec![Problem::new("", error.to_string())])?;
                match serde_json::to_value(filled) {
                    Ok(Value::Object(keys)) => Ok(keys),
                    _ => Err(vec![Problem::new("", "the task's spec is not a table")]),
                }
            },
            check: |keys| match read::<T>(keys) {
                Ok(spec) => T::check(&spec),
                Err(error) => vec![Problem::new("", error.to_string())],
            },
            interface: |keys| Ok(T::interface(&read::<T>(keys)?)),
            validates: |keys| Ok(T::validates(&read::<T>(keys)?)),
            prepare: |keys| T::prepare(&read::<T>(keys)?),
            view: |keys| Ok(T::view(&read::<T>(keys)?)),
            files: |keys| Ok(T::files(&read::<T>(keys)?)),
            open: |keys, seed| T::open(read::<T>(keys)?, seed),
        });
    }

    /// Kind and description of every task.
    pub fn list(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.entries.iter().map(|entry| (entry.kind, entry.about))
    }

    /// Opens the data of a resolved task table for one seed.
    pub fn open(&self, task: &TaskTable, seed: u64) -> Result<Box<dyn Dataset>> {
        (self.entry(&task.kind)?.open)(&task.keys, seed)
    }

    /// Gets the data ready: finds files, downloads those that have to be.
    ///
    /// # Errors
    /// Says what is missing and what to do.
    pub fn prepare(&self, task: &TaskTable) -> Result<()> {
        (self.entry(&task.kind)?.prepare)(&task.keys)
    }

    /// How pictures are looked at, of a task that shows some.
    pub fn view(&self, task: &TaskTable) -> Result<Option<Viewing>> {
        (self.entry(&task.kind)?.view)(&task.keys)
    }

    /// Files that the data come from.
    pub fn files(&self, task: &TaskTable) -> Result<Vec<std::path::PathBuf>> {
        (self.entry(&task.kind)?.files)(&task.keys)
    }

    fn entry(&self, kind: &str) -> Result<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.kind == kind)
            .ok_or_else(|| Error::Usage(format!("there is no task `{kind}`; `ccdni tasks` lists those there are")))
    }
}

impl TaskCatalogue for Registry {
    fn kinds(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.kind).collect()
    }

    fn schema(&self, kind: &str) -> Option<Value> {
        self.entry(kind).ok().map(|entry| (entry.schema)())
    }

    fn fill(&self, kind: &str, keys: &Keys) -> Result<Keys, Vec<Problem>> {
        let entry = self.entry(kind).map_err(|error| vec![Problem::new("kind", error.to_string())])?;
        (entry.fill)(keys)
    }

    fn check(&self, kind: &str, keys: &Keys) -> Vec<Problem> {
        self.entry(kind).map_or_else(|error| vec![Problem::new("kind", error.to_string())], |e| (e.check)(keys))
    }

    fn interface(&self, kind: &str, keys: &Keys) -> Result<Interface> {
        (self.entry(kind)?.interface)(keys)
    }

    fn validates(&self, kind: &str, keys: &Keys) -> bool {
        // Keys that cannot be read have been refused before.
        self.entry(kind).and_then(|entry| (entry.validates)(keys)).unwrap_or(true)
    }

    fn cells(&self) -> &dyn Catalogue {
        &self.model.cells
    }

    fn cell(&self, layer: &LayerSpec) -> Result<CellShape> {
        let cell = self.model.cell(layer)?;
        Ok(CellShape {
            state_width: cell.state_width(layer.hidden),
            kernels: cell.kernels().is_some(),
            closed_form: cell.closed_form().is_some(),
        })
    }

    fn parameters(&self, model: &ModelSpec, interface: &Interface) -> Result<usize> {
        let layout = Layout::new(&self.model, model, interface)?;
        Ok(layout.slots.iter().map(|slot| slot.dims.iter().product::<usize>()).sum())
    }
}
