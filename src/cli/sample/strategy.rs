//! Decoding strategies.

use crate::error::{Error, Result};
use crate::train::decode::{Strategy, WIDEST_BEAM};

/// The decoding strategy: greedy by default, sampling for texts.
#[derive(clap::Args)]
pub struct StrategyArgs {
    /// Beam search with this width, instead of greedy decoding.
    #[arg(long, value_name = "N", conflicts_with_all = ["temperature", "top_p"],
        value_parser = clap::value_parser!(u16).range(1..=WIDEST_BEAM as i64))]
    beam: Option<u16>,
    /// Sample words: below 1 likely words become likelier, above 1 less likely.
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// Sample from the smallest set of the likeliest words with at least this total probability.
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// The seed for sampling.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl StrategyArgs {
    /// The strategy for a text: sampling by default, since the most likely words soon repeat themselves.
    pub fn for_text(&self) -> Result<Strategy> {
        match self.strategy()? {
            Strategy::Greedy => Ok(Strategy::Sample { temperature: 1.0, top_p: 1.0, seed: self.seed, first: 0 }),
            other => Ok(other),
        }
    }

    /// The strategy for the first image.
    pub fn strategy(&self) -> Result<Strategy> {
        let within = |name: &str, value: Option<f64>, high: f64| match value {
            Some(value) if !(value > 0.0 && value <= high && value.is_finite()) => {
                let most = if high.is_finite() { format!(", at most {high}") } else { String::new() };
                Err(Error::Usage(format!("`{name} {value}`: expected a number above 0{most}")))
            }
            other => Ok(other),
        };
        let temperature = within("--temperature", self.temperature, f64::INFINITY)?;
        let top_p = within("--top-p", self.top_p, 1.0)?;
        Ok(match (self.beam, temperature, top_p) {
            (Some(width), ..) => Strategy::Beam { width: usize::from(width) },
            (None, None, None) => Strategy::Greedy,
            (None, temperature, top_p) => Strategy::Sample {
                temperature: temperature.unwrap_or(1.0),
                top_p: top_p.unwrap_or(1.0),
                seed: self.seed,
                first: 0,
            },
        })
    }
}
