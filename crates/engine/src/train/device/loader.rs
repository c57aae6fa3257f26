//! Moves the batches of a task to the device of the network.
//!
//! On the CPU they are passed through. To a device, an epoch's batches go in one upload if they fit, and stay there while
//! the next epoch has the same ones. They are checked before the upload.

use candle_core::{Device, Tensor};

use crate::data::{Batch, BatchIndex, Dataset, Inputs, Split, Targets};
use crate::error::Result;
use crate::model::Model;
use crate::nn::reads_are_deferred;
use crate::spec::task_shape::{TargetKind, TaskShape};
use crate::train::device_batch::check_tokens;
use crate::train::loss::check_classes;

/// Largest size, in bytes, of an epoch's batches that are kept on a device.
const ROOM: usize = 512 << 20;

/// Loads the batches of a task onto a device.
pub struct DeviceLoader {
    device: Device,
    room: usize,
    epochs: [LoadedEpoch; 3],
}

/// The batches of a split in one epoch.
#[derive(Default)]
struct LoadedEpoch {
    of: Option<(usize, usize, usize)>,
    /// Whether an epoch does not fit: each batch is then uploaded on demand.
    too_large: bool,
    /// The uploaded contents: the numbers and the ids or classes of all batches.
    numbers: Vec<f32>,
    ids: Vec<u32>,
    batches: Vec<Batch>,
}

impl DeviceLoader {
    /// A loader for a device.
    pub fn new(device: &Device) -> DeviceLoader {
        DeviceLoader { device: device.clone(), room: ROOM, epochs: Default::default() }
    }

    /// A batch on the device. Off the CPU it has one row per sequence, and was checked against the model and the task's
    /// shape before the upload.
    ///
    /// # Errors
    /// Fails if the dataset fails, the batch does not match the task's shape, or the device is out of memory.
    pub fn batch(&mut self, data: &dyn Dataset, model: &Model, shape: &TaskShape, at: BatchIndex) -> Result<Batch> {
        if !reads_are_deferred(&self.device) {
            return data.batch(at);
        }
        self.staged(data, model, shape, at)
    }

    fn staged(&mut self, data: &dyn Dataset, model: &Model, shape: &TaskShape, at: BatchIndex) -> Result<Batch> {
        let get = |index| {
            let batch = data.batch(BatchIndex { index, ..at })?.expanded()?;
            check(&batch, model, shape)?;
            Ok::<_, crate::Error>(batch)
        };
        let loaded = match at.split {
            Split::Train => &mut self.epochs[0],
            Split::Validation => &mut self.epochs[1],
            Split::Test => &mut self.epochs[2],
        };
        let of = Some((at.epoch, at.batch_size, at.level));
        if loaded.of != of && !loaded.too_large {
            loaded.of = None;
            loaded.fill(data.batches(at.split, at.batch_size), self.room, &self.device, &get)?;
            loaded.of = of;
        }
        match loaded.batches.get(at.index) {
            Some(batch) => Ok(batch.clone()),
            None => get(at.index)?.to_device(&self.device),
        }
    }
}

impl LoadedEpoch {
    /// Uploads the batches of an epoch, unless they are already there or do not fit.
    fn fill(&mut self, count: usize, room: usize, device: &Device, get: &dyn Fn(usize) -> Result<Batch>) -> Result<()> {
        let (mut numbers, mut ids) = (Vec::new(), Vec::new());
        let mut batches = Vec::with_capacity(count);
        for index in 0..count {
            let batch = get(index)?;
            for tensor in tensors(&batch) {
                match tensor.dtype() {
                    candle_core::DType::U32 => ids.extend(tensor.flatten_all()?.to_vec1::<u32>()?),
                    _ => numbers.extend(tensor.flatten_all()?.to_vec1::<f32>()?),
                }
            }
            // Batches are of similar size, so the first ones show whether all of them fit.
            let expected = (numbers.len() + ids.len()) * 4 / (index + 1) * count;
            if expected > room {
                *self = LoadedEpoch { too_large: true, ..LoadedEpoch::default() };
                return Ok(());
            }
            batches.push(batch);
        }
        let same = (&numbers, &ids) == (&self.numbers, &self.ids) && batches.len() == self.batches.len();
        if same && batches.iter().zip(&self.batches).all(|(new, old)| dims(new) == dims(old)) {
            return Ok(());
        }
        // Free the old batches first.
        self.batches.clear();
        let (all_numbers, all_ids) = (flat(&numbers, device)?, flat(&ids, device)?);
        let (mut number, mut id) = (0, 0);
        for batch in &batches {
            let batch = batch.map(&mut |tensor| {
                let (all, at) = match tensor.dtype() {
                    candle_core::DType::U32 => (&all_ids, &mut id),
                    _ => (&all_numbers, &mut number),
                };
                let start = std::mem::replace(at, *at + tensor.elem_count());
                Ok(all.narrow(0, start, tensor.elem_count())?.reshape(tensor.dims())?)
            })?;
            self.batches.push(batch);
        }
        (self.numbers, self.ids) = (numbers, ids);
        Ok(())
    }
}

fn flat<T: candle_core::WithDType>(numbers: &[T], device: &Device) -> Result<Tensor> {
    // Drivers refuse empty allocations.
    let numbers = if numbers.is_empty() { &[T::zero()] } else { numbers };
    Ok(Tensor::from_slice(numbers, numbers.len(), device)?)
}

