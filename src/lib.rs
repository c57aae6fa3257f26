//! `ccdni`: declarative experiments with recurrent networks and decoupled neural interfaces (synthetic gradients).
//!
//! - [`App`]: the program, to which another program adds tasks, cells, synthesizers and optimizers of its own.
//! - [`tasks::Task`] and [`data::Dataset`]: a task.
//! - [`nn::cells::Cell`]: a recurrent cell. [`dni::Synthesizer`]: a synthesizer. [`train::optimizer`]: an optimizer.
//! - [`train::engine`]: truncated backpropagation with synthetic gradients. [`dni`]: synthetic gradients outside of recurrent
//!   networks.
//! - [`testing`]: the conformance kit for all of these.
//!
//! `docs/architecture.md` describes the modules and which may use which.

#![warn(missing_docs)]

pub mod spec;
pub mod tasks;
pub mod testing;

mod app;
mod shell;
// Of the program; its own tests use them.
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod exchange;
#[doc(hidden)]
pub mod records;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod view;

pub use app::App;
pub use ccdni_engine::{Error, Problem, Problems, Result};
#[doc(hidden)]
pub use ccdni_engine::{counter, error};
#[doc(inline)]
pub use ccdni_engine::{data, device, dni, files, measures, model, nn, plugins, rng, train};
