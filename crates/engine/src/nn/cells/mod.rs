//! Recurrent cells: one file per cell.
//!
//! A cell is a type whose fields are its keys in a spec ([`Plugin`](crate::plugins::Plugin)) and that implements [`Cell`]:
//! number of gates, width of the state, and one step on tensors. Two optional parts make it fast: a closed-form backward
//! pass for the unrolled backend ([`ClosedForm`]) and CPU kernels for the fused one
//! ([`Kernels`]). `testing::check_cell` compares them with the step.

mod gru;
mod leaky;
mod lstm;
mod pointwise;
mod simple;

use std::fmt::Debug;

use candle_core::Tensor;

use super::affine;
use super::kernel::cells::Kernels;
use crate::error::{Error, Result};
use crate::plugins::Kinds;
use crate::spec::LayerSpec;

pub use gru::Gru;
pub use leaky::{Activation, Leaky};
pub use lstm::Lstm;
pub use pointwise::{MAX_GATES, MAX_PARTS, Pointwise, UnitStep};
pub use simple::{Relu, Tanh};

/// The cells of this crate.
pub fn built_in() -> Kinds<dyn Cell> {
    let mut cells: Kinds<dyn Cell> = Kinds::new::<LayerSpec>("cell");
    cells.register::<Lstm>(|cell| Box::new(cell));
    cells.register::<Gru>(|cell| Box::new(cell));
    cells.register::<Tanh>(|cell| Box::new(cell));
    cells.register::<Relu>(|cell| Box::new(cell));
    cells.register::<Leaky>(|cell| Box::new(cell));
    cells
}

/// What a recurrent layer computes in one step. [`Cell::step`] is the definition and suffices to train on every device, by
/// automatic differentiation.
pub trait Cell: Debug + Send + Sync {
    /// Number of gates; the weights have `hidden` rows per gate.
    fn gates(&self) -> usize;

    /// Width of the joined state: `h`, which is the layer's output, and any other recurrent state.
    fn state_width(&self, hidden: usize) -> usize {
        hidden
    }

    /// Modifies the initial values of a parameter, drawn and scaled according to `init` and `init_scale` of the layer.
    /// `values` are its rows, in the order of gates.
    fn initialise(&self, _parameter: CellParameter, _values: &mut [f32]) {}

    /// One step from the input `[rows, in]` and a state to the next state. A step that uses the weights through
    /// [`CellWeights::sums`] alone also computes several seeds at once (`run.seed_batch`).
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn step(&self, weights: &CellWeights, input: &Tensor, state: &State) -> Result<State>;

    /// The closed-form backward pass, if there is one.
    fn closed_form(&self) -> Option<&dyn ClosedForm> {
        None
    }

    /// Fused kernels for the CPU, if there are any.
    fn kernels(&self) -> Option<&dyn Kernels> {
        None
    }

    /// The step unit by unit, with its derivatives, if the units only interact through their sums. Learning rules that go
    /// forward in time need it.
    fn pointwise(&self) -> Option<&dyn Pointwise> {
        None
    }
}

/// A parameter of a recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellParameter {
    /// Input to gates, `[gates · hidden, in]`.
    WeightIh,
    /// State to gates, `[gates · hidden, hidden]`.
    WeightHh,
    /// `[gates · hidden]`, of the input's part `W x + b`.
    BiasIh,
    /// `[gates · hidden]`, of the state's part `U h + b`.
    BiasHh,
}

/// The weights of one layer; of several seeds, with `[seeds, ..]` before each shape ([`affine`]).
#[derive(Debug, Clone)]
pub struct CellWeights {
    /// `[gates · hidden, in]`
    pub weight_ih: Tensor,
    /// `[gates · hidden, hidden]`
    pub weight_hh: Tensor,
    /// `[gates · hidden]`
    pub bias_ih: Tensor,
    /// `[gates · hidden]`
    pub bias_hh: Tensor,
}

impl CellWeights {
    /// The input's part `W x + b` and the state's part `U h + b` of the pre-activations, each `[rows, gates · hidden]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn sums(&self, input: &Tensor, h: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((affine(input, &self.weight_ih, &self.bias_ih)?, affine(h, &self.weight_hh, &self.bias_hh)?))
    }
}

/// The columns of one gate, `[rows, hidden]` of `[rows, gates · hidden]`.
///
/// # Errors
/// Fails if there is no such gate.
pub fn gate(sums: &Tensor, index: usize, hidden: usize) -> Result<Tensor> {
    Ok(sums.narrow(1, index * hidden, hidden)?)
}

/// The state of a layer.
#[derive(Debug, Clone)]
pub struct State {
    /// `[rows, hidden]`: the output.
    pub h: Tensor,
    /// `[rows, width - hidden]`: any other state, such as the LSTM's cell.
    pub c: Option<Tensor>,
}

