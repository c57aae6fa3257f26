//! Sentences from small random networks: against the network run over whole sentences, against each other, and against
//! every sentence there is.

use candle_core::{DType, Device, Tensor};
use ccdni::Result;
use ccdni::data::{Batch, Inputs, Targets};
use ccdni::model::{Model, Plugins};
use ccdni::rng::Stream;
use ccdni::spec::ModelSpec;
use ccdni::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};
use ccdni::train::backend::{Backend, Composed, Fused, Plan, Unrolled};
use ccdni::train::decode::{Decoded, Limits, Strategy, decode};
use ccdni::train::device_batch::DeviceBatch;
use serde_json::json;

const WIDTH: usize = 5;
const START: u32 = 0;
const END: u32 = 2;

fn backends() -> [Box<dyn Backend>; 3] {
    [Box::new(Composed), Box::new(Unrolled), Box::new(Fused::default())]
}

/// A network that has opinions: random weights, with a readout whose answers differ.
fn model(vocabulary: usize, seed: u64) -> Model {
    let cell = ["lstm", "gru", "tanh"][seed as usize % 3];
    let spec: ModelSpec = serde_json::from_value(json!({
        "layers": [{ "cell": cell, "hidden": 6, "init_scale": 2.0, "dropout": 0.5 }, { "cell": "lstm", "hidden": 7 }],
        "embed": { "size": WIDTH },
        "input_dropout": 0.5,
    }))
    .expect("a valid model");
    let model = Model::new(&Plugins::built_in(), &spec, &shape(vocabulary), seed, &Device::Cpu).expect("a model");
    let [weight, _] = model.readout_indices().unwrap();
    let louder = (model.params.get(weight).value() * 12.0).expect("a product");
    model.params.set(weight, &louder).expect("the same shape");
    model
}

fn shape(vocabulary: usize) -> TaskShape {
    TaskShape {
        input: Input::Tokens { vocabulary, first: First::Feature },
        target: Target { kind: TargetKind::Classes { count: vocabulary }, when: When::EveryStep },
        steps: None,
        validates: true,
    }
}

fn features(images: usize, width: usize, seed: u64) -> Tensor {
    let mut stream = Stream::new(seed, "features", 0, 0);
    let values: Vec<f32> = (0..images * width).map(|_| stream.normal()).collect();
    Tensor::from_vec(values, (images, width), &Device::Cpu).expect("a tensor")
}

fn limits(never: &[u32], steps: usize) -> Limits {
    Limits { start: START, end: END, never: never.to_vec(), steps }
}

fn greedy(model: &Model, backend: &dyn Backend, features: &Tensor, limits: &Limits) -> Result<Vec<Decoded>> {
    let all = decode(model, backend, features, &Strategy::Greedy, limits)?;
    assert!(all.iter().all(|one| one.len() == 1));
    Ok(all.into_iter().flatten().collect())
}

fn beam(model: &Model, backend: &dyn Backend, features: &Tensor, width: usize, limits: &Limits) -> Vec<Vec<Decoded>> {
    decode(model, backend, features, &Strategy::Beam { width }, limits).expect("a beam")
}

/// The tokens that were chosen, the end included.
fn chosen(sentence: &Decoded) -> Vec<u32> {
    let end = sentence.ended.then_some(END);
    sentence.ids.iter().copied().chain(end).collect()
}

