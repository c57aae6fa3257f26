//! Inputs and targets of a caption, window by window.

use std::ops::Range;

/// The input of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepInput {
    /// The image's feature: the first step.
    Image,
    /// The word at this index of the caption.
    Word(usize),
}

/// A window of truncated BPTT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptionWindow {
    /// The input of each step.
    pub inputs: Vec<StepInput>,
    /// Indices of the words to predict.
    pub targets: Range<usize>,
}

/// The windows of a caption of `length` ids, start and end included, with `bptt` steps each (0: one window).
///
/// The image precedes the ids, the last id is never an input, and every id, the start included, is predicted once.
pub fn windows(length: usize, bptt: usize) -> Vec<CaptionWindow> {
    let step = if bptt == 0 { length.max(1) } else { bptt };
    let input = |position: usize| position.checked_sub(1).map_or(StepInput::Image, StepInput::Word);
    (0..length)
        .step_by(step)
        .map(|start| start..length.min(start.saturating_add(step)))
        .map(|targets| CaptionWindow { inputs: targets.clone().map(input).collect(), targets })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_comes_first_and_the_end_is_never_read() {
        let [one] = &windows(3, 0)[..] else { panic!("one window") };
        assert_eq!(one.inputs, [StepInput::Image, StepInput::Word(0), StepInput::Word(1)]);
        assert_eq!(one.targets, 0..3);
        assert_eq!(windows(5, 2).iter().map(|window| window.targets.clone()).collect::<Vec<_>>(), [0..2, 2..4, 4..5]);
        assert!(windows(0, 3).is_empty());
        assert_eq!(windows(2, usize::MAX).len(), 1);
    }
}
