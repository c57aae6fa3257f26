//! Events that a worker sends to its parent: one line of JSON per event on standard output.

use serde::{Deserialize, Serialize};

use super::claim::Holder;

/// One event of a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The unit is claimed; training continues after this many epochs.
    Started {
        /// Epochs in the checkpoint.
        epochs_done: usize,
    },
    /// A message for the user.
    Note {
        /// The message.
        text: String,
    },
    /// A batch is done; not sent for every batch.
    Batch {
        /// Epoch in progress, from 1.
        epoch: usize,
        /// Epochs requested.
        epochs: usize,
        /// Batches done in this epoch.
        batch: usize,
        /// Batches per epoch.
        batches: usize,
    },
    /// An epoch is done.
    Epoch {
        /// The epoch, from 1.
        epoch: usize,
        /// Epochs requested.
        epochs: usize,
        /// Training loss and validation metrics by column name; NaN is `null`.
        numbers: Vec<(String, Option<f64>)>,
        /// Wall-clock seconds.
        seconds: f64,
    },
    /// How the unit ended: the last event of every worker that exits normally.
    Ended(Ended),
}

/// How a unit ended for this worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ended {
    /// Trained to the end by this worker.
    Done,
    /// Already trained to the end by another process.
    AlreadyDone,
    /// Another process holds it or took it over.
    Held {
        /// The holder.
        by: String,
    },
    /// Stopped on request, after writing a checkpoint.
    Stopped,
    /// Failed.
    Failed {
        /// The reason.
        reason: String,
        /// Whether another attempt from the last valid checkpoint may succeed.
        again: bool,
    },
}

impl Ended {
    /// Not trained here: another process holds it.
    pub fn held(by: Option<Holder>) -> Self {
        Ended::Held { by: by.map_or_else(|| "another process".into(), |by| by.to_string()) }
    }
}

/// An event and the seed that it is about; without one, the worker's first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The seed.
    #[serde(default)]
    pub seed: Option<u64>,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    /// The event as one line of JSON, without the line feed.
    pub fn to_text(&self) -> String {
        // Serialising strings, numbers and lists cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses a line; `None` if it is not an event.
    pub fn from_text(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_pipe() {
        let numbers = vec![("train_loss".to_string(), Some(0.1)), ("cosine".to_string(), None)];
        for event in [
            Event::Started { epochs_done: 3 },
            Event::Note { text: "a\n\"note\"".into() },
            Event::Batch { epoch: 1, epochs: 2, batch: 3, batches: 4 },
            Event::Epoch { epoch: 1, epochs: 2, numbers, seconds: 0.5 },
            Event::Ended(Ended::Done),
            Event::Ended(Ended::Failed { reason: "NaN".into(), again: false }),
        ] {
            let line = Line { seed: Some(u64::MAX), event };
            assert!(!line.to_text().contains('\n'));
            assert_eq!(Line::from_text(&line.to_text()), Some(line));
        }
        assert_eq!(Line::from_text("some library's greeting"), None);
    }
}
