//! Event files, as TensorBoard reads them: a seed's metrics, spec, hyper-parameters and figures as records of protocol buffers.
//!
//! The messages are those of `event.proto`, `summary.proto` and the `plugin_data.proto` of hyper-parameters in
//! <https://github.com/tensorflow/tensorboard>.

mod message;
mod record;

use std::path::Path;

use serde_json::Value;

use super::compare::tree;
use super::curves::LearningCurves;
use super::drawings::Drawings;
use super::figure::{self, Png};
use super::image_grid::ImageGrid;
use super::units::{self, FinishedSeed};
use crate::error::{Error, Result};
use crate::records::{SeedRecord, SeedRun};
use crate::spec::{read_resolved, whole_line};
use message::Message;
use record::record;

/// Kinds of data in TensorBoard's store.
const TENSOR: u64 = 2;

/// The first records of a run's event file: version, start of a session, the spec as text, and hyper-parameters. `time` is in
/// seconds since 1970.
///
/// A reader of an earlier file of the same seed forgets its values at the start of the session.
///
/// # Errors
/// If the run's `spec.yaml` cannot be read.
pub fn opening(run: &Path, time: f64) -> Result<Vec<u8>> {
    let path = run.join("spec.yaml");
    let yaml = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let tree = tree(&read_resolved(&path)?);
    let hash = run.file_name().unwrap_or_default().to_string_lossy();
    let version = record(&Message::default().double(1, time).bytes(3, "brain.Event:2").into_bytes());
    let started = record(&Message::default().double(1, time).message(7, Message::default().integer(1, 1)).into_bytes());
    let values = [text("spec", &format!("```yaml\n{yaml}```\n")), session_start(&tree, &hash, time)];
    Ok([version, started, event(time, 0, values)].concat())
}

/// The record of an epoch.
pub fn epoch<'a>(time: f64, epoch: usize, scalars: impl IntoIterator<Item = (&'a str, f64)>) -> Vec<u8> {
    event(time, epoch, scalars.into_iter().map(|(tag, value)| scalar(tag, value)))
}

/// The last records of a seed: results of the kept weights as `final/...`, figures, and the end of the session. The seed's
/// metrics and showcase must have been written; `of` is its record.
///
/// # Errors
/// [`Error::Data`] for a damaged file; [`Error::Io`] if a figure cannot be drawn.
pub fn ending(files: &SeedRun, of: &SeedRecord, time: f64) -> Result<Vec<u8>> {
    let unit = units::finished(files, of.clone())?;
    let last = unit.result.epochs;
    let results = event(time, last, results(&unit).iter().map(|(tag, value)| scalar(tag, *value)));
    let figures = event(time, last, figures(unit)?.iter().map(|(tag, png)| image(tag, png)));
    // `STATUS_SUCCESS`.
    let end = Message::default().integer(1, 1).double(2, time);
    Ok([results, figures, event(time, last, [hyper_parameters("session_end_info", 4, end)])].concat())
}

/// The whole event file of a finished seed, which ended at `time`.
///
/// # Errors
/// [`Error::Data`] for a damaged file; [`Error::Io`].
pub fn whole(run: &Path, files: &SeedRun, of: &SeedRecord, time: f64) -> Result<Vec<u8>> {
    let table = units::read_table(files)?;
    let seconds = table.column("seconds");
    let mut now = time - seconds.iter().sum::<f64>();
    let mut bytes = opening(run, now)?;
    let columns: Vec<(&str, Vec<f64>)> =
        table.header.iter().skip(2).map(|name| (name.as_str(), table.column(name))).collect();
    for (row, number) in table.column("epoch").into_iter().enumerate() {
        now += seconds.get(row).copied().unwrap_or_default();
        let scalars = columns.iter().filter_map(|(name, column)| Some((*name, *column.get(row)?)));
        bytes.extend(epoch(now, number as usize, scalars));
    }
    // Rounded sums may be later.
    bytes.extend(ending(files, of, time.max(now))?);
    Ok(bytes)
}

