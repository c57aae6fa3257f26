//! Threads beside the one that does the work.

use std::path::Path;
use std::thread::{Builder, JoinHandle};

use crate::error::{Error, Result};

/// Starts a thread.
///
/// # Errors
/// [`Error::Io`] if the system permits no more (`ulimit -u`, the limit of a container).
pub fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new().spawn(work).map_err(Error::io("start another thread of", Path::new("this program")))
}
