//! The memory layout of the steps of windows that need a backward pass.
//!
//! Rows are ordered by (offset in the window, window, batch), so that a step of the backward pass, which covers one offset
//! of every window of that length, accesses one contiguous block. A shorter last window is absent from the blocks beyond its
//! length.

use std::ops::Range;

use super::Plan;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Rows of the batch.
    pub(super) batch: usize,
    first: usize,
    /// Per step of the span, its first row; `None` if its window needs no backward pass.
    steps: Vec<Option<usize>>,
    pub(super) offsets: Vec<Range<usize>>,
    /// Lengths of the windows that need a backward pass.
    pub(super) lengths: Vec<usize>,
}

impl Layout {
    /// Lays out the windows of a plan that need a backward pass.
    pub(super) fn new(plan: Plan<'_>, batch: usize) -> Layout {
        let span = plan.span();
        let wanted =
            || plan.windows.iter().zip(plan.needs_backward).filter(|(_, needs)| **needs).map(|(window, _)| window);
        let lengths: Vec<usize> = wanted().map(|window| window.len()).collect();
        let mut offsets = Vec::new();
        let mut end = 0;
        for offset in 0..lengths.iter().copied().max().unwrap_or(0) {
            let windows = lengths.iter().filter(|&&length| length > offset).count();
            offsets.push(end..end + windows * batch);
            end += windows * batch;
        }
        let mut steps = vec![None; span.len()];
        for (place, window) in wanted().enumerate() {
            for (offset, step) in window.clone().enumerate() {
                steps[step - span.start] = Some(offsets[offset].start + place * batch);
            }
        }
        Layout { batch, first: span.start, steps, offsets, lengths }
    }

    /// The rows of a step; `None` if its window needs no backward pass.
    pub(super) fn rows_of(&self, step: usize) -> Option<Range<usize>> {
        self.steps[step - self.first].map(|first| first..first + self.batch)
    }

    pub(super) fn steps(&self) -> Range<usize> {
        self.first..self.first + self.steps.len()
    }

    pub(super) fn rows(&self) -> usize {
        self.offsets.last().map_or(0, |offset| offset.end)
    }

    /// Rows at the starts of the windows that need a backward pass.
    pub(super) fn starts(&self) -> usize {
        self.lengths.len() * self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_of_all_windows_is_one_block() {
        let windows = [4..7, 7..10, 10..13, 13..15];
        let plan = Plan { windows: &windows, needs_backward: &[true, false, true, true], outputs: &[] };
        let layout = Layout::new(plan, 2);
        assert_eq!(layout.offsets, [0..6, 6..12, 12..16]);
        let first = |step| layout.rows_of(step).map(|rows| rows.start);
        assert_eq!([4, 5, 6].map(first), [Some(0), Some(6), Some(12)]);
        assert_eq!([7, 8, 9].map(first), [None; 3]);
        assert_eq!([10, 11, 12].map(first), [Some(2), Some(8), Some(14)]);
        assert_eq!([13, 14].map(first), [Some(4), Some(10)], "the shorter window is missing from the last block");
        assert_eq!((layout.rows(), layout.starts(), layout.steps()), (16, 6, 4..15));
    }
}
