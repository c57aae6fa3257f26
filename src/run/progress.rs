//! Progress on standard error.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

pub use crate::counter::eprint_line;

use super::clock;
use super::event::{Ended, Event};
use super::pool::UnitId;
use super::survey::name;
use crate::spec::sweep::Sweep;

/// A unit's bar on one line: 80 columns have room for an epoch's numbers, and what does not fit is cut off the message.
const BAR: &str = "{prefix} {bar:12} {eta:>5}  {wide_msg}";

/// Lines about epochs of a run where standard error is no terminal, divided among its seeds: the first and every fifth of 100
/// epochs of one seed. The first and the last epoch of every seed are always printed.
const EPOCH_LINES: usize = 21;

/// The bar of all units.
const TOTAL: &str = "{bar:24} {pos}/{len} units, {eta} left";

/// Shows how units get on: a line per unit that ends, and of a single run lines about some epochs; on a terminal a bar per
/// unit that is being trained, and one of them all.
pub struct Display<'a> {
    sweep: &'a Sweep,
    /// `None` where standard error is no terminal.
    bars: Option<MultiProgress>,
    units: BTreeMap<UnitId, ProgressBar>,
    total: ProgressBar,
    /// Maximum number of lines about epochs per unit: none, or at least 2.
    lines: usize,
    /// The line about a unit's latest epoch, where it was not printed: the last one always is.
    latest: BTreeMap<UnitId, String>,
}

impl<'a> Display<'a> {
    /// Of so many units that are to be trained; `verbose` prints a line about every epoch.
    pub fn new(sweep: &'a Sweep, units: usize, verbose: bool) -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        let total = match &bars {
            Some(bars) if units > 1 => bars.add(styled(TOTAL)),
            _ => ProgressBar::hidden(),
        };
        total.set_length(units as u64);
        let lines = match (verbose, &bars, sweep.runs.len()) {
            (true, ..) => usize::MAX,
            (false, None, 1) => (EPOCH_LINES / units.max(1)).max(2),
            _ => 0,
        };
        Display { sweep, bars, units: BTreeMap::new(), total, lines, latest: BTreeMap::new() }
    }

    fn line(&self, unit: UnitId, text: &str) {
        self.print(&format!("{}: {text}", name(self.sweep, unit)));
    }

    fn print(&self, line: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(line)),
            None => eprint_line(line),
        }
    }

    /// A unit needs no training any more.
    pub fn skip(&self) {
        self.total.inc(1);
    }

    /// Shows an event of a unit.
    pub fn show(&mut self, unit: UnitId, event: &Event) {
        match event {
            Event::Started { epochs_done: 0 } => {}
            Event::Started { epochs_done } => {
                self.line(unit, &format!("goes on from a checkpoint after {epochs_done} whole epochs"));
            }
            Event::Note { text } => self.line(unit, text),
            Event::Batch { epoch, epochs, batch, batches } => {
                if let Some(bar) = self.bar(unit) {
                    bar.set_length((epochs * batches) as u64);
                    bar.set_position(((epoch - 1) * batches + batch) as u64);
                }
            }
            Event::Epoch { epoch, epochs, numbers, seconds } => {
                let text = epoch_text(*epoch, *epochs, numbers);
                let line = format!("{text}  {}", clock::seconds(*seconds));
                if let Some(bar) = self.bar(unit) {
                    bar.set_message(text);
                }
                self.show_epoch(unit, *epoch, *epochs, line);
            }
            Event::Ended(how) => self.show_end(unit, how),
        }
    }

    /// Prints the line about an epoch, or keeps it in case the epoch is the last.
    fn show_epoch(&mut self, unit: UnitId, epoch: usize, epochs: usize, line: String) {
        if self.lines == 0 {
            return;
        }
        if epoch == 1 || epoch == epochs || epoch.is_multiple_of(stride(epochs, self.lines)) {
            self.latest.remove(&unit);
            self.line(unit, &line);
        } else {
            self.latest.insert(unit, line);
        }
    }

    fn show_end(&mut self, unit: UnitId, how: &Ended) {
        if let (Some(bar), Some(bars)) = (self.units.remove(&unit), &self.bars) {
            bar.finish_and_clear();
            bars.remove(&bar);
        }
        if let Some(line) = self.latest.remove(&unit) {
            self.line(unit, &line);
        }
        let how = match how {
            Ended::Done => "done",
            Ended::AlreadyDone => "another process has finished it",
            Ended::Stopped => "stopped after writing a checkpoint",
            Ended::Failed { reason, .. } => &format!("failed: {reason}"),
            // The holder is printed after training, if the unit is still held.
            Ended::Held { .. } => return,
        };
        self.total.inc(1);
        let values = self.sweep.runs[unit.run].description();
        let values = if values.is_empty() { values } else { format!(" ({values})") };
        let place = match (self.total.position(), self.total.length()) {
            (place, Some(all)) if all > 1 => format!("[{place}/{all}] "),
            _ => String::new(),
        };
        self.print(&format!("{place}{}{values}: {how}", name(self.sweep, unit)));
    }

    fn bar(&mut self, unit: UnitId) -> Option<ProgressBar> {
        let bars = self.bars.as_ref()?;
        let new = || bars.add(styled(BAR)).with_prefix(name(self.sweep, unit));
        Some(self.units.entry(unit).or_insert_with(new).clone())
    }

    /// Takes all bars away.
    pub fn end(self) {
        self.total.finish_and_clear();
    }
}

