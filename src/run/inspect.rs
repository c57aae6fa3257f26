//! Checks made before anything is written: device, data, initial weights, and what an earlier run left in the directory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::Device;

use super::directory::Directory;
use super::progress::eprint_line;
use super::{clock, init_from, manifest};
use crate::data::Split;
use crate::device;
use crate::error::{Error, Result};
use crate::records::SeedRun;
use crate::spec::{EncoderSpec, PluginTable, Resolved, Spec, Trainable};
use crate::tasks::{Registry, TaskData};
use crate::train::{check_data, check_seed_batch};

/// Checks the device, data and weights of specs. What several specs share is checked once.
pub struct Inspector<'a> {
    registry: &'a Registry,
    elsewhere: bool,
    devices: Vec<(String, bool, Device)>,
    tasks: Vec<OpenTask>,
}

/// How long opening a task's data takes before there is a line about it.
const LONG: Duration = Duration::from_millis(500);

/// A task whose data are open, with the digests of its files.
struct OpenTask {
    task: PluginTable,
    encoder: Option<EncoderSpec>,
    digests: BTreeMap<String, String>,
    data: TaskData,
}

impl<'a> Inspector<'a> {
    /// Creates an inspector. With `elsewhere`, training happens on another machine, whose devices are unknown here.
    pub fn new(registry: &'a Registry, elsewhere: bool) -> Self {
        Inspector { registry, elsewhere, devices: Vec::new(), tasks: Vec::new() }
    }

    /// The device that computes features, or the CPU if there are none: a GPU is not opened unnecessarily.
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

    /// Checks everything about a spec that can be rejected before writing. Returns the digests of its data.
    ///
    /// # Errors
    /// User errors: an unknown device, or data or initial weights that are missing or do not fit.
    pub fn inspect(&mut self, resolved: &Resolved) -> Result<BTreeMap<String, String>> {
        let (spec, registry) = (&resolved.spec, self.registry);
        let device = self.device(spec)?;
        init_from::check(resolved, registry)?;
        let place =
            match self.tasks.iter().position(|open| open.task == spec.task && open.encoder == spec.model.encoder) {
                Some(place) => place,
                None => {
                    let begun = Instant::now();
                    let task = registry.task(&spec.task)?;
                    task.prepare()?;
                    let mut digests = manifest::digests(&task.files())?;
                    let seed = spec.seeds.0.first().copied().unwrap_or(1);
                    // Image features are computed on the machine that trains, by the first process that needs them.
                    let encoder = (!self.elsewhere).then_some((&spec.model, &device));
                    // Close the device before training begins: a GPU may admit only one process.
                    let data = task.open_with(seed, encoder).inspect_err(|_| device::keep(&device))?;
                    digests.extend(data.digests.clone());
                    // Other splits have batches of their own size, so that batches of one do not count their sequences.
                    let sequences = data.dataset.batches(Split::Train, 1);
                    made(&spec.task.kind, sequences, begun.elapsed()).iter().for_each(|line| eprint_line(line));
                    let encoder = spec.model.encoder.clone();
                    self.tasks.push(OpenTask { task: spec.task.clone(), encoder, digests, data });
                    self.tasks.len() - 1
                }
            };
        let OpenTask { digests, data: opened, .. } = &self.tasks[place];
        check_data(spec, opened.dataset.as_ref())?;
        let shape = opened.shape(&resolved.shape);
        check_seed_batch(registry.train(), spec, &shape, opened.dataset.as_ref())?;
        init_from::check_words(spec, opened.vocabulary.as_ref())?;
        let mut data = digests.clone();
        data.extend(init_from::digests(spec, &spec.seeds.0, registry)?);
        Ok(data)
    }
}

/// The line about a task's data, if drawing, reading or downloading them took long.
fn made(task: &str, sequences: usize, time: Duration) -> Option<String> {
    let took = clock::seconds(time.as_secs_f64());
    (time >= LONG).then(|| format!("data of {task}: {sequences} sequences to train with, ready after {took}"))
}

/// Checks that the directory holds this spec, and that units which are kept (all but the `forced` seeds) can be combined with
/// new ones or resumed. Their files are checked when they are aggregated.
///
/// # Errors
/// [`Error::Data`] or [`Error::Usage`], naming the file or seed, with advice.
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
    let old: Vec<SeedRun> = directory.units()?.into_iter().filter(|unit| !forced.contains(&unit.seed)).collect();
    // A damaged record counts as a failure of its unit, which stops no other.
    for unit in old.iter().filter(|unit| unit.record().is_ok()) {
        unit.check_trained_here()?;
        unit.check_numerics()?;
    }
    match directory.manifest() {
        Ok(manifest) if old.iter().any(|unit| unit.record_path().exists()) => manifest.check_data(data),
        // A missing or damaged manifest is rewritten with these digests.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_data_step_ends_with_what_it_made_and_a_short_one_prints_nothing() {
        let line = "data of seqmnist: 160000 sequences to train with, ready after 2.5 s";
        assert_eq!(made("seqmnist", 160_000, Duration::from_millis(2500)).as_deref(), Some(line));
        assert_eq!(made("seqmnist", 40, LONG - Duration::from_millis(1)), None);
    }
}
