//! The split, the order of images in an epoch, and batches.

use candle_core::{Device, Tensor};

use super::Classify;
use crate::data::digits::Digits;
use crate::data::{Batch, BatchIndex, Dataset, EpochOrder, Inputs, Metric, Split, Targets, nth_batch, share_of};
use crate::error::{Error, Result};
use crate::rng::Stream;

/// Images per validation or test batch: bounds memory without affecting metrics.
const MEASURED: usize = 1000;

/// The images of one seed.
pub(super) struct LabelledImages {
    digits: Digits,
    mean: f32,
    std: f32,
    train: EpochOrder,
    validation: Vec<u32>,
    test: Vec<u32>,
}

impl LabelledImages {
    /// Splits the images of a source.
    ///
    /// # Errors
    /// [`Error::Usage`] if the training or validation split is empty.
    pub fn new(spec: &Classify, digits: Digits, seed: u64) -> Result<LabelledImages> {
        let indices = |range: std::ops::Range<usize>| -> Vec<u32> { range.map(|index| index as u32).collect() };
        let (mut train, test) = (indices(digits.train()), indices(digits.test()));
        let count = share_of(train.len(), spec.val_split);
        if count == train.len() || count == 0 && spec.val_split > 0.0 {
            return Err(Error::Usage(format!(
                "there are {} training images: a `task.val_split` of {} leaves none to train or none to validate with",
                train.len(),
                spec.val_split
            )));
        }
        Stream::new(seed, "data.split", 0, 0).shuffle(&mut train);
        let validation = train.split_off(train.len() - count);
        let (mean, std) = (spec.mean as f32, spec.std as f32);
        Ok(LabelledImages { digits, mean, std, train: EpochOrder::new(train, seed), validation, test })
    }

    fn gather(&self, images: &[u32]) -> Result<Batch> {
        let pixels = self.digits.side().pow(2);
        let mut inputs = Vec::with_capacity(images.len() * pixels);
        for &image in images {
            let pixels = self.digits.pixels(image as usize).iter();
            inputs.extend(pixels.map(|&pixel| (f32::from(pixel) / 255.0 - self.mean) / self.std));
        }
        let inputs = Tensor::from_vec(inputs, (images.len(), 1, pixels), &Device::Cpu)?;
        let classes = images.iter().map(|&image| self.digits.label(image as usize) as u32);
        Ok(Batch::new(Inputs::Dense(inputs), Targets::FinalClass(Tensor::from_iter(classes, &Device::Cpu)?)))
    }
}

impl Dataset for LabelledImages {
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::nll(), Metric::accuracy()]
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
            Split::Train => self.train.of(at.epoch, |images| self.gather(nth_batch(images, at.index, at.batch_size))),
            Split::Validation => self.gather(nth_batch(&self.validation, at.index, MEASURED)),
            Split::Test => self.gather(nth_batch(&self.test, at.index, MEASURED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::digits::{Glyphs, Source};

    fn open(seed: u64) -> LabelledImages {
        let spec = Classify { source: Source::Glyphs(Glyphs { train: 103, test: 20, draw: 1 }), ..Classify::default() };
        LabelledImages::new(&spec, Digits::open(&spec.source).unwrap(), seed).unwrap()
    }

    #[test]
    fn images_are_whole_and_normalised_and_the_last_batch_is_smaller() {
        let data = open(1);
        assert_eq!([Split::Train, Split::Validation, Split::Test].map(|split| data.batches(split, 25)), [4, 1, 1]);
        let batch =
            data.batch(BatchIndex { split: Split::Train, epoch: 1, index: 3, batch_size: 25, level: 0 }).unwrap();
        assert_eq!((batch.rows().unwrap(), batch.steps().unwrap()), (83 - 75, 1));
        let Inputs::Dense(x) = batch.inputs else { panic!("numbers") };
        let lowest = x.flatten_all().unwrap().min(0).unwrap().to_scalar::<f32>().unwrap();
        assert!((lowest + 0.1307 / 0.3081).abs() < 1e-6, "background is 0 before it is normalised: {lowest}");
    }

    #[test]
    fn an_empty_split_is_rejected() {
        let spec = Classify { source: Source::Glyphs(Glyphs { train: 4, test: 0, draw: 1 }), ..Classify::default() };
        let error = LabelledImages::new(&spec, Digits::open(&spec.source).unwrap(), 1).err().unwrap();
        assert!(error.to_string().contains("val_split") && error.exit_code() == 2, "{error}");
    }
}