/// An epoch and its numbers, as `epoch 3/100  train_loss 0.1234`.
fn epoch_text(epoch: usize, epochs: usize, numbers: &[(String, Option<f64>)]) -> String {
    let numbers = numbers.iter().map(|(name, value)| format!("  {name} {}", number(*value)));
    format!("epoch {epoch}/{epochs}{}", numbers.collect::<String>())
}

/// The smallest of 1, 2, 5, 10, 20, 50... such that the first epoch, its multiples and the last are at most `lines`.
fn stride(epochs: usize, lines: usize) -> usize {
    if epochs <= lines {
        return 1;
    }
    let mut strides = (0..).flat_map(|power| [2, 5, 10].map(|factor| factor * 10usize.pow(power)));
    strides.find(|stride| (epochs - 1) / stride + 2 <= lines).unwrap_or(epochs)
}

fn styled(template: &str) -> ProgressBar {
    let bar = ProgressBar::new(1);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Prints a line on standard output; a reader that has gone stops no training.
pub fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
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
    fn epoch_lines_are_round_and_no_more_than_allowed() {
        let strides = [(12, 21), (100, 21), (250, 21), (100, 10), (100, 2), (1, 2)];
        assert_eq!(strides.map(|(epochs, lines)| stride(epochs, lines)), [1, 5, 20, 20, 100, 1]);
        for (epochs, lines) in (1..300).flat_map(|epochs| (2..30).map(move |lines| (epochs, lines))) {
            let stride = stride(epochs, lines);
            let shown = (1..=epochs).filter(|epoch| [1, epochs].contains(epoch) || epoch.is_multiple_of(stride));
            assert!(shown.count() <= lines, "{epochs} epochs, {lines} lines");
        }
    }

    #[test]
    fn an_epoch_is_a_line_with_its_numbers() {
        let numbers = [("train_loss".to_string(), Some(0.25)), ("val_mse".to_string(), None)];
        assert_eq!(epoch_text(3, 100, &numbers), "epoch 3/100  train_loss 0.2500  val_mse -");
    }

    #[test]
    fn numbers_read_well() {
        let shown = [Some(0.0), Some(12.34567), Some(-0.5), Some(1.5e-7), Some(2e9), None].map(number);
        assert_eq!(shown, ["0.0000", "12.3457", "-0.5000", "1.500e-7", "2.000e9", "-"]);
    }
}
