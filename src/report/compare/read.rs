//! Reads runs for a comparison, and selects the metric that all of them have.

use serde_json::Value;

use super::{FinishedRun, keys, labels};
use crate::data::Direction;
use crate::error::{Error, Result};
use crate::report::panel::{Curve, curve, labelled};
use crate::report::units::{self, FinishedSeed};
use crate::spec::{EncoderSpec, Plugins, Spec, Unlock, nearest, read_resolved};

/// A run's spec and finished units.
pub(super) struct Loaded {
    /// The name of its directory.
    pub hash: String,
    pub spec: Spec,
    /// The spec, as returned by [`keys::tree`].
    pub tree: Value,
    /// Steps per sequence, if all have the same length.
    pub steps: Option<usize>,
    pub units: Vec<FinishedSeed>,
}

impl Loaded {
    /// Reads the seeds of a run.
    pub fn read(run: &FinishedRun, plugins: &dyn Plugins) -> Result<Self> {
        let path = run.path.join("spec.yaml");
        let spec = read_resolved(&path)?;
        let units = units::read_some(&run.path, |seed| run.seeds.contains(&seed))?;
        if units.len() < run.seeds.len() || units.is_empty() {
            return Err(Error::data(&run.path.join("seeds"), "lacks a finished seed"));
        }
        // A run of another program's task is drawn too, but without its sequence length.
        let steps = plugins.read_task(&spec.task).ok().and_then(|(_, shape)| shape.steps);
        Ok(Loaded {
            hash: run.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            tree: keys::tree(&spec),
            steps,
            spec,
            units,
        })
    }

    /// Reads runs, none of which may be named twice.
    pub fn read_all(runs: &[FinishedRun], plugins: &dyn Plugins) -> Result<Vec<Self>> {
        let loaded: Vec<Loaded> = runs.iter().map(|run| Loaded::read(run, plugins)).collect::<Result<_>>()?;
        let twice = |(index, run): &(usize, &Loaded)| loaded[..*index].iter().any(|other| other.hash == run.hash);
        match loaded.iter().enumerate().find(twice) {
            Some((_, run)) => Err(Error::Usage(format!("the run {} is named twice", run.hash))),
            None => Ok(loaded),
        }
    }

    /// Its label if nothing distinguishes it from others.
    pub fn name(&self) -> String {
        self.spec.name.clone().unwrap_or_else(|| self.hash.clone())
    }

    /// Epochs at whose start a synthesizer is lesioned or frozen, ascending.
    pub fn events(&self) -> Vec<usize> {
        let dnis = self.spec.model.layers.iter().filter_map(|layer| layer.dni.as_ref());
        let mut events: Vec<usize> = dnis.flat_map(|dni| dni.lesion_at.into_iter().chain(dni.freeze_at)).collect();
        events.sort_unstable();
        events.dedup();
        events
    }

    /// The metric of each seed.
    pub fn curves(&self, metric: &Metric) -> Vec<Curve> {
        let scaled =
            |unit: &FinishedSeed| unit.table.column(&metric.column).into_iter().map(|value| value * metric.factor);
        self.units.iter().map(|unit| curve(scaled(unit).collect())).collect()
    }

    /// The last value of the metric of each seed, at each of these positions.
    pub fn last(&self, metric: &Metric, places: &[usize]) -> Vec<Curve> {
        let last = |unit: &FinishedSeed| {
            unit.table.column(&metric.column).last().map_or(f64::NAN, |value| value * metric.factor)
        };
        self.units.iter().map(|unit| places.iter().map(|&place| (place, last(unit))).collect()).collect()
    }

