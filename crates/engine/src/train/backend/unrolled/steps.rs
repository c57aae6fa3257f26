//! The steps of windows of one length that run side by side.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::nn::constant;

/// The steps of some windows, ordered by (offset in the window, window).
pub(super) struct Steps {
    /// Steps of a window.
    pub length: usize,
    /// Number of windows.
    pub windows: usize,
    /// Rows of the batch.
    pub rows: usize,
    /// The steps, counted from the start of the sequence.
    pub all: Vec<usize>,
    /// The first step of the span of the traces.
    span: usize,
}

impl Steps {
    /// The steps of windows of one length, within a span that begins at step `span`.
    pub fn new(windows: &[Range<usize>], rows: usize, span: usize) -> Steps {
        let length = windows.first().map_or(0, ExactSizeIterator::len);
        let all = (0..length).flat_map(|offset| windows.iter().map(move |window| window.start + offset)).collect();
        Steps { length, windows: windows.len(), rows, all, span }
    }

    /// Selects these steps from a tensor over the span, `[steps, rows, n]`: `[length, windows · rows, n]`.
    pub fn pick(&self, x: &Tensor) -> Result<Tensor> {
        self.pick_at(x, |step| step - self.span)
    }

    /// [`Steps::pick`] from a tensor over the whole sequence.
    pub fn pick_absolute(&self, x: &Tensor) -> Result<Tensor> {
        self.pick_at(x, |step| step)
    }

    /// [`Steps::pick`], where `place` maps a step to its index in `x`.
    pub fn pick_at(&self, x: &Tensor, place: impl Fn(usize) -> usize) -> Result<Tensor> {
        let n = x.dim(2)?;
        let places: Vec<u32> = self.all.iter().map(|&step| place(step) as u32).collect();
        Ok(select(x, &places)?.reshape((self.length, self.windows * self.rows, n))?)
    }

    /// Selects these steps from blocks over the span, `[steps, blocks, rows, n]`: `[blocks, length, windows · rows, n]`.
    pub fn pick_blocks(&self, x: &Tensor) -> Result<Tensor> {
        let (_, blocks, _, n) = x.dims4()?;
        let places: Vec<u32> = self.all.iter().map(|&step| (step - self.span) as u32).collect();
        let picked = select(x, &places)?.transpose(0, 1)?.contiguous()?;
        Ok(picked.reshape((blocks, self.length, self.windows * self.rows, n))?)
    }
}

/// Selects items along the first axis; consecutive ones without a copy.
pub(super) fn select(x: &Tensor, places: &[u32]) -> Result<Tensor> {
    match places {
        [first, ..] if places.iter().zip(*first..).all(|(&place, expected)| place == expected) => {
            Ok(x.narrow(0, *first as usize, places.len())?)
        }
        _ => Ok(x.contiguous()?.index_select(&index(places.to_vec(), x.device())?, 0)?),
    }
}

fn index(places: Vec<u32>, device: &Device) -> Result<Tensor> {
    let count = places.len();
    constant(places, &[count], device)
}
