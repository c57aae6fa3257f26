//! What candle-nn lacks: PyTorch's recurrent cells and initial distributions, convolutional backbones, blocks of feed-forward networks, and an ordered
//! parameter store.

pub mod backbone;
mod batch_norm;
pub mod blocks;
pub mod cells;
mod conv;
mod gradients;
mod head;
pub mod init;
pub mod kernel;
mod linear;
mod numbers;
mod params;
mod pool;
pub mod slices;

pub use batch_norm::{BatchNorm, Mode, Statistics, batch_norm};
pub use conv::{conv2d, conv2d_relu};
pub(crate) use conv::{conv2d_relu_backward, on_slices};
pub use gradients::{Accumulator, Gradients};
pub use head::{Head, HeadPass};
pub use linear::{Linear, affine, relu};
pub use numbers::pretending;
pub use numbers::{Numbers, constant, reads_are_deferred};
pub use params::{Leaves, NewParameter, ParamStore, Parameter, Part};
pub use pool::{max_pool, max_pool_tiles};
