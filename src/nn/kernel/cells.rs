//! The pointwise parts of recurrent cells, forward and backward, in one pass over a block of rows.
//!
//! A block of `gates` has one row a sequence, `[rows, blocks · hidden]`. It holds what goes into the gates before
//! [`forward`], the gates themselves after it, and the gradient of what went in after [`backward`]. Its blocks are:
//!
//! | cell | blocks | |
//! |---|---|---|
//! | lstm | i, f, g, o | |
//! | gru | n, r, z, b | b is the recurrent part of n with its bias, which r multiplies |
//! | tanh, relu | h | |
//!
//! With this order the input's product fills adjacent blocks, as does the state's. Cells are defined in
//! `golden/README.md`, section 2.
//!
//! Everything is inlined into one function that is compiled for the chosen instructions: what is not, a closure included,
//! is compiled without them, and each of its operations becomes a call.

use pulp::{Arch, Simd, WithSimd};

use super::activation::{relu, sigmoid, tanh};
use crate::spec::Cell;

/// Blocks of `hidden` columns in the gates.
pub fn blocks(cell: Cell) -> usize {
    match cell {
        Cell::Lstm | Cell::Gru => 4,
        Cell::Tanh | Cell::Relu => 1,
    }
}

/// A step's state, before it and after it.
pub struct StepMut<'a> {
    /// `[rows, blocks · hidden]`
    pub gates: &'a mut [f32],
    /// `[rows, hidden]`
    pub h: &'a mut [f32],
    /// `[rows, hidden]`, lstm: the cell.
    pub c: &'a mut [f32],
    /// `[rows, hidden]`, lstm: tanh of the cell, which [`backward`] needs.
    pub tanh_c: &'a mut [f32],
    /// `[hidden]`, gru: the recurrent bias of n.
    pub bias_n: &'a [f32],
}

/// One step forward: state and gates in place.
pub fn forward(arch: Arch, cell: Cell, hidden: usize, step: StepMut<'_>) {
    arch.dispatch(Forward { cell, hidden, step });
}

struct Forward<'a> {
    cell: Cell,
    hidden: usize,
    step: StepMut<'a>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Forward { cell, hidden: n, step } = self;
        let rows = step.gates.chunks_exact_mut(blocks(cell) * n).zip(step.h.chunks_exact_mut(n));
        match cell {
            Cell::Lstm => {
                let cells = step.c.chunks_exact_mut(n).zip(step.tanh_c.chunks_exact_mut(n));
                for ((gates, h), (c, tanh_c)) in rows.zip(cells) {
                    let [i, f, g, o] = four_mut(gates, n);
                    each(
                        simd,
                        n,
                        #[inline(always)]
                        |at| {
                            let i_ = sigmoid(simd, load(simd, i, at));
                            let f_ = sigmoid(simd, load(simd, f, at));
                            let g_ = tanh(simd, load(simd, g, at));
                            let o_ = sigmoid(simd, load(simd, o, at));
                            let c_ = simd.mul_add_e_f32s(f_, load(simd, c, at), simd.mul_f32s(i_, g_));
                            let tanh_c_ = tanh(simd, c_);
                            store(simd, i, at, i_);
                            store(simd, f, at, f_);
                            store(simd, g, at, g_);
                            store(simd, o, at, o_);
                            store(simd, c, at, c_);
                            store(simd, tanh_c, at, tanh_c_);
                            store(simd, h, at, simd.mul_f32s(o_, tanh_c_));
                        },
                    );
                }
            }
            Cell::Gru => {
                for (gates, h) in rows {
                    let [n_in, r, z, b] = four_mut(gates, n);
                    each(
                        simd,
                        n,
                        #[inline(always)]
                        |at| {
                            let r_ = sigmoid(simd, load(simd, r, at));
                            let z_ = sigmoid(simd, load(simd, z, at));
                            let b_ = simd.add_f32s(load(simd, b, at), load(simd, step.bias_n, at));
                            let n_ = tanh(simd, simd.mul_add_e_f32s(r_, b_, load(simd, n_in, at)));
                            // (1 − z) n + z h
                            let h_ = simd.mul_add_e_f32s(z_, simd.sub_f32s(load(simd, h, at), n_), n_);
                            store(simd, n_in, at, n_);
                            store(simd, r, at, r_);
                            store(simd, z, at, z_);
                            store(simd, b, at, b_);
                            store(simd, h, at, h_);
                        },
                    );
                }
            }
            Cell::Tanh | Cell::Relu => {
                for (gates, h) in rows {
                    each(
                        simd,
                        n,
                        #[inline(always)]
                        |at| {
                            let x = load(simd, gates, at);
                            let h_ = if cell == Cell::Tanh { tanh(simd, x) } else { relu(simd, x) };
                            store(simd, gates, at, h_);
                            store(simd, h, at, h_);
                        },
                    );
                }
            }
        }
    }
}

