//! How far a long step has come: a bar on a terminal, a line every tenth otherwise; on standard error.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

/// Prints a line on standard error. Where nobody can hear it, work goes on.
pub fn eprint_line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Shows how many of how many are done; from any thread.
pub struct Counter {
    what: &'static str,
    /// `None` where standard error is no terminal.
    bar: Option<ProgressBar>,
    /// Tenths that were told.
    told: AtomicUsize,
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
        Counter { what, bar, told: AtomicUsize::new(0) }
    }

    /// So many are done.
    pub fn show(&self, done: usize, of: usize) {
        let Some(bar) = &self.bar else {
            let tenth = done * 10 / of.max(1);
            if self.told.fetch_max(tenth, Ordering::Relaxed) < tenth {
                eprint_line(&format!("{done}/{of} {}", self.what));
            }
            return;
        };
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
