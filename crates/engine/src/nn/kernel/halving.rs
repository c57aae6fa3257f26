//! Windows that halve an image, 3 x 3 pixels at a stride of 2 with a padding of 1: as [`Phases`](super::window::Phases) gathers them and
//! adds them back, in the same order, but from registers.
//!
//! A line of the image is taken apart into even and odd columns. Window `x` of a row has in its columns 0, 1 and 2 the odd column `x - 1`, the
//! even column `x` and the odd column `x`. An even line is row 1 of the windows of a row, an odd one row 2 of these and row 0 of the next.

use std::arch::x86_64::{__m128, __m256};

use pulp::cast;
use pulp::x86::V3;

use super::window::{Plane, Window, every_other};

/// Windows that halve images of one shape.
#[derive(Debug, Clone, Copy)]
pub struct Halving {
    simd: V3,
    channels: usize,
    /// Rows and columns of windows.
    rows: usize,
    count: usize,
}

impl Halving {
    /// None for other windows or shapes, or where the processor lacks AVX2.
    pub fn new(plane: Plane, window: Window) -> Option<Halving> {
        let Plane { channels, height, width } = plane;
        let (rows, count) = (height / 2, width / 2);
        let fits = height == 2 * rows && width == 2 * count && rows > 0 && (count == 4 || count > 0 && count % 8 == 0);
        let simd = V3::try_new().filter(|_| fits && window == Window { size: 3, stride: 2, padding: 1 })?;
        Some(Halving { simd, channels, rows, count })
    }

    /// Gathers the windows of an image into the columns from `at` on of `out`, `[channels · 9, stride]`.
    ///
    /// # Panics
    /// If a slice is shorter than its shape.
    pub fn gather(self, image: &[f32], out: &mut [f32], (stride, at): (usize, usize)) {
        let (rows, count) = (self.rows, self.count);
        self.simd.vectorize(
            #[inline(always)]
            || {
                let channels = image[..self.channels * self.pixels()].chunks_exact(self.pixels());
                for (channel, out) in channels.zip(out.chunks_mut(9 * stride)) {
                    let mut kinds = out.chunks_mut(stride).map(|kind| &mut kind[at..][..rows * count]);
                    let [mut above, mut middle, mut below]: [[&mut [f32]; 3]; 3] =
                        std::array::from_fn(|_| std::array::from_fn(|_| kinds.next().unwrap_or_default()));
                    for kind in &mut above {
                        kind[..count].fill(0.0);
                    }
                    // One after the other: rows of all nine places, often a power of two apart, would evict one another from the cache.
                    for (row, lines) in channel.chunks_exact(4 * count).enumerate() {
                        self.put(&lines[..2 * count], [&mut middle], [row]);
                    }
                    for (row, lines) in channel.chunks_exact(4 * count).enumerate() {
                        let odd = &lines[2 * count..];
                        if row + 1 < rows {
                            self.put(odd, [&mut below, &mut above], [row, row + 1]);
                        } else {
                            self.put(odd, [&mut below], [row]);
                        }
                    }
                }
            },
        );
    }

    /// Adds windows, laid out as by [`Self::gather`], to the pixels that they were gathered from.
    ///
    /// # Panics
    /// If a slice is shorter than its shape.
    pub fn add_back(self, windows: &[f32], (stride, at): (usize, usize), image: &mut [f32]) {
        let (rows, count) = (self.rows, self.count);
        self.simd.vectorize(
            #[inline(always)]
            || {
                let channels = image[..self.channels * self.pixels()].chunks_exact_mut(self.pixels());
                for (channel, windows) in channels.zip(windows.chunks(9 * stride)) {
                    let mut kinds = windows.chunks(stride).map(|kind| &kind[at..][..rows * count]);
                    let [above, middle, below]: [[&[f32]; 3]; 3] =
                        std::array::from_fn(|_| std::array::from_fn(|_| kinds.next().unwrap_or_default()));
                    for (row, lines) in channel.chunks_exact_mut(4 * count).enumerate() {
                        let (even, odd) = lines.split_at_mut(2 * count);
                        self.add(even, [of_row(middle, row, count)]);
                        if row + 1 < rows {
                            self.add(odd, [of_row(above, row + 1, count), of_row(below, row, count)]);
                        } else {
                            self.add(odd, [of_row(below, row, count)]);
                        }
                    }
                }
            },
        );
    }

