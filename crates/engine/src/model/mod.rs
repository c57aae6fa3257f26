//! From spec to model graph: embedding, recurrent stack and readout, or blocks; synthesizers; and their parameters.

pub mod encoder;
mod feedback;
mod feedforward;
mod initial;
mod layout;
mod plugins;
mod slot;

pub use encoder::{Encoded, Encoder};
pub use feedback::Feedback;
pub use feedforward::{BlockSlot, DrawMasks, FeedForward, InterfaceSlot, Segment};
pub use layout::Layout;
pub use plugins::Plugins;
pub use slot::{Slot, Start};

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::dni::{Site, StoredSynthesizer, Synthesizer};
use crate::error::{Error, Result};
use crate::nn::cells::{Cell, CellWeights};
use crate::nn::{Leaves, Linear, NewParameter, ParamStore, Parameter};
use crate::spec::task_shape::TaskShape;
use crate::spec::{DniSpec, ModelSpec};

/// A network and its parameters on a device; or the networks of several seeds, with `[seeds, ..]` before the shape of each
/// parameter.
#[derive(Debug)]
pub struct Model {
    /// All parameters, in order.
    pub params: ParamStore,
    /// Number of seeds.
    pub seeds: usize,
    /// The recurrent stack, bottom to top.
    pub layers: Vec<Layer>,
    /// The blocks: a whole feed-forward network, what reads each step for the recurrent stack, or the image encoder.
    pub blocks: Option<FeedForward>,
    /// The synthesizers.
    pub synthesizers: Vec<SynthesizerSlot>,
    /// The image encoder, if it has a backbone.
    pub encoder: Option<Encoder>,
    embed: Option<usize>,
    readout: Option<[usize; 2]>,
    device: Device,
}

/// One recurrent layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// What it computes in a step.
    pub cell: Arc<dyn Cell>,
    /// Number of units.
    pub hidden: usize,
    /// Dropout on the layer's output: between layers, or before the readout.
    pub dropout: f64,
    /// Index of the synthesizer on it.
    pub synthesizer: Option<usize>,
    /// Indices of `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
    pub weights: [usize; 4],
    /// Its activity feedback, whose width the last columns of `weight_ih` have.
    pub feedback: Option<Feedback>,
}

impl Layer {
    /// Width of its joined state.
    pub fn state_width(&self) -> usize {
        self.cell.state_width(self.hidden)
    }
}

/// One synthesizer, and the layers that share it if it is one of the recurrent stack.
#[derive(Debug, Clone)]
pub struct SynthesizerSlot {
    /// The layers, lowest first; none if it belongs to an interface between blocks.
    pub layers: Vec<usize>,
    /// What the roles of its parameters begin with.
    pub role: String,
    /// Its spec.
    pub spec: DniSpec,
    /// What it computes.
    pub synthesizer: Arc<dyn Synthesizer>,
    /// Where it is used.
    pub site: Site,
    /// Indices of its parameters in the store.
    pub params: Vec<usize>,
    /// The fibre mask of its first parameter; all weights exist by default.
    pub kept: Option<Tensor>,
}

/// The tensors that a part of the model is built from.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// The parameters, as constants.
    Constant,
    /// Variables for automatic differentiation where there are any, otherwise constants.
    Leaves(&'a Leaves),
}

