//! Loads a trained network from its weight files.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::directory::{Directory, TOKENIZER};
use super::weights;
use crate::data::{Predictor, Showcase, Vocabulary};
use crate::error::{Error, Result};
use crate::model::{Layout, Model};
use crate::records::SeedRun;
use crate::spec::task_shape::Input;
use crate::spec::{self, Request, Resolved};
use crate::tasks::Registry;
use crate::train::backend;
use crate::train::decode::{Decoded, Limits, Strategy, continue_text};
use crate::train::{ShowcaseResult, Trained, feedforward, show};

/// The files of a network. Files not given are looked up beside the decoder.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// `decoder.safetensors` of a run or one of its seeds.
    pub decoder: PathBuf,
    /// `spec.yaml`.
    pub spec: Option<PathBuf>,
    /// `tokenizer.json`, of a token task.
    pub vocabulary: Option<PathBuf>,
    /// `encoder.safetensors`, of a network with an image encoder.
    pub encoder: Option<PathBuf>,
}

/// A trained network with its spec.
pub struct TrainedNetwork {
    /// The spec, without `train.init_from`.
    pub resolved: Resolved,
    /// The seed it was trained with.
    pub seed: u64,
    /// The epoch of its weights; the last of the spec if no record is beside them.
    pub epoch: usize,
    /// The vocabulary of a token task.
    pub vocabulary: Option<Vocabulary>,
    /// The file of its encoder, if it has one.
    pub encoder: Option<PathBuf>,
    model: Model,
}

impl TrainedNetwork {
    /// Loads a network as described by the run's `spec.yaml`.
    ///
    /// # Errors
    /// [`Error::Data`] if a file is missing, with the flag that would name it, or does not match.
    pub fn load(beside: &Beside, device: &Device, registry: &Registry) -> Result<TrainedNetwork> {
        TrainedNetwork::load_with(beside, &[], false, device, registry)
    }

    /// As [`TrainedNetwork::load`], with other values of the task (`path=value`), or without synthesizers (`lesion`).
    ///
    /// # Errors
    /// As [`TrainedNetwork::load`]; [`Error::Spec`] for invalid values.
    pub fn load_with(
        beside: &Beside,
        set: &[String],
        lesion: bool,
        device: &Device,
        registry: &Registry,
    ) -> Result<TrainedNetwork> {
        let decoder = &beside.decoder;
        if !decoder.is_file() {
            return Err(Error::data(decoder, "there is no such file; `ccdni list` shows the runs there are"));
        }
        let find = |given: &Option<PathBuf>, name: &str| given.clone().or_else(|| found(decoder, name));
        let missing = |name: &str, flag: &str| {
            let what = format!(
                "has no `{name}` beside it: keep the weights in their run's directory, or name it with `{flag}`"
            );
            Error::data(decoder, what)
        };
        let file = find(&beside.spec, "spec.yaml").ok_or_else(|| missing("spec.yaml", "--spec FILE"))?;
        // The weights are trained: whether their initial weights still exist does not matter.
        let mut set = [&["train.init_from=null".into()], set].concat();
        if lesion {
            // What is recorded from synthesizers would be refused without them.
            set.push("record=null".into());
            let layers = spec::read_resolved(&file)?.model.layers.len();
            set.extend((0..layers).map(|layer| format!("model.layers.{layer}.dni=null")));
        }
        let resolved = spec::resolve(&Request { file: file.clone(), set, ..Request::default() }, registry)?;
        let vocabulary = match resolved.shape.input {
            Input::Tokens { vocabulary: 0, .. } => {
                let words = find(&beside.vocabulary, TOKENIZER);
                let words = words.ok_or_else(|| missing(TOKENIZER, "--vocabulary FILE"))?;
                let vocabulary = Vocabulary::load(&words)?;
                weights::check_words(decoder, &words, &vocabulary)?;
                Some(vocabulary)
            }
            _ => None,
        };
        let shape = vocabulary.as_ref().map_or_else(
            || resolved.shape.clone(),
            |vocabulary| resolved.shape.with_vocabulary(vocabulary.words().len()),
        );
        let encoder = beside.encoder.clone().or_else(|| Some(decoder.with_file_name(weights::ENCODER)));
        let encoder = encoder.filter(|path| beside.encoder.is_some() || path.is_file());
        if resolved.spec.model.encoder.is_some() && encoder.is_none() {
            return Err(missing(weights::ENCODER, "--encoder FILE"));
        }
        let weights = weights::read(decoder, encoder.as_deref(), device)?;
        let mut model = Model::new(&registry.train().model, &resolved.spec.model, &shape, 0, device)?;
        // The weights have the names of the network as it was trained.
        let trained = if lesion { spec::read_resolved(&file)?.model } else { resolved.spec.model.clone() };
        let layout = Layout::new(&registry.train().model, &trained, &shape)?;
        model.adopt(&layout, &weights).map_err(|error| {
            let words = if vocabulary.is_some() { " and its `tokenizer.json`" } else { "" };
            Error::data(decoder, format!("is not the network of {}{words}: {error}", file.display()))
        })?;
        let run = file.parent().unwrap_or(Path::new("."));
        let named =
            decoder.strip_prefix(run.join("seeds")).ok().and_then(|below| below.parent()?.to_str()?.parse().ok());
        let best = || Directory { path: run.to_path_buf() }.manifest().ok()?.best_seed;
        let seed = named.or_else(best).or(resolved.spec.seeds.0.first().copied()).unwrap_or(1);
        let record = SeedRun::of(run, seed).record().ok().flatten().and_then(|record| record.result);
        let epoch = record.map_or(resolved.spec.train.epochs, |result| result.kept_epoch);
        model.at_epoch(epoch);
        Ok(TrainedNetwork { resolved, seed, epoch, vocabulary, encoder, model })
    }

