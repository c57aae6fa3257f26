//! `ccdni score`: scores captions against references.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::print;
use crate::data::captions::scores::{self, Score, Scored};
use crate::data::captions::{CaptionSet, ptb, results};
use crate::error::{Error, Result};
use crate::files::write_json;

/// Score captions: BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D, as the COCO tools compute them.
///
/// RESULTS is a JSON list of `image_id` and `caption`, one for each image. Images without a result do not count.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni score results.json captions_val2014.json
  ccdni score results.json captions_val2014.json --out scores.json")]
pub struct Args {
    /// The captions to score, in COCO's results format.
    results: PathBuf,
    /// The reference captions: COCO's JSON, or a table of Flickr8k or Flickr30k (images are then 1, 2, ... in its order).
    references: PathBuf,
    /// The split, or several, of references with splits: test, val+test.
    #[arg(long, value_name = "SPLIT")]
    split: Option<String>,
    /// How sentences are tokenised.
    #[arg(long, value_name = "RULES", default_value = "ptb")]
    words: Words,
    /// Also write all scores, including those per image, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Words {
    /// Penn Treebank rules, as in the COCO tools.
    Ptb,
    /// At white space.
    Simple,
}

pub fn execute(args: Args) -> Result<()> {
    let results = results::read(&args.results)?;
    if results.is_empty() {
        return Err(Error::data(&args.results, "has no captions: there is nothing to score"));
    }
    let cut = match args.words {
        Words::Ptb => ptb::tokenize,
        Words::Simple => ptb::simple,
    };
    let set = CaptionSet::open(&args.references)?;
    // Images without a result do not count, so all splits can be used.
    let set = match &args.split {
        Some(parts) => set.split(parts, &args.references)?,
        None => set,
    };
    let mut references: HashMap<u64, Vec<&str>> = HashMap::new();
    for caption in &set.captions {
        references.entry(set.images[caption.image].id).or_default().push(&caption.text);
    }
    let with_references = references.len();
    let mut images = Vec::with_capacity(results.len());
    for result in &results {
        let Some(references) = references.remove(&result.image_id) else {
            let what = format!("the image {} has no caption in {}", result.image_id, args.references.display());
            return Err(Error::data(&args.results, what));
        };
        let references = references.into_iter().map(cut).collect();
        images.push(Scored { candidate: cut(&result.caption), references });
    }
    let scores = scores::all(&images);
    let mut text = String::new();
    for score in &scores {
        text += &format!("{:8} {:.4}\n", score.name, score.corpus);
    }
    text += &format!("{} of {with_references} images\n", images.len());
    if let Some(out) = &args.out {
        let ids: Vec<u64> = results.iter().map(|result| result.image_id).collect();
        write_json(out, &file(&ids, &scores))?;
        text += &format!("{}\n", out.display());
    }
    print(&text)
}

/// `corpus` by name, and `images` with their ids and scores.
fn file(ids: &[u64], scores: &[Score]) -> Value {
    let corpus: Map<String, Value> = scores.iter().map(|score| (score.name.into(), json!(score.corpus))).collect();
    let image = |(at, id): (usize, &u64)| {
        let mut row: Map<String, Value> =
            scores.iter().map(|score| (score.name.into(), json!(score.per_image[at]))).collect();
        row.insert("image_id".into(), json!(id));
        Value::Object(row)
    };
    json!({ "corpus": corpus, "images": ids.iter().enumerate().map(image).collect::<Vec<_>>() })
}