impl Model {
    /// A model with initial parameters for `seed`.
    ///
    /// # Errors
    /// Fails if it cannot be allocated, or if a part of it is not registered.
    pub fn new(plugins: &Plugins, spec: &ModelSpec, shape: &TaskShape, seed: u64, device: &Device) -> Result<Model> {
        let layout = Layout::new(plugins, spec, shape)?;
        let fresh = |slot: &Slot| {
            let values = initial::values(slot, spec, &layout.cells, seed);
            let value = Tensor::from_vec(values, slot.dims.as_slice(), device)?;
            Ok(NewParameter { name: slot.name.clone(), role: slot.role.clone(), part: slot.part, value })
        };
        let params = ParamStore::new(layout.slots.iter().map(fresh).collect::<Result<_>>()?, device)?;
        let layers = spec.layers.iter().enumerate().map(|(k, layer)| Layer {
            cell: layout.cells[k].clone(),
            hidden: layer.hidden,
            dropout: if k + 1 == spec.layers.len() { spec.output_dropout } else { layer.dropout },
            synthesizer: layout.synthesizers.iter().position(|s| s.layers.contains(&k)),
            weights: layout.layers[k],
            feedback: layer.feedback.as_ref().map(|spec| Feedback {
                spec: spec.clone(),
                params: layout.feedback[k].clone(),
                outputs: shape.target.kind,
                lesioned: false,
            }),
        });
        let mut model = Model {
            layers: layers.collect(),
            synthesizers: Vec::new(),
            encoder: spec.encoder.as_ref().zip(layout.encoder).map(|(spec, layout)| Encoder::new(spec, shape, layout)),
            embed: layout.embed,
            readout: layout.readout,
            blocks: layout.blocks,
            device: device.clone(),
            params,
            seeds: 1,
        };
        for group in layout.synthesizers {
            let first = group.params.first().map(|&index| &layout.slots[index]);
            let kept = first.and_then(|first| Some((initial::fibres(&group, first, seed)?, first.dims.as_slice())));
            let kept = kept.map(|(values, dims)| Tensor::from_vec(values, dims, device)).transpose()?;
            model.synthesizers.push(SynthesizerSlot {
                layers: group.layers,
                role: group.role,
                spec: group.spec,
                synthesizer: group.synthesizer,
                site: group.site,
                params: group.params,
                kept: None,
            });
            if let Some(kept) = kept {
                model.keep_fibres(model.synthesizers.len() - 1, kept)?;
            }
        }
        Ok(model)
    }

    /// The networks of several seeds of one spec as one, with copies of their parameters. The composed backend alone computes it.
    ///
    /// # Errors
    /// Fails if they cannot be allocated, or if the networks have an encoder or blocks.
    pub fn of_seeds(seeds: &[&Model]) -> Result<Model> {
        let Some(first) = seeds.first().filter(|first| first.encoder.is_none() && first.blocks.is_none()) else {
            return Err(Error::Training("networks of several seeds have recurrent layers and no encoder".into()));
        };
        let joined = |index: usize| {
            let values: Vec<&Tensor> = seeds.iter().map(|model| model.params.get(index).value()).collect();
            let Parameter { name, role, part, .. } = first.params.get(index);
            let (name, role, part) = (name.clone(), role.clone(), *part);
            Ok(NewParameter { name, role, part, value: Tensor::stack(&values, 0)? })
        };
        let joined = (0..first.params.len()).map(joined).collect::<Result<_>>()?;
        let mut synthesizers = first.synthesizers.clone();
        for (index, slot) in synthesizers.iter_mut().enumerate() {
            let kept: Vec<&Tensor> = seeds.iter().filter_map(|model| model.synthesizers[index].kept.as_ref()).collect();
            slot.kept = (!kept.is_empty()).then(|| Tensor::stack(&kept, 0)).transpose()?;
        }
        Ok(Model {
            params: ParamStore::new(joined, &first.device)?,
            seeds: seeds.len(),
            layers: first.layers.clone(),
            blocks: None,
            synthesizers,
            encoder: None,
            embed: first.embed,
            readout: first.readout,
            device: first.device.clone(),
        })
    }

    /// Sets the fibre mask of a synthesizer, `[units, inputs]`: weights of its first parameter where it is 0 become 0.
    pub fn keep_fibres(&mut self, synthesizer: usize, kept: Tensor) -> Result<()> {
        let index = self.synthesizers[synthesizer].params[0];
        let kept = kept.to_device(&self.device)?;
        self.params.set(index, &(self.params.get(index).value() * &kept)?)?;
        self.synthesizers[synthesizer].kept = Some(kept);
        Ok(())
    }

    /// Copies the weights of another model by role; `weights` has the names of its layout `source`.
    ///
    /// Parameters that the other model lacks (for example a synthesizer) keep their initial values. The fibre mask is copied
    /// too if both keep the same number of fibres; otherwise this model's mask is applied to the weights.
    ///
    /// # Errors
    /// Names the first parameter that is missing from `weights` or has another shape.
    pub fn adopt(&mut self, source: &Layout, weights: &[(String, Tensor)]) -> Result<()> {
        for index in 0..self.params.len() {
            let parameter = self.params.get(index);
            let Some(slot) = source.slots.iter().find(|slot| slot.role == parameter.role) else { continue };
            let (_, value) = weights
                .iter()
                .find(|(name, _)| *name == slot.name)
                .ok_or_else(|| Error::Usage(format!("the weights to start from have no `{}`", slot.name)))?;
            if value.dims() != parameter.dims() {
                return Err(Error::Usage(format!(
                    "`{}` has shape {:?} in the weights to start from, and {:?} here",
                    slot.name,
                    value.dims(),
                    parameter.dims()
                )));
            }
            self.params.set(index, &value.to_device(&self.device)?.to_dtype(DType::F32)?)?;
        }
        for k in 0..self.synthesizers.len() {
            let slot = &self.synthesizers[k];
            let Some(kept) = slot.kept.clone() else { continue };
            let theirs = source.synthesizers.iter().find(|group| group.role == slot.role);
            let kept = match theirs {
                Some(group) if group.synthesizer.fibres() == slot.synthesizer.fibres() => {
                    self.params.get(slot.params[0]).value().ne(0f32)?.to_dtype(DType::F32)?
                }
                _ => kept,
            };
            self.keep_fibres(k, kept)?;
        }
        Ok(())
    }

