//! A product of few rows with many weights, whose cost is reading the weights.

use pulp::{Arch, Simd, WithSimd};

/// `out = x · weightᵀ + bias` with `x` `[rows, inputs]` and `weight` `[outputs, inputs]`. A general product would first pack
/// all weights, which pays off from about ten rows on. A row's result does not depend on the other rows.
///
/// # Panics
/// If the shapes do not match.
pub fn few_rows(arch: Arch, out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]) {
    let outputs = bias.len();
    if outputs == 0 || out.is_empty() {
        return;
    }
    let (rows, inputs) = (out.len() / outputs, weight.len() / outputs);
    assert!(out.len() == rows * outputs && x.len() == rows * inputs && weight.len() == outputs * inputs);
    arch.dispatch(Few { out, x, weight, bias, inputs });
}

struct Few<'a> {
    out: &'a mut [f32],
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    inputs: usize,
}

impl WithSimd for Few<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (outputs, inputs) = (self.bias.len(), self.inputs);
        for (column, bias) in self.bias.iter().enumerate() {
            let weights = &self.weight[column * inputs..][..inputs];
            for (row, out) in self.out.chunks_exact_mut(outputs).enumerate() {
                out[column] = dot(simd, weights, &self.x[row * inputs..][..inputs]) + bias;
            }
        }
    }
}

/// The dot product, in four independent sums.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_tail), (b, b_tail)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (a_fours, b_fours) = (a.chunks_exact(4), b.chunks_exact(4));
    for (a, b) in a_fours.remainder().iter().zip(b_fours.remainder()) {
        sums[0] = simd.mul_add_f32s(*a, *b, sums[0]);
    }
    for (a, b) in a_fours.zip(b_fours) {
        sums[0] = simd.mul_add_f32s(a[0], b[0], sums[0]);
        sums[1] = simd.mul_add_f32s(a[1], b[1], sums[1]);
        sums[2] = simd.mul_add_f32s(a[2], b[2], sums[2]);
        sums[3] = simd.mul_add_f32s(a[3], b[3], sums[3]);
    }
    let pairs = [simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3])];
    let tail: f32 = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(simd.add_f32s(pairs[0], pairs[1])) + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_product_of_every_shape() {
        let numbers = |count: usize, by: f32| -> Vec<f32> { (0..count).map(|i| (i as f32 * by).sin()).collect() };
        for (rows, outputs, inputs) in
            [(0, 3, 4), (1, 1, 1), (1, 7, 0), (3, 5, 3), (2, 9, 16), (4, 3, 64), (5, 11, 257)]
        {
            let (x, weight, bias) =
                (numbers(rows * inputs, 0.7), numbers(outputs * inputs, 0.3), numbers(outputs, 0.9));
            let mut out = vec![9.0; rows * outputs];
            few_rows(Arch::new(), &mut out, &x, &weight, &bias);
            for row in 0..rows {
                for column in 0..outputs {
                    let products =
                        (0..inputs).map(|k| f64::from(x[row * inputs + k]) * f64::from(weight[column * inputs + k]));
                    let expected = products.sum::<f64>() + f64::from(bias[column]);
                    let given = f64::from(out[row * outputs + column]);
                    assert!((given - expected).abs() < 1e-5, "{rows} {outputs} {inputs}: {given} {expected}");
                }
            }
            let mut alone = vec![0.0; outputs];
            if rows > 0 {
                few_rows(Arch::new(), &mut alone, &x[..inputs], &weight, &bias);
                assert_eq!(alone, out[..outputs], "a row does not depend on the others");
            }
        }
    }
}
