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

use std::cell::RefCell;
use std::rc::Rc;

use candle_core::Tensor;
use pulp::Arch;

use self::layout::Layout;
use super::{Backend, Cotangents, InputGradients, Outputs, Plan, Prediction, Pullback};
use crate::error::Result;
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
    fn forward<'a>(
        &'a self,
        model: &'a Model,
        sequence: &'a Sequence,
        plan: Plan<'a>,
        start: &[Tensor],
    ) -> Result<(Outputs, Box<dyn Pullback + 'a>)> {
        let mut saved = self.saved.lend();
        let scratch = &mut self.scratch.borrow_mut().forward;
        let outputs = forward::run(self, model, sequence, plan, start, &mut saved.value, scratch)?;
        Ok((outputs, Box::new(Pass { fused: self, model, sequence, plan, saved })))
    }

    fn predict<'a>(
        &'a self,
        model: &'a Model,
        synthesizer: usize,
        states: &Tensor,
        context: Option<&Tensor>,
    ) -> Result<Prediction<'a>> {
        let mut saved = self.predicted.lend();
        let values = synthesizer::predict(self, model, synthesizer, states, context, &mut saved.value)?;
        let pullback = move |cotangent: &Tensor, gradients: &mut Gradients| {
            let scratch = &mut self.scratch.borrow_mut().synthesizer;
            synthesizer::learn(self, model, synthesizer, &saved.value, cotangent, gradients, scratch)
        };
        Ok(Prediction { values, pullback: Box::new(pullback) })
    }
}

/// A forward pass, with what its backward pass needs.
struct Pass<'a> {
    fused: &'a Fused,
    model: &'a Model,
    sequence: &'a Sequence,
    plan: Plan<'a>,
    saved: Lent<Saved>,
}

impl Pullback for Pass<'_> {
    fn backward(
        mut self: Box<Self>,
        cotangents: &Cotangents,
        gradients: Option<&mut Gradients>,
    ) -> Result<InputGradients> {
        let scratch = &mut self.fused.scratch.borrow_mut().backward;
        backward::run(&mut self, cotangents, gradients, scratch)
    }
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
