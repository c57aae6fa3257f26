//! What an epoch costs against the length of the sequence and of the windows: the tables and the figure of
//! `docs/performance.md`. `cargo run --release --example cost`, on a quiet machine.
//!
//! Line drawing with noise, so that every sequence is computed: LSTM 50, synthesizer 2 x 400, batches of 50.

use candle_core::Device;
use ccdni::spec::Spec;
use ccdni::tasks::{LineDraw, Task};
use ccdni::train::{Callback, Outcome, Plugins, Trainer};
use plotters::prelude::*;
use serde_json::json;

type Error = Box<dyn std::error::Error>;

const SEQ_LENS: [usize; 5] = [10, 30, 100, 300, 1000];
const WINDOWS: [usize; 7] = [1, 2, 5, 10, 20, 50, 100];
const FIGURE: &str = "docs/images/cost.svg";

fn main() -> Result<(), Error> {
    let mut lengths = [Vec::new(), Vec::new()];
    println!("| steps | cRNN, bptt 1 | ccRNN, bptt 1 | ccRNN, bptt 10 | cRNN, whole |\n|---|---|---|---|---|");
    for steps in SEQ_LENS {
        let costs = [(1, false), (1, true), (10, true), (steps, false)];
        let costs = costs.map(|(window, dni)| milliseconds(steps, window, dni));
        let [plain, dni, wide, whole] = costs;
        let (plain, dni) = (plain?, dni?);
        println!("| {steps} | {plain:.2} ms | {dni:.2} ms | {:.2} ms | {:.2} ms |", wide?, whole?);
        lengths[0].push((steps as f64, plain));
        lengths[1].push((steps as f64, dni));
    }
    let mut windows = [Vec::new(), Vec::new()];
    println!("\n| bptt, of 100 steps | cRNN | ccRNN |\n|---|---|---|");
    for window in WINDOWS {
        let (plain, dni) = (milliseconds(100, window, false)?, milliseconds(100, window, true)?);
        println!("| {window} | {plain:.2} ms | {dni:.2} ms |");
        windows[0].push((window as f64, plain));
        windows[1].push((window as f64, dni));
    }
    draw(&lengths, &windows)
}

/// Milliseconds per training batch, data and updates included: the fastest of some epochs.
fn milliseconds(steps: usize, window: usize, dni: bool) -> Result<f64, Error> {
    let dni = dni.then(|| json!({ "hidden": [400, 400] }));
    let batches = (300 / steps).clamp(2, 16);
    let spec: Spec = serde_json::from_value(json!({
        "task": {
            "kind": "linedraw", "seq_len": steps, "train_size": 50 * batches, "val_split": 0.0, "test_size": 0,
            "train_noise": 0.1,
        },
        "model": { "layers": [{ "cell": "lstm", "hidden": 50, "dni": dni }] },
        "train": { "epochs": 5, "batch_size": 50, "bptt": window, "clip": { "norm": 1.0 } },
    }))?;
    let task: LineDraw = serde_json::from_value(json!({
        "seq_len": steps, "train_size": 50 * batches, "val_split": 0.0, "test_size": 0, "train_noise": 0.1,
    }))?;
    let mut trainer = Trainer::new(&Plugins::built_in(), &spec, &task.shape(), task.open(1)?, 1, Device::Cpu)?;
    match trainer.train(&mut NoCallback)? {
        Outcome::Finished(finished) => {
            let seconds = finished.history.iter().map(|row| row.seconds).fold(f64::INFINITY, f64::min);
            Ok(1e3 * seconds / batches as f64)
        }
        Outcome::Stopped => Err("training stopped without a request".into()),
    }
}

/// A callback that does nothing.
struct NoCallback;

impl Callback for NoCallback {}

/// Models in the order in which they are measured, with their colours (one light, one dark in grey print).
const MODELS: [(&str, RGBColor); 2] = [("cRNN", RGBColor(150, 150, 150)), ("ccRNN", RGBColor(20, 80, 160))];

fn draw(lengths: &[Vec<(f64, f64)>; 2], windows: &[Vec<(f64, f64)>; 2]) -> Result<(), Error> {
    plotters::style::register_font(
        "sans-serif",
        plotters::style::FontStyle::Normal,
        include_bytes!("../assets/fonts/DejaVuSans.ttf"),
    )
    .map_err(|_| "the font cannot be read")?;
    let root = SVGBackend::new(FIGURE, (900, 360)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, curves, title) in root
        .split_evenly((1, 2))
        .iter()
        .zip([lengths, windows])
        .zip(["steps of a sequence (windows of 1)", "steps of a window (sequences of 100)"])
        .map(|((area, curves), title)| (area, curves, title))
    {
        let all = || curves.iter().flatten();
        let (x, y) = (all().map(|p| p.0), all().map(|p| p.1));
        let x = x.clone().fold(f64::INFINITY, f64::min)..x.fold(0.0, f64::max);
        let y = y.clone().fold(f64::INFINITY, f64::min) * 0.7..y.fold(0.0, f64::max) * 1.4;
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        chart.configure_mesh().x_desc(title).y_desc("ms per batch").light_line_style(WHITE).draw()?;
        for (curve, (name, colour)) in curves.iter().zip(MODELS) {
            chart
                .draw_series(LineSeries::new(curve.iter().copied(), colour.stroke_width(2)).point_size(3))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw()?;
    }
    root.present()?;
    println!("\n{FIGURE}");
    Ok(())
}
