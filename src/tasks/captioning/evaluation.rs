//! The evaluation: generates a caption for every validation image and scores it against the references.

use std::path::PathBuf;

use candle_core::Tensor;
use image::{ImageFormat, RgbImage};
use rayon::prelude::*;

use crate::data::captions::results::{self, CaptionResult};
use crate::data::captions::scores::{self, Score, Scored};
use crate::data::captions::vocabulary::{END, PAD, START, UNKNOWN};
use crate::data::captions::{CaptionSet, ptb};
use crate::data::images;
use crate::data::{Evaluation, Limits, Predictor, Strategy, Vocabulary};
use crate::error::{Error, Result};

/// Images per batch: a compromise between throughput and memory.
const BATCH: usize = 64;

/// The images that are shown beside their captions: the first ones, in rows of one file.
pub struct Sheet {
    /// Name of the file.
    pub file: &'static str,
    /// Greatest number of images.
    pub shown: usize,
    /// Images per row.
    pub row: u32,
    /// Side of each in pixels.
    pub side: u32,
}

impl Sheet {
    /// That of every evaluation.
    pub const OF_CAPTIONS: Sheet = Sheet { file: "captions.jpg", shown: 60, row: 10, side: 96 };
}

/// An image and its reference captions.
pub(super) struct Described {
    /// Its index among the images of the task.
    pub image: u32,
    /// Its id in the caption file.
    pub id: u64,
    /// Its file.
    pub file: PathBuf,
    pub captions: Vec<String>,
}

/// The images of a set that have captions, numbered from `first`; their files are `paths`.
pub(super) fn described(set: &CaptionSet, paths: &[PathBuf], first: usize) -> Vec<Described> {
    let images = (first as u32..).zip(set.images.iter().zip(paths));
    let mut all: Vec<Described> = images
        .map(|(image, (about, file))| Described { image, id: about.id, file: file.clone(), captions: Vec::new() })
        .collect();
    set.captions.iter().for_each(|caption| all[caption.image].captions.push(caption.text.clone()));
    all.retain(|described| !described.captions.is_empty());
    all
}

/// Limits for captions of at most `steps` tokens, without special words.
pub fn limits(steps: usize) -> Limits {
    Limits { start: START, end: END, never: vec![PAD, START, UNKNOWN], steps }
}

/// Mean scores of images by the mean length of their references: the shortest third, the middle one and the longest. Ties are
/// divided in the order of the images.
fn of_thirds(scored: &[Scored], scores: &[Score]) -> Vec<(String, f64)> {
    let length = |scored: &Scored| {
        let words = scored.references.iter().map(|reference| reference.split_whitespace().count()).sum::<usize>();
        words as f64 / scored.references.len().max(1) as f64
    };
    let mut order: Vec<usize> = (0..scored.len()).collect();
    order.sort_by(|&a, &b| length(&scored[a]).total_cmp(&length(&scored[b])));
    let third = |index: usize| &order[index * order.len() / 3..(index + 1) * order.len() / 3];
    let of = |score: &Score, index: usize| {
        let images = third(index);
        images.iter().map(|&image| score.per_image[image]).sum::<f64>() / images.len() as f64
    };
    let named = ["short", "medium", "long"];
    let all = scores.iter().flat_map(|score| (0..3).map(move |index| (score, index)));
    all.map(|(score, index)| (format!("{}_{}", score.name, named[index]), of(score, index))).collect()
}

/// Generates captions by greedy decoding and scores them. `look` returns the encoder's inputs for some images, `[images,
/// ...]`.
pub(super) fn evaluate(
    described: &[Described],
    vocabulary: &Vocabulary,
    look: &dyn Fn(&[u32]) -> Result<Tensor>,
    predictor: &dyn Predictor,
    by_length: bool,
) -> Result<Evaluation> {
    let mut captions = Vec::with_capacity(described.len());
    let mut scored = Vec::with_capacity(described.len());
    for some in described.chunks(BATCH) {
        let images: Vec<u32> = some.iter().map(|described| described.image).collect();
        let decoded = predictor.decode(&look(&images)?, &Strategy::Greedy, &limits(Limits::STEPS))?;
        for (best, described) in decoded.iter().zip(some) {
            let caption = best.first().map_or_else(String::new, |best| vocabulary.decode(&best.ids));
            let references = described.captions.iter().map(|text| ptb::tokenize(text)).collect();
            scored.push(Scored { candidate: ptb::tokenize(&caption), references });
            captions.push(CaptionResult { image_id: described.id, caption });
        }
    }
    let mut text = serde_json::to_vec_pretty(&captions).map_err(|error| Error::Training(error.to_string()))?;
    text.push(b'\n');
    let all = scores::all(&scored);
    let mut numbers: Vec<(String, f64)> = all.iter().map(|score| (score.name.to_string(), score.corpus)).collect();
    if by_length {
        numbers.extend(of_thirds(&scored, &all));
    }
    let inputs = vec![(Sheet::OF_CAPTIONS.file.into(), pictures(described)?)];
    Ok(Evaluation { scores: numbers, files: vec![(results::FILE.into(), text)], inputs })
}

/// The first images as one JPEG, in the order of their captions. One that can no longer be read is left grey: that is no reason to
/// lose what was trained.
fn pictures(all: &[Described]) -> Result<Vec<u8>> {
    let Sheet { shown, row, side, .. } = Sheet::OF_CAPTIONS;
    let shown = &all[..all.len().min(shown)];
    let rows = (shown.len() as u32).div_ceil(row).max(1);
    let mut sheet = RgbImage::from_pixel(row * side, rows * side, image::Rgb([128; 3]));
    let read: Vec<Result<RgbImage>> =
        shown.par_iter().map(|described| images::read_square(&described.file, side)).collect();
    for (place, picture) in (0u32..).zip(read) {
        if let Ok(picture) = picture {
            image::imageops::replace(&mut sheet, &picture, (place % row * side).into(), (place / row * side).into());
        }
    }
    images::encode(&sheet, ImageFormat::Jpeg, 85)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_are_by_the_length_of_references() {
        let scored = |words: usize| Scored { candidate: "a b".into(), references: vec![vec!["a"; words].join(" ")] };
        let images: Vec<Scored> = [9, 1, 5, 2, 8, 4].map(scored).into();
        let score = Score { name: "CIDEr", corpus: 0.0, per_image: vec![6.0, 1.0, 4.0, 2.0, 5.0, 3.0] };
        let thirds = of_thirds(&images, &[score]);
        let expected = [("CIDEr_short", 1.5), ("CIDEr_medium", 3.5), ("CIDEr_long", 5.5)];
        assert!(thirds.iter().map(|(name, value)| (name.as_str(), *value)).eq(expected), "{thirds:?}");
    }
}
