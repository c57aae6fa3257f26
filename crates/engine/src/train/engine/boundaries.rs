//! The synthesizers at the boundaries of a group's windows: predictions, injected gradients and learning.
//!
//! A boundary between two windows is one state with one prediction. Likewise, if the batch starts from zero, all sequences
//! with the same context share one row.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{Device, Tensor};

use super::{Batch, Role, Trace};
use crate::dni::Prediction;
use crate::error::Result;
use crate::model::Model;
use crate::nn::{Gradients, constant};
use crate::spec::TargetScale;
use crate::train::backend::Backend;
use crate::train::device_batch::stack_rows;
use crate::train::rows::Rows;

/// The predictions at the boundaries of a group's windows: one per synthesizer; `None` if it is lesioned.
pub(super) struct WindowBoundaries<'a>(Vec<Option<BoundaryPrediction<'a>>>);

/// The predictions of one synthesizer. Rows are ordered: the first boundary of every layer, the inner boundaries of every
/// layer, the last boundary of every layer; so training uses a prefix of the rows, and injection a suffix.
struct BoundaryPrediction<'a> {
    prediction: Prediction<'a>,
    first: First,
    layers: usize,
    windows: usize,
    rows: usize,
}

struct First {
    /// Per row of the batch, its row here; the same if absent.
    of: Option<Vec<u32>>,
    count: usize,
}

impl First {
    /// The rows of the first boundary: the distinct contexts if all states are zero.
    fn new(at_zero: bool, context: Option<&Tensor>, rows: usize) -> Result<First> {
        match (at_zero, context) {
            (true, None) => Ok(First { of: Some(vec![0; rows]), count: 1 }),
            (true, Some(context)) if context.device().is_cpu() => {
                let mut seen: HashMap<Vec<u32>, u32> = HashMap::new();
                let bits = |row: Vec<f32>| row.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
                let of = context.to_vec2::<f32>()?.into_iter().map(|row| {
                    let next = seen.len() as u32;
                    *seen.entry(bits(row)).or_insert(next)
                });
                let of: Vec<u32> = of.collect();
                let count = seen.len();
                Ok(First { of: (count < rows).then_some(of), count })
            }
            _ => Ok(First { of: None, count: rows }),
        }
    }

    /// Selects from `[batch, n]` one row per row here.
    fn pick(&self, all: &Tensor) -> Result<Tensor> {
        let Some(of) = &self.of else { return Ok(all.clone()) };
        let mut picked = vec![0u32; self.count];
        for (row, &at) in (0u32..).zip(of) {
            picked[at as usize] = row;
        }
        Ok(all.index_select(&constant(picked, &[self.count], all.device())?, 0)?)
    }

    /// Expands one row per row here to `[batch, n]`.
    fn spread(&self, first: &Tensor) -> Result<Tensor> {
        let Some(of) = &self.of else { return Ok(first.clone()) };
        Ok(first.contiguous()?.index_select(&constant(of.clone(), &[of.len()], first.device())?, 0)?)
    }

    /// If rows of the batch share a row here: the number of sequences per row, `[count, 1]`, and the matrix `[count, batch]`
    /// that sums over them.
    fn weights(&self, rows: &Rows, device: &Device) -> Result<Option<(Tensor, Tensor)>> {
        let Some(of) = &self.of else { return Ok(None) };
        let mut matrix = vec![0f32; self.count * rows.count];
        let mut totals = vec![0f32; self.count];
        for row in 0..rows.count {
            let at = of[row] as usize;
            let sequences = rows.multiplicity.as_ref().map_or(1.0, |multiplicity| multiplicity[row]);
            matrix[at * rows.count + row] = sequences;
            totals[at] += sequences;
        }
        let totals = constant(totals, &[self.count, 1], device)?;
        Ok(Some((totals, constant(matrix, &[self.count, rows.count], device)?)))
    }
}

