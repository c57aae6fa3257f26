//! Kernels on slices on the CPU: matrix products, activations, the pointwise parts of recurrent cells.
//!
//! Matrices are row-major. Instructions are chosen at run time: AVX-512, AVX2 with FMA, NEON or scalar code ([`pulp::Arch`]).
//! Results are bit-identical on processors of one kind, those of [`product`] on all.
//!
//! Sizes are those of the model's layout. Batches and files are compared with it before they get here, so that a slice of
//! another size is a mistake in the calling code; it panics, since a product of it would read or write out of bounds.

pub mod activation;
mod buffers;
pub mod cells;
pub mod convolution;
mod few;
#[cfg(target_arch = "x86_64")]
mod halving;
pub mod passes;
mod product;
pub mod softmax;
mod team;
mod threads;
pub mod window;

pub use buffers::{Lent, Pool, room, written};
pub use few::few_rows;
pub use product::{Matrix, MatrixMut, product, transpose};
pub use team::alone;
pub use threads::{PASS, Threads, cut, divide};
