//! The fused backend: plain slices of the CPU, matrix products, and pointwise parts that are one pass each.
//!
//! The forward pass keeps what the backward pass needs, so that nothing is computed twice. The backward pass goes through
//! all windows at once, as one batch of `windows · batch` rows: only as many steps are sequential as a window is long.
//! [`layout`] says where a step lies in memory. Buffers are handed from batch to batch.

mod backward;
mod forward;
mod gates;
mod layout;
mod synthesizer;

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

use candle_core::Tensor;
use pulp::Arch;

use self::layout::Layout;
use super::{Arrived, Backend, Cotangents, Forward, Plan, Prediction};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::nn::Gradients;
use crate::nn::kernel::Threads;
use crate::train::sequence::Sequence;

/// Slices and fused kernels, on the CPU.
pub struct Fused {
    arch: Arch,
    threads: Threads,
    saved: Pool<Saved>,
    predicted: Pool<synthesizer::Saved>,
    scratch: RefCell<Scratch>,
}

/// What a forward pass keeps.
#[derive(Default)]
struct Saved {
    layout: Layout,
    layers: Vec<SavedLayer>,
    /// `[outputs · batch, hidden]`: the top layer's `h` where outputs are wanted.
    top: Vec<f32>,
    /// Whether a backward pass has overwritten the gates.
    spent: bool,
}

/// What a forward pass keeps of one layer, in rows of the layout.
#[derive(Default)]
struct SavedLayer {
    /// `[rows, hidden + inputs + 1]`: `h` before the step, the input, and a 1 for the biases.
    inputs: Vec<f32>,
    /// `[rows, blocks · hidden]`
    gates: Vec<f32>,
    /// `[rows, hidden]`, lstm: the cell before the step.
    c_before: Vec<f32>,
    /// `[rows, hidden]`, lstm: tanh of the cell.
    tanh_c: Vec<f32>,
}

/// Buffers that nothing outlives.
#[derive(Default)]
struct Scratch {
    forward: forward::Scratch,
    backward: backward::Scratch,
    synthesizer: synthesizer::Scratch,
}

impl Fused {
    /// A backend that uses so many threads for matrix products; no bit depends on their number.
    pub fn new(threads: usize) -> Self {
        Fused {
            arch: Arch::new(),
            threads: Threads(threads),
            saved: Pool::default(),
            predicted: Pool::default(),
            scratch: RefCell::default(),
        }
    }
}

impl Default for Fused {
    fn default() -> Self {
        Fused::new(1)
    }
}

impl Backend for Fused {
    fn forward(&self, model: &Model, sequence: &Sequence, plan: Plan<'_>, start: &[Tensor]) -> Result<Forward> {
        let mut saved = self.saved.lend();
        let scratch = &mut self.scratch.borrow_mut().forward;
        let (outputs, borders) = forward::run(self, model, sequence, plan, start, &mut saved.value, scratch)?;
        Ok(Forward { outputs, borders, saved: Box::new(saved) })
    }

    fn backward(
        &self,
        model: &Model,
        sequence: &Sequence,
        plan: Plan<'_>,
        forward: &mut Forward,
        cotangents: &Cotangents,
        gradients: Option<&mut Gradients>,
    ) -> Result<Arrived> {
        let saved = forward.saved.downcast_mut::<Lent<Saved>>().ok_or_else(foreign)?;
        if std::mem::replace(&mut saved.value.spent, true) {
            return Err(Error::Training("a second backward pass through one forward pass".into()));
        }
        let scratch = &mut self.scratch.borrow_mut().backward;
        backward::run(self, model, sequence, plan, &mut saved.value, cotangents, gradients, scratch)
    }

    fn predict(
        &self,
        model: &Model,
        synthesizer: usize,
        states: &Tensor,
        context: Option<&Tensor>,
    ) -> Result<Prediction> {
        let mut saved = self.predicted.lend();
        let values = synthesizer::predict(self, model, synthesizer, states, context, &mut saved.value)?;
        Ok(Prediction { values, saved: Box::new(saved) })
    }

    fn learn(
        &self,
        model: &Model,
        synthesizer: usize,
        prediction: &Prediction,
        delivered: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let saved: &dyn Any = prediction.saved.as_ref();
        let saved = saved.downcast_ref::<Lent<synthesizer::Saved>>().ok_or_else(foreign)?;
        let scratch = &mut self.scratch.borrow_mut().synthesizer;
        synthesizer::learn(self, model, synthesizer, &saved.value, delivered, gradients, scratch)
    }
}

fn foreign() -> Error {
    Error::Training("what another backend has saved".into())
}

/// Buffers that are not in use.
struct Pool<T>(Rc<RefCell<Vec<T>>>);

/// Buffers in use; they go back when this is dropped.
struct Lent<T: Default> {
    value: T,
    pool: Rc<RefCell<Vec<T>>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool(Rc::default())
    }
}

impl<T: Default> Pool<T> {
    fn lend(&self) -> Lent<T> {
        Lent { value: self.0.borrow_mut().pop().unwrap_or_default(), pool: self.0.clone() }
    }
}

impl<T: Default> Drop for Lent<T> {
    fn drop(&mut self) {
        self.pool.borrow_mut().push(std::mem::take(&mut self.value));
    }
}

/// Room for `count` numbers; what is in it does not matter.
fn room(buffer: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if buffer.len() < count {
        buffer.resize(count, 0.0);
    }
    &mut buffer[..count]
}
