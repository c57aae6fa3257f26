//! From a trained network to sentences: greedy, beam and sampling.
//!
//! The network was trained with a feature vector (an image's) as its first input, from which it predicts the start token,
//! from that the first word, and so on to the end token. Decoding likewise feeds the feature, the start token (whatever the
//! prediction from the feature), then every chosen word, until the end token or a limit. All sentences of all images form
//! one batch, one step at a time. Images are independent but for the last bits of products, which depend on the batch size.

mod beam;
mod choose;
mod network;

use candle_core::Tensor;

use self::choose::{Allowed, Row};
use self::network::Network;
use super::backend::Backend;
pub use crate::data::{Decoded, Limits, Strategy, WIDEST_BEAM};
use crate::error::{Error, Result};
use crate::model::{Model, Weights};
use crate::rng::Stream;

/// Sentences for the inputs of the first step, `[images, ...]` (features, or the encoder's input): one per image, or with a
/// beam up to `width` different ones, the best first.
///
/// # Errors
/// [`Error::Usage`] for an invalid strategy or limits, [`Error::Training`] if the model's inputs or outputs are not tokens,
/// or if an output is not finite.
pub fn decode(
    model: &Model,
    backend: &dyn Backend,
    features: &Tensor,
    strategy: &Strategy,
    limits: &Limits,
) -> Result<Vec<Vec<Decoded>>> {
    check_strategy(strategy)?;
    let allowed = Allowed::new(vocabulary(model)?, limits)?;
    let images = features.dim(0)?;
    if images == 0 {
        return Ok(Vec::new());
    }
    let mut searches: Vec<Search> = (0..images as u32).map(Search::new).collect();
    let mut network = Network::begin(model, backend, features, limits.start)?;
    for step in 0..limits.steps {
        let logits = network.logits();
        for (image, search) in searches.iter_mut().enumerate() {
            search.advance(logits, &allowed, strategy, Draw { image, step })?;
        }
        let mut live: Vec<&mut Path> = searches.iter_mut().flat_map(|search| &mut search.live).collect();
        if live.is_empty() || step + 1 == limits.steps {
            break;
        }
        let (rows, words): (Vec<u32>, Vec<u32>) = live.iter().map(|path| (path.row, path.last)).unzip();
        network.step(&rows, &words)?;
        live.iter_mut().zip(0..).for_each(|(path, row)| path.row = row);
    }
    Ok(searches.into_iter().map(|search| search.sentences(strategy)).collect())
}

/// Continues a text: `count` tokens after `prompt`, from a zero state; those of `never` are never chosen.
///
/// # Errors
/// As [`decode`]; [`Error::Usage`] for an empty prompt or a beam.
pub fn continue_text(
    model: &Model,
    backend: &dyn Backend,
    prompt: &[u32],
    strategy: &Strategy,
    (count, never): (usize, &[u32]),
) -> Result<Vec<u32>> {
    check_strategy(strategy)?;
    if prompt.is_empty() || matches!(strategy, Strategy::Beam { .. }) {
        return Err(Error::Usage("a text is continued from at least one token, greedily or by sampling".into()));
    }
    let allowed = Allowed::endless(vocabulary(model)?, never);
    let mut network = Network::begin_with(model, backend, prompt)?;
    let mut search = Search::new(0);
    for step in 0..count {
        search.advance(network.logits(), &allowed, strategy, Draw { image: 0, step })?;
        let Some(path) = search.live.first() else { break };
        if step + 1 < count {
            network.step(&[0], &[path.last])?;
        }
    }
    Ok(search.sentences(strategy).pop().unwrap_or_default().ids)
}

/// The size of the model's vocabulary, which is the same for inputs and outputs.
fn vocabulary(model: &Model) -> Result<usize> {
    let embedding = model.embedding(Weights::Constant);
    let read = match &embedding {
        Some(table) => table.dim(0)?,
        None => return Err(Error::Training("sentences from a model that reads no tokens".into())),
    };
    let answers = model.readout(Weights::Constant)?.bias.elem_count();
    if read != answers {
        return Err(Error::Training(format!(
            "sentences from a model that reads {read} tokens and answers with one of {answers}"
        )));
    }
    Ok(read)
}

fn check_strategy(strategy: &Strategy) -> Result<()> {
    match *strategy {
        Strategy::Beam { width } if width == 0 || width > WIDEST_BEAM => {
            Err(Error::Usage(format!("a beam of {width} sentences; choose 1 to {WIDEST_BEAM}")))
        }
        Strategy::Sample { temperature, .. } if !(temperature > 0.0 && temperature.is_finite()) => {
            Err(Error::Usage(format!("a temperature of {temperature}; choose a number above 0")))
        }
        Strategy::Sample { top_p, .. } if !(top_p > 0.0 && top_p <= 1.0) => {
            Err(Error::Usage(format!("a top-p of {top_p}; choose a number above 0, up to 1")))
        }
        _ => Ok(()),
    }
}

#[derive(Clone, Copy)]
struct Draw {
    image: usize,
    step: usize,
}

struct Search {
    /// Unfinished ones, the likeliest first.
    live: Vec<Path>,
    finished: Vec<Path>,
}

/// A partial sentence.
#[derive(Clone)]
struct Path {
    decoded: Decoded,
    sum: f64,
    /// The word to feed next.
    last: u32,
    row: u32,
}

impl Path {
    /// The sentence with one more token.
    fn with(&self, id: u32, log_probability: f64, end: u32) -> Path {
        let mut next = self.clone();
        next.decoded.log_probabilities.push(log_probability);
        next.sum += log_probability;
        next.last = id;
        match id == end {
            true => next.decoded.ended = true,
            false => next.decoded.ids.push(id),
        }
        next
    }

    fn score(&self) -> f64 {
        self.decoded.score()
    }
}

impl Search {
    fn new(row: u32) -> Search {
        let path = Path { decoded: Decoded::default(), sum: 0.0, last: 0, row };
        Search { live: vec![path], finished: Vec::new() }
    }

    fn advance(&mut self, logits: &[f32], allowed: &Allowed, strategy: &Strategy, draw: Draw) -> Result<()> {
        if let Strategy::Beam { width } = *strategy {
            return self.advance_beam(logits, allowed, width);
        }
        let Some(path) = self.live.pop() else { return Ok(()) };
        let row = Row::new(logits, path.row, allowed)?;
        let id = match *strategy {
            Strategy::Sample { temperature, top_p, seed, first } => {
                let mut stream = Stream::new(seed, "sample", first + draw.image, draw.step);
                row.drawn(temperature, top_p, stream.unit_f64())?
            }
            _ => row.likeliest(1).first().copied().unwrap_or(allowed.end),
        };
        let path = path.with(id, row.log_probability(id), allowed.end);
        match path.decoded.ended {
            true => self.finished.push(path),
            false => self.live.push(path),
        }
        Ok(())
    }

    /// The best sentences; unfinished ones at the limit count like finished ones.
    fn sentences(mut self, strategy: &Strategy) -> Vec<Decoded> {
        let width = if let Strategy::Beam { width } = *strategy { width } else { 1 };
        self.finished.append(&mut self.live);
        beam::keep_best(&mut self.finished, width);
        self.finished.into_iter().map(|path| path.decoded).collect()
    }
}
