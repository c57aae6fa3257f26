//! Which caption comes when: the captions of one seed, their words as ids, and batches of one length.

use std::cell::{OnceCell, RefCell};
use std::path::PathBuf;

use candle_core::{Device, Tensor};

use super::{Captioning, FilesSpec};
use crate::data::captions::CaptionSet;
use crate::data::captions::sampler::Sampling;
use crate::data::captions::vocabulary::{Vocabulary, WordCounts};
use crate::data::captions::words::WordTokenizer;
use crate::data::{At, Batch, Dataset, Exam, Inputs, Metric, Pictures, Split, Targets};
use crate::error::{Error, Result};

/// The captions of one seed.
pub(super) struct Captions {
    spec: Captioning,
    seed: u64,
    vocabulary: Vocabulary,
    pictures: Pictures,
    train: Part,
    validation: Part,
    /// The pictures to validate with, and what people wrote about them.
    exam: Exam,
    /// The batches of the epoch of training that was last asked for.
    order: RefCell<Option<Epoch>>,
    /// The batches of validation, once they are asked for.
    measured: OnceCell<Vec<Vec<usize>>>,
}

/// The batches of an epoch of training, each the positions of its captions.
struct Epoch {
    epoch: usize,
    batch_size: usize,
    batches: Vec<Vec<usize>>,
}

/// The captions to train or to validate with.
struct Part {
    /// The ids of all captions, one behind the other.
    ids: Vec<u32>,
    /// Where each begins, and the last one ends.
    starts: Vec<usize>,
    /// Ids of each, start and end included; 0 for one that is left out.
    lengths: Vec<usize>,
    /// The number of the picture of each.
    pictures: Vec<u32>,
}

impl Part {
    fn new(set: &CaptionSet, vocabulary: &Vocabulary, first: usize) -> Part {
        let mut tokenizer = WordTokenizer::new();
        let mut part = Part { ids: Vec::new(), starts: vec![0], lengths: Vec::new(), pictures: Vec::new() };
        for caption in &set.captions {
            let ids = vocabulary.encode(&mut tokenizer, &caption.text);
            part.lengths.push(ids.len());
            part.ids.extend(ids);
            part.starts.push(part.ids.len());
            part.pictures.push((first + caption.image) as u32);
        }
        part
    }

    /// Captions of one length: their pictures, the ids that are read, and those to be said.
    fn batch(&self, captions: &[usize]) -> Result<Batch> {
        let steps = captions.first().map_or(0, |&caption| self.lengths[caption]);
        let mut said = Vec::with_capacity(captions.len() * steps);
        let mut read = Vec::with_capacity(captions.len() * steps);
        for &caption in captions {
            let ids = &self.ids[self.starts[caption]..self.starts[caption + 1]];
            said.extend_from_slice(ids);
            read.extend_from_slice(&ids[..ids.len().saturating_sub(1)]);
        }
        let pictures = captions.iter().map(|&caption| self.pictures[caption]).collect();
        let ids = Tensor::from_vec(read, (captions.len(), steps.saturating_sub(1)), &Device::Cpu)?;
        let targets = Targets::Classes(Tensor::from_vec(said, (captions.len(), steps), &Device::Cpu)?);
        Ok(Batch::new(Inputs::Pictures { pictures, ids }, targets))
    }
}

/// Reads one part of the source.
fn read(files: &FilesSpec) -> Result<CaptionSet> {
    let mut set = CaptionSet::open(&files.captions)?;
    if let Some(list) = &files.only {
        set = set.only(list)?;
    }
    match set.captions.is_empty() {
        true => Err(Error::data(&files.captions, "has no captions")),
        false => Ok(set),
    }
}

/// The pictures of a set that people wrote about, of which the first has the number `first`.
fn exam(set: &CaptionSet, first: usize) -> Exam {
    let mut about: Vec<(u64, Vec<String>)> = set.images.iter().map(|image| (image.id, Vec::new())).collect();
    set.captions.iter().for_each(|caption| about[caption.image].1.push(caption.text.clone()));
    let (pictures, about) = (first as u32..).zip(about).filter(|(_, (_, texts))| !texts.is_empty()).unzip();
    Exam { pictures, about }
}

impl Captions {
    /// Reads captions, and makes or reads the vocabulary.
    ///
    /// # Errors
    /// [`Error::Data`] naming a file that is missing or damaged.
    pub fn open(spec: Captioning, seed: u64) -> Result<Captions> {
        let [train_files, validation_files] = spec.source.files();
        let (train, validation) = (read(&train_files)?, read(&validation_files)?);
        let vocabulary = match &spec.vocabulary {
            Some(path) => Vocabulary::load(path)?,
            None => {
                let texts: Vec<&str> = train.captions.iter().map(|caption| caption.text.as_str()).collect();
                Vocabulary::new(&WordCounts::of(&texts), spec.threshold)
            }
        };
        let paths = |set: &CaptionSet, files: &FilesSpec| -> Vec<PathBuf> {
            set.images.iter().map(|image| files.images.join(&image.file_name)).collect()
        };
        let pictures = Pictures {
            train: paths(&train, &train_files),
            validation: paths(&validation, &validation_files),
            view: spec.view(),
        };
        Ok(Captions {
            seed,
            train: Part::new(&train, &vocabulary, 0),
            validation: Part::new(&validation, &vocabulary, pictures.train.len()),
            exam: if spec.scores { exam(&validation, pictures.train.len()) } else { Exam::default() },
            vocabulary,
            pictures,
            order: RefCell::new(None),
            measured: OnceCell::new(),
            spec,
        })
    }

