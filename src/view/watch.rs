//! The curves of a run in training, in a terminal: `ccdni watch`.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Row, Table};

use super::summary::{SeedSummary, Summary};
use crate::error::{Error, Result};
use crate::report::units::read_table;
use crate::run::directory::Directory;
use crate::run::progress::number;
use crate::run::status::Standing;

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_millis(700);

/// Columns that are no curves.
const NO_CURVES: [&str; 4] = ["seed", "epoch", "seconds", "train_loss_original"];

/// Most seeds that are listed below the charts.
const SEEDS: usize = 8;

/// Points of a curve: epoch and value.
type Curve = Vec<(f64, f64)>;

/// A run as it was last read.
struct Watched {
    summary: Summary,
    /// The columns, each with the curves of its seeds.
    columns: Vec<(String, Vec<Curve>)>,
}

/// What is shown of it.
#[derive(Default)]
struct Choice {
    /// The first column shown.
    first: usize,
    /// A logarithmic value axis.
    log: bool,
}

/// Shows a run until the user ends it.
///
/// # Errors
/// [`Error::Usage`] without a terminal, [`Error::Io`] if the terminal fails.
pub fn watch(run: &Directory) -> Result<()> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Error::Usage(format!(
            "`ccdni watch` draws in a terminal, and this is none; `ccdni show {}` prints the run",
            run.hash()
        )));
    }
    let mut terminal = ratatui::try_init().map_err(Error::io("draw in", Path::new("the terminal")))?;
    let outcome = follow(&mut terminal, run);
    ratatui::restore();
    outcome.map_err(Error::io("draw in", Path::new("the terminal")))
}

fn follow(terminal: &mut ratatui::DefaultTerminal, run: &Directory) -> std::io::Result<()> {
    let (mut watched, mut read) = (Watched::read(run, None), Instant::now());
    let mut choice = Choice::default();
    loop {
        terminal.draw(|frame| draw(frame, &watched, &choice))?;
        if event::poll(LOOK.saturating_sub(read.elapsed()))?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let count = watched.columns.len().max(1);
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                KeyCode::Char('l') => choice.log = !choice.log,
                KeyCode::Right | KeyCode::Tab => choice.first = (choice.first + 1) % count,
                KeyCode::Left | KeyCode::BackTab => choice.first = (choice.first + count - 1) % count,
                _ => {}
            }
        }
        if read.elapsed() >= LOOK {
            watched = Watched::read(run, Some(&watched));
            read = Instant::now();
        }
    }
}

impl Watched {
    /// Reads a run; what is missing or half-written is left out.
    fn read(run: &Directory, before: Option<&Watched>) -> Self {
        let summary = Summary::read(run, before.map(|before| &before.summary));
        let tables: Vec<_> = summary.seeds.iter().filter_map(|seed| read_table(&run.unit(seed.seed)).ok()).collect();
        let header = tables.first().map(|table| table.header.clone()).unwrap_or_default();
        let curves = |name: &String| {
            let of = |table: &crate::report::units::Table| {
                table.column("epoch").into_iter().zip(table.column(name)).collect()
            };
            (name.clone(), tables.iter().map(of).collect())
        };
        let columns = header.iter().filter(|name| !NO_CURVES.contains(&name.as_str())).map(curves).collect();
        Watched { summary, columns }
    }

    /// Epochs trained, with the parts of those in training, and epochs requested, of all seeds.
    fn epochs(&self) -> (f64, usize) {
        let whole = [Standing::Done, Standing::Imported].map(|standing| standing.to_string());
        let of = |seed: &SeedSummary| match whole.contains(&seed.state) {
            true => self.summary.epochs as f64,
            false => seed.epochs as f64 + seed.within,
        };
        let done = self.summary.seeds.iter().map(of).sum();
        (done, self.summary.epochs * self.summary.seeds.len())
    }
}

