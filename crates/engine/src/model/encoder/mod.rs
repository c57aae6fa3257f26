//! The image encoder: a convolutional backbone, a linear layer to the width of the embedding, and batch normalisation.
//!
//! A trainable backbone is part of the model, whose input is then pixels. The features of a frozen one are computed once, by
//! [`FrozenBackbone`], and the model starts with the linear layer. An encoder of blocks has none of this: it is a
//! [`FeedForward`](super::FeedForward) whose parameters have the encoder's names.

mod frozen;
mod inputs;
mod maker;
mod weights;

pub use frozen::FrozenBackbone;
pub use inputs::{CACHE, EncoderInputs};
pub use weights::{Loaded, TensorFile, WeightSource, load, pickled_ids};

use candle_core::Tensor;

use super::slot::{Slot, Start};
use crate::error::{Error, Result};
use crate::nn::backbone::{Backbone, Block, ConvNet, ConvPass, Resnet, to_encoder_name};
use crate::nn::{Gradients, Head, HeadPass, Leaves, Linear, Mode, ParamStore, Part, Statistics, on_slices};
pub use crate::spec::encoder::RANDOM;
use crate::spec::task_shape::TaskShape;
use crate::spec::{EncoderSpec, ModelSpec, Trainable};

/// Prefix of the encoder's names among a model's parameters; not used in `encoder.safetensors`.
pub const PREFIX: &str = "encoder.";

/// An encoder's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderLayout {
    /// Indices of the backbone's tensors, if it is part of the model.
    backbone: Vec<usize>,
    /// Indices of weight and bias of the linear layer.
    linear: [usize; 2],
    /// Indices of weight, bias, running mean and running variance of the batch normalisation.
    norm: [usize; 4],
}

/// The backbone of a spec, for squares of `side` pixels; none if the encoder is made of blocks.
pub fn backbone(spec: &EncoderSpec, side: usize) -> Option<Backbone> {
    Some(match spec {
        EncoderSpec::Resnet { depth, .. } => {
            // Validation has rejected other depths.
            let smallest = || Resnet::new(Block::Basic, [2; 4], 64, [64, 128, 256, 512], 64);
            Backbone::Resnet(Resnet::standard(*depth).unwrap_or_else(smallest))
        }
        EncoderSpec::Conv { channels, .. } => Backbone::Conv(ConvNet::new(side, channels)),
        EncoderSpec::Blocks { .. } => return None,
    })
}

fn side(shape: &TaskShape) -> usize {
    shape.input.image_side().unwrap_or(1)
}

impl EncoderLayout {
    /// Adds the parameters of an encoder with a backbone.
    pub(super) fn new(
        encoder: &EncoderSpec,
        model: &ModelSpec,
        shape: &TaskShape,
        slots: &mut Vec<Slot>,
    ) -> Option<EncoderLayout> {
        let backbone = backbone(encoder, side(shape))?;
        let mut add = |name: String, part, dims, start| {
            let name = format!("{PREFIX}{name}");
            slots.push(Slot { role: name.clone(), name, part, dims, start });
            slots.len() - 1
        };
        let trained = encoder.trainable() == Trainable::All;
        let tensors = if trained { backbone.tensors() } else { Vec::new() };
        let indices = tensors.into_iter().map(|tensor| {
            let part = if tensor.kind.is_learned() { Part::Encoder } else { Part::Fixed };
            let name = to_encoder_name(&tensor.name).unwrap_or(tensor.name);
            add(name, part, tensor.dims, Start::Backbone(tensor.kind))
        });
        let indices = indices.collect();
        let part = if encoder.trainable() == Trainable::None { Part::Fixed } else { Part::Encoder };
        let (inputs, width) = (backbone.features(), model.embed.as_ref().map_or(1, |embed| embed.size));
        let linear = Start::linear(inputs);
        Some(EncoderLayout {
            backbone: indices,
            linear: [
                add("linear.weight".into(), part, vec![width, inputs], linear),
                add("linear.bias".into(), part, vec![width], linear),
            ],
            norm: [
                add("bn.weight".into(), part, vec![width], Start::One),
                add("bn.bias".into(), part, vec![width], Start::Zero),
                add("bn.running_mean".into(), Part::Fixed, vec![width], Start::Zero),
                add("bn.running_var".into(), Part::Fixed, vec![width], Start::One),
            ],
        })
    }
}

