//! What a worker tells its parent: one line of JSON an event, on the worker's standard output.

use serde::{Deserialize, Serialize};

use super::claim::Holder;

/// One event of a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The unit is claimed and training goes on after this many whole epochs.
    Started {
        /// Epochs that a checkpoint had.
        epochs_done: usize,
    },
    /// Something that a person should know.
    Note {
        /// What.
        text: String,
    },
    /// A batch is done; not sent for every one.
    Batch {
        /// Epoch in progress, from 1.
        epoch: usize,
        /// Epochs asked for.
        epochs: usize,
        /// Batches of it that are done.
        batch: usize,
        /// Batches an epoch.
        batches: usize,
    },
    /// An epoch is done.
    Epoch {
        /// The epoch, from 1.
        epoch: usize,
        /// Epochs asked for.
        epochs: usize,
        /// Training loss and validation metrics by column name; what is no number is `null`.
        numbers: Vec<(String, Option<f64>)>,
        /// Wall clock.
        seconds: f64,
    },
    /// How it ended: the last event of every worker that ends in order.
    Ended(Ended),
}

/// How a unit ended, as far as this worker is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ended {
    /// Trained to the end by this worker.
    Done,
    /// Another process had trained it to the end.
    AlreadyDone,
    /// Somebody else holds it, or took it over.
    Held {
        /// Who.
        by: String,
    },
    /// Stopped as asked, after writing a checkpoint.
    Stopped,
    /// It failed.
    Failed {
        /// Why.
        reason: String,
        /// Whether another attempt, from the last good checkpoint, may come further.
        again: bool,
    },
}

impl Ended {
    /// Not trained here, since somebody else holds it.
    pub fn held(by: Option<Holder>) -> Self {
        Ended::Held { by: by.map_or_else(|| "another process".into(), |by| by.to_string()) }
    }
}

impl Event {
    /// The line, without its end.
    pub fn to_line(&self) -> String {
        // Strings, numbers and lists always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a line; `None` for anything that is no event.
    pub fn from_line(line: &str) -> Option<Self> {
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
            assert!(!event.to_line().contains('\n'));
            assert_eq!(Event::from_line(&event.to_line()), Some(event));
        }
        assert_eq!(Event::from_line("some library's greeting"), None);
    }
}
