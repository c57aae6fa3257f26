//! Columns of the right factor of a product, copied so that a tile reads them one after the other.

use pulp::Simd;

use super::Matrix;
use super::tile::width;

/// Copies `rows` of columns `first..first + columns` of a matrix to a panel, `[rows, width]`; where there are fewer columns, what is beside them
/// is left as it was.
#[inline(always)]
pub fn pack<S: Simd>(to: &mut [f32], from: Matrix<'_>, rows: std::ops::Range<usize>, first: usize, columns: usize) {
    if from.column_stride == 1 {
        for (to, row) in to.chunks_exact_mut(width::<S>()).zip(rows) {
            to[..columns].copy_from_slice(&from.from(row, first)[..columns]);
        }
        return;
    }
    // Columns lie in the slice one after the other.
    let numbers = &from.numbers[first * from.column_stride + rows.start..];
    transpose(to, numbers, from.column_stride, rows.len(), columns, width::<S>());
}

/// `to[k · width + c] = from[c · stride + k]` for `k < depth`, `c < columns`.
#[inline(always)]
pub fn transpose(to: &mut [f32], from: &[f32], stride: usize, depth: usize, columns: usize, width: usize) {
    let (mut done, mut deep) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        (done, deep) = (columns / 8 * 8, depth / 8 * 8);
        simd.vectorize(x86::Transpose { simd, to, from, stride, depth: deep, columns: done, width });
    }
    for column in 0..columns {
        let from = &from[column * stride..][..depth];
        let begin = if column < done { deep } else { 0 };
        for (k, number) in from.iter().enumerate().skip(begin) {
            to[k * width + column] = *number;
        }
    }
}

/// Blocks of 8 by 8, with shuffles that the compiler does not find: five times as fast.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::__m256;
    use std::array::from_fn;

    use pulp::x86::V3;
    use pulp::{NullaryFnOnce, cast};

    pub struct Transpose<'a> {
        pub simd: V3,
        pub to: &'a mut [f32],
        pub from: &'a [f32],
        pub stride: usize,
        /// A multiple of 8, as are the columns.
        pub depth: usize,
        pub columns: usize,
        pub width: usize,
    }

    impl NullaryFnOnce for Transpose<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            for first in (0..self.columns).step_by(8) {
                let rows: [&[[f32; 8]]; 8] =
                    from_fn(|row| self.from[(first + row) * self.stride..][..self.depth].as_chunks().0);
                for (k, to) in self.to.chunks_mut(8 * self.width).take(self.depth / 8).enumerate() {
                    let block = transpose(self.simd, from_fn(|row| cast(rows[row][k])));
                    for (row, numbers) in block.into_iter().enumerate() {
                        to[row * self.width + first..][..8].copy_from_slice(&cast::<__m256, [f32; 8]>(numbers));
                    }
                }
            }
        }
    }

    /// Transposes 8 by 8 numbers: pairs of rows, fours, and halves.
    #[inline(always)]
    fn transpose(simd: V3, rows: [__m256; 8]) -> [__m256; 8] {
        let avx = simd.avx;
        let pairs: [__m256; 8] = from_fn(|at| {
            let (a, b) = (rows[at / 2 * 2], rows[at / 2 * 2 + 1]);
            if at % 2 == 0 { avx._mm256_unpacklo_ps(a, b) } else { avx._mm256_unpackhi_ps(a, b) }
        });
        let fours: [__m256; 8] = from_fn(|at| {
            let (a, b) = (pairs[at / 4 * 4 + at % 4 / 2], pairs[at / 4 * 4 + at % 4 / 2 + 2]);
            if at % 2 == 0 { avx._mm256_shuffle_ps::<0x44>(a, b) } else { avx._mm256_shuffle_ps::<0xee>(a, b) }
        });
        from_fn(|at| {
            let (a, b) = (fours[at % 4], fours[at % 4 + 4]);
            if at < 4 { avx._mm256_permute2f128_ps::<0x20>(a, b) } else { avx._mm256_permute2f128_ps::<0x31>(a, b) }
        })
    }
}
