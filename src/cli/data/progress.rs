//! Progress of a download: a bar on a terminal, a line per tenth otherwise.

use std::cell::RefCell;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::counter::eprint_line;

/// Shows the progress of the current step in bytes.
#[derive(Default)]
pub(super) struct Bytes(RefCell<Shown>);

#[derive(Default)]
struct Shown {
    what: String,
    /// `None` if standard error is not a terminal.
    bar: Option<ProgressBar>,
    /// Tenths printed so far.
    tenths: u64,
}

impl Bytes {
    /// Shows that `done` of `of` bytes are done of `what`, such as `downloading a.zip`.
    pub(super) fn show(&self, what: &str, done: u64, of: u64) {
        let mut shown = self.0.borrow_mut();
        if shown.what != what {
            shown.begin(what);
        }
        let tenths = done.saturating_mul(10) / of.max(1);
        match &shown.bar {
            Some(bar) => {
                bar.set_length(of);
                bar.set_position(done);
            }
            None if tenths > shown.tenths => {
                let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
                eprint_line(&format!("{what}: {}/{} MB", megabytes(done), megabytes(of)));
            }
            None => {}
        }
        shown.tenths = shown.tenths.max(tenths);
    }

    /// Prints a line.
    pub(super) fn line(&self, text: &str) {
        match &self.0.borrow().bar {
            Some(bar) => bar.suspend(|| eprint_line(text)),
            None => eprint_line(text),
        }
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        self.0.borrow_mut().begin("");
    }
}

impl Shown {
    /// Replaces the bar by a new one.
    fn begin(&mut self, what: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.what = what.into();
        self.tenths = 0;
        if !what.is_empty() && std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(1).with_message(what.to_owned());
            let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
            self.bar = Some(style.map_or(bar.clone(), |style| bar.with_style(style)));
        }
    }
}
