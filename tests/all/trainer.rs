//! The trainer: a unit that is stopped anywhere and resumed ends with the same bits as one that never stopped; lesions,
//! freezing, early stopping and the guards do what they say.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use ccdni::data::{Batch, BatchIndex, Curriculum, Dataset, Evaluation, Inputs, Metric, Predictor, Split, Targets};
use ccdni::rng::Stream;
use ccdni::spec::Spec;
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::testing::as_on_a_gpu;
use ccdni::train::{
    BatchProgress, Callback, Checkpoint, EpochRow, Finished, MetricInfo, Next, Outcome, Plugins, Trainer,
};
use serde_json::{Value, json};

/// Noise in, its running mean out.
struct Noise {
    seed: u64,
}

impl Dataset for Noise {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::squared_distance()]
    }

    fn batches(&self, split: Split, _batch_size: usize) -> usize {
        if split == Split::Train { 3 } else { 1 }
    }

    fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
        let purpose = format!("data.{:?}", at.split);
        let mut stream = Stream::new(self.seed, &purpose, at.epoch, at.index);
        let (rows, steps) = (at.batch_size, 5);
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let mut sum = 0.0;
            for step in 0..steps {
                let value = stream.normal();
                sum += value;
                inputs.push(value);
                targets.push(sum / (step + 1) as f32);
            }
        }
        Ok(Batch::new(
            Inputs::Dense(Tensor::from_vec(inputs, (rows, steps, 1), &Device::Cpu)?),
            Targets::Values(Tensor::from_vec(targets, (rows, steps, 1), &Device::Cpu)?),
        ))
    }
}

fn shape() -> TaskShape {
    TaskShape {
        input: Input::Dense { features: 1 },
        target: Target { kind: TargetKind::Values { size: 1 }, when: When::EveryStep },
        steps: Some(5),
        validates: true,
    }
}

/// A spec with as much state as there can be, and changes to it.
fn spec(changes: &[(&str, Value)]) -> Spec {
    let mut spec = json!({
        "task": { "kind": "noise" },
        "model": {
            "input_dropout": 0.1,
            "layers": [
                { "cell": "lstm", "hidden": 4, "dropout": 0.2, "dni": { "hidden": [5] } },
                { "cell": "gru", "hidden": 3, "dni": { "hidden": [], "freeze_at": 2, "frozen_in_norm": "accumulate" } },
            ],
        },
        "train": {
            "epochs": 4, "batch_size": 2, "bptt": 2, "feedback_every": 2, "keep_hidden": true, "keep": "best",
            "optimizer": { "kind": "adam", "lr": 0.02 }, "clip": { "norm": 0.5 },
            "schedule": { "kind": "reduce_on_plateau", "patience": 1, "factor": 0.5 },
            "early_stopping": { "patience": 3 },
        },
        "record": { "every": 2, "what": ["hidden", "synthetic", "target", "true", "synthesizer", "weights"], "cosine": true },
    });
    for (pointer, value) in changes {
        *spec.pointer_mut(pointer).expect("a key of the spec") = value.clone();
    }
    serde_json::from_value(spec).expect("a valid spec")
}

/// Stops after some batches, and keeps everything.
#[derive(Default)]
pub struct Keeper {
    stop_after: Option<usize>,
    batches: usize,
    checkpoint: Option<Vec<u8>>,
    recordings: BTreeMap<usize, Vec<(String, Vec<f32>)>>,
}

fn values(tensors: &[(String, Tensor)]) -> Vec<(String, Vec<f32>)> {
    let flat = |t: &Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("numbers");
    let mut all: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), flat(t))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

impl Keeper {
    /// Stops after so many batches, if at all.
    pub fn until(stop_after: Option<usize>) -> Self {
        Keeper { stop_after, ..Keeper::default() }
    }

    /// The last checkpoint, as it is read from a file.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::from_bytes(self.checkpoint.as_ref().expect("a checkpoint")).expect("what was written")
    }
}

