//! The split, the order of images in an epoch, and batches.

use candle_core::{Device, Tensor};

use super::{Mode, SeqMnist, SplitBy, curves, named};
use crate::data::digits::{CLASSES, Digits};
use crate::data::{
    Batch, BatchIndex, Dataset, EpochOrder, Inputs, Metric, Showcase, Split, Targets, movement, nth_batch,
};
use crate::error::{Error, Result};
use crate::rng::Stream;

/// Sequences per validation or test batch: bounds memory without affecting metrics.
const MEASURED: usize = 500;

/// The sequences of one seed.
pub(super) struct Sequences {
    spec: SeqMnist,
    digits: Digits,
    /// Indices of the training images; this and the other splits are in the order of the source or shuffled.
    train: EpochOrder,
    validation: Vec<u32>,
    test: Vec<u32>,
    /// The class in the network's output, for each class of the source that is used.
    class: Vec<Option<u32>>,
    /// Target curves, `[classes, steps, 2]`; empty for classification.
    curves: Vec<f32>,
}

impl Sequences {
    /// Splits the images of a source.
    ///
    /// # Errors
    /// [`Error::Usage`] if the training or validation split is empty.
    pub fn new(spec: SeqMnist, digits: Digits, seed: u64) -> Result<Sequences> {
        let mut class = vec![None; spec.source.classes()];
        for (index, &number) in spec.numbers.iter().enumerate() {
            if let Some(class) = class.get_mut(usize::from(number)) {
                *class = Some(index as u32);
            }
        }
        let chosen = |range: std::ops::Range<usize>| -> Vec<u32> {
            range.filter(|&index| class[digits.label(index)].is_some()).map(|index| index as u32).collect()
        };
        let (mut train, test) = (chosen(digits.train()), chosen(digits.test()));
        let count = spec.validation_size(train.len());
        if count == train.len() || count == 0 && spec.val_split > 0.0 {
            return Err(Error::Usage(format!(
                "{} hold {} training images of the classes in `task.numbers`: a `task.val_split` of {} leaves none to \
                 train or none to validate with",
                named(&spec.source),
                train.len(),
                spec.val_split
            )));
        }
        if spec.split == SplitBy::Random {
            Stream::new(seed, "data.split", 0, 0).shuffle(&mut train);
        }
        let validation = train.split_off(train.len() - count);
        let curves = curves::of(&spec, seed).into_iter().flatten().flatten().map(|number| number as f32).collect();
        Ok(Sequences { spec, digits, train: EpochOrder::new(train, seed), validation, test, class, curves })
    }

    /// The sequences of some images.
    fn gather(&self, images: &[u32]) -> Result<Batch> {
        let (rows, steps) = (images.len(), self.spec.steps());
        let mut inputs = Vec::with_capacity(rows * steps * self.spec.row);
        for &image in images {
            inputs.extend(self.digits.pixels(image as usize).iter().map(|&pixel| f32::from(pixel) / 255.0));
        }
        let inputs = Tensor::from_vec(inputs, (rows, steps, self.spec.row), &Device::Cpu)?;
        let classes = images.iter().map(|&image| self.class[self.digits.label(image as usize)].unwrap_or(0));
        let targets = match self.spec.mode {
            Mode::Recognise => Targets::FinalClass(Tensor::from_iter(classes, &Device::Cpu)?),
            Mode::Lines | Mode::Digits => {
                let each = steps * 2;
                let mut points = Vec::with_capacity(rows * each);
                classes.for_each(|class| points.extend_from_slice(&self.curves[class as usize * each..][..each]));
                Targets::Values(Tensor::from_vec(points, (rows, steps, 2), &Device::Cpu)?)
            }
        };
        Ok(Batch::new(Inputs::Dense(inputs), targets))
    }

    /// A training batch, in the image order of its epoch.
    fn training_batch(&self, at: BatchIndex) -> Result<Batch> {
        if !self.spec.shuffle {
            return self.gather(nth_batch(self.train.items(), at.index, at.batch_size));
        }
        self.train.of(at.epoch, |images| self.gather(nth_batch(images, at.index, at.batch_size)))
    }
}

