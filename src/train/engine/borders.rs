//! The synthesizers at the borders of a group's windows: what they predict there, what they inject, how they learn.
//!
//! A border between two windows is one state, and is asked about once. So is a state that many sequences share: where the
//! batch starts from zero, all sequences that have the same context are one row.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{Device, Tensor};

use super::{Batch, Role, Trace};
use crate::error::Result;
use crate::model::Model;
use crate::nn::{Gradients, constant};
use crate::spec::TargetScale;
use crate::train::backend::{Backend, Prediction};
use crate::train::rows::Rows;
use crate::train::sequence::stack_rows;

/// What the synthesizers say at the borders of a group's windows.
pub(super) struct Borders {
    /// One a synthesizer; none where it is cut off.
    said: Vec<Option<Said>>,
    windows: usize,
    /// Rows of the batch.
    rows: usize,
}

/// What one synthesizer says. Rows are ordered: the first border of every layer, the inner borders of every layer, the
/// last border of every layer; so what learns is the beginning, and what is injected the end.
struct Said {
    prediction: Prediction,
    first: First,
    layers: usize,
}

/// Rows at the first border.
struct First {
    /// For each row of the batch, its row here; the same where absent.
    of: Option<Vec<u32>>,
    count: usize,
}

impl First {
    /// The rows of the first border: the distinct contexts where all states are zero.
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

    /// Of `[batch, n]`, one row for each row here.
    fn pick(&self, all: &Tensor) -> Result<Tensor> {
        let Some(of) = &self.of else { return Ok(all.clone()) };
        let mut picked = vec![0u32; self.count];
        for (row, &at) in (0u32..).zip(of) {
            picked[at as usize] = row;
        }
        Ok(all.index_select(&constant(picked, &[self.count], all.device())?, 0)?)
    }

    /// Of one row for each row here, `[batch, n]`.
    fn spread(&self, first: &Tensor) -> Result<Tensor> {
        let Some(of) = &self.of else { return Ok(first.clone()) };
        Ok(first.contiguous()?.index_select(&constant(of.clone(), &[of.len()], first.device())?, 0)?)
    }

    /// Where rows of the batch share a row here: how many sequences each of these stands for, `[count, 1]`, and the matrix
    /// `[count, batch]` that adds them up.
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

impl Borders {
    /// Asks every synthesizer that is not cut off about the states at the windows' borders, `[windows + 1, batch, width]`
    /// for each layer.
    pub(super) fn predict(
        model: &Model,
        backend: &dyn Backend,
        batch: &Batch<'_>,
        windows: &[Range<usize>],
        states: &[Tensor],
        at_zero: bool,
    ) -> Result<Borders> {
        let rows = batch.sequence.rows().count;
        let mut said = Vec::with_capacity(model.synthesizers.len());
        for (index, slot) in model.synthesizers.iter().enumerate() {
            if batch.roles[index] == Role::Lesioned {
                said.push(None);
                continue;
            }
            let steps = windows.iter().map(|w| w.start).chain(windows.last().map(|w| w.end));
            let contexts = slot.shape.context.map(|_| steps.map(|step| batch.feedback.context(step)).collect());
            let contexts: Option<Vec<Tensor>> = contexts.transpose()?;
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
            said.push(Some(Said { prediction, first, layers: layers.len() }));
        }
        Ok(Borders { said, windows: windows.len(), rows })
    }

    /// For each layer, what its synthesizer injects at the ends of the windows: `[windows · batch, width]`.
    pub(super) fn injections(&self, model: &Model) -> Result<Vec<Option<Tensor>>> {
        let mut ends = vec![None; model.layers.len()];
        for (slot, said) in model.synthesizers.iter().zip(&self.said) {
            let Some(said) = said else { continue };
            for (place, &layer) in slot.layers.iter().enumerate() {
                let predicted = match (said.layers, self.windows) {
                    // The inner borders and the last one lie one behind the other.
                    (1, windows) => said.prediction.values.narrow(0, said.first.count, windows * self.rows)?,
                    (_, 1) => self.last(said, place)?,
                    _ => Tensor::cat(&[self.inner(said, place)?, self.last(said, place)?], 0)?,
                };
                ends[layer] = Some((predicted * slot.spec.scale)?);
            }
        }
        Ok(ends)
    }

