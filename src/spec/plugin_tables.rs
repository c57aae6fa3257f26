//! The keys of the plug-ins in a spec: checks them and fills in their defaults.

use super::check::is_doubtful;
use super::task_shape::{CellShape, RuleShape, TaskShape};
use super::{
    BlockSpec, EncoderSpec, InterfaceSpec, Keys, LayerSpec, ModelSpec, PluginTable, Plugins, Read, RuleSpec, yaml::join,
};
use crate::error::Problem;

/// The plug-ins' tables of one spec, and the problems found in them.
pub(super) struct PluginTables<'a> {
    pub plugins: &'a dyn Plugins,
    /// Paths of keys that hold placeholders.
    pub broken: &'a [String],
    pub problems: &'a mut Vec<Problem>,
}

impl PluginTables<'_> {
    /// The shape of the task's data, if its keys are valid.
    pub fn task(&mut self, task: &mut PluginTable) -> Option<TaskShape> {
        let read = self.plugins.read_task(task);
        self.fill("task", "kind", &mut task.keys, read)
    }

    /// The optimizer.
    pub fn optimizer(&mut self, optimizer: &mut PluginTable) {
        let filled = self.plugins.optimizers().fill(&optimizer.kind, &optimizer.keys);
        self.fill("train.optimizer", "kind", &mut optimizer.keys, filled.map(|keys| (keys, ())));
    }

    /// The learning rule; returns its properties, if its keys are valid.
    pub fn rule(&mut self, rule: &mut RuleSpec) -> Option<RuleShape> {
        let read = self.plugins.read_rule(rule);
        self.fill("train.rule", "kind", &mut rule.keys, read)
    }

    /// The cells and synthesizers; returns the properties of each layer's cell, if its keys are valid.
    pub fn layers(&mut self, layers: &mut [LayerSpec]) -> Vec<Option<CellShape>> {
        let layer = |(index, layer): (usize, &mut LayerSpec)| {
            let path = format!("model.layers.{index}");
            let read = self.plugins.read_cell(layer);
            let cell = self.fill(&path, "cell", &mut layer.keys, read);
            self.synthesizer(&path, layer, cell);
            cell
        };
        layers.iter_mut().enumerate().map(layer).collect()
    }

    /// The blocks of a network, and those of its image encoder.
    pub fn blocks(&mut self, model: &mut ModelSpec, shape: &TaskShape) {
        let (list, targets) = ("model.blocks", shape.target.width());
        if let Some((path, sample, _)) = self.stack(list, &mut model.blocks, &shape.input.sample(), targets) {
            if !model.layers.is_empty() && sample.len() != 1 {
                let message =
                    format!("recurrent layers read vectors, and the blocks below end with samples of shape {sample:?}");
                self.problems.push(Problem::new(path, message).help("end `blocks` with `flatten`"));
            } else if model.layers.is_empty() && sample != [targets] {
                let message =
                    format!("the network answers with {sample:?} numbers, and the task has targets of {targets}");
                let help = "end with a `linear` block: without `units` it has as many as there are targets";
                self.problems.push(Problem::new(path, message).help(help));
            }
        }
        let Some(EncoderSpec::Blocks { blocks }) = &mut model.encoder else { return };
        let (Some(side), Some(embed)) = (shape.input.image_side(), &model.embed) else { return };
        let (list, width) = ("model.encoder.blocks", embed.size);
        let Some((path, sample, learns)) = self.stack(list, blocks, &[3, side, side], width) else { return };
        if sample != [width] {
            let message = format!(
                "the blocks end with samples of shape {sample:?}, and the layers read vectors of {width} numbers, as many as an \
                 embedded word has (`model.embed.size`)"
            );
            let help = "end with `flatten` and a `linear` block: without `units` it has as many";
            self.problems.push(Problem::new(path, message).help(help));
        } else if !learns {
            let problem = Problem::new(list, "no block of the encoder has parameters that could learn");
            self.problems.push(problem.help("add a `linear`, `conv` or `batch_norm` block"));
        }
    }

    /// Blocks and their interfaces, from the bottom until one cannot be read: what is above depends on it. Returns the path of the last
    /// one, the shape of its output, and whether any has parameters.
    fn stack(
        &mut self,
        list: &str,
        blocks: &mut [BlockSpec],
        input: &[usize],
        outputs: usize,
    ) -> Option<(String, Vec<usize>, bool)> {
        let (mut sample, mut learns, mut any_learns) = (input.to_vec(), false, false);
        for (index, block) in blocks.iter_mut().enumerate() {
            let path = join(list, &index.to_string());
            let read = self.plugins.read_block(block, &sample, outputs);
            let read = self.fill(&path, "kind", &mut block.keys, read)?;
            (sample, learns, any_learns) = (read.output, learns || read.learns, any_learns || read.learns);
            if let Some(dni) = &mut block.dni {
                self.interface(&join(&path, "dni"), dni, input, &sample);
                if !learns {
                    let message =
                        "no block below this interface, down to the next one, has parameters that could learn";
                    let problem = Problem::new(join(&path, "dni"), message);
                    self.problems.push(problem.help("move it above a `linear`, `conv` or `batch_norm` block"));
                }
                learns = false;
            }
        }
        let last = blocks.len().checked_sub(1)?;
        Some((join(list, &last.to_string()), sample, any_learns))
    }

    fn interface(&mut self, path: &str, dni: &mut InterfaceSpec, input: &[usize], message: &[usize]) {
        let trigger = [input.iter().product()];
        let judged = !is_doubtful(&join(path, "learn"), self.broken);
        let mut inputs = dni.inputs();
        let read = self.plugins.read_synthesizer(&dni.gradients(), message, message);
        let found = self.fill(path, "kind", &mut dni.keys, read).unwrap_or_default();
        if judged && (dni.unlock.has_gradients() || dni.forward.is_some()) {
            self.report(path, found);
        }
        let table = if dni.forward.is_some() { join(path, "forward") } else { path.to_owned() };
        if !dni.unlock.has_inputs() {
            return;
        }
        let read = self.plugins.read_synthesizer(&inputs, &trigger, message);
        let found = self.fill(&table, "kind", &mut inputs.keys, read).unwrap_or_default();
        if judged {
            self.report(&table, found);
        }
        if let Some(forward) = &mut dni.forward {
            forward.keys = inputs.keys;
        }
    }

    fn synthesizer(&mut self, path: &str, layer: &mut LayerSpec, cell: Option<CellShape>) {
        let Some(dni) = &mut layer.dni else { return };
        let table = join(path, "dni");
        let state = [cell.map_or(layer.hidden, |cell| cell.state_width)];
        let read = self.plugins.read_synthesizer(dni, &state, &state);
        let found = self.fill(&table, "kind", &mut dni.keys, read);
        let depends_on = [join(path, "hidden"), join(&table, "learn")];
        if cell.is_some() && !depends_on.iter().any(|key| is_doubtful(key, self.broken)) {
            self.report(&table, found.unwrap_or_default());
        }
    }

    /// Stores the keys of a plug-in in the table at `path` and returns its properties; reports problems and returns `None` if they
    /// are invalid. Where the selector or one of the plug-in's own keys holds a placeholder, nothing is judged.
    fn fill<T>(&mut self, path: &str, selector: &str, keys: &mut Keys, read: Read<T>) -> Option<T> {
        let own = keys.keys().map(String::as_str);
        if own.chain([selector]).any(|key| is_doubtful(&join(path, key), self.broken)) {
            return None;
        }
        match read {
            Ok((filled, properties)) => {
                *keys = filled;
                Some(properties)
            }
            Err(found) => {
                self.report(path, found);
                None
            }
        }
    }

    fn report(&mut self, table: &str, found: Vec<Problem>) {
        let of_table = |problem: Problem| Problem { key: join(table, &problem.key), ..problem };
        self.problems.extend(found.into_iter().map(of_table));
    }
}