impl<'a> WindowBoundaries<'a> {
    /// Predicts with every synthesizer that is not lesioned, at the states at the windows' boundaries,
    /// `[windows + 1, batch, width]` per layer.
    pub(super) fn predict(
        model: &'a Model,
        backend: &'a dyn Backend,
        batch: &Batch<'_>,
        windows: &[Range<usize>],
        states: &[Tensor],
        at_zero: bool,
    ) -> Result<WindowBoundaries<'a>> {
        let rows = batch.sequence.rows().count;
        let mut predictions = Vec::with_capacity(model.synthesizers.len());
        for (index, slot) in model.synthesizers.iter().enumerate() {
            // Interfaces between blocks are no boundaries of windows.
            if batch.roles[index] == Role::Lesioned || slot.layers.is_empty() {
                predictions.push(None);
                continue;
            }
            let steps = windows.iter().map(|w| w.start).chain(windows.last().map(|w| w.end));
            let contexts = slot.site.context.map(|_| steps.map(|step| batch.feedback.context(step)).collect());
            let contexts: Option<Vec<Tensor>> = contexts.transpose()?;
            // The synthesizers of several seeds differ, so that equal states have different predictions.
            let at_zero = at_zero && batch.sequence.rows().seeds == 1;
            let first = First::new(at_zero, contexts.as_ref().map(|contexts| &contexts[0]), rows)?;
            let layers: Vec<&Tensor> = slot.layers.iter().map(|&layer| &states[layer]).collect();
            let context = match contexts {
                Some(contexts) => {
                    let contexts = Tensor::stack(&contexts, 0)?;
                    Some(arrange(&vec![&contexts; layers.len()], &first, windows.len(), rows)?)
                }
                None => None,
            };
            let states = arrange(&layers, &first, windows.len(), rows)?;
            let prediction = backend.predict(model, index, &states, context.as_ref())?;
            let (layers, windows) = (layers.len(), windows.len());
            predictions.push(Some(BoundaryPrediction { prediction, first, layers, windows, rows }));
        }
        Ok(WindowBoundaries(predictions))
    }

    /// Per layer, the synthetic gradients at the ends of the windows, `[windows · batch, width]`: `scale · S(s₁)`, a
    /// constant, replaces the gradient that truncation cuts off (Jaderberg et al. 2017, section 2.1). It enters a window's
    /// backward pass as the cotangent of the window's last state `s₁`.
    pub(super) fn inject_synthetic_gradients(&self, model: &Model) -> Result<Vec<Option<Tensor>>> {
        let mut ends = vec![None; model.layers.len()];
        for (slot, prediction) in model.synthesizers.iter().zip(&self.0) {
            let Some(prediction) = prediction else { continue };
            for (place, &layer) in slot.layers.iter().enumerate() {
                ends[layer] = Some((prediction.ends(place)? * slot.spec.scale)?);
            }
        }
        Ok(ends)
    }

    /// One trace per window; `starts` are the gradients at the starts of the windows that had a backward pass.
    pub(super) fn traces(
        &self,
        model: &Model,
        states: &[Tensor],
        needs_backward: &[bool],
        starts: &[Tensor],
    ) -> Result<Vec<Trace>> {
        let synthetic = |layer: usize, boundary: usize| -> Result<Option<Tensor>> {
            let Some(index) = model.layers[layer].synthesizer else { return Ok(None) };
            let place = model.synthesizers[index].layers.iter().position(|&l| l == layer).unwrap_or_default();
            self.0[index].as_ref().map(|prediction| prediction.at(place, boundary)).transpose()
        };
        let synthetic =
            |boundary| (0..model.layers.len()).map(|layer| synthetic(layer, boundary)).collect::<Result<_>>();
        let at = |boundary: usize| states.iter().map(|layer| Ok(layer.get(boundary)?)).collect::<Result<Vec<Tensor>>>();
        let mut traces = Vec::with_capacity(needs_backward.len());
        let mut before = 0;
        for (w, &passed) in needs_backward.iter().enumerate() {
            let start = at(w)?;
            let target = match passed {
                true => (starts.iter().zip(&start))
                    .map(|(all, start)| Ok(all.narrow(0, before * start.dim(0)?, start.dim(0)?)?))
                    .collect::<Result<_>>(),
                false => start.iter().map(|state| Ok(state.zeros_like()?)).collect(),
            };
            before += usize::from(passed);
            traces.push(Trace {
                start,
                end: at(w + 1)?,
                synthetic_start: synthetic(w)?,
                synthetic_end: synthetic(w + 1)?,
                target: target?,
            });
        }
        Ok(traces)
    }

    /// Accumulates the gradients of `factor / 2 · Σ (S(s₀) − δ)²` with respect to the synthesizers' parameters, given the
    /// gradients `δ`, constants, at the starts `s₀` of the windows, `[windows · batch, width]` per layer. `δ` contains the
    /// synthetic gradient that was injected at the window's end, so that a synthesizer learns from its own later predictions
    /// (Jaderberg et al. 2017, section 2.1; as a model of the cerebellum, Pemberton, Boven et al. 2021).
    pub(super) fn learn(
        self,
        model: &Model,
        batch: &Batch<'_>,
        starts: &[Tensor],
        gradients: &mut Gradients,
    ) -> Result<()> {
        let rows = batch.sequence.rows();
        for ((slot, prediction), role) in model.synthesizers.iter().zip(self.0).zip(batch.roles) {
            let Some(prediction) = prediction.filter(|_| *role != Role::Fixed) else { continue };
            let factor = match slot.spec.target_scale {
                TargetScale::Layers => 2.0 / slot.layers.len() as f64,
                TargetScale::Batch => 2.0 / rows.sequences as f64,
            };
            let targets: Vec<&Tensor> = slot.layers.iter().map(|&layer| &starts[layer]).collect();
            let cotangent = (prediction.errors(&targets, rows)? * factor)?;
            (prediction.prediction.pullback)(&cotangent, gradients)?;
        }
        Ok(())
    }
}

