//! Exports a network: its weights, inputs with the outputs for them, and a script that computes these with PyTorch.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::Format;
use super::script::{quoted, script, torch_module};
use crate::data::{Batch, BatchIndex, Dataset, Inputs, Predictor, Split, Targets};
use crate::error::{Error, Result};
use crate::files::write_together;
use crate::model::encoder::PREFIX;
use crate::report::npy;
use crate::rng::Stream;
use crate::run::trained_network::TrainedNetwork;
use crate::spec::Trainable;
use crate::tasks::Registry;

/// Most sequences of exported inputs that are no showcase.
const SEQUENCES: usize = 16;
/// Steps of drawn inputs if the task does not fix their number.
const STEPS: usize = 12;

/// What to export.
pub struct Export<'a> {
    /// The network.
    pub network: &'a TrainedNetwork,
    /// The format of the weights.
    pub format: Format,
    /// The file of the weights.
    pub file: &'a Path,
    /// Whether to leave out inputs, outputs and script.
    pub weights_only: bool,
}

/// What was exported.
#[derive(Debug, Default)]
pub struct Exported {
    /// The files, the weights first.
    pub files: Vec<PathBuf>,
    /// The script with the directory written out, to be run anywhere; the one among the files looks beside itself. None if PyTorch
    /// lacks one of the cells.
    pub script: Option<String>,
}

impl Export<'_> {
    /// Writes the files.
    ///
    /// # Errors
    /// [`Error::Usage`] if PyTorch has no module for a cell and the format is PyTorch's; fails if the task's data cannot be
    /// opened, or a file cannot be written.
    pub fn write(&self, registry: &Registry) -> Result<Exported> {
        self.check()?;
        let (model, layers) = (self.network.model(), &self.network.resolved.spec.model.layers);
        let mut files = vec![(self.file.to_path_buf(), self.format.bytes(&model.params.read()?)?)];
        let mut exported = Exported::default();
        let folder = self.file.parent().unwrap_or(Path::new(""));
        if !self.weights_only {
            let batch = self.inputs(registry).map_err(|error| self.without_data(error))?;
            let features = matches!(&batch.inputs, Inputs::Tokens { feature: Some(_), .. });
            let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
            let beside = |name: &str| folder.join(format!("{stem}.{name}"));
            files.extend(arrays(self.network, batch)?.into_iter().map(|(name, bytes)| (beside(name), bytes)));
            let name = self.file.file_name().unwrap_or_default().to_string_lossy();
            let script = |folder: &str| script(model, layers, self.format, (folder, &name, &stem), features);
            files.extend(script("Path(__file__).parent").map(|script| (beside("py"), script.into_bytes())));
            exported.script = script(&format!("Path({})", quoted(&folder.to_string_lossy())));
        }
        if !folder.as_os_str().is_empty() {
            std::fs::create_dir_all(folder).map_err(Error::io("create the directory", folder))?;
        }
        write_together(&files)?;
        exported.files = files.into_iter().map(|(path, _)| path).collect();
        Ok(exported)
    }

    fn check(&self) -> Result<()> {
        let layers = &self.network.resolved.spec.model.layers;
        if let Some(k) = layers.iter().position(|layer| layer.feedback.is_some() && self.format == Format::Torch) {
            return Err(Error::Usage(format!(
                "layer {k} has `feedback`, for which PyTorch has no module; export the weights with `--format safetensors` or \
                 `--format numpy`"
            )));
        }
        let foreign = layers.iter().position(|layer| torch_module(&layer.cell).is_none());
        match foreign.filter(|_| self.format == Format::Torch) {
            Some(k) => Err(Error::Usage(format!(
                "layer {k} has the cell `{}`, for which PyTorch has no module; export the weights with `--format \
                 safetensors` or `--format numpy` (`ccdni explain model.layers.cell` describes the cells)",
                layers[k].cell
            ))),
            None => Ok(()),
        }
    }

    fn without_data(&self, error: Error) -> Error {
        let advised = format!("{error}; `--weights-only` exports the weights without inputs and outputs");
        match error {
            Error::Download(_) => Error::Download(advised),
            error if error.exit_code() == 2 => Error::Usage(advised),
            error => error,
        }
    }

    /// The task's showcase; or its first test sequences (of validation or training, if there is no test); or, for tasks with
    /// images, which are large and may be absent, drawn features and tokens.
    fn inputs(&self, registry: &Registry) -> Result<Batch> {
        let spec = &self.network.resolved.spec;
        let task = registry.task(&spec.task)?;
        if task.view().is_some() {
            return self.drawn();
        }
        task.prepare()?;
        let data = task.open(self.network.seed)?;
        if let Some(showcase) = data.showcase()? {
            return Ok(showcase.batch);
        }
        first_sequences(data.as_ref(), spec.train.batch_size)
    }

    /// Features as a frozen backbone's, or pixels, from a normal distribution; and tokens, each as likely as any other.
    fn drawn(&self) -> Result<Batch> {
        let (network, spec) = (self.network, &self.network.resolved.spec.model);
        let words = network.vocabulary.as_ref().map_or(1, |vocabulary| vocabulary.words().len());
        let side = network.resolved.shape.input.image_side().unwrap_or(1);
        let params = &network.model().params;
        let frozen = spec.encoder.as_ref().is_some_and(|encoder| encoder.trainable() != Trainable::All);
        let dims = match params.find(&format!("{PREFIX}linear.weight")) {
            Some(linear) if frozen => vec![SEQUENCES, params.get(linear).dims()[1]],
            _ => vec![SEQUENCES, 3, side, side],
        };
        let mut stream = Stream::new(network.seed, "export", 0, 0);
        let pixels: Vec<f32> = (0..dims.iter().product()).map(|_| stream.normal()).collect();
        let steps = network.resolved.shape.steps.unwrap_or(STEPS);
        let ids: Vec<u32> = (0..SEQUENCES * (steps - 1)).map(|_| stream.below(words) as u32).collect();
        let ids = Tensor::from_vec(ids, (SEQUENCES, steps - 1), &Device::Cpu)?;
        let feature = Some(Tensor::from_vec(pixels, dims, &Device::Cpu)?);
        Ok(Batch::new(Inputs::Tokens { feature, ids: ids.clone() }, Targets::Classes(ids)))
    }
}

