//! Measures of a population of units, as in the analyses of Boven, Pemberton et al. (Nat. Commun. 2023).
//!
//! An undefined measure (of a single unit, of constant activity) is NaN.

pub mod decoder;

use nalgebra::DMatrix;

/// Lower bound of the norms in the denominator of [`cosine`].
const EPSILON: f64 = 1e-8;

/// Activity of a population: one row per variable, one column per observation.
#[derive(Debug, Clone, PartialEq)]
pub struct Population(DMatrix<f64>);

impl Population {
    /// A population of `variables` from consecutive observations of `variables` numbers each; an incomplete last one is
    /// dropped.
    pub fn new(variables: usize, mut observations: Vec<f64>) -> Self {
        let count = observations.len().checked_div(variables).unwrap_or(0);
        observations.truncate(count * variables);
        Population(DMatrix::from_vec(variables, count, observations))
    }

    /// The original's rule for a matrix of unknown orientation: the shorter side is the variables. Recordings have a fixed
    /// orientation and are never transposed.
    pub fn with_short_side_as_variables(self) -> Self {
        if self.variables() > self.observations() { Population(self.0.transpose()) } else { self }
    }

    /// Number of variables.
    pub fn variables(&self) -> usize {
        self.0.nrows()
    }

    /// Number of observations.
    pub fn observations(&self) -> usize {
        self.0.ncols()
    }

    /// `N/(N−1) · max√λ / Σ√λ − 1/N`, with λ the eigenvalues of the variables' covariance: near 1 if one pattern explains
    /// all activity, near 0 if all directions contribute equally (exactly `1/(N(N−1))`, as in the original).
    pub fn population_correlation(&self) -> f64 {
        let n = self.variables() as f64;
        if self.variables() < 2 || self.observations() < 2 {
            return f64::NAN;
        }
        let centered = self.centered();
        // Both products have the same non-zero eigenvalues: use the smaller one. The normalisation cancels.
        let product = if self.variables() <= self.observations() {
            &centered * centered.transpose()
        } else {
            centered.tr_mul(&centered)
        };
        let eigenvalues = product.symmetric_eigenvalues();
        let largest = eigenvalues.max();
        // Set eigenvalues within rounding error to zero: the square root would amplify them.
        let floor = largest * f64::EPSILON * eigenvalues.len() as f64;
        let roots = || eigenvalues.iter().map(|&value| if value > floor { value.sqrt() } else { 0.0 });
        let sum: f64 = roots().sum();
        n / (n - 1.0) * largest.max(0.0).sqrt() / sum - 1.0 / n
    }

    /// Mean absolute Pearson correlation over all pairs of different variables, without constant ones, whose correlation is
    /// undefined.
    pub fn mean_abs_pearson(&self) -> f64 {
        let unit = self.standardized();
        let correlations = &unit * unit.transpose();
        let n = correlations.nrows() as f64;
        let all: f64 = correlations.iter().map(|r| r.abs()).sum();
        let diagonal: f64 = correlations.diagonal().iter().map(|r| r.abs()).sum();
        (all - diagonal) / (n * (n - 1.0))
    }

    /// Mean absolute Pearson correlation of every variable with every variable of another population in the same
    /// observations; NaN if the numbers of observations differ.
    pub fn mean_abs_pearson_with(&self, other: &Population) -> f64 {
        if self.observations() != other.observations() {
            return f64::NAN;
        }
        let correlations = self.standardized() * other.standardized().transpose();
        correlations.iter().map(|r| r.abs()).sum::<f64>() / correlations.len() as f64
    }

    /// Signed Pearson correlation of every variable with every variable of another population in the same observations,
    /// `[variables, other's variables]`, row by row; NaN for constant variables.
    pub fn correlations_with(&self, other: &Population) -> Vec<f64> {
        let unit = |population: &Population| {
            let mut centered = population.centered();
            for mut row in centered.row_iter_mut() {
                let norm = row.norm();
                row.scale_mut(if norm > 0.0 { 1.0 / norm } else { f64::NAN });
            }
            centered
        };
        let correlations = unit(self) * unit(other).transpose();
        correlations.transpose().iter().copied().collect()
    }

