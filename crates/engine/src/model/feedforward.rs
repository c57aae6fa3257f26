//! The feed-forward part of a model: blocks, and the interfaces between them. It is the whole network, or reads each step of a sequence
//! for the recurrent layers above, or encodes the image that is their first input.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use super::Plugins;
use super::encoder::PREFIX;
use super::layout::SynthesizerGroup;
use super::slot::{Slot, Start};
use crate::dni::{Site, Synthesizer};
use crate::error::{Error, Result};
use crate::nn::blocks::{Block, BlockPass};
use crate::nn::{Mode, Part};
use crate::spec::task_shape::TaskShape;
use crate::spec::{BlockSpec, DniSpec, InterfaceContext, InterfaceSpec, ModelSpec};

/// The blocks of a feed-forward network, bottom to top.
#[derive(Debug, Clone)]
pub struct FeedForward {
    /// The blocks.
    pub blocks: Vec<BlockSlot>,
    /// Shape of the network's input: `[features]`, or `[channels, height, width]`.
    pub input: Vec<usize>,
    /// The part of the model that the blocks' parameters belong to: [`Part::Encoder`] if they encode images, otherwise
    /// [`Part::Network`].
    pub part: Part,
    /// Indices of parameters without a gradient in some batches: of blocks below a forward interface, and of synthesizers whose
    /// gradients arrive late.
    waiting: Vec<usize>,
}

/// One block and the interface at its output.
#[derive(Debug, Clone)]
pub struct BlockSlot {
    /// What it computes.
    pub block: Arc<dyn Block>,
    /// Shape of a sample after it.
    pub output: Vec<usize>,
    /// Indices of its parameters and running statistics.
    pub params: Vec<usize>,
    /// The interface at its output.
    pub interface: Option<InterfaceSlot>,
}

/// An interface, and the indices of its synthesizers in the model.
#[derive(Debug, Clone)]
pub struct InterfaceSlot {
    /// Its spec.
    pub spec: InterfaceSpec,
    /// The synthesizer of gradients.
    pub gradients: Option<usize>,
    /// The synthesizer of inputs.
    pub inputs: Option<usize>,
}

/// The blocks of a spec with what is around them.
struct Place<'a> {
    blocks: &'a [BlockSpec],
    /// Shape of the first one's input.
    input: Vec<usize>,
    /// Width of the outputs that are required of the last one.
    outputs: usize,
    /// What the names of their parameters begin with.
    prefix: &'static str,
    part: Part,
}

impl<'a> Place<'a> {
    /// Those of a model, if it has any.
    fn of(spec: &'a ModelSpec, shape: &TaskShape) -> Option<Place<'a>> {
        if !spec.blocks.is_empty() {
            let (input, outputs) = (shape.input.sample(), shape.target.width());
            return Some(Place { blocks: &spec.blocks, input, outputs, prefix: "", part: Part::Network });
        }
        let blocks = spec.encoder.as_ref()?.blocks()?;
        let (side, outputs) = (shape.input.image_side()?, spec.embed.as_ref()?.size);
        Some(Place { blocks, input: vec![3, side, side], outputs, prefix: PREFIX, part: Part::Encoder })
    }
}

/// Draws the dropout mask of a block, given the probability of a zero and the shape.
pub type DrawMasks<'a> = dyn Fn(usize, f64, &[usize]) -> Result<Tensor> + Sync + 'a;

impl InterfaceSlot {
    /// The indices of its synthesizers.
    pub fn synthesizers(&self) -> impl Iterator<Item = usize> {
        self.gradients.into_iter().chain(self.inputs)
    }
}

/// Blocks that learn together, from one interface to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The blocks.
    pub blocks: Range<usize>,
    /// Whether there is an interface below, at the block before the first.
    pub below: bool,
    /// Whether there is an interface above, at the last block.
    pub above: bool,
}

