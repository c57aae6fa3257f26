//! The exam at the end of training: sentences for pictures, held against those of people.

use super::backend::Backend;
use super::decode::{Decoded, Limits, Strategy, decode};
use crate::data::captions::ptb;
use crate::data::captions::results::CaptionResult;
use crate::data::captions::scores::{self, Scored};
use crate::data::captions::vocabulary::{END, PAD, START, UNKNOWN};
use crate::data::{Dataset, Vocabulary};
use crate::error::Result;
use crate::model::Model;

/// Pictures that are described together: enough for large products, few enough for little memory.
const TOGETHER: usize = 64;

/// What came of an exam.
#[derive(Debug, Clone, PartialEq)]
pub struct ExamResult {
    /// Scores of the whole set, by the names of the COCO tools.
    pub scores: Vec<(String, f64)>,
    /// The sentence for every picture.
    pub captions: Vec<CaptionResult>,
}

/// The limits of sentences over a vocabulary of captions: they end with its end, and say no other special word.
pub fn limits(steps: usize) -> Limits {
    Limits { start: START, end: END, never: vec![PAD, START, UNKNOWN], steps }
}

/// The sentence of some ids, as people write it: words with spaces between them, and no special words.
pub fn sentence(vocabulary: &Vocabulary, decoded: &Decoded) -> String {
    vocabulary.decode(&decoded.ids)
}

/// Describes the pictures of a task's exam, each with the likeliest word at every step, and scores the sentences. Nothing where
/// the task has no exam.
///
/// # Errors
/// Fails if a picture cannot be read, or on a tensor error.
pub fn sit(model: &Model, backend: &dyn Backend, data: &dyn Dataset) -> Result<Option<ExamResult>> {
    let (Some(exam), Some(vocabulary)) = (data.exam(), data.vocabulary()) else { return Ok(None) };
    let mut captions = Vec::with_capacity(exam.pictures.len());
    let mut scored = Vec::with_capacity(exam.pictures.len());
    for (pictures, about) in exam.pictures.chunks(TOGETHER).zip(exam.about.chunks(TOGETHER)) {
        let seen = data.look(pictures)?;
        let said = decode(model, backend, &seen, &Strategy::Greedy, &limits(Limits::STEPS))?;
        for (said, (image_id, references)) in said.iter().zip(about) {
            let caption = said.first().map_or_else(String::new, |said| sentence(vocabulary, said));
            let references = references.iter().map(|text| ptb::tokenize(text)).collect();
            scored.push(Scored { candidate: ptb::tokenize(&caption), references });
            captions.push(CaptionResult { image_id: *image_id, caption });
        }
    }
    let scores = scores::all(&scored).into_iter().map(|score| (score.name.to_string(), score.corpus)).collect();
    Ok(Some(ExamResult { scores, captions }))
}