    /// How much of the network is unlocked, as an index of [`labels::UNLOCKED`].
    ///
    /// # Errors
    /// [`Error::Usage`] if an interface gives synthetic inputs alone.
    fn unlocked(&self) -> Result<usize> {
        let model = &self.spec.model;
        let of_layers = model.layers.iter().filter(|layer| layer.dni.is_some()).map(|_| Unlock::Backward);
        let encoder = model.encoder.iter().filter_map(EncoderSpec::blocks).flatten();
        let interfaces = model.blocks.iter().chain(encoder).filter_map(|block| block.dni.as_ref());
        let place = |unlock| match unlock {
            Unlock::Backward => Ok(1),
            Unlock::Both => Ok(2),
            Unlock::Forward => Err(Error::Usage(format!(
                "run {} has an interface with `unlock: forward`, under which the blocks below do not learn: the axis `unlock` has no \
                 place for it; leave the run out, or choose another axis",
                self.hash
            ))),
        };
        interfaces.map(|dni| dni.unlock).chain(of_layers).try_fold(0, |most, unlock| Ok(place(unlock)?.max(most)))
    }

    /// The position of this run on an axis of a key, in `percent` of the sequence or as it is.
    pub fn place(&self, key: &str, percent: bool) -> Result<usize> {
        let written = keys::at(&self.tree, key);
        let whole = written.and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok());
        let place = match key {
            labels::EVENT => self.events().first().copied(),
            labels::UNLOCK => Some(self.unlocked()?),
            // A window over the whole sequence has its number of steps, and targets at every step have an interval of 1.
            "train.bptt" if written.is_none() => self.steps,
            "train.feedback_every" if written.is_none() => Some(1),
            _ => whole,
        };
        let place = place.ok_or_else(|| {
            Error::Usage(format!("`{key}` of run {} is no whole number, which the horizontal axis needs", self.hash))
        })?;
        // These are no steps of a sequence.
        let percent = percent && ![labels::EVENT, labels::UNLOCK].contains(&key);
        match (percent, self.steps) {
            (false, _) => Ok(place),
            (true, Some(steps)) => Ok((100.0 * place as f64 / steps.max(1) as f64).round() as usize),
            (true, None) => {
                let hash = &self.hash;
                Err(Error::Usage(format!("sequences of run {hash} vary in length: `{key}` is no share of them")))
            }
        }
    }

    /// The seeds, ascending.
    pub fn seeds(&self) -> Vec<u64> {
        self.units.iter().map(|unit| unit.seed).collect()
    }

    /// Whether lower values of a metric are better.
    pub fn direction(&self, metric: &Metric) -> Direction {
        let metrics = self.units.first().map(|unit| unit.result.metrics.as_slice()).unwrap_or_default();
        let name = metric.column.strip_prefix("val_");
        metrics
            .iter()
            .find(|metric| Some(metric.name.as_str()) == name)
            .map_or(Direction::Lower, |metric| metric.direction)
    }

    /// Names of the columns that are scores.
    pub fn columns(&self) -> Vec<&str> {
        self.units.first().map(|unit| unit.table.scores()).unwrap_or_default()
    }

    fn first_validation(&self) -> Option<String> {
        let metric = self.units.first()?.result.metrics.first()?;
        Some(format!("val_{}", metric.name)).filter(|column| self.columns().contains(&column.as_str()))
    }

    /// The unit of a column; `None` if unknown. Training losses have that of the first validation metric.
    fn unit(&self, column: &str) -> Option<&str> {
        let metrics = &self.units.first()?.result.metrics;
        let metric = match column.strip_prefix("val_") {
            Some(name) => metrics.iter().find(|metric| metric.name == name),
            None if column.starts_with("train_loss") => metrics.first(),
            None => None,
        };
        metric.map(|metric| metric.unit.as_str())
    }
}

/// The metric that is drawn.
pub(super) struct Metric {
    /// The column of `metrics.csv`.
    pub column: String,
    /// The axis label.
    pub label: String,
    /// Factor for the values.
    pub factor: f64,
}