/// A step's gradients.
pub struct StepBack<'a> {
    /// `[rows, blocks · hidden]`: gates, and then the gradient of what went into them.
    pub gates: &'a mut [f32],
    /// `[rows, hidden]`: what reaches `h` from the step itself (outputs, upper layers).
    pub dh_here: &'a [f32],
    /// `[rows, hidden]`: what reaches `h` from later steps; gru: afterwards what reaches the `h` before the step other
    /// than through the gates.
    pub dh: &'a mut [f32],
    /// `[rows, hidden]`, lstm: what reaches the cell, and then the cell before the step.
    pub dc: &'a mut [f32],
    /// `[rows, hidden]`, lstm: the cell before the step.
    pub c_before: &'a [f32],
    /// `[rows, hidden]`, lstm: tanh of the cell.
    pub tanh_c: &'a [f32],
    /// `[rows, stride]`, gru: `h` before the step, in the first columns.
    pub h_before: &'a [f32],
    /// Numbers from one row of `h_before` to the next.
    pub stride: usize,
}

/// One step backward.
pub fn backward(arch: Arch, cell: Cell, hidden: usize, step: StepBack<'_>) {
    arch.dispatch(Backward { cell, hidden, step });
}

struct Backward<'a> {
    cell: Cell,
    hidden: usize,
    step: StepBack<'a>,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Backward { cell, hidden: n, step } = self;
        let one = simd.splat_f32s(1.0);
        let zero = simd.splat_f32s(0.0);
        let rows = step.gates.chunks_exact_mut(blocks(cell) * n);
        let arriving = step.dh_here.chunks_exact(n).zip(step.dh.chunks_exact_mut(n));
        match cell {
            Cell::Lstm => {
                let cells =
                    step.dc.chunks_exact_mut(n).zip(step.c_before.chunks_exact(n)).zip(step.tanh_c.chunks_exact(n));
                for ((gates, (dh_here, dh)), ((dc, c_before), tanh_c)) in rows.zip(arriving).zip(cells) {
                    let [i, f, g, o] = four_mut(gates, n);
                    each(
                        simd,
                        n,
                        #[inline(always)]
                        |at| {
                            let dh_ = simd.add_f32s(load(simd, dh, at), load(simd, dh_here, at));
                            let (i_, f_) = (load(simd, i, at), load(simd, f, at));
                            let (g_, o_) = (load(simd, g, at), load(simd, o, at));
                            let tanh_c_ = load(simd, tanh_c, at);
                            let through = simd.mul_f32s(simd.mul_f32s(dh_, o_), tanh_slope(simd, tanh_c_));
                            let dc_ = simd.add_f32s(load(simd, dc, at), through);
                            let d_i = simd.mul_f32s(simd.mul_f32s(dc_, g_), sigmoid_slope(simd, i_));
                            let d_f =
                                simd.mul_f32s(simd.mul_f32s(dc_, load(simd, c_before, at)), sigmoid_slope(simd, f_));
                            let d_g = simd.mul_f32s(simd.mul_f32s(dc_, i_), tanh_slope(simd, g_));
                            let d_o = simd.mul_f32s(simd.mul_f32s(dh_, tanh_c_), sigmoid_slope(simd, o_));
                            store(simd, i, at, d_i);
                            store(simd, f, at, d_f);
                            store(simd, g, at, d_g);
                            store(simd, o, at, d_o);
                            store(simd, dc, at, simd.mul_f32s(dc_, f_));
                        },
                    );
                }
            }
            Cell::Gru => {
                for ((gates, (dh_here, dh)), h_before) in rows.zip(arriving).zip(step.h_before.chunks(step.stride)) {
                    let [n_in, r, z, b] = four_mut(gates, n);
                    each(
                        simd,
                        n,
                        #[inline(always)]
                        |at| {
                            let dh_ = simd.add_f32s(load(simd, dh, at), load(simd, dh_here, at));
                            let (n_, r_) = (load(simd, n_in, at), load(simd, r, at));
                            let (z_, b_) = (load(simd, z, at), load(simd, b, at));
                            let d_n = simd.mul_f32s(simd.mul_f32s(dh_, simd.sub_f32s(one, z_)), tanh_slope(simd, n_));
                            let d_z = simd.mul_f32s(dh_, simd.sub_f32s(load(simd, h_before, at), n_));
                            store(simd, n_in, at, d_n);
                            store(simd, r, at, simd.mul_f32s(simd.mul_f32s(d_n, b_), sigmoid_slope(simd, r_)));
                            store(simd, z, at, simd.mul_f32s(d_z, sigmoid_slope(simd, z_)));
                            store(simd, b, at, simd.mul_f32s(d_n, r_));
                            store(simd, dh, at, simd.mul_f32s(dh_, z_));
                        },
                    );
                }
            }
            Cell::Tanh | Cell::Relu => {
                for (gates, (dh_here, dh)) in rows.zip(arriving) {
                    each(
                        simd,
                        n,
                        #[inline(always)]
                        |at| {
                            let dh_ = simd.add_f32s(load(simd, dh, at), load(simd, dh_here, at));
                            let h_ = load(simd, gates, at);
                            let d_ = match cell {
                                Cell::Tanh => simd.mul_f32s(dh_, tanh_slope(simd, h_)),
                                // The slope at 0 is 0, as in PyTorch.
                                _ => simd.select_f32s(simd.greater_than_f32s(h_, zero), dh_, simd.mul_f32s(dh_, zero)),
                            };
                            store(simd, gates, at, d_);
                        },
                    );
                }
            }
        }
    }
}

