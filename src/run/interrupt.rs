//! Wishes to stop: Ctrl-C, a termination signal, or a parent that has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};

/// Whether a cluster said that the time is nearly up: all that a handler of signals may touch.
static OUT_OF_TIME: AtomicBool = AtomicBool::new(false);

/// How often that is looked at.
const LISTENING: Duration = Duration::from_millis(50);

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

    /// Follows `USR1` too, by which a cluster says that the time is nearly up: [`Stop::out_of_time`] tells.
    pub fn on_time_limit(&self) {
        listen_to_time_limit();
        let stop = self.clone();
        std::thread::spawn(move || {
            while !Stop::out_of_time() {
                std::thread::sleep(LISTENING);
            }
            stop.ask();
        });
    }

    /// Whether a cluster said that the time is nearly up.
    pub fn out_of_time() -> bool {
        OUT_OF_TIME.load(Ordering::Relaxed)
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

#[cfg(unix)]
extern "C" fn time_is_nearly_up(_signal: libc::c_int) {
    OUT_OF_TIME.store(true, Ordering::Relaxed);
}

#[cfg(unix)]
fn listen_to_time_limit() {
    let handler: extern "C" fn(libc::c_int) = time_is_nearly_up;
    // SAFETY: the handler stores into an atomic and does nothing else.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
}

#[cfg(not(unix))]
fn listen_to_time_limit() {}

/// Leaves `USR1` to the parent: it may be sent to all processes of a job.
#[cfg(unix)]
pub fn ignore_time_limit() {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
}

/// Leaves `USR1` to the parent.
#[cfg(not(unix))]
pub fn ignore_time_limit() {}