/// Head, charts, seeds and keys, from top to bottom.
fn draw(frame: &mut Frame, watched: &Watched, choice: &Choice) {
    let summary = &watched.summary;
    let listed = summary.seeds.len().min(SEEDS) as u16;
    let rows = [Constraint::Length(2), Constraint::Min(6), Constraint::Length(listed + 1), Constraint::Length(1)];
    let [head, charts, seeds, keys] = Layout::vertical(rows).areas(frame.area());
    draw_head(frame, head, watched);
    draw_charts(frame, charts, watched, choice);
    draw_seeds(frame, seeds, watched);
    let log = if choice.log { "linear" } else { "logarithmic" };
    frame.render_widget(Paragraph::new(format!("q quit   ← → other columns   l {log}")).dim(), keys);
}

fn draw_head(frame: &mut Frame, area: Rect, watched: &Watched) {
    let summary = &watched.summary;
    let name = summary.name.as_deref().unwrap_or_default();
    let problem = summary.problem.as_deref().map(|problem| problem.replace('\n', "; ")).unwrap_or_default();
    let title = format!("{} {name}  {} {}  {problem}", summary.run, summary.task, summary.network);
    let [top, bottom] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(title).bold(), top);
    let (done, all) = watched.epochs();
    let ratio = if all == 0 { 0.0 } else { (done / all as f64).clamp(0.0, 1.0) };
    let bar = Gauge::default().ratio(ratio).label(format!("epochs {done:.1} of {all}")).gauge_style(Color::Cyan);
    frame.render_widget(bar, bottom);
}

/// As many columns as there is room for, from the first that is chosen.
fn draw_charts(frame: &mut Frame, area: Rect, watched: &Watched, choice: &Choice) {
    let count = watched.columns.len();
    if count == 0 {
        frame.render_widget(Paragraph::new("No epoch is finished yet.").block(Block::bordered()), area);
        return;
    }
    let (across, down) = ((area.width / 50).clamp(1, 3), (area.height / 12).clamp(1, 2));
    let grid = Layout::vertical(vec![Constraint::Fill(1); down.into()]).split(area);
    let cells =
        grid.iter().flat_map(|row| Layout::horizontal(vec![Constraint::Fill(1); across.into()]).split(*row).to_vec());
    for (offset, cell) in cells.take(count).enumerate() {
        let (name, curves) = &watched.columns[(choice.first + offset) % count];
        draw_chart(frame, cell, name, curves, choice.log);
    }
}

