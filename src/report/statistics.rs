//! Statistics over seeds.

/// The median; NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Two-sided p of the exact Mann-Whitney test that two samples are of one distribution. Ties count as half a pair, which
/// makes the test approximate where there are many.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let halves: usize = a.iter().flat_map(|x| b.iter().map(move |y| usize::from(y < x) + usize::from(y <= x))).sum();
    let pairs = a.len() * b.len();
    let u = (halves / 2).min(pairs - halves.div_ceil(2));
    let ways = orders(a.len(), b.len());
    let all: f64 = ways.iter().sum();
    (2.0 * ways[..=u].iter().sum::<f64>() / all).min(1.0)
}

/// In how many orders of `n` values of one sample and `m` of another `u` pairs have the second below the first, for each
/// `u` in `0..=n·m`.
fn orders(n: usize, m: usize) -> Vec<f64> {
    // With the first `j` of the second sample fixed: the largest value of all is of the first sample (and above all `j`), or
    // of the second.
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
