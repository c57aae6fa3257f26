//! Language models: each token predicts the next, in contiguous columns of a text (the example `rnn` of koz4k/dni-pytorch; the word
//! language model of Jaderberg et al. 2017, section 3.1, is one of characters).

mod columns;

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use columns::Columns;

use super::{Task, TaskData};
use crate::data::text::{Corpus, TextSource, Unit};
use crate::data::{Dataset, Vocabulary};
use crate::error::Result;
use crate::plugins::Plugin;
use crate::spec::ModelSpec;
use crate::spec::task_shape::{First, Input, Target, TargetKind, TaskShape, When};

/// Predicts the next word or character of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Language {
    /// Source of the text.
    pub source: TextSource,
    /// What a token is.
    pub unit: Unit,
    /// Tokens of each column in a batch; the last batch of an epoch may have fewer. `train.batch_size` is the number of columns, and
    /// with `train.keep_hidden` the state is carried from each batch to the next.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub steps: usize,
    /// Columns of validation and test.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub columns: usize,
}

impl Default for Language {
    /// As in the original.
    fn default() -> Self {
        Language { source: TextSource::default(), unit: Unit::Word, steps: 35, columns: 10 }
    }
}

impl Plugin for Language {
    const KIND: &'static str = "language";
    const ABOUT: &'static str = "predict the next word or character of a text";
}

impl Task for Language {
    fn shape(&self) -> TaskShape {
        TaskShape {
            input: Input::Tokens { vocabulary: 0, first: First::Token },
            target: Target { kind: TargetKind::Classes { count: 0 }, when: When::EveryStep },
            steps: Some(self.steps),
            validates: true,
        }
    }

    fn prepare(&self) -> Result<()> {
        Corpus::find(&self.source)
    }

    fn files(&self) -> Vec<PathBuf> {
        Corpus::files(&self.source)
    }

    fn text(&self) -> Option<Unit> {
        Some(self.unit)
    }

    fn open(&self, _seed: u64) -> Result<Box<dyn Dataset>> {
        Ok(Box::new(Columns::new(Corpus::open(&self.source, self.unit)?, self)))
    }

    fn open_with(&self, _seed: u64, _encoder: Option<(&ModelSpec, &Device)>) -> Result<TaskData> {
        let corpus = Corpus::open(&self.source, self.unit)?;
        let vocabulary = Some(Vocabulary::of_tokens(corpus.words.clone()));
        let dataset = Box::new(Columns::new(corpus, self));
        Ok(TaskData { dataset, vocabulary, images: 0, digests: BTreeMap::new() })
    }
}
