//! Linear decoders: how much of a target can be read off states by a ridge regression, cross-validated.

use nalgebra::DMatrix;

/// Parts of the data, each of which is predicted from the others.
const FOLDS: usize = 5;
/// Penalties, relative to the mean variance of the states; the best one counts.
const PENALTIES: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// What is decoded.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// Numbers, `[sequences][numbers]`; the score is R², the share of their variance that is explained.
    Values(Vec<Vec<f64>>),
    /// Classes from 0; the score is the accuracy of the class whose one-hot regression is largest.
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

/// The cross-validated score of the best ridge regression of targets on states `[sequences][units]`; NaN for fewer sequences than
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
        let (x, y) = (states.select_rows(&outside), targets.select_rows(&outside));
        let products = x.tr_mul(&x);
        let scale = products.diagonal().iter().take(width).sum::<f64>() / width.max(1) as f64;
        for (penalty, predicted) in PENALTIES.iter().zip(&mut predicted) {
            let mut penalised = products.clone();
            // The intercept is hardly penalised; states that are all zero leave it alone to predict.
            (0..=width)
                .for_each(|at| penalised[(at, at)] += if at < width { penalty * scale.max(1e-12) } else { 1e-9 });
            let Some(solved) = penalised.cholesky() else { continue };
            let weights = solved.solve(&x.tr_mul(&y));
            let held_out = states.select_rows(&inside) * weights;
            inside.iter().zip(held_out.row_iter()).for_each(|(&row, values)| predicted.set_row(row, &values));
        }
    }
    predicted.iter().map(|predicted| decoded.score(&targets, predicted)).fold(f64::NAN, f64::max)
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
}
