//! Windows side by side are windows one after the other, every backend computes the same, and a row that stands for
//! several sequences is those sequences: the same losses, gradients, states and target gradients for any stack, window
//! length and sparsity.

use candle_core::{DType, Device, Tensor};
use ccdni::data::{Batch, Inputs, Targets};
use ccdni::model::{Model, Plugins};
use ccdni::nn::Gradients;
use ccdni::plugins::Catalogue;
use ccdni::rng::Stream;
use ccdni::spec::ModelSpec;
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::train::backend::{Backend, Composed, Fused, Plan, Unrolled};
use ccdni::train::device_batch::{DeviceBatch, Dropout};
use ccdni::train::engine::{self, Order, Role, Trace};
use ccdni::train::loss::{Feedback, WindowLoss};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::on_device;

/// One random experiment.
#[derive(Debug, Clone)]
struct Experiment {
    model: Value,
    tokens: bool,
    images: bool,
    classes: bool,
    last: bool,
    steps: usize,
    rows: usize,
    window: usize,
    every: usize,
    activity: f64,
    role: Role,
    from_zero: bool,
    seed: u64,
}

fn layer() -> impl Strategy<Value = Value> {
    let dni = (prop::collection::vec(1..6usize, 0..3), any::<bool>(), prop::option::of(1..4usize), any::<bool>())
        .prop_map(|(hidden, context, fibres, batch)| {
            json!({
                "hidden": hidden, "scale": 0.3, "init_last": "uniform", "fibres": fibres,
                "context": if context { "target" } else { "none" },
                "target_scale": if batch { "batch" } else { "layers" },
            })
        });
    let cell = prop::sample::select(ccdni::nn::cells::built_in().kinds());
    // Up to more than two registers, with and without a rest.
    (cell, 3..40usize, prop::option::weighted(0.7, dni), prop::bool::weighted(0.3)).prop_map(
        |(cell, hidden, dni, dropout)| {
            json!({ "cell": cell, "hidden": hidden, "dni": dni, "dropout": if dropout { 0.3 } else { 0.0 } })
        },
    )
}

/// A stack of different layers, or of equal ones that share a synthesizer.
pub fn stack() -> impl Strategy<Value = Value> {
    let different = prop::collection::vec(layer(), 1..4).prop_map(Value::from);
    let shared = (layer(), 2..4usize).prop_map(|(mut layer, count)| {
        if layer["dni"].is_object() {
            layer["dni"]["share"] = json!("one");
        }
        Value::from(vec![layer; count])
    });
    prop_oneof![different, shared]
}

prop_compose! {
    fn experiment()(
        layers in stack(), tokens in any::<bool>(), images in any::<bool>(), classes in any::<bool>(), last in any::<bool>(),
        steps in 1..9usize, rows in 1..4usize, window in 1..10usize, every in 1..4usize,
        activity in prop::sample::select(vec![0.0, 0.5]), input_dropout in prop::sample::select(vec![0.0, 0.2]),
        role in prop::sample::select(vec![Role::Learning, Role::Fixed, Role::Accumulating, Role::Lesioned]),
        from_zero in any::<bool>(), seed in any::<u64>(),
    ) -> Experiment {
        let mut model = json!({ "layers": layers, "input_dropout": input_dropout });
        if tokens {
            model["embed"] = json!({ "size": 3 });
        }
        // Batch normalisation needs more than one row.
        let (images, rows) = (tokens && images, if tokens && images { rows + 1 } else { rows });
        if images {
            model["encoder"] = json!({ "kind": "conv", "channels": [2, 3] });
        }
        let every = if last { 1 } else { every };
        Experiment { model, tokens, images, classes, last, steps, rows, window, every, activity, role, from_zero, seed }
    }
}

const VOCABULARY: usize = 6;
/// Pixels along an edge of an image.
const SIDE: usize = 8;
const OUTPUTS: usize = 3;

impl Experiment {
    fn shape(&self) -> TaskShape {
        let input = match self.tokens {
            true => {
                let first = if self.images { First::Image { side: SIDE } } else { First::Feature };
                Input::Tokens { vocabulary: VOCABULARY, first }
            }
            false => Input::Dense { features: 2 },
        };
        let kind = match self.classes {
            true => TargetKind::Classes { count: OUTPUTS },
            false => TargetKind::Values { size: OUTPUTS },
        };
        let when = if self.last { When::LastStep } else { When::EveryStep };
        TaskShape { input, target: Target { kind, when }, steps: Some(self.steps), validates: true }
    }

