//! A ResNet as tensor operations, on any device and with gradients.

use candle_core::Tensor;

use super::resnet::{ConvNorm, Residual, Resnet};
use super::{Activations, Mode, Stages};
use crate::error::Result;
use crate::nn::{BatchNorm, batch_norm, conv2d, max_pool, relu};

/// Momentum of the running statistics.
const MOMENTUM: f64 = 0.1;

pub(super) fn forward(
    net: &Resnet,
    tensors: &[Tensor],
    pixels: &Tensor,
    mode: Mode,
    mut stages: Option<&mut Stages>,
) -> Result<Activations> {
    // Evaluation builds no graph.
    let constants: Vec<Tensor>;
    let tensors = match mode {
        Mode::Train => tensors,
        Mode::Evaluate => {
            constants = tensors.iter().map(Tensor::detach).collect();
            &constants
        }
    };
    let mut pass = Pass { tensors, mode, statistics: Vec::new() };
    let mut record = |name: String, x: &Tensor| {
        if let Some(stages) = stages.as_deref_mut() {
            stages.push((name, x.clone()));
        }
    };
    let mut x = max_pool(&relu(&pass.unit(&net.stem, pixels)?)?)?;
    record("maxpool".into(), &x);
    for (index, stage) in net.stages.iter().enumerate() {
        for block in stage {
            x = pass.block(block, &x)?;
        }
        record(format!("layer{}", index + 1), &x);
    }
    let features = x.flatten_from(2)?.mean(2)?;
    Ok(Activations { features, statistics: pass.statistics })
}

struct Pass<'a> {
    tensors: &'a [Tensor],
    mode: Mode,
    statistics: Vec<(usize, Tensor)>,
}

impl Pass<'_> {
    fn unit(&mut self, unit: &ConvNorm, x: &Tensor) -> Result<Tensor> {
        let at = unit.first;
        let y = conv2d(x, &self.tensors[at], unit.window.stride, unit.window.padding)?;
        let norm = BatchNorm {
            scale: &self.tensors[at + 1],
            shift: &self.tensors[at + 2],
            mean: &self.tensors[at + 3],
            variance: &self.tensors[at + 4],
        };
        let (y, statistics) = batch_norm(&y, norm, self.mode, MOMENTUM)?;
        if let Some(statistics) = statistics {
            self.statistics.extend([(at + 3, statistics.mean), (at + 4, statistics.variance)]);
        }
        Ok(y)
    }

    fn block(&mut self, block: &Residual, x: &Tensor) -> Result<Tensor> {
        let mut y = x.clone();
        for (index, unit) in block.main.iter().enumerate() {
            if index > 0 {
                y = relu(&y)?;
            }
            y = self.unit(unit, &y)?;
        }
        let shortcut = match &block.shortcut {
            Some(unit) => self.unit(unit, x)?,
            None => x.clone(),
        };
        relu(&(y + shortcut)?)
    }
}