/// Log-probabilities of all tokens after the feature, the start and each of `ids`, from one pass over them all.
fn whole(model: &Model, feature: &Tensor, ids: &[u32]) -> Result<Vec<Vec<f64>>> {
    let fed: Vec<u32> = [START].iter().chain(ids).copied().collect();
    let steps = fed.len() + 1;
    let inputs =
        Inputs::Tokens { feature: Some(feature.clone()), ids: Tensor::from_vec(fed, (1, steps - 1), &Device::Cpu)? };
    let batch = Batch::new(inputs, Targets::Classes(Tensor::zeros((1, steps), DType::U32, &Device::Cpu)?));
    let sequence = DeviceBatch::new(model, &batch, None)?;
    let outputs: Vec<usize> = (1..steps).collect();
    let span = 0..steps;
    let plan = Plan { windows: std::slice::from_ref(&span), needs_backward: &[false], outputs: &outputs };
    let logits = Composed.forward(model, &sequence, plan, &model.zero_state(1)?)?.0.readout.expect("outputs");
    let rows: Vec<Vec<Vec<f32>>> = logits.to_vec3()?;
    let softmax = |row: &Vec<f32>| {
        let total = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        row.iter().map(|&x| f64::from(x) - total).collect()
    };
    Ok(rows.iter().map(|step| softmax(&step[0])).collect())
}

/// Every sentence of at most `steps` tokens out of `words` and the end, with its score, the best first.
fn every_sentence(model: &Model, feature: &Tensor, words: &[u32], steps: usize) -> Result<Vec<(Vec<u32>, f64)>> {
    let mut all = Vec::new();
    let mut open: Vec<(Vec<u32>, f64)> = vec![(Vec::new(), 0.0)];
    for step in 1..=steps {
        for (ids, sum) in std::mem::take(&mut open) {
            let next = whole(model, feature, &ids)?.pop().expect("a step");
            for &id in words.iter().chain(&[END]) {
                let (ids, sum) = ([&ids[..], &[id]].concat(), sum + next[id as usize]);
                let list = if id == END || step == steps { &mut all } else { &mut open };
                list.push((ids, if id == END || step == steps { sum / step as f64 } else { sum }));
            }
        }
    }
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(all)
}

#[test]
fn greedy_takes_what_is_likeliest_over_the_whole_sentence() -> Result<()> {
    let limits = limits(&[START, 1], 12);
    let (mut ended, mut cut) = (0, 0);
    for seed in 0..12 {
        let (model, features) = (model(9, seed), features(4, WIDTH, seed));
        for backend in backends() {
            for (image, sentence) in greedy(&model, &*backend, &features, &limits)?.iter().enumerate() {
                let tokens = chosen(sentence);
                assert_eq!(tokens.len(), sentence.log_probabilities.len());
                assert!(sentence.ended || tokens.len() == limits.steps);
                let all = whole(&model, &features.narrow(0, image, 1)?, &sentence.ids)?;
                for ((&id, &told), step) in tokens.iter().zip(&sentence.log_probabilities).zip(&all) {
                    assert!((step[id as usize] - told).abs() < 1e-5, "{told} where it is {}", step[id as usize]);
                    assert!((2..9).all(|other| step[other] <= step[id as usize] + 1e-5), "{id} of {step:?}");
                }
                if sentence.ended { ended += 1 } else { cut += 1 }
            }
        }
    }
    assert!(ended > 10 && cut > 10, "{ended} sentences ended, {cut} were cut: both should be seen");
    Ok(())
}

#[test]
fn a_beam_of_one_is_greedy_and_a_wider_one_finds_no_worse() -> Result<()> {
    let limits = limits(&[START, 1], 10);
    let mut better = 0;
    for seed in 0..20 {
        let (model, features) = (model(12, seed), features(3, WIDTH, seed + 100));
        for backend in backends() {
            let greedy = greedy(&model, &*backend, &features, &limits)?;
            let one: Vec<Decoded> = beam(&model, &*backend, &features, 1, &limits).into_iter().flatten().collect();
            assert_eq!(one, greedy, "seed {seed}");
            for (sentences, greedy) in beam(&model, &*backend, &features, 8, &limits).iter().zip(&greedy) {
                // Products of one row and of eight differ in their last bits.
                assert!(sentences[0].score() >= greedy.score() - 1e-6, "seed {seed}");
                assert!(sentences.is_sorted_by(|a, b| a.score() >= b.score()) && sentences.len() <= 8);
                better += usize::from(sentences[0].score() > greedy.score() + 1e-6);
                let mut tokens: Vec<Vec<u32>> = sentences.iter().map(chosen).collect();
                tokens.sort();
                tokens.dedup();
                assert_eq!(tokens.len(), sentences.len(), "all sentences differ");
            }
        }
    }
    assert!(better > 10, "a beam was better {better} times only");
    Ok(())
}

