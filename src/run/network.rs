//! A trained network, back from its weights file.

use std::path::Path;

use candle_core::Device;

use crate::data::Showcase;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::spec::{self, Request, Resolved};
use crate::tasks::Registry;
use crate::train::backend;
use crate::train::{ShowcaseResult, show};

/// A trained network and the spec that it was trained from.
pub struct Network {
    /// The spec.
    pub resolved: Resolved,
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
        let above = decoder.ancestors().skip(1).take(3);
        let file = above.map(|dir| dir.join("spec.yaml")).find(|path| path.is_file()).ok_or_else(|| {
            Error::data(decoder, "has no `spec.yaml` beside it; keep the weights in their run's directory")
        })?;
        let resolved = spec::resolve(&Request { file, ..Request::default() }, registry)?;
        let weights = candle_core::safetensors::load(decoder, device)
            .map_err(|error| Error::data(decoder, format!("cannot be read as safetensors: {error}")))?;
        let weights: Vec<_> = weights.into_iter().collect();
        let mut model = Model::new(&resolved.spec.model, &resolved.interface, 0, device)?;
        model.adopt(&resolved.spec.model, &resolved.interface, &weights).map_err(|error| {
            Error::data(decoder, format!("is not the network of the `spec.yaml` beside it: {error}"))
        })?;
        Ok(Network { resolved, model })
    }

    /// Its outputs for the task's showcase of a seed.
    ///
    /// # Errors
    /// [`Error::Usage`] if the task has nothing to show.
    pub fn show(&self, seed: u64, registry: &Registry) -> Result<ShowcaseResult> {
        let task = &self.resolved.spec.task;
        let showcase: Option<Showcase> = registry.open(task, seed)?.showcase()?;
        let showcase = showcase.ok_or_else(|| Error::Usage(format!("the task `{}` has nothing to show", task.kind)))?;
        let run = &self.resolved.spec.run;
        let backend = backend::open(run.backend, run.threads, self.model.device())?;
        show(&self.model, backend.as_ref(), showcase)
    }
}
