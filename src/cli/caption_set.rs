//! `ccdni caption-set`: a trained network's captions for a whole set of images.

use std::path::PathBuf;

use crate::counter::{Counter, eprint_line};
use crate::data::captions::CaptionSet;
use crate::data::captions::results::{self, CaptionResult};
use crate::data::images;
use crate::device;
use crate::error::{Error, Result};
use crate::tasks::Registry;
use crate::train::decode::Limits;

use super::print;
use super::sample::{Captioner, NetworkArgs, StrategyArgs, check_out};

/// Images per batch.
const TOGETHER: usize = 32;
/// Most unreadable files to list.
const SHOWN: usize = 10;

/// Caption a whole set of images: a results file in COCO's format, for `ccdni score` or any other tool that reads it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni caption-set --decoder 3f9a --captions datasets/scenes/captions_validation.json \\
    --images datasets/scenes/validation --out results.json
  ccdni score results.json datasets/scenes/captions_validation.json")]
pub struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    /// The set: a caption file, COCO's JSON or a table of Flickr8k or Flickr30k. Its images and their ids are used.
    #[arg(long, value_name = "FILE")]
    captions: PathBuf,
    /// The folder of its images.
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The split, or several, of a file with splits: train, train+restval.
    #[arg(long, value_name = "SPLIT")]
    split: Option<String>,
    /// Only the images of this list, one file name per line.
    #[arg(long, value_name = "FILE")]
    only: Option<PathBuf>,
    /// Where to write the captions: a list of image_id and caption.
    #[arg(long, value_name = "FILE", default_value = "results.json")]
    out: PathBuf,
    /// End with an error at the first image that cannot be read, instead of leaving it out.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    strategy: StrategyArgs,
}

pub fn execute(args: Args, registry: &Registry) -> Result<()> {
    let strategy = args.strategy.strategy()?;
    check_out(Some(&args.out))?;
    let set = CaptionSet::open(&args.captions)?;
    let mut set = set.chosen(args.split.as_deref(), &args.captions, "--split train")?;
    if let Some(list) = &args.only {
        set = set.only(list)?;
    }
    let device = device::open(&args.network.device, false)?;
    let captioner = Captioner::load(&args.network.beside()?, args.network.backbone.as_deref(), &device, registry)?;
    let counter = Counter::new("images");
    let (mut results, mut bad): (Vec<CaptionResult>, Vec<Error>) = Default::default();
    for (chunk, about) in set.images.chunks(TOGETHER).enumerate() {
        let mut images = Vec::with_capacity(about.len());
        for image in about {
            images.push(match images::read(&args.images.join(&image.file_name)) {
                Ok(image) => Some(image),
                Err(error) if args.strict => return Err(error),
                Err(error) => {
                    bad.push(error);
                    None
                }
            });
        }
        let sentences = captioner.caption(&images, &strategy.from(chunk * TOGETHER), Limits::STEPS)?;
        results.extend(about.iter().zip(sentences).filter_map(|(image, sentences)| {
            let best = sentences?.first().map(|one| captioner.vocabulary().decode(&one.ids));
            Some(CaptionResult { image_id: image.id, caption: best.unwrap_or_default() })
        }));
        counter.show((chunk * TOGETHER + about.len()).min(set.images.len()), set.images.len());
    }
    counter.end();
    if results.is_empty() {
        return Err(bad.pop().unwrap_or_else(|| Error::data(&args.captions, "has no images")));
    }
    results::write(&args.out, &results)?;
    if !bad.is_empty() {
        eprint_line(&format!("{} images cannot be read and are left out:", bad.len()));
        bad.iter().take(SHOWN).for_each(|error| eprint_line(&format!("  {error}")));
    }
    print(&format!("{} captions\n{}\n", results.len(), args.out.display()))
}
