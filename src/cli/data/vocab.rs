//! `ccdni data vocab`: the vocabulary of captions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::cli::print;
use crate::data::captions::CaptionSet;
use crate::data::captions::vocabulary::{Vocabulary, WordCounts};
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// Make a vocabulary: the words of captions, seen often enough, as a tokenizer.json.
///
/// Captions are lower-cased and tokenised as by NLTK. Words are numbered in order of first appearance, after
/// `<pad>` `<start>` `<end>` `<unk>`. The file is for the tokenizers library, with tokens of the input separated by spaces.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni data vocab captions_train2014.json --out tokenizer.json
  ccdni data vocab Flickr8k.token.txt --images Flickr_8k.trainImages.txt --threshold 5 --out tokenizer.json")]
pub struct Args {
    /// The captions: COCO's JSON, or a table of Flickr8k or Flickr30k.
    captions: PathBuf,
    /// The split, or several, of a file with splits: train, train+restval.
    #[arg(long, value_name = "SPLIT")]
    split: Option<String>,
    /// Only the images of this list, one file name per line.
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
    /// Words seen less often are unknown.
    #[arg(long, value_name = "N", default_value_t = 4)]
    threshold: u64,
    /// Where to write the vocabulary.
    #[arg(long, value_name = "FILE", default_value = "tokenizer.json")]
    out: PathBuf,
    /// Also write the length of every caption, in the order of the file: a CSV with `caption_id,image_id,length`.
    #[arg(long, value_name = "FILE")]
    lengths: Option<PathBuf>,
    /// Threads; by default one per core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub fn execute(args: Args) -> Result<()> {
    for out in [Some(&args.out), args.lengths.as_ref()].into_iter().flatten() {
        is_writable(out)?;
    }
    let set = CaptionSet::open(&args.captions)?;
    let mut set = set.chosen(args.split.as_deref(), &args.captions, "--split train")?;
    if let Some(list) = &args.images {
        set = set.only(list)?;
    }
    if set.captions.is_empty() {
        return Err(Error::data(&args.captions, "has no captions: there are no words to count"));
    }
    let texts: Vec<&str> = set.captions.iter().map(|caption| caption.text.as_str()).collect();
    let counts = super::on_threads(args.threads, || WordCounts::of(&texts))?;
    let vocabulary = Vocabulary::new(&counts, args.threshold);
    vocabulary.save(&args.out)?;
    if let Some(path) = &args.lengths {
        write_atomically(path, lengths(&set, &counts).as_bytes())?;
    }
    print(&summary(&set, &counts, &vocabulary, args.threshold))?;
    print(&format!("{}\n", args.out.display()))
}

/// Fails early if a file could not be written.
fn is_writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => {
            Err(Error::Usage(format!("{}: {} is not a directory; create it first", path.display(), folder.display())))
        }
        None => Ok(()),
    }
}

fn lengths(set: &CaptionSet, counts: &WordCounts) -> String {
    let mut text = String::from("caption_id,image_id,length\n");
    for (caption, length) in set.captions.iter().zip(&counts.lengths) {
        let _ = writeln!(text, "{},{},{length}", caption.id, set.images[caption.image].id);
    }
    text
}

/// The counts, and a histogram of caption lengths.
fn summary(set: &CaptionSet, counts: &WordCounts, vocabulary: &Vocabulary, threshold: u64) -> String {
    let known: u64 = counts.words.iter().map(|(_, count)| *count).filter(|count| *count >= threshold).sum();
    let mut text = format!(
        "{} captions of {} images; {} words, {} different ones\n\
         {} words in the vocabulary (seen at least {threshold} times, and 4 special ones): {:.2} % of all words\n",
        set.captions.len(),
        set.images.len(),
        counts.total(),
        counts.words.len(),
        vocabulary.words().len(),
        100.0 * known as f64 / counts.total().max(1) as f64,
    );
    let empty = counts.lengths.iter().filter(|length| **length == 2).count();
    for (count, what) in [(empty, "captions without words"), (set.images_without_captions(), "images without captions")]
    {
        if count > 0 {
            let _ = writeln!(text, "note: {count} {what}");
        }
    }
    let mut histogram = BTreeMap::new();
    counts.lengths.iter().for_each(|length| *histogram.entry(*length).or_insert(0usize) += 1);
    text += "length (with start and end): captions\n";
    // Very long captions share one line.
    let long: usize = histogram.range(41..).map(|(_, count)| count).sum();
    for (length, count) in histogram.range(..41) {
        let _ = writeln!(text, "{length:>4}: {count}");
    }
    if long > 0 {
        let _ = writeln!(text, " >40: {long}");
    }
    text
}
