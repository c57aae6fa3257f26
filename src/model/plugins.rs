//! The plug-ins that models are made of.

use std::sync::Arc;

use crate::error::Result;
use crate::nn::cells::{self, Cell};
use crate::plugins::Kinds;
use crate::spec::{LayerSpec, ModelSpec};

/// The registered parts of models.
pub struct Plugins {
    /// Recurrent cells (`model.layers[].cell`).
    pub cells: Kinds<dyn Cell>,
}

impl Plugins {
    /// What comes with the crate.
    pub fn built_in() -> Self {
        Plugins { cells: cells::built_in() }
    }

    /// The cell of a layer.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] where there is none of that name, or where it cannot read its keys.
    pub fn cell(&self, layer: &LayerSpec) -> Result<Arc<dyn Cell>> {
        Ok(self.cells.open(&layer.cell, &layer.keys)?.into())
    }

    /// The cell of each layer.
    ///
    /// # Errors
    /// As [`Plugins::cell`].
    pub fn cells_of(&self, model: &ModelSpec) -> Result<Vec<Arc<dyn Cell>>> {
        model.layers.iter().map(|layer| self.cell(layer)).collect()
    }
}
