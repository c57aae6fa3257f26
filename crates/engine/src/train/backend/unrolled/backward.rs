//! The backward pass, from cotangents at outputs and window ends to parameters, window starts and the feature.

use std::ops::Range;

use candle_core::Tensor;

use super::Pass;
use super::cells::{self, LayerGradients};
use super::steps::Steps;
use crate::error::{Error, Result};
use crate::model::Weights;
use crate::nn::Gradients;
use crate::train::backend::{Cotangents, InputGradients};
use crate::train::device_batch::stack_rows;

/// The vector-Jacobian product of the windows that need it.
pub(super) fn run(
    pass: &Pass<'_>,
    cotangents: &Cotangents,
    mut gradients: Option<&mut Gradients>,
) -> Result<InputGradients> {
    let Pass { model, sequence, plan, top, .. } = pass;
    let multiplicity = sequence.rows().column(model.device())?;
    let weighted = |x: &Tensor| -> Result<Tensor> {
        Ok(multiplicity.as_ref().map_or(Ok(x.clone()), |weights| x.broadcast_mul(weights))?)
    };
    let mut at_top = None;
    if let (Some(cotangent), Some(top)) = (&cotangents.outputs, top) {
        let (outputs, rows, hidden) = top.dims3()?;
        let cotangent = weighted(cotangent)?.reshape((outputs * rows, cotangent.dim(2)?))?.contiguous()?;
        if let Some(gradients) = gradients.as_deref_mut() {
            let [weight, bias] = model.readout_indices()?;
            gradients.add(weight, &cotangent.t()?.matmul(&top.reshape((outputs * rows, hidden))?)?)?;
            gradients.add(bias, &cotangent.sum(0)?)?;
        }
        let below = cotangent.matmul(&model.readout(Weights::Constant)?.weight)?;
        at_top = Some(below.reshape((outputs, rows, hidden))?);
    }

    let wanted: Vec<&Range<usize>> =
        (plan.windows.iter().zip(plan.needs_backward)).filter(|(_, needs)| **needs).map(|(w, _)| w).collect();
    let mut starts: Vec<Vec<Tensor>> = vec![Vec::new(); model.layers.len()];
    let (mut feature, mut first) = (None, 0);
    // Windows of equal length run together; only the last of a sequence can be shorter.
    for windows in wanted.chunk_by(|a, b| a.len() == b.len()) {
        let windows: Vec<Range<usize>> = windows.iter().map(|&window| window.clone()).collect();
        let steps = Steps::new(&windows, sequence.rows().count, plan.span().start);
        let group = Group { pass, cotangents, multiplicity: multiplicity.as_ref(), steps, first };
        let inputs = group.backward(at_top.as_ref(), gradients.as_deref_mut())?;
        starts.iter_mut().zip(inputs.starts).for_each(|(all, one)| all.push(one));
        feature = feature.or(inputs.feature);
        first += windows.len();
    }
    let starts = match cotangents.starts && first > 0 {
        true => starts.iter().map(|parts| stack_rows(parts)).collect::<Result<_>>()?,
        false => Vec::new(),
    };
    Ok(InputGradients { starts, feature, inputs: Vec::new() })
}

/// Windows of one length that need a backward pass.
struct Group<'a> {
    pass: &'a Pass<'a>,
    cotangents: &'a Cotangents,
    /// `[batch, 1]`; absent if always one.
    multiplicity: Option<&'a Tensor>,
    steps: Steps,
    /// Number of windows with a backward pass before these.
    first: usize,
}

