//! The application: the registered plug-ins and the command line around them.

use std::process::ExitCode;

use crate::cli;
use crate::dni::Synthesizer;
use crate::nn::blocks::Block;
use crate::nn::cells::Cell;
use crate::plugins::Plugin;
use crate::tasks::{Registry, Task};
use crate::train::LearningRule;
use crate::train::optimizer::UpdateRule;

/// The `ccdni` program, to which other programs add plug-ins of their own.
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
    /// The program with the built-in plug-ins.
    pub fn new() -> Self {
        App { registry: Registry::built_in() }
    }

    /// Adds a task.
    ///
    /// # Panics
    /// If its kind is registered already, or one of its keys is named like one of the table that it stands in.
    pub fn task<T: Plugin + Task>(mut self) -> Self {
        self.registry.register_task::<T>();
        self
    }

    /// Adds an optimizer.
    ///
    /// # Panics
    /// If its kind is registered already, or one of its keys is named like one of the table that it stands in.
    pub fn optimizer<O: Plugin + UpdateRule>(mut self) -> Self {
        self.registry.train_mut().optimizers.register::<O>(|rule| Box::new(rule));
        self
    }

    /// Adds a learning rule.
    ///
    /// # Panics
    /// If its kind is registered already, or one of its keys is named like one of the table that it stands in.
    pub fn rule<R: Plugin + LearningRule>(mut self) -> Self {
        self.registry.train_mut().rules.register::<R>(|rule| Box::new(rule));
        self
    }

    /// Adds a recurrent cell.
    ///
    /// # Panics
    /// If its kind is registered already, or one of its keys is named like one of the table that it stands in.
    pub fn cell<C: Plugin + Cell>(mut self) -> Self {
        self.registry.train_mut().model.cells.register::<C>(|cell| Box::new(cell));
        self
    }

    /// Adds a block of feed-forward networks.
    ///
    /// # Panics
    /// If its kind is registered already, or one of its keys is named like one of the table that it stands in.
    pub fn block<B: Plugin + Block>(mut self) -> Self {
        self.registry.train_mut().model.blocks.register::<B>(|block| Box::new(block));
        self
    }

    /// Adds a synthesizer.
    ///
    /// # Panics
    /// If its kind is registered already, or one of its keys is named like one of the table that it stands in.
    pub fn synthesizer<S: Plugin + Synthesizer>(mut self) -> Self {
        self.registry.train_mut().model.synthesizers.register::<S>(|synthesizer| Box::new(synthesizer));
        self
    }

    /// Parses the command line, runs the command and reports errors.
    pub fn main(self) -> ExitCode {
        cli::main(&self.registry)
    }
}
