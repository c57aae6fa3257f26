//! The plug-ins that models are built from.

use std::sync::Arc;

use crate::dni::{self, Synthesizer};
use crate::error::Result;
use crate::nn::blocks::{self, Block};
use crate::nn::cells::{self, Cell};
use crate::plugins::Kinds;
use crate::spec::{BlockSpec, DniSpec, LayerSpec, ModelSpec};

/// The registered parts of models.
pub struct Plugins {
    /// Recurrent cells (`model.layers[].cell`).
    pub cells: Kinds<dyn Cell>,
    /// Blocks (`model.blocks`).
    pub blocks: Kinds<dyn Block>,
    /// Synthesizers (`model.layers[].dni`, `model.blocks[].dni`).
    pub synthesizers: Kinds<dyn Synthesizer>,
}

impl Plugins {
    /// The parts in this crate.
    pub fn built_in() -> Self {
        Plugins { cells: cells::built_in(), blocks: blocks::built_in(), synthesizers: dni::built_in() }
    }

    /// The cell of a layer.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] if there is none of that name or its keys are invalid.
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

    /// A block.
    ///
    /// # Errors
    /// As [`Plugins::cell`].
    pub fn block(&self, block: &BlockSpec) -> Result<Box<dyn Block>> {
        self.blocks.open(&block.kind, &block.keys)
    }

    /// The synthesizer of a layer.
    ///
    /// # Errors
    /// As [`Plugins::cell`].
    pub fn synthesizer(&self, dni: &DniSpec) -> Result<Arc<dyn Synthesizer>> {
        Ok(self.synthesizers.open(&dni.kind, &dni.keys)?.into())
    }
}
