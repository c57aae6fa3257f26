//! What a run needs beyond its spec, looked at before anything is written: device, data, initial weights, and what an
//! earlier run left in the directory.

use std::collections::BTreeMap;

use candle_core::Device;

use super::directory::Directory;
use super::{init_from, manifest};
use crate::device;
use crate::error::{Error, Result};
use crate::records::SeedRun;
use crate::spec::{EncoderSpec, Resolved, Spec, TaskTable, Trainable};
use crate::tasks::{Registry, TaskData};
use crate::train::check_data;

/// Looks at what specs need beyond themselves: device, data, weights. What several specs share is looked at once.
pub struct Inspector<'a> {
    registry: &'a Registry,
    elsewhere: bool,
    devices: Vec<(String, bool, Device)>,
    tasks: Vec<OpenTask>,
}

/// A task whose data have been opened, and the digests of its files.
struct OpenTask {
    task: TaskTable,
    encoder: Option<EncoderSpec>,
    digests: BTreeMap<String, String>,
    data: TaskData,
}

impl<'a> Inspector<'a> {
    /// Has looked at nothing yet. `elsewhere` says that training happens on another machine, whose devices are not known
    /// here.
    pub fn new(registry: &'a Registry, elsewhere: bool) -> Self {
        Inspector { registry, elsewhere, devices: Vec::new(), tasks: Vec::new() }
    }

    /// The device that computes features, or the CPU where there are none: a GPU is not opened here for nothing.
    fn device(&mut self, spec: &Spec) -> Result<Device> {
        let name = &spec.run.device;
        let needed = spec.model.encoder.as_ref().is_some_and(|encoder| encoder.trainable() != Trainable::All);
        if let Some((.., device)) = self.devices.iter().find(|(known, open, _)| known == name && *open == needed) {
            return Ok(device.clone());
        }
        let device = match (self.elsewhere, needed) {
            (true, _) => device::check_built(name).map(|()| Device::Cpu)?,
            (false, true) => device::open_for_now(name, spec.run.tf32)?,
            (false, false) => device::find(name).map(|_| Device::Cpu)?,
        };
        self.devices.push((name.clone(), needed, device.clone()));
        Ok(device)
    }

    /// Everything about a spec that may be refused before anything is written. Gives the digests of its data.
    ///
    /// # Errors
    /// Mistakes of the user: no such device, data or initial weights that are missing or do not fit.
    pub fn inspect(&mut self, resolved: &Resolved) -> Result<BTreeMap<String, String>> {
        let (spec, registry) = (&resolved.spec, self.registry);
        let device = self.device(spec)?;
        init_from::check(resolved, registry)?;
        let place =
            match self.tasks.iter().position(|open| open.task == spec.task && open.encoder == spec.model.encoder) {
                Some(place) => place,
                None => {
                    let task = registry.task(&spec.task)?;
                    task.prepare()?;
                    let mut digests = manifest::digests(&task.files())?;
                    let seed = spec.seeds.0.first().copied().unwrap_or(1);
                    // Features of images are computed where they are read, by whoever is first.
                    let encoder = (!self.elsewhere).then_some((&spec.model, &device));
                    // A device is closed again before training begins: a GPU may admit only one program.
                    let data = task.open_with(seed, encoder).inspect_err(|_| device::keep(&device))?;
                    digests.extend(data.digests.clone());
                    let encoder = spec.model.encoder.clone();
                    self.tasks.push(OpenTask { task: spec.task.clone(), encoder, digests, data });
                    self.tasks.len() - 1
                }
            };
        let OpenTask { digests, data: opened, .. } = &self.tasks[place];
        check_data(spec, opened.dataset.as_ref())?;
        init_from::check_words(spec, opened.vocabulary.as_ref())?;
        let mut data = digests.clone();
        data.extend(init_from::digests(spec, &spec.seeds.0, registry)?);
        Ok(data)
    }
}

/// Makes sure that what is in a run's directory is of this very spec, that its finished units are whole, and that units
/// which stay as they are can stand beside new ones or be resumed: all but those of the `forced` seeds.
///
/// # Errors
/// [`Error::Data`] or [`Error::Usage`], naming the file or the seed, and what to do.
pub fn check_old(
    resolved: &Resolved,
    directory: &Directory,
    data: &BTreeMap<String, String>,
    forced: &[u64],
    registry: &Registry,
) -> Result<()> {
    if directory.exists()
        && directory.spec(resolved.spec.train.init_from.as_ref(), registry)?.canonical != resolved.canonical
    {
        return Err(Error::data(
            &directory.spec_path(),
            "is another spec whose hash begins with the same digits; use `--outputs DIR` to keep the two apart",
        ));
    }
    let old: Vec<SeedRun> = directory.units().into_iter().filter(|unit| !forced.contains(&unit.seed)).collect();
    for unit in &old {
        unit.check_numerics()?;
        unit.settled()?;
    }
    match directory.manifest() {
        Ok(manifest) if old.iter().any(|unit| unit.record_path().exists()) => manifest.check_data(data),
        // One that is missing or damaged is written again, with these data.
        _ => Ok(()),
    }
}
