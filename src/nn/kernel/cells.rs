//! What the kernels of recurrent cells have in common: what they are given, and the pieces that they are written with. A
//! cell's own kernels, which do all that is pointwise in a step in one pass over a block of rows, are in its file
//! ([`crate::nn::cells`]).
//!
//! A block of `gates` has one row per sequence, `[rows, blocks · hidden]`. It holds what goes into the gates before
//! [`Kernels::forward`], the gates themselves after it, and the gradient of what went in after [`Kernels::backward`].
//!
//! Everything is inlined into one function that is compiled for the chosen instructions: what is not, a closure included,
//! is compiled without them, and each of its operations becomes a call.

use pulp::{Arch, Simd};

/// A cell's kernels for the CPU.
pub trait Kernels {
    /// The blocks of a row of gates.
    fn blocks(&self) -> Blocks;

    /// One step forward: state and gates in place.
    fn forward(&self, arch: Arch, hidden: usize, step: StepMut<'_>);

    /// One step backward.
    fn backward(&self, arch: Arch, hidden: usize, step: StepBack<'_>);

    /// The `h` of a unit after a step, from what the step kept.
    fn output(&self, kept: Kept<'_>, unit: usize) -> f32;
}

/// How the blocks of a row of gates and the weights, gate by gate, belong together.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// The gates of the blocks that the input's part of the sums fills, from the first block on.
    pub input: &'static [usize],
    /// The gates of the blocks that the state's part is added to, ascending from 0. The recurrent bias of a gate that has
    /// another block here than in the input's part is left to [`StepMut::separate_bias`].
    pub state: &'static [usize],
    /// The first block of the state's part.
    pub first: usize,
    /// Whether [`StepBack::dh`] has, after the step, what reaches the `h` before it other than through the gates.
    pub passes_h: bool,
}

impl Blocks {
    /// Number of blocks.
    pub fn count(&self) -> usize {
        self.input.len().max(self.first + self.state.len())
    }

    /// Whether the recurrent bias of a gate is left to the kernel.
    pub fn separates_bias(&self, gate: usize) -> bool {
        let place = |gates: &[usize]| gates.iter().position(|&other| other == gate);
        place(self.input) != place(self.state).map(|place| place + self.first)
    }
}

/// A step's state, before it and after it.
pub struct StepMut<'a> {
    /// `[rows, blocks · hidden]`
    pub gates: &'a mut [f32],
    /// `[rows, hidden]`
    pub h: &'a mut [f32],
    /// `[rows, state width - hidden]`: what the state has beside `h`, such as the lstm's cell.
    pub c: &'a mut [f32],
    /// As wide as `c`: tanh of it after the step, or whatever else of it [`Kernels::backward`] needs.
    pub tanh_c: &'a mut [f32],
    /// The recurrent biases that are not in the sums ([`Blocks::separates_bias`]), gate by gate.
    pub separate_bias: &'a [f32],
}

/// A step's gradients.
pub struct StepBack<'a> {
    /// `[rows, blocks · hidden]`: gates, and then the gradient of what went into them.
    pub gates: &'a mut [f32],
    /// `[rows, hidden]`: what reaches `h` from the step itself (outputs, upper layers).
    pub dh_here: &'a [f32],
    /// `[rows, hidden]`: what reaches `h` from later steps; afterwards as [`Blocks::passes_h`] says.
    pub dh: &'a mut [f32],
    /// What reaches `c`, and then the `c` before the step.
    pub dc: &'a mut [f32],
    /// `c` before the step.
    pub c_before: &'a [f32],
    /// What [`StepMut::tanh_c`] was left with.
    pub tanh_c: &'a [f32],
    /// `[rows, stride]`: `h` before the step, in the first columns.
    pub h_before: &'a [f32],
    /// Numbers from one row of `h_before` to the next.
    pub stride: usize,
}

/// What a forward step leaves of one row.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// `[blocks · hidden]`
    pub gates: &'a [f32],
    /// As [`StepBack::tanh_c`].
    pub tanh_c: &'a [f32],
    /// `[hidden]`: `h` before the step.
    pub h_before: &'a [f32],
}

/// `y (1 − y)`: the slope of the logistic function where it is `y`.
#[inline(always)]
pub fn sigmoid_slope<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    simd.mul_f32s(y, simd.sub_f32s(simd.splat_f32s(1.0), y))
}

/// `1 − y²`: the slope of the hyperbolic tangent where it is `y`.
#[inline(always)]
pub fn tanh_slope<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    simd.negate_mul_add_e_f32s(y, y, simd.splat_f32s(1.0))
}

/// Columns of a row that fit into one register.
#[derive(Clone, Copy)]
pub struct At {
    from: usize,
    to: usize,
    full: bool,
}

/// Goes over `n` columns, as many at a time as fit into a register.
#[inline(always)]
pub fn each<S: Simd>(_simd: S, n: usize, mut body: impl FnMut(At)) {
    let whole = n - n % S::F32_LANES;
    for from in (0..whole).step_by(S::F32_LANES) {
        body(At { from, to: from + S::F32_LANES, full: true });
    }
    if whole < n {
        body(At { from: whole, to: n, full: false });
    }
}

/// Some columns of a row.
#[inline(always)]
pub fn load<S: Simd>(simd: S, row: &[f32], at: At) -> S::f32s {
    match (at.full, S::as_simd_f32s(&row[at.from..at.to]).0) {
        (true, [register]) => *register,
        _ => simd.partial_load_f32s(&row[at.from..at.to]),
    }
}

/// Writes some columns of a row.
#[inline(always)]
pub fn store<S: Simd>(simd: S, row: &mut [f32], at: At, values: S::f32s) {
    let row = &mut row[at.from..at.to];
    match (at.full, S::as_mut_simd_f32s(row).0) {
        (true, [register]) => *register = values,
        _ => simd.partial_store_f32s(row, values),
    }
}

/// The four blocks of a row.
#[inline(always)]
pub fn four_mut(row: &mut [f32], n: usize) -> [&mut [f32]; 4] {
    let (a, rest) = row.split_at_mut(n);
    let (b, rest) = rest.split_at_mut(n);
    let (c, d) = rest.split_at_mut(n);
    [a, b, c, d]
}
