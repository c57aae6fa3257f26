//! CIDEr-D without stemming: clipped tf-idf-weighted n-grams with a Gaussian length penalty.

use std::collections::{BTreeMap, BTreeSet};

use super::{Grams, Score, Scored, grams, mean};

const ORDERS: usize = 4;
/// Standard deviation of the length penalty, in bigrams.
const SIGMA: f64 = 6.0;

/// The n-grams of a sentence, by order.
struct Sentence<'a>([Grams<'a>; ORDERS]);

impl<'a> Sentence<'a> {
    fn of(text: &'a str) -> Self {
        Sentence(std::array::from_fn(|n| grams(text, n + 1)))
    }

    /// The length used by the penalty: the number of bigrams.
    fn bigrams(&self) -> f64 {
        self.0[1].values().sum::<usize>() as f64
    }
}

/// Document frequencies: the number of images in whose references an n-gram occurs.
type Frequencies<'a> = BTreeMap<Vec<&'a str>, usize>;

pub(super) fn score(images: &[Scored]) -> Score {
    let references: Vec<Vec<Sentence>> =
        images.iter().map(|image| image.references.iter().map(|text| Sentence::of(text)).collect()).collect();
    let mut frequencies = Frequencies::new();
    for sentences in &references {
        let distinct: BTreeSet<&Vec<&str>> = sentences.iter().flat_map(|s| s.0.iter().flat_map(|g| g.keys())).collect();
        for gram in distinct {
            *frequencies.entry(gram.clone()).or_insert(0) += 1;
        }
    }
    let log_count = (images.len() as f64).ln();
    let weight = |gram: &Vec<&str>, count: usize| {
        let frequency = frequencies.get(gram).copied().unwrap_or(0).max(1) as f64;
        count as f64 * (log_count - frequency.ln())
    };
    let of = |(image, references): (&Scored, &Vec<Sentence>)| {
        let candidate = Sentence::of(&image.candidate);
        let similarities: Vec<f64> = references.iter().map(|other| similarity(&candidate, other, &weight)).collect();
        10.0 * mean(&similarities)
    };
    let per_image: Vec<f64> = images.iter().zip(&references).map(of).collect();
    Score { name: "CIDEr", corpus: mean(&per_image), per_image }
}

/// Mean of the clipped cosine similarities over all orders.
fn similarity(candidate: &Sentence, reference: &Sentence, weight: &dyn Fn(&Vec<&str>, usize) -> f64) -> f64 {
    let difference = candidate.bigrams() - reference.bigrams();
    let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
    let norm = |grams: &Grams| grams.iter().map(|(gram, &count)| weight(gram, count).powi(2)).sum::<f64>().sqrt();
    let cosines: Vec<f64> = candidate
        .0
        .iter()
        .zip(&reference.0)
        .map(|(ours, theirs)| {
            let shared = ours.iter().filter_map(|(gram, &count)| Some((gram, count, *theirs.get(gram)?)));
            let product: f64 = shared
                .map(|(gram, ours, theirs)| weight(gram, ours).min(weight(gram, theirs)) * weight(gram, theirs))
                .sum();
            let norms = norm(ours) * norm(theirs);
            penalty * if norms == 0.0 { product } else { product / norms }
        })
        .collect();
    mean(&cosines)
}
