//! Imports weights of another program: a run's directory whose unit was not trained here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};

use super::names::{Contents, Named};
use crate::data::Vocabulary;
use crate::error::{Error, Result};
use crate::files;
use crate::model::encoder::{TensorFile, WeightSource, pickled_ids};
use crate::model::{Layout, Plugins};
use crate::records::{Imported, SeedRecord, SeedState};
use crate::run::claim::{Attempt, Claim};
use crate::run::directory::{Directory, TOKENIZER};
use crate::run::manifest::{self, VERSION};
use crate::run::weights::{BackboneSource, DECODER, ENCODER};
use crate::run::{claim, clock};
use crate::spec::task_shape::{Input, TaskShape};
use crate::spec::{Resolved, Seeds, Trainable};
use crate::train::NUMERICS;

/// Most names in a message.
const SHOWN: usize = 3;

/// State dictionaries, opened.
pub struct StateDictionaries {
    files: Vec<TensorFile>,
    contents: Contents,
}

/// The weights of a network, checked against a spec.
pub struct Import {
    resolved: Resolved,
    vocabulary: Option<Vocabulary>,
    /// By the names of this program, in order.
    weights: Vec<(String, Tensor)>,
    source: BackboneSource,
    imported: Vec<Imported>,
}

/// Reads the vocabulary of a `tokenizer.json`, or of a `vocab.pkl` without executing it.
///
/// # Errors
/// [`Error::Data`] if it is neither.
pub fn vocabulary(path: &Path) -> Result<Vocabulary> {
    if path.extension().is_some_and(|extension| extension == "json") {
        return Vocabulary::load(path);
    }
    let refused = |what: String| {
        Error::data(
            path,
            format!(
                "{what}; write the words as a dictionary:\n  import pickle\n  vocab = pickle.load(open({path:?}, \"rb\"))\n  \
                 pickle.dump(dict(vocab.word2idx), open(\"words.pkl\", \"wb\"), protocol=2)"
            ),
        )
    };
    let ids = pickled_ids(path).map_err(|error| match error {
        Error::Data { what, .. } => refused(what),
        other => other,
    })?;
    Vocabulary::from_ids(ids).map_err(|what| Error::data(path, what))
}

impl StateDictionaries {
    /// Opens files and finds out which tensor is what.
    ///
    /// # Errors
    /// As [`TensorFile::open`].
    pub fn open(paths: &[PathBuf]) -> Result<StateDictionaries> {
        let files: Vec<TensorFile> = paths.iter().map(|path| TensorFile::open(path)).collect::<Result<_>>()?;
        let named = |(file, of): (usize, &TensorFile)| -> Vec<Named> {
            of.shapes().map(|(name, dims)| Named { file, name: name.into(), dims: dims.to_vec() }).collect()
        };
        let contents = Contents::of(files.iter().enumerate().flat_map(named).collect());
        Ok(StateDictionaries { files, contents })
    }

    /// What the network is, as far as it follows from the shapes.
    pub fn description(&self) -> String {
        self.contents.description()
    }

