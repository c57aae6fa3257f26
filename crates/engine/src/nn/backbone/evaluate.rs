//! A ResNet on slices on the CPU, image by image, without gradients.
//!
//! Normalisation, residual sum and rectifier are one pass over a tile of a convolution's output while it is in the cache.
//! Weights are not copied.

use candle_core::{DType, Device, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use super::resnet::{ConvNorm, Residual, Resnet};
use super::{Activations, Stages};
use crate::error::Result;
use crate::nn::batch_norm::EPSILON;
use crate::nn::kernel::Threads;
use crate::nn::kernel::convolution::{Convolution, Finish, Scratch};
use crate::nn::kernel::window::{Plane, largest};
use crate::nn::pool::POOL;
use crate::nn::slices;

/// Whether the images are f32 on the CPU.
pub(super) fn is_for(pixels: &Tensor) -> bool {
    pixels.device().is_cpu() && pixels.dtype() == DType::F32
}

pub(super) fn forward(
    net: &Resnet,
    tensors: &[Tensor],
    pixels: &Tensor,
    stages: Option<&mut Stages>,
) -> Result<Activations> {
    let tensors: Vec<Tensor> = tensors.iter().map(Tensor::contiguous).collect::<candle_core::Result<_>>()?;
    let numbers: Vec<slices::Slice<'_>> = tensors.iter().map(slices::read).collect::<Result<_>>()?;
    let weights: Vec<&[f32]> = numbers.iter().map(|slice| &**slice).collect();
    let affine = net.units().map(|unit| Affine::new(unit, &weights)).collect();
    let network = Network { net, weights, affine, arch: Arch::new() };

    let pixels = pixels.contiguous()?;
    let (batch, channels, height, width) = pixels.dims4()?;
    let plane = Plane { channels, height, width };
    let pixels = slices::read(&pixels)?;
    let images: Vec<&[f32]> = pixels.chunks_exact(plane.numbers()).collect();
    let mut features = vec![0.0; batch * net.features()];
    let recorded = stages.is_some();
    let work = |workspace: &mut Workspace, (image, out): (&&[f32], &mut [f32])| {
        network.image(image, plane, out, workspace, recorded)
    };
    let places = features.chunks_exact_mut(net.features());
    let all: Vec<Vec<(String, Plane, Vec<f32>)>> = match rayon::current_num_threads() {
        // One image at a time with all threads, where that keeps more of them busy.
        threads if batch < threads => {
            let mut workspace = Workspace::new(threads);
            images.iter().zip(places).map(|pair| work(&mut workspace, pair)).collect()
        }
        _ => {
            let places: Vec<&mut [f32]> = places.collect();
            images.par_iter().zip(places).map_init(|| Workspace::new(1), work).collect()
        }
    };
    if let Some(stages) = stages {
        stages.extend(joined(all)?);
    }
    let features = Tensor::from_vec(features, (batch, net.features()), &Device::Cpu)?;
    Ok(Activations { features, statistics: Vec::new() })
}

/// Concatenates the stages of images to stages of a batch.
fn joined(all: Vec<Vec<(String, Plane, Vec<f32>)>>) -> Result<Stages> {
    let mut stages: Vec<(String, Plane, usize, Vec<f32>)> = Vec::new();
    for (index, image) in all.into_iter().enumerate() {
        for (at, (name, plane, numbers)) in image.into_iter().enumerate() {
            match stages.get_mut(at) {
                Some(stage) => {
                    stage.2 = index + 1;
                    stage.3.extend(numbers);
                }
                None => stages.push((name, plane, 1, numbers)),
            }
        }
    }
    let tensor = |(name, plane, batch, numbers): (String, Plane, usize, Vec<f32>)| {
        let dims = (batch, plane.channels, plane.height, plane.width);
        Ok((name, Tensor::from_vec(numbers, dims, &Device::Cpu)?))
    };
    stages.into_iter().map(tensor).collect()
}

/// A normalisation with running statistics: `y ↦ y · scale + shift`.
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Affine {
    fn new(unit: &ConvNorm, weights: &[&[f32]]) -> Affine {
        let [scale, shift, mean, variance] = [1, 2, 3, 4].map(|offset| weights[unit.first + offset]);
        let scale: Vec<f32> =
            scale.iter().zip(variance).map(|(scale, variance)| scale / (variance + EPSILON as f32).sqrt()).collect();
        let shift = shift.iter().zip(mean).zip(&scale).map(|((shift, mean), scale)| shift - mean * scale).collect();
        Affine { scale, shift }
    }
}

struct Network<'a> {
    net: &'a Resnet,
    weights: Vec<&'a [f32]>,
    /// Per unit, in the order of tensors.
    affine: Vec<Affine>,
    arch: Arch,
}

