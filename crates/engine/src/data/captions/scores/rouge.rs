//! ROUGE-L: the longest common subsequence.

use super::{Score, Scored, mean};

/// Weight of recall relative to precision.
const BETA: f64 = 1.2;

pub(super) fn score(images: &[Scored]) -> Score {
    let per_image: Vec<f64> = images.iter().map(of).collect();
    Score { name: "ROUGE_L", corpus: mean(&per_image), per_image }
}

fn of(image: &Scored) -> f64 {
    // Split at single spaces: an empty text is one empty word, as in the COCO tools.
    let candidate: Vec<&str> = image.candidate.split(' ').collect();
    let (mut precision, mut recall) = (0f64, 0f64);
    for reference in &image.references {
        let reference: Vec<&str> = reference.split(' ').collect();
        let common = longest_common_subsequence(&candidate, &reference) as f64;
        precision = precision.max(common / candidate.len() as f64);
        recall = recall.max(common / reference.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
}

fn longest_common_subsequence(a: &[&str], b: &[&str]) -> usize {
    // One row of the table; `row[j]` is the length for the first j words of b.
    let mut row = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if word == other { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}
