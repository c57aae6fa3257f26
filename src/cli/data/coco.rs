//! `ccdni data coco`: the images and captions of COCO 2014.

use std::path::PathBuf;

use clap::ValueEnum;

use super::progress::Bytes;
use crate::cli::print;
use crate::counter::eprint_line;
use crate::data::coco::{self, Archive, Event, Job, Part};
use crate::error::{Error, Result};
use crate::run::interrupt::Stop;

/// Download and unpack COCO 2014: images and captions for training and validation.
///
/// Downloads 20 GB and needs 42 GB of disk space, which is checked first. Archives are verified by their published sizes and SHA-256.
/// Existing files are kept, and partial downloads resumed: run the same command again after an interruption. Archives that you have
/// put into the folder yourself are verified and unpacked.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni data coco
  ccdni data coco --parts annotations
  ccdni data coco --out /data/coco --delete-archives")]
pub struct Args {
    /// The folder for the archives and their contents.
    #[arg(long, value_name = "DIR", default_value = "datasets/coco")]
    out: PathBuf,
    /// The parts to download.
    #[arg(long, value_name = "PARTS", value_delimiter = ',', default_values = ["annotations", "train", "validation"])]
    parts: Vec<Wanted>,
    /// The URL of the archives, with `zips/` and `annotations/` below it.
    #[arg(long, value_name = "URL", default_value = coco::BASE)]
    base: String,
    /// Delete each archive after unpacking: saves 14 GB.
    #[arg(long)]
    delete_archives: bool,
    /// Do not verify sizes and SHA-256: for a mirror with other archives of the same names.
    #[arg(long)]
    unchecked: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Wanted {
    /// Captions and other annotations: 0.25 GB.
    Annotations,
    /// 82,783 training images: 13.5 GB.
    Train,
    /// 40,504 validation images: 6.6 GB.
    Validation,
}

impl Wanted {
    fn part(self) -> Part {
        match self {
            Wanted::Annotations => Part::Annotations,
            Wanted::Train => Part::Train,
            Wanted::Validation => Part::Validation,
        }
    }
}

pub fn execute(args: Args) -> Result<()> {
    let base = args.base.trim_end_matches('/').to_owned();
    if !["http://", "https://"].iter().any(|scheme| base.strip_prefix(scheme).is_some_and(|host| !host.is_empty())) {
        return Err(Error::Usage(format!("`--base` is `{}`: expected an address such as {}", args.base, coco::BASE)));
    }
    let wanted = Wanted::value_variants().iter().filter(|wanted| args.parts.contains(wanted));
    let archives = wanted.map(|wanted| wanted.part().archive()).map(|archive| match args.unchecked {
        true => Archive { size: None, sha256: None, ..archive },
        false => archive,
    });
    let (stop, bytes) = (Stop::on_signal()?, Bytes::default());
    let job = Job {
        folder: args.out,
        base,
        archives: archives.collect(),
        delete: args.delete_archives,
        free: &coco::free,
        stop: &|| stop.asked(),
        show: &|event| match event {
            Event::Line(text) => bytes.line(&text),
            Event::Bytes { what, done, of } => bytes.show(what, done, of),
        },
    };
    let result = job.run();
    bytes.end();
    if let Err(Error::Interrupted) = result {
        eprint_line("stopped; the same command goes on from here");
    }
    result?;
    print(&format!("{}\n", job.folder.display()))
}
