//! The interface of the kernels of recurrent cells and helpers to write them. A cell's kernels, which compute the pointwise
//! part of a step in one pass over a block of rows, are in its file ([`crate::nn::cells`]).
//!
//! `gates` has one row per sequence, `[rows, blocks · hidden]`: pre-activations before [`SimdKernels::forward`], gates after it,
//! and the gradient of the pre-activations after [`SimdKernels::backward`].
//!
//! Everything, closures included, must be inlined into the function that is compiled for the chosen instructions; otherwise
//! each operation becomes a call.

use pulp::{Arch, Simd, WithSimd};

/// A cell's kernels for the CPU, generic over the instructions; `#[inline(always)]` is required on both passes.
pub trait SimdKernels: Sync {
    /// The layout of a row of gates.
    fn blocks(&self) -> Blocks;

    /// One step of the forward pass: updates state and gates in place.
    fn forward<S: Simd>(&self, simd: S, hidden: usize, step: StepMut<'_>);

    /// One step of the backward pass.
    fn backward<S: Simd>(&self, simd: S, hidden: usize, step: StepBack<'_>);

    /// Writes `h` after a step, `[hidden]`, from what the forward pass kept of one row.
    fn output(&self, kept: Kept<'_>, h: &mut [f32]);
}

/// [`SimdKernels`] with the instructions of `arch`; object-safe.
pub trait Kernels: Sync {
    /// [`SimdKernels::blocks`]
    fn blocks(&self) -> Blocks;
    /// [`SimdKernels::forward`]
    fn forward(&self, arch: Arch, hidden: usize, step: StepMut<'_>);
    /// [`SimdKernels::backward`]
    fn backward(&self, arch: Arch, hidden: usize, step: StepBack<'_>);
    /// [`SimdKernels::output`]
    fn output(&self, kept: Kept<'_>, h: &mut [f32]);
}

impl<K: SimdKernels> Kernels for K {
    fn blocks(&self) -> Blocks {
        SimdKernels::blocks(self)
    }

    fn forward(&self, arch: Arch, hidden: usize, step: StepMut<'_>) {
        arch.dispatch(Forward { kernels: self, hidden, step });
    }

    fn backward(&self, arch: Arch, hidden: usize, step: StepBack<'_>) {
        arch.dispatch(Backward { kernels: self, hidden, step });
    }

    fn output(&self, kept: Kept<'_>, h: &mut [f32]) {
        SimdKernels::output(self, kept, h);
    }
}

struct Forward<'a, K> {
    kernels: &'a K,
    hidden: usize,
    step: StepMut<'a>,
}

impl<K: SimdKernels> WithSimd for Forward<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.kernels.forward(simd, self.hidden, self.step);
    }
}

struct Backward<'a, K> {
    kernels: &'a K,
    hidden: usize,
    step: StepBack<'a>,
}

impl<K: SimdKernels> WithSimd for Backward<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.kernels.backward(simd, self.hidden, self.step);
    }
}

/// How the blocks of a row of gates correspond to the gates of the weights.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// Gates of the blocks that the input's part `W x + b` fills, from the first block on.
    pub input: &'static [usize],
    /// Gates of the blocks that the state's part `U h` is added to, ascending from 0. If a gate's block differs from that of
    /// the input's part, its recurrent bias is in [`StepMut::separate_bias`].
    pub state: &'static [usize],
    /// The first block of the state's part.
    pub first: usize,
    /// Whether the backward step leaves in [`StepBack::dh`] the gradient at the previous `h` that bypasses the gates.
    pub passes_h: bool,
}

impl Blocks {
    /// Number of blocks.
    pub fn count(&self) -> usize {
        self.input.len().max(self.first + self.state.len())
    }

    /// Whether the kernel adds the recurrent bias of a gate.
    pub fn separates_bias(&self, gate: usize) -> bool {
        let place = |gates: &[usize]| gates.iter().position(|&other| other == gate);
        place(self.input) != place(self.state).map(|place| place + self.first)
    }
}

/// The operands of a forward step.
pub struct StepMut<'a> {
    /// `[rows, blocks · hidden]`
    pub gates: &'a mut [f32],
    /// `[rows, hidden]`
    pub h: &'a mut [f32],
    /// `[rows, state width - hidden]`: the rest of the state, such as the LSTM's cell.
    pub c: &'a mut [f32],
    /// As wide as `c`: tanh of the new `c`, or whatever else of it [`SimdKernels::backward`] needs.
    pub tanh_c: &'a mut [f32],
    /// The recurrent biases that are not in the sums ([`Blocks::separates_bias`]), in the order of gates.
    pub separate_bias: &'a [f32],
}

/// The operands of a backward step.
pub struct StepBack<'a> {
    /// `[rows, blocks · hidden]`: gates, replaced by the gradient of their pre-activations.
    pub gates: &'a mut [f32],
    /// `[rows, hidden]`: gradient at `h` from the same step (outputs, upper layers).
    pub dh_here: &'a [f32],
    /// `[rows, hidden]`: gradient at `h` from later steps; afterwards see [`Blocks::passes_h`].
    pub dh: &'a mut [f32],
    /// Gradient at `c`, replaced by that at the previous `c`.
    pub dc: &'a mut [f32],
    /// The previous `c`.
    pub c_before: &'a [f32],
    /// [`StepMut::tanh_c`] after the forward step.
    pub tanh_c: &'a [f32],
    /// `[rows, stride]`: the previous `h` in the first columns.
    pub h_before: &'a [f32],
    /// Row stride of `h_before`.
    pub stride: usize,
}

/// What a forward step keeps of one row.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// `[blocks · hidden]`
    pub gates: &'a [f32],
    /// As [`StepBack::tanh_c`].
    pub tanh_c: &'a [f32],
    /// `[hidden]`: the previous `h`.
    pub h_before: &'a [f32],
}

/// `y (1 − y)`: the derivative of the sigmoid where its value is `y`.
#[inline(always)]
pub fn sigmoid_slope<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    simd.mul_f32s(y, simd.sub_f32s(simd.splat_f32s(1.0), y))
}

/// `1 − y²`: the derivative of tanh where its value is `y`.
#[inline(always)]
pub fn tanh_slope<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    simd.negate_mul_add_e_f32s(y, y, simd.splat_f32s(1.0))
}

/// Columns of a row in one register.
#[derive(Clone, Copy)]
pub struct At {
    from: usize,
    to: usize,
    full: bool,
}

/// Iterates over `n` columns, one register at a time.
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

/// Loads columns of a row.
#[inline(always)]
pub fn load<S: Simd>(simd: S, row: &[f32], at: At) -> S::f32s {
    match (at.full, S::as_simd_f32s(&row[at.from..at.to]).0) {
        (true, [register]) => *register,
        _ => simd.partial_load_f32s(&row[at.from..at.to]),
    }
}

/// Stores columns of a row.
#[inline(always)]
pub fn store<S: Simd>(simd: S, row: &mut [f32], at: At, values: S::f32s) {
    let row = &mut row[at.from..at.to];
    match (at.full, S::as_mut_simd_f32s(row).0) {
        (true, [register]) => *register = values,
        _ => simd.partial_store_f32s(row, values),
    }
}

/// The four blocks of a row, `n` columns each.
#[inline(always)]
pub fn four_mut(row: &mut [f32], n: usize) -> [&mut [f32]; 4] {
    let (a, rest) = row.split_at_mut(n);
    let (b, rest) = rest.split_at_mut(n);
    let (c, d) = rest.split_at_mut(n);
    [a, b, c, d]
}
