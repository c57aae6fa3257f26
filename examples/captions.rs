//! What the steps of captioning cost on one thread: the numbers of `docs/performance.md`, section "Captions".
//! `cargo run --release --example captions [CAPTIONS]`, on a quiet machine.
//!
//! CAPTIONS is an input file of `ccdni data vocab`, whose captions are repeated up to 400,000; by default they are COCO's in
//! the golden data.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use candle_core::{Device, Tensor};
use ccdni::data::captions::CaptionSet;
use ccdni::data::captions::vocabulary::{Vocabulary, WordCounts};
use ccdni::data::images;
use ccdni::model::{Model, Plugins};
use ccdni::spec::ModelSpec;
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::train::backend::{Backend, Composed, Fused};
use ccdni::train::decode::{Limits, Strategy, decode};
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error>;

const CAPTIONS: usize = 400_000;
const GOLDEN: &str = "tests/golden/caption/tokenize.json";
/// The paper's decoder.
const WORDS: usize = 9956;
const HIDDEN: usize = 256;

fn main() -> Result<(), Error> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    println!("| step | time |\n|---|---|");
    vocabulary()?;
    images()?;
    sentences(&Fused::default(), "fused")?;
    sentences(&Composed, "composed")
}

/// Prints the fastest of some runs, in milliseconds.
fn time<T>(what: &str, times: usize, mut work: impl FnMut() -> T) {
    let once = |_| {
        let begun = Instant::now();
        black_box(work());
        begun.elapsed().as_secs_f64()
    };
    let fastest = (0..times).map(once).fold(f64::INFINITY, f64::min);
    println!("| {what} | {:.2} ms |", 1e3 * fastest);
}

fn vocabulary() -> Result<(), Error> {
    let some: Vec<String> = match std::env::args().nth(1) {
        Some(path) => CaptionSet::open(Path::new(&path))?.captions.into_iter().map(|caption| caption.text).collect(),
        None => {
            let golden: Value = serde_json::from_slice(&std::fs::read(GOLDEN)?)?;
            let items = golden["items"].as_array().ok_or("no items in the golden data")?;
            let coco = items.iter().filter(|item| item["kind"] == "coco");
            coco.filter_map(|item| Some(item["text"].as_str()?.to_owned())).collect()
        }
    };
    let all: Vec<&str> = some.iter().map(String::as_str).cycle().take(CAPTIONS).collect();
    time(&format!("vocabulary of {} captions ({} different ones)", all.len(), some.len()), 5, || {
        Vocabulary::new(&WordCounts::of(&all), 4)
    });
    Ok(())
}

fn images() -> Result<(), Error> {
    // Both smooth and rough, like photographs.
    let wave = |x: u32, y: u32, by: f32| ((x as f32 * by).sin() + (y as f32 * by * 0.7).cos()) * 50.0 + 128.0;
    let rough = |x: u32, y: u32| (x.wrapping_mul(7919) ^ y.wrapping_mul(104_729)) % 23;
    let image = RgbImage::from_fn(640, 480, |x, y| {
        Rgb([0.011f32, 0.017, 0.031].map(|by| (wave(x, y, by) as u32 + rough(x, y)).min(255) as u8))
    });
    let jpeg = images::encode(&image, ImageFormat::Jpeg, 90)?;
    let small = images::resize_square(&image, 256)?;
    time("640 x 480 to 256 x 256, the resize alone", 50, || images::resize_square(&image, 256));
    time("decoding the JPEG of 640 x 480", 20, || images::decode(&jpeg));
    time("encoding the JPEG of 256 x 256, quality 95", 20, || images::encode(&small, ImageFormat::Jpeg, 95));
    Ok(())
}

fn sentences(backend: &dyn Backend, name: &str) -> Result<(), Error> {
    let spec: ModelSpec = serde_json::from_value(json!({
        "layers": [{ "cell": "lstm", "hidden": HIDDEN }], "embed": { "size": HIDDEN },
    }))?;
    let shape = TaskShape {
        input: Input::Tokens { vocabulary: WORDS, first: First::Feature },
        target: Target { kind: TargetKind::Classes { count: WORDS }, when: When::EveryStep },
        steps: None,
        validates: true,
    };
    let model = Model::new(&Plugins::built_in(), &spec, &shape, 1, &Device::Cpu)?;
    // Without an end token, every sentence has the maximal length.
    let limits = Limits { start: 1, end: 2, never: vec![0, 1, 2, 3], steps: 13 };
    let sample = Strategy::Sample { temperature: 1.0, top_p: 0.9, seed: 1, first: 0 };
    for (strategy, what) in
        [(Strategy::Greedy, "greedy"), (Strategy::Beam { width: 5 }, "a beam of 5"), (sample, "drawn, top-p 0.9")]
    {
        for images in [1, 100] {
            let features = Tensor::randn(0f32, 1.0, (images, HIDDEN), &Device::Cpu)?;
            decode(&model, backend, &features, &strategy, &limits)?;
            let what = format!("{name}: {images} sentences of 13 words, {what}");
            time(&what, 500 / (images + 20), || decode(&model, backend, &features, &strategy, &limits));
        }
    }
    Ok(())
}
