//! One step of a cell, unit by unit, with its derivatives: what learning rules that go forward in time need of a cell.
//!
//! Such cells multiply by their weights first, `s = W x + U h + b`, `[gates · hidden]`; then each unit goes on alone, from its
//! sums (one for each gate) and its own parts of the state (`h`, and `c` of an LSTM) to its parts of the next state.

/// The most gates of a unit.
pub const MAX_GATES: usize = 4;

/// The most parts of a unit's state.
pub const MAX_PARTS: usize = 2;

/// A unit's next state and its derivatives. Part 0 of a state is `h`, part 1 is `c`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct UnitStep {
    /// The parts of the next state.
    pub next: [f64; MAX_PARTS],
    /// `by_sum[k][g]`: the derivative of part `k` of the next state in the sum of gate `g`.
    pub by_sum: [[f64; MAX_GATES]; MAX_PARTS],
    /// `by_part[k][l]`: the derivative of part `k` of the next state in part `l` of the state, the sums held constant.
    pub by_part: [[f64; MAX_PARTS]; MAX_PARTS],
    /// The derivative of the next `h` in the next `c`, the sums held constant; 0 without `c`.
    pub h_by_c: f64,
}

/// A cell whose units only interact through its sums.
pub trait Pointwise {
    /// One unit's step from its sums, one per gate, and the parts of its state.
    fn unit(&self, sums: &[f64], state: [f64; MAX_PARTS]) -> UnitStep;
}

/// The step of a rate unit, `h' = (1 - share) h + share · rate`, with the rate and its derivative in the sum.
pub(super) fn rate_unit(share: f64, (rate, slope): (f64, f64), h: f64) -> UnitStep {
    let mut step = UnitStep::default();
    step.next[0] = (1.0 - share) * h + share * rate;
    step.by_sum[0][0] = share * slope;
    step.by_part[0][0] = 1.0 - share;
    step
}
