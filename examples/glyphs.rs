//! The digits that the program draws: a sheet of them as an image, and the accuracy of a linear classifier on them.
//!
//! `cargo run --release --example glyphs -- glyphs.png`

use ccdni::data::digits::{CLASSES, Digits, Glyphs, PIXELS, SIDE, Source};
use ccdni::rng::Stream;

/// Images per class on the sheet.
const COLUMNS: usize = 16;
/// Images per mini-batch, epochs, and the initial learning rate.
const BATCH: usize = 50;
const EPOCHS: usize = 30;
const RATE: f32 = 0.1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "glyphs.png".into());
    let began = std::time::Instant::now();
    let digits = Digits::open(&Source::Glyphs(Glyphs::default()))?;
    let count = digits.test().end;
    println!("{count} images drawn in {:.2} s", began.elapsed().as_secs_f64());
    sheet(&digits).save(&path)?;
    println!("some of them are in {path}");
    let (train, test) = linear(&digits);
    println!(
        "a linear classifier has an accuracy of {:.1} % in training and {:.1} % in the test",
        100.0 * train,
        100.0 * test
    );
    Ok(())
}

/// The first images of every class, one row each.
fn sheet(digits: &Digits) -> image::GrayImage {
    let mut sheet = image::GrayImage::new((COLUMNS * SIDE) as u32, (CLASSES * SIDE) as u32);
    for class in 0..CLASSES {
        let of_class = digits.train().filter(|&index| digits.label(index) == class);
        for (column, index) in of_class.take(COLUMNS).enumerate() {
            for (place, &pixel) in digits.pixels(index).iter().enumerate() {
                let (x, y) = (column * SIDE + place % SIDE, class * SIDE + place / SIDE);
                sheet.put_pixel(x as u32, y as u32, image::Luma([255 - pixel]));
            }
        }
    }
    sheet
}

/// Trains a softmax regression on the pixels of whole images; returns its training and test accuracy.
pub fn linear(digits: &Digits) -> (f64, f64) {
    let mut weights = vec![0f32; CLASSES * (PIXELS + 1)];
    let mut order: Vec<usize> = digits.train().collect();
    for epoch in 1..=EPOCHS {
        Stream::new(1, "example.order", epoch, 0).shuffle(&mut order);
        let rate = RATE * (1.0 - (epoch - 1) as f32 / EPOCHS as f32) / BATCH as f32;
        for batch in order.chunks(BATCH) {
            let mut step = vec![0f32; weights.len()];
            for &index in batch {
                let x = input(digits, index);
                let mut answer = logits(&weights, &x);
                let largest = answer.iter().copied().fold(f32::MIN, f32::max);
                answer.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
                let sum: f32 = answer.iter().sum();
                for (class, step) in step.chunks_mut(PIXELS + 1).enumerate() {
                    let error = answer[class] / sum - f32::from(u8::from(class == digits.label(index)));
                    step.iter_mut().zip(&x).for_each(|(step, x)| *step += error * x);
                }
            }
            weights.iter_mut().zip(&step).for_each(|(weight, step)| *weight -= rate * step);
        }
    }
    let accuracy = |range: std::ops::Range<usize>| {
        let count = range.len().max(1);
        let correct = range.filter(|&index| {
            let answer = logits(&weights, &input(digits, index));
            let best = (0..CLASSES).max_by(|&a, &b| answer[a].total_cmp(&answer[b]));
            best == Some(digits.label(index))
        });
        correct.count() as f64 / count as f64
    };
    (accuracy(digits.train()), accuracy(digits.test()))
}

/// The pixels of an image from 0 to 1, and a one for the bias.
fn input(digits: &Digits, index: usize) -> Vec<f32> {
    digits.pixels(index).iter().map(|&pixel| f32::from(pixel) / 255.0).chain([1.0]).collect()
}

fn logits(weights: &[f32], x: &[f32]) -> Vec<f32> {
    let dot = |row: &[f32]| {
        let mut sums = [0f32; 8];
        for (w, x) in row.chunks(8).zip(x.chunks(8)) {
            sums.iter_mut().zip(w.iter().zip(x)).for_each(|(sum, (w, x))| *sum += w * x);
        }
        sums.iter().sum()
    };
    weights.chunks(PIXELS + 1).map(dot).collect()
}
