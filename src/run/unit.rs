//! The files of a unit: the parts of [`SeedRun`] that a worker writes under its claim.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;

use super::claim::Claim;
use super::directory::TOKENIZER;
use super::weights::BackboneSource;
use super::{clock, weights};
use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::files;
use crate::records::{EpochProgress, SHOWCASE, SeedRecord, SeedResult, SeedRun, SeedState};
use crate::train::{BatchLoss, EpochRow, Finished, MetricInfo, NUMERICS, ShowcaseResult, TaskOutputs};

/// The column of an epoch's wall-clock time, to the microsecond.
const SECONDS: &str = "seconds";

impl SeedResult {
    /// Summarises a finished unit.
    pub fn of(finished: &Finished) -> Self {
        let kept = finished.history.iter().find(|row| row.epoch == finished.kept_epoch);
        SeedResult {
            seconds: (finished.history.iter().map(|row| row.seconds).sum::<f64>() * 1e6).round() / 1e6,
            metrics: finished.metrics.clone(),
            epochs: finished.history.len(),
            best_epoch: finished.best_epoch,
            kept_epoch: finished.kept_epoch,
            train_loss: finished.history.last().and_then(|row| finite(row.train_loss)),
            validation: kept.map_or_else(Vec::new, |row| row.validation.iter().copied().map(finite).collect()),
            test: finished.test.iter().copied().map(finite).collect(),
            scores: finished.outputs.evaluation.as_ref().map_or_else(Vec::new, |evaluation| evaluation.scores.clone()),
        }
    }
}

/// JSON has no NaN.
fn finite(number: f64) -> Option<f64> {
    Some(number).filter(|number| number.is_finite())
}

impl SeedRun {
    /// `checkpoint.safetensors`.
    pub fn checkpoint_path(&self) -> PathBuf {
        self.directory.join("checkpoint.safetensors")
    }

    /// `decoder.safetensors`: the kept weights.
    pub fn weights_path(&self) -> PathBuf {
        self.directory.join(weights::DECODER)
    }

    /// `encoder.safetensors`: the kept weights of the image encoder, if any.
    pub fn encoder_path(&self) -> PathBuf {
        self.directory.join(weights::ENCODER)
    }

    /// Size of a showcase output per step; `None` if there is no readable showcase.
    pub fn showcase_size(&self) -> Option<usize> {
        let bytes = files::read(&self.showcase_path()).ok()??;
        let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
        header.info("predictions")?.shape.last().copied()
    }

    /// `recordings/epoch-0001.safetensors`.
    pub fn recording_path(&self, epoch: usize) -> PathBuf {
        self.recordings_path().join(format!("epoch-{epoch:04}.safetensors"))
    }

    /// The record of a unit that is done or failed, after checking the files of a done one.
    ///
    /// # Errors
    /// As [`Self::record`]; [`Error::Data`] naming a missing or damaged file of a done unit.
    pub fn settled(&self) -> Result<Option<SeedRecord>> {
        let record = self.record()?.filter(|record| record.state != SeedState::Unfinished);
        if let Some(done) = record.as_ref().filter(|record| record.state == SeedState::Done) {
            self.check_files(done.result.as_ref().ok_or_else(|| self.no_result())?)?;
        }
        Ok(record)
    }

    /// Checks that weights and metrics of a done unit are complete.
    fn check_files(&self, result: &SeedResult) -> Result<()> {
        let (weights, metrics) = (self.weights_path(), self.metrics_path());
        let read = |path: &Path| files::read(path)?.ok_or_else(|| self.damaged(path, "is missing"));
        SafeTensors::deserialize(&read(&weights)?)
            .map_err(|error| self.damaged(&weights, format!("is damaged ({error})")))?;
        match String::from_utf8_lossy(&read(&metrics)?).lines().count().saturating_sub(1) {
            rows if rows == result.epochs => Ok(()),
            rows => Err(self.damaged(&metrics, format!("is damaged ({rows} rows for {} epochs)", result.epochs))),
        }
    }

    /// Records that a unit, if it was begun, has failed.
    ///
    /// # Errors
    /// As [`Self::record`] and [`Claim::write`].
    pub fn fail(&self, claim: &Claim, reason: &str) -> Result<()> {
        let Some(mut record) = self.record()?.filter(|record| record.state == SeedState::Unfinished) else {
            return Ok(());
        };
        record.state = SeedState::Failed;
        record.reason = Some(reason.into());
        record.ended = Some(clock::now());
        self.write_record(claim, &record)
    }

