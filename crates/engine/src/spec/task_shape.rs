//! The shape of a task's data: what a spec is validated against before any data are opened.

/// Inputs and targets of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskShape {
    /// The network's input.
    pub input: Input,
    /// The target it is trained on.
    pub target: Target,
    /// Sequence length, or `None` if it varies between batches.
    pub steps: Option<usize>,
    /// Whether there are validation data.
    pub validates: bool,
}

/// The network's input at each step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Real values: `[batch, time, features]`.
    Dense {
        /// Features per step.
        features: usize,
    },
    /// A whole image in one step, for feed-forward networks (`model.blocks`): `[batch, 1, channels · height · width]`, in the order
    /// channel, row, column.
    Image {
        /// Channels.
        channels: usize,
        /// Rows of pixels.
        height: usize,
        /// Pixels per row.
        width: usize,
    },
    /// Token ids, embedded by the model (`model.embed`).
    Tokens {
        /// Number of distinct tokens; 0 if it depends on the data ([`TaskShape::with_vocabulary`]).
        vocabulary: usize,
        /// The input at the first step.
        first: First,
    },
}

/// The input at the first step of a sequence of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// A token, as at every other step.
    Token,
    /// A feature vector of the embedding's width.
    Feature,
    /// An image, which the model's encoder (`model.encoder`) turns into such a vector.
    Image {
        /// Side of the square training images, in pixels.
        side: usize,
    },
}

/// The target of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Real values (squared error), bits or classes (cross-entropy).
    pub kind: TargetKind,
    /// At which steps there is a target.
    pub when: When,
}

/// Real values, bits or classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// `size` real values, trained with the mean squared error.
    Values {
        /// Values per step.
        size: usize,
    },
    /// `size` bits, 0 or 1, trained with the binary cross-entropy of as many logits.
    Bits {
        /// Bits per step.
        size: usize,
    },
    /// One of `count` classes, trained with the cross-entropy.
    Classes {
        /// Number of classes; 0 if it is a vocabulary size that depends on the data.
        count: usize,
    },
}

/// At which steps there is a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At every step of the sequence.
    EveryStep,
    /// At the last steps of the sequence: at as many as the batch has targets.
    LastSteps,
    /// Only at the last step.
    LastStep,
}

/// The properties of a layer's cell that a spec is validated against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellShape {
    /// Width of the concatenated state.
    pub state_width: usize,
    /// Whether the fused backend supports it.
    pub kernels: bool,
    /// Whether the unrolled backend supports it.
    pub closed_form: bool,
    /// Whether its units only interact through their sums, and if so, the gates and state parts of a unit.
    pub pointwise: Option<(usize, usize)>,
}

/// The cells that a learning rule is defined for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleCells {
    /// Whatever the engine trains.
    All,
    /// Cells whose units only interact through their sums.
    Pointwise,
    /// Those of them with one gate and no state besides the output: rate units.
    RateUnits,
    /// LSTM.
    Lstm,
}

/// The properties of a learning rule that a spec is validated against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleShape {
    /// The cells that it is defined for.
    pub cells: RuleCells,
    /// Whether it learns with a synthesizer.
    pub synthesizer: bool,
    /// Whether that predicts gradients at the state, so that they can be recorded.
    pub predicts: bool,
    /// Whether its gradients are random.
    pub stochastic: bool,
}

impl RuleCells {
    /// Whether a cell is among them.
    pub fn has(self, cell: CellShape) -> bool {
        match (self, cell.pointwise) {
            (RuleCells::All, _) | (RuleCells::Pointwise, Some(_)) => true,
            (RuleCells::RateUnits, Some((gates, parts))) => gates == 1 && parts == 1,
            (RuleCells::Lstm, Some((gates, parts))) => gates == 4 && parts == 2,
            (_, None) => false,
        }
    }
}

/// The properties of a block that a spec is validated against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockShape {
    /// Shape of a sample after it.
    pub output: Vec<usize>,
    /// Whether it has parameters that learn.
    pub learns: bool,
}

impl Input {
    /// The shape of one step of one sequence: `[features]`, or `[channels, height, width]`. Tokens are one number.
    pub fn sample(&self) -> Vec<usize> {
        match *self {
            Input::Dense { features } => vec![features],
            Input::Image { channels, height, width } => vec![channels, height, width],
            Input::Tokens { .. } => vec![1],
        }
    }

    /// Side of the square image before the tokens, in pixels, if there is one.
    pub fn image_side(&self) -> Option<usize> {
        match *self {
            Input::Tokens { first: First::Image { side }, .. } => Some(side),
            _ => None,
        }
    }
}

impl TaskShape {
    /// The same with `words` distinct tokens and, if the number of classes was unknown, `words` classes.
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
    /// Width of the readout: values, or logits.
    pub fn width(&self) -> usize {
        match self.kind {
            TargetKind::Values { size } | TargetKind::Bits { size } => size,
            TargetKind::Classes { count } => count,
        }
    }
}
