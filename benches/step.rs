//! One training step of the reference jobs, next to a large matrix product on the same machine in the same run.
//!
//! `cargo bench` (or `just bench`); compare medians, and compare machines through the product.

use candle_core::{Device, Tensor};
use ccdni::data::{Batch, Inputs, Targets};
use ccdni::model::Model;
use ccdni::nn::Gradients;
use ccdni::rng::Stream;
use ccdni::spec::interface::{Input, Interface, Target, TargetKind, When};
use ccdni::spec::{ModelSpec, TrainSpec};
use ccdni::train::backend::Composed;
use ccdni::train::engine::{self, Order, Role};
use ccdni::train::loss::Feedback;
use ccdni::train::sequence::Sequence;
use ccdni::train::update::Updater;
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// Shapes of a reference job.
struct Job {
    hidden: usize,
    features: usize,
    steps: usize,
    bptt: usize,
    every: usize,
    synthesizer: &'static [usize],
}

const LINEDRAW: Job = Job { hidden: 50, features: 1, steps: 10, bptt: 1, every: 2, synthesizer: &[400, 400] };
const LINES: Job = Job { hidden: 30, features: 28, steps: 28, bptt: 3, every: 4, synthesizer: &[300] };
const ROWS: usize = 50;

/// A training step of a job: forward, backward, clipping, Adam.
fn step(bencher: divan::Bencher<'_, '_>, job: &Job, dni: bool, order: Order) {
    run(job, dni, order, |step| bencher.bench_local(step)).expect("the step runs");
}

fn run(job: &Job, dni: bool, order: Order, bench: impl FnOnce(&mut dyn FnMut() -> f64)) -> ccdni::Result<()> {
    let dni = if dni { json!({ "hidden": job.synthesizer }) } else { Value::Null };
    let model: ModelSpec =
        serde_json::from_value(json!({ "layers": [{ "cell": "lstm", "hidden": job.hidden, "dni": dni }] }))
            .expect("a valid model");
    let train: TrainSpec =
        serde_json::from_value(json!({ "epochs": 1, "batch_size": ROWS, "clip": { "norm": 1.0 } })).expect("valid");
    let interface = Interface {
        input: Input::Dense { features: job.features },
        target: Target { kind: TargetKind::Values { size: 2 }, when: When::EveryStep },
        steps: Some(job.steps),
    };
    let model = Model::new(&model, &interface, 1, &Device::Cpu)?;
    let mut updater = Updater::new(&train, model.params.len());
    let mut stream = Stream::new(1, "bench", 0, 0);
    let mut normal = |dims: (usize, usize, usize)| {
        let values: Vec<f32> = (0..dims.0 * dims.1 * dims.2).map(|_| stream.normal()).collect();
        Tensor::from_vec(values, dims, &Device::Cpu)
    };
    let batch = Batch::new(
        Inputs::Dense(normal((ROWS, job.steps, job.features))?),
        Targets::Values(normal((ROWS, job.steps, 2))?),
    );
    let roles = vec![Role::Learning; model.synthesizers.len()];
    let mut one = || -> ccdni::Result<f64> {
        let sequence = Sequence::new(&model, &batch, None)?;
        let feedback = Feedback::new(&batch.targets, &interface, job.steps, job.every, model.device())?;
        let asked = engine::Batch {
            sequence: &sequence,
            feedback: &feedback,
            window: job.bptt,
            roles: &roles,
            activity: 0.0,
            trace: false,
        };
        let mut sum = Gradients::none(model.params.len());
        engine::run(&model, &Composed, order, &asked, &model.zero_state(ROWS)?, &mut |group| {
            sum.add_all(&group.gradients)
        })?;
        Ok(updater.apply(&model, &roles, sum)?.map_or(0.0, |norm| norm.value))
    };
    bench(&mut || one().expect("the step runs"));
    Ok(())
}

#[divan::bench(args = [Order::SideBySide, Order::Sequential])]
fn linedraw_crnn(bencher: divan::Bencher<'_, '_>, order: Order) {
    step(bencher, &LINEDRAW, false, order);
}

#[divan::bench(args = [Order::SideBySide, Order::Sequential])]
fn linedraw_ccrnn(bencher: divan::Bencher<'_, '_>, order: Order) {
    step(bencher, &LINEDRAW, true, order);
}

#[divan::bench(args = [Order::SideBySide, Order::Sequential])]
fn lines_crnn(bencher: divan::Bencher<'_, '_>, order: Order) {
    step(bencher, &LINES, false, order);
}

#[divan::bench(args = [Order::SideBySide, Order::Sequential])]
fn lines_ccrnn(bencher: divan::Bencher<'_, '_>, order: Order) {
    step(bencher, &LINES, true, order);
}

/// The yardstick: a float32 product of two 1000 x 1000 matrices, 2 GFLOP.
#[divan::bench]
fn matrix_product_1000(bencher: divan::Bencher<'_, '_>) {
    let matrix = Tensor::ones((1000, 1000), candle_core::DType::F32, &Device::Cpu).expect("a matrix");
    bencher.bench_local(|| matrix.matmul(&matrix));
}