impl BoundaryPrediction<'_> {
    /// `S(s₀) − δ` at the starts of the windows, in the order of the predictions, weighted by multiplicity. `targets` are
    /// `δ` per layer, `[windows · batch, width]`.
    fn errors(&self, targets: &[&Tensor], rows: &Rows) -> Result<Tensor> {
        let device = self.prediction.values.device();
        let (multiplicity, shared) = (rows.column(device)?, self.first.weights(rows, device)?);
        let (mut first, mut inner) = (Vec::new(), Vec::new());
        for (place, target) in targets.iter().enumerate() {
            let (values, here) = (self.first(place)?, target.narrow(0, 0, self.rows)?);
            first.push(match (&shared, &multiplicity) {
                (Some((totals, matrix)), _) => (values.broadcast_mul(totals)? - matrix.matmul(&here)?)?,
                (None, Some(weights)) => (values - here)?.broadcast_mul(weights)?,
                (None, None) => (values - here)?,
            });
            let count = (self.windows - 1) * self.rows;
            if count == 0 {
                continue;
            }
            let error = (self.inner(place)? - target.narrow(0, self.rows, count)?)?;
            inner.push(match &multiplicity {
                Some(weights) => {
                    let width = error.dim(1)?;
                    let shaped = error.reshape((self.windows - 1, self.rows, width))?.broadcast_mul(weights)?;
                    shaped.reshape((count, width))?
                }
                None => error,
            });
        }
        first.extend(inner);
        stack_rows(&first)
    }

    /// The predictions at one boundary of a layer, by its place among those of the synthesizer: `[batch, width]`.
    fn at(&self, place: usize, boundary: usize) -> Result<Tensor> {
        match boundary {
            0 => self.first.spread(&self.first(place)?),
            boundary if boundary == self.windows => self.last(place),
            boundary => Ok(self.inner(place)?.narrow(0, (boundary - 1) * self.rows, self.rows)?),
        }
    }

    /// The predictions at the ends of all windows, `[windows · batch, width]`.
    fn ends(&self, place: usize) -> Result<Tensor> {
        match (self.layers, self.windows) {
            // The inner boundaries and the last one are contiguous.
            (1, windows) => Ok(self.prediction.values.narrow(0, self.first.count, windows * self.rows)?),
            (_, 1) => self.last(place),
            _ => Ok(Tensor::cat(&[self.inner(place)?, self.last(place)?], 0)?),
        }
    }

    fn first(&self, place: usize) -> Result<Tensor> {
        Ok(self.prediction.values.narrow(0, place * self.first.count, self.first.count)?)
    }

    fn inner(&self, place: usize) -> Result<Tensor> {
        let count = (self.windows - 1) * self.rows;
        Ok(self.prediction.values.narrow(0, self.layers * self.first.count + place * count, count)?)
    }

    fn last(&self, place: usize) -> Result<Tensor> {
        let before = self.layers * (self.first.count + (self.windows - 1) * self.rows);
        Ok(self.prediction.values.narrow(0, before + place * self.rows, self.rows)?)
    }
}

/// Arranges `[windows + 1, batch, n]` of each layer in the row order of [`BoundaryPrediction`].
fn arrange(layers: &[&Tensor], first: &First, windows: usize, rows: usize) -> Result<Tensor> {
    if let ([one], count) = (layers, first.count)
        && (first.of.is_none() || count == 1)
    {
        // The last row of the first boundary represents it, and all other rows follow it in memory.
        return Ok(one.flatten(0, 1)?.narrow(0, rows - count, count + windows * rows)?);
    }
    let mut parts = Vec::with_capacity(3 * layers.len());
    for layer in layers {
        parts.push(first.pick(&layer.get(0)?)?);
    }
    if windows > 1 {
        for layer in layers {
            parts.push(layer.narrow(0, 1, windows - 1)?.flatten(0, 1)?);
        }
    }
    for layer in layers {
        parts.push(layer.get(windows)?);
    }
    stack_rows(&parts)
}