#[test]
fn a_beam_as_wide_as_everything_finds_everything() -> Result<()> {
    let limits = limits(&[START, 1], 4);
    for seed in 0..6 {
        let (model, features) = (model(6, seed), features(2, WIDTH, seed));
        let expected = [0, 1].map(|image| every_sentence(&model, &features.narrow(0, image, 1)?, &[3, 4, 5], 4));
        for backend in backends() {
            for (sentences, expected) in beam(&model, &*backend, &features, 200, &limits).iter().zip(&expected) {
                let expected = expected.as_ref().expect("sentences");
                // 1 of one token, 3 of two, 9 of three, 27 · 4 of four.
                assert_eq!((sentences.len(), expected.len()), (121, 121));
                for (sentence, (_, score)) in sentences.iter().zip(expected) {
                    assert!((sentence.score() - score).abs() < 1e-5, "{} {score}", sentence.score());
                }
                assert_eq!(chosen(&sentences[0]), expected[0].0);
            }
        }
    }
    Ok(())
}

#[test]
fn sampling_cold_or_from_the_smallest_nucleus_is_greedy() -> Result<()> {
    let limits = limits(&[START, 1], 10);
    for seed in 0..10 {
        let (model, features) = (model(12, seed), features(3, WIDTH, seed));
        for backend in backends() {
            let greedy = greedy(&model, &*backend, &features, &limits)?;
            for (temperature, top_p) in [(1e-9, 1.0), (1e-300, 1.0), (1.0, 1e-9), (3.0, 1e-300)] {
                let strategy = Strategy::Sample { temperature, top_p, seed, first: 0 };
                let sampled = decode(&model, &*backend, &features, &strategy, &limits)?;
                assert_eq!(sampled.concat(), greedy, "{strategy:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_must_never_be_said_is_not() -> Result<()> {
    let never = [START, 1, 3];
    let limits = limits(&never, 15);
    let mut said = [0; 6];
    for seed in 0..20 {
        let (model, features) = (model(6, seed), features(3, WIDTH, seed));
        let strategies = [
            Strategy::Greedy,
            Strategy::Beam { width: 20 },
            Strategy::Sample { temperature: 5.0, top_p: 1.0, seed, first: 0 },
            Strategy::Sample { temperature: 5.0, top_p: 0.9, seed, first: 0 },
        ];
        for strategy in strategies {
            for sentence in decode(&model, &Fused::default(), &features, &strategy, &limits)?.concat() {
                sentence.ids.iter().for_each(|&id| said[id as usize] += 1);
            }
        }
    }
    assert!(said[4] > 0 && said[5] > 0);
    assert_eq!([said[0], said[1], said[2], said[3]], [0; 4], "{said:?}");
    Ok(())
}

/// As many words and units as real networks have, so that products take the ways they take there.
#[test]
fn images_do_not_influence_each_other() -> Result<()> {
    let spec: ModelSpec = serde_json::from_value(json!({
        "layers": [{ "cell": "lstm", "hidden": 256, "init_scale": 3.0 }], "embed": { "size": 256 },
    }))
    .expect("a valid model");
    let model = Model::new(&Plugins::built_in(), &spec, &shape(1003), 1, &Device::Cpu)?;
    let limits = limits(&[START, 1], 12);
    let features = features(33, 256, 5);
    for backend in backends() {
        for strategy in [
            |_| Strategy::Greedy,
            |_| Strategy::Beam { width: 3 },
            |first| Strategy::Sample { temperature: 0.7, top_p: 0.9, seed: 4, first },
        ] {
            let together = decode(&model, &*backend, &features, &strategy(0), &limits)?;
            for (first, count) in [(0, 1), (7, 1), (32, 1), (4, 2), (11, 17)] {
                let apart = decode(&model, &*backend, &features.narrow(0, first, count)?, &strategy(first), &limits)?;
                for (a, b) in apart.iter().zip(&together[first..]) {
                    let words = |all: &Vec<Decoded>| all.iter().map(chosen).collect::<Vec<_>>();
                    assert_eq!(words(a), words(b));
                    let numbers = |all: &Vec<Decoded>| -> Vec<f64> {
                        all.iter().flat_map(|one| one.log_probabilities.clone()).collect()
                    };
                    assert!(numbers(a).iter().zip(numbers(b)).all(|(a, b)| (a - b).abs() < 1e-4));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn draws_depend_on_the_seed_and_the_number_of_the_image() -> Result<()> {
    let (model, limits) = (model(12, 2), limits(&[START, 1], 10));
    let feature = features(1, WIDTH, 2);
    let same = Tensor::cat(&[&feature, &feature, &feature, &feature], 0)?;
    let sample = |seed, first| {
        let strategy = Strategy::Sample { temperature: 2.0, top_p: 1.0, seed, first };
        decode(&model, &Fused::default(), &same, &strategy, &limits).map(|all| all.concat())
    };
    let drawn = sample(1, 0)?;
    assert_eq!(drawn, sample(1, 0)?);
    assert_ne!(drawn, sample(2, 0)?);
    assert_eq!(drawn[2..], sample(1, 2)?[..2]);
    assert!(drawn.iter().any(|sentence| *sentence != drawn[0]), "one image twice is drawn for twice");
    Ok(())
}

#[test]
fn what_cannot_be_is_refused() -> Result<()> {
    let (plain, features) = (model(6, 1), features(2, WIDTH, 1));
    let says = |strategy: Strategy, limits: Limits| {
        decode(&plain, &Fused::default(), &features, &strategy, &limits).expect_err("an error").to_string()
    };
    let sample = |temperature, top_p| Strategy::Sample { temperature, top_p, seed: 1, first: 0 };
    assert!(says(Strategy::Beam { width: 0 }, limits(&[], 5)).contains("beam of 0"));
    assert!(says(Strategy::Beam { width: usize::MAX }, limits(&[], 5)).contains("1 to 1000"));
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(says(sample(temperature, 1.0), limits(&[], 5)).contains("temperature"));
    }
    for top_p in [0.0, 1.5, f64::NAN] {
        assert!(says(sample(1.0, top_p), limits(&[], 5)).contains("top-p"));
    }
    assert!(says(Strategy::Greedy, limits(&[6], 5)).contains("token 6"));
    assert!(says(Strategy::Greedy, limits(&[], 0)).contains("at most 0"));
    assert!(says(Strategy::Greedy, limits(&[0, 1, 2, 3, 4, 5], 5)).contains("no token"));
    let error = decode(&plain, &Composed, &features.narrow(1, 0, 3)?, &Strategy::Greedy, &limits(&[], 5));
    assert!(error.expect_err("an error").to_string().contains("features"));

    let broken = model(6, 1);
    let [_, bias] = broken.readout_indices().unwrap();
    broken.params.set(bias, &Tensor::full(f32::NAN, 6, &Device::Cpu)?)?;
    for backend in backends() {
        for strategy in [Strategy::Greedy, Strategy::Beam { width: 3 }, sample(1.0, 0.5)] {
            let error = decode(&broken, &*backend, &features, &strategy, &limits(&[], 5)).expect_err("an error");
            assert!(error.to_string().contains("not finite"), "{error}");
        }
    }
    let none = Tensor::zeros((0, WIDTH), DType::F32, &Device::Cpu)?;
    assert!(decode(&plain, &Composed, &none, &Strategy::Greedy, &limits(&[], 5))?.is_empty());
    Ok(())
}
