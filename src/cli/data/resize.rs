//! `ccdni data resize`: square images of one size.

use std::path::PathBuf;
use std::time::Instant;

use crate::cli::print;
use crate::counter::{Counter, eprint_line};
use crate::data::images::{BAD_FILES, ResizeFolder};
use crate::error::{Error, Result};
use crate::run::interrupt::Stop;

/// Most unreadable files to print; the list has them all.
const SHOWN: usize = 10;

/// Resize a folder of images to squares, under the same names in another folder.
///
/// PNG, JPEG, WebP, GIF, TIFF and BMP, recognised by content, subfolders included. A JPEG stays one; anything else is written as
/// PNG, under its old name whatever the extension. Converts to RGB, applies the EXIF orientation, and resamples with Lanczos; the
/// aspect ratio is not kept. Existing results are kept: run the same command again after an interruption.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ccdni data resize train2014 --out resized2014
  ccdni data resize images --out small --size 64 --strict")]
pub struct Args {
    /// The folder of images.
    source: PathBuf,
    /// The folder to write to: a new one, or one that this command made.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Width and height of the result.
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: u32,
    /// Quality of JPEG files, 1 to 100; PNG is lossless.
    #[arg(long, value_name = "N", default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// End with an error at the first unreadable file, instead of listing it and continuing.
    #[arg(long)]
    strict: bool,
    /// Threads; by default one per core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

pub fn execute(args: Args) -> Result<()> {
    let job = ResizeFolder {
        source: args.source,
        target: args.out,
        size: args.size,
        quality: args.quality,
        strict: args.strict,
    };
    let stop = Stop::on_signal()?;
    let (progress, begun) = (Counter::new("images"), Instant::now());
    let result = super::on_threads(args.threads, || job.run(&|| stop.asked(), &|done, of| progress.show(done, of)))?;
    progress.end();
    let report = match result {
        Err(Error::Interrupted) => {
            eprint_line("stopped; the same command goes on from here");
            return Err(Error::Interrupted);
        }
        other => other?,
    };
    let seconds = begun.elapsed().as_secs_f64();
    let mut text = format!("{} images resized in {seconds:.1} s", report.written);
    if report.kept > 0 {
        text += &format!(", {} were there already", report.kept);
    }
    text += &format!("\n{}\n", job.target.display());
    if !report.bad.is_empty() {
        let list = job.target.join(BAD_FILES);
        eprint_line(&format!("{} bad files left out, listed in {}:", report.bad.len(), list.display()));
        for (name, why) in report.bad.iter().take(SHOWN) {
            eprint_line(&format!("  {}: {why}", name.display()));
        }
    }
    print(&text)
}
