//! Mathematics on slices of the CPU: matrix products, activations, the pointwise parts of recurrent cells.
//!
//! Matrices are row-major. Instructions are chosen at run time ([`pulp::Arch`]): one program uses AVX-512, AVX2 with FMA,
//! NEON, or plain floats, whatever the processor has. Results are bit-identical where that choice is the same.

pub mod activation;
pub mod cells;
pub mod passes;
mod product;
pub mod softmax;

pub use product::{Matrix, MatrixMut, Threads, product};
