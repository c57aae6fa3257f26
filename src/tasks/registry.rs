//! The registry of plug-ins, and its interface for checking specs.

use std::sync::OnceLock;

use serde_json::Value;

use super::{
    Add, Captioning, Classify, CopyRepeat, DelayedAssociation, Evidence, Language, LineDraw, Mimic, SeqMnist, Task,
};
use crate::dni::Site;
use crate::error::{Problem, Result};
use crate::model::Layout;
use crate::plugins::{Catalogue, Kinds, Plugin};
use crate::spec::Read;
use crate::spec::task_shape::{BlockShape, CellShape, RuleShape, TaskShape};
use crate::spec::{BlockSpec, DniSpec, LayerSpec, ModelSpec, PluginTable, Plugins, RuleSpec, make_schema};
use crate::train;

/// The registered plug-ins of every kind.
pub struct Registry {
    tasks: Kinds<dyn Task>,
    train: train::Plugins,
    /// The schema of a spec with these plug-ins, once it was needed.
    schema: OnceLock<Value>,
}

impl Default for Registry {
    /// A registry without tasks.
    fn default() -> Self {
        Registry {
            tasks: Kinds::new::<PluginTable>("task"),
            train: train::Plugins::built_in(),
            schema: OnceLock::new(),
        }
    }
}

impl Registry {
    /// The plug-ins of this crate.
    pub fn built_in() -> Self {
        let mut registry = Registry::default();
        registry.register_task::<LineDraw>();
        registry.register_task::<SeqMnist>();
        registry.register_task::<Captioning>();
        registry.register_task::<Add>();
        registry.register_task::<Evidence>();
        registry.register_task::<CopyRepeat>();
        registry.register_task::<Mimic>();
        registry.register_task::<DelayedAssociation>();
        registry.register_task::<Classify>();
        registry.register_task::<Language>();
        registry
    }

    /// Adds a task.
    ///
    /// # Panics
    /// If its kind is already registered, or it has a key `kind`.
    pub fn register_task<T: Plugin + Task>(&mut self) {
        self.schema.take();
        self.tasks.register::<T>(|task| Box::new(task));
    }

    /// The plug-ins for training: optimizers, learning rules, cells, blocks and synthesizers.
    pub fn train(&self) -> &train::Plugins {
        &self.train
    }

    /// The plug-ins for training, to add some.
    pub fn train_mut(&mut self) -> &mut train::Plugins {
        self.schema.take();
        &mut self.train
    }

    /// The task of a spec.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if the kind is unknown or its keys are invalid.
    pub fn task(&self, task: &PluginTable) -> Result<Box<dyn Task>> {
        self.tasks.open(&task.kind, &task.keys)
    }
}

impl Plugins for Registry {
    fn schema(&self) -> &Value {
        self.schema.get_or_init(|| make_schema(self))
    }

    fn tasks(&self) -> &dyn Catalogue {
        &self.tasks
    }

    fn optimizers(&self) -> &dyn Catalogue {
        &self.train.optimizers
    }

    fn read_task(&self, task: &PluginTable) -> Read<TaskShape> {
        let (keys, task) = self.tasks.read(&task.kind, &task.keys)?;
        Ok((keys, task.shape()))
    }

    fn rules(&self) -> &dyn Catalogue {
        &self.train.rules
    }

    fn read_rule(&self, rule: &RuleSpec) -> Read<RuleShape> {
        let (keys, plugin) = self.train.rules.read(&rule.kind, &rule.keys)?;
        let (cells, synthesizer) = (plugin.cells(rule.variant), plugin.has_synthesizer());
        let (predicts, stochastic) = (plugin.predicts_at_state(), plugin.is_stochastic());
        Ok((keys, RuleShape { cells, synthesizer, predicts, stochastic }))
    }

    fn cells(&self) -> &dyn Catalogue {
        &self.train.model.cells
    }

    fn read_cell(&self, layer: &LayerSpec) -> Read<CellShape> {
        let (keys, cell) = self.train.model.cells.read(&layer.cell, &layer.keys)?;
        let shape = CellShape {
            state_width: cell.state_width(layer.hidden),
            kernels: cell.kernels().is_some(),
            closed_form: cell.closed_form().is_some(),
            pointwise: cell.pointwise().map(|_| (cell.gates(), cell.state_width(1))),
        };
        Ok((keys, shape))
    }

    fn synthesizers(&self) -> &dyn Catalogue {
        &self.train.model.synthesizers
    }

    fn blocks(&self) -> &dyn Catalogue {
        &self.train.model.blocks
    }

    fn read_block(&self, block: &BlockSpec, input: &[usize], targets: usize) -> Read<BlockShape> {
        let (keys, block) = self.train.model.blocks.read(&block.kind, &block.keys)?;
        let output = block.output(input, targets).map_err(|what| vec![Problem::new("", what)])?;
        let learns = block.parameters(input, targets).iter().any(|parameter| parameter.learned);
        Ok((keys, BlockShape { output, learns }))
    }

    fn read_synthesizer(&self, dni: &DniSpec, trigger: &[usize], message: &[usize]) -> Read<Vec<Problem>> {
        let (mut keys, synthesizer) = self.train.model.synthesizers.read(&dni.kind, &dni.keys)?;
        let site = match trigger == message {
            true => Site::of_message(message, None, dni.learn),
            false => Site::of_trigger(trigger.iter().product(), message, None, dni.learn),
        };
        let problems = synthesizer.normalise(&mut keys, site);
        Ok((keys, problems))
    }

    fn parameters(&self, model: &ModelSpec, shape: &TaskShape) -> Result<usize> {
        let layout = Layout::new(&self.train.model, model, shape)?;
        Ok(layout.slots.iter().map(|slot| slot.dims.iter().product::<usize>()).sum())
    }
}