/// `y (1 − y)`: the slope of the logistic function where it is `y`.
#[inline(always)]
fn sigmoid_slope<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    simd.mul_f32s(y, simd.sub_f32s(simd.splat_f32s(1.0), y))
}

/// `1 − y²`: the slope of the hyperbolic tangent where it is `y`.
#[inline(always)]
fn tanh_slope<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    simd.negate_mul_add_e_f32s(y, y, simd.splat_f32s(1.0))
}

/// Columns of a row that fit into one register.
#[derive(Clone, Copy)]
struct At {
    from: usize,
    to: usize,
    full: bool,
}

/// Goes over `n` columns, as many at a time as fit into a register.
#[inline(always)]
fn each<S: Simd>(_simd: S, n: usize, mut body: impl FnMut(At)) {
    let whole = n - n % S::F32_LANES;
    for from in (0..whole).step_by(S::F32_LANES) {
        body(At { from, to: from + S::F32_LANES, full: true });
    }
    if whole < n {
        body(At { from: whole, to: n, full: false });
    }
}

#[inline(always)]
fn load<S: Simd>(simd: S, row: &[f32], at: At) -> S::f32s {
    match (at.full, S::as_simd_f32s(&row[at.from..at.to]).0) {
        (true, [register]) => *register,
        _ => simd.partial_load_f32s(&row[at.from..at.to]),
    }
}

#[inline(always)]
fn store<S: Simd>(simd: S, row: &mut [f32], at: At, values: S::f32s) {
    let row = &mut row[at.from..at.to];
    match (at.full, S::as_mut_simd_f32s(row).0) {
        (true, [register]) => *register = values,
        _ => simd.partial_store_f32s(row, values),
    }
}

/// The four blocks of a row.
#[inline(always)]
fn four_mut(row: &mut [f32], n: usize) -> [&mut [f32]; 4] {
    let (a, rest) = row.split_at_mut(n);
    let (b, rest) = rest.split_at_mut(n);
    let (c, d) = rest.split_at_mut(n);
    [a, b, c, d]
}