impl FeedForward {
    /// Adds the parameters of a model's blocks and their synthesizers; `None` if it has no blocks.
    ///
    /// # Errors
    /// Fails if a part is not registered, or a block does not fit to the one below.
    pub(super) fn new(
        plugins: &Plugins,
        spec: &ModelSpec,
        shape: &TaskShape,
        slots: &mut Vec<Slot>,
        synthesizers: &mut Vec<SynthesizerGroup>,
    ) -> Result<Option<FeedForward>> {
        let Some(Place { blocks: specs, input, outputs: targets, prefix, part }) = Place::of(spec, shape) else {
            return Ok(None);
        };
        let (mut blocks, mut sample) = (Vec::<BlockSlot>::new(), input.clone());
        let (mut waiting, mut cut) = (Vec::new(), 0);
        for (k, block) in specs.iter().enumerate() {
            let plugin: Arc<dyn Block> = plugins.block(block)?.into();
            let output = plugin.output(&sample, targets);
            let output = output.map_err(|what| Error::Usage(format!("`model.{prefix}blocks.{k}`: {what}")))?;
            let params = plugin.parameters(&sample, targets).into_iter().map(|parameter| {
                let name = format!("{prefix}blocks.{k}.{}", parameter.name);
                let part = if parameter.learned { part } else { Part::Fixed };
                let start = Start::Block(parameter.initial);
                slots.push(Slot { role: name.clone(), name, part, dims: parameter.dims, start });
                slots.len() - 1
            });
            let params = params.collect();
            let interface = block.dni.as_ref().map(|dni| {
                let context = match dni.context {
                    InterfaceContext::None => None,
                    InterfaceContext::Target => Some(targets),
                    InterfaceContext::Input => Some(input.iter().product()),
                };
                let mut add = |what: &str, dni: DniSpec, site| {
                    let role = format!("{prefix}blocks.{k}.{what}_interface.synthesizer");
                    let group =
                        SynthesizerGroup::new(plugins.synthesizer(&dni)?, dni, site, role, synthesizers.len(), slots);
                    synthesizers.push(group);
                    Ok::<_, Error>(synthesizers.len() - 1)
                };
                let gradients = dni
                    .unlock
                    .has_gradients()
                    .then(|| add("backward", dni.gradients(), Site::of_message(&output, context, dni.learn)));
                let gradients = gradients.transpose()?;
                let inputs = dni.unlock.has_inputs().then(|| {
                    let trigger = input.iter().product();
                    let site = Site::of_trigger(trigger, &output, context, dni.learn);
                    add("forward", dni.inputs(), site)
                });
                Ok::<_, Error>(InterfaceSlot { spec: dni.clone(), gradients, inputs: inputs.transpose()? })
            });
            let interface = interface.transpose()?;
            blocks.push(BlockSlot { block: plugin, output: output.clone(), params, interface });
            if let Some(interface) = &blocks[k].interface {
                match interface.gradients {
                    Some(index) if interface.spec.delay > 0 => waiting.extend(&synthesizers[index].params),
                    Some(_) => {}
                    None => waiting.extend(blocks[cut..=k].iter().flat_map(|slot| &slot.params)),
                }
                cut = k + 1;
            }
            sample = output;
        }
        Ok(Some(FeedForward { blocks, input, part, waiting }))
    }

    /// Whether they encode the image that is the first input of recurrent layers.
    pub fn encodes_images(&self) -> bool {
        self.part == Part::Encoder
    }

    /// Numbers of a sample after the last block.
    pub fn width(&self) -> usize {
        self.blocks.last().map_or(&self.input, |block| &block.output).iter().product()
    }

    /// Whether a parameter may have no gradient in a batch although nothing is frozen: it is below a forward interface, or its
    /// synthesizer's gradients arrive late.
    pub fn may_wait(&self, parameter: usize) -> bool {
        self.waiting.contains(&parameter)
    }

    /// The segments, given which synthesizers are removed; one more, without blocks, above an interface at the last block.
    pub fn segments(&self, removed: impl Fn(usize) -> bool) -> Vec<Segment> {
        let cuts =
            |slot: &BlockSlot| slot.interface.as_ref().is_some_and(|i| i.synthesizers().all(|index| !removed(index)));
        let ends = (0..self.blocks.len()).filter(|&k| cuts(&self.blocks[k])).map(|k| k + 1);
        let (mut segments, mut start) = (Vec::new(), 0);
        for end in ends {
            segments.push(Segment { blocks: start..end, below: start > 0, above: true });
            start = end;
        }
        segments.push(Segment { blocks: start..self.blocks.len(), below: start > 0, above: false });
        segments
    }

    /// Runs some blocks on `x`, `[rows, ...]`; `value` is that of a parameter, and `mask` draws the dropout mask of a block. In
    /// training it also returns the new running statistics, by index of their parameter.
    ///
    /// # Errors
    /// Fails on a tensor error, and in training with too few rows for statistics.
    pub fn forward(
        &self,
        blocks: Range<usize>,
        x: &Tensor,
        mode: Mode,
        value: &dyn Fn(usize) -> Tensor,
        mask: &DrawMasks<'_>,
    ) -> Result<(Tensor, Vec<(usize, Tensor)>)> {
        let (mut x, mut statistics) = (x.clone(), Vec::new());
        for k in blocks {
            let slot = &self.blocks[k];
            let draw = |p: f64, dims: &[usize]| mask(k, p, dims);
            let mut pass = BlockPass::new(mode, &draw);
            let parameters: Vec<Tensor> = slot.params.iter().map(|&index| value(index)).collect();
            x = slot.block.forward(&parameters, &x, &mut pass)?;
            statistics.extend(pass.into_statistics().into_iter().map(|(place, value)| (slot.params[place], value)));
        }
        Ok((x, statistics))
    }

