//! Analyses of recordings: how the activity of a network and its synthesizers changes during training.
//!
//! # Variables and observations
//!
//! A recording is `[windows, batch, width]`: the values at the start of each window of each sequence of a batch. The
//! **variables** are the units, the last axis (the state of an LSTM is h, then c: two variables per unit). The
//! **observations** are all pairs of window and sequence of one batch. Units are the variables because every measure is
//! about how units vary together. Each batch is measured separately, since its recordings share one set of weights, and an
//! epoch's value is the mean over its recorded batches. Matrices are never transposed, whichever side is longer.
//!
//! Populations exclude the first window: its state is the zero initial state, equal for every sequence, and the step away
//! from it would correlate all units. With `train.keep_hidden` this applies only to the first batch of an epoch. Cosines
//! compare vectors pairwise and use every window, as the column `cosine` of `metrics.csv` does.

mod detail_files;
mod details;
mod figures;
mod recordings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::measures::{Population, cosine};
use rayon::prelude::*;
use recordings::{Batch, Windows};

use super::{figure, tables};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::records::SeedRun;
use crate::spec::{Recorded, Spec};

/// A measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// [`Population::population_correlation`].
    PopulationCorrelation,
    /// [`Population::mean_abs_pearson`], and [`Population::mean_abs_pearson_with`] between two populations.
    MeanAbsPearson,
    /// [`Population::coding_space`].
    CodingSpace,
    /// [`Population::sparsity`].
    Sparsity,
    /// Mean [`cosine`] of vectors at the same window and sequence; or of the learning rule's gradient and the true one, as the following:
    /// [`Quality`](crate::train::quality::Quality).
    Cosine,
    /// Ratio of the norms of the learning rule's gradient and the true one.
    NormRatio,
    /// Distance of the mean of the rule's draws from the true gradient, relative to its norm.
    Bias,
    /// Variance of the rule's draws, relative to the squared norm of the true gradient.
    Variance,
    /// Mean of a parameter's values.
    WeightMean,
    /// Standard deviation of a parameter's values (divided by N).
    WeightSd,
    /// Mean absolute value of a parameter.
    WeightMeanAbs,
    /// 2-norm of a parameter.
    WeightNorm,
    /// Fraction of a parameter's values that are exactly zero.
    WeightZeros,
}

impl Measure {
    /// Its name in `measures.csv`.
    pub fn name(self) -> &'static str {
        match self {
            Measure::PopulationCorrelation => "population_correlation",
            Measure::MeanAbsPearson => "mean_abs_pearson",
            Measure::CodingSpace => "coding_space",
            Measure::Sparsity => "sparsity",
            Measure::Cosine => "cosine",
            Measure::NormRatio => "norm_ratio",
            Measure::Bias => "bias",
            Measure::Variance => "variance",
            Measure::WeightMean => "weight_mean",
            Measure::WeightSd => "weight_sd",
            Measure::WeightMeanAbs => "weight_mean_abs",
            Measure::WeightNorm => "weight_norm",
            Measure::WeightZeros => "weight_zeros",
        }
    }
}

/// A measure and its subject; `with` is empty except for measures of pairs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The measure.
    pub measure: Measure,
    /// A recorded quantity (`hidden.layer0`) or a parameter.
    pub of: String,
    /// The other recorded quantity.
    pub with: String,
}

/// The measures of a run's seeds.
#[derive(Debug)]
pub struct Analysis {
    /// Values by key, then seed, then epoch.
    pub values: BTreeMap<Key, BTreeMap<u64, BTreeMap<usize, f64>>>,
    /// Pairs of units, principal components, cosines by window.
    details: detail_files::Details,
    /// Notes for the user: what could not be measured, and why.
    pub notes: Vec<String>,
}

