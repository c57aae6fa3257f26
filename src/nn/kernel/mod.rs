//! Mathematics on slices of the CPU: matrix products, activations, the pointwise parts of recurrent cells.
//!
//! Matrices are row-major. Instructions are chosen at run time: pointwise parts use AVX-512, AVX2 with FMA, NEON, or plain
//! floats, whatever the processor has ([`pulp::Arch`]); products likewise, but for AVX-512 (`gemm`, which has kernels for it
//! that did not pay where they were measured). Results are bit-identical on processors of one kind: products also divide
//! their sums by the size of the caches.

pub mod activation;
mod buffers;
pub mod cells;
pub mod convolution;
mod few;
pub mod passes;
mod product;
pub mod softmax;
pub mod window;

pub use buffers::{Lent, Pool, room};
pub use few::few_rows;
pub use product::{Matrix, MatrixMut, Threads, product};
