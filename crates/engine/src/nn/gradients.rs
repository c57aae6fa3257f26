//! Gradients of a store's parameters.

use std::sync::Arc;

use candle_core::Tensor;

use super::params::{ParamStore, Place};
use super::slices;
use crate::error::Result;

/// Gradients by parameter, in one flat tensor like the parameters. A parameter *without* a gradient is skipped by clipping
/// and by the optimizer, unlike one whose gradient is zero.
pub struct Gradients {
    /// One-dimensional; undefined where a parameter has no gradient.
    flat: Tensor,
    present: Vec<bool>,
    places: Arc<[Place]>,
}

impl Gradients {
    /// No gradient for any of the parameters.
    ///
    /// # Errors
    /// Fails if they cannot be allocated.
    pub fn none(params: &ParamStore) -> Result<Self> {
        let (flat, places) = (params.flat().zeros_like()?, params.places.clone());
        Ok(Gradients { flat, present: vec![false; places.len()], places })
    }

    /// Removes all gradients and keeps their memory.
    pub fn clear(&mut self) {
        self.present.fill(false);
    }

    /// Which parameters have a gradient.
    pub fn present(&self) -> &[bool] {
        &self.present
    }

    /// A parameter's gradient, if it has one; a view, to be copied if it is kept.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn get(&self, index: usize) -> Result<Option<Tensor>> {
        self.present[index].then(|| self.places[index].view(&self.flat)).transpose()
    }

    /// All gradients in the order of parameters; undefined where a parameter has no gradient.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Adds to a parameter's gradient.
    ///
    /// # Errors
    /// Fails if the shapes differ.
    pub fn add(&mut self, index: usize, gradient: &Tensor) -> Result<()> {
        let sum = match self.get(index)? {
            Some(before) => (before + gradient.detach())?,
            None => gradient.detach(),
        };
        self.flat.slice_set(&sum.flatten_all()?.contiguous()?, 0, self.places[index].range.start)?;
        self.present[index] = true;
        Ok(())
    }

    /// Adds the gradient of parameter `index` in `other`, if there is one.
    ///
    /// # Errors
    /// Fails if they are of different stores.
    pub fn add_from(&mut self, other: &Gradients, index: usize) -> Result<()> {
        other.get(index)?.map_or(Ok(()), |gradient| self.add(index, &gradient))
    }

    /// Multiplies the gradients of these parameters (ascending) by a factor `[1]` on the same device, or by one for each seed,
    /// `[seeds]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn scale(&mut self, parameters: &[usize], factor: &Tensor) -> Result<()> {
        let seeds = factor.elem_count();
        if seeds > 1 {
            for range in parameters.iter().map(|&index| &self.places[index].range) {
                let gradient = self.flat.narrow(0, range.start, range.len())?.reshape((seeds, range.len() / seeds))?;
                let scaled = gradient.broadcast_mul(&factor.unsqueeze(1)?)?.flatten_all()?;
                self.flat.slice_set(&scaled, 0, range.start)?;
            }
            return Ok(());
        }
        for run in parameters.chunk_by(|&a, &b| self.places[a].range.end == self.places[b].range.start) {
            let ([first, ..], [.., last]) = (run, run) else { continue };
            let (start, end) = (self.places[*first].range.start, self.places[*last].range.end);
            let scaled = self.flat.narrow(0, start, end - start)?.broadcast_mul(factor)?;
            self.flat.slice_set(&scaled, 0, start)?;
        }
        Ok(())
    }

    /// Removes one gradient.
    pub fn remove(&mut self, index: usize) {
        self.present[index] = false;
    }

    /// Gives `change` access to gradients on the CPU as slices.
    ///
    /// # Errors
    /// Fails if they are on another device.
    pub fn on_cpu<R>(&mut self, change: impl FnOnce(Accumulator<'_>) -> R) -> Result<R> {
        let (present, places) = (&mut self.present, &self.places);
        slices::write(&self.flat, |flat| change(Accumulator { flat, present, places }))
    }
}

/// Gradients on the CPU as slices.
pub struct Accumulator<'a> {
    flat: &'a mut [f32],
    present: &'a mut [bool],
    places: &'a [Place],
}

impl Accumulator<'_> {
    /// A parameter's gradient, present from now on, and whether it was present before; if not, it must be overwritten.
    pub fn take(&mut self, index: usize) -> (&mut [f32], bool) {
        let before = std::mem::replace(&mut self.present[index], true);
        (&mut self.flat[self.places[index].range.clone()], before)
    }

    /// A parameter's gradient, zero if there was none.
    pub fn sum(&mut self, index: usize) -> &mut [f32] {
        let (numbers, before) = self.take(index);
        if !before {
            numbers.fill(0.0);
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NewParameter, Part};
    use super::*;
    use candle_core::Device;

    #[test]
    fn no_gradient_is_not_a_zero_gradient() -> Result<()> {
        let value = Tensor::new(&[1f32, 2.], &Device::Cpu)?;
        let parameter = |name: &str| NewParameter {
            name: name.into(),
            role: name.into(),
            part: Part::Network,
            value: value.clone(),
        };
        let params = ParamStore::new(vec![parameter("a"), parameter("b")], &Device::Cpu)?;
        let mut gradients = Gradients::none(&params)?;
        gradients.add(1, &value)?;
        gradients.add(1, &value)?;
        assert_eq!(gradients.present(), [false, true]);
        assert!(gradients.get(0)?.is_none());
        assert_eq!(gradients.get(1)?.map(|g| g.to_vec1::<f32>()).transpose()?, Some(vec![2., 4.]));
        gradients.clear();
        gradients.on_cpu(|mut all| all.sum(1)[0] += 7.0)?;
        assert_eq!(gradients.get(1)?.map(|g| g.to_vec1::<f32>()).transpose()?, Some(vec![7., 0.]));
        Ok(())
    }
}
