//! Reads the files of finished units, the only input of reports.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use crate::data::Direction;
use crate::error::Result;
use crate::files;
use crate::records::{SeedRecord, SeedResult, SeedRun, SeedState};

/// The columns that every table starts with, and the one that is not a score.
const FIRST_COLUMNS: [&str; 4] = ["seed", "epoch", "train_loss", "train_loss_original"];
const CLOCK: &str = "seconds";

/// Most bytes of a table of epochs.
const MAX_TABLE: u64 = 256 << 20;

/// One finished seed.
#[derive(Debug)]
pub(super) struct FinishedSeed {
    pub seed: u64,
    /// Where and when it was trained.
    pub record: SeedRecord,
    pub result: SeedResult,
    pub table: Table,
    pub showcase: Option<Showcase>,
}

/// A unit's `metrics.csv`.
#[derive(Debug)]
pub(crate) struct Table {
    pub header: Vec<String>,
    /// The rows, verbatim.
    pub rows: Vec<csv::StringRecord>,
    /// The rows as numbers, `[row][column]`.
    values: Vec<Vec<f64>>,
}

/// Outputs for a task's showcase: `[patterns, time, size]`, row-major.
#[derive(Debug)]
pub(crate) struct Showcase {
    pub shape: [usize; 3],
    pub predictions: Vec<f32>,
    pub targets: Vec<f32>,
    pub labels: Vec<String>,
    /// Images of the inputs, if the task provides them.
    pub images: Option<InputImages>,
}

/// Images, `[patterns, height, width]`: 0 is background.
#[derive(Debug)]
pub(crate) struct InputImages {
    pub height: usize,
    pub width: usize,
    pub pixels: Vec<u8>,
}

/// Reads all finished units of a run's directory, by ascending seed.
///
/// # Errors
/// [`crate::Error::Data`] if a file of a finished unit is missing or damaged, or if units have different columns.
pub(super) fn read_all(run: &Path) -> Result<Vec<FinishedSeed>> {
    read_some(run, |_| true)
}

/// As [`read_all`], of the seeds for which `wanted` is true: a damaged unit does not matter to the others.
pub(super) fn read_some(run: &Path, wanted: impl Fn(u64) -> bool) -> Result<Vec<FinishedSeed>> {
    let mut units: Vec<FinishedSeed> = Vec::new();
    for files in SeedRun::all(run)?.into_iter().filter(|files| wanted(files.seed)) {
        let Some(unit) = read(&files)? else { continue };
        if let Some(first) = units.first().filter(|first| first.table.header != unit.table.header) {
            let (theirs, ours) = (&first.table.header, &unit.table.header);
            let what = format!("has columns {ours:?}, while seed {} has {theirs:?}", first.seed);
            return Err(files.damaged(&files.metrics_path(), what));
        }
        units.push(unit);
    }
    Ok(units)
}

/// The units from best to worst by the first validation metric at the epoch whose weights are kept; ties by seed.
pub(super) fn ranked(units: &[FinishedSeed]) -> Vec<&FinishedSeed> {
    let mut ranked: Vec<&FinishedSeed> = units.iter().collect();
    ranked.sort_by(|a, b| {
        let (x, y) = (a.final_value(), b.final_value());
        match a.direction() {
            // NaN is last in either direction.
            Direction::Lower => x.is_nan().cmp(&y.is_nan()).then(x.total_cmp(&y)),
            Direction::Higher => x.is_nan().cmp(&y.is_nan()).then(y.total_cmp(&x)),
        }
    });
    ranked
}

impl FinishedSeed {
    /// The first validation metric, or the training loss without validation, at the kept epoch.
    fn final_value(&self) -> f64 {
        let column = self.first_validation().unwrap_or_else(|| "train_loss".into());
        self.table.at(&column, self.result.kept_epoch).unwrap_or(f64::NAN)
    }

    fn first_validation(&self) -> Option<String> {
        let column = format!("val_{}", self.result.metrics.first()?.name);
        self.table.header.contains(&column).then_some(column)
    }

    fn direction(&self) -> Direction {
        match (self.first_validation(), self.result.metrics.first()) {
            (Some(_), Some(metric)) => metric.direction,
            _ => Direction::Lower,
        }
    }
}

impl Table {
    /// Names of the columns that are scores, in the order of `scores.npy`.
    pub fn scores(&self) -> Vec<&str> {
        let rest = self.header[FIRST_COLUMNS.len()..].iter().map(String::as_str).filter(|&name| name != CLOCK);
        ["train_loss_original", "train_loss"].into_iter().chain(rest).collect()
    }

    /// A column, one number per epoch; empty if it does not exist.
    pub fn column(&self, name: &str) -> Vec<f64> {
        let index = self.header.iter().position(|column| column == name);
        index.map(|index| self.values.iter().map(|row| row[index]).collect()).unwrap_or_default()
    }

