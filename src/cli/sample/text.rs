//! Continues a text with a trained language model.

use crate::cli::print;
use crate::data::text::{END_OF_LINE, UNKNOWN_WORD};
use crate::error::{Error, Result};
use crate::run::trained_network::TrainedNetwork;
use crate::tasks::Registry;
use crate::train::decode::Strategy;

#[derive(clap::Args)]
pub struct Args {
    /// The beginning of a text, which the network continues; empty for the beginning of a line.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["image", "out"])]
    pub prompt: Option<String>,
    /// Number of words or characters to add.
    #[arg(long, value_name = "N", requires = "prompt", default_value_t = 50,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    tokens: usize,
}

impl Args {
    /// Prints the prompt and its continuation.
    pub fn execute(self, network: &TrainedNetwork, strategy: &Strategy, registry: &Registry) -> Result<()> {
        let unit = registry.task(&network.resolved.spec.task)?.text();
        let (Some(unit), Some(vocabulary)) = (unit, &network.vocabulary) else {
            return Err(Error::Usage(
                "`--prompt` is for language models, and this network is none; leave it out".into(),
            ));
        };
        // A line begins after the end of another.
        let mut ids: Vec<u32> = vocabulary.find(END_OF_LINE).into_iter().collect();
        let unknown = vocabulary.find(UNKNOWN_WORD);
        let mut strange = None;
        unit.split(&self.prompt.unwrap_or_default(), |token| match vocabulary.find(token).or(unknown) {
            Some(id) => ids.push(id),
            None => strange = strange.take().or(Some(token.to_owned())),
        });
        if let Some(token) = strange {
            return Err(Error::Usage(format!(
                "`--prompt`: `{token}` does not occur in the text that the network knows"
            )));
        }
        let never: Vec<u32> = unknown.into_iter().collect();
        let more = network.continue_text(&ids, strategy, self.tokens, &never)?;
        let words = ids.iter().skip(1).chain(&more);
        let words = words.filter_map(|&id| vocabulary.words().get(id as usize)).map(String::as_str);
        print(&format!("{}\n", unit.join(words).trim_end_matches('\n')))
    }
}

/// Fails if the network is a language model, since no prompt was given.
pub fn check_task(network: &TrainedNetwork, registry: &Registry) -> Result<()> {
    match registry.task(&network.resolved.spec.task)?.text() {
        Some(_) => Err(Error::Usage("this network continues a text: begin one with `--prompt TEXT`".into())),
        None => Ok(()),
    }
}
