//! What candle-nn lacks: recurrent cells as PyTorch defines them, PyTorch's initial distributions, and a parameter
//! store with an order. Knows nothing of specs beyond the names of cells and initialisers.

pub mod cell;
mod gradients;
pub mod init;
pub mod kernel;
mod linear;
mod params;
pub mod slices;

pub use gradients::{Accumulator, Gradients};
pub use linear::{Linear, relu};
pub use params::{Leaves, NewParameter, ParamStore, Parameter, Part};