/// Measures the recordings of these seeds of the run in `dir`, whose spec is `spec`.
///
/// # Errors
/// [`Error::Usage`] if nothing was recorded, with advice; [`Error::Data`] naming a damaged file.
pub fn analyse(dir: &Path, spec: &Spec, seeds: &[u64]) -> Result<Analysis> {
    let wanted = spec.record.as_ref().map(|record| record.what.as_slice()).unwrap_or_default();
    if wanted.is_empty() {
        let problem = match spec.record {
            Some(_) => "records no activity (`record.what` is empty)",
            None => "has no `record` table",
        };
        // The first batch of every epoch is always recorded, so this is one batch per epoch if epochs are short.
        let names: Vec<&str> = recordable(spec).map(|(name, _)| name).collect();
        return Err(Error::Usage(format!(
            "there is nothing to analyse: the spec of {} {problem}; record while training, which makes another run:\n  \
             ccdni run {} --set 'record={{every: 100, what: [{}]}}'",
            dir.display(),
            dir.join("spec.yaml").display(),
            names.join(", ")
        )));
    }
    let mut files: Vec<(u64, usize, PathBuf, bool)> = Vec::new();
    for &seed in seeds {
        let unit = SeedRun::of(dir, seed);
        let of_seed = recordings::files(&unit)?;
        if of_seed.is_empty() {
            let what = format!("holds no recordings of seed {seed}; {}, or leave it out with `--seeds`", unit.advice());
            return Err(Error::data(&unit.recordings_path(), what));
        }
        let kept = details::kept(&of_seed.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>());
        files.extend(of_seed.into_iter().map(|(epoch, path)| (seed, epoch, path, kept.contains(&epoch))));
    }
    let mut analysis = Analysis { values: BTreeMap::new(), details: BTreeMap::new(), notes: Vec::new() };
    let mut zero_starts = 0;
    let measured: Vec<_> = files.par_iter().map(|(.., path, kept)| epoch(path, spec, *kept)).collect();
    for ((seed, epoch, ..), measured) in files.into_iter().zip(measured) {
        let (means, details, alone) = measured?;
        analysis.details.entry(seed).or_default().insert(epoch, details);
        zero_starts += alone;
        for (key, mean) in means {
            analysis.values.entry(key).or_default().entry(seed).or_default().insert(epoch, mean.value());
        }
    }
    if zero_starts > 0 {
        analysis.notes.push(
            "windows span whole sequences: their only state is the zero start, so there are no populations to measure; \
             a smaller `train.bptt` has more"
                .into(),
        );
    }
    analysis.notes.extend(missing(spec, wanted));
    Ok(analysis)
}

/// The means over the batches of one epoch, its details, with matrices if they are `kept`, and the number of batches with nothing but
/// zero initial states.
fn epoch(path: &Path, spec: &Spec, kept: bool) -> Result<(BTreeMap<Key, Mean>, details::Epoch, usize)> {
    let (mut means, mut alone): (BTreeMap<Key, Mean>, usize) = (BTreeMap::new(), 0);
    let mut details = details::Epoch::default();
    for batch in recordings::read(path)? {
        // An epoch's initial state is never carried over.
        let zero_start = !spec.train.keep_hidden || batch.number == 1;
        alone += usize::from(batch.windows.values().any(|windows| zero_start && windows.count < 2));
        let populations = populations(&batch, usize::from(zero_start));
        measure(&batch, &populations, &mut |key, value| means.entry(key).or_default().add(value));
        details::add(&mut details, &batch, &populations);
    }
    details.end(kept);
    Ok((means, details, alone))
}

/// The quantities that a network of this spec can record.
fn recordable(spec: &Spec) -> impl Iterator<Item = (&'static str, Recorded)> {
    let with_synthesizer = spec.model.layers.iter().any(|layer| layer.dni.is_some());
    let all = [
        ("hidden", Recorded::Hidden, true),
        ("synthetic", Recorded::Synthetic, with_synthesizer),
        ("target", Recorded::Target, true),
        ("true", Recorded::True, true),
        ("synthesizer", Recorded::Synthesizer, with_synthesizer),
        ("weights", Recorded::Weights, true),
    ];
    all.into_iter().filter(|(.., there)| *there).map(|(name, what, _)| (name, what))
}

/// Notes which further recordings would allow more measures.
fn missing(spec: &Spec, wanted: &[Recorded]) -> Option<String> {
    let missing: Vec<&str> =
        recordable(spec).filter(|(_, what)| !wanted.contains(what)).map(|(name, _)| name).collect();
    let named = missing.join("`, `");
    (!missing.is_empty())
        .then(|| format!("not recorded, and so not measured: `{named}` (`record.what` has them recorded)"))
}

/// The populations of a batch, without the first `skip` windows.
fn populations(batch: &Batch, skip: usize) -> Vec<(&str, Population)> {
    let population =
        |windows: &Windows| Population::new(windows.width, windows.rows(skip).flatten().copied().collect());
    let all = batch.windows.iter().map(|(name, windows)| (name.as_str(), population(windows)));
    all.filter(|(_, population)| population.observations() > 0).collect()
}

