//! Softmax cross-entropy and its gradient.

use pulp::{Arch, Simd, WithSimd};

use super::activation::exp_of_negative;

/// Replaces each row of logits, `[rows, width]`, by the gradient of its cross-entropy (softmax, minus 1 at the row's class)
/// and returns the cross-entropy of each row, in nats.
///
/// # Panics
/// If a class is not below `width`.
pub fn cross_entropy(arch: Arch, logits: &mut [f32], width: usize, classes: &[u32]) -> Vec<f32> {
    let row = |(row, &class): (&mut [f32], &u32)| arch.dispatch(Row { logits: row, class: class as usize });
    logits.chunks_exact_mut(width).zip(classes).map(row).collect()
}

struct Row<'a> {
    logits: &'a mut [f32],
    class: usize,
}

impl WithSimd for Row<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let at_class = self.logits[self.class];
        let (body, tail) = S::as_mut_simd_f32s(self.logits);
        let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
        for x in body.iter() {
            largest = simd.max_f32s(largest, *x);
        }
        let largest = tail.iter().fold(simd.reduce_max_f32s(largest), |a, b| a.max(*b));
        let shift = simd.splat_f32s(largest);
        let mut sum = simd.splat_f32s(0.0);
        for x in body.iter_mut() {
            *x = exp_of_negative(simd, simd.sub_f32s(*x, shift));
            sum = simd.add_f32s(sum, *x);
        }
        let mut total = simd.reduce_sum_f32s(sum);
        if !tail.is_empty() {
            let exp = exp_of_negative(simd, simd.sub_f32s(simd.partial_load_f32s(tail), shift));
            simd.partial_store_f32s(tail, exp);
            total += tail.iter().sum::<f32>();
        }
        let share = 1.0 / total;
        for x in self.logits.iter_mut() {
            *x *= share;
        }
        self.logits[self.class] -= 1.0;
        // In this order large logits do not cancel the digits of the logarithm.
        total.ln() + (largest - at_class)
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
            let mut gradient = logits.clone();
            let losses = cross_entropy(Arch::new(), &mut gradient, width, &classes);
            for (row, class) in classes.into_iter().enumerate() {
                let logits = &logits[row * width..][..width];
                let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
                let expected = total.ln() - f64::from(logits[class as usize]);
                assert!((f64::from(losses[row]) - expected).abs() < 1e-5, "width {width}: {} {expected}", losses[row]);
                for (at, &x) in logits.iter().enumerate() {
                    let expected = f64::from(x).exp() / total - f64::from(u8::from(at == class as usize));
                    assert!((f64::from(gradient[row * width + at]) - expected).abs() < 1e-6, "width {width}, {at}");
                }
            }
        }
    }

    #[test]
    fn a_small_loss_is_accurate_with_large_logits() {
        for offset in [0.0, 100.0, 1000.0] {
            let mut logits = [offset; 10];
            logits[3] += 9.0;
            let loss = f64::from(cross_entropy(Arch::new(), &mut logits, 10, &[3])[0]);
            let exact = (9.0 * (-9f64).exp()).ln_1p();
            assert!((loss / exact - 1.0).abs() < 1e-3, "{offset}: {loss}, not {exact}");
        }
    }

    #[test]
    fn nan_is_propagated() {
        for width in [3, 40] {
            let mut logits = vec![0.5; width];
            logits[width - 2] = f32::NAN;
            assert!(cross_entropy(Arch::new(), &mut logits, width, &[0])[0].is_nan(), "width {width}");
        }
    }
}
