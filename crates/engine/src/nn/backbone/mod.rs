//! Backbones: networks from pixels to a feature vector.
//!
//! A backbone lists the tensors it needs ([`Backbone::tensors`]), parameters or constants, and takes them as an argument of
//! [`Backbone::forward`]. Evaluation of a ResNet on the CPU works on slices (`evaluate.rs`), and so does the way back through a small
//! network there (`ConvPass`); everything else is tensor operations (`composed.rs`, `conv.rs`), which are the definition.

mod composed;
mod conv;
mod evaluate;
mod names;
mod resnet;

pub use conv::{ConvNet, ConvPass};
pub use names::{from_encoder_name, to_encoder_name};
pub use resnet::{Block, Resnet};

use candle_core::Tensor;

pub use super::Mode;
use super::init;
use crate::error::Result;
use crate::rng::Stream;

/// A network from pixels to features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backbone {
    /// A residual network, as in torchvision.
    Resnet(Resnet),
    /// A small network that is trained from scratch.
    Conv(ConvNet),
}

/// A tensor of a backbone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackboneTensor {
    /// Its name: torchvision's (`layer2.0.downsample.0.weight`), or `conv.0.weight`.
    pub name: String,
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its role.
    pub kind: TensorKind,
}

/// The role of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorKind {
    /// A convolution's weight, initially uniform within `±√(6 / fan_in)` (He et al. 2015), which preserves the scale of
    /// activations; PyTorch's `±1 / √fan_in` shrinks them at each layer.
    Weight {
        /// Inputs per output.
        fan_in: usize,
    },
    /// The factor of normalised values; initially 1.
    Scale,
    /// What is added per channel; initially 0.
    Shift,
    /// A statistic, not learned; initially 0.
    RunningMean,
    /// A statistic, not learned; initially 1.
    RunningVar,
}

impl TensorKind {
    /// Whether it is learned, not a running statistic.
    pub fn is_learned(self) -> bool {
        !matches!(self, TensorKind::RunningMean | TensorKind::RunningVar)
    }

    /// `count` initial values.
    pub fn initial(self, count: usize, stream: &mut Stream) -> Vec<f32> {
        match self {
            TensorKind::Weight { fan_in } => init::uniform(stream, count, (6.0 / fan_in as f64).sqrt()),
            TensorKind::Scale | TensorKind::RunningVar => vec![1.0; count],
            TensorKind::Shift | TensorKind::RunningMean => vec![0.0; count],
        }
    }
}

/// The output of a backbone.
#[derive(Debug, Clone)]
pub struct Activations {
    /// `[batch, features]`
    pub features: Tensor,
    /// In training: the new running means and variances, by index into the backbone's tensors.
    pub statistics: Vec<(usize, Tensor)>,
}

/// Intermediate activations by name: `maxpool`, `layer1` .. `layer4`, or `conv.0` ..: `[batch, channels, height, width]`.
pub type Stages = Vec<(String, Tensor)>;

impl Backbone {
    /// The tensors in torchvision's order, without the last layer and `num_batches_tracked`.
    pub fn tensors(&self) -> Vec<BackboneTensor> {
        match self {
            Backbone::Resnet(net) => net.tensors(),
            Backbone::Conv(net) => net.tensors(),
        }
    }

    /// Width of the feature vector.
    pub fn features(&self) -> usize {
        match self {
            Backbone::Resnet(net) => net.features(),
            Backbone::Conv(net) => net.features(),
        }
    }

    /// Features of `pixels`, `[batch, 3, height, width]`, f32, normalised. `tensors` are in the order of
    /// [`Backbone::tensors`], on the same device.
    ///
    /// In evaluation an image's features do not depend on the rest of the batch (exactly for a ResNet on the CPU, otherwise
    /// up to rounding). On the CPU they do not depend on the number of threads, which is that of the current pool.
    ///
    /// # Errors
    /// Fails if tensors or pixels have other shapes, and in training with too few values for batch statistics.
    pub fn forward(&self, tensors: &[Tensor], pixels: &Tensor, mode: Mode) -> Result<Activations> {
        self.run(tensors, pixels, mode, None)
    }

    /// A forward pass in training with a backward pass of its own, where the backbone has one: a small network on the CPU.
    ///
    /// # Errors
    /// As [`Backbone::forward`].
    pub fn begin(&self, tensors: &[Tensor], pixels: &Tensor) -> Result<Option<ConvPass>> {
        self.check(tensors, pixels)?;
        match self {
            Backbone::Conv(net) => ConvPass::new(net, tensors, pixels),
            Backbone::Resnet(_) => Ok(None),
        }
    }

