//! The registry: which plug-ins there are, and how the spec room asks about them.

use super::{Captioning, LineDraw, SeqMnist, Task};
use crate::error::Result;
use crate::plugins::{Catalogue, Keys, Kinds, Plugin};
use crate::spec::interface::Interface;
use crate::spec::{Plugins, TaskTable};

/// The registered plug-ins of every sort.
pub struct Registry {
    tasks: Kinds<dyn Task>,
}

impl Default for Registry {
    /// A registry without tasks.
    fn default() -> Self {
        Registry { tasks: Kinds::new("task") }
    }
}

impl Registry {
    /// What comes with the crate.
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
    /// If its kind is registered already: a mistake of the program, not of its user.
    pub fn register_task<T: Plugin + Task>(&mut self) {
        self.tasks.register::<T>(|task| Box::new(task));
    }

    /// The task of a spec.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] where there is none of that kind, or where it cannot read its keys.
    pub fn task(&self, task: &TaskTable) -> Result<Box<dyn Task>> {
        self.tasks.open(&task.kind, &task.keys)
    }
}

impl Plugins for Registry {
    fn tasks(&self) -> &dyn Catalogue {
        &self.tasks
    }

    fn shape(&self, kind: &str, keys: &Keys) -> Result<Interface> {
        Ok(self.tasks.open(kind, keys)?.shape())
    }
}