impl State {
    /// Splits a joined state `[rows, width]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn split(joined: &Tensor, hidden: usize) -> Result<State> {
        let width = joined.dim(1)?;
        if width == hidden {
            return Ok(State { h: joined.clone(), c: None });
        }
        Ok(State {
            h: joined.narrow(1, 0, hidden)?.contiguous()?,
            c: Some(joined.narrow(1, hidden, width - hidden)?.contiguous()?),
        })
    }

    /// The joined state, `[rows, width]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn join(&self) -> Result<Tensor> {
        match &self.c {
            Some(c) => Ok(Tensor::cat(&[&self.h, c], 1)?),
            None => Ok(self.h.clone()),
        }
    }

    /// The state other than `h`.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn c(&self) -> Result<&Tensor> {
        self.c.as_ref().ok_or_else(|| Error::Training("a state of another cell".into()))
    }
}

/// A cell's closed-form forward and backward pass for the unrolled backend, which multiplies by the weights itself. Gates
/// are blocks, `[gates, rows, hidden]`.
pub trait ClosedForm {
    /// Whether the recurrent biases are in the state's part of the sums passed to `forward`, not in the input's part.
    fn separates_biases(&self) -> bool {
        false
    }

    /// One step from the input's and the state's part of the sums, each `[gates, rows, hidden]`: the next state, and the
    /// tensors to keep for the backward pass, each `[rows, hidden]` or `[blocks, rows, hidden]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn forward(&self, input: Tensor, recurrent: Tensor, state: &State) -> Result<(State, Vec<Tensor>)>;

    /// The backward pass through the steps of `past`; derivatives are computed for all steps at once.
    ///
    /// # Errors
    /// Fails on a tensor error.
    fn backward(&self, past: &Past<'_>) -> Result<Box<BackwardStep>>;
}

/// From the index of a step and the gradients at `h` and, if there is one, `c` after it to those before it.
pub type BackwardStep = dyn Fn(usize, &Tensor, Option<&Tensor>) -> Result<StepGradients>;

/// Gradients before a step.
pub struct StepGradients {
    /// At the input's part of the sums, `[rows, gates · hidden]`.
    pub input: Tensor,
    /// At the state's part, if different.
    pub recurrent: Option<Tensor>,
    /// At the previous `h`, not counting the recurrent sums, `[rows, hidden]`.
    pub h: Option<Tensor>,
    /// At the previous `c`.
    pub c: Option<Tensor>,
}

/// The steps of a backward pass, the first dimension of every tensor.
pub struct Past<'a> {
    /// `h` before the first step of the whole forward pass and after each, `[steps + 1, rows, hidden]`.
    pub(crate) h: &'a Tensor,
    /// `c`, likewise.
    pub(crate) c: Option<&'a Tensor>,
    /// What [`ClosedForm::forward`] kept, in order.
    pub(crate) kept: &'a [Tensor],
    /// Selects the steps of the backward pass from those of the forward pass.
    pub(crate) pick: &'a dyn Fn(&Tensor) -> Result<Tensor>,
}

impl Past<'_> {
    /// `h` before each step, `[steps, rows, hidden]`.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn h_before(&self) -> Result<Tensor> {
        self.state(Some(self.h), 0)
    }

    /// `h` after each step.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn h_after(&self) -> Result<Tensor> {
        self.state(Some(self.h), 1)
    }

    /// `c` before each step.
    ///
    /// # Errors
    /// Fails if the cell has none.
    pub fn c_before(&self) -> Result<Tensor> {
        self.state(self.c, 0)
    }

    /// `c` after each step.
    ///
    /// # Errors
    /// Fails if the cell has none.
    pub fn c_after(&self) -> Result<Tensor> {
        self.state(self.c, 1)
    }

    /// A tensor that [`ClosedForm::forward`] kept, `[steps, rows, hidden]` or `[blocks, steps, rows, hidden]`.
    ///
    /// # Errors
    /// Fails if there is none.
    pub fn kept(&self, index: usize) -> Result<Tensor> {
        (self.pick)(self.kept.get(index).ok_or_else(Self::missing)?)
    }

    fn state(&self, states: Option<&Tensor>, first: usize) -> Result<Tensor> {
        let states = states.ok_or_else(Self::missing)?;
        (self.pick)(&states.narrow(0, first, states.dim(0)? - 1)?)
    }

    fn missing() -> Error {
        Error::Training("a backward pass through steps that were not kept".into())
    }
}

/// `x (1 - x)`: the derivative of the sigmoid where its value is `x`.
///
/// # Errors
/// Fails on a tensor error.
pub fn sigmoid_slope(x: &Tensor) -> Result<Tensor> {
    Ok((x - x.sqr()?)?)
}

/// `1 - x²`: the derivative of tanh where its value is `x`.
///
/// # Errors
/// Fails on a tensor error.
pub fn tanh_slope(x: &Tensor) -> Result<Tensor> {
    Ok(x.sqr()?.affine(-1.0, 1.0)?)
}
