//! Linear decoders: how much of a target can be read off states by a ridge regression, or a logistic one for classes, cross-validated.

use nalgebra::{DMatrix, DVector};

/// Parts of the data, each of which is predicted from the others.
const FOLDS: usize = 5;
/// Penalties, relative to the mean variance of the states; the best one counts.
const PENALTIES: [f64; 5] = [1.0, 1e-1, 1e-2, 1e-3, 1e-4];
/// Steps of a logistic regression, at most; each penalty begins with the weights of the stronger one before.
const STEPS: usize = 50;

/// What is decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// Numbers, `[sequences][numbers]`; the score is R², the share of their variance that is explained.
    Values(Vec<Vec<f64>>),
    /// Classes from 0; the score is the accuracy of the most probable class.
    Classes(Vec<usize>),
}

impl Decoded {
    fn matrix(&self) -> DMatrix<f64> {
        match self {
            Decoded::Values(rows) => {
                let width = rows.first().map_or(0, Vec::len);
                DMatrix::from_row_iterator(rows.len(), width, rows.iter().flatten().copied())
            }
            Decoded::Classes(classes) => {
                let count = classes.iter().max().map_or(0, |class| class + 1);
                DMatrix::from_fn(classes.len(), count, |row, class| f64::from(u8::from(classes[row] == class)))
            }
        }
    }

    /// The score of predictions of all sequences.
    fn score(&self, targets: &DMatrix<f64>, predicted: &DMatrix<f64>) -> f64 {
        match self {
            Decoded::Values(_) => {
                let total: f64 = targets.column_iter().map(|column| column.variance() * column.len() as f64).sum();
                1.0 - (targets - predicted).norm_squared() / total
            }
            Decoded::Classes(classes) => {
                let right = (0..classes.len()).filter(|&row| predicted.row(row).transpose().imax() == classes[row]);
                right.count() as f64 / classes.len() as f64
            }
        }
    }
}

/// The cross-validated score of the best regression of targets on states `[sequences][units]`; NaN for fewer sequences than twice the
/// folds. Sequence `i` is in fold `i mod 5`.
pub fn score(states: &[Vec<f64>], decoded: &Decoded) -> f64 {
    let (n, width) = (states.len(), states.first().map_or(0, Vec::len));
    if n < 2 * FOLDS {
        return f64::NAN;
    }
    // The last column is constant: the intercept.
    let states = DMatrix::from_fn(n, width + 1, |row, unit| states[row].get(unit).copied().unwrap_or(1.0));
    let targets = decoded.matrix();
    let mut predicted = vec![DMatrix::zeros(n, targets.ncols()); PENALTIES.len()];
    for fold in 0..FOLDS {
        let (inside, outside): (Vec<usize>, Vec<usize>) = (0..n).partition(|row| row % FOLDS == fold);
        let regression = Regression::new(states.select_rows(&outside), targets.select_rows(&outside));
        let held_out = states.select_rows(&inside);
        let mut weights = DMatrix::zeros(width + 1, targets.ncols());
        for (penalty, predicted) in PENALTIES.iter().zip(&mut predicted) {
            let fitted = match decoded {
                Decoded::Values(_) => regression.ridge(*penalty),
                Decoded::Classes(_) => regression.logistic(*penalty, weights.clone()),
            };
            let Some(fitted) = fitted else { continue };
            weights = fitted;
            let values = &held_out * &weights;
            inside.iter().zip(values.row_iter()).for_each(|(&row, values)| predicted.set_row(row, &values));
        }
    }
    predicted.iter().map(|predicted| decoded.score(&targets, predicted)).fold(f64::NAN, f64::max)
}

/// States `[sequences, units + 1]`, the last of which is 1, and targets `[sequences, numbers]`.
struct Regression {
    x: DMatrix<f64>,
    y: DMatrix<f64>,
    /// `xᵀ x`.
    products: DMatrix<f64>,
}

impl Regression {
    fn new(x: DMatrix<f64>, y: DMatrix<f64>) -> Self {
        let products = x.tr_mul(&x);
        Regression { x, y, products }
    }

    /// The diagonal `Λ` of the penalty `½ Σ Λ W²`. The intercept is hardly penalised; states that are all zero leave it alone to predict.
    fn diagonal(&self, penalty: f64) -> DVector<f64> {
        let width = self.products.ncols() - 1;
        let scale = self.products.diagonal().iter().take(width).sum::<f64>() / width.max(1) as f64;
        DVector::from_fn(width + 1, |at, _| if at < width { penalty * scale.max(1e-12) } else { 1e-9 })
    }

    /// The weights `(xᵀ x + Λ)⁻¹ xᵀ y`; `None` if that matrix has no Cholesky factors.
    fn ridge(&self, penalty: f64) -> Option<DMatrix<f64>> {
        let penalised = &self.products + DMatrix::from_diagonal(&self.diagonal(penalty));
        Some(penalised.cholesky()?.solve(&self.x.tr_mul(&self.y)))
    }