    /// Writes `unit.json`.
    ///
    /// # Errors
    /// As [`Claim::write`].
    pub fn write_record(&self, claim: &Claim, record: &SeedRecord) -> Result<()> {
        claim.write(&self.record_path(), &files::to_json(&self.record_path(), record)?)
    }

    /// Whether the unit is trained to the end.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn is_done(&self) -> Result<bool> {
        Ok(self.record()?.is_some_and(|record| record.state == SeedState::Done))
    }

    /// Whether there are weights of a unit that was trained to the end, or imported.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn has_weights(&self) -> Result<bool> {
        let record = self.record()?;
        let there = |record: SeedRecord| matches!(record.state, SeedState::Done | SeedState::Imported);
        Ok(record.is_some_and(there) && self.weights_path().exists())
    }

    /// Rejects imported weights: they are no result of training here.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check_trained_here(&self) -> Result<()> {
        match self.record()? {
            Some(record) if record.state == SeedState::Imported => Err(Error::Usage(format!(
                "{} has weights imported from {}, and no training; train in another directory with `--outputs DIR`, or start \
                 from these weights with `train.init_from`",
                self.directory.display(),
                record.imported.iter().map(|imported| imported.file.as_str()).collect::<Vec<_>>().join(", ")
            ))),
            _ => Ok(()),
        }
    }

    /// Rejects results of a program version whose numerics differ: they can be neither mixed nor resumed.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check_numerics(&self) -> Result<()> {
        match self.record()? {
            Some(record) if record.numerics != NUMERICS => Err(Error::Usage(format!(
                "seed {} in {} was trained by ccdni {}, whose numbers differ from those of this version (numerics {} \
                 and {NUMERICS}): results of the two cannot be mixed; use that version, or {}",
                self.seed,
                self.directory.display(),
                record.version,
                record.numerics,
                self.advice(),
            ))),
            _ => Ok(()),
        }
    }

    /// Writes `metrics.csv`: one row per epoch.
    ///
    /// # Errors
    /// As [`Claim::write`].
    pub fn write_metrics(&self, claim: &Claim, metrics: &[MetricInfo], history: &[EpochRow]) -> Result<()> {
        if history.iter().any(|row| !row.batches.is_empty()) {
            claim.write(&self.batches_path(), batches_csv(self.seed, history).as_bytes())?;
        }
        claim.write(&self.metrics_path(), metrics_csv(self.seed, metrics, history).as_bytes())
    }

    /// Writes `metrics.csv` of a unit in training, for those who look on. It is not synced: the finished one is.
    ///
    /// # Errors
    /// As [`Claim::write`].
    pub fn show_metrics(&self, claim: &Claim, metrics: &[MetricInfo], history: &[EpochRow]) -> Result<()> {
        claim.verify()?;
        files::put_whole(&self.metrics_path(), metrics_csv(self.seed, metrics, history).as_bytes())
    }

    /// Writes `progress.json`, for those who look on.
    ///
    /// # Errors
    /// As [`Claim::write`].
    pub fn show_progress(&self, claim: &Claim, progress: EpochProgress) -> Result<()> {
        claim.verify()?;
        files::put_whole(&self.progress_path(), &files::to_json(&self.progress_path(), &progress)?)
    }

    /// Writes `decoder.safetensors` and, with an image encoder, `encoder.safetensors`: its trained weights, with the source
    /// of the others in the header.
    ///
    /// # Errors
    /// As [`Claim::write`], or a tensor that cannot be copied to the CPU.
    pub fn write_weights(&self, claim: &Claim, weights: &[(String, Tensor)], source: &BackboneSource) -> Result<()> {
        let [decoder, encoder] = super::weights::divide(weights);
        if !encoder.is_empty() {
            let source = serde_json::to_string(source).unwrap_or_default();
            claim.write(&self.encoder_path(), &to_safetensors(&encoder, Some((weights::SOURCE, source)))?)?;
        }
        // The vocabulary is in the run's directory, shared by all seeds.
        let words = self.directory.ancestors().nth(2).map(|run| run.join(TOKENIZER)).filter(|words| words.is_file());
        let words = words.map(|words| Vocabulary::load(&words)).transpose()?;
        let words = words.map(|words| (weights::WORDS, words.digest()));
        claim.write(&self.weights_path(), &to_safetensors(&decoder, words)?)
    }

    /// Writes an epoch's recordings.
    ///
    /// # Errors
    /// As [`Claim::write`], or a tensor that cannot be copied to the CPU.
    pub fn write_recording(&self, claim: &Claim, epoch: usize, tensors: &[(String, Tensor)]) -> Result<()> {
        let path = self.recording_path(epoch);
        if let Some(directory) = path.parent() {
            files::create_directory(directory).map_err(Error::io("create the directory", directory))?;
        }
        claim.write(&path, &to_safetensors(tensors, None)?)
    }

    /// Writes what a network draws or generates into a directory: that of the unit, or of an epoch ([`Self::outputs_of`]). Files
    /// that show the inputs are the same for all of them, and are in the unit's.
    ///
    /// # Errors
    /// As [`Claim::write`], or a tensor that cannot be copied to the CPU.
    pub fn write_outputs(&self, claim: &Claim, directory: &Path, outputs: &TaskOutputs) -> Result<()> {
        claim.verify()?;
        files::create_directory(directory).map_err(Error::io("create the directory", directory))?;
        if let Some(showcase) = &outputs.showcase {
            claim.write(&directory.join(SHOWCASE), &showcase_file(showcase)?)?;
        }
        let Some(evaluation) = &outputs.evaluation else { return Ok(()) };
        evaluation.files.iter().try_for_each(|(name, bytes)| claim.write(&directory.join(name), bytes))?;
        let inputs = evaluation.inputs.iter().map(|(name, bytes)| (self.directory.join(name), bytes));
        inputs.filter(|(path, _)| !path.exists()).try_for_each(|(path, bytes)| claim.write(&path, bytes))
    }
}

