//! Recurrent cells, as `golden/README.md` section 2 (PyTorch's definitions) has them.

use candle_core::Tensor;
use candle_nn::ops::sigmoid;

use super::relu;
use crate::error::Result;
use crate::spec::Cell;

/// Blocks of `hidden` rows in the cell's weights: lstm i, f, g, o; gru r, z, n.
pub fn gates(cell: Cell) -> usize {
    match cell {
        Cell::Lstm => 4,
        Cell::Gru => 3,
        Cell::Tanh | Cell::Relu => 1,
    }
}

/// Width of the joined state: `(h ‖ c)` for the lstm, `h` for the others.
pub fn state_width(cell: Cell, hidden: usize) -> usize {
    match cell {
        Cell::Lstm => 2 * hidden,
        _ => hidden,
    }
}

/// The weights of one layer.
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

/// A state taken apart.
#[derive(Debug, Clone)]
pub struct State {
    /// `[rows, hidden]`
    pub h: Tensor,
    /// `[rows, hidden]`: the lstm's cell
    pub c: Option<Tensor>,
}

impl State {
    /// Takes a joined state `[rows, width]` apart.
    pub fn split(cell: Cell, joined: &Tensor) -> Result<State> {
        if cell != Cell::Lstm {
            return Ok(State { h: joined.clone(), c: None });
        }
        let hidden = joined.dim(1)? / 2;
        Ok(State {
            h: joined.narrow(1, 0, hidden)?.contiguous()?,
            c: Some(joined.narrow(1, hidden, hidden)?.contiguous()?),
        })
    }

    /// The joined state, `[rows, width]`.
    pub fn join(&self) -> Result<Tensor> {
        match &self.c {
            Some(c) => Ok(Tensor::cat(&[&self.h, c], 1)?),
            None => Ok(self.h.clone()),
        }
    }
}

/// One step: input `[rows, in]` and state to the next state.
pub fn step(cell: Cell, weights: &CellWeights, x: &Tensor, state: &State) -> Result<State> {
    let a = x.matmul(&weights.weight_ih.t()?)?.broadcast_add(&weights.bias_ih)?;
    let b = state.h.matmul(&weights.weight_hh.t()?)?.broadcast_add(&weights.bias_hh)?;
    let hidden = state.h.dim(1)?;
    let gate = |of: &Tensor, index: usize| of.narrow(1, index * hidden, hidden);
    let h = match (cell, &state.c) {
        (Cell::Lstm, Some(c)) => {
            let all = (a + b)?;
            let i = sigmoid(&gate(&all, 0)?)?;
            let f = sigmoid(&gate(&all, 1)?)?;
            let g = gate(&all, 2)?.tanh()?;
            let o = sigmoid(&gate(&all, 3)?)?;
            let c = ((f * c)? + (i * g)?)?;
            return Ok(State { h: (o * c.tanh()?)?, c: Some(c) });
        }
        (Cell::Lstm, None) => return Err(crate::Error::Training("an lstm state without its cell".into())),
        (Cell::Gru, _) => {
            let r = sigmoid(&(gate(&a, 0)? + gate(&b, 0)?)?)?;
            let z = sigmoid(&(gate(&a, 1)? + gate(&b, 1)?)?)?;
            // r multiplies the recurrent part with its bias.
            let n = (gate(&a, 2)? + (r * gate(&b, 2)?)?)?.tanh()?;
            ((z.affine(-1.0, 1.0)? * n)? + (z * &state.h)?)?
        }
        (Cell::Tanh, _) => (a + b)?.tanh()?,
        (Cell::Relu, _) => relu(&(a + b)?)?,
    };
    Ok(State { h, c: None })
}