    fn training(&self, batch_size: usize) -> Sampling {
        let [low, high] = self.spec.lengths;
        Sampling { batch_size, lengths: low..=high, balance: self.spec.balance, shuffle: true, limit: None }
    }

    fn training_batches(&self, batch_size: usize, epoch: usize) -> Result<Vec<Vec<usize>>> {
        self.training(batch_size).batches(&self.train.lengths, self.seed, "data.train", epoch)
    }

    /// The batches of validation: the same for every seed, so that seeds and models are measured alike.
    fn validation_batches(&self) -> Result<&[Vec<usize>]> {
        if let Some(batches) = self.measured.get() {
            return Ok(batches);
        }
        let [low, high] = self.spec.lengths;
        let sampling = Sampling {
            batch_size: self.spec.validation_batch_size,
            lengths: low..=high,
            balance: false,
            shuffle: false,
            limit: Some(self.spec.validation_batches).filter(|limit| *limit > 0),
        };
        let validation = |error| match error {
            Error::Usage(what) => Error::Usage(format!("validation (`task.validation_batch_size`): {what}")),
            other => other,
        };
        let batches = sampling.batches(&self.validation.lengths, 0, "data.validation", 0).map_err(validation)?;
        Ok(self.measured.get_or_init(|| batches))
    }
}

impl Dataset for Captions {
    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![Metric::nll(), Metric::perplexity()];
        if self.spec.by_position {
            // Positions that no batch reaches would have no value.
            let longest = self
                .validation_batches()
                .ok()
                .and_then(|batches| batches.iter().flatten().map(|&caption| self.validation.lengths[caption]).max());
            metrics.extend((0..longest.unwrap_or(0)).map(|position| Metric::nll().at_step(position)));
        }
        metrics
    }

    fn batches(&self, split: Split, batch_size: usize) -> usize {
        let batches = match split {
            Split::Train => self.training_batches(batch_size, 1).map(|batches| batches.len()),
            Split::Validation => self.validation_batches().map(<[_]>::len),
            Split::Test => return 0,
        };
        batches.unwrap_or(0)
    }

    fn check(&self, batch_size: usize) -> Result<()> {
        self.training_batches(batch_size, 1)?;
        self.validation_batches().map(|_| ())
    }

    fn batch(&self, at: At) -> Result<Batch> {
        let missing = || Error::Training(format!("there is no batch {} of {:?}", at.index, at.split));
        if at.split != Split::Train {
            return self.validation.batch(self.validation_batches()?.get(at.index).ok_or_else(missing)?);
        }
        let mut order = self.order.borrow_mut();
        let Epoch { batches, .. } = match &mut *order {
            Some(order) if (order.epoch, order.batch_size) == (at.epoch, at.batch_size) => order,
            order => order.insert(Epoch {
                epoch: at.epoch,
                batch_size: at.batch_size,
                batches: self.training_batches(at.batch_size, at.epoch)?,
            }),
        };
        self.train.batch(batches.get(at.index).ok_or_else(missing)?)
    }

    fn vocabulary(&self) -> Option<&Vocabulary> {
        Some(&self.vocabulary)
    }

    fn exam(&self) -> Option<Exam> {
        self.spec.scores.then(|| self.exam.clone())
    }

    fn pictures(&self) -> Option<&Pictures> {
        Some(&self.pictures)
    }

    fn leave_out(&mut self, good: &[bool]) {
        self.measured.take();
        self.order.take();
        for part in [&mut self.train, &mut self.validation] {
            for (length, &picture) in part.lengths.iter_mut().zip(&part.pictures) {
                if !good[picture as usize] {
                    *length = 0;
                }
            }
        }
        let Exam { pictures, about } = std::mem::take(&mut self.exam);
        let kept = pictures.into_iter().zip(about).filter(|(picture, _)| good[*picture as usize]);
        (self.exam.pictures, self.exam.about) = kept.unzip();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::captioning::{ScenesSpec, Source};

    #[test]
    fn pictures_that_are_left_out_come_in_no_batch_and_no_exam() {
        let directory = tempfile::tempdir().unwrap();
        let scenes = ScenesSpec { dir: directory.path().join("s"), train: 30, validation: 8, size: 16, draw: 1 };
        scenes.scenes().make(&scenes.dir, &|| false, &|_, _| {}).unwrap();
        let source = Source::Scenes(scenes);
        let spec = Captioning {
            source,
            lengths: [11, 18],
            validation_batch_size: 1,
            validation_batches: 0,
            scores: true,
            ..Captioning::default()
        };
        let mut captions = Captions::open(spec, 1).unwrap();
        let seen = |captions: &Captions| {
            let mut seen = std::collections::BTreeSet::new();
            for split in [Split::Train, Split::Validation] {
                for index in 0..captions.batches(split, 1) {
                    let batch = captions.batch(At { split, epoch: 1, index, batch_size: 1 }).unwrap();
                    let Inputs::Pictures { pictures, .. } = batch.inputs else { panic!("pictures") };
                    seen.extend(pictures);
                }
            }
            seen
        };
        assert_eq!(seen(&captions), (0..38).collect());
        let good: Vec<bool> = (0..38).map(|picture| picture != 3 && picture != 33).collect();
        captions.leave_out(&good);
        assert_eq!(seen(&captions), (0..38).filter(|picture| good[*picture as usize]).collect());
        let exam = captions.exam().unwrap();
        assert_eq!((exam.pictures.len(), exam.about.len()), (7, 7));
        assert!(!exam.pictures.contains(&33));
    }
}