    /// The weights of a multinomial logistic regression, which approach the minimum of `-Σ log softmax(x W)[class] + ½ Σ Λ W²`: at most
    /// [`STEPS`] steps are taken. The Hessian is at most
    /// `½ xᵀ x + Λ` for each class, so that steps with that matrix only descend, and it is factored once (Böhning, Ann. Inst. Stat.
    /// Math. 44, 1992).
    fn logistic(&self, penalty: f64, mut weights: DMatrix<f64>) -> Option<DMatrix<f64>> {
        let diagonal = self.diagonal(penalty);
        let bound = (&self.products * 0.5 + DMatrix::from_diagonal(&diagonal)).cholesky()?;
        for _ in 0..STEPS {
            let mut errors = &self.x * &weights;
            errors.row_iter_mut().for_each(softmax);
            errors -= &self.y;
            let mut gradient = self.x.tr_mul(&errors);
            gradient.column_iter_mut().zip(weights.column_iter()).for_each(|(mut gradient, weights)| {
                gradient += diagonal.component_mul(&weights);
            });
            let step = bound.solve(&gradient);
            weights -= &step;
            if step.amax() < 1e-3 * weights.amax() {
                break;
            }
        }
        Some(weights)
    }
}

/// Replaces scores by probabilities.
fn softmax(mut row: nalgebra::MatrixViewMut<'_, f64, nalgebra::U1, nalgebra::Dyn, nalgebra::U1, nalgebra::Dyn>) {
    let largest = row.max();
    row.apply(|score| *score = (*score - largest).exp());
    let sum = row.sum();
    row /= sum;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    fn noise(count: usize, width: usize) -> Vec<Vec<f64>> {
        let mut stream = Stream::new(1, "test.decoder", 0, 0);
        (0..count).map(|_| (0..width).map(|_| f64::from(stream.normal())).collect()).collect()
    }

    #[test]
    fn what_is_linear_in_the_states_is_decoded_and_noise_is_not() {
        let states = noise(200, 6);
        let linear = states.iter().map(|s| vec![2.0 * s[0] - s[3] + 5.0, s[1]]).collect();
        assert!(score(&states, &Decoded::Values(linear)) > 0.99);
        let other = noise(400, 1).split_off(200);
        assert!(score(&states, &Decoded::Values(other)) < 0.1, "held-out sequences cannot be learned by heart");
        assert!(score(&states[..9], &Decoded::Classes(vec![0; 9])).is_nan());
    }

    #[test]
    fn classes_are_decoded_as_well_as_their_states_lie_apart() {
        let classes: Vec<usize> = (0..200).map(|row| row / 7 % 3).collect();
        let apart = |distance: f64| -> Vec<Vec<f64>> {
            let shifted = |(mut state, &class): (Vec<f64>, &usize)| {
                state[class] += distance;
                state
            };
            noise(200, 4).into_iter().zip(&classes).map(shifted).collect()
        };
        assert!(score(&apart(8.0), &Decoded::Classes(classes.clone())) > 0.98);
        let chance = score(&apart(0.0), &Decoded::Classes(classes.clone()));
        assert!((0.2..0.5).contains(&chance), "{chance}");
        assert!(score(&vec![vec![0.0; 4]; 200], &Decoded::Classes(classes)) < 0.5, "silent states");
    }

    /// A regression of one-hot vectors masks the class in the middle.
    #[test]
    fn classes_in_a_row_are_decoded() {
        let classes: Vec<usize> = (0..300).map(|row| row / 7 % 3).collect();
        let states: Vec<Vec<f64>> = noise(300, 1)
            .into_iter()
            .zip(&classes)
            .map(|(state, &class)| vec![0.3 * state[0] + 2.0 * class as f64])
            .collect();
        assert!(score(&states, &Decoded::Classes(classes)) > 0.97);
    }

    #[test]
    fn a_logistic_regression_ends_where_its_gradient_is_zero() {
        let (states, mut pushes) = (noise(300, 3), noise(300, 3));
        let x = DMatrix::from_fn(300, 4, |row, unit| states[row].get(unit).copied().unwrap_or(1.0));
        for (push, state) in pushes.iter_mut().zip(&states) {
            (0..3).for_each(|class| push[class] += state[class]);
        }
        let y = DMatrix::from_fn(300, 3, |row, class| {
            f64::from(u8::from(pushes[row].iter().all(|&other| other <= pushes[row][class])))
        });
        let regression = Regression::new(x.clone(), y.clone());
        let weights = regression.logistic(0.01, DMatrix::zeros(4, 3)).expect("factors");
        let mut probabilities = &x * &weights;
        probabilities.row_iter_mut().for_each(softmax);
        let gradient = x.tr_mul(&(probabilities - y)) + DMatrix::from_diagonal(&regression.diagonal(0.01)) * &weights;
        assert!(gradient.amax() < 0.02 * x.tr_mul(&regression.y).amax(), "{gradient}");
    }
}