impl Callback for Keeper {
    fn batch(&mut self, _progress: &BatchProgress) -> ccdni::Result<Next> {
        self.batches += 1;
        Ok(if self.stop_after == Some(self.batches) { Next::Stop } else { Next::Continue })
    }

    fn epoch(&mut self, _row: &EpochRow, _metrics: &[MetricInfo]) -> ccdni::Result<Next> {
        Ok(Next::Continue)
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> ccdni::Result<()> {
        self.checkpoint = Some(checkpoint.to_bytes()?);
        Ok(())
    }

    fn recording(&mut self, epoch: usize, tensors: &[(String, Tensor)]) -> ccdni::Result<()> {
        self.recordings.insert(epoch, values(tensors));
        Ok(())
    }
}

fn trainer(spec: &Spec) -> Trainer {
    Trainer::new(&Plugins::built_in(), spec, &shape(), Box::new(Noise { seed: 7 }), 7, Device::Cpu).expect("a trainer")
}

fn finish(trainer: &mut Trainer, keeper: &mut Keeper) -> Finished {
    match trainer.train(keeper).expect("training") {
        Outcome::Finished(finished) => *finished,
        Outcome::Stopped => panic!("stopped although nobody asked"),
    }
}

/// Everything of a result that must not depend on interruptions.
fn result(finished: &Finished) -> impl PartialEq + std::fmt::Debug + use<> {
    let history: Vec<String> =
        finished.history.iter().map(|row| format!("{:?}", EpochRow { seconds: 0.0, ..row.clone() })).collect();
    (history, values(&finished.weights), finished.test.clone(), finished.best_epoch, finished.kept_epoch)
}

#[test]
fn stopped_anywhere_and_resumed_is_never_stopped() {
    stop_anywhere(&spec(&[("/train/epochs", json!(12)), ("/train/optimizer/lr", json!(0.2))]));
}

#[test]
fn where_numbers_are_read_late_too() {
    as_on_a_gpu(|| stop_anywhere(&unrolled(&[("/train/epochs", json!(12)), ("/train/optimizer/lr", json!(0.2))])));
}

/// What GPUs compute with.
fn unrolled(changes: &[(&str, Value)]) -> Spec {
    let spec = spec(changes);
    let run = ccdni::spec::RunSpec { backend: ccdni::spec::BackendKind::Unrolled, ..spec.run };
    Spec { run, ..spec }
}

#[test]
fn numbers_that_are_read_late_are_the_same() {
    let all = |finished: &Finished| {
        let rows = finished.history.iter().flat_map(|row| {
            let extra = row.extra.iter().map(|extra| extra.value);
            [row.train_loss, row.train_loss_original].into_iter().chain(row.validation.clone()).chain(extra)
        });
        let weights = values(&finished.weights).into_iter().flat_map(|(_, values)| values).map(f64::from);
        rows.chain(weights).chain(finished.test.clone()).collect::<Vec<_>>()
    };
    for clip in [json!({ "norm": 0.5 }), json!({ "norm": 0.2, "scope": "separate" }), Value::Null] {
        let spec = unrolled(&[("/train/clip", clip)]);
        let soon = finish(&mut trainer(&spec), &mut Keeper::default());
        let late = as_on_a_gpu(|| finish(&mut trainer(&spec), &mut Keeper::default()));
        assert_eq!(soon.history.len(), late.history.len());
        for (soon, late) in all(&soon).into_iter().zip(all(&late)) {
            assert!((soon - late).abs() <= 1e-3 * (0.1 + soon.abs()), "{soon} and {late}");
        }
    }
}

/// A lesion holds for what is left of an epoch whose last batch was before the stop: its validation, best weights and schedule.
#[test]
fn feedback_that_is_cut_stays_cut() {
    let feedback = json!({ "kind": "cerebellum", "hidden": [5], "lesion_at": 2 });
    let layers = json!([{ "cell": "leaky", "hidden": 4, "tau": 2, "feedback": feedback }]);
    let record = json!({ "every": 2, "what": ["hidden"] });
    stop_after_every_batch(&spec(&[("/model/layers", layers), ("/record", record)]));
}

/// A curriculum of which every batch is mastered; each level has data of its own.
struct Harder(Noise);

impl Curriculum for Harder {
    fn is_mastered(&self, _level: usize, _loss: f64) -> bool {
        true
    }