    /// [`Backbone::forward`], with intermediate activations.
    ///
    /// # Errors
    /// As [`Backbone::forward`].
    pub fn forward_with_stages(
        &self,
        tensors: &[Tensor],
        pixels: &Tensor,
        mode: Mode,
    ) -> Result<(Activations, Stages)> {
        let mut stages = Vec::new();
        let activations = self.run(tensors, pixels, mode, Some(&mut stages))?;
        Ok((activations, stages))
    }

    fn run(&self, tensors: &[Tensor], pixels: &Tensor, mode: Mode, stages: Option<&mut Stages>) -> Result<Activations> {
        self.check(tensors, pixels)?;
        match self {
            Backbone::Conv(net) => net.forward(tensors, pixels, mode, stages),
            Backbone::Resnet(net) if mode == Mode::Evaluate && evaluate::is_for(pixels) => {
                evaluate::forward(net, tensors, pixels, stages)
            }
            Backbone::Resnet(net) => composed::forward(net, tensors, pixels, mode, stages),
        }
    }

    fn check(&self, tensors: &[Tensor], pixels: &Tensor) -> Result<()> {
        let wanted = self.tensors();
        let fits = tensors.len() == wanted.len() && tensors.iter().zip(&wanted).all(|(t, w)| t.dims() == w.dims);
        let sides = match self {
            Backbone::Conv(net) => Some(net.size()),
            Backbone::Resnet(_) => None,
        };
        match *pixels.dims() {
            _ if !fits => Err(unfit("tensors are not those of the backbone".into())),
            [_, 3, height, width] if sides.is_none_or(|side| (height, width) == (side, side)) => match height * width {
                0 => Err(unfit("images without pixels".into())),
                _ => Ok(()),
            },
            ref dims => Err(unfit(format!(
                "pixels of shape {dims:?}, expected [batch, 3, height, width] with sides of the configured size"
            ))),
        }
    }
}

