//! `train.init_from`: initial weights from another run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::directory::TOKENIZER;
use super::{manifest, weights};
use crate::data::Vocabulary;
use crate::error::{Error, Problem, Problems, Result};
use crate::model::Layout;
use crate::records::SeedRun;
use crate::spec::{self, InitFrom, Request, Resolved, Spec, Trainable};
use crate::tasks::Registry;

/// The unit of another run whose weights a unit starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    run: PathBuf,
    unit: SeedRun,
}

/// The source of initial weights for `seed` of `spec`, if it is another run.
pub fn source(spec: &Spec, seed: u64) -> Option<Source> {
    let (run, seed) = match spec.train.init_from.as_ref()? {
        InitFrom::Run(run) => (run, seed),
        InitFrom::Seed(from) => (&from.run, from.seed),
    };
    let run = Path::new(run).to_path_buf();
    let unit = SeedRun::of(&run, seed);
    Some(Source { run, unit })
}

/// Rejects a run whose weights do not fit.
///
/// # Errors
/// [`Error::Spec`] naming the first parameter whose shape differs, or an error in that run's spec.
pub fn check(resolved: &Resolved, registry: &Registry) -> Result<()> {
    let Some(source) = source(&resolved.spec, 0) else { return Ok(()) };
    let theirs = source.resolved(registry)?;
    let refuse = |message: String, help: &str| {
        Err(Error::Spec(Problems(vec![Problem::new("train.init_from", message).help(help)])))
    };
    if let (Some(ours), Some(theirs)) = (&resolved.spec.model.encoder, &theirs.spec.model.encoder)
        && !ours.carries_on(theirs)
    {
        let of_blocks = [ours, theirs].map(|encoder| encoder.blocks().is_some());
        let differs = match of_blocks {
            [true, true] => "has other blocks",
            [false, false] => "has another backbone",
            _ => "is of another kind",
        };
        let message = format!("the encoder of {} {differs} than this model's", source.run.display());
        let help = match theirs.trainable() {
            _ if of_blocks == [true, true] => "use the blocks of that run's encoder; their `dni` tables may differ",
            _ if of_blocks.contains(&true) => "use the `kind` of that run's encoder",
            Trainable::All => {
                "use `trainable: all`, or name its backbone: `model.encoder.weights: <run>/encoder.safetensors`"
            }
            _ => "use the `kind` and `weights` of that run's encoder",
        };
        return refuse(message, help);
    }
    let layout = |of: &Resolved| Layout::new(&registry.train().model, &of.spec.model, &of.shape);
    layout(resolved)?.fits(&layout(&theirs)?).map_err(|what| {
        let message = format!("the weights of {} do not fit this model: {what}", source.run.display());
        let problem = Problem::new("train.init_from", message);
        Error::Spec(Problems(vec![
            problem.help("start from a run of the same cells and widths, on data of the same sizes"),
        ]))
    })
}

/// Rejects a run whose vocabulary differs.
///
/// # Errors
/// [`Error::Usage`] if the vocabularies differ; [`Error::Data`] if that run's `tokenizer.json` is missing or damaged.
pub fn check_words(spec: &Spec, vocabulary: Option<&Vocabulary>) -> Result<()> {
    let (Some(source), Some(vocabulary)) = (source(spec, 0), vocabulary) else { return Ok(()) };
    let path = source.run.join(TOKENIZER);
    if Vocabulary::load(&path)? == *vocabulary {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "`train.init_from` names {}, whose vocabulary differs from that of this task: use it with \
         `task.vocabulary: {}`",
        source.run.display(),
        path.display()
    )))
}

/// BLAKE3 digests (hex) of the weight files that these seeds start from. Keys contain the other run's hash instead of its
/// path, since a run may be moved.
///
/// # Errors
/// [`Error::Usage`] naming the seeds that the other run has not trained.
pub fn digests(spec: &Spec, seeds: &[u64], registry: &Registry) -> Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    let Some(first) = seeds.first().and_then(|&seed| source(spec, seed)) else { return Ok(digests) };
    let hash = first.resolved(registry)?.hash;
    let mut missing = Vec::new();
    for source in seeds.iter().filter_map(|&seed| source(spec, seed)) {
        let path = source.unit.weights_path();
        let encoder = source.unit.encoder_path();
        if !source.unit.has_weights()? {
            missing.push((source.run, source.unit.seed));
        } else {
            for path in [path, encoder].iter().filter(|path| path.exists()) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                digests.insert(format!("{hash}/seeds/{}/{name}", source.unit.seed), manifest::digest(path)?);
            }
        }
    }
    missing.dedup();
    match missing.first() {
        None => Ok(digests),
        Some((run, _)) => {
            let seeds = missing.iter().map(|(_, seed)| seed.to_string()).collect::<Vec<_>>().join(", ");
            Err(Error::Usage(format!(
                "`train.init_from` names {0}, which has no trained seed {seeds}; train it with `ccdni run \
                 {0}/spec.yaml --seeds {1} --outputs {2}`, or name one seed for all with `init_from: {{run: ..., seed: ...}}`",
                run.display(),
                seeds.replace(", ", ","),
                run.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")).display(),
            )))
        }
    }
}

impl Source {
    /// Resolves the spec that the weights belong to.
    ///
    /// # Errors
    /// Any error in that run's spec.
    pub fn resolved(&self, registry: &Registry) -> Result<Resolved> {
        spec::resolve(&Request { file: self.run.join("spec.yaml"), ..Request::default() }, registry)
    }

    /// Its weights, by ascending name.
    ///
    /// # Errors
    /// As [`weights::read`].
    pub fn weights(&self, device: &Device) -> Result<Vec<(String, Tensor)>> {
        let encoder = Some(self.unit.encoder_path()).filter(|path| path.exists());
        weights::read(&self.unit.weights_path(), encoder.as_deref(), device)
    }
}
