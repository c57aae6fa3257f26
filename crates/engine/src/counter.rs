//! Progress of a long step on standard error: a bar on a terminal, a line per tenth otherwise.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line on standard error, ignoring failures.
pub fn eprint_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Shows progress; from any thread.
pub struct Counter {
    what: &'static str,
    /// `None` if standard error is not a terminal.
    bar: Option<ProgressBar>,
    /// Tenths printed so far.
    printed: AtomicUsize,
}

impl Counter {
    /// Counts `what`, such as `images`.
    pub fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1).with_message(what);
            match ProgressStyle::with_template("{pos}/{len} {msg} {wide_bar} {per_sec} {eta:>5}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Counter { what, bar, printed: AtomicUsize::new(0) }
    }

    /// Shows that `done` of `of` are done.
    pub fn show(&self, done: usize, of: usize) {
        let Some(bar) = &self.bar else {
            let tenth = done * 10 / of.max(1);
            if self.printed.fetch_max(tenth, Ordering::Relaxed) < tenth {
                eprint_line(&format!("{done}/{of} {}", self.what));
            }
            return;
        };
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    }

    /// Removes the bar.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