    /// Mean of every variable, and the sums of products of their deviations from it, row by row.
    pub fn scatter(&self) -> (Vec<f64>, DMatrix<f64>) {
        let centered = self.centered();
        let means = self.0.row_iter().map(|row| row.mean()).collect();
        (means, &centered * centered.transpose())
    }

    /// Trace of the variables' covariance, in squared units of activity.
    pub fn coding_space(&self) -> f64 {
        if self.observations() < 2 {
            return f64::NAN;
        }
        self.centered().iter().map(|x| x * x).sum::<f64>() / (self.observations() - 1) as f64
    }

    /// `(N − M)/(N − 1)`, M the mean over observations of `(Σ|x|)² / Σx²`: 0 if all variables are equally active, 1 if only
    /// one is. Observations without activity are left out.
    pub fn sparsity(&self) -> f64 {
        let n = self.variables() as f64;
        let of_observation = |column: nalgebra::DVectorView<f64>| {
            let (sum, squares) = column.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x.abs(), squares + x * x));
            (squares > 0.0).then_some(sum * sum / squares)
        };
        let participation: Vec<f64> = self.0.column_iter().filter_map(of_observation).collect();
        let mean = participation.iter().sum::<f64>() / participation.len() as f64;
        (n - mean) / (n - 1.0)
    }

    /// Centres every variable. A constant one becomes exactly zero, which subtracting a rounded mean might not give.
    fn centered(&self) -> DMatrix<f64> {
        let mut centered = self.0.clone();
        for mut row in centered.row_iter_mut() {
            let first = row.iter().next().copied().unwrap_or(0.0);
            if row.iter().all(|&x| x == first) {
                row.fill(0.0);
            } else {
                let mean = row.mean();
                row.add_scalar_mut(-mean);
            }
        }
        centered
    }

    /// Centres and normalises every variable, so that correlations are products; without constant ones.
    fn standardized(&self) -> DMatrix<f64> {
        let centered = self.centered();
        let norms: Vec<f64> = centered.row_iter().map(|row| row.norm()).collect();
        let defined: Vec<usize> = (0..norms.len()).filter(|&row| norms[row] > 0.0).collect();
        DMatrix::from_fn(defined.len(), centered.ncols(), |row, column| {
            centered[(defined[row], column)] / norms[defined[row]]
        })
    }
}

/// Participation ratio of a covariance or of sums of products, `(Σλ)² / Σλ²` with λ its eigenvalues: how many directions share the
/// variance evenly.
pub fn participation_ratio(scatter: &DMatrix<f64>) -> f64 {
    // Σλ is the trace, and Σλ² the sum of squares of a symmetric matrix.
    scatter.trace().powi(2) / scatter.iter().map(|x| x * x).sum::<f64>()
}