    fn columns(&self, level: usize) -> Vec<(&'static str, f64)> {
        vec![("level", level as f64)]
    }
}

impl Dataset for Harder {
    fn metrics(&self) -> Vec<Metric> {
        self.0.metrics()
    }

    fn batches(&self, split: Split, batch_size: usize) -> usize {
        self.0.batches(split, batch_size)
    }

    fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
        self.0.batch(BatchIndex { epoch: at.epoch + 100 * at.level, ..at })
    }

    fn curriculum(&self) -> Option<&dyn Curriculum> {
        Some(self)
    }
}

#[test]
fn a_curriculum_goes_on_from_epoch_to_epoch_and_after_a_stop() {
    let spec = spec(&[("/record", Value::Null)]);
    let trainer = || {
        let data = Box::new(Harder(Noise { seed: 7 }));
        Trainer::new(&Plugins::built_in(), &spec, &shape(), data, 7, Device::Cpu).expect("a trainer")
    };
    let expected = finish(&mut trainer(), &mut Keeper::default());
    let level = |row: &EpochRow| row.extra.iter().find(|extra| extra.name == "level").map(|extra| extra.value);
    let levels: Vec<_> = expected.history.iter().map(level).collect();
    assert_eq!(levels, [3.0, 6.0, 9.0, 12.0].map(Some), "one level per batch");
    for stop_after in 1..12 {
        let mut keeper = Keeper { stop_after: Some(stop_after), ..Keeper::default() };
        assert!(matches!(trainer().train(&mut keeper), Ok(Outcome::Stopped)));
        let checkpoint = Checkpoint::from_bytes(&keeper.checkpoint.expect("a checkpoint")).expect("a readable one");
        let mut again = trainer();
        again.resume(&checkpoint).expect("a fitting checkpoint");
        let finished = finish(&mut again, &mut Keeper::default());
        assert_eq!(result(&finished), result(&expected), "stopped after {stop_after}");
    }
}

/// Stops training after every batch, and compares; early stopping and the schedule take part in it.
fn stop_anywhere(spec: &Spec) {
    for step_every in ["batch", "window"] {
        let spec = Spec {
            train: ccdni::spec::TrainSpec {
                step_every: serde_json::from_value(json!(step_every)).expect("a value"),
                ..spec.train.clone()
            },
            ..spec.clone()
        };
        let expected = stop_after_every_batch(&spec);
        assert!(expected.history.len() < 12, "early stopping is part of what is resumed");
        assert!(rates(&expected).windows(2).any(|pair| pair[0] != pair[1]), "and so is the schedule");
    }
}

fn stop_after_every_batch(spec: &Spec) -> Finished {
    let step_every = spec.train.step_every;
    let mut whole = Keeper::default();
    let expected = finish(&mut trainer(spec), &mut whole);
    assert_eq!(whole.recordings.len(), expected.history.len());
    for stop_after in 1..whole.batches {
        let mut keeper = Keeper { stop_after: Some(stop_after), ..Keeper::default() };
        assert!(matches!(trainer(spec).train(&mut keeper), Ok(Outcome::Stopped)));
        let bytes = keeper.checkpoint.take().expect("a checkpoint at the stop");
        let checkpoint = Checkpoint::from_bytes(&bytes).expect("a readable checkpoint");
        let mut again = trainer(spec);
        again.resume(&checkpoint).expect("a fitting checkpoint");
        let mut rest = Keeper { recordings: keeper.recordings, ..Keeper::default() };
        let finished = finish(&mut again, &mut rest);
        assert_eq!(result(&finished), result(&expected), "{step_every:?}, stopped after {stop_after}");
        assert_eq!(rest.recordings, whole.recordings, "{step_every:?}, stopped after {stop_after}");
        assert_eq!(rest.batches, whole.batches - stop_after, "nothing is done twice");
    }
    expected
}

