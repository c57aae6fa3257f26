//! What a task's data look like from outside: all that a spec can be checked against before anything is opened.

/// What goes into the network and what is wanted from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskShape {
    /// What the network reads.
    pub input: Input,
    /// What it is trained to answer.
    pub target: Target,
    /// Steps of every sequence, or `None` where lengths vary between batches.
    pub steps: Option<usize>,
    /// Whether there are data to validate with.
    pub validates: bool,
}

/// What the network reads at each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Numbers: `[batch, time, features]`.
    Dense {
        /// Numbers a step.
        features: usize,
    },
    /// Token ids, embedded by the model (`model.embed`).
    Tokens {
        /// Number of distinct tokens; 0 where only the data themselves say it ([`TaskShape::with_vocabulary`]).
        vocabulary: usize,
        /// What the first step reads.
        first: First,
    },
}

/// What the first step of a sequence of tokens reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// A token, as every other step.
    Token,
    /// A feature vector of the embedding's width.
    Feature,
    /// A image, which the model's encoder (`model.encoder`) turns into such a vector.
    Image {
        /// Side of the squares that training shows, in pixels.
        side: usize,
    },
}

/// What the network answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Numbers (squared error) or one of several classes (cross-entropy).
    pub kind: TargetKind,
    /// At which steps there is one.
    pub when: When,
}

/// Numbers or classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// `size` numbers, trained with the mean squared error.
    Values {
        /// Numbers an answer.
        size: usize,
    },
    /// One of `count` classes, trained with the cross-entropy.
    Classes {
        /// Number of classes; 0 where it is the number of tokens and only the data say it.
        count: usize,
    },
}

/// At which steps a target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At every step of the sequence.
    EveryStep,
    /// Only at the last step.
    LastStep,
}

/// What a spec can be checked against of a layer's cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellShape {
    /// Width of the joined state.
    pub state_width: usize,
    /// Whether the fused backend can compute it.
    pub kernels: bool,
    /// Whether the unrolled backend can compute it.
    pub closed_form: bool,
}

impl TaskShape {
    /// The same with `words` distinct tokens to read and, where it was not known how many classes there are, to answer with.
    pub fn with_vocabulary(&self, words: usize) -> TaskShape {
        let mut shape = self.clone();
        if let Input::Tokens { vocabulary, .. } = &mut shape.input {
            *vocabulary = words;
        }
        if let TargetKind::Classes { count: count @ 0 } = &mut shape.target.kind {
            *count = words;
        }
        shape
    }
}

impl Target {
    /// Width of the readout: numbers, or logits.
    pub fn width(&self) -> usize {
        match self.kind {
            TargetKind::Values { size } => size,
            TargetKind::Classes { count } => count,
        }
    }
}
