//! What depends on where numbers lie. Reading a number from a GPU waits until everything before it is computed, so batches go
//! there an epoch at a time, gradients are clipped there, and what is only reported is read at the end of an epoch or before a
//! checkpoint. On the CPU each batch is passed on, clipped and read at once. The trainer does the same on both.

mod clip;
mod loader;
mod statistics;

pub(super) use clip::clip;
pub use clip::{GradientNorm, GradientSquares};
pub use loader::DeviceLoader;
pub use statistics::{BatchStatistics, PendingBatch, PendingStatistics};
