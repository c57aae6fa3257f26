//! Wishes to stop: Ctrl-C, a termination signal, or a parent that has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Whether it is time to stop; clones share the answer.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Follows Ctrl-C and termination signals. The first asks to stop in order, the second ends the process at once.
    ///
    /// # Errors
    /// [`Error::Usage`] if the system does not allow it, or if it was asked for before in this process.
    pub fn on_signal() -> Result<Self> {
        let nohup = ignores_hangup();
        let stop = Stop::default();
        let (asked, times) = (stop.clone(), AtomicUsize::new(0));
        ctrlc::set_handler(move || {
            if times.fetch_add(1, Ordering::Relaxed) > 0 {
                std::process::exit(i32::from(Error::Interrupted.exit_code()));
            }
            asked.ask();
        })
        .map_err(|error| Error::Usage(format!("cannot listen to signals: {error}")))?;
        if nohup {
            ignore_hangup();
        }
        Ok(stop)
    }

    /// Asks to stop.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether this process was started so that it outlives its terminal (`nohup`): the handler must not undo that.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    // SAFETY: no handler is installed, and asking is only possible by setting.
    let before = unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    if before != libc::SIG_IGN {
        // SAFETY: puts back what was there.
        unsafe { libc::signal(libc::SIGHUP, before) };
    }
    before == libc::SIG_IGN
}

#[cfg(unix)]
fn ignore_hangup() {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn ignores_hangup() -> bool {
    false
}

#[cfg(not(unix))]
fn ignore_hangup() {}
