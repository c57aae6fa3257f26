//! Recordings during training: states, gradients, activity and weights of every n-th batch. Recording does not affect
//! updates.
//!
//! Per window and layer, with the state `s₀` at the window's start: `hidden` is `s₀`, `synthetic` is `S(s₀)`, unscaled,
//! `target` is the gradient `δ` on which the synthesizer is trained ([`engine`](super::engine)), and `true` is the gradient
//! at `s₀` of the sum of all windows' losses, by untruncated backpropagation.
//!
//! `gradient` is the learning rule's gradient of a layer's recurrent weights ([`quality`](super::quality)), `[draws, width]`, and
//! `true_gradient` the true one, `[1, width]`, both with the parameters before the batch's first update held still.
//!
//! An epoch's recordings are one file. Tensors are named `batch0001.<what>.layer0`, batches counted from 1, and have the
//! shape `[windows, batch, width]` unless it is given above; `batch0001.weights.<parameter>` has the parameter's shape.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Device, Tensor};

use super::Extra;
use super::engine::Trace;
use super::loss::Feedback;
use super::quality::LayerGradient;
use super::rows::Rows;
use crate::error::Result;
use crate::model::Model;
use crate::spec::{RecordSpec, Recorded};

/// Collects an epoch's recordings.
pub struct Recorder {
    spec: RecordSpec,
    /// Finished batches of the epoch.
    buffer: Vec<(String, Tensor)>,
    /// The current batch: by name, one tensor per window.
    windows: BTreeMap<String, Vec<Tensor>>,
    truth: Vec<Vec<Tensor>>,
    rows: Option<Rows>,
    means: Means,
}

/// The means of an epoch's columns so far.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Means {
    /// Of the column `cosine`.
    #[serde(default)]
    cosine: Mean,
    /// Of the columns about the gradients of layers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gradients: BTreeMap<String, Mean>,
}

/// Sum and number of values.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    /// NaN if there are no values.
    fn value(self) -> f64 {
        self.sum / self.count
    }
}

impl Recorder {
    /// An empty recorder.
    pub fn new(spec: RecordSpec) -> Self {
        Recorder {
            spec,
            buffer: Vec::new(),
            windows: BTreeMap::new(),
            truth: Vec::new(),
            rows: None,
            means: Means::default(),
        }
    }

    /// Whether the batch of this index (from 0) is recorded.
    pub fn wants(&self, batch: usize) -> bool {
        batch.is_multiple_of(self.spec.every) && self.spec.has_batches()
    }

    fn has(&self, what: Recorded) -> bool {
        self.spec.what.contains(&what)
    }

    /// Whether true gradients are needed.
    pub fn wants_truth(&self) -> bool {
        self.spec.cosine || self.has(Recorded::True)
    }

    /// How many draws of the learning rule's gradient are needed.
    pub fn draws(&self) -> usize {
        if self.spec.gradients || self.has(Recorded::Gradient) { self.spec.draws } else { 0 }
    }