/// An encoder as part of a model.
#[derive(Debug)]
pub struct Encoder {
    /// The backbone, if it is part of the model; otherwise the input is features.
    backbone: Option<Backbone>,
    learns: bool,
    layout: EncoderLayout,
}

/// The output of an encoder.
#[derive(Debug)]
pub struct Encoded {
    /// `[batch, width]`, the network's first input; a constant.
    pub features: Tensor,
    /// Running statistics after this batch, by index of their parameter; none in evaluation.
    pub statistics: Vec<(usize, Tensor)>,
    learned: Option<Learned>,
}

/// What an encoder that learns needs of its forward pass.
#[derive(Debug)]
enum Learned {
    /// The features as a function of the leaves, in candle's graph.
    Graph { leaves: Leaves, features: Tensor },
    /// Passes with backward passes of their own, on the CPU, and the indices of their parameters.
    Passes { backbone: Option<(ConvPass, Vec<usize>)>, head: (HeadPass, [usize; 4]) },
}

impl Encoder {
    pub(super) fn new(spec: &EncoderSpec, shape: &TaskShape, layout: EncoderLayout) -> Encoder {
        Encoder {
            backbone: (spec.trainable() == Trainable::All).then(|| backbone(spec, side(shape))).flatten(),
            learns: spec.trainable() != Trainable::None,
            layout,
        }
    }

    /// Sets the weights of the backbone, in the order of [`Backbone::tensors`].
    ///
    /// # Errors
    /// Fails if they are of another backbone.
    pub fn adopt_backbone(&self, params: &ParamStore, tensors: &[Tensor]) -> Result<()> {
        self.layout.backbone.iter().zip(tensors).try_for_each(|(&index, tensor)| params.set(index, tensor))
    }

    /// Encodes images: pixels `[batch, 3, height, width]` if the backbone is part of the model, otherwise its features
    /// `[batch, features]`. In training, an encoder that learns normalises by the statistics of the batch.
    ///
    /// # Errors
    /// Fails if the images are of another shape.
    pub fn encode(&self, params: &ParamStore, images: &Tensor, training: bool) -> Result<Encoded> {
        let rank = if self.backbone.is_some() { 4 } else { 2 };
        if images.rank() != rank {
            let dims = images.dims();
            return Err(Error::Training(format!("the encoder cannot read an input of shape {dims:?}")));
        }
        if !(training && self.learns) {
            let (features, _) = self.run(|index| params.get(index).value().clone(), images, Mode::Evaluate)?;
            return Ok(Encoded { features: features.detach(), statistics: Vec::new(), learned: None });
        }
        self.encode_on_slices(params, images)?.map_or_else(|| self.encode_in_graph(params, images), Ok)
    }

    fn encode_in_graph(&self, params: &ParamStore, images: &Tensor) -> Result<Encoded> {
        let leaves = params.leaves(Part::Encoder)?;
        let value = |index| leaves.get(index).unwrap_or_else(|| params.get(index).value()).clone();
        let (features, statistics) = self.run(value, images, Mode::Train)?;
        Ok(Encoded { features: features.detach(), statistics, learned: Some(Learned::Graph { leaves, features }) })
    }

    fn run(
        &self,
        value: impl Fn(usize) -> Tensor,
        images: &Tensor,
        mode: Mode,
    ) -> Result<(Tensor, Vec<(usize, Tensor)>)> {
        let (mut features, mut statistics) = (images.clone(), Vec::new());
        if let Some(backbone) = &self.backbone {
            let tensors = self.backbone_tensors(&value);
            let read = backbone.forward(&tensors, images, mode)?;
            statistics.extend(read.statistics.into_iter().map(|(at, tensor)| (self.layout.backbone[at], tensor)));
            features = read.features;
        }
        let (features, after) = self.head(value).forward(&features, mode)?;
        statistics.extend(self.statistics(after));
        Ok((features, statistics))
    }

