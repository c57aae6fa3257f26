//! A trained network, back from its weights file.

use std::path::Path;

use candle_core::Device;

use super::directory::Directory;
use crate::data::Showcase;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::spec::{self, Request, Resolved};
use crate::tasks::Registry;
use crate::train::backend;
use crate::train::{ShowcaseResult, show};

/// A trained network and the spec that it was trained from.
pub struct Network {
    /// The spec, without `train.init_from`.
    pub resolved: Resolved,
    /// The seed that it was trained with.
    pub seed: u64,
    model: Model,
}

impl Network {
    /// Reads a network from `decoder.safetensors` of a run or of one of its seeds; the run's `spec.yaml` says what it is.
    ///
    /// # Errors
    /// [`Error::Data`] if the file is no weights file, has no spec beside it, or is not the weights of that spec.
    pub fn load(decoder: &Path, device: &Device, registry: &Registry) -> Result<Network> {
        if !decoder.is_file() {
            return Err(Error::data(decoder, "there is no such file; `ccdni list` shows the runs there are"));
        }
        // outputs/<hash>/decoder.safetensors, or outputs/<hash>/seeds/<seed>/decoder.safetensors
        let mut above = decoder.ancestors().skip(1).take(3);
        let run = above.find(|directory| directory.join("spec.yaml").is_file()).ok_or_else(|| {
            Error::data(decoder, "has no `spec.yaml` beside it; keep the weights in their run's directory")
        })?;
        let file = run.join("spec.yaml");
        // The weights are here: where they began, and whether that is still there, does not matter.
        let set = vec!["train.init_from=null".into()];
        let resolved = spec::resolve(&Request { file, set, ..Request::default() }, registry)?;
        let weights = candle_core::safetensors::load(decoder, device)
            .map_err(|error| Error::data(decoder, format!("cannot be read as safetensors: {error}")))?;
        let weights: Vec<_> = weights.into_iter().collect();
        let mut model = Model::new(&resolved.spec.model, &resolved.interface, 0, device)?;
        model.adopt(&resolved.spec.model, &resolved.interface, &weights).map_err(|error| {
            Error::data(decoder, format!("is not the network of the `spec.yaml` beside it: {error}"))
        })?;
        let named =
            decoder.strip_prefix(run.join("seeds")).ok().and_then(|below| below.parent()?.to_str()?.parse().ok());
        let best = || Directory { path: run.to_path_buf() }.manifest().ok()?.best_seed;
        let seed = named.or_else(best).or(resolved.spec.seeds.0.first().copied()).unwrap_or(1);
        Ok(Network { resolved, seed, model })
    }

    /// Its outputs for the task's showcase of its seed.
    ///
    /// # Errors
    /// [`Error::Usage`] if the task has nothing to show.
    pub fn show(&self, registry: &Registry) -> Result<ShowcaseResult> {
        let task = &self.resolved.spec.task;
        registry.prepare(task)?;
        let showcase: Option<Showcase> = registry.open(task, self.seed)?.showcase()?;
        let showcase = showcase.ok_or_else(|| Error::Usage(format!("the task `{}` has nothing to show", task.kind)))?;
        let run = &self.resolved.spec.run;
        let backend = backend::open(run.backend, run.threads, self.model.device())?;
        show(&self.model, backend.as_ref(), showcase)
    }
}
