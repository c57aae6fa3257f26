//! What candle-nn lacks: recurrent cells as PyTorch defines them, PyTorch's initial distributions, and a parameter
//! store with an order. Knows nothing of specs beyond the names of cells and initialisers.

pub mod cell;
pub mod init;
mod linear;
mod params;

pub use linear::{Linear, relu};
pub use params::{Gradients, ParamStore, Parameter, Part};
