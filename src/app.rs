//! The application: the registered plug-ins and the command line around them.

use std::process::ExitCode;

use crate::cli;
use crate::dni::Synthesizer;
use crate::nn::cells::Cell;
use crate::plugins::Plugin;
use crate::tasks::{Registry, Task};

/// The `ccdni` program, to which other programs add tasks, cells and synthesizers of their own.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     ccdni::App::new().main()
/// }
/// ```
pub struct App {
    registry: Registry,
}

impl Default for App {
    fn default() -> Self {
        App::new()
    }
}

impl App {
    /// The program with what comes with the crate.
    pub fn new() -> Self {
        App { registry: Registry::built_in() }
    }

    /// Adds a task.
    ///
    /// # Panics
    /// If its kind is registered already.
    pub fn task<T: Plugin + Task>(mut self) -> Self {
        self.registry.register_task::<T>();
        self
    }

    /// Adds a recurrent cell.
    ///
    /// # Panics
    /// If its kind is registered already.
    pub fn cell<C: Plugin + Cell>(mut self) -> Self {
        self.registry.model.cells.register::<C>(|cell| Box::new(cell));
        self
    }

    /// Adds a synthesizer.
    ///
    /// # Panics
    /// If its kind is registered already.
    pub fn synthesizer<S: Plugin + Synthesizer>(mut self) -> Self {
        self.registry.model.synthesizers.register::<S>(|synthesizer| Box::new(synthesizer));
        self
    }

    /// Parses the command line, does what it says, and reports errors.
    pub fn main(self) -> ExitCode {
        cli::main(&self.registry)
    }
}
