//! The captions of one seed as ids, in batches of one length.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};

use super::evaluation::{Described, described, evaluate};
use super::{Captioning, FilesSpec};
use crate::data::captions::CaptionSet;
use crate::data::captions::sampler::Sampling;
use crate::data::captions::vocabulary::{Vocabulary, WordCounts};
use crate::data::captions::words::WordTokenizer;
use crate::data::{Batch, BatchIndex, Dataset, Evaluation, Images, Inputs, Metric, Predictor, Split, Targets};
use crate::error::{Error, Result};
use crate::model::encoder::EncoderInputs;
use crate::spec::ModelSpec;

/// The captions of one seed.
pub(super) struct Captions {
    spec: Captioning,
    seed: u64,
    vocabulary: Vocabulary,
    /// The encoder's inputs; `None` if the data were opened without a model.
    inputs: Option<EncoderInputs>,
    /// Number of images.
    images: usize,
    train: Part,
    validation: Part,
    /// The images for the evaluation.
    described: Vec<Described>,
    /// The training batches of the most recent epoch.
    order: RefCell<Option<Epoch>>,
    /// The validation batches, computed on first use.
    measured: OnceCell<Vec<Vec<usize>>>,
}

/// The training batches of an epoch, each the indices of its captions.
struct Epoch {
    epoch: usize,
    batch_size: usize,
    batches: Vec<Vec<usize>>,
}

/// The captions for training or validation.
struct Part {
    /// The ids of all captions, concatenated.
    ids: Vec<u32>,
    /// The start of each caption in `ids`, and the end of the last one.
    starts: Vec<usize>,
    /// Number of ids of each, start and end included; 0 for an excluded one.
    lengths: Vec<usize>,
    /// The image of each.
    images: Vec<u32>,
}

impl Part {
    fn new(set: &CaptionSet, vocabulary: &Vocabulary, first: usize) -> Part {
        let mut tokenizer = WordTokenizer::new();
        let mut part = Part { ids: Vec::new(), starts: vec![0], lengths: Vec::new(), images: Vec::new() };
        for caption in &set.captions {
            let ids = vocabulary.encode(&mut tokenizer, &caption.text);
            part.lengths.push(ids.len());
            part.ids.extend(ids);
            part.starts.push(part.ids.len());
            part.images.push((first + caption.image) as u32);
        }
        part
    }

    /// A batch of captions of one length: ids as inputs and targets.
    fn batch(&self, captions: &[usize], feature: Tensor) -> Result<Batch> {
        let steps = captions.first().map_or(0, |&caption| self.lengths[caption]);
        let mut targets = Vec::with_capacity(captions.len() * steps);
        let mut inputs = Vec::with_capacity(captions.len() * steps);
        for &caption in captions {
            let ids = &self.ids[self.starts[caption]..self.starts[caption + 1]];
            targets.extend_from_slice(ids);
            inputs.extend_from_slice(&ids[..ids.len().saturating_sub(1)]);
        }
        let ids = Tensor::from_vec(inputs, (captions.len(), steps.saturating_sub(1)), &Device::Cpu)?;
        let targets = Targets::Classes(Tensor::from_vec(targets, (captions.len(), steps), &Device::Cpu)?);
        Ok(Batch::new(Inputs::Tokens { feature: Some(feature), ids }, targets))
    }
}

/// Reads one part of the source.
fn read(files: &FilesSpec) -> Result<CaptionSet> {
    let set = CaptionSet::open(&files.captions)?;
    let mut set = set.chosen(files.split.as_deref(), &files.captions, "split: train")?;
    if let Some(list) = &files.only {
        set = set.only(list)?;
    }
    match set.captions.is_empty() {
        true => Err(Error::data(&files.captions, "has no captions")),
        false => Ok(set),
    }
}

