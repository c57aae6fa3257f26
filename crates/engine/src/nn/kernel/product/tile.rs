//! A tile of a matrix product: a few rows by two vectors of columns, whose sums stay in registers.

use pulp::{Simd, WithSimd};

/// Rows of the tallest tile: with two vectors per row, as many sums as there are registers beside the factors.
pub const fn most_rows<S: Simd>() -> usize {
    match S::F32_LANES {
        // AVX2: 16 registers.
        8 => 6,
        // Scalars.
        1 => 4,
        // AVX-512 and NEON: 32 registers.
        _ => 12,
    }
}

/// Columns of the widest tile.
pub const fn width<S: Simd>() -> usize {
    2 * S::F32_LANES
}

/// What a tile is computed of. Element `(row, k)` of the left factor is at `row · a_strides.0 + k · a_strides.1`, row `k` of the right
/// factor at `k · b_stride`.
pub struct Tile<'a> {
    pub rows: usize,
    pub columns: usize,
    /// Terms per sum.
    pub depth: usize,
    pub a: &'a [f32],
    pub a_strides: (usize, usize),
    pub b: &'a [f32],
    pub b_stride: usize,
    pub out: &'a mut [f32],
    pub out_stride: usize,
    /// Whether the sums are added to what is there.
    pub add: bool,
}

impl Tile<'_> {
    /// Computes at most [`most_rows`] rows and [`width`] columns.
    #[inline(always)]
    pub fn run<S: Simd>(self, simd: S) {
        let is_wide = self.columns > S::F32_LANES;
        macro_rules! by_rows {
            ($($rows:literal)*) => {
                match (self.rows, is_wide) {
                    $(($rows, false) => simd.vectorize(Sums::<$rows, 1>(self)), ($rows, true) => simd.vectorize(Sums::<$rows, 2>(self)),)*
                    (rows, _) => unreachable!("{rows} rows in a tile"),
                }
            };
        }
        // The compiler knows which arm is taken.
        match most_rows::<S>() {
            4 => by_rows!(1 2 3 4),
            6 => by_rows!(1 2 3 4 5 6),
            _ => by_rows!(1 2 3 4 5 6 7 8 9 10 11 12),
        }
    }
}

/// A tile with `ROWS` rows of `VECTORS` vectors.
struct Sums<'a, const ROWS: usize, const VECTORS: usize>(Tile<'a>);

/// Does the same for every row, unrolled: in a loop, the compiler keeps the sums of so many rows in memory.
macro_rules! for_rows {
    ($row:ident => $body:block) => { for_rows!($row $body 0 1 2 3 4 5 6 7 8 9 10 11) };
    ($row:ident $body:block $($number:literal)*) => { $(
        if $number < ROWS {
            // A row that there is, so that the others compile.
            let $row = const { if $number < ROWS { $number } else { 0 } };
            $body
        }
    )* };
}

impl<const ROWS: usize, const VECTORS: usize> WithSimd for Sums<'_, ROWS, VECTORS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tile { columns, depth, a, a_strides, b, b_stride, out, out_stride, add, .. } = self.0;
        let lanes = S::F32_LANES;
        let last = const { VECTORS - 1 };
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        // Rows of the right factor from which all vectors can be read; what is read beyond its columns is not stored.
        let whole = match b.len().checked_sub(VECTORS * lanes) {
            Some(rest) => (rest / b_stride.max(1) + 1).min(depth),
            None => 0,
        };
        assert!(depth == 0 || (ROWS - 1) * a_strides.0 + (depth - 1) * a_strides.1 < a.len());
        // SAFETY: `a` is read at most at the place that is asserted, whose index does not overflow, since it is one of a matrix whose
        // constructor has compared its size with a slice. The vectors of row `k` of `b`, `k < whole`, end at
        // `k · b_stride + VECTORS · lanes ≤ b.len()`. A vector is made of `f32`, for which every bit pattern is valid.
        unsafe {
            for k in 0..whole {
                let (a, b) = (a.as_ptr().add(k * a_strides.1), b.as_ptr().add(k * b_stride));
                let first = b.cast::<S::f32s>().read_unaligned();
                let second = b.add(last * lanes).cast::<S::f32s>().read_unaligned();
                for_rows!(row => {
                    let a = simd.splat_f32s(*a.add(row * a_strides.0));
                    sums[row][0] = simd.mul_add_f32s(a, first, sums[row][0]);
                    if VECTORS > 1 {
                        sums[row][last] = simd.mul_add_f32s(a, second, sums[row][last]);
                    }
                });
            }
        }
        for k in whole..depth {
            let b = &b[k * b_stride..][..columns];
            let first = simd.partial_load_f32s(&b[..columns.min(lanes)]);
            let second = simd.partial_load_f32s(&b[columns.min(last * lanes)..]);
            for_rows!(row => {
                let a = simd.splat_f32s(a[row * a_strides.0 + k * a_strides.1]);
                sums[row][0] = simd.mul_add_f32s(a, first, sums[row][0]);
                if VECTORS > 1 {
                    sums[row][last] = simd.mul_add_f32s(a, second, sums[row][last]);
                }
            });
        }
        for_rows!(row => {
            let out = &mut out[row * out_stride..][..columns];
            store(simd, &mut out[..columns.min(lanes)], sums[row][0], add);
            if VECTORS > 1 {
                store(simd, &mut out[lanes..], sums[row][last], add);
            }
        });
    }
}

/// Stores, or adds, as many numbers as there is room for, at most one vector.
#[inline(always)]
fn store<S: Simd>(simd: S, out: &mut [f32], sums: S::f32s, add: bool) {
    let sums = if add { simd.add_f32s(simd.partial_load_f32s(out), sums) } else { sums };
    match S::as_mut_simd_f32s(out) {
        ([out], []) => *out = sums,
        (_, out) => simd.partial_store_f32s(out, sums),
    }
}
