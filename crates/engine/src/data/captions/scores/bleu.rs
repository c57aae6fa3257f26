//! BLEU with the closest reference length.

use super::{Grams, Score, Scored, grams};

const ORDERS: usize = 4;
/// Added to matches and to the candidate's length, which keeps precisions positive.
const TINY: f64 = 1e-15;
/// Added to numbers of n-grams and to the reference's length, which avoids division by zero.
const SMALL: f64 = 1e-9;

/// Statistics of an image or of a whole set.
#[derive(Default, Clone, Copy)]
struct Sums {
    matches: [usize; ORDERS],
    grams: [usize; ORDERS],
    candidate: usize,
    reference: usize,
}

impl Sums {
    fn of(image: &Scored) -> Sums {
        let length = |text: &str| text.split_whitespace().count();
        let candidate = length(&image.candidate);
        let closest = image.references.iter().map(|reference| length(reference));
        let closest = closest.min_by_key(|&length| (length.abs_diff(candidate), length)).unwrap_or(0);
        let mut sums = Sums { candidate, reference: closest, ..Sums::default() };
        for n in 1..=ORDERS {
            let references: Vec<Grams> = image.references.iter().map(|reference| grams(reference, n)).collect();
            let most = |gram| references.iter().filter_map(|grams| grams.get(gram)).max().copied().unwrap_or(0);
            sums.grams[n - 1] = (candidate + 1).saturating_sub(n);
            sums.matches[n - 1] = grams(&image.candidate, n).iter().map(|(gram, &count)| count.min(most(gram))).sum();
        }
        sums
    }

    fn add(&mut self, other: &Sums) {
        for n in 0..ORDERS {
            self.matches[n] += other.matches[n];
            self.grams[n] += other.grams[n];
        }
        self.candidate += other.candidate;
        self.reference += other.reference;
    }

    /// BLEU-1 to BLEU-4.
    fn scores(&self) -> [f64; ORDERS] {
        let ratio = (self.candidate as f64 + TINY) / (self.reference as f64 + SMALL);
        let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let mut product = 1.0;
        std::array::from_fn(|n| {
            product *= (self.matches[n] as f64 + TINY) / (self.grams[n] as f64 + SMALL);
            f64::powf(product, 1.0 / (n + 1) as f64) * brevity
        })
    }
}

pub(super) fn scores(images: &[Scored]) -> Vec<Score> {
    let each: Vec<Sums> = images.iter().map(Sums::of).collect();
    let mut whole = Sums::default();
    each.iter().for_each(|sums| whole.add(sums));
    let per_image: Vec<[f64; ORDERS]> = each.iter().map(Sums::scores).collect();
    // An empty set scores zero.
    let corpus = if images.is_empty() { [0.0; ORDERS] } else { whole.scores() };
    let names = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4"];
    let score = |(n, name)| Score { name, corpus: corpus[n], per_image: per_image.iter().map(|s| s[n]).collect() };
    names.into_iter().enumerate().map(score).collect()
}
