//! The engine of `ccdni`: recurrent networks that learn with synthetic gradients (decoupled neural interfaces).
//!
//! Begin with [`train::engine`] for truncated backpropagation with synthetic gradients, with [`dni`] for synthetic gradients
//! outside of recurrent networks, with [`nn::cells::Cell`] and [`dni::Synthesizer`] for parts of your own.

#![warn(missing_docs)]

pub mod counter;
pub mod data;
pub mod device;
pub mod dni;
pub mod error;
pub mod files;
pub mod measures;
pub mod model;
pub mod nn;
pub mod plugins;
pub mod rng;
pub mod spec;
pub mod train;

pub use error::{Error, Problem, Problems, Result};
