//! The reference jobs: shapes of the papers' experiments, on random data.

use std::cell::Cell;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use ccdni::data::{Batch, Inputs, Targets};
use ccdni::dni::Prediction;
use ccdni::model::{Model, Plugins};
use ccdni::nn::Gradients;
use ccdni::rng::Stream;
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::spec::{ModelSpec, TrainSpec};
use ccdni::train::backend::{Backend, Cotangents, InputGradients, Outputs, Plan, Pullback};
use ccdni::train::device_batch::DeviceBatch;
use ccdni::train::engine::{self, Order, Role};
use ccdni::train::loss::Feedback;
use ccdni::train::optimizer;
use ccdni::train::update::Updater;
use serde_json::json;

/// Shapes of a reference job.
pub struct Job {
    pub name: &'static str,
    hidden: usize,
    features: usize,
    steps: usize,
    bptt: usize,
    every: usize,
    synthesizer: Option<&'static [usize]>,
    task: Task,
    rows: usize,
    /// Different sequences in the batch.
    distinct: usize,
}

/// What is answered.
#[derive(Clone, Copy, PartialEq)]
enum Task {
    /// A point at every step.
    Draw,
    /// One of ten classes at the last step.
    Recognise,
    /// The next of 9,956 words, with an optimizer step a window.
    Caption,
}

const LINEDRAW: Job = Job {
    name: "",
    hidden: 50,
    features: 1,
    steps: 10,
    bptt: 1,
    every: 2,
    synthesizer: None,
    task: Task::Draw,
    rows: 50,
    distinct: 50,
};
const LINES: Job = Job { hidden: 30, features: 28, steps: 28, bptt: 3, every: 4, ..LINEDRAW };
const RECOGNITION: Job = Job { every: 1, task: Task::Recognise, ..LINES };
const CAPTION: Job = Job {
    hidden: 256,
    features: 256,
    steps: 13,
    bptt: 5,
    every: 1,
    task: Task::Caption,
    rows: 100,
    distinct: 100,
    ..LINEDRAW
};
const WORDS: usize = 9956;

impl Job {
    pub const ALL: [Job; 10] = [
        Job { name: "linedraw_ccrnn_identical", synthesizer: Some(&[400, 400]), distinct: 7, ..LINEDRAW },
        Job { name: "linedraw_ccrnn", synthesizer: Some(&[400, 400]), ..LINEDRAW },
        Job { name: "linedraw_crnn_identical", distinct: 7, ..LINEDRAW },
        Job { name: "linedraw_crnn", ..LINEDRAW },
        Job { name: "lines_ccrnn", synthesizer: Some(&[300]), ..LINES },
        Job { name: "lines_crnn", ..LINES },
        Job { name: "recognition_ccrnn", synthesizer: Some(&[300]), ..RECOGNITION },
        Job { name: "recognition_crnn", ..RECOGNITION },
        Job { name: "caption_decoder_dni", synthesizer: Some(&[1024, 1024]), ..CAPTION },
        Job { name: "caption_decoder_lstm", ..CAPTION },
    ];
}

impl std::fmt::Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A job at work.
pub struct Work<'a> {
    job: &'a Job,
    shape: TaskShape,
    model: Model,
    backend: Timed,
    updater: Updater,
    gradients: Gradients,
    batch: Batch,
    pub times: Times,
}

/// Where the time of a step goes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Times {
    pub data: Duration,
    pub forward: Duration,
    pub backward: Duration,
    pub synthesizer: Duration,
    pub optimizer: Duration,
    pub total: Duration,
}