    /// In training, by passes that have backward passes of their own; none where there are none.
    fn encode_on_slices(&self, params: &ParamStore, images: &Tensor) -> Result<Option<Encoded>> {
        if !on_slices(images) {
            return Ok(None);
        }
        let value = |index: usize| params.get(index).value().clone();
        let (mut features, mut pass) = (images.clone(), None);
        if let Some(backbone) = &self.backbone {
            let Some(begun) = backbone.begin(&self.backbone_tensors(value), images)? else { return Ok(None) };
            features = begun.features()?;
            pass = Some((begun, self.layout.backbone.clone()));
        }
        let (head, after) = HeadPass::new(&self.head(value), &features)?;
        let ([weight, bias], [scale, shift, ..]) = (self.layout.linear, self.layout.norm);
        let (features, statistics) = (head.output(), self.statistics(after).collect());
        let learned = Some(Learned::Passes { backbone: pass, head: (head, [weight, bias, scale, shift]) });
        Ok(Some(Encoded { features, statistics, learned }))
    }

    fn backbone_tensors(&self, value: impl Fn(usize) -> Tensor) -> Vec<Tensor> {
        self.layout.backbone.iter().map(|&index| value(index)).collect()
    }

    fn head(&self, value: impl Fn(usize) -> Tensor) -> Head {
        let [weight, bias] = self.layout.linear.map(&value);
        let [scale, shift, mean, variance] = self.layout.norm.map(&value);
        Head { linear: Linear { weight, bias }, scale, shift, mean, variance }
    }

    /// Running statistics of the head, by index.
    fn statistics(&self, after: Option<Statistics>) -> impl Iterator<Item = (usize, Tensor)> {
        let [_, _, mean, variance] = self.layout.norm;
        after.into_iter().flat_map(move |after| [(mean, after.mean), (variance, after.variance)])
    }
}

impl Encoded {
    /// Whether the encoder learns from these images.
    pub fn learns(&self) -> bool {
        self.learned.is_some()
    }

