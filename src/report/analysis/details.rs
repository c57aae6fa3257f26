//! What single numbers do not show: correlations of single pairs of units, principal components, cosines window by window.
//!
//! Pairs: the signed Pearson correlation of every unit of one population with every unit of another, or of its own, over the
//! observations of a batch, averaged over the recorded batches of an epoch. Their quantiles are kept for every epoch; the matrices,
//! and the mean absolute change since the first epoch, for at most [`KEPT`] epochs.
//!
//! Principal components: the basis is that of all epochs of a seed together, so that epochs can be compared; explained variance is
//! the share of an epoch's own variance along each of the first three. Trajectories are means over sequences, window by window.

use std::collections::BTreeMap;

use nalgebra::DMatrix;

use super::recordings::{Batch, Windows};
use super::{Mean, layer};
use crate::measures::{Population, cosine, participation_ratio};

/// Most epochs of which matrices are kept.
pub(super) const KEPT: usize = 11;
/// Most entries of a matrix that is kept.
const LARGEST: usize = 200_000;
/// The quantiles of pairs.
pub(super) const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];
/// Number of principal components.
pub(super) const COMPONENTS: usize = 3;

/// Two recorded quantities.
pub(super) type Pair = (String, String);

/// The details of one epoch of one seed.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    pub pairs: BTreeMap<Pair, Correlations>,
    pub states: BTreeMap<String, States>,
    /// Mean cosine of each window.
    pub cosines: BTreeMap<Pair, Vec<Mean>>,
}

/// Correlations of pairs of units.
#[derive(Debug, Default)]
pub(super) struct Correlations {
    pub shape: [usize; 2],
    /// Sum over batches, row by row, and number of batches.
    sum: Vec<f64>,
    batches: f64,
    /// [`QUANTILES`], mean and standard deviation over pairs; NaN without pairs.
    pub summary: Summary,
}

/// [`QUANTILES`], mean and standard deviation.
pub(super) type Summary = [f64; QUANTILES.len() + 2];

impl Correlations {
    fn add(&mut self, shape: [usize; 2], values: Vec<f64>) {
        if self.sum.is_empty() {
            (self.shape, self.sum) = (shape, vec![0.0; values.len()]);
        }
        self.sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        self.batches += 1.0;
    }

    /// Means over the batches.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.sum.iter().map(|sum| sum / self.batches)
    }

    /// The defined correlations of different units, ascending.
    fn distinct(&self, within: bool) -> Vec<f64> {
        let columns = self.shape[1].max(1);
        // Within a population every pair occurs twice, and every unit with itself.
        let counts = |index: &usize| !within || index / columns < index % columns;
        let all: Vec<f64> = self.values().collect();
        let mut distinct: Vec<f64> =
            (0..all.len()).filter(counts).map(|index| all[index]).filter(|r| !r.is_nan()).collect();
        distinct.sort_by(f64::total_cmp);
        distinct
    }

    fn summarised(&self, within: bool) -> Summary {
        let distinct = self.distinct(within);
        let mut summary: Summary = [f64::NAN; QUANTILES.len() + 2];
        if distinct.is_empty() {
            return summary;
        }
        let n = distinct.len() as f64;
        for (place, quantile) in summary.iter_mut().zip(QUANTILES) {
            *place = distinct[(quantile * (n - 1.0)).round() as usize];
        }
        let mean = distinct.iter().sum::<f64>() / n;
        summary[QUANTILES.len()] = mean;
        summary[QUANTILES.len() + 1] = (distinct.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n).sqrt();
        summary
    }

    /// Mean absolute difference from the same pairs earlier, where both are defined.
    pub fn change_since(&self, first: &Correlations) -> f64 {
        let mut mean = Mean::default();
        self.values().zip(first.values()).for_each(|(now, then)| mean.add((now - then).abs()));
        mean.value()
    }

    /// Ends an epoch: sums the pairs up, and forgets the matrix unless it is to be kept.
    fn end(&mut self, within: bool, keep: bool) {
        self.summary = self.summarised(within);
        if !keep || self.sum.len() > LARGEST {
            self.sum = Vec::new();
        }
    }

    /// Whether the matrix was kept.
    pub fn is_kept(&self) -> bool {
        !self.sum.is_empty()
    }
}

