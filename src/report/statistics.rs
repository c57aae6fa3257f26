//! Statistics over seeds.

use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::erf::erfc;

use crate::rng::Stream;

/// The median; NaN without values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Two-sided p of the exact Mann-Whitney test of the hypothesis that two samples have the same distribution. Ties count as
/// half a pair, so that the test is approximate with many ties.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let halves: usize = a.iter().flat_map(|x| b.iter().map(move |y| usize::from(y < x) + usize::from(y <= x))).sum();
    let pairs = a.len() * b.len();
    let u = (halves / 2).min(pairs - halves.div_ceil(2));
    let ways = orders(a.len(), b.len());
    let all: f64 = ways.iter().sum();
    (2.0 * ways[..=u].iter().sum::<f64>() / all).min(1.0)
}

/// For each `u` in `0..=n·m`, the number of orders of `n` values of one sample and `m` of another with `u` pairs in which
/// the second is below the first.
fn orders(n: usize, m: usize) -> Vec<f64> {
    // For the first `j` of the second sample: the largest value belongs to the first sample (and exceeds all `j`) or to the
    // second.
    let mut by_first: Vec<Vec<f64>> = vec![vec![1.0]; n + 1];
    for j in 1..=m {
        let mut next = vec![vec![1.0]];
        for i in 1..=n {
            let mut ways = vec![0.0; i * j + 1];
            for (u, count) in by_first[i].iter().enumerate() {
                ways[u] += count;
            }
            for (u, count) in next[i - 1].iter().enumerate() {
                ways[u + j] += count;
            }
            next.push(ways);
        }
        by_first = next;
    }
    by_first.swap_remove(n)
}

/// The mean; NaN without values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard error of the mean; NaN with less than two values.
pub fn standard_error(values: &[f64]) -> f64 {
    let (n, mean) = (values.len() as f64, mean(values));
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt()
}

/// Number of bootstrap samples.
const RESAMPLES: usize = 10_000;

/// 95 % bootstrap percentile interval of the mean, deterministic for given values. NaN without values.
pub fn bootstrap(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let mut stream = Stream::new(0, "report.bootstrap", 0, 0);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| (0..values.len()).map(|_| values[stream.below(values.len())]).sum::<f64>() / values.len() as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[(share * (RESAMPLES - 1) as f64).round() as usize];
    (at(0.025), at(0.975))
}

/// Greatest number of pairs for which the signed-rank test is exact.
const EXACT: usize = 200;

/// Two-sided p of Wilcoxon's signed-rank test of paired differences. Zero differences are left out; ties share their ranks.
/// Exact for up to 200 pairs, the normal approximation beyond; 1 if no difference is left.
pub fn signed_rank(differences: &[f64]) -> f64 {
    let mut nonzero: Vec<f64> = differences.iter().copied().filter(|difference| *difference != 0.0).collect();
    nonzero.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Ranks are doubled, so that shared ones are integers.
    let mut ranks: Vec<usize> = Vec::with_capacity(nonzero.len());
    for tied in nonzero.chunk_by(|a, b| a.abs() == b.abs()) {
        let first = ranks.len() + 1;
        ranks.extend(std::iter::repeat_n(2 * first + tied.len() - 1, tied.len()));
    }
    let all: usize = ranks.iter().sum();
    let positive: usize =
        nonzero.iter().zip(&ranks).filter(|(difference, _)| **difference > 0.0).map(|(_, rank)| rank).sum();
    let smaller = positive.min(all - positive);
    if nonzero.len() > EXACT { by_normal(&ranks, smaller) } else { by_all_signs(&ranks, smaller) }
}

/// Two-sided p of the smaller sum of (doubled) ranks over all sign assignments.
fn by_all_signs(ranks: &[usize], smaller: usize) -> f64 {
    // Share of sign assignments that give each sum of positive ranks.
    let mut shares = vec![1.0];
    for &rank in ranks {
        shares.resize(shares.len() + rank, 0.0);
        for sum in (0..shares.len()).rev() {
            shares[sum] = 0.5 * (shares[sum] + if sum >= rank { shares[sum - rank] } else { 0.0 });
        }
    }
    (2.0 * shares[..=smaller].iter().sum::<f64>()).min(1.0)
}

/// Two-sided p of Student's paired t-test of differences; 1 without at least two, or if all are zero.
pub fn paired_t(differences: &[f64]) -> f64 {
    let (mean, error) = (mean(differences), standard_error(differences));
    if differences.len() < 2 || mean == 0.0 {
        return 1.0;
    }
    // Equal differences have no error, and t no bound.
    let t = (mean / error).abs();
    match StudentsT::new(0.0, 1.0, (differences.len() - 1) as f64) {
        Ok(distribution) if t.is_finite() => (2.0 * distribution.sf(t)).min(1.0),
        _ if t.is_nan() => f64::NAN,
        _ => 0.0,
    }
}

/// Values of p corrected for their number by Holm's step-down procedure (Scand. J. Statist. 6:65, 1979), in the same order.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut corrected, mut largest) = (p.to_vec(), 0.0f64);
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max((p.len() - rank) as f64 * p[index]).min(1.0);
        corrected[index] = if p[index].is_nan() { f64::NAN } else { largest };
    }
    corrected
}