    /// Adds the gradients of the encoder, given the cotangent of the features, `[batch, width]`. To be called before the parameters change:
    /// on the CPU, they are read where they are.
    ///
    /// # Errors
    /// Fails on a tensor error.
    pub fn learn(&self, cotangent: &Tensor, gradients: &mut Gradients) -> Result<()> {
        match &self.learned {
            None => Ok(()),
            Some(Learned::Graph { leaves, features }) => {
                // `backward` starts from ones: applied to this product, it computes the vector-Jacobian product.
                let store = (features * cotangent.detach())?.backward()?;
                let mut found = leaves.iter().filter_map(|(index, leaf)| Some((index, store.get(leaf)?)));
                found.try_for_each(|(index, gradient)| gradients.add(index, gradient))
            }
            Some(Learned::Passes { backbone, head: (head, indices) }) => {
                let of_features = head.backward(cotangent, *indices, gradients, backbone.is_some())?;
                let Some(((pass, indices), gradient)) = backbone.as_ref().zip(of_features) else { return Ok(()) };
                let found = pass.backward(&gradient)?;
                indices.iter().zip(&found).try_for_each(|(&index, gradient)| gradients.add(index, gradient))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::model::{Model, Plugins};
    use crate::nn::NewParameter;
    use crate::nn::backbone::BackboneTensor;
    use crate::rng::Stream;
    use crate::spec::task_shape::{First, Input, Target, TargetKind, When};

    /// Of images that both layers halve.
    const SIDE: usize = 16;

    fn model(trainable: &str) -> Model {
        let text = format!(
            r#"{{"encoder": {{"kind": "conv", "channels": [3, 4], "trainable": "{trainable}"}}, "embed": {{"size": 5}},
                 "layers": [{{"cell": "tanh", "hidden": 2}}]}}"#
        );
        let shape = TaskShape {
            input: Input::Tokens { vocabulary: 7, first: First::Image { side: SIDE } },
            target: Target { kind: TargetKind::Classes { count: 7 }, when: When::EveryStep },
            steps: None,
            validates: true,
        };
        Model::new(&Plugins::built_in(), &serde_json::from_str(&text).unwrap(), &shape, 3, &Device::Cpu).unwrap()
    }

    fn normal(dims: &[usize], purpose: &str) -> Tensor {
        let mut stream = Stream::new(1, purpose, 0, 0);
        let values = (0..dims.iter().product()).map(|_| stream.normal()).collect::<Vec<f32>>();
        Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
    }

    #[test]
    fn gradients_agree_with_finite_differences() -> Result<()> {
        let model = model("all");
        let encoder = model.encoder.as_ref().unwrap();
        let (images, cotangent) = (normal(&[4, 3, SIDE, SIDE], "pictures"), normal(&[4, 5], "cotangent"));
        let value = || -> Result<f64> {
            let features = encoder.encode(&model.params, &images, true)?.features;
            Ok(f64::from((features * &cotangent)?.sum_all()?.to_scalar::<f32>()?))
        };
        let mut gradients = Gradients::none(&model.params)?;
        encoder.encode(&model.params, &images, true)?.learn(&cotangent, &mut gradients)?;
        for (index, parameter) in model.params.iter().enumerate() {
            assert_eq!(gradients.present()[index], parameter.part == Part::Encoder, "{}", parameter.name);
            let Some(gradient) = gradients.get(index)? else { continue };
            // A central difference along the gradient.
            let before = parameter.value().copy()?;
            let norm = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
            if norm < 1e-2 {
                // A bias before a normalisation has no effect.
                continue;
            }
            let mut ends = [0.0; 2];
            for (end, sign) in ends.iter_mut().zip([1.0, -1.0]) {
                model.params.set(index, &(&before + (&gradient * (sign * 1e-3 / norm))?)?)?;
                *end = value()?;
            }
            model.params.set(index, &before)?;
            let slope = (ends[0] - ends[1]) / 2e-3;
            assert!((slope / norm - 1.0).abs() < 0.05, "{}: {slope} {norm}", parameter.name);
        }
        Ok(())
    }

    #[test]
    fn passes_agree_with_the_graph() -> Result<()> {
        for (trainable, dims) in [("all", vec![4, 3, SIDE, SIDE]), ("projection", vec![4, 4 * 16])] {
            let model = model(trainable);
            let encoder = model.encoder.as_ref().unwrap();
            let (images, cotangent) = (normal(&dims, "pictures"), normal(&[4, 5], "cotangent"));
            let passes = encoder.encode_on_slices(&model.params, &images)?.unwrap();
            let graph = encoder.encode_in_graph(&model.params, &images)?;
            let off = |a: &Tensor, b: &Tensor| -> Result<f32> { Ok((a - b)?.abs()?.max_all()?.to_scalar()?) };
            assert!(off(&passes.features, &graph.features)? < 1e-5);
            assert_eq!(passes.statistics.len(), graph.statistics.len());
            for ((at, a), (as_at, b)) in passes.statistics.iter().zip(&graph.statistics) {
                assert!(at == as_at && off(a, b)? < 1e-5);
            }
            let [mut own, mut composed] = [Gradients::none(&model.params)?, Gradients::none(&model.params)?];
            // Twice: gradients are added.
            for _ in 0..2 {
                passes.learn(&cotangent, &mut own)?;
                graph.learn(&cotangent, &mut composed)?;
            }
            assert_eq!(own.present(), composed.present());
            for index in 0..model.params.len() {
                let Some((a, b)) = own.get(index)?.zip(composed.get(index)?) else { continue };
                assert!(off(&a, &b)? < 1e-5, "{}", model.params.get(index).name);
            }
        }
        Ok(())
    }

    #[test]
    fn a_resnet_learns_in_the_graph() -> Result<()> {
        let backbone = Backbone::Resnet(Resnet::new(Block::Basic, [1; 4], 2, [2, 2, 4, 4], 64));
        let mut parameters = Vec::new();
        let mut add = |name: &str, dims: &[usize], part, value: Tensor| {
            parameters.push(NewParameter { name: name.into(), role: name.into(), part, value: value.reshape(dims)? });
            Ok::<usize, Error>(parameters.len() - 1)
        };
        let mut indices = Vec::new();
        for BackboneTensor { name, dims, kind } in backbone.tensors() {
            let count = dims.iter().product();
            let value = Tensor::from_vec(kind.initial(count, &mut Stream::new(1, &name, 0, 0)), count, &Device::Cpu)?;
            indices.push(add(&name, &dims, if kind.is_learned() { Part::Encoder } else { Part::Fixed }, value)?);
        }
        let (inputs, ones) = (backbone.features(), Tensor::ones(5, DType::F32, &Device::Cpu)?);
        let linear = [
            add("weight", &[5, inputs], Part::Encoder, normal(&[5 * inputs], "weight"))?,
            add("bias", &[5], Part::Encoder, ones.clone())?,
        ];
        let norm = [("scale", Part::Encoder), ("shift", Part::Encoder), ("mean", Part::Fixed), ("var", Part::Fixed)];
        let norm = norm.map(|(name, part)| add(name, &[5], part, ones.clone()));
        let [scale, shift, mean, variance] = norm;
        let layout = EncoderLayout { backbone: indices, linear, norm: [scale?, shift?, mean?, variance?] };
        let params = ParamStore::new(parameters, &Device::Cpu)?;
        let encoder = Encoder { backbone: Some(backbone), learns: true, layout };
        let encoded = encoder.encode(&params, &normal(&[3, 3, 64, 64], "pictures"), true)?;
        let mut gradients = Gradients::none(&params)?;
        encoded.learn(&normal(&[3, 5], "cotangent"), &mut gradients)?;
        let mut moved: Vec<usize> = encoded.statistics.iter().map(|(index, _)| *index).collect();
        moved.sort_unstable();
        let fixed = |index: &usize| params.get(*index).part == Part::Fixed;
        assert_eq!(moved, (0..params.len()).filter(fixed).collect::<Vec<_>>());
        for (index, present) in gradients.present().iter().enumerate() {
            assert_eq!(*present, !fixed(&index), "{}", params.get(index).name);
        }
        Ok(())
    }

    #[test]
    fn statistics_change_only_in_training_of_an_encoder_that_learns() -> Result<()> {
        for (trainable, moving, learned) in [("all", true, true), ("projection", true, true), ("none", false, false)] {
            let model = model(trainable);
            let encoder = model.encoder.as_ref().unwrap();
            let dims = if trainable == "all" { vec![4, 3, SIDE, SIDE] } else { vec![4, 4 * 16] };
            let seen = normal(&dims, "pictures");
            assert!(encoder.encode(&model.params, &seen, false)?.statistics.is_empty());
            let encoded = encoder.encode(&model.params, &seen, true)?;
            assert_eq!((!encoded.statistics.is_empty(), encoded.learns()), (moving, learned), "{trainable}");
            let evaluated = encoder.encode(&model.params, &seen, false)?.features;
            model.note_statistics(&encoded.statistics)?;
            let after = encoder.encode(&model.params, &seen, false)?.features;
            assert_eq!(after.to_vec2::<f32>()? != evaluated.to_vec2::<f32>()?, moving);
        }
        Ok(())
    }

    #[test]
    fn images_of_another_shape_are_refused() {
        let model = model("all");
        let encoder = model.encoder.as_ref().unwrap();
        assert!(encoder.encode(&model.params, &normal(&[4, 36], "features"), true).is_err());
    }
}