impl Captions {
    /// Reads the captions, and builds or reads the vocabulary.
    ///
    /// # Errors
    /// [`Error::Data`] naming a file that is missing or damaged.
    pub fn open(spec: Captioning, seed: u64, encoder: Option<(&ModelSpec, &Device)>) -> Result<Captions> {
        let [train_files, validation_files] = spec.source.files();
        let (train, validation) = (read(&train_files)?, read(&validation_files)?);
        let vocabulary = match spec.vocabulary_file() {
            Some(path) => Vocabulary::load(&path)?,
            None => {
                let texts: Vec<&str> = train.captions.iter().map(|caption| caption.text.as_str()).collect();
                Vocabulary::new(&WordCounts::of(&texts), spec.threshold)
            }
        };
        let paths = |set: &CaptionSet, files: &FilesSpec| -> Vec<PathBuf> {
            set.images.iter().map(|image| files.images.join(&image.file_name)).collect()
        };
        let images = Images {
            train: paths(&train, &train_files),
            validation: paths(&validation, &validation_files),
            view: spec.view(),
        };
        let read_by = |(model, device)| EncoderInputs::open(&images, model, seed, device);
        let inputs = encoder.map(read_by).transpose()?;
        let mut captions = Captions {
            seed,
            train: Part::new(&train, &vocabulary, 0),
            validation: Part::new(&validation, &vocabulary, images.train.len()),
            described: if spec.scores {
                described(&validation, &images.validation, images.train.len())
            } else {
                Vec::new()
            },
            vocabulary,
            images: images.train.len() + images.validation.len(),
            inputs: None,
            order: RefCell::new(None),
            measured: OnceCell::new(),
            spec,
        };
        if let Some(inputs) = &inputs {
            captions.exclude(inputs.good());
        }
        Ok(Captions { inputs, ..captions })
    }

    /// The vocabulary.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Digests of the encoder's inputs.
    pub fn digests(&self) -> BTreeMap<String, String> {
        self.inputs.as_ref().map_or_else(BTreeMap::new, |inputs| inputs.digests().clone())
    }

    /// Excludes unreadable images; `good` is indexed by image.
    fn exclude(&mut self, good: &[bool]) {
        for part in [&mut self.train, &mut self.validation] {
            for (length, &image) in part.lengths.iter_mut().zip(&part.images) {
                if !good[image as usize] {
                    *length = 0;
                }
            }
        }
        self.described.retain(|described| good[described.image as usize]);
    }

    /// The encoder's inputs for some images.
    fn look(&self, images: &[u32], at: BatchIndex) -> Result<Tensor> {
        let unread = || Error::Training("the images were not opened for a model that reads them".into());
        self.inputs.as_ref().ok_or_else(unread)?.look(images, at)
    }

    fn training(&self, batch_size: usize) -> Sampling {
        let [low, high] = self.spec.lengths;
        Sampling { batch_size, lengths: low..=high, balance: self.spec.balance, shuffle: true, limit: None }
    }

    fn training_batches(&self, batch_size: usize, epoch: usize) -> Result<Vec<Vec<usize>>> {
        self.training(batch_size).batches(&self.train.lengths, self.seed, "data.train", epoch)
    }

    /// The validation batches, the same for every seed, so that results are comparable.
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
            // Only positions that occur in a batch.
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

    fn batch(&self, at: BatchIndex) -> Result<Batch> {
        let missing = || Error::Training(format!("there is no batch {} of {:?}", at.index, at.split));
        let batch = |part: &Part, batches: &[Vec<usize>]| {
            let captions = batches.get(at.index).ok_or_else(missing)?;
            let images: Vec<u32> = captions.iter().map(|&caption| part.images[caption]).collect();
            part.batch(captions, self.look(&images, at)?)
        };
        if at.split != Split::Train {
            return batch(&self.validation, self.validation_batches()?);
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
        batch(&self.train, batches)
    }

    fn evaluates(&self) -> bool {
        self.spec.scores
    }

    fn evaluate(&self, predictor: &dyn Predictor) -> Result<Option<Evaluation>> {
        if !self.spec.scores {
            return Ok(None);
        }
        let look = |images: &[u32]| {
            self.look(
                images,
                BatchIndex { split: Split::Validation, epoch: 0, index: 0, batch_size: images.len(), level: 0 },
            )
        };
        evaluate(&self.described, &self.vocabulary, &look, predictor, self.spec.scores_by_length).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tasks::captioning::{ScenesSpec, Source};

    #[test]
    fn excluded_images_are_in_no_batch_and_are_not_described() {
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
        let mut captions = Captions::open(spec, 1, None).unwrap();
        let seen = |captions: &Captions| {
            let training = captions.training_batches(1, 1).unwrap();
            let of = |part: &Part, batches: &[Vec<usize>]| -> Vec<u32> {
                batches.iter().flatten().map(|&caption| part.images[caption]).collect()
            };
            let mut seen: BTreeSet<u32> = of(&captions.train, &training).into_iter().collect();
            seen.extend(of(&captions.validation, captions.validation_batches().unwrap()));
            seen
        };
        assert_eq!(seen(&captions), (0..38).collect());
        let good: Vec<bool> = (0..38).map(|image| image != 3 && image != 33).collect();
        captions.measured.take();
        captions.exclude(&good);
        assert_eq!(seen(&captions), (0..38).filter(|image| good[*image as usize]).collect());
        assert_eq!(captions.described.len(), 7);
        assert!(captions.described.iter().all(|described| described.image != 33));
    }
}
