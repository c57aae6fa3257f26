//! Words, vocabulary and lengths of captions.

use std::collections::BTreeMap;
use std::path::Path;

use ccdni::data::captions::CaptionSet;
use ccdni::data::captions::vocabulary::{SPECIAL, Vocabulary, WordCounts};
use ccdni::data::captions::words::WordTokenizer;
use serde_json::Value;

use super::{Outcome, list, not_covered, number, same, text, texts, wholes};

/// Every item, exactly.
pub fn tokens(_: &Path, case: &Value) -> Outcome {
    let mut tokenizer = WordTokenizer::new();
    for item in list(case, "/items")? {
        let sentence = text(item, "/text")?;
        same(sentence, &tokenizer.words(sentence), &texts(item, "/tokens")?.iter().map(|t| t.to_string()).collect())?;
    }
    Ok(())
}

/// Words, counts, sizes, lengths and ids of the caption file beside the case, exactly.
pub fn vocabulary(path: &Path, case: &Value) -> Outcome {
    let captions = path.with_file_name("captions_flickr.json");
    if !captions.exists() {
        not_covered("caption/vocabulary", "captions_flickr.json is not in this directory");
        return Ok(());
    }
    let set = CaptionSet::open(&captions)?;
    let sentences: Vec<&str> = set.captions.iter().map(|caption| caption.text.as_str()).collect();
    let counts = WordCounts::of(&sentences);
    same("the lengths", &counts.lengths, &wholes(case, "/capt_lengths")?)?;
    let mut histogram = BTreeMap::new();
    counts.lengths.iter().for_each(|length| *histogram.entry(length.to_string()).or_insert(0u64) += 1);
    same("the histogram", &serde_json::to_value(&histogram)?, &serde_json::to_value(&case["capt_length_histogram"])?)?;
    let images: Vec<usize> = set.images.iter().map(|image| image.id as usize).collect();
    same("the images", &images, &wholes(case, "/image_ids_in_order")?)?;
    same("all words", &(counts.total() as f64), &number(case, "/meta/total_tokens")?)?;
    same("distinct words", &(counts.words.len() as f64), &number(case, "/meta/distinct_tokens")?)?;

    for (threshold, size) in case["sizes"].as_object().ok_or("no sizes")? {
        let vocabulary = Vocabulary::new(&counts, threshold.parse()?);
        same(&format!("words at threshold {threshold}"), &Value::from(vocabulary.words().len()), size)?;
        let last = vocabulary.words().last().ok_or("no words")?;
        same("the last word", &last.as_str(), &text(case, &format!("/last_word/{threshold}"))?)?;
    }
    let vocabulary = Vocabulary::new(&counts, number(case, "/meta/threshold")? as u64);
    same("the words", &vocabulary.words().to_vec(), &texts(case, "/words")?.iter().map(|t| t.to_string()).collect())?;
    let count_of: BTreeMap<&str, u64> = counts.words.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    let seen = vocabulary.words().iter().skip(SPECIAL.len()).map(|word| count_of[word.as_str()] as usize);
    let listed: Vec<usize> = [0; SPECIAL.len()].into_iter().chain(seen).collect();
    same("the counts", &listed, &wholes(case, "/counts")?)?;

    let mut tokenizer = WordTokenizer::new();
    for encoded in list(case, "/encoded")? {
        let caption = &set.captions[number(encoded, "/annotation_index")? as usize];
        same("the caption's id", &(caption.id as f64), &number(encoded, "/annotation_id")?)?;
        same("the image's id", &(set.images[caption.image].id as f64), &number(encoded, "/image_id")?)?;
        let ids: Vec<usize> = vocabulary.encode(&mut tokenizer, &caption.text).iter().map(|&id| id as usize).collect();
        same(&caption.text, &ids, &wholes(encoded, "/ids")?)?;
    }
    Ok(())
}
