//! `ccdni`: declarative experiments with recurrent networks and decoupled neural interfaces (synthetic gradients).
//!
//! The rooms of the house and which may use which: `docs/architecture.md`. Begin with [`train::engine`] for the science, with
//! [`tasks::Task`] for a task of one's own, with [`dni`] for synthetic gradients outside of recurrent networks.

#![warn(missing_docs)]

pub mod app;
pub mod cli;
pub mod counter;
pub mod data;
pub mod device;
pub mod dni;
pub mod error;
pub mod files;
pub mod model;
pub mod nn;
pub mod plugins;
pub mod records;
pub mod report;
pub mod rng;
pub mod run;
pub mod spec;
pub mod tasks;
pub mod testing;
pub mod train;

pub use app::App;
pub use error::{Error, Problem, Result};
