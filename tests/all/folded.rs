//! Line drawing without noise gives each cue as one row: the trainer ends with the weights and recordings that a row for
//! every sequence gives, on both backends, also where equal sequences do not stay equal.

use candle_core::{Device, Tensor};
use ccdni::data::{Batch, BatchIndex, Dataset, Metric, Showcase, Split};
use ccdni::spec::Spec;
use ccdni::tasks::{LineDraw, Task};
use ccdni::train::{Callback, Outcome, Plugins, Trainer};
use serde_json::json;

/// A row for every sequence.
struct Expanded(Box<dyn Dataset>);

impl Dataset for Expanded {
    fn metrics(&self) -> Vec<Metric> {
        self.0.metrics()
    }

    fn batches(&self, split: Split, batch_size: usize) -> usize {
        self.0.batches(split, batch_size)
    }

    fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
        self.0.batch(at)?.expanded()
    }

    fn showcase(&self) -> ccdni::Result<Option<Showcase>> {
        self.0.showcase()
    }
}

/// Keeps recordings.
#[derive(Default)]
struct Keeper(Vec<(String, Tensor)>);

impl Callback for Keeper {
    fn recording(&mut self, epoch: usize, tensors: &[(String, Tensor)]) -> ccdni::Result<()> {
        self.0.extend(tensors.iter().map(|(name, tensor)| (format!("{epoch}.{name}"), tensor.clone())));
        Ok(())
    }
}

/// Everything that training gives, by name: weights, recordings, and the numbers of every epoch.
fn trained(backend: &str, keep_hidden: bool, dropout: f64, expand: bool) -> Vec<(String, Vec<f32>)> {
    let spec: Spec = serde_json::from_value(json!({
        "task": { "kind": "linedraw" },
        "model": {
            "input_dropout": dropout,
            "layers": [
                { "cell": "lstm", "hidden": 20, "dni": { "hidden": [17], "init_last": "uniform" } },
                { "cell": "gru", "hidden": 18, "dni": { "hidden": [], "context": "target" } },
            ],
        },
        "train": {
            "epochs": 2, "batch_size": 13, "bptt": 3, "feedback_every": 2, "keep_hidden": keep_hidden,
            "clip": { "norm": 0.5 }, "activity_l2": 0.01,
        },
        "run": { "backend": backend },
        "record": { "every": 2, "what": ["hidden", "synthetic", "target", "true", "synthesizer"], "cosine": true },
    }))
    .expect("a valid spec");
    let task: LineDraw = serde_json::from_value(json!({ "train_size": 50, "test_size": 30 })).expect("valid keys");
    let shape = task.shape();
    let data = task.open(1).expect("data");
    let data: Box<dyn Dataset> = if expand { Box::new(Expanded(data)) } else { data };
    let mut keeper = Keeper::default();
    let mut trainer = Trainer::new(&Plugins::built_in(), &spec, &shape, data, 1, Device::Cpu).expect("a trainer");
    let Outcome::Finished(finished) = trainer.train(&mut keeper).expect("it trains") else { panic!("it stopped") };
    let tensors = finished.weights.into_iter().chain(keeper.0);
    let flat = |t: Tensor| t.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("numbers");
    let mut all: Vec<(String, Vec<f32>)> = tensors.map(|(name, tensor)| (name, flat(tensor))).collect();
    for row in finished.history {
        let mut numbers = vec![row.train_loss as f32, row.train_loss_original as f32];
        numbers.extend(row.validation.iter().chain(row.extra.iter().map(|extra| &extra.value)).map(|&v| v as f32));
        all.push((format!("epoch {}", row.epoch), numbers));
    }
    all
}

#[test]
fn a_folded_batch_trains_the_network_that_the_whole_one_trains() {
    for backend in ["fused", "composed"] {
        for (keep_hidden, dropout) in [(false, 0.0), (true, 0.0), (false, 0.2)] {
            let what = format!("{backend}, keep_hidden {keep_hidden}, dropout {dropout}");
            let [folded, whole] = [false, true].map(|expand| trained(backend, keep_hidden, dropout, expand));
            assert_eq!(folded.len(), whole.len());
            for ((name, a), (other, b)) in folded.iter().zip(&whole) {
                assert_eq!((name, a.len()), (other, b.len()), "{what}");
                let largest = b.iter().fold(1e-3f32, |largest, value| largest.max(value.abs()));
                // Where equal sequences do not stay equal, a batch is not folded in the first place.
                let allowed = if keep_hidden || dropout > 0.0 { 0.0 } else { 1e-4 };
                let train = |name: &str| !name.starts_with("epoch");
                let allowed = if train(name) { allowed } else { 1e-4 };
                for (a, b) in a.iter().zip(b) {
                    assert!((a - b).abs() <= allowed * largest, "{what}, {name}: {a} and {b}");
                }
            }
        }
    }
}
