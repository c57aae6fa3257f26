//! Requests to stop: Ctrl-C, a termination signal, or the end of the parent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::thread;
use crate::error::{Error, Result};

/// Whether the cluster has signalled the time limit; the only state that the signal handler touches.
static OUT_OF_TIME: AtomicBool = AtomicBool::new(false);

/// Polling interval for that flag.
const POLL: Duration = Duration::from_millis(50);

/// A request to stop; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    asked: AtomicBool,
    /// Whether the next signal ends the process.
    is_last: AtomicBool,
}

impl Stop {
    /// Handles Ctrl-C and termination signals. The first requests an orderly stop, the second exits at once.
    ///
    /// # Errors
    /// [`Error::Usage`] if no handler can be installed, or if this process already has one.
    pub fn on_signal() -> Result<Self> {
        let hangup_ignored = ignores_hangup();
        let stop = Stop::default();
        let requested = stop.clone();
        ctrlc::set_handler(move || {
            if requested.0.is_last.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(Error::Interrupted.exit_code()));
            }
            requested.ask();
        })
        .map_err(|error| Error::Usage(format!("cannot handle signals: {error}")))?;
        if hangup_ignored {
            ignore_hangup();
        }
        Ok(stop)
    }

    /// Also handles `USR1`, the cluster's warning before the time limit; see [`Stop::out_of_time`].
    ///
    /// # Errors
    /// As [`thread::start`].
    pub fn on_time_limit(&self) -> Result<()> {
        handle_time_limit();
        let stop = self.clone();
        let poll = move || {
            while !Stop::out_of_time() {
                std::thread::sleep(POLL);
            }
            stop.ask();
        };
        thread::start(poll).map(drop)
    }

    /// Whether the cluster has signalled the time limit.
    pub fn out_of_time() -> bool {
        OUT_OF_TIME.load(Ordering::Relaxed)
    }

    /// Requests a stop.
    pub fn ask(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
    }

    /// Lets the next signal end the process: nothing is left that would have to stop in order.
    pub fn exit_on_signal(&self) {
        self.0.is_last.store(true, Ordering::Relaxed);
    }

    /// Whether a stop was requested.
    pub fn asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }
}

/// Whether this process was started to outlive its terminal (`nohup`), which the handler must preserve.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    // SAFETY: no handler is installed yet; the disposition can only be queried by setting it.
    let before = unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    if before != libc::SIG_IGN {
        // SAFETY: restores the previous disposition.
        unsafe { libc::signal(libc::SIGHUP, before) };
    }
    before == libc::SIG_IGN
}

#[cfg(unix)]
fn ignore_hangup() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn ignores_hangup() -> bool {
    false
}

#[cfg(not(unix))]
fn ignore_hangup() {}

#[cfg(unix)]
extern "C" fn on_time_limit_signal(_signal: libc::c_int) {
    OUT_OF_TIME.store(true, Ordering::Relaxed);
}

#[cfg(unix)]
fn handle_time_limit() {
    let handler: extern "C" fn(libc::c_int) = on_time_limit_signal;
    // SAFETY: the handler only stores into an atomic.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
}

#[cfg(not(unix))]
fn handle_time_limit() {}

/// Ignores `USR1`, which is for the parent but may be sent to all processes of a job.
#[cfg(unix)]
pub fn ignore_time_limit() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
}

/// Ignores `USR1`, which does not exist on this system.
#[cfg(not(unix))]
pub fn ignore_time_limit() {}