    /// Records the gradients of all layers for a batch.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn gradients(&mut self, batch: usize, layers: &[LayerGradient]) -> Result<()> {
        for (layer, gradient) in layers.iter().enumerate() {
            if self.has(Recorded::Gradient) {
                let name = |what: &str| format!("batch{:04}.{what}.layer{layer}", batch + 1);
                let (draws, width) = (gradient.draws.len(), gradient.truth.len());
                let drawn = Tensor::from_vec(gradient.draws.concat(), (draws, width), &Device::Cpu)?;
                let truth = Tensor::from_slice(&gradient.truth, (1, width), &Device::Cpu)?;
                self.buffer.extend([(name("gradient"), drawn), (name("true_gradient"), truth)]);
            }
            let Some(quality) = gradient.quality().filter(|_| self.spec.gradients) else { continue };
            for (name, value) in quality.named() {
                let mean = self.means.gradients.entry(column(name, layer, layers.len())).or_default();
                mean.sum += value;
                mean.count += 1.0;
            }
        }
        Ok(())
    }

    /// Begins a batch, before its first update: `truth[window][layer]` from [`super::engine::true_gradients`].
    pub fn begin(&mut self, batch: usize, model: &Model, rows: &Rows, truth: Vec<Vec<Tensor>>) -> Result<()> {
        self.windows.clear();
        self.rows = Some(rows.clone());
        if self.has(Recorded::Weights) {
            for (name, value) in model.params.snapshot()? {
                self.buffer.push((format!("batch{:04}.weights.{name}", batch + 1), value));
            }
        }
        self.truth = truth;
        Ok(())
    }

    /// Records the windows of a group, numbered from `first`, before the update that follows them.
    pub fn windows(
        &mut self,
        model: &Model,
        feedback: &Feedback,
        windows: &[Range<usize>],
        first: usize,
        traces: &[Trace],
    ) -> Result<()> {
        for (offset, trace) in traces.iter().enumerate() {
            let window = first + offset;
            for layer in 0..model.layers.len() {
                let mut keep = |what: &str, value: &Tensor| {
                    self.windows.entry(format!("{what}.layer{layer}")).or_default().push(value.detach());
                };
                let wanted = |what| self.spec.what.contains(&what);
                if wanted(Recorded::Hidden) {
                    keep("hidden", &trace.start[layer]);
                }
                if wanted(Recorded::Target) {
                    keep("target", &trace.target[layer]);
                }
                if wanted(Recorded::True) {
                    keep("true", &self.truth[window][layer]);
                }
                let Some(synthetic) = &trace.synthetic_start[layer] else { continue };
                if wanted(Recorded::Synthetic) {
                    keep("synthetic", synthetic);
                }
                if wanted(Recorded::Synthesizer) {
                    for (i, activity) in
                        activity(model, feedback, layer, windows[window].start, trace)?.iter().enumerate()
                    {
                        keep(&format!("synthesizer{i}"), activity);
                    }
                }
                if self.spec.cosine {
                    let multiplicity = self.rows.as_ref().and_then(|rows| rows.multiplicity.as_ref());
                    for (row, cosine) in cosines(synthetic, &self.truth[window][layer])?.into_iter().enumerate() {
                        let sequences = multiplicity.map_or(1.0, |multiplicity| f64::from(multiplicity[row]));
                        self.means.cosine.sum += sequences * cosine;
                        self.means.cosine.count += sequences;
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends a batch, and expands its recordings to one row per sequence.
    pub fn end(&mut self, batch: usize) -> Result<()> {
        for (name, windows) in std::mem::take(&mut self.windows) {
            let all = Tensor::stack(&windows, 0)?;
            let all = self.rows.as_ref().map_or(Ok(all.clone()), |rows| rows.expand(&all, 1))?;
            self.buffer.push((format!("batch{:04}.{name}", batch + 1), all));
        }
        self.truth.clear();
        Ok(())
    }

    /// The epoch's recordings so far, for a checkpoint.
    pub fn pending(&self) -> (&[(String, Tensor)], &Means) {
        (&self.buffer, &self.means)
    }

    /// Restores [`Recorder::pending`].
    pub fn restore(&mut self, buffer: Vec<(String, Tensor)>, means: Means) {
        self.buffer = buffer;
        self.means = means;
    }

    /// Ends an epoch of a network with this many layers. Returns its recordings and the requested columns, whose values are NaN where
    /// there are none.
    pub fn end_epoch(&mut self, layers: usize) -> (Vec<(String, Tensor)>, Vec<Extra>) {
        let means = std::mem::take(&mut self.means);
        let mut columns = Vec::new();
        if self.spec.cosine {
            columns.push(Extra { name: "cosine".into(), value: means.cosine.value() });
        }
        let names = ["cosine", "norm_ratio", "bias", "variance"].into_iter().take(match self.spec.draws {
            _ if !self.spec.gradients => 0,
            1 => 3,
            _ => 4,
        });
        for name in names {
            columns.extend((0..layers).map(|layer| {
                let name = column(name, layer, layers);
                let value = means.gradients.get(&name).copied().unwrap_or_default().value();
                Extra { name, value }
            }));
        }
        (std::mem::take(&mut self.buffer), columns)
    }
}

/// The column of a number about a layer's gradient; the layer is named where there are several.
fn column(name: &str, layer: usize, layers: usize) -> String {
    if layers > 1 { format!("gradient_{name}_layer{layer}") } else { format!("gradient_{name}") }
}

/// Activity of each hidden layer of a layer's synthesizer at a window's start, `[batch, units]`.
fn activity(model: &Model, feedback: &Feedback, layer: usize, step: usize, trace: &Trace) -> Result<Vec<Tensor>> {
    let Some(index) = model.layers[layer].synthesizer else { return Ok(Vec::new()) };
    let stored = model.synthesizer(index);
    let context = stored.site.context.map(|_| feedback.context(step)).transpose()?;
    stored.synthesizer.activity(&stored.parameters(), &trace.start[layer], context.as_ref())
}

/// Cosine similarity of the rows of two `[rows, width]` tensors; a row of zeros gives 0.
fn cosines(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    let (a, b) = (a.to_vec2::<f32>()?, b.to_vec2::<f32>()?);
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    let norm = |a: &[f32]| dot(a, a).sqrt().max(1e-8);
    Ok(a.iter().zip(&b).map(|(a, b)| dot(a, b) / (norm(a) * norm(b))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_of_a_zero_row_is_zero() -> Result<()> {
        let a = Tensor::new(&[[1f32, 0.], [0., 0.], [3., 4.]], &Device::Cpu)?;
        let b = Tensor::new(&[[2f32, 0.], [1., 1.], [-3., -4.]], &Device::Cpu)?;
        let expected = [1.0, 0.0, -1.0];
        assert!(cosines(&a, &b)?.iter().zip(expected).all(|(c, e)| (c - e).abs() < 1e-12));
        Ok(())
    }
}
