//! `ccdni data scenes`: generated images with captions.

use std::path::PathBuf;

use crate::cli::print;
use crate::counter::{Counter, eprint_line};
use crate::data::scenes::{Made, Scenes};
use crate::error::{Error, Result};
use crate::run::interrupt::Stop;

/// Draw images of coloured shapes, with five captions each, in COCO's format.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni data scenes
  ccdni data scenes --train 500 --validation 100 --out datasets/few-scenes")]
pub struct Args {
    /// The folder to create.
    #[arg(long, value_name = "DIR", default_value = "datasets/scenes")]
    out: PathBuf,
    /// Number of training images.
    #[arg(long, value_name = "N", default_value_t = Scenes::default().train)]
    train: usize,
    /// Number of validation images.
    #[arg(long, value_name = "N", default_value_t = Scenes::default().validation)]
    validation: usize,
    /// Width and height of an image.
    #[arg(long, value_name = "PIXELS", default_value_t = Scenes::default().size, value_parser = clap::value_parser!(u32).range(16..=1024))]
    size: u32,
    /// Random seed.
    #[arg(long, value_name = "N", default_value_t = Scenes::default().seed)]
    seed: u64,
    /// Threads; by default one per core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub fn execute(args: Args) -> Result<()> {
    let scenes = Scenes { train: args.train, validation: args.validation, size: args.size, seed: args.seed };
    let stop = Stop::on_signal()?;
    let progress = Counter::new("images");
    let made = super::on_threads(args.threads, || {
        scenes.make(&args.out, &|| stop.asked(), &|done, of| progress.show(done, of))
    })?;
    progress.end();
    let made = match made {
        Err(Error::Interrupted) => {
            eprint_line("stopped; nothing was kept");
            return Err(Error::Interrupted);
        }
        other => other?,
    };
    let what = match made {
        Made::Now => {
            format!("{} images drawn, {} captions", args.train + args.validation, 5 * (args.train + args.validation))
        }
        Made::Before => "these scenes are there already".into(),
    };
    print(&format!("{what}\n{}\n", args.out.display()))
}