    /// The device that holds the model.
    pub fn device(&self) -> &Device {
        self.model.device()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Images, or features of a frozen backbone, as the network's first input, `[images, width]`.
    ///
    /// # Errors
    /// Fails if they are of another shape.
    pub fn encoded(&self, images: &Tensor) -> Result<Tensor> {
        match (&self.model.encoder, &self.model.blocks) {
            (Some(encoder), _) => Ok(encoder.encode(&self.model.params, images, false)?.features),
            (None, Some(blocks)) if blocks.encodes_images() => feedforward::evaluate(&self.model, images),
            _ => Ok(images.clone()),
        }
    }

    /// Gives the network with its backend to `compute`.
    ///
    /// # Errors
    /// Fails if the backend does not support the model; the errors of `compute`.
    pub fn predictor<T>(&self, compute: impl FnOnce(&Trained<'_>) -> Result<T>) -> Result<T> {
        let run = &self.resolved.spec.run;
        let backend = backend::open(run.backend, run.threads.or_cores(), &self.model)?;
        compute(&Trained { model: &self.model, backend: backend.as_ref() })
    }

    /// Outputs for the task's showcase, opened with the network's seed.
    ///
    /// # Errors
    /// [`Error::Usage`] if the task has no showcase.
    pub fn show(&self, registry: &Registry) -> Result<ShowcaseResult> {
        let table = &self.resolved.spec.task;
        let task = registry.task(table)?;
        task.prepare()?;
        let showcase: Option<Showcase> = task.open(self.seed)?.showcase()?;
        let showcase = showcase.ok_or_else(|| Error::Usage(format!("the task `{}` has no showcase", table.kind)))?;
        self.predictor(|trained| show(trained, showcase))
    }

    /// Continues a text by `count` tokens after `prompt`; those of `never` are never chosen.
    ///
    /// # Errors
    /// As [`continue_text`].
    pub fn continue_text(&self, prompt: &[u32], strategy: &Strategy, count: usize, never: &[u32]) -> Result<Vec<u32>> {
        self.predictor(|trained| continue_text(trained.model, trained.backend, prompt, strategy, (count, never)))
    }

    /// Captions for the input of the first step, `[images, ...]`.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn decode(&self, input: &Tensor, strategy: &Strategy, limits: &Limits) -> Result<Vec<Vec<Decoded>>> {
        self.predictor(|trained| trained.decode(input, strategy, limits))
    }
}

/// Looks for a file beside the decoder and up to two directories up: the decoder is in `outputs/<hash>/` or
/// `outputs/<hash>/seeds/<seed>/`.
fn found(decoder: &Path, name: &str) -> Option<PathBuf> {
    decoder.ancestors().skip(1).take(3).map(|directory| directory.join(name)).find(|path| path.is_file())
}