    /// Sets running statistics, by index of their parameter.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn note_statistics(&self, statistics: &[(usize, Tensor)]) -> Result<()> {
        statistics.iter().try_for_each(|(index, value)| self.params.set(*index, value))
    }

    /// The blocks, if they are the whole network.
    pub fn feed_forward(&self) -> Option<&FeedForward> {
        self.blocks.as_ref().filter(|_| self.layers.is_empty())
    }

    /// What the network has that is computed by the composed backend alone.
    pub fn needs_composed(&self) -> Option<&'static str> {
        let below = self.blocks.as_ref().is_some_and(|blocks| !blocks.encodes_images());
        needs_composed(self.has_feedback(), below && !self.layers.is_empty())
    }

    /// The device of the parameters.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A layer's weights.
    pub fn cell_weights(&self, layer: usize, weights: Weights<'_>) -> CellWeights {
        let [weight_ih, weight_hh, bias_ih, bias_hh] =
            self.layers[layer].weights.map(|index| self.value(index, weights));
        CellWeights { weight_ih, weight_hh, bias_ih, bias_hh }
    }

    /// The readout from the top layer's `h`.
    ///
    /// # Errors
    /// Fails if the model is a feed-forward network, which has none.
    pub fn readout(&self, weights: Weights<'_>) -> Result<Linear> {
        let [weight, bias] = self.readout_indices()?.map(|index| self.value(index, weights));
        Ok(Linear { weight, bias })
    }

    /// Indices of the readout's weight and bias.
    ///
    /// # Errors
    /// As [`Model::readout`].
    pub fn readout_indices(&self) -> Result<[usize; 2]> {
        self.readout.ok_or_else(|| Error::Training("a network of blocks has no recurrent layers to read out".into()))
    }

    /// The value of a parameter.
    pub fn parameter(&self, index: usize, weights: Weights<'_>) -> Tensor {
        self.value(index, weights)
    }

    /// The embedding, `[vocabulary, size]`, of a model of tokens.
    pub fn embedding(&self, weights: Weights<'_>) -> Option<Tensor> {
        self.embed.map(|index| self.value(index, weights))
    }

    /// Index of the embedding of a model of tokens.
    pub fn embedding_index(&self) -> Option<usize> {
        self.embed
    }

    /// A synthesizer with its parameters.
    pub fn synthesizer(&self, index: usize) -> StoredSynthesizer<'_> {
        let SynthesizerSlot { synthesizer, site, params, kept, .. } = &self.synthesizers[index];
        StoredSynthesizer { synthesizer, site: *site, params: &self.params, indices: params, kept: kept.as_ref() }
    }

    /// A zero state, `[rows, width]` per layer.
    pub fn zero_state(&self, rows: usize) -> Result<Vec<Tensor>> {
        self.layers
            .iter()
            .map(|layer| Ok(Tensor::zeros((rows, layer.state_width()), DType::F32, &self.device)?))
            .collect()
    }

    fn value(&self, index: usize, weights: Weights<'_>) -> Tensor {
        let leaf = match weights {
            Weights::Leaves(leaves) => leaves.get(index),
            Weights::Constant => None,
        };
        leaf.unwrap_or_else(|| self.params.get(index).value()).clone()
    }
}

/// What of a network is computed by the composed backend alone: activity feedback of a layer, or blocks below recurrent layers.
pub fn needs_composed(feedback: bool, blocks_below: bool) -> Option<&'static str> {
    match (feedback, blocks_below) {
        (true, _) => Some("a layer's `feedback`"),
        (false, true) => Some("`blocks` below recurrent layers"),
        (false, false) => None,
    }
}