fn tensors(batch: &Batch) -> Vec<&Tensor> {
    let targets = match &batch.targets {
        Targets::Values(t) | Targets::FinalValues(t) | Targets::Classes(t) | Targets::FinalClass(t) => t,
    };
    match &batch.inputs {
        Inputs::Dense(x) => vec![x, targets],
        Inputs::Tokens { feature, ids } => feature.iter().chain([ids, targets]).collect(),
    }
}

fn dims(batch: &Batch) -> Vec<&[usize]> {
    tensors(batch).into_iter().map(Tensor::dims).collect()
}

/// Checks that all classes and token ids of a batch on the CPU are in range.
fn check(batch: &Batch, model: &Model, shape: &TaskShape) -> Result<()> {
    if let (Targets::Classes(classes) | Targets::FinalClass(classes), TargetKind::Classes { count }) =
        (&batch.targets, shape.target.kind)
    {
        check_classes(classes, count)?;
    }
    match &batch.inputs {
        Inputs::Tokens { ids, .. } => check_tokens(model, ids),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Metric;
    use crate::spec::task_shape::{Input, Target, When};
    use std::cell::Cell;

    use crate::model::Plugins;

    /// Batches of classes with dense inputs; the second epoch repeats the first, the third does not.
    struct Data {
        requests: Cell<usize>,
        class: u32,
    }

    impl Dataset for Data {
        fn metrics(&self) -> Vec<Metric> {
            Vec::new()
        }

        fn batches(&self, _split: Split, _batch_size: usize) -> usize {
            3
        }

        fn batch(&self, at: BatchIndex) -> Result<Batch> {
            self.requests.set(self.requests.get() + 1);
            let base = (at.index * 100 + at.epoch / 3) as f32;
            let x: Vec<f32> = (0..8).map(|i| base + i as f32).collect();
            let inputs = Inputs::Dense(Tensor::from_vec(x, (2, 4, 1), &Device::Cpu)?);
            let targets = Targets::FinalClass(Tensor::new(&[at.index as u32 % 3, self.class], &Device::Cpu)?);
            Ok(Batch::repeating(inputs, targets, vec![0, 1, 1]))
        }
    }

    fn model() -> (Model, TaskShape) {
        let shape = TaskShape {
            input: Input::Dense { features: 1 },
            target: Target { kind: TargetKind::Classes { count: 3 }, when: When::LastStep },
            steps: None,
            validates: true,
        };
        let spec = serde_json::from_str(r#"{"layers": [{"cell": "tanh", "hidden": 3}]}"#).expect("a model");
        (Model::new(&Plugins::built_in(), &spec, &shape, 1, &Device::Cpu).expect("a model"), shape)
    }

    fn numbers(batch: &Batch) -> (Vec<f32>, Vec<u32>) {
        let (Inputs::Dense(x), Targets::FinalClass(classes)) = (&batch.inputs, &batch.targets) else {
            panic!("the same kinds")
        };
        assert_eq!((x.dims(), classes.dims()), (&[3, 4, 1][..], &[3][..]));
        (x.flatten_all().unwrap().to_vec1().unwrap(), classes.to_vec1().unwrap())
    }

    #[test]
    fn an_epoch_is_uploaded_at_once_and_kept_while_it_is_the_same() -> Result<()> {
        let (model, shape) = model();
        let at = |epoch, index| BatchIndex { split: Split::Train, epoch, index, batch_size: 3, level: 0 };
        for room in [ROOM, 0] {
            let data = Data { requests: Cell::new(0), class: 2 };
            let mut loader = DeviceLoader { device: Device::Cpu, room, epochs: Default::default() };
            let mut there = Vec::new();
            for epoch in 1..4 {
                for index in 0..3 {
                    let batch = loader.staged(&data, &model, &shape, at(epoch, index))?;
                    assert_eq!(numbers(&batch), numbers(&data.batch(at(epoch, index))?.expanded()?));
                }
                there.push(loader.epochs[0].batches.first().map(|batch| tensors(batch)[0].id()));
            }
            match room {
                0 => {
                    assert_eq!(there, [None; 3], "one by one");
                    // In the loader and in the comparison, and once to find that an epoch does not fit.
                    assert_eq!(data.requests.get(), 2 * 9 + 1);
                }
                _ => {
                    assert!(there[0].is_some() && there[0] == there[1] && there[1] != there[2], "{there:?}");
                    let before = data.requests.get();
                    loader.staged(&data, &model, &shape, BatchIndex { batch_size: 2, ..at(3, 0) })?;
                    assert_eq!(data.requests.get(), before + 3, "other batches");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn invalid_batches_are_rejected_before_the_upload() {
        let (model, shape) = model();
        let data = Data { requests: Cell::new(0), class: 3 };
        let mut loader = DeviceLoader { device: Device::Cpu, room: ROOM, epochs: Default::default() };
        let at = BatchIndex { split: Split::Test, epoch: 0, index: 0, batch_size: 3, level: 0 };
        let error = loader.staged(&data, &model, &shape, at).expect_err("there are three classes").to_string();
        assert!(error.contains("class 3, but declares 3"), "{error}");
        assert_eq!(data.requests.get(), 1);
    }
}
