//! An ordered store of parameters.
//!
//! Parameters are in the order of creation, so that norms, optimizer state and files do not depend on a hash map. All values
//! are in one flat tensor, so that an operation on all of them is one pass.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};

use crate::error::{Error, Result};

/// Which part of the model a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Embedding, recurrent stack, readout.
    Network,
    /// The synthesizer of this index.
    Synthesizer(usize),
    /// The trainable parameters of the image encoder.
    Encoder,
    /// Not trained: statistics of batch normalisation and frozen weights.
    Fixed,
}

/// A parameter to be added to a store.
#[derive(Debug)]
pub struct NewParameter {
    /// Name in files, as in PyTorch: `rnn.weight_ih_l0`.
    pub name: String,
    /// Its role, which names its random stream: `layer0.weight_ih`.
    pub role: String,
    /// The part of the model it belongs to.
    pub part: Part,
    /// Its initial value.
    pub value: Tensor,
}

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Name in files, as in PyTorch: `rnn.weight_ih_l0`.
    pub name: String,
    /// Its role, which names its random stream: `layer0.weight_ih`.
    pub role: String,
    /// The part of the model it belongs to.
    pub part: Part,
    value: Tensor,
}

impl Parameter {
    /// The value; a view that the next update changes.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Its shape.
    pub fn dims(&self) -> &[usize] {
        self.value.dims()
    }
}

/// Where a parameter is in the flat tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) range: Range<usize>,
    pub(super) dims: Vec<usize>,
}

impl Place {
    /// The parameter's view of a flat tensor.
    pub(super) fn view(&self, flat: &Tensor) -> Result<Tensor> {
        Ok(flat.narrow(0, self.range.start, self.range.len())?.reshape(self.dims.as_slice())?)
    }
}

/// Parameters in the order of their creation.
#[derive(Debug)]
pub struct ParamStore {
    items: Vec<Parameter>,
    flat: Tensor,
    pub(super) places: Arc<[Place]>,
}

impl ParamStore {
    /// A store of f32 parameters on a device.
    ///
    /// # Errors
    /// Fails if they cannot be allocated.
    pub fn new(parameters: Vec<NewParameter>, device: &Device) -> Result<Self> {
        let mut places = Vec::with_capacity(parameters.len());
        let mut parts = Vec::with_capacity(parameters.len());
        let mut end = 0;
        for parameter in &parameters {
            let start = end;
            end += parameter.value.elem_count();
            places.push(Place { range: start..end, dims: parameter.value.dims().to_vec() });
            parts.push(parameter.value.detach().to_device(device)?.flatten_all()?);
        }
        let flat = match parts.as_slice() {
            [] => Tensor::zeros(0, candle_core::DType::F32, device)?,
            // Copied, since `flatten_all` may share memory with the caller's tensor.
            [one] => one.copy()?,
            all => Tensor::cat(all, 0)?,
        };
        let item = |(parameter, place): (NewParameter, &Place)| {
            let value = place.view(&flat)?;
            Ok(Parameter { name: parameter.name, role: parameter.role, part: parameter.part, value })
        };
        let items = parameters.into_iter().zip(&places).map(item).collect::<Result<_>>()?;
        Ok(ParamStore { items, flat, places: places.into() })
    }

    /// The parameter of an index.
    pub fn get(&self, index: usize) -> &Parameter {
        &self.items[index]
    }

    /// The range of a parameter in [`ParamStore::flat`].
    pub fn range(&self, index: usize) -> Range<usize> {
        self.places[index].range.clone()
    }

    /// All values in the order of parameters. Changing them in place changes the parameters.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// Index of the parameter with this name in files.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.items.iter().position(|p| p.name == name)
    }

    /// Replaces a value in place; the new one may be on another device.
    ///
    /// # Errors
    /// Fails if the new value has another shape.
    pub fn set(&self, index: usize, value: &Tensor) -> Result<()> {
        let parameter = &self.items[index];
        if parameter.value.shape() != value.shape() {
            return Err(Error::Training(format!(
                "parameter {} has shape {:?}, not {:?}",
                parameter.name,
                parameter.dims(),
                value.dims()
            )));
        }
        let value = value.detach().to_device(self.flat.device())?.flatten_all()?.contiguous()?;
        Ok(self.flat.slice_set(&value, 0, self.range(index).start)?)
    }

    /// Copies of the parameters of `part` as variables.
    ///
    /// # Errors
    /// Fails if they cannot be allocated.
    pub fn leaves(&self, part: Part) -> Result<Leaves> {
        let leaf =
            |parameter: &Parameter| (parameter.part == part).then(|| Var::from_tensor(&parameter.value)).transpose();
        Ok(Leaves(self.items.iter().map(leaf).collect::<Result<_, _>>()?))
    }

    /// All parameters, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.items.iter()
    }

    /// Number of parameters (tensors).
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Names in files, in order.
    pub fn names(&self) -> Vec<String> {
        self.items.iter().map(|p| p.name.clone()).collect()
    }

    /// Copies of all values by name, in order, on the device.
    ///
    /// # Errors
    /// Fails if they cannot be allocated.
    pub fn snapshot(&self) -> Result<Vec<(String, Tensor)>> {
        self.items.iter().map(|p| Ok((p.name.clone(), p.value.force_contiguous()?))).collect()
    }

    /// Copies of all values by name, in order, on the CPU: one transfer.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn read(&self) -> Result<Vec<(String, Tensor)>> {
        let flat = self.flat.to_device(&Device::Cpu)?;
        let copy = |(p, place): (&Parameter, &Place)| Ok((p.name.clone(), place.view(&flat)?.force_contiguous()?));
        self.items.iter().zip(&*self.places).map(copy).collect()
    }
}

/// Copies of some parameters as variables for automatic differentiation, by index.
#[derive(Debug)]
pub struct Leaves(Vec<Option<Var>>);

impl Leaves {
    /// The variable of a parameter, if there is one.
    pub fn get(&self, index: usize) -> Option<&Tensor> {
        self.0[index].as_ref().map(Var::as_tensor)
    }

    /// All variables with the index of their parameter.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Tensor)> {
        self.0.iter().enumerate().filter_map(|(index, leaf)| Some((index, leaf.as_ref()?.as_tensor())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_one_tensor_of_views() -> Result<()> {
        let parameter = |name: &str, part, value| NewParameter { name: name.into(), role: name.into(), part, value };
        let matrix = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
        let store = ParamStore::new(
            vec![
                parameter("a", Part::Network, matrix.t()?),
                parameter("b", Part::Synthesizer(0), Tensor::new(&[5f32], &Device::Cpu)?),
            ],
            &Device::Cpu,
        )?;
        assert_eq!(store.flat().to_vec1::<f32>()?, [1., 3., 2., 4., 5.]);
        let before = store.snapshot()?;
        store.set(0, &matrix)?;
        assert_eq!(store.get(0).value().to_vec2::<f32>()?, [[1., 2.], [3., 4.]]);
        assert_eq!(before[0].1.to_vec2::<f32>()?, [[1., 3.], [2., 4.]], "a snapshot is a copy");
        assert!(store.set(1, &matrix).is_err());
        let leaves = store.leaves(Part::Network)?;
        assert!(leaves.get(0).is_some() && leaves.get(1).is_none());
        Ok(())
    }
}
