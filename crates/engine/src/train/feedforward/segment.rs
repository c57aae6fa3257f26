//! The two phases of a segment: forward, and backward with learning of the interface below.

use std::ops::Range;

use candle_core::{Tensor, Var};

use super::delay::{Delays, Late};
use super::{Batch, InterfaceTrace};
use crate::dni::{Interface, SyntheticInput};
use crate::error::Result;
use crate::model::{FeedForward, InterfaceSlot, Model, Segment};
use crate::nn::{Leaves, Mode};
use crate::spec::InterfaceContext;
use crate::train::engine::Role;

/// A training step.
pub(super) struct Step<'a> {
    pub model: &'a Model,
    pub network: &'a FeedForward,
    pub batch: &'a Batch<'a>,
    pub leaves: Leaves,
    pub segments: Vec<Segment>,
    /// The network's input, `[rows, ...]`.
    pub x: Tensor,
}

/// A segment after its forward pass.
pub(super) struct Sent<'a> {
    /// Its input: a variable if there is an interface below.
    received: Tensor,
    /// The synthetic input of the interface below.
    input: Option<SyntheticInput<'a>>,
    /// Its output.
    pub message: Tensor,
    pub statistics: Vec<(usize, Tensor)>,
}

/// A segment after its backward pass.
pub(super) struct Learned {
    /// Of its blocks, and of the synthesizers of the interface below it.
    pub gradients: Vec<(usize, Tensor)>,
    pub trace: Option<InterfaceTrace>,
    /// The gradient at its input, if it arrives late.
    pub late: Option<Late>,
}

impl<'a> Step<'a> {
    /// Runs consecutive segments forward.
    pub fn forward(&self, chain: Range<usize>) -> Result<Vec<Sent<'a>>> {
        let mut all: Vec<Sent<'a>> = Vec::with_capacity(chain.len());
        for k in chain {
            let segment = &self.segments[k];
            let (mut received, mut input) = (self.x.clone(), None);
            if segment.below {
                let (slot, interface) = self.interface(segment.blocks.start - 1)?;
                let sample = self.network.sample(segment.blocks.start);
                input = interface.synthetic_input(&self.x.flatten_from(1)?, sample, self.context(slot)?.as_ref())?;
                received = match (&input, all.last()) {
                    (Some(input), _) => input.values()?,
                    (None, Some(below)) => below.message.detach(),
                    (None, None) => received,
                };
                received = Var::from_tensor(&received)?.into_inner();
            }
            let value = |index: usize| match self.leaves.get(index) {
                Some(leaf) => leaf.clone(),
                None => self.model.params.get(index).value().clone(),
            };
            let blocks = segment.blocks.clone();
            let (message, statistics) =
                self.network.forward(blocks, &received, Mode::Train, &value, self.batch.masks)?;
            all.push(Sent { received, input, message, statistics });
        }
        Ok(all)
    }

    /// The gradients that arrive late at the interface below each segment, now.
    pub fn due(&self, delays: &mut Delays) -> Result<Vec<Option<Late>>> {
        let due = |segment: &Segment| {
            let Some(block) = segment.blocks.start.checked_sub(1).filter(|_| segment.below) else { return Ok(None) };
            let delay = self.network.interface(block)?.spec.delay;
            Ok(if delay > 0 { delays.due(block, delay) } else { None })
        };
        self.segments.iter().map(due).collect()
    }

    /// Runs a segment backward, from `cotangent` at the network's outputs or from a synthetic gradient; then the synthesizers of the
    /// interface below learn.
    pub fn learn(&self, k: usize, sent: &[Sent<'_>], cotangent: &Tensor, due: Option<&Late>) -> Result<Learned> {
        let (segment, own) = (&self.segments[k], &sent[k]);
        let from_above = match segment.above {
            false => Some(cotangent.clone()),
            true => {
                let (slot, interface) = self.interface(segment.blocks.end - 1)?;
                interface.synthetic_gradient(&own.message, self.context(slot)?.as_ref())?
            }
        };
        let store = from_above.map(|gradient| (&own.message * gradient)?.sum_all()?.backward()).transpose()?;
        let mut learned = Learned { gradients: Vec::new(), trace: None, late: None };
        for &index in self.network.blocks[segment.blocks.clone()].iter().flat_map(|slot| &slot.params) {
            let gradient = self.leaves.get(index).zip(store.as_ref()).and_then(|(leaf, store)| store.get(leaf));
            learned.gradients.extend(gradient.map(|gradient| (index, gradient.clone())));
        }
        if segment.below {
            let arrived = store.as_ref().and_then(|store| store.get(&own.received));
            let arrived = arrived.map_or_else(|| own.received.detach().zeros_like(), |found| Ok(found.detach()))?;
            self.regress(segment.blocks.start - 1, own, &sent[k - 1], arrived, due, &mut learned)?;
        }
        Ok(learned)
    }

    /// The synthesizers of the interface at `block` learn from the gradient that arrived from the segment above, and from the message
    /// of the one below.
    fn regress(
        &self,
        block: usize,
        above: &Sent<'_>,
        below: &Sent<'_>,
        arrived: Tensor,
        due: Option<&Late>,
        learned: &mut Learned,
    ) -> Result<()> {
        let (slot, interface) = self.interface(block)?;
        let context = self.context(slot)?;
        let late = Late { received: above.received.detach(), context, arrived };
        let (mut of_input, mut of_gradient) = (None, None);
        if slot.synthesizers().all(|index| self.batch.roles[index] == Role::Learning) {
            of_input = above.input.as_ref().map(|input| input.learn(&below.message)).transpose()?;
            let now = if slot.spec.delay == 0 { Some(&late) } else { due };
            of_gradient = match now {
                Some(now) => interface.learn_gradient(&now.received, now.context.as_ref(), &now.arrived)?,
                None => None,
            };
        }
        if self.batch.trace {
            learned.trace = Some(InterfaceTrace {
                block,
                message: below.message.detach(),
                synthetic_gradient: interface.synthetic_gradient(&below.message, late.context.as_ref())?,
                synthetic_input: above.input.as_ref().map(SyntheticInput::values).transpose()?,
                gradient_at_synthetic_input: match above.input {
                    Some(_) => interface.synthetic_gradient(&late.received, late.context.as_ref())?,
                    None => None,
                },
                arrived: late.arrived.clone(),
                backward_loss: of_gradient.as_ref().map(|regression| regression.loss.clone()),
                forward_loss: of_input.as_ref().map(|regression| regression.loss.clone()),
            });
        }
        learned.gradients.extend(of_input.into_iter().chain(of_gradient).flat_map(|regression| regression.gradients));
        learned.late = (slot.spec.delay > 0).then_some(late);
        Ok(())
    }

    /// The interface at the output of a block.
    fn interface(&self, block: usize) -> Result<(&'a InterfaceSlot, Interface<'a>)> {
        let slot = self.network.interface(block)?;
        let stored = |index: Option<usize>| index.map(|index| self.model.synthesizer(index));
        let interface =
            Interface { gradients: stored(slot.gradients), inputs: stored(slot.inputs), scale: slot.spec.scale };
        Ok((slot, interface))
    }

    /// The context of an interface's synthesizers, `[rows, context]`.
    fn context(&self, slot: &InterfaceSlot) -> Result<Option<Tensor>> {
        match slot.spec.context {
            InterfaceContext::None => Ok(None),
            InterfaceContext::Target => self.batch.feedback.context(1).map(Some),
            InterfaceContext::Input => Ok(Some(self.x.flatten_from(1)?)),
        }
    }
}
