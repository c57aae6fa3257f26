//! Every task keeps what the conformance kit asks for, and the kit finds those that do not.

use candle_core::{Device, Tensor};
use ccdni::data::{Batch, BatchIndex, Dataset, Inputs, Metric, Split, Targets};
use ccdni::plugins::Plugin;
use ccdni::spec::task_shape::{Input, Target, TargetKind, TaskShape, When};
use ccdni::spec::{self, Plugins, Request};
use ccdni::tasks::{
    Add, Captioning, Classify, CopyRepeat, DelayedAssociation, Evidence, Language, LineDraw, Mimic, Registry, SeqMnist,
    Task,
};
use ccdni::testing::{Draws, check_block, check_cell, check_task};
use ccdni::train::backend;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

#[path = "../../examples/custom_task.rs"]
#[allow(dead_code)]
mod custom_task;

#[path = "../../examples/custom_cell.rs"]
#[allow(dead_code)]
mod custom_cell;

#[path = "../../examples/custom_block.rs"]
#[allow(dead_code)]
mod custom_block;

#[test]
fn every_built_in_task_conforms() {
    let scene = tempfile::tempdir().unwrap();
    // One line per task: a task that is registered and not named here has not been checked.
    let checked = [
        (LineDraw::KIND, check_task::<LineDraw>(json!({"train_noise": 0.1, "test_size": 1500}), Draws::BySeed)),
        (SeqMnist::KIND, check_task::<SeqMnist>(json!({"source": glyphs(50, 20)}), Draws::BySeed)),
        (Captioning::KIND, check_task::<Captioning>(scenes(scene.path()), Draws::BySeed)),
        (Add::KIND, check_task::<Add>(json!({"seq_len": 12}), Draws::BySeed)),
        (Evidence::KIND, check_task::<Evidence>(json!({"delay": 2, "test_size": 1500}), Draws::BySeed)),
        (CopyRepeat::KIND, check_task::<CopyRepeat>(json!({"train_size": 60}), Draws::BySeed)),
        (Mimic::KIND, check_task::<Mimic>(json!({"seq_len": 12, "tau": 2}), Draws::BySeed)),
        (DelayedAssociation::KIND, check_task::<DelayedAssociation>(json!({"delay": 2}), Draws::BySeed)),
        (Classify::KIND, check_task::<Classify>(json!({"source": glyphs(50, 20)}), Draws::BySeed)),
        (
            Language::KIND,
            check_task::<Language>(
                json!({"source": {"kind": "grammar", "train": 30, "valid": 30, "test": 30}, "steps": 5, "columns": 2}),
                Draws::Fixed,
            ),
        ),
    ];
    for (kind, result) in &checked {
        assert!(result.is_ok(), "{kind}: {result:?}");
    }
    let registry = Registry::built_in();
    assert_eq!(registry.tasks().kinds(), checked.map(|(kind, _)| kind), "every registered task has a line above");
}

#[test]
fn line_drawing_conforms_at_its_edges() {
    for keys in [
        json!({"points": 1, "seq_len": 2, "train_size": 1, "val_split": 0, "test_size": 0, "train_noise": 1}),
        json!({"points": 4, "seq_len": 3, "fixed_data": true}),
    ] {
        check_task::<LineDraw>(keys, Draws::BySeed).unwrap();
    }
}

/// Few scenes, drawn into a folder.
fn scenes(folder: &std::path::Path) -> serde_json::Value {
    let source = json!({"kind": "scenes", "dir": folder.join("scenes"), "train": 30, "validation": 10, "size": 16});
    json!({"source": source, "resize": 16, "threshold": 1, "lengths": [11, 18], "validation_batch_size": 3, "scores": true})
}

/// A source of few images.
fn glyphs(train: usize, test: usize) -> serde_json::Value {
    json!({"kind": "glyphs", "train": train, "test": test})
}

