//! Passes over the rows of a matrix, `[rows, width]`; the compiler vectorises them for the instructions of the processor.

use pulp::Arch;

/// `y = max(y + bias, 0)` per row.
pub fn bias_relu(arch: Arch, y: &mut [f32], bias: &[f32]) {
    arch.dispatch(
        #[inline(always)]
        || {
            for row in y.chunks_exact_mut(bias.len()) {
                for (y, b) in row.iter_mut().zip(bias) {
                    let sum = *y + b;
                    // Not the maximum, which may turn NaN into 0.
                    *y = if sum > 0.0 { sum } else { sum * 0.0 };
                }
            }
        },
    );
}

/// `y += bias` per row.
pub fn add_bias(arch: Arch, y: &mut [f32], bias: &[f32]) {
    arch.dispatch(
        #[inline(always)]
        || {
            for row in y.chunks_exact_mut(bias.len()) {
                for (y, b) in row.iter_mut().zip(bias) {
                    *y += b;
                }
            }
        },
    );
}

/// The backward pass of a rectifier with output `h`, in place.
pub fn relu_backward(arch: Arch, gradient: &mut [f32], h: &[f32]) {
    arch.dispatch(
        #[inline(always)]
        || {
            for (g, h) in gradient.iter_mut().zip(h) {
                *g *= if *h > 0.0 { 1.0 } else { 0.0 };
            }
        },
    );
}

/// The sum of the rows of `x`, added to `sums` (`[width]`) or, without `add`, replacing it.
pub fn sum_rows(arch: Arch, sums: &mut [f32], x: &[f32], add: bool) {
    if !add {
        sums.fill(0.0);
    }
    arch.dispatch(
        #[inline(always)]
        || {
            for row in x.chunks_exact(sums.len()) {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += x;
                }
            }
        },
    );
}

/// Multiplies each row by its factor, cycling through `factors`.
pub fn scale_rows(arch: Arch, x: &mut [f32], width: usize, factors: &[f32]) {
    arch.dispatch(
        #[inline(always)]
        || {
            for (row, factor) in x.chunks_exact_mut(width).zip(factors.iter().cycle()) {
                for x in row {
                    *x *= factor;
                }
            }
        },
    );
}

/// `y ·= x`, element by element.
pub fn multiply(arch: Arch, y: &mut [f32], x: &[f32]) {
    arch.dispatch(
        #[inline(always)]
        || {
            for (y, x) in y.iter_mut().zip(x) {
                *y *= x;
            }
        },
    );
}

/// Copies rows of `width` values between matrices with row strides `from_stride` and `to_stride`.
pub fn copy_rows(to: &mut [f32], to_stride: usize, from: &[f32], from_stride: usize, width: usize) {
    for (to, from) in to.chunks_mut(to_stride).zip(from.chunks(from_stride)) {
        to[..width].copy_from_slice(&from[..width]);
    }
}

/// The sum of squares: short runs in f32, their sums in f64.
pub fn sum_of_squares(arch: Arch, x: &[f32]) -> f64 {
    const LANES: usize = 32;
    arch.dispatch(
        #[inline(always)]
        || {
            let mut total = 0.0;
            for run in x.chunks(64 * LANES) {
                let mut sums = [0f32; LANES];
                let mut chunks = run.chunks_exact(LANES);
                for chunk in &mut chunks {
                    for (sum, x) in sums.iter_mut().zip(chunk) {
                        *sum += x * x;
                    }
                }
                for (sum, x) in sums.iter_mut().zip(chunks.remainder()) {
                    *sum += x * x;
                }
                total += sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
            }
            total
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_biased_rectified_and_summed() {
        let arch = Arch::new();
        let mut y = [1.0, -2.0, f32::NAN, 0.5];
        bias_relu(arch, &mut y, &[-0.5, 1.0]);
        assert!(y[..2] == [0.5, 0.0] && y[2].is_nan() && y[3] == 1.5);
        let mut gradient = [2.0, 3.0, 4.0, 5.0];
        relu_backward(arch, &mut gradient, &[0.5, 0.0, 0.0, 1.5]);
        assert_eq!(gradient, [2.0, 0.0, 0.0, 5.0]);
        let mut sums = [1.0, 1.0];
        sum_rows(arch, &mut sums, &gradient, true);
        assert_eq!(sums, [3.0, 6.0]);
        sum_rows(arch, &mut sums, &gradient, false);
        assert_eq!(sums, [2.0, 5.0]);
        let mut x = [1.0; 6];
        scale_rows(arch, &mut x, 1, &[1.0, 2.0, 3.0]);
        assert_eq!(x, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn squares_sum_up() {
        let x: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.37).sin()).collect();
        let exact: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        assert!((sum_of_squares(Arch::new(), &x) / exact - 1.0).abs() < 1e-6);
        assert!(sum_of_squares(Arch::new(), &[1.0, f32::INFINITY]).is_infinite());
        assert!(sum_of_squares(Arch::new(), &[1.0, f32::NAN]).is_nan());
    }
}