/// The learning rate of every epoch.
fn rates(finished: &Finished) -> Vec<f64> {
    let rate = |row: &EpochRow| row.extra.iter().find(|extra| extra.name == "learning_rate").map(|extra| extra.value);
    finished.history.iter().filter_map(rate).collect()
}

fn weights(finished: &Finished, part: &str) -> Vec<Vec<f32>> {
    values(&finished.weights).into_iter().filter(|(name, _)| name.contains(part)).map(|(_, v)| v).collect()
}

#[test]
fn a_lesion_before_the_first_epoch_is_a_network_without_synthesizer() {
    let layer = |dni: Value| ("/model/layers", json!([{ "cell": "lstm", "hidden": 4, "dni": dni }]));
    let without = ("/record", Value::Null);
    let plain = finish(&mut trainer(&spec(&[layer(Value::Null), without.clone()])), &mut Keeper::default());
    let cut = spec(&[layer(json!({ "hidden": [5], "lesion_at": 1 })), without]);
    let cut = finish(&mut trainer(&cut), &mut Keeper::default());
    assert_eq!(weights(&plain, "weight_hh"), weights(&cut, "weight_hh"));
    assert_eq!(weights(&plain, "linear."), weights(&cut, "linear."));
}

#[test]
fn a_frozen_synthesizer_stays_and_the_others_learn() {
    let initial = |epochs: usize| {
        let spec = spec(&[("/train/epochs", json!(epochs)), ("/train/keep", json!("last"))]);
        finish(&mut trainer(&spec), &mut Keeper::default())
    };
    let (two, four) = (initial(2), initial(4));
    assert_eq!(weights(&two, "rnn.1.backward_interface"), weights(&four, "rnn.1.backward_interface"));
    assert_ne!(weights(&two, "rnn.0.backward_interface"), weights(&four, "rnn.0.backward_interface"));
}

#[test]
fn what_piles_up_in_the_norm_changes_the_others() {
    let with = |how: &str| {
        let dni = json!({ "hidden": [5], "learn": false, "frozen_in_norm": how });
        let spec = spec(&[("/model/layers", json!([{ "cell": "lstm", "hidden": 4, "dni": dni }]))]);
        finish(&mut trainer(&spec), &mut Keeper::default())
    };
    let (exclude, accumulate) = (with("exclude"), with("accumulate"));
    assert_eq!(weights(&exclude, "synthesizer"), weights(&accumulate, "synthesizer"));
    assert_ne!(weights(&exclude, "weight_hh"), weights(&accumulate, "weight_hh"));
}

#[test]
fn early_stopping_stops() {
    let stop = spec(&[
        ("/train/epochs", json!(50)),
        ("/train/optimizer", json!({ "kind": "sgd", "lr": 1e-12 })),
        ("/train/early_stopping", json!({ "patience": 2 })),
    ]);
    let finished = finish(&mut trainer(&stop), &mut Keeper::default());
    assert!(finished.history.len() < 50, "{} epochs", finished.history.len());
    let best = finished.best_epoch;
    assert_eq!(finished.history.len(), best + 2);
    assert_eq!(finished.kept_epoch, best);
}

#[test]
fn the_rate_falls_when_the_metric_does_not() {
    let spec = spec(&[
        ("/train/epochs", json!(12)),
        ("/train/schedule", json!({ "kind": "reduce_on_plateau", "patience": 0, "factor": 0.5 })),
        ("/train/early_stopping", Value::Null),
    ]);
    let finished = finish(&mut trainer(&spec), &mut Keeper::default());
    let (mut rate, mut best, mut expected) = (0.02, f64::INFINITY, Vec::new());
    for row in &finished.history {
        expected.push(rate);
        if row.validation[0] < best * (1.0 - 1e-4) {
            best = row.validation[0];
        } else {
            rate *= 0.5;
        }
    }
    assert_eq!(rates(&finished), expected);
    assert!(rate < 0.02, "it never fell");
}

