//! The choice of one token from one row of logits.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Limits;
use crate::error::{Error, Result};

pub(super) struct Allowed {
    /// Per token, whether it is excluded.
    never: Vec<bool>,
    /// The token that ends a sentence.
    pub(super) end: u32,
}

impl Allowed {
    /// All tokens of a vocabulary of this size but `never`, and none that ends a text.
    pub(super) fn endless(vocabulary: usize, never: &[u32]) -> Allowed {
        let never = (0..vocabulary as u32).map(|id| never.contains(&id)).collect();
        Allowed { never, end: u32::MAX }
    }

    /// The tokens of a vocabulary of this size that the limits allow.
    pub(super) fn new(vocabulary: usize, limits: &Limits) -> Result<Allowed> {
        let known = |id: u32, what: &str| match (id as usize) < vocabulary {
            true => Ok(id as usize),
            false => Err(Error::Usage(format!(
                "the {what} is token {id}, and the network has {vocabulary}: it was trained with another vocabulary"
            ))),
        };
        known(limits.start, "start of a sentence")?;
        known(limits.end, "end of a sentence")?;
        let mut never = vec![false; vocabulary];
        for &id in &limits.never {
            never[known(id, "token that is never chosen")?] = true;
        }
        if never.iter().all(|never| *never) {
            return Err(Error::Usage("no token is left that could be chosen".into()));
        }
        if limits.steps == 0 {
            return Err(Error::Usage("sentences of at most 0 tokens; choose 1 or more".into()));
        }
        Ok(Allowed { never, end: limits.end })
    }
}

/// The logits of one sentence's next token.
pub(super) struct Row<'a> {
    logits: &'a [f32],
    allowed: &'a Allowed,
    /// Log-sum-exp of the logits.
    total: f64,
}

impl<'a> Row<'a> {
    pub(super) fn new(logits: &'a [f32], row: u32, allowed: &'a Allowed) -> Result<Row<'a>> {
        let logits = &logits[row as usize * allowed.never.len()..][..allowed.never.len()];
        let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let total = largest + logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum::<f64>().ln();
        match total.is_finite() {
            true => Ok(Row { logits, allowed, total }),
            false => Err(not_finite()),
        }
    }

    pub(super) fn log_probability(&self, id: u32) -> f64 {
        f64::from(self.logits[id as usize]) - self.total
    }

    /// The `count` likeliest tokens that may be chosen, in descending order; ties go to the lower id.
    pub(super) fn likeliest(&self, count: usize) -> Vec<u32> {
        if count > self.logits.len() / 8 {
            let mut ids: Vec<u32> =
                (0..).zip(&self.allowed.never).filter(|(_, never)| !**never).map(|(id, _)| id).collect();
            ids.sort_unstable_by_key(|&id| Reverse(Candidate { logit: self.logits[id as usize], id }));
            ids.truncate(count);
            return ids;
        }
        let mut kept: BinaryHeap<Reverse<Candidate>> = BinaryHeap::new();
        let mut worst = f32::NEG_INFINITY;
        for ((&logit, &never), id) in self.logits.iter().zip(&self.allowed.never).zip(0..) {
            // Ids ascend, so on ties the earlier token stays.
            if never || kept.len() >= count && logit <= worst {
                continue;
            }
            if kept.len() >= count {
                kept.pop();
            }
            kept.push(Reverse(Candidate { logit, id }));
            worst = kept.peek().map_or(worst, |Reverse(last)| last.logit);
        }
        kept.into_sorted_vec().into_iter().map(|Reverse(candidate)| candidate.id).collect()
    }

    /// The token at `share`, in 0..1, of the cumulative probability of the allowed tokens. See [`super::Strategy::Sample`].
    pub(super) fn drawn(&self, temperature: f64, top_p: f64, share: f64) -> Result<u32> {
        let may = || self.logits.iter().zip(&self.allowed.never).map(|(logit, never)| (f64::from(*logit), *never));
        let largest =
            may().filter(|(_, never)| !never).fold(f64::NEG_INFINITY, |largest, (logit, _)| largest.max(logit));
        let weight = |logit: f64| ((logit - largest) / temperature).exp();
        let weights: Vec<f64> = may().map(|(logit, never)| if never { 0.0 } else { weight(logit) }).collect();
        let total: f64 = weights.iter().sum();
        if !total.is_finite() {
            return Err(not_finite());
        }
        let ids = if top_p < 1.0 { self.nucleus(&weights, top_p * total) } else { (0..weights.len() as u32).collect() };
        let kept: f64 = ids.iter().map(|&id| weights[id as usize]).sum();
        let mut left = share * kept;
        let mut last = self.allowed.end;
        for id in ids.into_iter().filter(|&id| weights[id as usize] > 0.0) {
            last = id;
            left -= weights[id as usize];
            if left < 0.0 {
                break;
            }
        }
        // Rounding may leave a remainder after the last one.
        Ok(last)
    }

    /// The fewest tokens whose weights reach `enough`, the likeliest first.
    fn nucleus(&self, weights: &[f64], enough: f64) -> Vec<u32> {
        let mut count = 64;
        loop {
            let mut ids = self.likeliest(count);
            let mut sum = 0.0;
            let reached = ids.iter().position(|&id| {
                sum += weights[id as usize];
                sum >= enough
            });
            if let Some(last) = reached {
                ids.truncate(last + 1);
            }
            if reached.is_some() || count >= weights.len() {
                return ids;
            }
            // A few tokens nearly always suffice; otherwise many are needed.
            count = weights.len();
        }
    }
}

