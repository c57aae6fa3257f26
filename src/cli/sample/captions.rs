//! Captions for images.

use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::Device;
use image::RgbImage;
use serde_json::{Value, json};

use super::{Captioner, StrategyArgs};
use crate::cli::print;
use crate::counter::eprint_line;
use crate::data::Vocabulary;
use crate::data::images::{self, MAX_FILE};
use crate::error::{Error, Result};
use crate::run::trained_network::{Beside, TrainedNetwork};
use crate::tasks::Registry;
use crate::train::decode::{Decoded, Limits};

/// Images per batch.
const TOGETHER: usize = 16;

#[derive(clap::Args)]
pub struct Args {
    /// Images to describe: files, folders, or - for one from standard input.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub image: Vec<PathBuf>,
    #[command(flatten)]
    pub strategy: StrategyArgs,
    /// Most words per sentence.
    #[arg(long, value_name = "N", requires = "image", default_value_t = Limits::STEPS,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    words: usize,
    /// Print JSON with words and log-probabilities, and with all sentences of a beam.
    #[arg(long, requires = "image")]
    json: bool,
}

impl Args {
    pub fn has_images(&self) -> bool {
        !self.image.is_empty()
    }

    pub fn execute(self, beside: &Beside, backbone: Option<&str>, device: &Device, registry: &Registry) -> Result<()> {
        let strategy = self.strategy.strategy()?;
        let captioner = Captioner::load(beside, backbone, device, registry)?;
        let named = images(&self.image)?;
        let mut bad: Vec<Error> = Vec::new();
        let mut rows = Vec::new();
        for (chunk, names) in named.chunks(TOGETHER).enumerate() {
            let mut readable = |name: &PathBuf| read(name).map_err(|error| bad.push(error)).ok();
            let inputs: Vec<Option<RgbImage>> = names.iter().map(&mut readable).collect();
            let captions = captioner.caption(&inputs, &strategy.from(chunk * TOGETHER), self.words)?;
            for (name, sentences) in names.iter().zip(captions) {
                let Some(sentences) = sentences else { continue };
                match self.json {
                    true => rows.push(row(name, &sentences, captioner.vocabulary())),
                    false => print(&line(name, &sentences, captioner.vocabulary(), named.len() > 1))?,
                }
            }
        }
        if self.json {
            print(&format!("{:#}\n", Value::Array(rows)))?;
        }
        // All readable images have been described. Report the other errors, and return the last.
        let Some(last) = bad.pop() else { return Ok(()) };
        bad.iter().for_each(|error| eprint_line(&format!("error: {error}")));
        Err(last)
    }
}

/// Fails if the network describes images, since none was given.
pub fn check_task(network: &TrainedNetwork, registry: &Registry) -> Result<()> {
    match registry.task(&network.resolved.spec.task)?.view() {
        Some(_) => Err(Error::Usage("this network describes images: name one with `--image FILE`".into())),
        None => Ok(()),
    }
}

/// The images to describe: files as named, and the image files in folders, sorted by name.
fn images(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in named {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let inside = images::images_in(path)?;
        if inside.is_empty() {
            return Err(Error::data(path, "is a folder without images (.png, .jpg and the like)"));
        }
        all.extend(inside.iter().map(|name| path.join(name)));
    }
    Ok(all)
}

fn read(path: &Path) -> Result<RgbImage> {
    if path != Path::new("-") {
        return match path.exists() {
            true => images::read(path),
            false => Err(Error::data(path, "there is no such file")),
        };
    }
    let name = Path::new("standard input");
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(MAX_FILE + 1);
    input.read_to_end(&mut bytes).map_err(Error::io("read", name))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::data(name, "has too many bytes for an image"));
    }
    images::decode(&bytes).map(|(image, _)| image).map_err(|what| Error::data(name, what))
}

/// The best sentence, after the image's name if there are several images.
fn line(name: &Path, sentences: &[Decoded], vocabulary: &Vocabulary, several: bool) -> String {
    let caption = sentences.first().map_or_else(String::new, |best| vocabulary.decode(&best.ids));
    if several { format!("{}\t{caption}\n", name.display()) } else { format!("{caption}\n") }
}

fn row(name: &Path, sentences: &[Decoded], vocabulary: &Vocabulary) -> Value {
    let one = |sentence: &Decoded| {
        let ends = sentence.ended.then_some("<end>");
        let words = sentence.ids.iter().filter_map(|&id| vocabulary.words().get(id as usize)).map(String::as_str);
        let tokens: Vec<Value> = (words.chain(ends).zip(&sentence.log_probabilities))
            .map(|(token, log_probability)| json!({ "token": token, "log_probability": log_probability }))
            .collect();
        json!({
            "caption": vocabulary.decode(&sentence.ids),
            "log_probability": sentence.log_probabilities.iter().sum::<f64>(),
            "ended": sentence.ended,
            "tokens": tokens,
        })
    };
    let sentences: Vec<Value> = sentences.iter().map(one).collect();
    json!({ "image": name, "sentences": sentences })
}