#[test]
fn the_best_epochs_weights_are_kept() {
    let with = |epochs: usize, keep: &str| {
        let changes = [("/train/epochs", json!(epochs)), ("/train/keep", json!(keep))];
        finish(&mut trainer(&spec(&changes)), &mut Keeper::default())
    };
    let best = with(30, "best");
    assert_eq!(best.kept_epoch, best.best_epoch);
    assert!(best.kept_epoch < best.history.len(), "the best epoch must not be the last for this test to say anything");
    assert_eq!(values(&best.weights), values(&with(best.best_epoch, "last").weights));
}

#[test]
fn a_batch_starts_where_the_last_one_ended_and_an_epoch_at_zero() {
    let recorded = |keep_hidden: bool| {
        let spec =
            spec(&[("/train/keep_hidden", json!(keep_hidden)), ("/record", json!({ "every": 1, "what": ["hidden"] }))]);
        let mut keeper = Keeper::default();
        finish(&mut trainer(&spec), &mut keeper);
        keeper.recordings
    };
    // Two sequences of a state of eight: the first sixteen numbers are the states at the first window's start.
    let starts_at_zero = |recordings: &BTreeMap<usize, Vec<(String, Vec<f32>)>>, epoch: usize, batch: &str| {
        let name = format!("{batch}.hidden.layer0");
        let hidden = recordings[&epoch].iter().find(|(key, _)| *key == name).expect("it was recorded");
        hidden.1[..16].iter().all(|&state| state == 0.0)
    };
    let (carried, fresh) = (recorded(true), recorded(false));
    for epoch in [1, 2] {
        assert!(starts_at_zero(&carried, epoch, "batch0001") && starts_at_zero(&fresh, epoch, "batch0001"));
        assert!(!starts_at_zero(&carried, epoch, "batch0002") && starts_at_zero(&fresh, epoch, "batch0002"));
    }
}

#[test]
fn a_dataset_evaluates_the_network_that_is_kept() {
    /// Measures the squared distance as validation does.
    struct Evaluated(Noise);
    impl Dataset for Evaluated {
        fn metrics(&self) -> Vec<Metric> {
            self.0.metrics()
        }
        fn batches(&self, split: Split, batch_size: usize) -> usize {
            self.0.batches(split, batch_size)
        }
        fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
            self.0.batch(at)
        }
        fn evaluates(&self) -> bool {
            true
        }
        fn evaluate(&self, predictor: &dyn Predictor) -> ccdni::Result<Option<Evaluation>> {
            let batch =
                self.batch(BatchIndex { split: Split::Validation, epoch: 4, index: 0, batch_size: 2, level: 0 })?;
            let measured = Metric::squared_distance().on(&predictor.predict(&batch)?, &batch.targets)?;
            let scores = vec![("distance".to_string(), measured.sum()? / measured.weight)];
            Ok(Some(Evaluation { scores, ..Evaluation::default() }))
        }
    }
    let spec = spec(&[("/train/keep", json!("last")), ("/train/early_stopping", Value::Null)]);
    let data = Box::new(Evaluated(Noise { seed: 7 }));
    let mut trainer = Trainer::new(&Plugins::built_in(), &spec, &shape(), data, 7, Device::Cpu).expect("a trainer");
    let finished = finish(&mut trainer, &mut Keeper::default());
    let scores = finished.outputs.evaluation.expect("an evaluation").scores;
    assert_eq!(scores, [("distance".to_string(), finished.history[3].validation[0])]);
}