#[test]
fn sequential_digits_conform_in_every_mode() {
    for (keys, draws) in [
        (json!({"mode": "lines", "source": glyphs(50, 20)}), Draws::BySeed),
        (json!({"mode": "lines", "ends": "grid", "source": glyphs(30, 0), "row": 392, "radius": 1}), Draws::BySeed),
        (json!({"mode": "digits", "row": 14, "source": glyphs(40, 0), "split": "ordered"}), Draws::BySeed),
        (json!({"numbers": [7, 1], "source": glyphs(60, 5), "split": "ordered", "shuffle": false}), Draws::Fixed),
        (json!({"row": 392, "source": glyphs(20, 5), "val_split": 0}), Draws::BySeed),
    ] {
        check_task::<SeqMnist>(keys, draws).unwrap();
    }
}

#[test]
fn the_example_conforms() {
    check_task::<custom_task::DelayedAddition>(json!({"steps": 8}), Draws::BySeed).unwrap();
}

#[test]
fn the_example_has_a_spec_that_its_program_understands() {
    let mut registry = Registry::built_in();
    registry.register_task::<custom_task::DelayedAddition>();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/delayed_addition.yaml");
    let request = Request { file, ..Request::default() };
    let resolved = spec::resolve(&request, &registry).unwrap();
    assert_eq!(resolved.shape.steps, Some(20));
    // The schema that was made for a spec before does not stand for the plug-ins that are added after it.
    let mut registry = Registry::built_in();
    let error = spec::resolve(&request, &registry).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("delayed_addition"), "{error}");
    registry.register_task::<custom_task::DelayedAddition>();
    spec::resolve(&request, &registry).unwrap();
}

#[test]
fn the_example_of_a_cell_conforms() {
    for keys in [json!({}), json!({"tau": 1}), json!({"phi": "tanh", "tau": 3.5})] {
        check_cell::<custom_cell::LeakyRate>(keys).unwrap();
    }
}

#[test]
fn the_example_of_a_block_conforms_and_its_spec_is_understood() {
    for keys in [json!({}), json!({"affine": false})] {
        check_block::<custom_block::LayerNorm>(keys).unwrap();
    }
    let mut registry = Registry::built_in();
    registry.train_mut().model.blocks.register::<custom_block::LayerNorm>(|block| Box::new(block));
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/layer_norm.yaml");
    let request = Request { file, ..Request::default() };
    let resolved = spec::resolve(&request, &registry).unwrap();
    assert_eq!(resolved.spec.model.blocks[2].keys["affine"], true);
    let error = spec::resolve(&request, &Registry::built_in()).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("layer_norm"), "{error}");
}

#[test]
fn a_cell_with_a_step_alone_is_understood_and_trained_by_the_composed_backend() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/leaky_rate.yaml");
    let mut registry = Registry::built_in();
    let request = Request { file: file.clone(), ..Request::default() };
    assert!(spec::resolve(&request, &registry).is_err(), "the cell is not registered yet");
    registry.train_mut().model.cells.register::<custom_cell::LeakyRate>(|cell| Box::new(cell));
    let resolve = |set: &[&str]| {
        let set = set.iter().map(ToString::to_string).collect();
        spec::resolve(&Request { file: file.clone(), set, ..Request::default() }, &registry)
    };
    let resolved = resolve(&[]).unwrap();
    assert_eq!(resolved.spec.model.layers[0].keys["tau"], 4.0);
    let cells = registry.train().model.cells_of(&resolved.spec.model).unwrap();
    let chosen = backend::choose(resolved.spec.run.backend, &cells, None, &Device::Cpu).unwrap();
    assert_eq!(backend::name(chosen), "composed");
    for (set, says) in [
        ("run.backend=fused", "`run.backend`"),
        ("model.layers.0.tau=0.5", "`model.layers.0.tau`"),
        ("model.layers.0.force_forget=true", "use `cell: lstm`"),
        ("model.layers.0.cell=leaky_rat", "did you mean `leaky_rate`?"),
    ] {
        let error = resolve(&[set]).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains(says), "{set}: {error}");
    }
    let unknown = spec::resolve(&Request { file: file.clone(), ..Request::default() }, &Registry::built_in());
    assert!(unknown.unwrap_err().to_string().contains("`model.layers.0.cell`"));
}