    fn pixels(self) -> usize {
        4 * self.rows * self.count
    }

    /// Copies the columns of a line to rows of windows.
    #[inline(always)]
    fn put<const TO: usize>(self, line: &[f32], mut to: [&mut [&mut [f32]; 3]; TO], rows: [usize; TO]) {
        let count = self.count;
        if count == 4 {
            let [a, b]: [__m128; 2] = cast(line.as_chunks::<8>().0[0]);
            let even = self.simd.sse._mm_shuffle_ps::<0x88>(a, b);
            let odd = self.simd.sse._mm_shuffle_ps::<0xdd>(a, b);
            let before = cast(self.simd.sse2._mm_slli_si128::<4>(cast(odd)));
            for (to, row) in to.iter_mut().zip(rows) {
                for (to, numbers) in to.iter_mut().zip([before, even, odd]) {
                    to[row * 4..][..4].copy_from_slice(&cast::<__m128, [f32; 4]>(numbers));
                }
            }
            return;
        }
        let mut last = 0.0;
        for (at, pixels) in line.as_chunks::<16>().0.iter().enumerate() {
            let pair: [__m256; 2] = cast(*pixels);
            let (even, odd) = (every_other(self.simd, pair, 0), every_other(self.simd, pair, 1));
            let before = self.after(last, odd);
            last = cast::<__m256, [f32; 8]>(odd)[7];
            for (to, row) in to.iter_mut().zip(rows) {
                for (to, numbers) in to.iter_mut().zip([before, even, odd]) {
                    to[row * count + 8 * at..][..8].copy_from_slice(&cast::<__m256, [f32; 8]>(numbers));
                }
            }
        }
    }

    /// `first`, and all numbers but the last.
    #[inline(always)]
    fn after(self, first: f32, numbers: __m256) -> __m256 {
        let (avx, avx2) = (self.simd.avx, self.simd.avx2);
        let moved = avx2._mm256_permutevar8x32_ps(numbers, cast([7, 0, 1, 2, 3, 4, 5, 6]));
        avx._mm256_blend_ps::<0x01>(moved, avx._mm256_set1_ps(first))
    }

    /// All numbers but the first, and `last`.
    #[inline(always)]
    fn before(self, numbers: __m256, last: f32) -> __m256 {
        let (avx, avx2) = (self.simd.avx, self.simd.avx2);
        let moved = avx2._mm256_permutevar8x32_ps(numbers, cast([1, 2, 3, 4, 5, 6, 7, 0]));
        avx._mm256_blend_ps::<0x80>(moved, avx._mm256_set1_ps(last))
    }

