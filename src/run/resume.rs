//! Starts a unit from its checkpoint, or from the beginning without one.

use candle_core::Device;

use super::claim::{self, Claim};
use super::directory::{Directory, TOKENIZER};
use super::manifest::VERSION;
use super::weights::BackboneSource;
use super::{clock, init_from};
use crate::data::Vocabulary;
use crate::device;
use crate::error::{Error, Result};
use crate::files;
use crate::model::encoder::EncoderInputs;
use crate::model::needs_composed;
use crate::records::{SeedRecord, SeedRun, SeedState};
use crate::spec::{EncoderSpec, Resolved, Spec};
use crate::tasks::Registry;
use crate::train::{Checkpoint, NUMERICS, Trainer, backend};

/// Reads the checkpoint of a unit, if it has one.
///
/// # Errors
/// [`Error::Data`] with advice if it is damaged; the unit is then recorded as failed.
pub fn checkpoint(unit: &SeedRun, claim: &Claim) -> Result<Option<Checkpoint>> {
    let path = unit.checkpoint_path();
    let Some(bytes) = files::read(&path)? else { return Ok(None) };
    let damaged = |what| {
        let error = Error::data(&path, format!("{what}; {}, or delete the file", unit.advice()));
        unit.fail(claim, &error.to_string()).and(Err(error))
    };
    Checkpoint::from_bytes(&bytes).map(Some).or_else(damaged)
}

/// Creates the trainer of a unit, resumed from the checkpoint if given, and the source of its encoder's weights.
///
/// # Errors
/// Any error in data, initial weights, checkpoint or device.
pub fn trainer(
    directory: &Directory,
    resolved: &Resolved,
    seed: u64,
    device: Device,
    checkpoint: Option<&Checkpoint>,
    registry: &Registry,
) -> Result<(Trainer, BackboneSource)> {
    let spec = &resolved.spec;
    let data = registry.task(&spec.task)?.open_with(seed, Some((&spec.model, &device)))?;
    let words = directory.path.join(TOKENIZER);
    if let Some(vocabulary) = &data.vocabulary
        && Vocabulary::load(&words).ok().as_ref() != Some(vocabulary)
    {
        vocabulary.save(&words)?;
    }
    let weights = spec.model.encoder.as_ref().map_or("", EncoderSpec::weights).to_string();
    let source = BackboneSource { weights, blake3: EncoderInputs::weights(&data.digests).cloned() };
    let mut trainer =
        Trainer::new(registry.train(), spec, &data.shape(&resolved.shape), data.dataset, seed, device.clone())?;
    match (checkpoint, init_from::source(spec, seed)) {
        (Some(checkpoint), _) => trainer.resume(checkpoint)?,
        (None, from) => {
            // Parameters missing from the other run, such as a backbone frozen there, are initialised as in the spec.
            trainer.start_encoder(&spec.model, &device)?;
            if let Some(from) = from {
                let model = from.resolved(registry)?.spec.model;
                trainer.start_from(registry.train(), &model, &from.weights(&device)?)?;
            }
        }
    }
    Ok((trainer, source))
}

/// The record of a unit that is started or resumed now on this host.
///
/// # Errors
/// As [`SeedRun::record`].
pub fn record(unit: &SeedRun, device: &Device, spec: &Spec, resumes: bool, registry: &Registry) -> Result<SeedRecord> {
    let run = &spec.run;
    let model = &spec.model;
    let feedback = model.layers.iter().any(|layer| layer.feedback.is_some());
    let needs_composed = needs_composed(feedback, !model.blocks.is_empty() && !model.layers.is_empty());
    let backend = backend::choose(run.backend(), &registry.train().model.cells_of(model)?, needs_composed, device)?;
    let mut record = SeedRecord {
        seed: unit.seed,
        state: SeedState::Unfinished,
        imported: Vec::new(),
        reason: None,
        numerics: NUMERICS,
        version: VERSION.into(),
        host: claim::host(),
        device: match run.tf32 && !device.is_cpu() {
            true => format!("{}, TF32", device::name(device)),
            false => device::name(device),
        },
        instruction_set: device::instruction_set(),
        backend: backend::name(backend).into(),
        threads: run.threads.or_cores(),
        started: clock::now(),
        ended: None,
        notes: Vec::new(),
        result: None,
    };
    let Some(before) = unit.record()?.filter(|_| resumes) else { return Ok(record) };
    record.started = before.started;
    record.notes = before.notes;
    for (what, then, now) in [
        ("version", &before.version, &record.version),
        ("device", &before.device, &record.device),
        ("instruction set", &before.instruction_set, &record.instruction_set),
        ("backend", &before.backend, &record.backend),
    ] {
        if then != now {
            record.notes.push(format!(
                "resumed with {what} {now} after {then}: the result may differ from that of an uninterrupted run"
            ));
        }
    }
    Ok(record)
}
