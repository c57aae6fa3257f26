//! The evaluation: generates a caption for every validation image and scores it against the references.

use candle_core::Tensor;

use crate::data::captions::results::{self, CaptionResult};
use crate::data::captions::scores::{self, Scored};
use crate::data::captions::vocabulary::{END, PAD, START, UNKNOWN};
use crate::data::captions::{CaptionSet, ptb};
use crate::data::{Evaluation, Limits, Predictor, Strategy, Vocabulary};
use crate::error::{Error, Result};

/// Images per batch: a compromise between throughput and memory.
const BATCH: usize = 64;

/// An image and its reference captions.
pub(super) struct Described {
    /// Its index among the images of the task.
    pub image: u32,
    /// Its id in the caption file.
    pub id: u64,
    pub captions: Vec<String>,
}

/// The images of a set that have captions, numbered from `first`.
pub(super) fn described(set: &CaptionSet, first: usize) -> Vec<Described> {
    let new = |(image, id)| Described { image, id, captions: Vec::new() };
    let mut all: Vec<Described> = (first as u32..).zip(set.images.iter().map(|image| image.id)).map(new).collect();
    set.captions.iter().for_each(|caption| all[caption.image].captions.push(caption.text.clone()));
    all.retain(|described| !described.captions.is_empty());
    all
}

/// Limits for captions of at most `steps` tokens, without special words.
pub fn limits(steps: usize) -> Limits {
    Limits { start: START, end: END, never: vec![PAD, START, UNKNOWN], steps }
}

/// Generates captions by greedy decoding and scores them. `look` returns the encoder's inputs for some images, `[images,
/// ...]`.
pub(super) fn evaluate(
    all: &[Described],
    vocabulary: &Vocabulary,
    look: &dyn Fn(&[u32]) -> Result<Tensor>,
    predictor: &dyn Predictor,
) -> Result<Evaluation> {
    let mut captions = Vec::with_capacity(all.len());
    let mut scored = Vec::with_capacity(all.len());
    for some in all.chunks(BATCH) {
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
    Ok(Evaluation {
        scores: scores::all(&scored).into_iter().map(|score| (score.name.to_string(), score.corpus)).collect(),
        files: vec![(results::FILE.into(), text)],
    })
}