    fn batch(&self) -> ccdni::Result<Batch> {
        let (rows, steps) = (self.rows, self.steps);
        let mut stream = Stream::new(self.seed, "test.batch", 0, 0);
        let mut normal = |dims: &[usize]| {
            let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.normal()).collect();
            Tensor::from_vec(values, dims, &Device::Cpu)
        };
        let seen = if self.images { vec![rows, 3, SIDE, SIDE] } else { vec![rows, 3] };
        let (dense, feature) = (normal(&[rows, steps, 2])?, normal(&seen)?);
        let (values, last_value) = (normal(&[rows, steps, OUTPUTS])?, normal(&[rows, OUTPUTS])?);
        let mut whole = |dims: &[usize], below: usize| {
            let values: Vec<u32> = (0..dims.iter().product()).map(|_| stream.below(below) as u32).collect();
            Tensor::from_vec(values, dims, &Device::Cpu)
        };
        let inputs = match self.tokens {
            true => Inputs::Tokens { feature: Some(feature), ids: whole(&[rows, steps - 1], VOCABULARY)? },
            false => Inputs::Dense(dense),
        };
        let targets = match (self.classes, self.last) {
            (false, false) => Targets::Values(values),
            (false, true) => Targets::FinalValues(last_value),
            (true, false) => Targets::Classes(whole(&[rows, steps], OUTPUTS)?),
            (true, true) => Targets::FinalClass(whole(&[rows], OUTPUTS)?),
        };
        Ok(Batch::new(inputs, targets))
    }

    fn run(&self, backend: &dyn Backend, order: Order) -> ccdni::Result<Ran> {
        self.run_batch((backend, &Device::Cpu), order, &self.batch()?, self.from_zero)
    }

    fn run_batch(
        &self,
        (backend, device): (&dyn Backend, &Device),
        order: Order,
        batch: &Batch,
        from_zero: bool,
    ) -> ccdni::Result<Ran> {
        let spec: ModelSpec = serde_json::from_value(self.model.clone()).expect("a valid model");
        let shape = self.shape();
        let model = Model::new(&Plugins::built_in(), &spec, &shape, self.seed, device)?;
        let dropout = Dropout { input: spec.input_dropout, seed: self.seed, epoch: 1, batch: 2 };
        let sequence = DeviceBatch::new(&model, batch, Some(dropout))?;
        let rows = sequence.rows();
        let feedback = Feedback::new(&batch.targets, &shape, self.steps, self.every, rows, model.device())?;
        let roles = vec![self.role; model.synthesizers.len()];
        let asked = engine::Batch {
            sequence: &sequence,
            feedback: &feedback,
            window: self.window,
            roles: &roles,
            activity: self.activity,
            trace: true,
        };
        let mut start = model.zero_state(rows.count)?;
        let mut stream = Stream::new(self.seed, "test.start", 0, 0);
        for layer in &mut start {
            let values: Vec<f32> = (0..layer.elem_count()).map(|_| 0.3 * stream.normal()).collect();
            *layer = Tensor::from_vec(values, layer.dims(), device)?;
        }
        let mut ran = Ran { losses: Vec::new(), gradients: Vec::new(), traces: Vec::new(), end: Vec::new() };
        let start = (!from_zero).then_some(start.as_slice());
        let mut gradients = Gradients::none(&model.params)?;
        ran.end = engine::run(&model, backend, order, &asked, start, &mut gradients, &mut |group, _| {
            ran.losses.extend(group.losses.read()?);
            ran.traces.extend(group.traces);
            Ok(())
        })?;
        ran.gradients = (0..model.params.len()).map(|index| gradients.get(index)).collect::<ccdni::Result<_>>()?;
        // A tensor for each row becomes one for each sequence.
        let expand = |all: &mut Vec<Tensor>| -> ccdni::Result<()> {
            for tensor in all {
                *tensor = rows.expand(tensor, 0)?;
            }
            Ok(())
        };
        expand(&mut ran.end)?;
        for trace in &mut ran.traces {
            expand(&mut trace.start)?;
            expand(&mut trace.target)?;
            for synthetic in trace.synthetic_start.iter_mut().chain(&mut trace.synthetic_end) {
                *synthetic = synthetic.as_ref().map(|tensor| rows.expand(tensor, 0)).transpose()?;
            }
        }
        Ok(ran)
    }
}

