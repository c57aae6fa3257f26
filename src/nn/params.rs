//! An ordered store of parameters.
//!
//! Order is order of creation, so that norms, optimizer state and files never depend on a hash map.

use candle_core::{Tensor, Var};

use crate::error::{Error, Result};

/// Which part of the model a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Embedding, recurrent stack, readout.
    Network,
    /// The synthesizer of this index.
    Synthesizer(usize),
}

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Name in files, as PyTorch has it: `rnn.weight_ih_l0`.
    pub name: String,
    /// Its role, which names its random stream: `layer0.weight_ih`.
    pub role: String,
    /// The part of the model it belongs to.
    pub part: Part,
    value: Var,
}

impl Parameter {
    /// The value as part of a graph: gradients flow into it.
    pub fn tracked(&self) -> &Tensor {
        self.value.as_tensor()
    }

    /// The value as a constant. It shares memory with the parameter: copy it to keep it beyond the next update.
    pub fn constant(&self) -> Tensor {
        self.value.as_detached_tensor()
    }
}

/// Parameters in the order of their creation.
#[derive(Debug, Default)]
pub struct ParamStore {
    items: Vec<Parameter>,
}

impl ParamStore {
    /// Adds a parameter and returns its index.
    pub fn add(&mut self, name: String, role: String, part: Part, value: &Tensor) -> Result<usize> {
        self.items.push(Parameter { name, role, part, value: Var::from_tensor(value)? });
        Ok(self.items.len() - 1)
    }

    /// The parameter of an index that [`ParamStore::add`] gave.
    pub fn get(&self, index: usize) -> &Parameter {
        &self.items[index]
    }

    /// Index of the parameter with this name in files.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.items.iter().position(|p| p.name == name)
    }

    /// Replaces a value. Graphs built on the old one must be gone by now: it is overwritten in place.
    pub fn set(&self, index: usize, value: &Tensor) -> Result<()> {
        let parameter = &self.items[index];
        if parameter.value.shape() != value.shape() {
            return Err(Error::Training(format!(
                "parameter {} has shape {:?}, not {:?}",
                parameter.name,
                parameter.value.dims(),
                value.dims()
            )));
        }
        Ok(parameter.value.set(&value.detach())?)
    }

    /// All parameters, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Parameter> {
        self.items.iter()
    }

    /// Number of parameters (tensors).
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Names in files, in order.
    pub fn names(&self) -> Vec<String> {
        self.items.iter().map(|p| p.name.clone()).collect()
    }

    /// Copies of all values by name, in order.
    pub fn snapshot(&self) -> Result<Vec<(String, Tensor)>> {
        self.items.iter().map(|p| Ok((p.name.clone(), p.constant().copy()?))).collect()
    }
}

/// Gradients by parameter index; `None` is *no* gradient, which is not the same as zero: such a parameter is skipped by
/// clipping and by the optimizer.
#[derive(Debug, Clone)]
pub struct Gradients(pub Vec<Option<Tensor>>);

impl Gradients {
    /// No gradient for any of `parameters`.
    pub fn none(parameters: usize) -> Self {
        Gradients(vec![None; parameters])
    }

    /// Adds to one gradient.
    pub fn add(&mut self, index: usize, gradient: &Tensor) -> Result<()> {
        let slot = &mut self.0[index];
        *slot = Some(match slot.take() {
            Some(sum) => (sum + gradient)?,
            None => gradient.detach(),
        });
        Ok(())
    }

    /// Adds all gradients of `other`.
    pub fn add_all(&mut self, other: &Gradients) -> Result<()> {
        for (index, gradient) in other.0.iter().enumerate() {
            if let Some(gradient) = gradient {
                self.add(index, gradient)?;
            }
        }
        Ok(())
    }
}