/// The normal approximation of [`by_all_signs`].
fn by_normal(ranks: &[usize], smaller: usize) -> f64 {
    let deviation = ranks.iter().map(|rank| (*rank as f64).powi(2) / 4.0).sum::<f64>().sqrt();
    let z = (ranks.iter().sum::<usize>() as f64 / 2.0 - smaller as f64) / deviation;
    erfc(z.abs() / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn means_have_errors_and_an_interval_that_holds_them() {
        assert_eq!((mean(&[1.0, 3.0]), standard_error(&[1.0, 3.0])), (2.0, 1.0));
        assert!(mean(&[]).is_nan() && standard_error(&[1.0]).is_nan() && bootstrap(&[]).0.is_nan());
        let values: Vec<f64> = (0..40).map(|i| f64::from(i % 7)).collect();
        let (low, high) = bootstrap(&values);
        let (mean, error) = (mean(&values), standard_error(&values));
        // For many values the interval approaches that of a normal distribution.
        assert!((mean - low - 1.96 * error).abs() < 0.1 * error && (high - mean - 1.96 * error).abs() < 0.1 * error);
        assert_eq!(bootstrap(&values), (low, high));
        assert_eq!(bootstrap(&[2.5]), (2.5, 2.5));
    }

    #[test]
    fn signed_ranks_agree_with_tables() {
        // All of one sign: 2 of 2^n.
        assert!((signed_rank(&[1.0, 2.0, 3.0, 4.0, 5.0]) - 2.0 / 32.0).abs() < 1e-12);
        // n = 10: a sum of 8 is significant at 5 %, 9 is not.
        let with = |negative: &[f64]| -> Vec<f64> {
            (1..=10).map(f64::from).map(|rank| if negative.contains(&rank) { -rank } else { rank }).collect()
        };
        assert!(signed_rank(&with(&[8.0])) < 0.05 && signed_rank(&with(&[9.0])) > 0.05);
        assert_eq!(signed_rank(&[0.0, 0.0]), 1.0);
        assert_eq!(signed_rank(&[1.0, -1.0]), 1.0);
        // The normal distribution takes over smoothly.
        let ranks: Vec<usize> = (1..=100).map(|rank| 2 * rank).collect();
        for smaller in [3600, 3800, 4400] {
            let (exact, normal) = (by_all_signs(&ranks, smaller), by_normal(&ranks, smaller));
            assert!((exact / normal - 1.0).abs() < 0.05, "{smaller}: {exact} {normal}");
        }
    }

    #[test]
    fn paired_t_tests_agree_with_tables() {
        // Differences 1 to n: mean (n + 1)/2 and a known deviation. The 5 % and 1 % quantiles of t with 4 degrees of freedom.
        let with = |t: f64| {
            let spread = [-1.0, -0.5, 0.0, 0.5, 1.0];
            let error = standard_error(&spread);
            spread.map(|x| x + t * error)
        };
        assert!((paired_t(&with(2.776_445)) - 0.05).abs() < 1e-6 && (paired_t(&with(-4.604_095)) - 0.01).abs() < 1e-6);
        assert_eq!((paired_t(&[0.0, 0.0]), paired_t(&[2.0]), paired_t(&[1.0, -1.0])), (1.0, 1.0, 1.0));
        assert_eq!(paired_t(&[2.0, 2.0, 2.0]), 0.0);
        assert!(paired_t(&[2.0, f64::NAN]).is_nan());
    }

    #[test]
    fn holm_multiplies_the_smallest_most_and_keeps_the_order() {
        let close = |a: Vec<f64>, b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(holm(&[0.01, 0.04, 0.03]), &[0.03, 0.06, 0.06]));
        assert!(close(holm(&[0.5, 0.9]), &[1.0, 1.0]) && close(holm(&[0.02]), &[0.02]) && holm(&[]).is_empty());
        assert!(holm(&[f64::NAN, 0.01])[0].is_nan());
    }

    #[test]
    fn every_order_is_counted_once() {
        // 5 choose 2 and 20 choose 10.
        assert_eq!(orders(2, 3).iter().sum::<f64>(), 10.0);
        assert_eq!(orders(2, 3), [1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0]);
        assert_eq!(orders(10, 10).iter().sum::<f64>(), 184_756.0);
    }

    #[test]
    fn mann_whitney_agrees_with_tables() {
        // Complete separation of 3 and 3: 2 of 20 orders.
        assert!((mann_whitney(&[1., 2., 3.], &[4., 5., 6.]) - 0.1).abs() < 1e-12);
        // 10 and 10: U = 23 is the largest that is significant at 5 %.
        let p = |u: usize| 2.0 * orders(10, 10)[..=u].iter().sum::<f64>() / 184_756.0;
        assert!(p(23) < 0.05 && p(24) > 0.05);
        let a: Vec<f64> = (0..10).map(f64::from).collect();
        assert_eq!(mann_whitney(&a, &a), 1.0);
    }
}