#[test]
fn every_batch_drops_other_units() {
    /// The same sequences in every batch.
    struct Same(Noise);
    impl Dataset for Same {
        fn metrics(&self) -> Vec<Metric> {
            self.0.metrics()
        }
        fn batches(&self, split: Split, batch_size: usize) -> usize {
            self.0.batches(split, batch_size)
        }
        fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
            self.0.batch(BatchIndex { epoch: 1, index: 0, ..at })
        }
    }
    let hidden = |dropout: f64| {
        let spec = spec(&[
            ("/model/input_dropout", json!(dropout)),
            ("/model/layers/0/dropout", json!(0.0)),
            ("/train/optimizer", json!({ "kind": "sgd", "lr": 1e-30, "momentum": 0.0 })),
            ("/train/keep_hidden", json!(false)),
            ("/record", json!({ "every": 1, "what": ["hidden"] })),
        ]);
        let mut keeper = Keeper::default();
        let mut trainer =
            Trainer::new(&Plugins::built_in(), &spec, &shape(), Box::new(Same(Noise { seed: 7 })), 7, Device::Cpu)
                .expect("a trainer");
        finish(&mut trainer, &mut keeper);
        let of = |epoch: usize, batch: &str| {
            let name = format!("{batch}.hidden.layer0");
            keeper.recordings[&epoch].iter().find(|(key, _)| *key == name).expect("it was recorded").1.clone()
        };
        [of(1, "batch0001"), of(1, "batch0002"), of(2, "batch0001")]
    };
    let [a, b, c] = hidden(0.0);
    assert!(a == b && a == c);
    let [a, b, c] = hidden(0.5);
    assert!(a != b && a != c && b != c);
}

#[test]
fn fibres_are_kept_with_the_weights_of_another_run_and_across_a_stop() {
    let with = |fibres: Value| {
        let dni = json!({ "hidden": [5], "fibres": fibres });
        spec(&[("/model/layers", json!([{ "cell": "lstm", "hidden": 4, "dni": dni }])), ("/record", Value::Null)])
    };
    let source = |spec: &Spec| finish(&mut trainer(spec), &mut Keeper::default());
    let kept = |finished: &Finished| -> Vec<Vec<bool>> {
        let trigger = weights(finished, "input_trigger.weight").remove(0);
        trigger.chunks(8).map(|unit| unit.iter().map(|&weight| weight != 0.0).collect()).collect()
    };
    let start = |spec: &Spec, from: &Spec, weights: &Finished| {
        let mut trainer =
            Trainer::new(&Plugins::built_in(), spec, &shape(), Box::new(Noise { seed: 8 }), 8, Device::Cpu)
                .expect("a trainer");
        trainer.start_from(&Plugins::built_in(), &from.model, &weights.weights).expect("fitting weights");
        trainer
    };
    let (sparse, dense) = (with(json!(3)), with(Value::Null));
    let (from_sparse, from_dense) = (source(&sparse), source(&dense));

    let whole = finish(&mut start(&sparse, &sparse, &from_sparse), &mut Keeper::default());
    assert_eq!(kept(&whole), kept(&from_sparse), "the same fibres, though the seed is another");

    let mut keeper = Keeper { stop_after: Some(4), ..Keeper::default() };
    assert!(matches!(start(&sparse, &sparse, &from_sparse).train(&mut keeper), Ok(Outcome::Stopped)));
    let checkpoint = Checkpoint::from_bytes(&keeper.checkpoint.expect("a checkpoint")).expect("readable");
    let mut again = Trainer::new(&Plugins::built_in(), &sparse, &shape(), Box::new(Noise { seed: 8 }), 8, Device::Cpu)
        .expect("a trainer");
    again.resume(&checkpoint).expect("a fitting checkpoint");
    assert_eq!(result(&finish(&mut again, &mut Keeper::default())), result(&whole));

    let cut = finish(&mut start(&sparse, &dense, &from_dense), &mut Keeper::default());
    assert!(kept(&cut).iter().all(|unit| unit.iter().filter(|&&kept| kept).count() == 3), "{:?}", kept(&cut));
}