impl Epoch {
    /// Ends the epoch after its last batch.
    pub fn end(&mut self, keep: bool) {
        self.pairs.iter_mut().for_each(|((of, with), pairs)| pairs.end(of == with, keep));
    }
}

/// The states of a population in an epoch, summed up.
#[derive(Debug)]
pub(super) struct States {
    count: f64,
    mean: Vec<f64>,
    scatter: DMatrix<f64>,
    /// Means over sequences, `[windows][units]`.
    path: Vec<Vec<f64>>,
}

/// Adds the details of a batch; populations exclude the first `skip` windows.
pub(super) fn add(epoch: &mut Epoch, batch: &Batch, populations: &[(&str, Population)]) {
    for (index, (name, population)) in populations.iter().enumerate() {
        for (other, with) in &populations[index..] {
            // Pairs of synthesizer units are hundreds of thousands, and no coupling of two networks.
            let inside = name.starts_with("synthesizer") && other.starts_with("synthesizer");
            if layer(name) == layer(other) && !inside {
                let pair = ((*name).to_owned(), (*other).to_owned());
                let shape = [population.variables(), with.variables()];
                epoch.pairs.entry(pair).or_default().add(shape, population.correlations_with(with));
            }
        }
        let windows = &batch.windows[*name];
        // The first recorded batch of an epoch stands for it: sums over batches would mix weights.
        if !epoch.states.contains_key(*name) && !name.starts_with("synthesizer") {
            let (mean, scatter) = population.scatter();
            let states = States { count: population.observations() as f64, mean, scatter, path: path(windows) };
            epoch.states.insert((*name).to_owned(), states);
        }
    }
    for (name, synthetic) in &batch.windows {
        let Some(of_layer) = name.strip_prefix("synthetic.") else { continue };
        for with in ["target", "true"].map(|what| format!("{what}.{of_layer}")) {
            let Some(gradient) = batch.windows.get(&with).filter(|gradient| gradient.width == synthetic.width) else {
                continue;
            };
            let means = epoch.cosines.entry((name.clone(), with)).or_default();
            means.resize(synthetic.count, Mean::default());
            for (index, (a, b)) in synthetic.rows(0).zip(gradient.rows(0)).enumerate() {
                means[index / synthetic.batch.max(1)].add(cosine(a, b));
            }
        }
    }
}

fn path(windows: &Windows) -> Vec<Vec<f64>> {
    let mut path = vec![vec![0.0; windows.width]; windows.count];
    for (index, row) in windows.rows(0).enumerate() {
        let mean = &mut path[index / windows.batch.max(1)];
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / windows.batch as f64);
    }
    path
}

/// An epoch's participation ratio, shares of its variance along the first components, and path.
type Along = (f64, Vec<f64>, Vec<Vec<f64>>);

/// Principal components of a population over the epochs of a seed.
#[derive(Debug)]
pub(super) struct Components {
    /// Share of the variance of all epochs along each component, all of them, descending.
    pub explained: Vec<f64>,
    /// Of each epoch: participation ratio, shares of its variance along the first components, path `[windows][components]`.
    pub epochs: BTreeMap<usize, Along>,
}

