//! One training step of the reference jobs, on the threads of `RAYON_NUM_THREADS`, next to a large matrix product on the same machine in the same
//! run.
//!
//! `just bench` (or `RAYON_NUM_THREADS=1 cargo bench --bench step`) times every step, and ends with a table: medians, what
//! share of the matrix product's speed each step reaches, and where its time goes. A name or a part of one chooses steps,
//! and leaves the table out. Compare medians of one run; between machines, compare shares.

mod jobs;
mod table;

use candle_core::{DType, Device, Tensor};
use ccdni::nn::kernel::{self, Matrix, MatrixMut, Threads};
use ccdni::train::backend::{Composed, Fused};
use divan::counter::ItemsCount;
use jobs::{Job, Work};

fn main() {
    divan::main();
    if std::env::args().skip(1).all(|argument| argument.starts_with("--") && !argument.contains("list")) {
        table::print().expect("the steps run");
    }
}

/// Items are floating-point operations of matrix products.
#[divan::bench(args = Job::ALL)]
fn fused(bencher: divan::Bencher<'_, '_>, job: &Job) {
    step(bencher, Work::new(job, Box::new(Fused::new(rayon::current_num_threads()))));
}

#[divan::bench(args = Job::ALL)]
fn composed(bencher: divan::Bencher<'_, '_>, job: &Job) {
    step(bencher, Work::new(job, Box::new(Composed)));
}

fn step(bencher: divan::Bencher<'_, '_>, work: ccdni::Result<Work>) {
    let mut work = work.expect("a job");
    let operations = work.operations();
    bencher.counter(ItemsCount::new(operations)).bench_local(|| work.step().expect("the step runs"));
}

/// The yardstick: a float32 product of two 2000 x 2000 matrices.
#[divan::bench(sample_count = 20)]
fn matrix_product_2000(bencher: divan::Bencher<'_, '_>) {
    let matrix = Tensor::ones((2000, 2000), DType::F32, &Device::Cpu).expect("a matrix");
    bencher.counter(ItemsCount::new(2u64 * 2000 * 2000 * 2000)).bench_local(|| matrix.matmul(&matrix));
}

/// Two products of some 5 µs each on one thread, and divided between two.
#[divan::bench(args = [1, 2])]
fn divided(bencher: divan::Bencher<'_, '_>, threads: usize) {
    let (a, b, mut out) = (vec![0.5; 50 * 50], vec![0.5; 50 * 100], vec![0.0; 2 * 50 * 100]);
    let (a, b) = (Matrix::new(&a, 50, 50), Matrix::new(&b, 50, 100));
    bencher.bench_local(|| {
        Threads(threads).each(out.chunks_exact_mut(50 * 100), |out| {
            kernel::product(MatrixMut::new(out, 50, 100), a, b, false, Threads(1));
        });
    });
}

/// Products of the reference jobs, `rows x columns x terms`: the recurrent one of a step, and the synthesizer's forwards and backwards. The
/// right factor is as it lies in memory, or transposed (`t`). `benches/peers/products.py` times those of numpy.
#[divan::bench(args = ["50x200x50", "7x200x50", "50x120x30", "50x1024x256", "500x400x50t", "500x400x400t", "500x400x400", "400x400x500"])]
fn product(bencher: divan::Bencher<'_, '_>, shape: &str) {
    let sizes: Vec<usize> = shape.trim_end_matches('t').split('x').map(|size| size.parse().expect("a size")).collect();
    let (m, n, k) = (sizes[0], sizes[1], sizes[2]);
    let (a, b, mut out) = (vec![0.5; m * k], vec![0.5; k * n], vec![0.0; m * n]);
    let b = if shape.ends_with('t') { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
    let counter = ItemsCount::new(2 * m * n * k);
    bencher
        .counter(counter)
        .bench_local(|| kernel::product(MatrixMut::new(&mut out, m, n), Matrix::new(&a, m, k), b, false, Threads(1)));
}