/// `showcase.safetensors`: `predictions`, `targets` and optionally `images`, with the patterns' names as a JSON list in the header.
fn showcase_file(showcase: &ShowcaseResult) -> Result<Vec<u8>> {
    let mut tensors =
        vec![("predictions".into(), showcase.predictions.clone()), ("targets".into(), showcase.targets.clone())];
    tensors.extend(showcase.images.iter().map(|images| ("images".into(), images.clone())));
    let labels = serde_json::to_string(&showcase.labels).unwrap_or_default();
    to_safetensors(&tensors, Some(("labels", labels)))
}

/// Columns `seed`, `epoch`, then those of [`columns`].
fn metrics_csv(seed: u64, metrics: &[MetricInfo], history: &[EpochRow]) -> String {
    let names = history.iter().take(1).flat_map(|row| columns(metrics, row)).map(|(name, _)| name);
    let header: Vec<String> = ["seed", "epoch"].map(Into::into).into_iter().chain(names).collect();
    let mut lines = vec![header.join(",")];
    for row in history {
        let mut cells = vec![seed.to_string(), row.epoch.to_string()];
        cells.extend(columns(metrics, row).into_iter().map(|(name, value)| match name == SECONDS {
            true => format!("{value:.6}"),
            false => value.to_string(),
        }));
        lines.push(cells.join(","));
    }
    lines.join("\n") + "\n"
}

/// The training loss of every batch.
fn batches_csv(seed: u64, history: &[EpochRow]) -> String {
    let mut text = String::from("seed,epoch,batch,train_loss,train_loss_original\n");
    for row in history {
        for (index, batch) in row.batches.iter().enumerate() {
            let BatchLoss { train_loss, train_loss_original } = batch;
            text += &format!("{seed},{},{},{train_loss},{train_loss_original}\n", row.epoch, index + 1);
        }
    }
    text
}

/// The numbers of an epoch: `train_loss, train_loss_original, val_<metric>..., seconds`, then further columns.
pub(super) fn columns(metrics: &[MetricInfo], row: &EpochRow) -> Vec<(String, f64)> {
    let losses = [("train_loss", row.train_loss), ("train_loss_original", row.train_loss_original)];
    let mut columns: Vec<(String, f64)> = losses.map(|(name, value)| (name.into(), value)).into();
    columns.extend(metrics.iter().zip(&row.validation).map(|(metric, value)| (format!("val_{}", metric.name), *value)));
    columns.push((SECONDS.into(), row.seconds));
    columns.extend(row.extra.iter().map(|extra| (extra.name.clone(), extra.value)));
    columns
}