impl Dataset for Sequences {
    fn metrics(&self) -> Vec<Metric> {
        match self.spec.mode {
            Mode::Recognise => vec![Metric::nll(), Metric::accuracy()],
            Mode::Lines | Mode::Digits => {
                let movement = self.spec.movement.then(movement::metrics).into_iter().flatten();
                std::iter::once(Metric::squared_distance()).chain(movement).collect()
            }
        }
    }

    fn batches(&self, split: Split, batch_size: usize) -> usize {
        match split {
            // As in the original, the last batch may be smaller.
            Split::Train => self.train.len().div_ceil(batch_size),
            Split::Validation => self.validation.len().div_ceil(MEASURED),
            Split::Test => self.test.len().div_ceil(MEASURED),
        }
    }

    fn batch(&self, at: BatchIndex) -> Result<Batch> {
        match at.split {
            Split::Train => self.training_batch(at),
            Split::Validation => self.gather(nth_batch(&self.validation, at.index, MEASURED)),
            Split::Test => self.gather(nth_batch(&self.test, at.index, MEASURED)),
        }
    }

    /// The first test image of every class, or the first validation image if there is no test.
    fn showcase(&self) -> Result<Option<Showcase>> {
        if self.spec.mode == Mode::Recognise {
            return Ok(None);
        }
        let mut all = self.test.iter().chain(&self.validation).chain(self.train.items());
        let first = |&number: &u8| all.clone().find(|&&image| self.digits.label(image as usize) == usize::from(number));
        let found: Vec<(u8, u32)> =
            self.spec.numbers.iter().filter_map(|number| Some((*number, *first(number)?))).collect();
        if found.is_empty() || all.next().is_none() {
            return Ok(None);
        }
        let images: Vec<u32> = found.iter().map(|(_, image)| *image).collect();
        let pixels: Vec<u8> = images.iter().flat_map(|&image| self.digits.pixels(image as usize)).copied().collect();
        let side = self.digits.side();
        let name = if self.class.len() == CLASSES { "digit" } else { "class" };
        Ok(Some(Showcase {
            batch: self.gather(&images)?,
            labels: found.iter().map(|(number, _)| format!("{name} {number}")).collect(),
            images: Some(Tensor::from_vec(pixels, (images.len(), side, side), &Device::Cpu)?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits::{Glyphs, Source};
    use crate::tasks::seqmnist::Ends;

    fn open(seed: u64, change: impl FnOnce(&mut SeqMnist)) -> Sequences {
        let source = Source::Glyphs(Glyphs { train: 103, test: 20, draw: 1 });
        let mut spec = SeqMnist { source, ..SeqMnist::default() };
        change(&mut spec);
        let digits = Digits::open(&spec.source).unwrap();
        Sequences::new(spec, digits, seed).unwrap()
    }

    fn at(split: Split, epoch: usize, index: usize) -> BatchIndex {
        BatchIndex { split, epoch, index, batch_size: 25, level: 0 }
    }

    /// `[rows][784]`
    fn inputs(data: &Sequences, at: BatchIndex) -> Vec<Vec<f32>> {
        match data.batch(at).unwrap().inputs {
            Inputs::Dense(x) => x.flatten_from(1).unwrap().to_vec2().unwrap(),
            _ => panic!("dense inputs"),
        }
    }

    fn classes(data: &Sequences, at: BatchIndex) -> Vec<u32> {
        match data.batch(at).unwrap().targets {
            Targets::FinalClass(classes) => classes.to_vec1().unwrap(),
            _ => panic!("a class"),
        }
    }

    #[test]
    fn every_image_occurs_once_per_epoch_and_the_last_batch_is_smaller() {
        let data = open(1, |_| {});
        assert_eq!([Split::Train, Split::Validation, Split::Test].map(|split| data.batches(split, 25)), [4, 1, 1]);
        let epoch = |epoch| -> Vec<Vec<f32>> {
            (0..4).flat_map(|index| inputs(&data, at(Split::Train, epoch, index))).collect()
        };
        assert_eq!(inputs(&data, at(Split::Train, 1, 3)).len(), 83 - 75);
        let (one, two) = (epoch(1), epoch(2));
        assert_ne!(one, two, "another order");
        let sorted = |mut all: Vec<Vec<f32>>| {
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            all
        };
        assert_eq!(sorted(one.clone()), sorted(two));
        let validation = inputs(&data, at(Split::Validation, 1, 0));
        assert!(validation.len() == 20 && validation.iter().all(|image| !one.contains(image)));
    }

    #[test]
    fn an_ordered_split_takes_the_last_and_a_random_one_depends_on_the_seed() {
        let ordered = open(1, |spec| spec.split = SplitBy::Ordered);
        let last: Vec<u32> = (83..103).map(|index| ordered.digits.label(index) as u32).collect();
        assert_eq!(classes(&ordered, at(Split::Validation, 1, 0)), last);
        let still = open(2, |spec| (spec.split, spec.shuffle) = (SplitBy::Ordered, false));
        let first: Vec<u32> = (0..25).map(|index| still.digits.label(index) as u32).collect();
        assert_eq!(classes(&still, at(Split::Train, 3, 0)), first);
        let validation = |seed| inputs(&open(seed, |_| {}), at(Split::Validation, 1, 0));
        assert_ne!(validation(1), validation(2));
        assert_eq!(inputs(&open(1, |_| {}), at(Split::Test, 0, 0)), inputs(&open(2, |_| {}), at(Split::Test, 0, 0)));
    }

    #[test]
    fn numbers_choose_images_and_number_the_classes() {
        let data = open(1, |spec| spec.numbers = vec![3, 8]);
        assert_eq!(data.class, [None, None, None, Some(0), None, None, None, None, Some(1), None]);
        let rows: usize =
            (0..data.batches(Split::Train, 25)).map(|i| classes(&data, at(Split::Train, 1, i)).len()).sum();
        let chosen = data.digits.train().filter(|&index| [3, 8].contains(&data.digits.label(index))).count();
        assert_eq!(rows + data.validation.len(), chosen);
        assert_eq!(data.validation.len(), chosen / 5, "rounded down");
        let lines = open(1, |spec| (spec.mode, spec.numbers) = (Mode::Lines, vec![3, 8]));
        let showcase = lines.showcase().unwrap().unwrap();
        assert_eq!(showcase.labels, ["digit 3", "digit 8"]);
        let Targets::Values(targets) = showcase.batch.targets else { panic!("values") };
        let ends = targets.narrow(1, 27, 1).unwrap().squeeze(1).unwrap().to_vec2::<f32>().unwrap();
        assert!((ends[0][1] - 10.0).abs() < 1e-5 && (ends[1][1] + 10.0).abs() < 1e-5, "{ends:?}");
    }

    #[test]
    fn steps_cover_the_image_and_every_class_has_its_curve() {
        let rows = open(1, |_| {}).batch(at(Split::Test, 0, 0)).unwrap();
        assert_eq!((rows.rows().unwrap(), rows.steps().unwrap()), (20, 28));
        let data = open(3, |spec| (spec.mode, spec.row, spec.ends) = (Mode::Lines, 7, Ends::Grid));
        let batch = data.batch(at(Split::Test, 0, 0)).unwrap();
        assert_eq!(batch.steps().unwrap(), 112);
        assert_eq!(inputs(&data, at(Split::Test, 0, 0)), inputs(&open(1, |_| {}), at(Split::Test, 0, 0)));
        let Targets::Values(targets) = batch.targets else { panic!("values") };
        let targets = targets.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        for (row, index) in data.digits.test().enumerate() {
            let class = data.digits.label(index);
            assert_eq!(targets[row], data.curves[class * 224..][..224]);
        }
    }

    #[test]
    fn an_empty_split_is_rejected() {
        let source = Source::Glyphs(Glyphs { train: 4, test: 0, draw: 1 });
        let spec = SeqMnist { source, ..SeqMnist::default() };
        let digits = Digits::open(&spec.source).unwrap();
        let error = Sequences::new(spec, digits, 1).err().unwrap();
        assert!(error.to_string().contains("val_split") && error.exit_code() == 2, "{error}");
    }
}
