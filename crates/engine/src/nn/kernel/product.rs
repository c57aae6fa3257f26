//! Matrix products, by the `gemm` crate.

use std::ops::Range;

use gemm::Parallelism;

/// How many threads may be used, those of the current pool. They divide rows and columns, never a sum, so results do not
/// depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads(pub usize);

/// Multiplications that each thread has at least, some 80 µs: of less, measured over whole epochs, a further thread costs time.
const SHARE: usize = 1 << 22;

/// How much more of them where a product alone is divided: its threads meet after every product, and read the same weights.
const PRODUCT: usize = 2;

/// Rows that a thread takes at least: a product of few rows is slow for its size.
const ROWS: usize = 8;

impl Threads {
    /// The threads to use for `multiplications` multiplications.
    pub fn for_work(self, multiplications: usize) -> Threads {
        Threads(self.0.min(multiplications / SHARE).max(1))
    }

    /// Parts of `rows` rows, one per thread that is worth using for `multiplications` multiplications; at least one part.
    pub fn parts(self, rows: usize, multiplications: usize) -> Vec<Range<usize>> {
        let count = self.for_work(multiplications).0.min(rows / ROWS).max(1);
        (0..count).map(|part| part * rows / count..(part + 1) * rows / count).collect()
    }
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
    /// If the slice is too short.
    pub fn strided(numbers: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(reaches(rows, columns, stride) <= numbers.len(), "the slice is shorter than the matrix");
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
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns }
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
    let parallelism = match threads.for_work(m.saturating_mul(n).saturating_mul(k) / PRODUCT) {
        Threads(1) => Parallelism::None,
        Threads(count) => Parallelism::Rayon(count),
    };
    // SAFETY: the constructors check that every element of the three matrices is within its slice and that the elements
    // written are distinct; `out` is borrowed mutably, so it overlaps neither of the others. With `k` = 0, `a` and `b` are
    // not read.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.numbers.as_mut_ptr(),
            1,
            out.stride as isize,
            add,
            a.numbers.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.numbers.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
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

    proptest! {
        #[test]
        fn a_product_is_the_sum_of_its_products(
            (m, n, k) in (0..20usize, 0..20usize, 0..40usize), more in 0..3usize, transposed in any::<bool>(), add in any::<bool>(),
        ) {
            let numbers = |count: usize, by: f32| -> Vec<f32> { (0..count).map(|i| (i as f32 * by).sin()).collect() };
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
        fn parts_are_all_rows_in_order(rows in 0..300usize, threads in 1..9usize, work in 0..20usize) {
            let parts = Threads(threads).parts(rows, work << 22);
            prop_assert!(!parts.is_empty() && parts.len() <= threads.min(work.max(1)));
            prop_assert!(parts.len() == 1 || parts.iter().all(|part| part.len() >= ROWS));
            let rows_in_parts: Vec<usize> = parts.into_iter().flatten().collect();
            prop_assert_eq!(rows_in_parts, (0..rows).collect::<Vec<_>>());
        }

        #[test]
        fn threads_change_no_bit(
            (m, n, k) in (1..200usize, 1..200usize, 1..1500usize), transposed in any::<[bool; 2]>(), add in any::<bool>(),
        ) {
            let numbers = |count: usize, by: f32| -> Vec<f32> { (0..count).map(|i| (i as f32 * by).sin()).collect() };
            let (a, b) = (numbers(m * k, 0.7), numbers(n * k, 0.3));
            let a = if transposed[0] { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
            let b = if transposed[1] { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
            let [one, two] = [1, 2].map(|threads| {
                let mut out = vec![0.5; m * n];
                product(MatrixMut::new(&mut out, m, n), a, b, add, Threads(threads));
                out
            });
            prop_assert!(one == two);
        }
    }
}