/// The first sequences of a task's test data, or of its validation or training data.
fn first_sequences(data: &dyn Dataset, batch_size: usize) -> Result<Batch> {
    let has = |split: &Split| data.batches(*split, batch_size) > 0;
    let split = [Split::Test, Split::Validation].into_iter().find(has).unwrap_or(Split::Train);
    let epoch = usize::from(split != Split::Test);
    let batch = data.batch(BatchIndex { split, epoch, index: 0, batch_size, level: 0 })?;
    let first = |tensor: &Tensor| Ok(tensor.narrow(0, 0, tensor.dim(0)?.min(SEQUENCES))?);
    let Batch { inputs, targets, .. } = batch.map(&mut |tensor| first(tensor))?;
    Ok(Batch::new(inputs, targets))
}

/// `inputs.npy`, or `features.npy` (the encoder's outputs) and `ids.npy`; and `predictions.npy`.
fn arrays(network: &TrainedNetwork, batch: Batch) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let floats = |tensor: &Tensor| -> Result<Vec<u8>> {
        let tensor = tensor.to_device(&Device::Cpu)?;
        Ok(npy(tensor.dims(), tensor.flatten_all()?.to_vec1::<f32>()?))
    };
    let predictions = network.predictor(|trained| trained.predict(&batch))?;
    let mut arrays = Vec::new();
    match &batch.inputs {
        Inputs::Dense(inputs) => arrays.push(("inputs.npy", floats(inputs)?)),
        Inputs::Tokens { feature, ids } => {
            let ids = ids.to_dtype(DType::I64)?;
            arrays.push(("ids.npy", npy(ids.dims(), ids.flatten_all()?.to_vec1::<i64>()?)));
            if let Some(feature) = feature {
                arrays.push(("features.npy", floats(&network.encoded(feature)?)?));
            }
        }
    }
    arrays.push(("predictions.npy", floats(&predictions)?));
    Ok(arrays)
}