    /// Adds a column, one number per epoch.
    pub fn add(&mut self, name: &str, column: &[f64]) {
        self.header.push(name.to_owned());
        for (index, row) in self.values.iter_mut().enumerate() {
            row.push(column.get(index).copied().unwrap_or(f64::NAN));
        }
    }

    /// A column's value at an epoch.
    pub fn at(&self, name: &str, epoch: usize) -> Option<f64> {
        let row = self.column("epoch").iter().position(|&of| of == epoch as f64)?;
        self.column(name).get(row).copied()
    }
}

fn read(files: &SeedRun) -> Result<Option<FinishedSeed>> {
    let record = files.record()?.filter(|record| record.state == SeedState::Done);
    record.map(|record| finished(files, record)).transpose()
}

/// Reads the files of a unit with this record.
///
/// # Errors
/// [`crate::Error::Data`] if the record has no result or is of another seed, or a file is missing or damaged.
pub(super) fn finished(files: &SeedRun, mut record: SeedRecord) -> Result<FinishedSeed> {
    let seed = files.seed;
    if record.seed != seed {
        return Err(
            files.damaged(&files.record_path(), format!("is of seed {}, in the folder of seed {seed}", record.seed))
        );
    }
    let result = record.result.take().ok_or_else(|| files.no_result())?;
    let (table, showcase) = (read_table(files)?, read_showcase(files, &files.showcase_path())?);
    Ok(FinishedSeed { seed, record, result, table, showcase })
}

/// Reads `metrics.csv` of a seed.
///
/// # Errors
/// Fails if it is missing, damaged or of another seed.
pub(crate) fn read_table(files: &SeedRun) -> Result<Table> {
    let (path, seed) = (&files.metrics_path(), files.seed);
    let damaged = |what: String| files.damaged(path, what);
    let bytes = files::read_at_most(path, MAX_TABLE)?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let broken = |error: csv::Error| damaged(error.to_string());
    let header: Vec<String> = reader.headers().map_err(broken)?.iter().map(str::to_owned).collect();
    if header.len() < FIRST_COLUMNS.len() || header[..FIRST_COLUMNS.len()] != FIRST_COLUMNS {
        return Err(damaged(format!("starts with the columns {header:?}, not with {FIRST_COLUMNS:?}")));
    }
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().map_err(broken)?;
    let mut values = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let line = index + 2;
        let number = |cell: &str| cell.parse().map_err(|_| damaged(format!("line {line}: `{cell}` is no number")));
        let numbers: Vec<f64> = row.iter().map(number).collect::<Result<_>>()?;
        if row[0] != *seed.to_string() {
            return Err(damaged(format!("line {line} is of seed {}, not {seed}", &row[0])));
        }
        values.push(numbers);
    }
    if rows.is_empty() {
        return Err(damaged("has no epochs".into()));
    }
    Ok(Table { header, rows, values })
}

/// Reads `showcase.safetensors` of a seed, or of one of its recorded epochs, at `path`; `None` if there is none.
///
/// # Errors
/// [`crate::Error::Data`] if it is damaged.
pub(crate) fn read_showcase(files: &SeedRun, path: &Path) -> Result<Option<Showcase>> {
    let damaged = |what: String| files.damaged(path, what);
    let Some(bytes) = files::read(path)? else { return Ok(None) };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let labels = header.metadata().as_ref().and_then(|metadata| metadata.get("labels")).map(String::as_str);
    let labels: Vec<String> = serde_json::from_str(labels.unwrap_or("null"))
        .map_err(|error| damaged(format!("its `labels` are no list of names: {error}")))?;

    let tensors =
        candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| damaged(error.to_string()))?;
    let tensor = |name: &str| -> Result<([usize; 3], Vec<f32>)> {
        let tensor = tensors.get(name).ok_or_else(|| damaged(format!("lacks the tensor `{name}`")))?;
        let (patterns, time, size) = tensor
            .dims3()
            .map_err(|_| damaged(format!("`{name}` is {:?}, not [patterns, time, size]", tensor.dims())))?;
        Ok(([patterns, time, size], tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?))
    };
    let ((shape, predictions), (target_shape, targets)) = (tensor("predictions")?, tensor("targets")?);
    if shape != target_shape || labels.len() != shape[0] {
        let what = format!("predictions {shape:?}, targets {target_shape:?} and {} labels do not fit", labels.len());
        return Err(damaged(what));
    }
    let images = tensors.get("images").map(|images| read_images(files, path, images, shape[0])).transpose()?;
    Ok(Some(Showcase { shape, predictions, targets, labels, images }))
}

fn read_images(files: &SeedRun, path: &Path, images: &Tensor, patterns: usize) -> Result<InputImages> {
    match (images.dtype(), images.dims()) {
        (DType::U8, &[count, height, width]) if count == patterns && height > 0 && width > 0 => {
            Ok(InputImages { height, width, pixels: images.flatten_all()?.to_vec1()? })
        }
        (dtype, dims) => {
            let what = format!("`images` are {dtype:?} {dims:?}, not U8 [{patterns}, height, width]");
            Err(files.damaged(path, what))
        }
    }
}
