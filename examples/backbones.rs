//! What backbones cost: the tables of `docs/performance.md`. `RAYON_NUM_THREADS=1 cargo run --release --example backbones`,
//! on a quiet machine.

use std::hint::black_box;
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use ccdni::data::images::{Crop, Transform};
use ccdni::model::encoder::{WeightSource, load};
use ccdni::nn::backbone::{Backbone, ConvNet, Mode, Resnet};
use ccdni::nn::relu;
use ccdni::rng::Stream;
use image::RgbImage;

type Error = Box<dyn std::error::Error>;

const BATCH: usize = 64;
const WIDTHS: [usize; 4] = [16, 32, 64, 128];

fn main() -> Result<(), Error> {
    println!("{} threads\n\n| | |\n|---|---|", rayon::current_num_threads());
    let product = Tensor::ones((2000, 2000), candle_core::DType::F32, &Device::Cpu)?;
    let seconds = fastest(5, || Ok(product.matmul(&product)?))?;
    let speed = 16e9 / seconds;
    println!("| product of two 2000 x 2000 matrices | {:.1} ms, {:.0} GFLOP/s |", 1e3 * seconds, speed / 1e9);
    conv_net()?;
    for (depth, operations) in [(18, 3.63e9), (50, 8.18e9), (152, 23.03e9)] {
        resnet(depth, operations / speed)?;
    }
    cold()?;
    transform()
}

/// Seconds of the fastest of some calls.
fn fastest<T>(calls: usize, mut call: impl FnMut() -> Result<T, Error>) -> Result<f64, Error> {
    let mut fastest = f64::INFINITY;
    for _ in 0..calls {
        let start = Instant::now();
        black_box(call()?);
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    Ok(fastest)
}

fn images(batch: usize, side: usize) -> Result<Tensor, Error> {
    let mut stream = Stream::new(1, "pictures", 0, 0);
    let numbers: Vec<f32> = (0..batch * 3 * side * side).map(|_| stream.uniform(-2.0, 2.0)).collect();
    Ok(Tensor::from_vec(numbers, (batch, 3, side, side), &Device::Cpu)?)
}

/// A training step of the small network without the optimizer, and the same with candle's convolution.
fn conv_net() -> Result<(), Error> {
    let backbone = Backbone::Conv(ConvNet::new(64, &WIDTHS));
    let weights = load(&backbone, &WeightSource::Random, 1, &Device::Cpu)?.tensors;
    let variables: Vec<Var> = weights.iter().map(Var::from_tensor).collect::<candle_core::Result<_>>()?;
    let weights: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
    let pixels = images(BATCH, 64)?;
    let own = || Ok(backbone.forward(&weights, &pixels, Mode::Train)?.features);
    let candle_own = || {
        let mut x = pixels.clone();
        for pair in weights.chunks_exact(2) {
            let bias = pair[1].reshape((1, pair[1].elem_count(), 1, 1))?;
            x = relu(&x.conv2d(&pair[0], 1, 2, 1, 1)?.broadcast_add(&bias)?)?;
        }
        Ok(x)
    };
    let step = |forward: &dyn Fn() -> Result<Tensor, Error>| {
        let whole = fastest(12, || Ok(forward()?.sqr()?.mean_all()?.backward()?))?;
        Ok::<_, Error>((1e3 * fastest(12, forward)?, 1e3 * whole))
    };
    for (name, (forward, whole)) in [("own", step(&own)?), ("candle's convolution", step(&candle_own)?)] {
        println!("| conv net, {BATCH} images, {name} | forward {forward:.1} ms, with backward {whole:.1} ms |");
    }
    Ok(())
}

fn resnet(depth: usize, ideal: f64) -> Result<(), Error> {
    let backbone = Backbone::Resnet(Resnet::standard(depth).ok_or("no such depth")?);
    let weights = load(&backbone, &WeightSource::Random, 1, &Device::Cpu)?.tensors;
    for batch in [1, 8] {
        let pixels = images(batch, 224)?;
        let forward = || Ok(backbone.forward(&weights, &pixels, Mode::Evaluate)?);
        let seconds = fastest(5, forward)? / batch as f64;
        let share = 100.0 * ideal / seconds;
        println!("| ResNet-{depth}, {batch} of 224 x 224 | {:.1} ms per image, {share:.0} % |", 1e3 * seconds);
    }
    Ok(())
}

/// From a weights file to the features of one image.
fn cold() -> Result<(), Error> {
    let backbone = Backbone::Resnet(Resnet::standard(152).ok_or("no such depth")?);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("resnet152.safetensors");
    let weights = load(&backbone, &WeightSource::Random, 1, &Device::Cpu)?.tensors;
    let named = backbone.tensors().into_iter().map(|tensor| tensor.name).zip(weights).collect();
    candle_core::safetensors::save(&named, &path)?;
    drop(named);
    let (source, pixels) = (WeightSource::File(path), images(1, 224)?);
    let (mut loading, mut whole) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..3 {
        let start = Instant::now();
        let weights = load(&backbone, &source, 1, &Device::Cpu)?.tensors;
        loading = loading.min(start.elapsed().as_secs_f64());
        black_box(backbone.forward(&weights, &pixels, Mode::Evaluate)?);
        whole = whole.min(start.elapsed().as_secs_f64());
    }
    println!(
        "| ResNet-152 from a file in the page cache | loading {:.0} ms, with an image {:.0} ms |",
        1e3 * loading,
        1e3 * whole
    );
    Ok(())
}

fn transform() -> Result<(), Error> {
    let image = RgbImage::from_fn(256, 256, |x, y| image::Rgb([x as u8, y as u8, (x ^ y) as u8]));
    let view = Transform { crop: Crop::Random(224), flip: true }.view(256, &mut Stream::new(1, "view", 0, 0))?;
    let mut out = vec![0.0; view.numbers()];
    let seconds = fastest(200, || Ok(view.write(black_box(&image), black_box(&mut out))?))?;
    println!("| 224 x 224 of an image, normalised | {:.0} µs |", 1e6 * seconds);
    Ok(())
}