    fn paths(&self) -> String {
        self.files.iter().map(|file| file.path().display().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Reads the weights of the network of a spec.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the tensors that are missing, have another shape, or are left over.
    pub fn read(mut self, resolved: &Resolved, vocabulary: Option<Vocabulary>, plugins: &Plugins) -> Result<Import> {
        let shape = self.shape(resolved, vocabulary.as_ref())?;
        let layout = Layout::new(plugins, &resolved.spec.model, &shape)?;
        let imported = self.files.iter().map(|file| Imported::of(file.path())).collect::<Result<Vec<_>>>()?;
        let assigned = self.contents.assign(&layout);
        let (source, backbone) = self.backbone(resolved, &imported)?;
        self.check(&layout, &assigned, backbone)?;
        let mut weights = Vec::new();
        for (slot, named) in layout.slots.iter().zip(assigned) {
            if let Some(Named { file, name, .. }) = named {
                weights.push((slot.name.clone(), self.files[*file].read(name)?));
            }
        }
        check_values(&layout, &weights)?;
        Ok(Import { resolved: resolved.clone(), vocabulary, weights, source, imported })
    }

    /// The shape of the task's data, with the number of words.
    fn shape(&self, resolved: &Resolved, vocabulary: Option<&Vocabulary>) -> Result<TaskShape> {
        let unknown = matches!(resolved.shape.input, Input::Tokens { vocabulary: 0, .. });
        match (vocabulary, unknown) {
            (Some(vocabulary), true) => {
                let (words, rows) = (vocabulary.words().len(), self.contents.words());
                if rows.is_some_and(|rows| rows != words) {
                    return Err(Error::Usage(format!(
                        "the vocabulary has {words} words, and the embedding in {} has {} rows; name the vocabulary that \
                         it was trained with",
                        self.paths(),
                        rows.unwrap_or(0)
                    )));
                }
                Ok(resolved.shape.with_vocabulary(words))
            }
            (None, true) => Err(Error::Usage(format!(
                "the task `{}` has words: name the vocabulary of these weights with `--vocabulary FILE` (a vocab.pkl or a \
                 tokenizer.json)",
                resolved.spec.task.kind
            ))),
            (Some(_), false) => Err(Error::Usage(format!(
                "the task `{}` has no vocabulary; leave out `--vocabulary`",
                resolved.spec.task.kind
            ))),
            (None, false) => Ok(resolved.shape.clone()),
        }
    }

    /// Where a frozen backbone comes from, and the file whose backbone the spec names and that may be left over here.
    fn backbone(&self, resolved: &Resolved, imported: &[Imported]) -> Result<(BackboneSource, Option<usize>)> {
        let encoder = resolved.spec.model.encoder.as_ref().filter(|encoder| encoder.trainable() != Trainable::All);
        let Some(encoder) = encoder else { return Ok((BackboneSource::default(), None)) };
        let weights = encoder.weights().to_string();
        let blake3 = match weights.parse() {
            Ok(WeightSource::File(path)) => Some(manifest::digest(&path)?),
            _ => None,
        };
        let same = |file: &Imported| blake3.as_ref() == Some(&file.blake3);
        Ok((BackboneSource { weights, blake3: blake3.clone() }, imported.iter().position(same)))
    }

    fn check(&self, layout: &Layout, assigned: &[Option<&Named>], backbone: Option<usize>) -> Result<()> {
        let mut problems = Vec::new();
        let pairs = || layout.slots.iter().zip(assigned);
        let missing: Vec<String> =
            pairs().filter(|(_, named)| named.is_none()).map(|(slot, _)| slot.name.clone()).collect();
        if !missing.is_empty() {
            problems.push(format!("they lack {}", some(&missing)));
        }
        problems.extend(pairs().filter_map(|(slot, named)| {
            let named = named.filter(|named| named.dims != slot.dims)?;
            Some(format!("`{}` has shape {:?}, and {:?} in the spec's network", named.name, named.dims, slot.dims))
        }));
        problems.extend(self.contents.unordered().map(|[a, b]| {
            format!(
                "which of `{a}` and `{b}` belongs to the lower layer does not follow from their names; save the layers of one \
                 network in one file as `rnn.0.*`, `rnn.1.*` and so on, the lowest first"
            )
        }));
        let of_backbone = |named: &&Named| Some(named.file) == backbone && named.name.contains("resnet.");
        let left_over = self.contents.left_over(assigned);
        let left_over: Vec<&Named> = left_over.into_iter().filter(|named| !of_backbone(named)).collect();
        if !left_over.is_empty() {
            let names: Vec<String> = left_over.iter().map(|named| named.name.clone()).collect();
            problems.push(format!("{} would be left over", some(&names)));
        }
        if problems.is_empty() {
            return Ok(());
        }
        let mut text = format!("the weights in {} are not those of the spec's network:", self.paths());
        problems.iter().for_each(|problem| text += &format!("\n  {problem}"));
        text += &format!("\n  help: they hold {}", self.description());
        if let Some(named) = left_over.iter().find(|named| named.name.contains("resnet.")) {
            let path = self.files[named.file].path().display();
            text += &format!(
                "\n  help: the backbone comes from `model.encoder.weights`; `--set model.encoder.weights={path}` takes it \
                 from this file"
            );
        }
        Err(Error::Usage(text))
    }
}

/// The first few names, each in quotation marks.
fn some(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Rejects values that are not finite, and synthesizers with more inputs per unit than the spec's number of fibres.
fn check_values(layout: &Layout, weights: &[(String, Tensor)]) -> Result<()> {
    for (name, tensor) in weights {
        if !tensor.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?.is_finite() {
            return Err(Error::Usage(format!("`{name}` has values that are not finite")));
        }
    }
    for group in &layout.synthesizers {
        let (Some(fibres), Some(&first)) = (group.synthesizer.fibres(), group.params.first()) else { continue };
        let name = &layout.slots[first].name;
        let Some((_, tensor)) = weights.iter().find(|(other, _)| other == name) else { continue };
        let inputs = tensor.ne(0f32)?.to_dtype(DType::F32)?.sum(1)?.max(0)?.to_scalar::<f32>()? as usize;
        if inputs > fibres {
            return Err(Error::Usage(format!(
                "`{name}` has a unit with {inputs} inputs, and `dni.fibres` is {fibres} in the spec"
            )));
        }
    }
    Ok(())
}

impl Imported {
    /// A file with its digest.
    fn of(path: &Path) -> Result<Imported> {
        Ok(Imported { file: path.display().to_string(), blake3: manifest::digest(path)? })
    }
}

impl Import {
    /// Writes the weights as a seed of the spec's run in `outputs`.
    ///
    /// # Errors
    /// [`Error::Usage`] if that run has a unit that was trained, or this seed, or another vocabulary.
    pub fn write(mut self, seed: u64, outputs: &Path) -> Result<Directory> {
        let directory = Directory::of(outputs, &self.resolved.hash);
        self.resolved.spec.seeds = Seeds(vec![seed]);
        check_free(&directory, seed, self.vocabulary.as_ref())?;
        let is_new = !directory.exists();
        match self.write_seed(seed, &directory) {
            // A run without weights would seem to wait for training. Another process may have imported another seed meanwhile.
            Err(error)
                if is_new
                    && !matches!(error, Error::Held(_))
                    && has_others(&directory, seed).is_ok_and(|others| !others) =>
            {
                let _ = std::fs::remove_dir_all(&directory.path);
                Err(error)
            }
            written => written.map(|()| directory),
        }
    }

    fn write_seed(&self, seed: u64, directory: &Directory) -> Result<()> {
        let digests: BTreeMap<String, String> =
            self.imported.iter().map(|imported| (imported.file.clone(), imported.blake3.clone())).collect();
        if !directory.exists() {
            directory.create(&self.resolved, &manifest::begin(&self.resolved, digests.clone()))?;
        }
        if let Some(vocabulary) = &self.vocabulary {
            vocabulary.save(&directory.path.join(TOKENIZER))?;
        }
        let unit = directory.unit(seed);
        let claim = match Claim::attempt(&unit.directory)? {
            Attempt::Claimed(claim) => claim,
            Attempt::Held(_) => return Err(Error::Held(format!("seed {seed} is held by another process"))),
        };
        unit.write_weights(&claim, &self.weights, &self.source)?;
        let record = self.record(seed);
        unit.write_record(&claim, &record)?;
        let names: Vec<&str> = self.imported.iter().map(|imported| imported.file.as_str()).collect();
        directory.log(&format!("seed {seed}: imported from {}", names.join(", ")));

        let _lock = directory.lock()?;
        let mut manifest = directory.manifest()?;
        if manifest.best_seed.is_none() {
            for name in [DECODER, ENCODER] {
                if let Some(bytes) = files::read(&unit.directory.join(name))? {
                    files::write_atomically(&directory.path.join(name), &bytes)?;
                }
            }
        }
        manifest.best_seed.get_or_insert(seed);
        manifest.data.extend(digests);
        manifest.seeds_asked.extend((!manifest.seeds_asked.contains(&seed)).then_some(seed));
        manifest.seeds.insert(seed, record);
        files::write_json(&directory.manifest_path(), &manifest)
    }

    /// A record without anything that training would have left.
    fn record(&self, seed: u64) -> SeedRecord {
        SeedRecord {
            seed,
            state: SeedState::Imported,
            imported: self.imported.clone(),
            reason: None,
            numerics: NUMERICS,
            version: VERSION.into(),
            host: claim::host(),
            device: String::new(),
            instruction_set: String::new(),
            backend: String::new(),
            threads: 0,
            started: String::new(),
            ended: Some(clock::now()),
            notes: Vec::new(),
            result: None,
        }
    }
}

/// Whether there is another seed.
fn has_others(directory: &Directory, seed: u64) -> Result<bool> {
    Ok(directory.units()?.iter().any(|unit| unit.seed != seed && unit.record_path().exists()))
}

/// Rejects a run that has this seed, another that was not imported, or another vocabulary, which all its seeds share.
fn check_free(directory: &Directory, seed: u64, vocabulary: Option<&Vocabulary>) -> Result<()> {
    let words = directory.path.join(TOKENIZER);
    if vocabulary.is_some() && words.exists() && vocabulary != Some(&Vocabulary::load(&words)?) {
        return Err(Error::Usage(format!(
            "{} has other words than these weights, or the same in another order; name another directory with `-o DIR`",
            words.display()
        )));
    }
    for unit in directory.units()? {
        let Some(record) = unit.record()? else { continue };
        let path = directory.path.display();
        if record.state != SeedState::Imported {
            return Err(Error::Usage(format!(
                "{path} is a run of this spec that was trained here: imported weights are not mixed with it; name another \
                 directory with `-o DIR`"
            )));
        }
        if unit.seed == seed {
            return Err(Error::Usage(format!(
                "{path} has imported weights of seed {seed} already; use another number with `--seed N`, or another \
                 directory with `-o DIR`"
            )));
        }
    }
    Ok(())
}
