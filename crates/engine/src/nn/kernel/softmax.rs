//! Softmax cross-entropy and its gradient.

use pulp::{Arch, Simd, WithSimd};

use super::activation::exp_of_negative;
use super::threads::{PASS, Threads, cut};

/// The cross-entropy of each row of logits, `[rows, width]`, in nats, and its gradient (softmax, minus 1 at the row's class), multiplied by
/// each of the row's factors.
///
/// # Panics
/// If a class is not below `width`, or there is not one per row.
pub fn cross_entropy(threads: Threads, logits: &[f32], classes: &[u32], factors: &[[f32; 2]]) -> (Vec<f32>, Vec<f32>) {
    let (rows, arch) = (classes.len(), Arch::new());
    let width = logits.len() / rows.max(1);
    assert!(logits.len() == rows * width && factors.len() == rows);
    let (mut losses, mut gradient) = (vec![0.0; rows], vec![0.0; logits.len()]);
    // A number takes an exponential and three passes.
    let parts = threads.parts(rows, logits.len() * 3 * PASS);
    let results = cut(&mut losses, 1, &parts).zip(cut(&mut gradient, width, &parts));
    threads.each(parts.iter().zip(results), |(part, (losses, gradient))| {
        for ((row, loss), gradient) in part.clone().zip(losses).zip(gradient.chunks_exact_mut(width)) {
            let (logits, class) = (&logits[row * width..][..width], classes[row] as usize);
            *loss = arch.dispatch(Row { logits, gradient, class, factors: factors[row] });
        }
    });
    (losses, gradient)
}

struct Row<'a> {
    logits: &'a [f32],
    gradient: &'a mut [f32],
    class: usize,
    factors: [f32; 2],
}

impl WithSimd for Row<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let Row { logits, gradient, class, factors: [first, second] } = self;
        let (body, tail) = S::as_simd_f32s(logits);
        let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
        for x in body {
            largest = simd.max_f32s(largest, *x);
        }
        let largest = tail.iter().fold(simd.reduce_max_f32s(largest), |a, b| a.max(*b));
        let shift = simd.splat_f32s(largest);
        let mut sum = simd.splat_f32s(0.0);
        let (to_body, to_tail) = S::as_mut_simd_f32s(gradient);
        for (to, x) in to_body.iter_mut().zip(body) {
            *to = exp_of_negative(simd, simd.sub_f32s(*x, shift));
            sum = simd.add_f32s(sum, *to);
        }
        let mut total = simd.reduce_sum_f32s(sum);
        if !tail.is_empty() {
            let exp = exp_of_negative(simd, simd.sub_f32s(simd.partial_load_f32s(tail), shift));
            simd.partial_store_f32s(to_tail, exp);
            total += to_tail.iter().sum::<f32>();
        }
        let share = 1.0 / total;
        // Adding zero, as tensors do, makes a negative zero positive.
        let finished = |x: f32| (x * first + 0.0) * second;
        let at_class = gradient[class] * share - 1.0;
        for x in gradient.iter_mut() {
            *x = finished(*x * share);
        }
        gradient[class] = finished(at_class);
        // In this order large logits do not cancel the digits of the logarithm.
        total.ln() + (largest - logits[class])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_cross_entropy_and_its_gradient() {
        for width in [1, 3, 10, 16, 50, 1000] {
            let logits: Vec<f32> = (0..3 * width).map(|i| (i as f32 * 0.7).sin() * 20.0).collect();
            let classes = [0, width as u32 / 2, width as u32 - 1];
            let factors = [[1.0, 1.0], [0.5, 1.0], [0.25, 3.0]];
            let (losses, gradient) = cross_entropy(Threads(1), &logits, &classes, &factors);
            for (row, class) in classes.into_iter().enumerate() {
                let logits = &logits[row * width..][..width];
                let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
                let expected = total.ln() - f64::from(logits[class as usize]);
                assert!((f64::from(losses[row]) - expected).abs() < 1e-5, "width {width}: {} {expected}", losses[row]);
                for (at, &x) in logits.iter().enumerate() {
                    let factor = f64::from(factors[row][0] * factors[row][1]);
                    let expected = factor * (f64::from(x).exp() / total - f64::from(u8::from(at == class as usize)));
                    assert!((f64::from(gradient[row * width + at]) - expected).abs() < 1e-6, "width {width}, {at}");
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let (rows, width) = (64, 2000);
        let logits: Vec<f32> = (0..rows * width).map(|i| (i as f32 * 0.7).sin() * 9.0).collect();
        let classes: Vec<u32> = (0..rows as u32).collect();
        let [one, three] =
            [1, 3].map(|count| cross_entropy(Threads(count), &logits, &classes, &vec![[0.1, 0.3]; rows]));
        assert!(one == three);
    }

    #[test]
    fn a_small_loss_is_accurate_with_large_logits() {
        for offset in [0.0, 100.0, 1000.0] {
            let mut logits = vec![offset; 10];
            logits[3] += 9.0;
            let loss = f64::from(cross_entropy(Threads(1), &logits, &[3], &[[1.0; 2]]).0[0]);
            let exact = (9.0 * (-9f64).exp()).ln_1p();
            assert!((loss / exact - 1.0).abs() < 1e-3, "{offset}: {loss}, not {exact}");
        }
    }

    #[test]
    fn nan_is_propagated() {
        for width in [3, 40] {
            let mut logits = vec![0.5; width];
            logits[width - 2] = f32::NAN;
            assert!(cross_entropy(Threads(1), &logits, &[0], &[[1.0; 2]]).0[0].is_nan(), "width {width}");
        }
    }
}