impl<'a> Work<'a> {
    pub fn new(job: &'a Job, backend: Box<dyn Backend>) -> ccdni::Result<Work<'a>> {
        let dni = job.synthesizer.map(|hidden| json!({ "hidden": hidden }));
        let mut model = json!({ "layers": [{ "cell": "lstm", "hidden": job.hidden, "dni": dni }] });
        if job.task == Task::Caption {
            model["embed"] = json!({ "size": job.features });
        }
        let clip = (job.task != Task::Caption).then(|| json!({ "norm": 1.0 }));
        let train = json!({ "epochs": 1, "batch_size": job.rows, "clip": clip });
        let model: ModelSpec = serde_json::from_value(model).expect("a valid model");
        let train: TrainSpec = serde_json::from_value(train).expect("a valid spec");
        let (input, kind, when) = match job.task {
            Task::Draw => (Input::Dense { features: job.features }, TargetKind::Values { size: 2 }, When::EveryStep),
            Task::Recognise => {
                (Input::Dense { features: job.features }, TargetKind::Classes { count: 10 }, When::LastStep)
            }
            Task::Caption => (
                Input::Tokens { vocabulary: WORDS, first: First::Feature },
                TargetKind::Classes { count: WORDS },
                When::EveryStep,
            ),
        };
        let shape = TaskShape { input, target: Target { kind, when }, steps: Some(job.steps), validates: true };
        let model = Model::new(&Plugins::built_in(), &model, &shape, 1, &Device::Cpu)?;
        Ok(Work {
            updater: Updater::new(&train, &optimizer::built_in(), &model.params)?,
            gradients: Gradients::none(&model.params)?,
            batch: batch(job)?,
            backend: Timed { inner: backend, times: Cell::default() },
            times: Times::default(),
            job,
            shape,
            model,
        })
    }

    /// Forward, backward, clipping, Adam.
    pub fn step(&mut self) -> ccdni::Result<f64> {
        let began = Instant::now();
        self.backend.times.set(Times::default());
        let Work { job, shape, model, backend, updater, gradients, batch, .. } = self;
        let sequence = DeviceBatch::new(model, batch, None)?;
        let feedback = Feedback::new(&batch.targets, shape, job.steps, job.every, sequence.rows(), model.device())?;
        let roles = vec![Role::Learning; model.synthesizers.len()];
        let asked = engine::Batch {
            sequence: &sequence,
            feedback: &feedback,
            window: job.bptt,
            roles: &roles,
            activity: 0.0,
            trace: false,
        };
        let by_window = job.task == Task::Caption;
        let order = if by_window { Order::Sequential } else { Order::SideBySide };
        let data = began.elapsed();
        let (mut norm, mut optimizer) = (0.0, Duration::ZERO);
        gradients.clear();
        let mut update = |gradients: &mut Gradients| -> ccdni::Result<()> {
            let began = Instant::now();
            let squares = updater.apply(model, &roles, gradients)?;
            norm += squares.map_or(Ok(0.0), |squares| squares.norm(&model.params).map(|norm| norm.value))?;
            gradients.clear();
            optimizer += began.elapsed();
            Ok(())
        };
        engine::run(model, backend, order, &asked, None, gradients, &mut |_, gradients| match by_window {
            true => update(gradients),
            false => Ok(()),
        })?;
        if !by_window {
            update(gradients)?;
        }
        self.times = Times { data, optimizer, total: began.elapsed(), ..self.backend.times.get() };
        Ok(norm)
    }

    /// Floating-point operations of the step's matrix products, from the shapes.
    pub fn operations(&self) -> u64 {
        let job = self.job;
        let (rows, hidden) = (job.distinct, job.hidden);
        let windows = engine::windows(job.steps, job.bptt);
        let outputs = self.shape.target.width();
        let targets = |window: &std::ops::Range<usize>| match job.task {
            Task::Recognise => usize::from(window.end == job.steps),
            _ => window.clone().filter(|step| step % job.every == 0).count(),
        };
        let mut total = 0;
        for window in &windows {
            let (steps, targets) = (window.len() * rows, targets(window));
            // Forward: gates, outputs.
            total += steps * (job.features + hidden + 1) * 4 * hidden + targets * rows * hidden * outputs;
            let needs_backward = job.synthesizer.is_some() || targets > 0;
            if needs_backward {
                // Backward: weights; from the gates to the state before (not beyond the start where nobody asks); readout.
                let down = steps - if job.synthesizer.is_none() { rows } else { 0 };
                total += steps * (job.features + hidden + 1) * 4 * hidden + down * 4 * hidden * hidden;
                total += 2 * targets * rows * hidden * outputs;
                if job.task == Task::Caption {
                    total += steps * job.features * 4 * hidden;
                }
            }
        }
        if let Some(sizes) = job.synthesizer {
            let state = 2 * hidden;
            let widths: Vec<usize> = [state].into_iter().chain(sizes.iter().copied()).chain([state]).collect();
            let layers: Vec<usize> = widths.windows(2).map(|pair| pair[0] * pair[1]).collect();
            let all: usize = layers.iter().sum();
            // With a step a window, a border between two windows is asked about in both: the weights have changed.
            let (asked, learns) = match job.task {
                Task::Caption => (2 * windows.len() * rows - rows + 1, (windows.len() - 1) * rows + 1),
                _ => (windows.len() * rows + 1, (windows.len() - 1) * rows + 1),
            };
            total += asked * all + learns * (2 * all - layers[0]);
        }
        2 * total as u64
    }
}

fn batch(job: &Job) -> ccdni::Result<Batch> {
    let (rows, steps) = (job.distinct, job.steps);
    let mut stream = Stream::new(1, "bench", 0, 0);
    let mut normal = |dims: &[usize]| {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.normal()).collect();
        Tensor::from_vec(values, dims, &Device::Cpu)
    };
    let dense = Inputs::Dense(normal(&[rows, steps, job.features])?);
    let feature = normal(&[rows, job.features])?;
    let values = Targets::Values(normal(&[rows, steps, 2])?);
    let mut whole = |dims: &[usize], below: usize| {
        let values: Vec<u32> = (0..dims.iter().product()).map(|_| stream.below(below) as u32).collect();
        Tensor::from_vec(values, dims, &Device::Cpu)
    };
    let (inputs, targets) = match job.task {
        Task::Draw => (dense, values),
        Task::Recognise => (dense, Targets::FinalClass(whole(&[rows], 10)?)),
        Task::Caption => {
            let ids = whole(&[rows, steps - 1], WORDS)?;
            (Inputs::Tokens { feature: Some(feature), ids }, Targets::Classes(whole(&[rows, steps], WORDS)?))
        }
    };
    Ok(Batch::repeating(inputs, targets, (0..job.rows).map(|sequence| (sequence % rows) as u32).collect()))
}

