//! How far a step has come: a bar on a terminal, a line every tenth otherwise.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::progress::eprint_line;

/// Shows how many of how many are done; from any thread.
pub(super) struct Progress {
    what: &'static str,
    /// `None` where standard error is no terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Counts `what`, such as `pictures`.
    pub(super) fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1).with_message(what);
            match ProgressStyle::with_template("{pos}/{len} {msg} {wide_bar} {per_sec} {eta:>5}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        Progress { what, bar }
    }

    /// So many are done.
    pub(super) fn show(&self, done: usize, of: usize) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(of as u64);
                bar.inc(1);
            }
            None if done * 10 / of != (done - 1) * 10 / of => eprint_line(&format!("{done}/{of} {}", self.what)),
            None => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