/// Buffers, reused between layers and images.
struct Workspace {
    threads: Threads,
    scratch: Scratch,
    free: Vec<Vec<f32>>,
}

impl Workspace {
    fn new(threads: usize) -> Self {
        Workspace { threads: Threads(threads), scratch: Scratch::default(), free: Vec::new() }
    }

    /// A buffer of `count` values with unspecified contents.
    fn take(&mut self, count: usize) -> Vec<f32> {
        let fits = self.free.iter().position(|buffer| buffer.capacity() >= count);
        let mut buffer = fits.map_or_else(Vec::new, |at| self.free.swap_remove(at));
        buffer.resize(count, 0.0);
        buffer
    }
}

impl Network<'_> {
    fn image(
        &self,
        image: &[f32],
        plane: Plane,
        features: &mut [f32],
        work: &mut Workspace,
        recorded: bool,
    ) -> Vec<(String, Plane, Vec<f32>)> {
        let mut stages = Vec::new();
        let (stem, after) = self.unit(&self.net.stem, image, plane, None, true, work);
        let mut plane = after.after(POOL, after.channels);
        let mut x = work.take(plane.numbers());
        largest(&stem, after, POOL, &mut x);
        work.free.push(stem);
        let mut record = |name: String, plane: Plane, x: &[f32]| {
            if recorded {
                stages.push((name, plane, x.to_vec()));
            }
        };
        record("maxpool".into(), plane, &x);
        for (index, stage) in self.net.stages.iter().enumerate() {
            for block in stage {
                (x, plane) = self.block(block, x, plane, work);
            }
            record(format!("layer{}", index + 1), plane, &x);
        }
        for (feature, channel) in features.iter_mut().zip(x.chunks_exact(plane.pixels())) {
            *feature = (channel.iter().map(|&x| f64::from(x)).sum::<f64>() / channel.len() as f64) as f32;
        }
        work.free.push(x);
        stages
    }

    fn block(&self, block: &Residual, x: Vec<f32>, plane: Plane, work: &mut Workspace) -> (Vec<f32>, Plane) {
        let shortcut = block.shortcut.as_ref().map(|unit| self.unit(unit, &x, plane, None, false, work).0);
        let mut now: Option<(Vec<f32>, Plane)> = None;
        for (index, unit) in block.main.iter().enumerate() {
            let (before, before_plane) = now.as_ref().map_or((&x, plane), |(x, plane)| (x, *plane));
            let add = (index + 1 == block.main.len()).then(|| shortcut.as_ref().unwrap_or(&x).as_slice());
            let after = self.unit(unit, before, before_plane, add, true, work);
            work.free.extend(now.replace(after).map(|(before, _)| before));
        }
        work.free.extend(shortcut);
        match now {
            Some(after) => {
                work.free.push(x);
                after
            }
            None => (x, plane),
        }
    }

    fn unit(
        &self,
        unit: &ConvNorm,
        x: &[f32],
        plane: Plane,
        add: Option<&[f32]>,
        rectify: bool,
        work: &mut Workspace,
    ) -> (Vec<f32>, Plane) {
        let convolution = Convolution { plane, window: unit.window, outputs: unit.outputs };
        let after = convolution.after();
        let mut out = work.take(after.numbers());
        let affine = &self.affine[unit.first / 5];
        let finish = Finish { scale: Some(&affine.scale), shift: Some(&affine.shift), add, rectify };
        let weight = self.weights[unit.first];
        convolution.tile(self.arch, x, weight, finish, &mut out, &mut work.scratch, work.threads);
        (out, after)
    }
}