/// What a run gives.
struct Ran {
    losses: Vec<WindowLoss>,
    gradients: Vec<Option<Tensor>>,
    traces: Vec<Trace>,
    end: Vec<Tensor>,
}

impl Ran {
    fn is(&self, other: &Ran) -> Result<(), TestCaseError> {
        self.is_within(1.0, other)
    }

    /// With a factor on tolerances.
    fn is_within(&self, slack: f64, other: &Ran) -> Result<(), TestCaseError> {
        let close = |what: &str, a: &Tensor, b: &Tensor| close(what, a, b, slack);
        prop_assert_eq!(self.losses.len(), other.losses.len());
        for (a, b) in self.losses.iter().zip(&other.losses) {
            prop_assert_eq!(a.targets, b.targets);
            prop_assert!((a.loss - b.loss).abs() <= slack * 1e-5 * (1.0 + b.loss.abs()));
        }
        for (index, (a, b)) in self.gradients.iter().zip(&other.gradients).enumerate() {
            prop_assert_eq!(a.is_some(), b.is_some(), "gradient {} exists in one of them only", index);
            if let (Some(a), Some(b)) = (a, b) {
                close(&format!("gradient {index}"), a, b)?;
            }
        }
        for (a, b) in self.end.iter().zip(&other.end) {
            close("final state", a, b)?;
        }
        prop_assert_eq!(self.traces.len(), other.traces.len());
        for (a, b) in self.traces.iter().zip(&other.traces) {
            for (a, b) in a.target.iter().zip(&b.target).chain(a.start.iter().zip(&b.start)) {
                close("target gradient or state", a, b)?;
            }
            let synthetic = a.synthetic_start.iter().chain(&a.synthetic_end);
            for (a, b) in synthetic.zip(b.synthetic_start.iter().chain(&b.synthetic_end)) {
                prop_assert_eq!(a.is_some(), b.is_some());
                if let (Some(a), Some(b)) = (a, b) {
                    close("synthetic gradient", a, b)?;
                }
            }
        }
        Ok(())
    }
}

fn close(what: &str, a: &Tensor, b: &Tensor, slack: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.dims(), b.dims(), "{}", what);
    let flat = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (a, b) = (flat(a).expect("numbers"), flat(b).expect("numbers"));
    let largest = b.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (a, b) in a.iter().zip(&b) {
        prop_assert!((a - b).abs() <= slack * (1e-5 + 1e-4 * largest), "{}: {} and {}", what, a, b);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_and_backend_computes_the_same(experiment in experiment()) {
        let defined = experiment.run(&Composed, Order::Sequential).expect("the definition runs");
        experiment.run(&Composed, Order::SideBySide).expect("it runs").is(&defined)?;
        experiment.run(&Unrolled, Order::Sequential).expect("it runs").is(&defined)?;
        experiment.run(&Unrolled, Order::SideBySide).expect("it runs").is(&defined)?;
        // One for all experiments: its buffers have been used for other shapes.
        thread_local!(static FUSED: Fused = Fused::default());
        FUSED.with(|fused| {
            experiment.run(fused, Order::Sequential).expect("it runs").is(&defined)?;
            experiment.run(fused, Order::SideBySide).expect("it runs").is(&defined)
        })?;
    }

    /// On the device that `CCDNI_TEST_DEVICE` names, against the CPU.
    #[test]
    fn a_device_computes_the_same(experiment in experiment()) {
        let device = match on_device::device() {
            Some(device) if !device.is_cpu() => device,
            Some(_) => return Ok(()),
            None => {
                static SAID: std::sync::Once = std::sync::Once::new();
                SAID.call_once(|| on_device::skipped("a_device_computes_the_same"));
                return Ok(());
            }
        };
        let defined = experiment.run(&Composed, Order::Sequential).expect("the definition runs");
        let batch = experiment.batch().expect("a batch");
        for backend in [&Composed as &dyn Backend, &Unrolled] {
            for order in [Order::Sequential, Order::SideBySide] {
                let there = (backend, &device);
                let ran = experiment.run_batch(there, order, &batch, experiment.from_zero).expect("it runs");
                ran.is_within(on_device::slack(), &defined)?;
            }
        }
    }

    #[test]
    fn a_row_that_stands_for_several_sequences_is_those_sequences(
        mut experiment in experiment(), more in prop::collection::vec(any::<u32>(), 0..5),
    ) {
        // Batch normalisation counts every sequence.
        prop_assume!(!experiment.images);
        experiment.model["input_dropout"] = json!(0.0);
        for layer in experiment.model["layers"].as_array_mut().expect("a list") {
            layer["dropout"] = json!(0.0);
        }
        let one = experiment.batch().expect("a batch");
        let rows = experiment.rows as u32;
        let repeated: Vec<u32> = (0..rows).rev().chain(more.iter().map(|row| row % rows)).collect();
        let folded = Batch::repeating(one.inputs, one.targets, repeated);
        let whole = folded.expanded().expect("the same batch, row by row");
        for backend in [&Composed as &dyn Backend, &Unrolled, &Fused::default()] {
            for order in [Order::Sequential, Order::SideBySide] {
                let run = |batch| experiment.run_batch((backend, &Device::Cpu), order, batch, true).expect("it runs");
                run(&folded).is(&run(&whole))?;
            }
        }
    }
}

