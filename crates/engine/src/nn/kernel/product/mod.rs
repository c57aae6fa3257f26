//! Matrix products.
//!
//! An element of a product is one chain of fused multiplications and additions, in the order of `k`, for each block of at most [`DEPTH`]
//! terms; the sums of blocks are added in their order. The chain depends on nothing else: neither on the other rows and columns, nor
//! on the number of threads, nor on the width of the processor's vectors. So results are the same bits wherever there are fused
//! instructions, which are AVX-512, AVX2 with FMA and NEON; elsewhere they are computed in software, tens of times more slowly.

mod panel;
mod tile;

use std::cell::RefCell;
use std::ops::Range;

pub use panel::transpose;
use pulp::{Arch, Simd, WithSimd};
use tile::Tile;

use super::buffers::room;
use super::threads::Threads;

/// Terms of a block of a sum, at most: those of two vectors of columns are 32 KiB.
const DEPTH: usize = 256;

/// How many tiles must share columns before copying them pays.
const COPY_FROM: usize = 12;

thread_local! {
    /// The copy of columns that is in use.
    static PANEL: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A matrix to read.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    numbers: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A contiguous matrix.
    pub fn new(numbers: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix::strided(numbers, rows, columns, columns)
    }

    /// A matrix with row stride `stride`.
    ///
    /// # Panics
    /// If the slice is too short, or rows overlap.
    pub fn strided(numbers: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(reaches(rows, columns, stride) <= numbers.len() && (columns <= stride || rows <= 1));
        Matrix { numbers, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The transposed matrix.
    pub fn t(self) -> Self {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Some of the rows.
    fn rows(self, rows: Range<usize>) -> Self {
        Matrix { numbers: self.from(rows.start, 0), rows: rows.len(), ..self }
    }

    /// The slice from an element on; empty if the matrix has none there.
    #[inline(always)]
    fn from(self, row: usize, column: usize) -> &'a [f32] {
        self.numbers.get(row * self.row_stride + column * self.column_stride..).unwrap_or_default()
    }
}

/// A matrix to write.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    numbers: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// A contiguous matrix.
    pub fn new(numbers: &'a mut [f32], rows: usize, columns: usize) -> Self {
        MatrixMut::strided(numbers, rows, columns, columns)
    }

    /// A matrix with row stride `stride`.
    ///
    /// # Panics
    /// If the slice is too short, or rows overlap.
    pub fn strided(numbers: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(reaches(rows, columns, stride) <= numbers.len() && (columns <= stride || rows <= 1));
        MatrixMut { numbers, rows, columns, stride }
    }
}

/// Elements from the first to the last of a matrix, inclusive.
fn reaches(rows: usize, columns: usize, stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1).saturating_mul(stride).saturating_add(columns) }
}

/// `out = a · b`, or `out += a · b` if `add`.
///
/// # Panics
/// If the shapes do not match.
pub fn product(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, add: bool, threads: Threads) {
    let (m, n, k) = (out.rows, out.columns, a.columns);
    assert!(a.rows == m && b.columns == n && b.rows == k, "the shapes of a product do not match");
    if m == 0 || n == 0 {
        return;
    }
    match threads {
        Threads(1) => Product { out, a, b, add }.compute(),
        _ => in_parts(out, a, b, add, threads, &threads.parts(m, m.saturating_mul(n).saturating_mul(k))),
    }
}

/// Computes parts of the rows, in order, side by side.
fn in_parts(out: MatrixMut<'_>, a: Matrix<'_>, b: Matrix<'_>, add: bool, threads: Threads, parts: &[Range<usize>]) {
    if parts.len() == 1 {
        return Product { out, a, b, add }.compute();
    }
    let MatrixMut { mut numbers, columns, stride, .. } = out;
    let products = parts.iter().map(|rows| {
        // The last row may end before the next would begin.
        let all = std::mem::take(&mut numbers);
        let (here, rest) = all.split_at_mut(all.len().min(rows.len() * stride));
        numbers = rest;
        let out = MatrixMut { numbers: here, rows: rows.len(), columns, stride };
        Product { out, a: a.rows(rows.clone()), b, add }
    });
    threads.each(products, Product::compute);
}