/// Finds the components that the epochs have in common; `None` without variance.
pub(super) fn components(epochs: &BTreeMap<usize, &States>) -> Option<Components> {
    let width = epochs.values().next()?.mean.len();
    let total: f64 = epochs.values().map(|states| states.count).sum();
    let mut mean = vec![0.0; width];
    for states in epochs.values() {
        mean.iter_mut().zip(&states.mean).for_each(|(mean, x)| *mean += x * states.count / total);
    }
    let mut pooled = DMatrix::zeros(width, width);
    for states in epochs.values() {
        let shift = DMatrix::from_iterator(width, 1, states.mean.iter().zip(&mean).map(|(x, mean)| x - mean));
        pooled += &states.scatter + &shift * shift.transpose() * states.count;
    }
    let eigen = pooled.symmetric_eigen();
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let sum: f64 = eigen.eigenvalues.iter().map(|value| value.max(0.0)).sum();
    if sum.is_nan() || sum <= 0.0 {
        return None;
    }
    let first: Vec<Vec<f64>> =
        order.iter().take(COMPONENTS).map(|&at| eigen.eigenvectors.column(at).iter().copied().collect()).collect();
    let of = |states: &States| {
        let along = |axis: &Vec<f64>| {
            let vector = DMatrix::from_column_slice(width, 1, axis);
            (vector.tr_mul(&states.scatter) * &vector)[(0, 0)] / states.scatter.trace()
        };
        let project = |state: &Vec<f64>| -> Vec<f64> {
            let along = |axis: &Vec<f64>| axis.iter().zip(state).zip(&mean).map(|((a, x), mean)| a * (x - mean)).sum();
            first.iter().map(along).collect()
        };
        let path = states.path.iter().map(project).collect();
        (participation_ratio(&states.scatter), first.iter().map(along).collect(), path)
    };
    Some(Components {
        explained: order.iter().map(|&at| eigen.eigenvalues[at].max(0.0) / sum).collect(),
        epochs: epochs.iter().map(|(&epoch, states)| (epoch, of(states))).collect(),
    })
}

/// At most [`KEPT`] of these epochs, evenly spaced, the first and the last among them.
pub(super) fn kept(epochs: &[usize]) -> Vec<usize> {
    let last = epochs.len().saturating_sub(1);
    let mut kept: Vec<usize> = (0..KEPT).filter_map(|index| epochs.get(index * last / (KEPT - 1)).copied()).collect();
    kept.dedup();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(rows: &[[f64; 2]]) -> States {
        let population = Population::new(2, rows.iter().flatten().copied().collect());
        let (mean, scatter) = population.scatter();
        States { count: rows.len() as f64, mean, scatter, path: rows.iter().map(|row| row.to_vec()).collect() }
    }

    #[test]
    fn components_are_shared_by_epochs_and_explain_all_variance_of_a_line() {
        let (one, two) = (states(&[[1.0, 1.0], [-1.0, -1.0]]), states(&[[2.0, -2.0], [-2.0, 2.0]]));
        let found = components(&BTreeMap::from([(1, &one), (5, &two)])).unwrap();
        // The second epoch has four times the variance, along the other diagonal.
        assert!((found.explained[0] - 0.8).abs() < 1e-12 && (found.explained[1] - 0.2).abs() < 1e-12);
        let (ratio, shares, path) = &found.epochs[&5];
        assert!((ratio - 1.0).abs() < 1e-12 && (shares[0] - 1.0).abs() < 1e-12 && shares[1].abs() < 1e-12);
        assert!((path[0][0].abs() - 8f64.sqrt()).abs() < 1e-12 && (path[0][0] + path[1][0]).abs() < 1e-12, "{path:?}");
        assert!(found.epochs[&1].1[0].abs() < 1e-12);
        assert!(components(&BTreeMap::from([(1, &states(&[[3.0, 3.0]]))])).is_none());
    }

    #[test]
    fn pairs_are_counted_once_and_change_is_since_the_first_epoch() {
        let mut first = Correlations::default();
        first.add([2, 2], vec![1.0, 0.5, 0.5, 1.0]);
        assert_eq!(first.summarised(true)[..6], [0.5; 6]);
        let mut last = Correlations::default();
        last.add([2, 2], vec![1.0, -0.5, -0.5, 1.0]);
        last.add([2, 2], vec![1.0, -0.1, -0.1, 1.0]);
        assert!((last.change_since(&first) - 0.4).abs() < 1e-12);
        assert!((first.summarised(false)[QUANTILES.len()] - 0.75).abs() < 1e-12, "between two, every entry is a pair");
    }

    #[test]
    fn kept_epochs_hold_the_first_and_the_last() {
        assert_eq!(kept(&[3]), [3]);
        assert_eq!(kept(&[1, 2, 3]), [1, 2, 3]);
        let all: Vec<usize> = (1..=100).collect();
        let kept = kept(&all);
        assert_eq!((kept.len(), kept[0], kept[KEPT - 1]), (KEPT, 1, 100));
    }
}