/// Cosine similarity of two vectors, `a·b / (max(‖a‖, ε) max(‖b‖, ε))` with ε = 1e-8; 0 if one of them is zero.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let norm = |a: &[f64]| dot(a, a).sqrt().max(EPSILON);
    dot(a, b) / (norm(a) * norm(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Variables in rows.
    fn rows(rows: &[&[f64]]) -> Population {
        let observations = (0..rows[0].len()).flat_map(|column| rows.iter().map(move |row| row[column]));
        Population::new(rows.len(), observations.collect())
    }

    #[test]
    fn one_pattern_is_correlated_and_equal_directions_are_not() {
        let one = rows(&[&[1., 2., 4.], &[2., 4., 8.], &[-1., -2., -4.]]);
        assert!((one.population_correlation() - (1.5 - 1.0 / 3.0)).abs() < 1e-12);
        assert!((one.mean_abs_pearson() - 1.0).abs() < 1e-12);
        let even = rows(&[&[1., -1., 0., 0.], &[0., 0., 1., -1.]]);
        assert!((even.population_correlation() - 0.5).abs() < 1e-12, "1/(N(N-1))");
        assert_eq!(even.mean_abs_pearson(), 0.0);
    }

    #[test]
    fn constant_variables_have_no_correlation_and_do_not_count() {
        // 0.3 is not exact in binary: a rounded mean must not turn a constant into a signal.
        let with = rows(&[&[1., 2., 3.], &[0.1, 0.1, 0.1], &[3., 1., 2.]]);
        let without = rows(&[&[1., 2., 3.], &[3., 1., 2.]]);
        assert!((with.mean_abs_pearson() - without.mean_abs_pearson()).abs() < 1e-15);
        assert!((with.mean_abs_pearson_with(&without) - without.mean_abs_pearson_with(&without)).abs() < 1e-15);
        assert!(rows(&[&[2., 2.], &[3., 3.]]).mean_abs_pearson().is_nan());
        assert!(rows(&[&[2., 2.], &[3., 3.]]).population_correlation().is_nan());
        assert_eq!(rows(&[&[2., 2.], &[3., 3.]]).coding_space(), 0.0);
    }

    #[test]
    fn sparsity_runs_from_even_to_single_activity() {
        assert_eq!(rows(&[&[1., 2.], &[-1., 2.]]).sparsity(), 0.0);
        assert_eq!(rows(&[&[1., 0.], &[0., 2.]]).sparsity(), 1.0);
        assert_eq!(rows(&[&[1., 0., 0.], &[0., 0., 2.]]).sparsity(), 1.0, "silence does not count");
        assert!(rows(&[&[0.], &[0.]]).sparsity().is_nan());
    }

    #[test]
    fn correlations_keep_their_signs_and_places() {
        let a = rows(&[&[1., 2., 3.], &[5., 5., 5.]]);
        let b = rows(&[&[2., 4., 6.], &[3., 2., 1.], &[0., 1., 0.]]);
        let all = a.correlations_with(&b);
        assert!((all[0] - 1.0).abs() < 1e-12 && (all[1] + 1.0).abs() < 1e-12 && all[2].abs() < 1e-12, "{all:?}");
        assert!(all[3..].iter().all(|r| r.is_nan()), "a constant");
    }

    #[test]
    fn participation_counts_directions() {
        let of = |rows_: &[&[f64]]| participation_ratio(&rows(rows_).scatter().1);
        assert!((of(&[&[1., -1., 0., 0.], &[0., 0., 1., -1.]]) - 2.0).abs() < 1e-12);
        assert!((of(&[&[1., 2., 4.], &[2., 4., 8.]]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn undefined_measures_are_nan() {
        for small in
            [Population::new(0, Vec::new()), Population::new(3, Vec::new()), rows(&[&[1., 2.]]), rows(&[&[1.], &[2.]])]
        {
            assert!(small.population_correlation().is_nan(), "{small:?}");
            assert!(small.mean_abs_pearson().is_nan(), "{small:?}");
        }
        assert!(rows(&[&[1., 2.]]).mean_abs_pearson_with(&rows(&[&[1., 2., 3.]])).is_nan());
    }

    proptest! {
        #[test]
        fn the_smaller_product_gives_the_same_number(values in proptest::collection::vec(-2.0..2.0f64, 5 * 4)) {
            // 5 variables in 4 observations, and with every observation twice, which scales all λ equally.
            let few = Population::new(5, values.clone());
            let twice = Population::new(5, [values.clone(), values].concat());
            prop_assert!((few.population_correlation() - twice.population_correlation()).abs() < 1e-6);
            let r = few.mean_abs_pearson();
            prop_assert!((0.0..=1.0 + 1e-12).contains(&r));
            prop_assert!((r - twice.mean_abs_pearson()).abs() < 1e-9);
            prop_assert!((-1e-12..=1.0 + 1e-12).contains(&few.sparsity()));
        }
    }
}