/// `a · mean(h²)` counts in windows without a target too, summed over layers: against finite differences.
#[test]
fn activity_counts_where_nothing_else_does() {
    let layers = json!([{ "cell": "tanh", "hidden": 3 }, { "cell": "lstm", "hidden": 2 }]);
    let spec: ModelSpec = serde_json::from_value(json!({ "layers": layers })).expect("a valid model");
    let experiment = Experiment {
        images: false,
        model: Value::Null,
        tokens: false,
        classes: false,
        last: true,
        steps: 4,
        rows: 2,
        window: 2,
        every: 1,
        activity: 0.7,
        role: Role::Lesioned,
        from_zero: true,
        seed: 5,
    };
    let (shape, batch) = (experiment.shape(), experiment.batch().expect("a batch"));
    let model = Model::new(&Plugins::built_in(), &spec, &shape, 5, &Device::Cpu).expect("a model");
    let sequence = DeviceBatch::new(&model, &batch, None).expect("a sequence");
    let feedback = Feedback::new(&batch.targets, &shape, 4, 1, sequence.rows(), model.device()).expect("targets");
    let start = model.zero_state(2).expect("a state");
    let asked = engine::Batch {
        sequence: &sequence,
        feedback: &feedback,
        window: 2,
        roles: &[],
        activity: experiment.activity,
        trace: false,
    };
    let index = model.params.find("rnn.0.bias_ih_l0").expect("the first layer's bias");
    let mut gradient = None;
    let mut gradients = Gradients::none(&model.params).expect("room");
    engine::run(&model, &Composed, Order::Sequential, &asked, None, &mut gradients, &mut |group, gradients| {
        if gradient.is_none() {
            assert_eq!(group.losses.read()?[0].targets, 0);
            let first = gradients.get(index)?.expect("a gradient");
            gradient = Some(first.to_vec1::<f32>()?);
        }
        Ok(())
    })
    .expect("a run");

    // The mean over the window's two steps, the batch and the units, of each layer.
    let activity = || -> f64 {
        let plan = Plan { windows: &[0..1, 1..2], needs_backward: &[false; 2], outputs: &[] };
        let (computed, _) = Composed.forward(&model, &sequence, plan, &start).expect("a forward pass");
        let mean = |layer: usize, hidden: usize| -> f64 {
            let states = computed.boundaries[layer].narrow(0, 1, 2).and_then(|all| all.flatten(0, 1)).expect("states");
            let h = states.narrow(1, 0, hidden).expect("h comes first");
            f64::from(h.sqr().and_then(|h| h.mean_all()?.to_scalar::<f32>()).expect("a number"))
        };
        0.7 * (mean(0, 3) + mean(1, 2))
    };
    let bias = model.params.get(index).value().copy().expect("a copy");
    for (unit, gradient) in gradient.expect("a window").iter().enumerate() {
        let moved = |by: f32| {
            let step: Vec<f32> = (0..3).map(|k| if k == unit { by } else { 0.0 }).collect();
            let moved = Tensor::from_vec(step, 3, &Device::Cpu).and_then(|step| &bias + step).expect("a bias");
            model.params.set(index, &moved).expect("the same shape");
            activity()
        };
        let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!((slope - f64::from(*gradient)).abs() < 1e-3 && slope.abs() > 1e-4, "unit {unit}: {slope} {gradient}");
    }
}