/// Serialises tensors as safetensors with at most one metadata entry: the order of several, and so the bytes, would be
/// arbitrary.
///
/// # Errors
/// Fails if a tensor cannot be copied to the CPU.
pub fn to_safetensors(tensors: &[(String, Tensor)], metadata: Option<(&str, String)>) -> Result<Vec<u8>> {
    let on_cpu = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), tensor.to_device(&Device::Cpu)?.contiguous()?)))
        .collect::<Result<Vec<_>>>()?;
    let metadata = metadata.map(|(key, value)| [(key.to_string(), value)].into());
    Ok(safetensors::serialize(on_cpu, metadata).map_err(candle_core::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Direction;
    use crate::train::Extra;

    fn unit(directory: &Path) -> SeedRun {
        SeedRun { directory: directory.to_path_buf(), seed: 7 }
    }

    fn row(epoch: usize) -> EpochRow {
        EpochRow {
            epoch,
            train_loss: 0.1,
            train_loss_original: 1.0 / 3.0,
            validation: vec![f64::NAN],
            seconds: 0.25,
            extra: vec![Extra { name: "cosine".into(), value: 0.5 }],
            batches: Vec::new(),
        }
    }

    fn mse() -> Vec<MetricInfo> {
        vec![MetricInfo { name: "mse".into(), unit: "squared distance".into(), direction: Direction::Lower }]
    }

    fn record(state: SeedState) -> SeedRecord {
        SeedRecord {
            seed: 7,
            state,
            imported: Vec::new(),
            reason: None,
            numerics: NUMERICS,
            version: "0.1.0".into(),
            host: "here".into(),
            device: "cpu".into(),
            instruction_set: "x86_64".into(),
            backend: "fused".into(),
            threads: 1,
            started: "2026-11-23T22:33:05Z".into(),
            ended: None,
            notes: Vec::new(),
            result: None,
        }
    }

    #[test]
    fn metrics_have_the_columns_in_their_order_and_numbers_that_read_back() {
        assert_eq!(
            metrics_csv(7, &mse(), &[row(1), row(2)]),
            "seed,epoch,train_loss,train_loss_original,val_mse,seconds,cosine\n\
             7,1,0.1,0.3333333333333333,NaN,0.250000,0.5\n\
             7,2,0.1,0.3333333333333333,NaN,0.250000,0.5\n"
        );
    }

    #[test]
    fn a_record_reads_back_with_and_without_a_result() {
        let directory = tempfile::tempdir().unwrap();
        let unit = unit(directory.path());
        assert_eq!(unit.record().unwrap(), None);
        let finished = Finished {
            history: vec![row(1), row(2)],
            metrics: mse(),
            best_epoch: 1,
            kept_epoch: 2,
            weights: Vec::new(),
            test: vec![0.25],
            outputs: TaskOutputs { showcase: None, evaluation: None },
        };
        let done = SeedRecord { result: Some(SeedResult::of(&finished)), ..record(SeedState::Done) };
        for record in [record(SeedState::Unfinished), done] {
            files::write_json(&unit.record_path(), &record).unwrap();
            assert_eq!(unit.record().unwrap(), Some(record));
        }
        assert!(unit.is_done().unwrap());
    }

    #[test]
    fn other_numerics_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let unit = unit(directory.path());
        unit.check_numerics().unwrap();
        let other = SeedRecord { numerics: NUMERICS + 1, ..record(SeedState::Unfinished) };
        files::write_json(&unit.record_path(), &other).unwrap();
        let error = unit.check_numerics().unwrap_err();
        assert!(error.to_string().contains("--force") && error.exit_code() == 2, "{error}");
    }

    #[test]
    fn tensors_are_written_with_the_same_bytes_each_time() {
        let tensor = Tensor::arange(0f32, 6., &Device::Cpu).unwrap().reshape((2, 3)).unwrap().t().unwrap();
        let named = [("b".to_string(), tensor.clone()), ("a".to_string(), tensor)];
        let written = || to_safetensors(&named, Some(("labels", "[]".into()))).unwrap();
        assert_eq!(written(), written());
        let read = candle_core::safetensors::load_buffer(&written(), &Device::Cpu).unwrap();
        assert_eq!(read["a"].to_vec2::<f32>().unwrap(), [[0., 3.], [1., 4.], [2., 5.]]);
    }
}