/// A task with one fault, by number.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Faulty<const FAULT: usize> {}

/// The sequences of a faulty task; `asked` counts what it should not remember.
struct FaultyData {
    fault: usize,
    seed: u64,
    asked: std::cell::Cell<u32>,
}

const SOUND: usize = 0;
const WRONG_SHAPE: usize = 1;
const REMEMBERS: usize = 2;
const IGNORES_SEED: usize = 3;
const NOT_FINITE: usize = 4;
const WRONG_TARGETS: usize = 5;
const SILENT_INPUT: usize = 6;
const NO_VALIDATION: usize = 7;

impl<const FAULT: usize> Plugin for Faulty<FAULT> {
    const KIND: &'static str = "faulty";
    const ABOUT: &'static str = "has one fault";
}

impl<const FAULT: usize> Task for Faulty<FAULT> {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Dense { features: 1 },
            target: Target { kind: TargetKind::Values { size: 1 }, when: When::EveryStep },
            steps: Some(4),
            validates: true,
        }
    }

    fn open(&self, seed: u64) -> ccdni::Result<Box<dyn Dataset>> {
        Ok(Box::new(FaultyData { fault: FAULT, seed, asked: std::cell::Cell::new(0) }))
    }
}

impl Dataset for FaultyData {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::squared_distance()]
    }

    fn batches(&self, split: Split, _batch_size: usize) -> usize {
        if self.fault == NO_VALIDATION && split == Split::Validation { 0 } else { 2 }
    }

    fn batch(&self, at: BatchIndex) -> ccdni::Result<Batch> {
        self.asked.set(self.asked.get() + 1);
        let seed = if self.fault == IGNORES_SEED { 0 } else { self.seed };
        let mut stream = ccdni::rng::Stream::new(seed, "data", at.epoch, at.index);
        let mut values: Vec<f32> = (0..at.batch_size * 4).map(|_| stream.normal()).collect();
        match self.fault {
            REMEMBERS => values[0] = self.asked.get() as f32,
            NOT_FINITE => values[1] = f32::NAN,
            SILENT_INPUT => values.fill(0.0),
            _ => {}
        }
        let width = if self.fault == WRONG_SHAPE { 2 } else { 1 };
        let inputs = Tensor::from_vec(values.clone(), (at.batch_size, 4 / width, width), &Device::Cpu)?;
        let targets: Vec<f32> = (0..at.batch_size * 4).map(|_| stream.normal()).collect();
        let targets = Tensor::from_vec(targets, (at.batch_size, 4, 1), &Device::Cpu)?;
        Ok(Batch::new(
            Inputs::Dense(inputs),
            match self.fault {
                WRONG_TARGETS => Targets::FinalValues(targets.get_on_dim(1, 3)?),
                _ => Targets::Values(targets),
            },
        ))
    }
}

#[test]
fn the_kit_finds_what_is_wrong() {
    fn verdict<const FAULT: usize>() -> String {
        check_task::<Faulty<FAULT>>(json!({}), Draws::BySeed)
            .map_or_else(|error| error.to_string(), |()| "sound".into())
    }
    for (found, says) in [
        (verdict::<SOUND>(), "sound"),
        (verdict::<WRONG_SHAPE>(), "2 steps"),
        (verdict::<REMEMBERS>(), "in another order"),
        (verdict::<IGNORES_SEED>(), "two seeds on the same"),
        (verdict::<NOT_FINITE>(), "not all finite"),
        (verdict::<WRONG_TARGETS>(), "targets are not what"),
        (verdict::<SILENT_INPUT>(), "does not change the parameter"),
        (verdict::<NO_VALIDATION>(), "`validates`"),
    ] {
        assert!(found.contains(says), "{found}: should say {says:?}");
    }
    let fixed = check_task::<Faulty<SOUND>>(json!({}), Draws::Fixed).unwrap_err();
    assert!(fixed.to_string().contains("different batches"), "{fixed}");
}
