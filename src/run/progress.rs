//! Progress on standard error: bars on a terminal, one plain line an epoch otherwise.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

pub use crate::counter::eprint_line;

use super::clock;
use super::event::{Ended, Event};

/// A bar on one line: 80 columns have room for an epoch's numbers, and what does not fit is cut off the message.
const BAR: &str = "{prefix} {bar:12} {eta:>5}  {wide_msg}";

/// Shows how units get on.
pub struct Display {
    /// `None` where standard error is no terminal.
    bars: Option<MultiProgress>,
    units: BTreeMap<u64, ProgressBar>,
}

impl Display {
    /// Bars if standard error is a terminal, else lines.
    pub fn new() -> Self {
        Display { bars: std::io::stderr().is_terminal().then(MultiProgress::new), units: BTreeMap::new() }
    }

    /// Prints a line of its own.
    pub fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => {
                let _ = bars.println(text);
            }
            None => eprint_line(text),
        }
    }

    /// Shows an event of a seed.
    pub fn show(&mut self, seed: u64, event: &Event) {
        match event {
            Event::Started { epochs_done: 0 } => {}
            Event::Started { epochs_done } => {
                self.line(&format!("seed {seed}: goes on from a checkpoint after {epochs_done} whole epochs"));
            }
            Event::Note { text } => self.line(&format!("seed {seed}: {text}")),
            Event::Batch { epoch, epochs, batch, batches } => {
                if let Some(bar) = self.bar(seed) {
                    bar.set_length((epochs * batches) as u64);
                    bar.set_position(((epoch - 1) * batches + batch) as u64);
                }
            }
            Event::Epoch { epoch, epochs, numbers, seconds } => {
                let numbers: Vec<String> =
                    numbers.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
                let numbers = numbers.join("  ");
                match self.bar(seed) {
                    Some(bar) => bar.set_message(format!("epoch {epoch}/{epochs}  {numbers}")),
                    None => self
                        .line(&format!("seed {seed}: epoch {epoch}/{epochs}  {numbers}  {}", clock::seconds(*seconds))),
                }
            }
            Event::Ended(how) => {
                if let (Some(bar), Some(bars)) = (self.units.remove(&seed), &self.bars) {
                    bar.finish_and_clear();
                    bars.remove(&bar);
                }
                match how {
                    Ended::Done => self.line(&format!("seed {seed}: done")),
                    Ended::AlreadyDone => self.line(&format!("seed {seed}: another process has finished it")),
                    Ended::Held { by } => self.line(&format!("seed {seed}: held by {by}")),
                    Ended::Stopped => self.line(&format!("seed {seed}: stopped")),
                    Ended::Failed { reason, .. } => self.line(&format!("seed {seed}: failed: {reason}")),
                }
            }
        }
    }

    fn bar(&mut self, seed: u64) -> Option<&ProgressBar> {
        let bars = self.bars.as_ref()?;
        Some(self.units.entry(seed).or_insert_with(|| {
            let style = ProgressStyle::with_template(BAR);
            let bar = bars.add(ProgressBar::new(1)).with_prefix(format!("seed {seed}"));
            style.map_or(bar.clone(), |style| bar.with_style(style))
        }))
    }
}

/// Prints a line on standard output; a reader that has gone stops no training.
pub fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

impl Default for Display {
    fn default() -> Self {
        Display::new()
    }
}

/// A number of a result as people read it.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value == 0.0 || (1e-3..1e5).contains(&value.abs()) => format!("{value:.4}"),
        Some(value) => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let shown = [Some(0.0), Some(12.34567), Some(-0.5), Some(1.5e-7), Some(2e9), None].map(number);
        assert_eq!(shown, ["0.0000", "12.3457", "-0.5000", "1.500e-7", "2.000e9", "-"]);
    }
}