    /// Adds the synthesizers' own gradients: at the starts of the windows, towards what arrived there,
    /// `[windows · batch, width]` for each layer (`golden/README.md` section 4, point 4).
    pub(super) fn learn(
        &self,
        model: &Model,
        backend: &dyn Backend,
        batch: &Batch<'_>,
        arrived: &[Tensor],
        gradients: &mut Gradients,
    ) -> Result<()> {
        let rows = batch.sequence.rows();
        let multiplicity = rows.column(model.device())?;
        for (index, (slot, said)) in model.synthesizers.iter().zip(&self.said).enumerate() {
            let Some(said) = said.as_ref().filter(|_| batch.roles[index] != Role::Fixed) else { continue };
            let factor = match slot.spec.target_scale {
                TargetScale::Layers => 2.0 / slot.layers.len() as f64,
                TargetScale::Batch => 2.0 / rows.sequences as f64,
            };
            let weights = said.first.weights(rows, model.device())?;
            let (mut first, mut inner) = (Vec::new(), Vec::new());
            for (place, &layer) in slot.layers.iter().enumerate() {
                let here = arrived[layer].narrow(0, 0, self.rows)?;
                let values = self.first(said, place)?;
                first.push(match (&weights, &multiplicity) {
                    (Some((totals, matrix)), _) => (values.broadcast_mul(totals)? - matrix.matmul(&here)?)?,
                    (None, Some(weights)) => (values - here)?.broadcast_mul(weights)?,
                    (None, None) => (values - here)?,
                });
                let count = (self.windows - 1) * self.rows;
                if count == 0 {
                    continue;
                }
                let off = (self.inner(said, place)? - arrived[layer].narrow(0, self.rows, count)?)?;
                inner.push(match &multiplicity {
                    Some(weights) => {
                        let width = off.dim(1)?;
                        let shaped = off.reshape((self.windows - 1, self.rows, width))?.broadcast_mul(weights)?;
                        shaped.reshape((count, width))?
                    }
                    None => off,
                });
            }
            first.extend(inner);
            let delivered = (stack_rows(&first)? * factor)?;
            backend.learn(model, index, &said.prediction, &delivered, gradients)?;
        }
        Ok(())
    }

    /// One trace a window.
    pub(super) fn traces(
        &self,
        model: &Model,
        states: &[Tensor],
        taught: &[bool],
        arrived: &[Tensor],
    ) -> Result<Vec<Trace>> {
        let synthetic = |layer: usize, border: usize| -> Result<Option<Tensor>> {
            let Some(index) = model.layers[layer].synthesizer else { return Ok(None) };
            let place = model.synthesizers[index].layers.iter().position(|&l| l == layer).unwrap_or_default();
            let Some(said) = &self.said[index] else { return Ok(None) };
            Ok(Some(match border {
                0 => said.first.spread(&self.first(said, place)?)?,
                border if border == self.windows => self.last(said, place)?,
                border => self.inner(said, place)?.narrow(0, (border - 1) * self.rows, self.rows)?,
            }))
        };
        let layers = 0..model.layers.len();
        let at = |border: usize| states.iter().map(|layer| Ok(layer.get(border)?)).collect::<Result<Vec<Tensor>>>();
        let mut traces = Vec::with_capacity(self.windows);
        let mut before = 0;
        for (w, &taught) in taught.iter().enumerate() {
            let start = at(w)?;
            let target = match taught {
                true => {
                    arrived.iter().map(|all| Ok(all.narrow(0, before * self.rows, self.rows)?)).collect::<Result<_>>()
                }
                false => start.iter().map(|state| Ok(state.zeros_like()?)).collect(),
            };
            before += usize::from(taught);
            traces.push(Trace {
                start,
                end: at(w + 1)?,
                synthetic_start: layers.clone().map(|layer| synthetic(layer, w)).collect::<Result<_>>()?,
                synthetic_end: layers.clone().map(|layer| synthetic(layer, w + 1)).collect::<Result<_>>()?,
                target: target?,
            });
        }
        Ok(traces)
    }

    fn first(&self, said: &Said, place: usize) -> Result<Tensor> {
        Ok(said.prediction.values.narrow(0, place * said.first.count, said.first.count)?)
    }

    fn inner(&self, said: &Said, place: usize) -> Result<Tensor> {
        let count = (self.windows - 1) * self.rows;
        Ok(said.prediction.values.narrow(0, said.layers * said.first.count + place * count, count)?)
    }

    fn last(&self, said: &Said, place: usize) -> Result<Tensor> {
        let before = said.layers * (said.first.count + (self.windows - 1) * self.rows);
        Ok(said.prediction.values.narrow(0, before + place * self.rows, self.rows)?)
    }
}

/// Brings `[windows + 1, batch, n]` of each layer into the order of rows that [`Said`] has.
fn arrange(layers: &[&Tensor], first: &First, windows: usize, rows: usize) -> Result<Tensor> {
    if let ([one], count) = (layers, first.count)
        && (first.of.is_none() || count == 1)
    {
        // The last row of the first border stands for it, and everything else follows it in memory.
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