/// Computes every measure of a batch.
fn measure(batch: &Batch, populations: &[(&str, Population)], add: &mut impl FnMut(Key, f64)) {
    let key = |measure, of: &str, with: &str| Key { measure, of: of.into(), with: with.into() };
    for (index, (name, population)) in populations.iter().enumerate() {
        add(key(Measure::PopulationCorrelation, name, ""), population.population_correlation());
        add(key(Measure::MeanAbsPearson, name, ""), population.mean_abs_pearson());
        add(key(Measure::CodingSpace, name, ""), population.coding_space());
        add(key(Measure::Sparsity, name, ""), population.sparsity());
        for (other, with) in &populations[index + 1..] {
            if layer(name) == layer(other) {
                add(key(Measure::MeanAbsPearson, name, other), population.mean_abs_pearson_with(with));
            }
        }
    }
    for (name, synthetic) in &batch.windows {
        let Some(of_layer) = name.strip_prefix("synthetic.") else { continue };
        for with in ["target", "true"].map(|what| format!("{what}.{of_layer}")) {
            let Some(gradient) = batch.windows.get(&with).filter(|gradient| gradient.width == synthetic.width) else {
                continue;
            };
            let mut mean = Mean::default();
            synthetic.rows(0).zip(gradient.rows(0)).for_each(|(a, b)| mean.add(cosine(a, b)));
            add(key(Measure::Cosine, name, &with), mean.value());
        }
    }
    for (layer, gradient) in &batch.gradients {
        let (of, with) = (format!("gradient.{layer}"), format!("true_gradient.{layer}"));
        let Some(quality) = gradient.quality() else { continue };
        add(key(Measure::Cosine, &of, &with), quality.cosine);
        add(key(Measure::NormRatio, &of, &with), quality.norm_ratio);
        add(key(Measure::Bias, &of, &with), quality.bias);
        if let Some(variance) = quality.variance {
            add(key(Measure::Variance, &of, &with), variance);
        }
    }
    for (name, values) in &batch.weights {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|x| x * x).sum::<f64>();
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        add(key(Measure::WeightMean, name, ""), mean);
        add(key(Measure::WeightSd, name, ""), variance.sqrt());
        add(key(Measure::WeightMeanAbs, name, ""), values.iter().map(|x| x.abs()).sum::<f64>() / n);
        add(key(Measure::WeightNorm, name, ""), squares.sqrt());
        add(key(Measure::WeightZeros, name, ""), values.iter().filter(|&&x| x == 0.0).count() as f64 / n);
    }
}

/// The layer at the end of a recorded name.
fn layer(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, layer)| layer)
}

/// The mean of the defined values; NaN if there are none.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        if !value.is_nan() {
            self.sum += value;
            self.count += 1.0;
        }
    }

    fn value(self) -> f64 {
        self.sum / self.count
    }
}

impl Analysis {
    /// Writes `measures.csv` and the figures, SVG and PNG, into `dir`, and returns their paths.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(dir).map_err(Error::io("create the directory", dir))?;
        let path = dir.join("measures.csv");
        write_atomically(&path, self.table().as_bytes())?;
        let mut files = vec![path];
        for (name, drawing) in figures::all(self) {
            files.extend(figure::save(&drawing, dir, &name, &figure::Format::ALL)?);
        }
        files.extend(detail_files::write(&self.details, dir)?);
        Ok(files)
    }

    /// One row per seed, epoch and key.
    fn table(&self) -> String {
        let mut rows: Vec<(u64, usize, &Key, f64)> = Vec::new();
        for (key, seeds) in &self.values {
            for (&seed, epochs) in seeds {
                rows.extend(epochs.iter().map(|(&epoch, &value)| (seed, epoch, key, value)));
            }
        }
        rows.sort_by_key(|&(seed, epoch, key, _)| (seed, epoch, key));
        let header = ["seed", "epoch", "measure", "of", "with", "value"].map(str::to_owned).to_vec();
        let cells = rows.into_iter().map(|(seed, epoch, key, value)| {
            let Key { measure, of, with } = key.clone();
            vec![seed.to_string(), epoch.to_string(), measure.name().into(), of, with, value.to_string()]
        });
        tables::write(std::iter::once(header).chain(cells))
    }

    /// Text table, header first: means over seeds at the first and the last epoch. Weights, of which there are many, are
    /// only in the file.
    pub fn summary(&self) -> Vec<Vec<String>> {
        let epochs = || self.values.values().flat_map(BTreeMap::values).flat_map(|epochs| epochs.keys().copied());
        let (Some(first), Some(last)) = (epochs().min(), epochs().max()) else { return Vec::new() };
        let mut rows = vec![["measure", "of", "with"].map(str::to_owned).to_vec()];
        rows[0].extend([format!("epoch {first}"), format!("epoch {last}")]);
        for (key, seeds) in self.values.iter().filter(|(key, _)| key.measure < Measure::WeightMean) {
            let mean = |epoch: usize| {
                let mut mean = Mean::default();
                seeds.values().filter_map(|epochs| epochs.get(&epoch)).for_each(|&value| mean.add(value));
                match mean.value() {
                    value if value.is_nan() => "-".into(),
                    value if value != 0.0 && value.abs() < 1e-3 => format!("{value:.2e}"),
                    value => format!("{value:.4}"),
                }
            };
            let with = if key.with.is_empty() { "-".to_owned() } else { key.with.clone() };
            rows.push(vec![key.measure.name().into(), key.of.clone(), with, mean(first), mean(last)]);
        }
        rows
    }
}