#[test]
fn a_loss_that_is_no_number_names_epoch_and_batch_and_keeps_the_checkpoint() {
    let wild = [("/train/optimizer", json!({ "kind": "sgd", "lr": 1e38 })), ("/train/clip", Value::Null)];
    let diverges = |spec: &Spec, stop_after: Option<usize>| {
        let mut keeper = Keeper { stop_after, ..Keeper::default() };
        let error = trainer(spec).train(&mut keeper).expect_err("it must diverge").to_string();
        assert!(error.contains("epoch 1, batch"), "{error}");
        assert!(keeper.checkpoint.is_none(), "no checkpoint of broken weights");
        error
    };
    let soon = diverges(&unrolled(&wild), None);
    // Read late, it is found where the epoch ends, or before a checkpoint; and it is the same batch.
    for stop_after in [None, Some(2), Some(3)] {
        assert_eq!(as_on_a_gpu(|| diverges(&unrolled(&wild), stop_after)), soon);
    }
    diverges(&spec(&wild), None);
}

#[test]
fn a_parameter_that_nothing_reaches_is_named() {
    // The target of every 9th step is the first step's alone: with windows of one step nothing reaches weight_hh
    // through time, but the bias is reached; with a zero start weight_hh gets zeros, which is fine.
    struct Deaf(Noise);
    impl Dataset for Deaf {
        fn metrics(&self) -> Vec<Metric> {
            self.0.metrics()
        }
        fn batches(&self, split: Split, batch_size: usize) -> usize {
            self.0.batches(split, batch_size)
        }
        fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
            // One token sequence whose only step is the feature: the embedding is never looked up.
            Ok(Batch::new(
                Inputs::Tokens {
                    feature: Some(Tensor::ones((at.batch_size, 3), DType::F32, &Device::Cpu)?),
                    ids: Tensor::zeros((at.batch_size, 0), DType::U32, &Device::Cpu)?,
                },
                Targets::Values(Tensor::ones((at.batch_size, 1, 1), DType::F32, &Device::Cpu)?),
            ))
        }
    }
    let mut spec = spec(&[("/model/layers", json!([{ "cell": "lstm", "hidden": 4 }])), ("/record", Value::Null)]);
    spec.model.embed = Some(ccdni::spec::EmbedSpec { size: 3, range: None });
    let shape = TaskShape { input: Input::Tokens { vocabulary: 4, first: First::Feature }, ..shape() };
    let mut trainer =
        Trainer::new(&Plugins::built_in(), &spec, &shape, Box::new(Deaf(Noise { seed: 7 })), 7, Device::Cpu)
            .expect("a trainer");
    let error = trainer.train(&mut Keeper::default()).expect_err("the embedding cannot learn").to_string();
    assert!(error.contains("embed.weight"), "{error}");
}

#[test]
fn weights_of_another_run_are_taken_over_by_role() {
    let plain = spec(&[("/model/layers", json!([{ "cell": "lstm", "hidden": 4 }])), ("/record", Value::Null)]);
    let source = finish(&mut trainer(&plain), &mut Keeper::default());
    let with = spec(&[
        ("/model/layers", json!([{ "cell": "lstm", "hidden": 4, "dni": { "hidden": [5] } }])),
        ("/train/optimizer", json!({ "kind": "sgd", "lr": 1e-30, "momentum": 0.0 })),
        ("/train/epochs", json!(1)),
    ]);
    let mut trainer = trainer(&with);
    trainer.start_from(&Plugins::built_in(), &plain.model, &source.weights).expect("fitting weights");
    let finished = finish(&mut trainer, &mut Keeper::default());
    assert_eq!(weights(&finished, "weight_hh"), weights(&source, "weight_hh"));
    assert_eq!(weights(&finished, "linear."), weights(&source, "linear."));

    let wider = spec(&[("/model/layers", json!([{ "cell": "lstm", "hidden": 5 }])), ("/record", Value::Null)]);
    let mut trainer = self::trainer(&wider);
    let error =
        trainer.start_from(&Plugins::built_in(), &plain.model, &source.weights).expect_err("another width").to_string();
    assert!(error.contains("rnn.weight_ih_l0") && error.contains("[20, 1]"), "{error}");
}