fn draw_chart(frame: &mut Frame, area: Rect, name: &str, curves: &[Curve], log: bool) {
    let shown = |value: f64| if log { value.log10() } else { value };
    let scaled = |curve: &Curve| -> Curve {
        curve.iter().map(|&(epoch, value)| (epoch, shown(value))).filter(|(_, value)| value.is_finite()).collect()
    };
    let singles: Vec<Curve> = curves.iter().map(scaled).collect();
    let mean = scaled(&mean(curves));
    let range = |of: fn(&(f64, f64)) -> f64| {
        let all = singles.iter().flatten().map(of);
        all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let widened = |(low, high): (f64, f64)| if high > low { [low, high] } else { [low - 0.5, high + 0.5] };
    let (x, y) = (range(|point| point.0), range(|point| point.1));
    let title = format!(" {name}{} ", if log { ", logarithmic" } else { "" });
    let block = Block::bordered().title(title);
    if x.0 > x.1 {
        frame.render_widget(Paragraph::new("no values").block(block), area);
        return;
    }
    let ([left, right], [low, high]) = (widened(x), widened(y));
    let label = |value: f64| number(Some(if log { 10f64.powf(value) } else { value }));
    let line = |points, color| {
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
            .data(points)
    };
    let mut lines: Vec<Dataset> = Vec::new();
    if singles.len() > 1 {
        lines.extend(singles.iter().map(|points| line(points, Color::DarkGray)));
    }
    lines.push(line(&mean, Color::Cyan));
    let chart = Chart::new(lines)
        .block(block)
        .legend_position(None)
        .x_axis(Axis::default().bounds([left, right]).labels([format!("{left}"), format!("epoch {right}")]))
        .y_axis(Axis::default().bounds([low, high]).labels([label(low), label((low + high) / 2.0), label(high)]));
    frame.render_widget(chart, area);
}

/// The mean at the epochs that all seeds have.
fn mean(curves: &[Curve]) -> Curve {
    let epochs = curves.iter().map(Vec::len).min().unwrap_or(0);
    let at = |epoch: usize| {
        let values = curves.iter().map(|curve| curve[epoch].1).sum::<f64>();
        (curves[0][epoch].0, values / curves.len() as f64)
    };
    (0..epochs).map(at).collect()
}

fn draw_seeds(frame: &mut Frame, area: Rect, watched: &Watched) {
    // What moves comes first.
    let mut seeds: Vec<&SeedSummary> = watched.summary.seeds.iter().collect();
    let place = |seed: &SeedSummary| {
        ["failed", "running", "waiting"].iter().position(|state| seed.state == *state).unwrap_or(3)
    };
    seeds.sort_by_key(|seed| place(seed));
    let row = |seed: &&SeedSummary| {
        let color = match seed.state.as_str() {
            "done" => Color::Green,
            "running" => Color::Cyan,
            "failed" => Color::Red,
            _ => Color::Gray,
        };
        let note = seed.reason.as_deref().or(seed.holder.as_deref()).unwrap_or_default();
        let epochs = format!("{} of {}", seed.epochs, watched.summary.epochs);
        Row::new([
            Line::from(seed.seed.to_string()),
            Line::from(seed.state.clone()).fg(color),
            Line::from(epochs),
            Line::from(note.to_owned()),
        ])
    };
    let widths = [Constraint::Length(8), Constraint::Length(9), Constraint::Length(16), Constraint::Fill(1)];
    let table =
        Table::new(seeds.iter().take(SEEDS).map(row), widths).header(Row::new(["seed", "state", "epochs", ""]).dim());
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn watched(curves: Vec<Curve>) -> Watched {
        let seed = |seed: u64, state: &str, reason: Option<&str>| SeedSummary {
            seed,
            state: state.into(),
            epochs: 2,
            within: 0.0,
            reason: reason.map(String::from),
            holder: None,
        };
        let summary = Summary {
            run: "3f9a1c04d2be".into(),
            name: Some("small".into()),
            task: "linedraw".into(),
            network: "ccRNN".into(),
            epochs: 10,
            seeds: vec![seed(1, "running", None), seed(2, "failed", Some("the loss is NaN"))],
            ..Summary::default()
        };
        let columns = if curves.is_empty() { Vec::new() } else { vec![("val_mse".into(), curves)] };
        Watched { summary, columns }
    }

    /// The text of a terminal of this size.
    fn drawn(watched: &Watched, log: bool, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, watched, &Choice { first: 0, log })).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn curves_and_seeds_are_drawn() {
        let text =
            drawn(&watched(vec![vec![(1.0, 4.0), (2.0, 1.0)], vec![(1.0, 2.0), (2.0, f64::NAN)]]), false, 90, 24);
        for expected in [
            "3f9a1c04d2be small",
            "epochs 4.0 of 20",
            "val_mse",
            "4.0000",
            "1.0000",
            "epoch 2",
            "running",
            "the loss is NaN",
        ] {
            assert!(text.contains(expected), "{expected}:\n{text}");
        }
        assert!(text.contains(|letter| ('\u{2801}'..='\u{28ff}').contains(&letter)), "{text}");
    }

    #[test]
    fn no_size_and_no_values_break_it() {
        let none = watched(Vec::new());
        assert!(drawn(&none, false, 80, 24).contains("No epoch is finished yet."));
        let zero = watched(vec![vec![(1.0, 0.0)]]);
        assert!(drawn(&zero, true, 80, 24).contains("no values"));
        for (width, height) in [(1, 1), (5, 3), (20, 8), (400, 90)] {
            drawn(&zero, false, width, height);
            drawn(&none, false, width, height);
        }
    }

    #[test]
    fn the_mean_ends_where_the_first_seed_stops() {
        assert_eq!(mean(&[vec![(1.0, 1.0), (2.0, 3.0)], vec![(1.0, 3.0)]]), [(1.0, 2.0)]);
        assert!(mean(&[]).is_empty());
    }
}
