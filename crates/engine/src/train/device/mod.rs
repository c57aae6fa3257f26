//! Everything that depends on the device. Reading a number from a GPU blocks until all earlier work is done, so batches are
//! uploaded an epoch at a time, gradients are clipped on the device, and reported numbers are read at the end of an epoch or
//! before a checkpoint. On the CPU each batch is loaded, clipped and read at once. The trainer's code is the same for both.

mod clip;
mod loader;
mod statistics;

pub(super) use clip::clip;
pub use clip::{GradientNorm, GradientSquares};
pub use loader::DeviceLoader;
pub use statistics::{BatchStatistics, PendingBatch, PendingStatistics};