impl Metric {
    /// The requested metric, or the first validation metric; all runs must have it, in one unit.
    pub fn choose(requested: Option<&str>, runs: &[&Loaded]) -> Result<Self> {
        let Some(first) = runs.first() else { return Err(Error::Usage("there is no run to plot".into())) };
        let column = match requested {
            Some(name) => find(name, runs)?,
            None => first.first_validation().unwrap_or_else(|| "train_loss".into()),
        };
        for run in runs {
            if !run.columns().contains(&column.as_str()) {
                let with = runs.iter().find(|run| run.columns().contains(&column.as_str()));
                return Err(Error::Usage(format!(
                    "the runs' metrics differ: {} has no `{column}`{}; it has {}; choose one that all have with `--metric`",
                    run.hash,
                    with.map_or_else(String::new, |with| format!(", which {} has", with.hash)),
                    run.columns().join(", ")
                )));
            }
            let (here, there) = (run.unit(&column), first.unit(&column));
            if here != there {
                let unit = |unit: Option<&str>| unit.unwrap_or("no unit").to_owned();
                return Err(Error::Usage(format!(
                    "`{column}` of {} is in {}, and that of {} in {}: they cannot share an axis",
                    run.hash,
                    unit(here),
                    first.hash,
                    unit(there)
                )));
            }
        }
        let unit = first.unit(&column);
        let label = match column.as_str() {
            "train_loss" => labelled("training loss", unit),
            // It is a sum over windows, so the unit per step does not apply.
            "train_loss_original" => "training loss as reported".into(),
            _ => match column.strip_prefix("val_") {
                Some(name) => labelled(&format!("validation {name}"), unit),
                None => column.clone(),
            },
        };
        Ok(Metric { column, label, factor: 1.0 })
    }

    /// The metric with scaled values, as shown by axis and tables; nats times log2(e) are bits.
    pub fn times(self, factor: f64) -> Self {
        let label = match self.label.strip_suffix("(nats)") {
            Some(named) if is_nats_to_bits(factor) => format!("{named}(bits)"),
            _ if factor == 1.0 => self.label,
            _ => format!("{} × {factor}", self.label),
        };
        Metric { label, factor, ..self }
    }

    /// Heading of its table column.
    pub fn title(&self) -> String {
        match self.label.ends_with("(bits)") {
            true if is_nats_to_bits(self.factor) => format!("{} (bits)", self.column),
            _ if self.factor == 1.0 => self.column.clone(),
            _ => format!("{} × {}", self.column, self.factor),
        }
    }
}

/// Whether a factor is log2(e), written with six digits or more.
fn is_nats_to_bits(factor: f64) -> bool {
    (factor - std::f64::consts::LOG2_E).abs() < 1e-6
}

/// Resolves a metric's name to a column.
fn find(name: &str, runs: &[&Loaded]) -> Result<String> {
    let columns: Vec<&str> = runs.iter().flat_map(|run| run.columns()).collect();
    let validation = format!("val_{name}");
    let found = [name, &validation].into_iter().find(|column| columns.contains(column));
    found.map(str::to_owned).ok_or_else(|| {
        let help = match nearest(name, columns.iter().flat_map(|column| [*column, column.trim_start_matches("val_")])) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", runs.first().map(|run| run.columns().join(", ")).unwrap_or_default()),
        };
        Error::Usage(format!("--metric {name}: these runs have no such column; {help}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats_become_bits_and_other_factors_are_shown() {
        let metric = || Metric { column: "val_nll".into(), label: "validation nll (nats)".into(), factor: 1.0 };
        let shown = |factor: f64| {
            let metric = metric().times(factor);
            (metric.title(), metric.label)
        };
        // As the specs write it.
        let bits: f64 = "1.442695".parse().unwrap();
        assert_eq!(shown(bits), ("val_nll (bits)".into(), "validation nll (bits)".into()));
        assert_eq!(shown(100.0), ("val_nll × 100".into(), "validation nll (nats) × 100".into()));
        assert_eq!(shown(1.0), ("val_nll".into(), "validation nll (nats)".into()));
    }
}