fn unfit(what: String) -> crate::Error {
    candle_core::Error::Msg(format!("a backbone: {what}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn resnets() -> Vec<Resnet> {
        vec![
            Resnet::new(Block::Basic, [1, 2, 1, 1], 4, [4, 6, 8, 8], 64),
            Resnet::new(Block::Bottleneck, [1, 1, 2, 1], 6, [4, 4, 8, 8], 32),
        ]
    }

    fn random(backbone: &Backbone) -> Vec<Tensor> {
        let tensor = |tensor: BackboneTensor| {
            let mut stream = Stream::new(3, &tensor.name, 0, 0);
            let count = tensor.dims.iter().product();
            let values = match tensor.kind {
                TensorKind::Weight { .. } => tensor.kind.initial(count, &mut stream),
                TensorKind::Scale | TensorKind::RunningVar => (0..count).map(|_| stream.uniform(0.5, 1.5)).collect(),
                TensorKind::Shift | TensorKind::RunningMean => (0..count).map(|_| stream.uniform(-0.3, 0.3)).collect(),
            };
            Tensor::from_vec(values, tensor.dims, &Device::Cpu).unwrap()
        };
        backbone.tensors().into_iter().map(tensor).collect()
    }

    fn images(batch: usize, height: usize, width: usize) -> Tensor {
        let mut stream = Stream::new(5, "pictures", 0, 0);
        let numbers = (0..batch * 3 * height * width).map(|_| stream.uniform(-2.0, 2.0)).collect();
        Tensor::from_vec(numbers, (batch, 3, height, width), &Device::Cpu).unwrap()
    }

    fn off(a: &Tensor, b: &Tensor) -> f32 {
        let largest = |t: Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        largest((a - b).unwrap()) / largest(b.clone())
    }

    #[test]
    fn a_pass_of_its_own_has_the_gradients_of_the_graph() {
        for widths in [&[5][..], &[4, 6], &[3, 5, 7]] {
            let backbone = Backbone::Conv(ConvNet::new(21, widths));
            let tensors: Vec<Var> = random(&backbone).iter().map(|tensor| Var::from_tensor(tensor).unwrap()).collect();
            let values: Vec<Tensor> = tensors.iter().map(|tensor| tensor.as_tensor().clone()).collect();
            // Pixels that are not contiguous.
            let pixels = images(3, 21, 21).transpose(2, 3).unwrap();
            let features = backbone.forward(&values, &pixels, Mode::Train).unwrap().features;
            let cotangent = (&features * 0.3).unwrap().detach();
            let store = (&features * &cotangent).unwrap().backward().unwrap();
            let pass = backbone.begin(&values, &pixels).unwrap().unwrap();
            let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(numbers(&pass.features().unwrap()), numbers(&features));
            for (tensor, gradient) in tensors.iter().zip(pass.backward(&cotangent).unwrap()) {
                assert_eq!(numbers(&gradient), numbers(store.get(tensor).unwrap()), "{widths:?}");
            }
        }
    }

    #[test]
    fn evaluation_on_slices_agrees_with_tensor_operations() {
        for (net, batch, height, width) in
            resnets().into_iter().flat_map(|net| [(net.clone(), 3, 33, 40), (net.clone(), 1, 64, 64), (net, 2, 1, 5)])
        {
            let backbone = Backbone::Resnet(net.clone());
            let (tensors, pixels) = (random(&backbone), images(batch, height, width));
            let (slices, stages) = backbone.forward_with_stages(&tensors, &pixels, Mode::Evaluate).unwrap();
            let mut expected = Stages::new();
            let composed = composed::forward(&net, &tensors, &pixels, Mode::Evaluate, Some(&mut expected)).unwrap();
            assert!(off(&slices.features, &composed.features) < 1e-5);
            assert_eq!(stages.len(), expected.len());
            for ((name, stage), (other, expected)) in stages.iter().zip(&expected) {
                assert_eq!((name, stage.dims()), (other, expected.dims()));
                assert!(off(stage, expected) < 1e-5, "{name}");
            }
        }
    }

    #[test]
    fn evaluation_does_not_depend_on_the_batch_or_threads() {
        let nets = resnets().into_iter().map(Backbone::Resnet).chain([Backbone::Conv(ConvNet::new(64, &[16, 32, 64]))]);
        for backbone in nets {
            let (tensors, pixels) = (random(&backbone), images(5, 64, 64));
            let bits = |threads: usize, pixels: &Tensor| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let features = || backbone.forward(&tensors, pixels, Mode::Evaluate).unwrap().features;
                pool.install(features).to_vec2::<f32>().unwrap()
            };
            let all = bits(1, &pixels);
            assert_eq!(all, bits(4, &pixels), "more images than threads");
            assert_eq!(all, bits(8, &pixels), "more threads than images");
            if let Backbone::Resnet(_) = backbone {
                assert_eq!(all[2..3], bits(1, &pixels.narrow(0, 2, 1).unwrap()));
            }
        }
    }

    #[test]
    fn training_has_gradients_of_what_is_learned_and_evaluation_has_none() {
        let nets = resnets().into_iter().map(Backbone::Resnet).chain([Backbone::Conv(ConvNet::new(33, &[4, 8]))]);
        for backbone in nets {
            let (names, values) = (backbone.tensors(), random(&backbone));
            let vars: Vec<Option<Var>> = names
                .iter()
                .zip(&values)
                .map(|(name, value)| name.kind.is_learned().then(|| Var::from_tensor(value).unwrap()))
                .collect();
            let tensor = |(var, value): (&Option<Var>, &Tensor)| {
                var.as_ref().map_or_else(|| value.clone(), |var| var.as_tensor().clone())
            };
            let tensors: Vec<Tensor> = vars.iter().zip(&values).map(tensor).collect();
            let pixels = images(4, 33, 33);
            let out = backbone.forward(&tensors, &pixels, Mode::Train).unwrap();
            assert_eq!(out.features.dims(), [4, backbone.features()]);
            let weights: Vec<f32> = (0..out.features.elem_count()).map(|i| (i as f32).sin()).collect();
            let weights = Tensor::from_vec(weights, out.features.dims(), &Device::Cpu).unwrap();
            let gradients = (out.features * weights).unwrap().sum_all().unwrap().backward().unwrap();
            for (name, var) in names.iter().zip(&vars) {
                let Some(var) = var else { continue };
                let gradient = gradients.get(var.as_tensor()).unwrap_or_else(|| panic!("none of {}", name.name));
                let size = gradient.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(size.is_finite() && size > 0.0, "{}: {size}", name.name);
            }
            let statistics = names.iter().filter(|name| !name.kind.is_learned()).count();
            assert_eq!(out.statistics.len(), statistics);
            for (index, value) in out.statistics {
                assert!(!names[index].kind.is_learned() && value.dims() == names[index].dims && !value.track_op());
            }
            let evaluated = backbone.forward(&tensors, &pixels, Mode::Evaluate).unwrap();
            assert!(!evaluated.features.track_op() && evaluated.statistics.is_empty());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let backbone = Backbone::Conv(ConvNet::new(32, &[4]));
        let tensors = random(&backbone);
        assert!(backbone.forward(&tensors, &images(1, 32, 32), Mode::Evaluate).is_ok());
        for (tensors, pixels) in [
            (&tensors[..1], images(1, 32, 32)),
            (&tensors[..], images(1, 32, 31)),
            (&tensors[..], images(1, 32, 32).narrow(1, 0, 2).unwrap()),
            (&tensors[..], images(1, 32, 32).get(0).unwrap()),
        ] {
            assert!(backbone.forward(tensors, &pixels, Mode::Evaluate).is_err());
        }
        let resnet = Backbone::Resnet(resnets().remove(0));
        assert!(resnet.forward(&random(&resnet), &images(1, 0, 5), Mode::Evaluate).is_err());
    }
}
