//! The registry of plug-ins, and its interface for checking specs.

use super::{Captioning, LineDraw, SeqMnist, Task};
use crate::error::{Problem, Result};
use crate::model::Layout;
use crate::plugins::{Catalogue, Keys, Kinds, Plugin};
use crate::spec::task_shape::{CellShape, TaskShape};
use crate::spec::{DniSpec, LayerSpec, ModelSpec, Plugins, TaskTable};
use crate::train;

/// The registered plug-ins of every kind.
pub struct Registry {
    tasks: Kinds<dyn Task>,
    /// Plug-ins for training: optimizers, cells and synthesizers.
    pub train: train::Plugins,
}

impl Default for Registry {
    /// A registry without tasks.
    fn default() -> Self {
        Registry { tasks: Kinds::new("task"), train: train::Plugins::built_in() }
    }
}

impl Registry {
    /// The plug-ins of this crate.
    pub fn built_in() -> Self {
        let mut registry = Registry::default();
        registry.register_task::<LineDraw>();
        registry.register_task::<SeqMnist>();
        registry.register_task::<Captioning>();
        registry
    }

    /// Adds a task.
    ///
    /// # Panics
    /// If its kind is already registered.
    pub fn register_task<T: Plugin + Task>(&mut self) {
        self.tasks.register::<T>(|task| Box::new(task));
    }

    /// The task of a spec.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if the kind is unknown or its keys are invalid.
    pub fn task(&self, task: &TaskTable) -> Result<Box<dyn Task>> {
        self.tasks.open(&task.kind, &task.keys)
    }
}

impl Plugins for Registry {
    fn tasks(&self) -> &dyn Catalogue {
        &self.tasks
    }

    fn optimizers(&self) -> &dyn Catalogue {
        &self.train.optimizers
    }

    fn shape(&self, kind: &str, keys: &Keys) -> Result<TaskShape> {
        Ok(self.tasks.open(kind, keys)?.shape())
    }

    fn cells(&self) -> &dyn Catalogue {
        &self.train.model.cells
    }

    fn cell(&self, layer: &LayerSpec) -> Result<CellShape> {
        let cell = self.train.model.cell(layer)?;
        Ok(CellShape {
            state_width: cell.state_width(layer.hidden),
            kernels: cell.kernels().is_some(),
            closed_form: cell.closed_form().is_some(),
        })
    }

    fn synthesizers(&self) -> &dyn Catalogue {
        &self.train.model.synthesizers
    }

    fn synthesizer(&self, dni: &DniSpec, state: usize) -> Result<(Keys, Vec<Problem>)> {
        let mut keys = dni.keys.clone();
        let problems = self.train.model.synthesizer(dni)?.normalise(&mut keys, state, dni.learn);
        Ok((keys, problems))
    }

    fn parameters(&self, model: &ModelSpec, shape: &TaskShape) -> Result<usize> {
        let layout = Layout::new(&self.train.model, model, shape)?;
        Ok(layout.slots.iter().map(|slot| slot.dims.iter().product::<usize>()).sum())
    }
}