    /// Adds rows of windows to a line.
    #[inline(always)]
    fn add<const FROM: usize>(self, line: &mut [f32], from: [[&[f32]; 3]; FROM]) {
        let (count, avx, sse) = (self.count, self.simd.avx, self.simd.sse);
        if count == 4 {
            let pixels = &mut line.as_chunks_mut::<8>().0[0];
            let [mut even, mut odd] = [sse._mm_setzero_ps(); 2];
            for kinds in from {
                let [left, middle, right]: [__m128; 3] = [0, 1, 2].map(
                    #[inline(always)]
                    |kind: usize| cast(kinds[kind].as_chunks::<4>().0[0]),
                );
                let left: __m128 = cast(self.simd.sse2._mm_srli_si128::<4>(cast::<__m128, _>(left)));
                even = sse._mm_add_ps(even, middle);
                odd = sse._mm_add_ps(sse._mm_add_ps(odd, left), right);
            }
            let [first, second]: [__m128; 2] = cast(*pixels);
            let first = sse._mm_add_ps(first, sse._mm_unpacklo_ps(even, odd));
            *pixels = cast([first, sse._mm_add_ps(second, sse._mm_unpackhi_ps(even, odd))]);
            return;
        }
        for (at, pixels) in line.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let [mut even, mut odd] = [avx._mm256_setzero_ps(); 2];
            for kinds in from {
                let [left, middle, right]: [__m256; 3] = [0, 1, 2].map(
                    #[inline(always)]
                    |kind: usize| cast(kinds[kind].as_chunks::<8>().0[at]),
                );
                let next = kinds[0].get(8 * at + 8).copied().unwrap_or_default();
                even = avx._mm256_add_ps(even, middle);
                odd = avx._mm256_add_ps(avx._mm256_add_ps(odd, self.before(left, next)), right);
            }
            let (low, high) = (avx._mm256_unpacklo_ps(even, odd), avx._mm256_unpackhi_ps(even, odd));
            let [first, second]: [__m256; 2] = cast(*pixels);
            let first = avx._mm256_add_ps(first, avx._mm256_permute2f128_ps::<0x20>(low, high));
            let second = avx._mm256_add_ps(second, avx._mm256_permute2f128_ps::<0x31>(low, high));
            *pixels = cast([first, second]);
        }
    }
}

#[inline(always)]
fn of_row(kinds: [&[f32]; 3], row: usize, count: usize) -> [&[f32]; 3] {
    let [left, middle, right] = kinds;
    [&left[row * count..][..count], &middle[row * count..][..count], &right[row * count..][..count]]
}

#[cfg(test)]
mod tests {
    use super::super::window::Phases;
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Window = Window { size: 3, stride: 2, padding: 1 };

    proptest! {
        #[test]
        fn it_does_what_phases_do(
            channels in 1..4usize, rows in 1..7usize, count in prop::sample::select(vec![4, 8, 16, 24, 32]),
            (before, after) in (0..3usize, 0..3usize),
        ) {
            let plane = Plane { channels, height: 2 * rows, width: 2 * count };
            let halving = Halving::new(plane, WINDOW);
            prop_assert_eq!(halving.is_some(), V3::try_new().is_some());
            let Some(halving) = halving else { return Ok(()) };
            let numbers = |count: usize, by: f32| (0..count).map(|i| (i as f32 * by).sin()).collect::<Vec<f32>>();
            let image = numbers(plane.numbers(), 0.7);
            let place = (before + rows * count + after, before);
            // Longer than the channels need, as the buffer of a tile may be.
            let [mut windows, mut expected] = [(); 2].map(|()| vec![9.0; channels * 9 * place.0 + 5]);
            let mut phases = Phases::default();
            phases.cut(&image, plane, WINDOW);
            phases.gather(plane, WINDOW, 0..rows, &mut expected, place);
            halving.gather(&image, &mut windows, place);
            prop_assert!(windows == expected);
            let windows = numbers(windows.len(), 0.3);
            let [mut back, mut expected] = [(); 2].map(|()| image.clone());
            phases.add_back(&windows, place, plane, WINDOW, &mut expected);
            halving.add_back(&windows, place, &mut back);
            prop_assert!(back == expected);
        }
    }

    #[test]
    fn other_shapes_are_left_to_phases() {
        let plane = Plane { channels: 2, height: 16, width: 16 };
        let of = |height, width, window| Halving::new(Plane { height, width, ..plane }, window);
        assert!(of(15, 16, WINDOW).is_none() && of(16, 15, WINDOW).is_none() && of(16, 12, WINDOW).is_none());
        assert!(of(0, 16, WINDOW).is_none() && of(16, 0, WINDOW).is_none());
        assert!(of(16, 16, Window { padding: 0, ..WINDOW }).is_none());
    }
}
