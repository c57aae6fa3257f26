//! The architecture of residual networks (He et al. 2016), as in torchvision.

use super::{BackboneTensor, TensorKind};
use crate::nn::kernel::window::Window;

/// The kind of residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// Two convolutions of 3 x 3.
    Basic,
    /// 1 x 1, 3 x 3 (with the stride), 1 x 1 to four times the width.
    Bottleneck,
}

impl Block {
    /// Output channels of a block per plane.
    fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }
}

/// A convolution without bias, followed by batch normalisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConvNorm {
    /// Name of the convolution.
    conv: String,
    /// Name of the normalisation.
    norm: String,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) window: Window,
    /// Index of its weight among the tensors; scale, shift, mean and variance follow.
    pub(super) first: usize,
}

/// A residual block: `relu(main(x) + shortcut(x))`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Residual {
    pub(super) main: Vec<ConvNorm>,
    /// If the width or the stride changes; otherwise the identity.
    pub(super) shortcut: Option<ConvNorm>,
}

/// A residual network: a 7 x 7 convolution, a pool, four stages of residual blocks, and the mean over all pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resnet {
    pub(super) stem: ConvNorm,
    pub(super) stages: Vec<Vec<Residual>>,
    features: usize,
}

impl Resnet {
    /// The network of `depth` 18, 34, 50, 101 or 152.
    pub fn standard(depth: usize) -> Option<Resnet> {
        let (block, layers) = match depth {
            18 => (Block::Basic, [2, 2, 2, 2]),
            34 => (Block::Basic, [3, 4, 6, 3]),
            50 => (Block::Bottleneck, [3, 4, 6, 3]),
            101 => (Block::Bottleneck, [3, 4, 23, 3]),
            152 => (Block::Bottleneck, [3, 8, 36, 3]),
            _ => return None,
        };
        Some(Resnet::new(block, layers, 64, [64, 128, 256, 512], 64))
    }

    /// A network of `layers` blocks in each stage: `stem` channels before the first, `planes` in each. The 3 x 3 convolution
    /// of a bottleneck has `planes · width_per_group / 64` channels.
    pub fn new(block: Block, layers: [usize; 4], stem: usize, planes: [usize; 4], width_per_group: usize) -> Resnet {
        let mut builder = Builder { next: 0 };
        let window = Window { size: 7, stride: 2, padding: 3 };
        let first = builder.unit("conv1".into(), "bn1".into(), (3, stem), window);
        let (mut inputs, mut stages) = (stem, Vec::new());
        for (stage, (count, planes)) in layers.into_iter().zip(planes).enumerate() {
            let width = planes * width_per_group / 64;
            let mut blocks = Vec::new();
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let name = format!("layer{}.{index}", stage + 1);
                blocks.push(builder.block(block, &name, inputs, (planes, width), stride));
                inputs = planes * block.expansion();
            }
            stages.push(blocks);
        }
        Resnet { stem: first, stages, features: inputs }
    }

    /// Width of the feature vector.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Every convolution, in torchvision's order.
    pub(super) fn units(&self) -> impl Iterator<Item = &ConvNorm> {
        let blocks = self.stages.iter().flatten();
        std::iter::once(&self.stem).chain(blocks.flat_map(|block| block.main.iter().chain(&block.shortcut)))
    }

    pub(super) fn tensors(&self) -> Vec<BackboneTensor> {
        self.units().flat_map(ConvNorm::tensors).collect()
    }
}

impl ConvNorm {
    fn tensors(&self) -> [BackboneTensor; 5] {
        let size = self.window.size;
        let weight = BackboneTensor {
            name: format!("{}.weight", self.conv),
            dims: vec![self.outputs, self.inputs, size, size],
            kind: TensorKind::Weight { fan_in: self.inputs * size * size },
        };
        let of =
            |name: &str, kind| BackboneTensor { name: format!("{}.{name}", self.norm), dims: vec![self.outputs], kind };
        [
            weight,
            of("weight", TensorKind::Scale),
            of("bias", TensorKind::Shift),
            of("running_mean", TensorKind::RunningMean),
            of("running_var", TensorKind::RunningVar),
        ]
    }
}

/// Numbers tensors while a network is built.
struct Builder {
    next: usize,
}

impl Builder {
    fn unit(&mut self, conv: String, norm: String, (inputs, outputs): (usize, usize), window: Window) -> ConvNorm {
        let first = self.next;
        self.next += 5;
        ConvNorm { conv, norm, inputs, outputs, window, first }
    }

    fn block(
        &mut self,
        block: Block,
        name: &str,
        inputs: usize,
        (planes, width): (usize, usize),
        stride: usize,
    ) -> Residual {
        let point = |stride| Window { size: 1, stride, padding: 0 };
        let square = |stride| Window { size: 3, stride, padding: 1 };
        let outputs = planes * block.expansion();
        let shapes = match block {
            Block::Basic => vec![(inputs, planes, square(stride)), (planes, planes, square(1))],
            Block::Bottleneck => {
                vec![(inputs, width, point(1)), (width, width, square(stride)), (width, outputs, point(1))]
            }
        };
        let main = shapes.into_iter().enumerate().map(|(index, (inputs, outputs, window))| {
            let number = index + 1;
            self.unit(format!("{name}.conv{number}"), format!("{name}.bn{number}"), (inputs, outputs), window)
        });
        let main = main.collect();
        let shortcut = (stride != 1 || inputs != outputs).then(|| {
            let (conv, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
            self.unit(conv, norm, (inputs, outputs), point(stride))
        });
        Residual { main, shortcut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_torchvisions() {
        // Torchvision's counts include the last layer of 1000 classes and its bias.
        for (depth, features, parameters) in [
            (18, 512, 11_689_512usize),
            (34, 512, 21_797_672),
            (50, 2048, 25_557_032),
            (101, 2048, 44_549_160),
            (152, 2048, 60_192_808),
        ] {
            let net = Resnet::standard(depth).unwrap();
            assert_eq!(net.features(), features);
            let learned = net.tensors().into_iter().filter(|tensor| tensor.kind.is_learned());
            let count: usize = learned.map(|tensor| tensor.dims.iter().product::<usize>()).sum();
            assert_eq!(count + 1000 * features + 1000, parameters, "depth {depth}");
            for (index, unit) in net.units().enumerate() {
                assert_eq!(unit.first, 5 * index, "tensors of a unit follow each other");
            }
        }
        assert_eq!(Resnet::standard(20), None);
    }
}