/// A product on one thread.
struct Product<'a> {
    out: MatrixMut<'a>,
    a: Matrix<'a>,
    b: Matrix<'a>,
    add: bool,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        PANEL.with_borrow_mut(|panel| self.run(simd, panel));
    }
}

impl Product<'_> {
    fn compute(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn run<S: Simd>(self, simd: S, panel: &mut Vec<f32>) {
        let Product { out, a, b, add } = self;
        let (depth, width) = (a.columns, tile::width::<S>());
        let tiles = out.rows.div_ceil(tile::most_rows::<S>());
        let is_copied = depth > 0 && (b.column_stride != 1 || tiles >= COPY_FROM);
        let blocks = depth.div_ceil(DEPTH).max(1);
        for block in 0..blocks {
            let terms = block * depth / blocks..(block + 1) * depth / blocks;
            for first in (0..out.columns).step_by(width) {
                let columns = width.min(out.columns - first);
                let (b, b_stride) = if is_copied {
                    let panel = room(panel, terms.len() * width);
                    panel::pack::<S>(panel, b, terms.clone(), first, columns);
                    (&*panel, width)
                } else {
                    (b.from(terms.start, first), b.row_stride)
                };
                for tile in 0..tiles {
                    let rows = tile * out.rows / tiles..(tile + 1) * out.rows / tiles;
                    let tile = Tile {
                        rows: rows.len(),
                        columns,
                        depth: terms.len(),
                        a: a.from(rows.start, terms.start),
                        a_strides: (a.row_stride, a.column_stride),
                        b,
                        b_stride,
                        out: &mut out.numbers[rows.start * out.stride + first..],
                        out_stride: out.stride,
                        add: add || block > 0,
                    };
                    tile.run(simd);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f64> {
        let at = |m: &Matrix<'_>, r: usize, c: usize| f64::from(m.numbers[r * m.row_stride + c * m.column_stride]);
        let mut out = Vec::new();
        for r in 0..a.rows {
            for c in 0..b.columns {
                out.push((0..a.columns).map(|k| at(&a, r, k) * at(&b, k, c)).sum());
            }
        }
        out
    }

    fn numbers(count: usize, by: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * by).sin()).collect()
    }

    /// The numbers of a matrix, or of one that is transposed, with NaN between and after its rows.
    fn beside_nan(rows: usize, columns: usize, more: usize, by: f32, transposed: bool) -> Vec<f32> {
        let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
        let mut all = Vec::new();
        for row in numbers(rows * columns, by).chunks(columns.max(1)) {
            all.extend_from_slice(row);
            all.extend(std::iter::repeat_n(f32::NAN, more));
        }
        all.extend([f32::NAN; 40]);
        all
    }

    fn view(numbers: &[f32], rows: usize, columns: usize, more: usize, transposed: bool) -> Matrix<'_> {
        match transposed {
            true => Matrix::strided(numbers, columns, rows, rows + more).t(),
            false => Matrix::strided(numbers, rows, columns, columns + more),
        }
    }

    /// The definition: a chain of fused operations per block of terms, and blocks in order.
    fn in_order(a: Matrix<'_>, b: Matrix<'_>, add: bool) -> Vec<f32> {
        let at = |m: &Matrix<'_>, r: usize, c: usize| m.numbers[r * m.row_stride + c * m.column_stride];
        let (k, blocks) = (a.columns, a.columns.div_ceil(DEPTH).max(1));
        let mut out = Vec::new();
        for r in 0..a.rows {
            for c in 0..b.columns {
                let sums = (0..blocks).map(|block| {
                    let terms = block * k / blocks..(block + 1) * k / blocks;
                    terms.fold(0.0, |sum, k| at(&a, r, k).mul_add(at(&b, k, c), sum))
                });
                let first = add.then_some(0.5f32);
                out.push(first.into_iter().chain(sums).reduce(|sum, block| sum + block).unwrap_or_default());
            }
        }
        out
    }

    /// The instructions that this processor has; scalar ones are as slow as software is.
    fn archs() -> Vec<(&'static str, Arch)> {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = pulp::x86::V3::try_new().map(|simd| ("AVX2", Arch::V3(simd)));
            let avx512 = pulp::x86::V4::try_new().map(|simd| ("AVX-512", Arch::V4(simd)));
            avx2.into_iter().chain(avx512).collect()
        }
        #[cfg(not(target_arch = "x86_64"))]
        vec![("this processor's", Arch::new())]
    }

    #[test]
    fn scalars_give_the_same_bits() {
        for (m, n, k, transposed) in [(1, 1, 1, false), (5, 7, 300, false), (13, 35, 21, true)] {
            let (a, b) = (numbers(m * k, 0.7), numbers(n * k, 0.3));
            let b = if transposed { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
            let [vectors, scalars] = [Arch::new(), Arch::Scalar].map(|arch| {
                let mut out = vec![0.0; m * n];
                arch.dispatch(Product { out: MatrixMut::new(&mut out, m, n), a: Matrix::new(&a, m, k), b, add: false });
                out
            });
            assert_eq!(vectors, scalars);
        }
    }

    /// Its rows overlap: each begins one number after the one before.
    #[test]
    fn one_term_of_a_transposed_factor() {
        let (m, n) = (200, 5);
        let (a, b, mut out) = (numbers(m, 0.7), numbers(n, 0.3), vec![0.0; m * n]);
        product(MatrixMut::new(&mut out, m, n), Matrix::new(&a, m, 1), Matrix::new(&b, n, 1).t(), false, Threads(1));
        for (at, x) in out.iter().enumerate() {
            assert_eq!(*x, a[at / n] * b[at % n]);
        }
    }

    proptest! {
        #[test]
        fn a_product_is_the_sum_of_its_products(
            (m, n, k) in (0..20usize, 0..20usize, 0..40usize), more in 0..3usize, transposed in any::<bool>(), add in any::<bool>(),
        ) {
            let (a, b) = (numbers(m * (k + more), 0.7), numbers(n * k, 0.3));
            let a = Matrix::strided(&a, m, k, k + more);
            let b = if transposed { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
            let mut out = vec![1.0; m * (n + more)];
            product(MatrixMut::strided(&mut out, m, n, n + more), a, b, add, Threads(1));
            let expected = plain(a, b);
            for r in 0..m {
                for c in 0..n + more {
                    let expected = if c < n { expected[r * n + c] + f64::from(u8::from(add)) } else { 1.0 };
                    prop_assert!((f64::from(out[r * (n + more) + c]) - expected).abs() < 1e-5);
                }
            }
        }

        #[test]
        fn only_the_order_of_terms_counts(
            (m, n, k) in (1..200usize, 1..70usize, 0..600usize), transposed in any::<[bool; 2]>(), add in any::<bool>(),
            more in 0..3usize,
        ) {
            let (a, b) = (beside_nan(m, k, more, 0.7, transposed[0]), beside_nan(k, n, more, 0.3, transposed[1]));
            let (a, b) = (view(&a, m, k, more, transposed[0]), view(&b, k, n, more, transposed[1]));
            let [one, three] = [1, 3].map(|count| {
                let mut out = vec![0.5; m * (n + more)];
                let parts: Vec<_> = (0..count).map(|part| part * m / count..(part + 1) * m / count).collect();
                in_parts(MatrixMut::strided(&mut out, m, n, n + more), a, b, add, Threads(count), &parts);
                prop_assert!(out.chunks(n + more).all(|row| row[n..].iter().all(|x| *x == 0.5)), "beside the matrix");
                Ok(out.chunks(n + more).flat_map(|row| &row[..n]).copied().collect::<Vec<f32>>())
            });
            let (one, three) = (one?, three?);
            prop_assert!(one == three, "threads");
            prop_assert!(one == in_order(a, b, add), "the definition");
            for (name, arch) in archs() {
                let mut out = vec![0.5; m * n];
                arch.dispatch(Product { out: MatrixMut::new(&mut out, m, n), a, b, add });
                prop_assert!(one == out, "{name}");
            }
            let row = m / 2;
            let mut alone = vec![0.5; n];
            product(MatrixMut::new(&mut alone, 1, n), a.rows(row..row + 1), b, add, Threads(1));
            prop_assert!(one[row * n..][..n] == alone, "rows");
        }
    }
}