impl Group<'_> {
    /// `at_top` are the gradients at the top layer at the steps with outputs, `[outputs, batch, hidden]`.
    fn backward(&self, at_top: Option<&Tensor>, mut gradients: Option<&mut Gradients>) -> Result<InputGradients> {
        let model = self.pass.model;
        let mut starts = vec![None; model.layers.len()];
        let mut cotangent = at_top.map(|at_top| self.at_outputs(at_top)).transpose()?.flatten();
        let mut reached = false;
        for k in (0..model.layers.len()).rev() {
            let trace = &self.pass.traces[k];
            if let (Some(here), Some(mask)) = (&cotangent, self.pass.sequence.layer_mask(k)) {
                cotangent = Some((here * self.steps.pick_absolute(mask)?)?);
            }
            if let Some(activity) = self.activity(k)? {
                cotangent = Some(cotangent.map_or(Ok(activity.clone()), |here| here + activity)?);
            }
            let end = self.end(k)?;
            if cotangent.is_none() && end.is_none() {
                continue;
            }
            reached = true;
            let weights = model.cell_weights(k, Weights::Constant);
            let wants = self.cotangents.starts;
            let (layer, outputs, end) = (&model.layers[k], cotangent.as_ref(), end.as_ref());
            let layer_gradients = cells::backward(layer, trace, &weights.weight_hh, &self.steps, outputs, end, wants)?;
            if let Some(gradients) = gradients.as_deref_mut() {
                self.add_gradients(k, &layer_gradients, gradients)?;
            }
            let reads = k > 0 || (gradients.is_some() && model.embedding_index().is_some());
            cotangent = match reads {
                true => {
                    let below = layer_gradients.inputs.matmul(&weights.weight_ih)?;
                    Some(below.reshape((self.steps.length, self.steps.windows * self.steps.rows, below.dim(1)?))?)
                }
                false => None,
            };
            starts[k] = layer_gradients.start;
        }
        if !reached {
            return Err(Error::Training("a backward pass without cotangents".into()));
        }
        let feature = gradients
            .map(|gradients| self.add_embedding_gradient(cotangent.as_ref(), gradients))
            .transpose()?
            .flatten();
        let rows = self.steps.windows * self.steps.rows;
        let start = |(k, start): (usize, Option<Tensor>)| match start {
            Some(start) => self.for_one(&start),
            None => Ok(Tensor::zeros((rows, model.layers[k].state_width()), candle_core::DType::F32, model.device())?),
        };
        let starts = match self.cotangents.starts {
            true => starts.into_iter().enumerate().map(start).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        Ok(InputGradients { starts, feature, inputs: Vec::new() })
    }

    /// The gradients at the top layer at every step of these windows, if any; zero at steps without output.
    fn at_outputs(&self, at_top: &Tensor) -> Result<Option<Tensor>> {
        let outputs = self.pass.plan.outputs;
        let places: Vec<Option<usize>> = self.steps.all.iter().map(|step| outputs.binary_search(step).ok()).collect();
        if places.iter().all(Option::is_none) {
            return Ok(None);
        }
        let place = |step: usize| outputs.binary_search(&step).unwrap_or(outputs.len());
        match places.iter().all(Option::is_some) {
            true => Ok(Some(self.steps.pick_at(at_top, place)?)),
            false => {
                let none = at_top.narrow(0, 0, 1)?.zeros_like()?;
                Ok(Some(self.steps.pick_at(&Tensor::cat(&[at_top, &none], 0)?, place)?))
            }
        }
    }

    /// The activity term's gradient at a layer's outputs.
    fn activity(&self, k: usize) -> Result<Option<Tensor>> {
        let weight = self.cotangents.activity;
        if weight <= 0.0 {
            return Ok(None);
        }
        let trace = &self.pass.traces[k];
        let h = self.steps.pick(&trace.h.narrow(0, 1, trace.inputs.dim(0)?)?)?;
        let count = self.steps.length * self.pass.sequence.rows().sequences * self.pass.model.layers[k].hidden;
        Ok(Some((self.for_all(&h)? * (2.0 * weight / count as f64))?))
    }

    /// The cotangent at a layer's states at the ends of these windows.
    fn end(&self, k: usize) -> Result<Option<Tensor>> {
        let Some(injected) = self.cotangents.ends.get(k).and_then(Option::as_ref) else { return Ok(None) };
        let (rows, windows) = (self.steps.rows, self.steps.windows);
        let here = injected.narrow(0, self.first * rows, windows * rows)?;
        Ok(Some(self.for_all(&here)?))
    }

    /// Scales gradients per sequence, `[.., windows · batch, n]`, to all sequences of a row.
    fn for_all(&self, x: &Tensor) -> Result<Tensor> {
        self.multiplicity.map_or(Ok(x.clone()), |weights| self.times(x, weights))
    }

    /// The inverse of [`Group::for_all`].
    fn for_one(&self, x: &Tensor) -> Result<Tensor> {
        self.multiplicity.map_or(Ok(x.clone()), |weights| self.times(x, &weights.recip()?))
    }

    fn times(&self, x: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let n = x.dim(x.rank() - 1)?;
        let blocks = x.elem_count() / (self.steps.rows * n).max(1);
        Ok(x.reshape((blocks, self.steps.rows, n))?.broadcast_mul(weights)?.reshape(x.dims())?)
    }

    fn add_gradients(&self, k: usize, layer_gradients: &LayerGradients, gradients: &mut Gradients) -> Result<()> {
        let trace = &self.pass.traces[k];
        let [weight_ih, weight_hh, bias_ih, bias_hh] = self.pass.model.layers[k].weights;
        let flat = |x: Tensor| {
            let n = x.dim(2)?;
            x.reshape(((), n))
        };
        let inputs = flat(self.steps.pick(&trace.inputs)?)?;
        let before = flat(self.steps.pick(&trace.h.narrow(0, 0, trace.inputs.dim(0)?)?)?)?;
        let recurrent = layer_gradients.recurrent.as_ref().unwrap_or(&layer_gradients.inputs);
        gradients.add(weight_ih, &layer_gradients.inputs.t()?.matmul(&inputs)?)?;
        gradients.add(weight_hh, &recurrent.t()?.matmul(&before)?)?;
        gradients.add(bias_ih, &layer_gradients.inputs.sum(0)?)?;
        gradients.add(bias_hh, &recurrent.sum(0)?)
    }

    /// Adds the gradient of the embedding, and returns that at the feature, `[batch, width]`, if an encoder learns from it.
    /// `cotangent` is the gradient at the inputs of these windows.
    fn add_embedding_gradient(&self, cotangent: Option<&Tensor>, gradients: &mut Gradients) -> Result<Option<Tensor>> {
        let sequence = self.pass.sequence;
        // An embedding always has a gradient: a layer's gradient propagates to its inputs.
        let (Some(index), Some(cotangent)) = (self.pass.model.embedding_index(), cotangent) else { return Ok(None) };
        let table = self.pass.model.params.get(index).value();
        let learned = sequence.learned_feature().filter(|_| self.steps.all.first() == Some(&0));
        let cotangent = match sequence.input_mask() {
            Some(mask) => (cotangent * self.steps.pick_absolute(mask)?)?,
            None => cotangent.clone(),
        };
        let (rows, width) = (self.steps.rows, cotangent.dim(2)?);
        let cotangent = cotangent.reshape(((), width))?;
        // The feature is the first step of the first window, and so the first rows.
        let before = match sequence.looks_up(0) || self.steps.all.first() != Some(&0) {
            true => 0,
            false => rows,
        };
        let words = cotangent.dim(0)? - before;
        if words > 0 {
            let ids = sequence.ids_at(&self.steps.all[before / rows.max(1)..])?;
            let at_words = cotangent.narrow(0, before, words)?;
            gradients.add(index, &table.zeros_like()?.index_add(&ids, &at_words, 0)?)?;
        }
        learned.map(|_| self.for_one(&cotangent.narrow(0, 0, rows)?)).transpose()
    }
}