    /// The interface at the output of a block.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn interface(&self, block: usize) -> Result<&InterfaceSlot> {
        let slot = self.blocks.get(block).and_then(|slot| slot.interface.as_ref());
        slot.ok_or_else(|| Error::Training(format!("block {block} has no interface")))
    }

    /// The shape of the samples that a block reads.
    pub fn sample(&self, block: usize) -> &[usize] {
        block.checked_sub(1).map_or(&self.input, |below| &self.blocks[below].output)
    }
}

/// A synthesizer's description, whatever it is used for.
impl SynthesizerGroup {
    /// Adds the parameters of a synthesizer, whose names and roles begin with `role`.
    fn new(
        synthesizer: Arc<dyn Synthesizer>,
        spec: DniSpec,
        site: Site,
        role: String,
        index: usize,
        slots: &mut Vec<Slot>,
    ) -> SynthesizerGroup {
        let params = synthesizer.parameters(site).into_iter().map(|parameter| {
            let name = format!("{role}.{}", parameter.name);
            let (part, start) = (Part::Synthesizer(index), Start::of_bound(parameter.bound));
            slots.push(Slot { role: name.clone(), name, part, dims: parameter.dims, start });
            slots.len() - 1
        });
        let params = params.collect();
        SynthesizerGroup { layers: Vec::new(), spec, synthesizer, site, params, role }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Layout;
    use crate::spec::task_shape::{Input, Target, TargetKind, When};

    fn layout(blocks: &str) -> Layout {
        let spec: ModelSpec = serde_json::from_str(&format!(r#"{{"blocks": [{blocks}]}}"#)).expect("valid blocks");
        let shape = TaskShape {
            input: Input::Image { channels: 1, height: 6, width: 6 },
            target: Target { kind: TargetKind::Classes { count: 4 }, when: When::LastStep },
            steps: Some(1),
            validates: true,
        };
        Layout::new(&Plugins::built_in(), &spec, &shape).expect("blocks of this crate")
    }

    #[test]
    fn parameters_are_named_by_block_and_synthesizers_by_interface() {
        let layout = layout(
            r#"{"kind": "conv", "channels": 2, "kernel": 3, "dni": {"kind": "conv", "kernel": 3, "context": "target"}},
               {"kind": "flatten"}, {"kind": "linear", "units": 5},
               {"kind": "batch_norm", "dni": {"unlock": "both", "hidden": [7]}}, {"kind": "linear", "bias": false}"#,
        );
        let slots: Vec<(&str, &[usize])> = layout.slots.iter().map(|s| (s.name.as_str(), s.dims.as_slice())).collect();
        assert_eq!(slots[0], ("blocks.0.weight", &[2, 1, 3, 3][..]));
        assert_eq!(slots[2], ("blocks.0.backward_interface.synthesizer.input_trigger.weight", &[2, 2, 3, 3][..]));
        assert_eq!(slots[4], ("blocks.0.backward_interface.synthesizer.input_context.weight", &[2, 4][..]));
        assert_eq!(slots[10], ("blocks.2.weight", &[5, 32][..]));
        assert_eq!(slots[14], ("blocks.3.running_mean", &[5][..]));
        let named = |name: &str| slots.iter().find(|slot| slot.0 == name).map(|slot| slot.1);
        assert_eq!(named("blocks.3.forward_interface.synthesizer.input_trigger.weight"), Some(&[7, 36][..]));
        assert_eq!(named("blocks.3.forward_interface.synthesizer.layers.0.weight"), Some(&[5, 7][..]));
        assert_eq!(slots.last(), Some(&("blocks.4.weight", &[4, 5][..])));
        let network = layout.blocks.expect("blocks");
        let segment = |blocks, below, above| Segment { blocks, below, above };
        assert_eq!(
            network.segments(|_| false),
            [segment(0..1, false, true), segment(1..4, true, true), segment(4..5, true, false)]
        );
        assert_eq!(network.segments(|index| index == 0), [segment(0..4, false, true), segment(4..5, true, false)]);
        assert_eq!(network.segments(|_| true), [segment(0..5, false, false)]);
    }
}