/// A backend that keeps the time.
struct Timed {
    inner: Box<dyn Backend>,
    times: Cell<Times>,
}

impl Timed {
    fn time<R>(&self, part: fn(&mut Times) -> &mut Duration, work: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let done = work();
        let mut times = self.times.get();
        *part(&mut times) += began.elapsed();
        self.times.set(times);
        done
    }
}

impl Backend for Timed {
    fn forward<'a>(
        &'a self,
        model: &'a Model,
        sequence: &'a DeviceBatch,
        plan: Plan<'a>,
        start: &[Tensor],
    ) -> ccdni::Result<(Outputs, Box<dyn Pullback + 'a>)> {
        let forward = || self.inner.forward(model, sequence, plan, start);
        let (outputs, pullback) = self.time(|times| &mut times.forward, forward)?;
        Ok((outputs, Box::new(TimedPullback { timed: self, pullback })))
    }

    fn predict<'a>(
        &'a self,
        model: &'a Model,
        synthesizer: usize,
        states: &Tensor,
        context: Option<&Tensor>,
    ) -> ccdni::Result<Prediction<'a>> {
        let predict = || self.inner.predict(model, synthesizer, states, context);
        let Prediction { values, pullback } = self.time(|times| &mut times.synthesizer, predict)?;
        let pullback = move |cotangent: &Tensor, gradients: &mut Gradients| {
            self.time(|times| &mut times.synthesizer, || pullback(cotangent, gradients))
        };
        Ok(Prediction { values, pullback: Box::new(pullback) })
    }
}

struct TimedPullback<'a> {
    timed: &'a Timed,
    pullback: Box<dyn Pullback + 'a>,
}

impl Pullback for TimedPullback<'_> {
    fn backward(
        self: Box<Self>,
        cotangents: &Cotangents,
        gradients: Option<&mut Gradients>,
    ) -> ccdni::Result<InputGradients> {
        self.timed.time(|times| &mut times.backward, || self.pullback.backward(cotangents, gradients))
    }
}
