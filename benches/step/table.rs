//! The table at the end: medians, shares of the matrix product's speed, and where the time goes.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use ccdni::train::backend::{Backend, Composed, Fused};

use super::jobs::{Job, Times, Work};

/// How long each job is repeated.
const TIME: Duration = Duration::from_millis(600);

/// Steps at least.
const STEPS: usize = 5;

pub fn print() -> ccdni::Result<()> {
    println!(
        "\n| job | backend | step | of the matrix product | data | forward | backward | synthesizer | optimizer | rest |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for job in &Job::ALL {
        let fused = Fused::new(rayon::current_num_threads());
        for (name, backend) in [("fused", Box::new(fused) as Box<dyn Backend>), ("composed", Box::new(Composed))] {
            let mut work = Work::new(job, backend)?;
            let operations = work.operations() as f64;
            work.step()?;
            // The yardstick before and after: other work on the machine slows both.
            let mut product = vec![matrix_product()?];
            let mut all: Vec<Times> = Vec::new();
            let began = Instant::now();
            while began.elapsed() < TIME || all.len() < STEPS {
                work.step()?;
                all.push(work.times);
            }
            product.push(matrix_product()?);
            let median = |part: fn(&Times) -> Duration| {
                let mut part: Vec<Duration> = all.iter().map(part).collect();
                part.sort_unstable();
                part[part.len() / 2].as_secs_f64()
            };
            let total = median(|times| times.total);
            let parts = [
                median(|times| times.data),
                median(|times| times.forward),
                median(|times| times.backward),
                median(|times| times.synthesizer),
                median(|times| times.optimizer),
            ];
            let rest = total - parts.iter().sum::<f64>();
            let shares: Vec<String> =
                parts.iter().chain([&rest]).map(|part| format!("{:.0} %", 100.0 * part / total)).collect();
            let product = product.iter().sum::<f64>() / product.len() as f64;
            println!(
                "| {} | {name} | {:.3} ms | {:.0} % | {} |",
                job.name,
                total * 1e3,
                100.0 * operations / total / product,
                shares.join(" | ")
            );
        }
    }
    println!("\nmatrix product, 2000 x 2000: {:.1} GFLOP/s", matrix_product()? / 1e9);
    Ok(())
}

/// Floating-point operations a second of a large product; the better of two.
fn matrix_product() -> ccdni::Result<f64> {
    let matrix = Tensor::ones((2000, 2000), DType::F32, &Device::Cpu)?;
    let mut best = Duration::MAX;
    for _ in 0..2 {
        let began = Instant::now();
        matrix.matmul(&matrix)?;
        best = best.min(began.elapsed());
    }
    Ok(2.0 * 2000f64.powi(3) / best.as_secs_f64())
}