fn not_finite() -> Error {
    Error::Training("the network's outputs are not finite: its weights are damaged, or training diverged".into())
}

/// A token, ordered by likelihood; on ties the lower id is greater.
struct Candidate {
    logit: f32,
    id: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.logit.partial_cmp(&other.logit).unwrap_or(Ordering::Equal).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(vocabulary: usize, never: &[u32]) -> Allowed {
        let limits = Limits { start: 0, end: 0, never: never.to_vec(), steps: 1 };
        Allowed::new(vocabulary, &limits).expect("possible limits")
    }

    proptest! {
        #[test]
        fn the_likeliest_are_the_first_of_all_sorted(
            steps in prop::collection::vec(-3i32..4, 1..200), count in 1usize..250, never in prop::collection::vec(0u32..200, 0..20),
        ) {
            let logits: Vec<f32> = steps.iter().map(|&step| step as f32).collect();
            let never: Vec<u32> = never.into_iter().filter(|&id| id > 0 && (id as usize) < logits.len()).collect();
            let allowed = allowed(logits.len(), &never);
            let row = Row::new(&logits, 0, &allowed).expect("numbers");
            let mut all: Vec<u32> = (0..logits.len() as u32).filter(|id| !never.contains(id)).collect();
            all.sort_by_key(|&id| (-steps[id as usize], id));
            all.truncate(count);
            prop_assert_eq!(row.likeliest(count), all);
        }
    }

    #[test]
    fn draws_follow_the_probabilities_that_are_left() -> Result<()> {
        let logits: Vec<f32> = [0.5f32, 0.2, 0.1, 0.15, 0.05].iter().map(|p| p.ln() + 3.0).collect();
        // Without the second token 0.8 is left; 0.85 of that is first reached by the first, the fourth and the third.
        let allowed = allowed(5, &[1]);
        let row = Row::new(&logits, 0, &allowed)?;
        assert!((row.log_probability(1) - 0.2f64.ln()).abs() < 1e-6, "over all tokens");
        for (temperature, top_p, expected) in [
            (1.0, 1.0, [0.5 / 0.8, 0.0, 0.1 / 0.8, 0.15 / 0.8, 0.05 / 0.8]),
            (1.0, 0.85, [0.5 / 0.75, 0.0, 0.1 / 0.75, 0.15 / 0.75, 0.0]),
            (0.5, 1.0, [0.25 / 0.285, 0.0, 0.01 / 0.285, 0.0225 / 0.285, 0.0025 / 0.285]),
            (1.0, 1e-9, [1.0, 0.0, 0.0, 0.0, 0.0]),
            (1e-300, 1.0, [1.0, 0.0, 0.0, 0.0, 0.0]),
        ] {
            let mut counts = [0f64; 5];
            for at in 0..10_000 {
                counts[row.drawn(temperature, top_p, (f64::from(at) + 0.5) / 1e4)? as usize] += 1e-4;
            }
            for (count, expected) in counts.iter().zip(expected) {
                assert!((count - expected).abs() < 2e-4, "{temperature} {top_p}: {counts:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_nucleus_may_be_as_large_as_the_vocabulary() -> Result<()> {
        let logits = vec![1.0; 1000];
        let allowed = allowed(1000, &[3]);
        let row = Row::new(&logits, 0, &allowed)?;
        assert_eq!(row.nucleus(&vec![1.0; 1000], 100.0).len(), 100);
        assert_eq!(row.drawn(1.0, 0.5, 0.9999)?, 500, "the third is not one of them");
        assert_eq!(row.drawn(1.0, 0.999_999, 0.9999)?, 999);
        Ok(())
    }

    #[test]
    fn non_finite_logits_are_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            let allowed = allowed(3, &[]);
            let error = Row::new(&[0.0, bad, 1.0], 0, &allowed).err().expect("an error").to_string();
            assert!(error.contains("not finite"), "{error}");
        }
    }
}
