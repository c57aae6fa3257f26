//! BLEU-1..4, ROUGE-L and CIDEr-D of captions against references, as computed by the COCO caption tools.
//!
//! All take tokenised text (see [`super::ptb`]). Sources: Papineni et al. 2002 (BLEU), Lin 2004 (ROUGE-L), Vedantam et al.
//! 2015 (CIDEr-D); the small constants are those of the COCO tools.

mod bleu;
mod cider;
mod rouge;

use std::collections::BTreeMap;

/// The caption of an image and its references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scored {
    /// The caption to score.
    pub candidate: String,
    /// Reference captions; at least one.
    pub references: Vec<String>,
}

/// One metric over a set of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// `Bleu_1` .. `Bleu_4`, `ROUGE_L`, `CIDEr`: the names of the COCO tools.
    pub name: &'static str,
    /// The score of the whole set.
    pub corpus: f64,
    /// The scores of the images, in order.
    pub per_image: Vec<f64>,
}

/// All metrics of a set of images. Document frequencies for CIDEr come from the set itself, so it is 0 for one image.
pub fn all(images: &[Scored]) -> Vec<Score> {
    let mut scores = bleu::scores(images);
    scores.push(rouge::score(images));
    scores.push(cider::score(images));
    scores
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Counts of n-grams, sorted, so that sums have a fixed order.
type Grams<'a> = BTreeMap<Vec<&'a str>, usize>;

/// The n-grams of a sentence split at white space.
fn grams(sentence: &str, n: usize) -> Grams<'_> {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let mut counts = Grams::new();
    for gram in words.windows(n) {
        *counts.entry(gram.to_vec()).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_like_a_reference_is_perfect_and_another_is_not() {
        let scored = |candidate: &str| Scored {
            candidate: candidate.into(),
            references: vec!["a red circle is above a blue square".into(), "the disc is red".into()],
        };
        let scores = all(&[scored("a red circle is above a blue square"), scored("nothing of that sort")]);
        for score in scores {
            assert!((score.per_image[0] - if score.name == "CIDEr" { 0.0 } else { 1.0 }).abs() < 1e-6, "{score:?}");
            assert!(score.per_image[1] < 1e-3, "{score:?}");
        }
        assert!(all(&[]).iter().all(|score| score.corpus == 0.0));
    }
}
