//! Beam search: the sentences of one image, one step at a time.

use std::cmp::Ordering;

use super::choose::{Allowed, Row};
use super::{Path, Search};
use crate::error::Result;

/// A sentence extended by one token.
struct Extension {
    parent: usize,
    id: u32,
    log_probability: f64,
    /// The log-probability of the whole sentence.
    sum: f64,
}

impl Search {
    /// Extends the sentences by one token and keeps the best.
    pub(super) fn advance_beam(&mut self, logits: &[f32], allowed: &Allowed, width: usize) -> Result<()> {
        let before = std::mem::take(&mut self.live);
        for (rank, extension) in extensions(&before, logits, allowed, width)?.into_iter().enumerate() {
            // An end token further down would be taken for lack of alternatives, not for its probability.
            let wanted = if extension.id == allowed.end { rank < width } else { self.live.len() < width };
            if wanted {
                let path = before[extension.parent].with(extension.id, extension.log_probability, allowed.end);
                if path.decoded.ended { &mut self.finished } else { &mut self.live }.push(path);
            }
        }
        keep_best(&mut self.finished, width);
        // All unfinished sentences have the same length, so the first has the highest score.
        if let (Some(last), Some(first)) = (self.finished.get(width - 1), self.live.first())
            && first.score() <= last.score()
        {
            self.live.clear();
        }
        Ok(())
    }
}

/// Extensions of the sentences, the likeliest first, with at least `width` per sentence that do not end it. Ties go to the
/// lower id, then to the likelier sentence.
fn extensions(paths: &[Path], logits: &[f32], allowed: &Allowed, width: usize) -> Result<Vec<Extension>> {
    let mut all = Vec::new();
    for (parent, path) in paths.iter().enumerate() {
        let row = Row::new(logits, path.row, allowed)?;
        all.extend(row.likeliest(width + 1).into_iter().map(|id| {
            let log_probability = row.log_probability(id);
            Extension { parent, id, log_probability, sum: path.sum + log_probability }
        }));
    }
    all.sort_by(|a, b| descending(a.sum, b.sum).then(a.id.cmp(&b.id)).then(a.parent.cmp(&b.parent)));
    Ok(all)
}

/// Keeps the `width` sentences with the best scores, the best first; ties go to the older sentence.
pub(super) fn keep_best(paths: &mut Vec<Path>, width: usize) {
    paths.sort_by(|a, b| descending(a.score(), b.score()));
    paths.truncate(width);
}

fn descending(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}
