//! Sigmoid, tanh, rectifier and exponential, one register at a time.
//!
//! Sigmoid and tanh are within 2 units in the last place of the correctly rounded result (PyTorch's vectorised ones are
//! within 1), measured for every float from 2⁻¹¹ to 20, both signs, with AVX-512. Exponentials below e⁻⁸⁷ are clamped to it.
//! NaN is propagated, so that divergence is noticed.

use pulp::Simd;

/// `1 / (1 + e⁻ˣ)`
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let (p, scale) = exp_m1(simd, simd.neg_f32s(at_least(simd, at_most(simd, x, 87.0), -87.0)));
    let exp = simd.mul_add_e_f32s(scale, p, scale);
    simd.div_f32s(one, simd.add_f32s(one, exp))
}

/// `tanh x = m / (m + 2)` with `m = e²ˣ − 1`, computed on `|x|`, which avoids cancellation.
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // The result rounds to 1 from here on.
    let magnitude = at_most(simd, simd.abs_f32s(x), 9.5);
    let (p, scale) = exp_m1(simd, simd.add_f32s(magnitude, magnitude));
    let m = simd.mul_add_e_f32s(scale, p, simd.sub_f32s(scale, simd.splat_f32s(1.0)));
    let y = simd.div_f32s(m, simd.add_f32s(m, simd.splat_f32s(2.0)));
    simd.or_f32s(y, simd.and_f32s(x, simd.splat_f32s(-0.0)))
}

/// `max(x, 0)`; NaN for −∞, as in [`crate::nn::relu`].
#[inline(always)]
pub fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    // Not the maximum, which may turn NaN into 0.
    simd.select_f32s(simd.greater_than_f32s(x, zero), x, simd.mul_f32s(x, zero))
}

/// `eˣ` for `x ≤ 0`.
#[inline(always)]
pub fn exp_of_negative<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (p, scale) = exp_m1(simd, at_least(simd, x, -87.0));
    simd.mul_add_e_f32s(scale, p, scale)
}

/// `min(x, limit)`, NaN where `x` is.
#[inline(always)]
fn at_most<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let limit = simd.splat_f32s(limit);
    simd.select_f32s(simd.greater_than_f32s(x, limit), limit, x)
}

/// `max(x, limit)`, NaN where `x` is.
#[inline(always)]
fn at_least<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let limit = simd.splat_f32s(limit);
    simd.select_f32s(simd.less_than_f32s(x, limit), limit, x)
}

/// For `x` within -87..88: `(eʳ − 1, 2ⁿ)` with `x = n ln 2 + r` and `|r| ≤ ln 2 / 2`, so that `eˣ = 2ⁿ (eʳ − 1) + 2ⁿ`.
#[inline(always)]
fn exp_m1<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    // Adding 1.5 · 2²³ rounds to an integer in the lowest bits.
    let magic = simd.splat_f32s(12_582_912.0);
    let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), magic);
    let n = simd.sub_f32s(shifted, magic);
    // ln 2 in two parts, the first with few enough bits that its product with n is exact.
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(2.121_944_4e-4), r);
    // (eʳ − 1 − r) / r², fitted to minimise the relative error of eʳ − 1, which is far below a unit in the last place.
    let q = simd.mul_add_e_f32s(simd.splat_f32s(1.991_560_4e-4), r, simd.splat_f32s(1.394_201_5e-3));
    let q = simd.mul_add_e_f32s(q, r, simd.splat_f32s(8.333_27e-3));
    let q = simd.mul_add_e_f32s(q, r, simd.splat_f32s(4.166_634_4e-2));
    let q = simd.mul_add_e_f32s(q, r, simd.splat_f32s(1.666_666_7e-1));
    let q = simd.mul_add_e_f32s(q, r, simd.splat_f32s(0.5));
    let p = simd.mul_add_e_f32s(simd.mul_f32s(q, r), r, r);
    let biased = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    (p, simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(biased, simd.splat_u32s(23))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    #[derive(Clone, Copy)]
    enum Which {
        Sigmoid,
        Tanh,
        Relu,
    }

    struct Map<'a>(Which, &'a mut [f32]);

    impl WithSimd for Map<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for numbers in self.1.chunks_mut(S::F32_LANES) {
                let x = simd.partial_load_f32s(numbers);
                let y = match self.0 {
                    Which::Sigmoid => sigmoid(simd, x),
                    Which::Tanh => tanh(simd, x),
                    Which::Relu => relu(simd, x),
                };
                simd.partial_store_f32s(numbers, y);
            }
        }
    }

    fn map(which: Which, numbers: &[f32]) -> Vec<f32> {
        let mut mapped = numbers.to_vec();
        Arch::new().dispatch(Map(which, &mut mapped));
        mapped
    }

    /// Floats of both signs up to `largest`, evenly spaced in their bit patterns.
    fn numbers(largest: f32) -> Vec<f32> {
        (0..=largest.to_bits()).step_by(509).flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)]).collect()
    }

    /// The distance of two floats in units in the last place.
    fn steps(a: f32, b: f32) -> u32 {
        let ordered =
            |x: f32| if x.is_sign_negative() { -((x.to_bits() & 0x7fff_ffff) as i32) } else { x.to_bits() as i32 };
        ordered(a).abs_diff(ordered(b))
    }

    #[test]
    fn both_are_within_two_units_of_the_correctly_rounded_result() {
        // One unit more without fused multiply-add.
        let allowed = if cfg!(target_arch = "x86_64") && !std::arch::is_x86_feature_detected!("fma") { 3 } else { 2 };
        for (which, name, exact, largest) in [
            (Which::Sigmoid, "sigmoid", (|x: f64| 1.0 / (1.0 + (-x).exp())) as fn(f64) -> f64, 87.0),
            (Which::Tanh, "tanh", f64::tanh, 100.0),
        ] {
            let mut numbers = numbers(largest);
            // A shorter polynomial was 3 units off here.
            numbers.extend([0.060_342_338, -0.060_342_338]);
            let mapped = map(which, &numbers);
            let worst = numbers.iter().zip(mapped).map(|(&x, y)| (steps(exact(f64::from(x)) as f32, y), x, y));
            let worst = worst.max_by_key(|(off, ..)| *off);
            assert!(worst.is_some_and(|(off, ..)| off <= allowed), "{name}: (units, x, y) {worst:?}");
        }
    }

    #[test]
    fn limits_and_nan() {
        let ends = [f32::NEG_INFINITY, -1e30, 0.0, 1e30, f32::INFINITY];
        assert_eq!(map(Which::Tanh, &ends), [-1.0, -1.0, 0.0, 1.0, 1.0]);
        assert_eq!(map(Which::Relu, &ends)[1..], [0.0, 0.0, 1e30, f32::INFINITY]);
        let sigmoid = map(Which::Sigmoid, &ends);
        assert!(sigmoid[0] < 1e-37 && sigmoid[2] == 0.5 && sigmoid[4] == 1.0, "{sigmoid:?}");
        for which in [Which::Sigmoid, Which::Tanh, Which::Relu] {
            assert!(map(which, &[f32::NAN; 3]).iter().all(|y| y.is_nan()));
        }
    }
}
