//! The application: the registered tasks and the command line around them.

use std::process::ExitCode;

use crate::cli;
use crate::plugins::Plugin;
use crate::tasks::{Registry, Task};

/// The `ccdni` program, to which other programs add tasks of their own.
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
    /// The program with the built-in tasks.
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

    /// Parses the command line, does what it says, and reports errors.
    pub fn main(self) -> ExitCode {
        cli::main(&self.registry)
    }
}