/// Validation, test metrics and scores of the kept weights.
fn results(unit: &FinishedSeed) -> Vec<(String, f64)> {
    let FinishedSeed { result, .. } = unit;
    let named = |prefix: &str, values: &[Option<f64>]| -> Vec<(String, f64)> {
        let value = |value: &Option<f64>| value.unwrap_or(f64::NAN);
        let name = |name: &str| format!("final/{prefix}_{name}");
        result.metrics.iter().zip(values).map(|(metric, of)| (name(&metric.name), value(of))).collect()
    };
    let scores = result.scores.iter().map(|(name, value)| (format!("final/{name}"), *value));
    [named("val", &result.validation), named("test", &result.test), scores.collect()].concat()
}

/// The figures of a seed, by name.
fn figures(unit: FinishedSeed) -> Result<Vec<(&'static str, Png)>> {
    let units = [unit];
    let mut figures = vec![("learning", figure::to_png(&LearningCurves::new(&units))?)];
    if let Some(drawings) = Drawings::new(&units) {
        figures.push(("drawings", figure::to_png(&drawings)?));
    }
    if let Some(images) = ImageGrid::new(&units) {
        figures.push(("pictures", figure::to_png(&images)?));
    }
    Ok(figures)
}

/// A record of values at a step.
fn event(time: f64, step: usize, values: impl IntoIterator<Item = Message>) -> Vec<u8> {
    let summary = values.into_iter().fold(Message::default(), |summary, value| summary.message(1, value));
    record(&Message::default().double(1, time).integer(2, step as u64).message(5, summary).into_bytes())
}

fn scalar(tag: &str, value: f64) -> Message {
    Message::default().bytes(1, tag).float(2, value as f32)
}

fn image(tag: &str, Png { width, height, bytes }: &Png) -> Message {
    // Three colour channels.
    let image = Message::default().integer(1, (*height).into()).integer(2, (*width).into()).integer(3, 3);
    Message::default().bytes(1, tag).message(4, image.bytes(4, bytes))
}

/// A text in Markdown.
fn text(tag: &str, markdown: &str) -> Message {
    // A vector of one string.
    let tensor = Message::default().integer(1, 7).message(2, vector_of_one()).bytes(8, markdown);
    plugin(tag, "text", tensor, Message::default())
}

/// The hyper-parameters of a session: every value of model, training and task by dotted path. The seeds of a run form a group,
/// of which TensorBoard shows means.
fn session_start(tree: &Value, run: &str, time: f64) -> Message {
    let mut values = Vec::new();
    for part in ["model", "train", "task"] {
        leaves(part, &tree[part], &mut values);
    }
    let entry = |(key, value)| Message::default().bytes(1, key).message(2, value);
    let start = values.into_iter().map(entry).fold(Message::default(), |start, entry| start.message(1, entry));
    hyper_parameters("session_start_info", 3, start.bytes(4, run).double(5, time))
}

/// A message of the plugin for hyper-parameters.
fn hyper_parameters(name: &str, field: u64, content: Message) -> Message {
    // The tensor is not read: a vector of one zero.
    let tensor = Message::default().integer(1, 1).message(2, vector_of_one()).float(5, 0.0);
    plugin(&format!("_hparams_/{name}"), "hparams", tensor, Message::default().message(field, content))
}

/// A value with data for a plugin.
fn plugin(tag: &str, name: &str, tensor: Message, content: Message) -> Message {
    let data = Message::default().bytes(1, name).message(2, content);
    let metadata = Message::default().message(1, data).integer(4, TENSOR);
    Message::default().bytes(1, tag).message(8, tensor).message(9, metadata)
}

/// A tensor's shape, `[1]`.
fn vector_of_one() -> Message {
    Message::default().message(2, Message::default().integer(1, 1))
}

/// The values at or below a path: numbers, booleans and strings, and any other as YAML on one line.
fn leaves(path: &str, value: &Value, into: &mut Vec<(String, Message)>) {
    let leaf = Message::default();
    let leaf = match value {
        Value::Null => return,
        Value::Object(table) => return table.iter().for_each(|(key, at)| leaves(&format!("{path}.{key}"), at, into)),
        Value::Array(items) if items.iter().all(Value::is_object) => {
            return items.iter().enumerate().for_each(|(index, at)| leaves(&format!("{path}.{index}"), at, into));
        }
        Value::Number(number) => leaf.double(2, number.as_f64().unwrap_or(f64::NAN)),
        Value::Bool(value) => leaf.integer(4, (*value).into()),
        Value::String(text) => leaf.bytes(3, text),
        Value::Array(_) => leaf.bytes(3, whole_line(value)),
    };
    into.push((path.into(), leaf));
}
