//! The fused backend: CPU slices, matrix products, and one fused pass per pointwise part.
//!
//! The forward pass saves what the backward pass needs, so that nothing is recomputed. The backward pass runs through all
//! windows at once, as one batch of `windows · batch` rows, with only as many sequential steps as a window is long.
//! [`layout`] maps steps to memory. Buffers are reused across batches.

mod backward;
mod forward;
mod gates;
mod layout;

use std::cell::RefCell;

use candle_core::Tensor;
use pulp::Arch;

use self::layout::Layout;
use super::{Backend, Cotangents, InputGradients, Outputs, Plan, Pullback};
use crate::dni::{Cpu, Prediction};
use crate::error::Result;
use crate::model::Model;
use crate::nn::Gradients;
use crate::nn::kernel::{Lent, Pool, Threads, room};
use crate::train::device_batch::DeviceBatch;

/// Slices and fused kernels, on the CPU.
pub struct Fused {
    arch: Arch,
    threads: Threads,
    saved: Pool<Saved>,
    buffers: Pool<Vec<f32>>,
    scratch: RefCell<Scratch>,
}

/// What a forward pass saves.
#[derive(Default)]
struct Saved {
    layout: Layout,
    layers: Vec<SavedLayer>,
    /// `[outputs · batch, hidden]`: the top layer's `h` at the steps with outputs.
    top: Vec<f32>,
}

/// What a forward pass saves of one layer, in rows of the layout.
#[derive(Default)]
struct SavedLayer {
    /// `[rows, hidden + inputs + 1]`: `h` before the step, the input, and a 1 for the biases.
    inputs: Vec<f32>,
    /// `[rows, blocks · hidden]`
    gates: Vec<f32>,
    /// `[rows, hidden]`, LSTM: the cell state before the step.
    c_before: Vec<f32>,
    /// `[rows, hidden]`, LSTM: tanh of the cell state.
    tanh_c: Vec<f32>,
}

/// Buffers whose contents do not outlive a pass.
#[derive(Default)]
struct Scratch {
    forward: forward::Scratch,
    backward: backward::Scratch,
}

impl Fused {
    /// A backend that uses `threads` threads; results do not depend on their number.
    pub fn new(threads: usize) -> Self {
        Fused {
            arch: Arch::new(),
            threads: Threads(threads),
            saved: Pool::default(),
            buffers: Pool::default(),
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
        sequence: &'a DeviceBatch,
        plan: Plan<'a>,
        start: &[Tensor],
    ) -> Result<(Outputs, Box<dyn Pullback + 'a>)> {
        let mut saved = self.saved.lend();
        let scratch = &mut self.scratch.borrow_mut().forward;
        let outputs = forward::run(self, model, sequence, plan, start, &mut saved, scratch)?;
        Ok((outputs, Box::new(Pass { fused: self, model, sequence, plan, saved })))
    }

    fn predict<'a>(
        &'a self,
        model: &'a Model,
        synthesizer: usize,
        states: &Tensor,
        context: Option<&Tensor>,
    ) -> Result<Prediction<'a>> {
        let cpu = Cpu { arch: self.arch, threads: self.threads, buffers: &self.buffers };
        model.synthesizer(synthesizer).predict_on_cpu(cpu, states, context)
    }
}

/// A forward pass, with what its backward pass needs.
struct Pass<'a> {
    fused: &'a Fused,
    model: &'a Model,
    sequence: &'a DeviceBatch,
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
