//! ResNets: small ones with stored weights, large ones with weights from a formula, and torchvision's lists of names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ccdni::data::images::View;
use ccdni::nn::backbone::{Backbone, BackboneTensor, Block, Mode, Resnet, from_encoder_name, to_encoder_name};
use ccdni::nn::{Head, Linear};
use image::RgbImage;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::super::{assert_close, json_files, read_tensors, stem, tensor};
use super::{Outcome, failing, list, not_covered, number, read_json, same, text, wholes};

/// Largest error over the largest number, in evaluation and with batch statistics.
const EVALUATION: f64 = 1e-4;
const TRAINING: f64 = 1e-3;

type Tensors = HashMap<String, Tensor>;

/// One test per network, and one per list of names; networks whose files are not there are named.
pub fn trials(dir: &Path) -> Vec<Trial> {
    let mut trials = Vec::new();
    let lists: Vec<PathBuf> = json_files(dir).into_iter().filter(|path| stem(path).ends_with(".keys")).collect();
    if lists.is_empty() {
        not_covered("caption/resnet/*.keys", "is not in this directory");
    }
    for path in lists {
        trials.push(Trial::test(format!("caption/resnet/{}", stem(&path)), move || names(&path)));
    }
    let path = dir.join("resnet.json");
    if !path.exists() {
        not_covered("caption/resnet", "resnet.json is not in this directory");
        return trials;
    }
    let cases = match read_json(&path) {
        Ok(cases) => cases,
        Err(error) => return vec![failing("caption/resnet", format!("{error:?}"))],
    };
    for case in cases["small"].as_array().into_iter().flatten().cloned() {
        let name = case["name"].as_str().unwrap_or("?").to_owned();
        let [weights, io] = ["weights", "io"].map(|key| dir.join(case[key].as_str().unwrap_or("?")));
        trials.extend(covered(&name, &[&weights.clone(), &io.clone()], move || small(&case, &weights, &io)));
    }
    for case in cases["formula"].as_array().into_iter().flatten().cloned() {
        let name = format!("formula/{}", case["name"].as_str().unwrap_or("?"));
        let path = dir.join("formula.safetensors");
        trials.extend(covered(&name, &[&path.clone()], move || formula(&case, &path)));
    }
    trials
}

fn covered(name: &str, files: &[&PathBuf], check: impl FnOnce() -> Outcome + Send + 'static) -> Option<Trial> {
    let name = format!("caption/resnet/{name}");
    match files.iter().find(|file| !file.exists()) {
        Some(file) => {
            not_covered(&name, &format!("{} is not there", file.display()));
            None
        }
        None => Some(Trial::test(name, check)),
    }
}

/// Fails if shapes differ, or any number is off by more than `tolerance` of the largest.
fn near(what: &str, actual: &Tensor, expected: &Tensor, tolerance: f64) -> Outcome {
    let largest = expected.to_dtype(DType::F64)?.abs()?.max_all()?.to_scalar::<f64>()?;
    assert_close(what, actual, expected, tolerance * largest)
}

/// Names, order and shapes of a state dict; and names with the encoder's prefix.
fn names(path: &Path) -> Outcome {
    let case = read_json(path)?;
    let depth = text(&case, "/meta/model")?.strip_prefix("resnet").ok_or("not a ResNet")?.parse()?;
    let net = Backbone::Resnet(Resnet::standard(depth).ok_or("no such depth")?);
    let own: Vec<(String, Vec<usize>)> = net.tensors().into_iter().map(|tensor| (tensor.name, tensor.dims)).collect();
    let mut expected = Vec::new();
    for tensor in list(&case, "/tensors")? {
        let name = text(tensor, "/name")?;
        if !name.starts_with("fc.") && !name.ends_with("num_batches_tracked") {
            let shape = wholes(tensor, "/shape")?;
            expected.push((name.to_owned(), shape));
        }
    }
    same("names and shapes", &own, &expected)?;
    for (name, _) in own {
        let (child, rest) = name.split_once('.').ok_or("a name without a point")?;
        let prefixed = format!("{}.{rest}", text(&case, &format!("/encoder_prefix/{child}"))?);
        same("the encoder's name", &to_encoder_name(&name), &Some(prefixed.clone()))?;
        same("torchvision's name", &from_encoder_name(&prefixed), &Some(name))?;
    }
    Ok(())
}

fn network(case: &Value, stem: usize, planes: [usize; 4]) -> Result<Backbone, Failed> {
    let block = match text(case, "/block")? {
        "BasicBlock" => Block::Basic,
        "Bottleneck" => Block::Bottleneck,
        block => return Err(format!("a block of unknown kind `{block}`").into()),
    };
    let layers = wholes(case, "/layers")?.try_into().map_err(|_| "not four stages")?;
    let width = number(case, "/width_per_group")? as usize;
    Ok(Backbone::Resnet(Resnet::new(block, layers, stem, planes, width)))
}

fn small(case: &Value, weights: &Path, io: &Path) -> Outcome {
    let planes = wholes(case, "/planes")?.try_into().map_err(|_| "not four stages")?;
    let net = network(case, number(case, "/stem_width")? as usize, planes)?;
    let (weights, io) = (read_tensors(weights)?, read_tensors(io)?);
    let names = net.tensors();
    let tensors: Vec<Tensor> =
        names.iter().map(|t| tensor(&weights, &t.name).cloned()).collect::<Result<_, Failed>>()?;

    let input = tensor(&io, "input")?;
    assert_close("input", &normalised(tensor(&io, "image_u8")?.unsqueeze(0)?)?, input, 1e-6)?;
    let (single, stages) = net.forward_with_stages(&tensors, input, Mode::Evaluate)?;
    near("features", &single.features, tensor(&io, "features")?, EVALUATION)?;
    same("stages", &stages.len(), &5)?;
    for (name, stage) in stages {
        near(&name, &stage, tensor(&io, &format!("out.{name}"))?, EVALUATION)?;
    }
    let batch = normalised(tensor(&io, "batch.image_u8")?.clone())?;
    let features = net.forward(&tensors, &batch, Mode::Evaluate)?.features;
    near("batch", &features, tensor(&io, "batch.features")?, EVALUATION)?;
    head(&io)?;

    let trained = net.forward(&tensors, &batch, Mode::Train)?;
    near("batch statistics", &trained.features, tensor(&io, "batch.features_bn_train")?, TRAINING)?;
    for (name, expected) in [("running_mean", "mean"), ("running_var", "var")] {
        let index = names.iter().position(|tensor| tensor.name == format!("bn1.{name}"));
        let moved = trained.statistics.iter().find(|(at, _)| Some(*at) == index).ok_or("statistics did not move")?;
        near(name, &moved.1, tensor(&io, &format!("batch.bn1_running_{expected}_after"))?, EVALUATION)?;
    }
    same("statistics", &trained.statistics.len(), &(names.len() / 5 * 2))
}

/// Images `[batch, height, width, 3]` as the backbone reads them.
fn normalised(images: Tensor) -> Result<Tensor, Failed> {
    let (batch, height, width, _) = images.dims4()?;
    let side = largest_square(height, width);
    let mut whole = Vec::new();
    for index in 0..batch {
        let bytes = images.get(index)?.flatten_all()?.to_vec1::<u8>()?;
        let image = RgbImage::from_raw(width as u32, height as u32, bytes).ok_or("not an image")?;
        let square = |left: usize, top: usize| -> Result<Tensor, Failed> {
            let mut pixels = vec![0.0; 3 * side * side];
            View { left, top, size: side, mirrored: false }.write(&image, &mut pixels)?;
            Ok(Tensor::from_vec(pixels, (3, side, side), &Device::Cpu)?)
        };
        let row = |top: usize| -> Result<Tensor, Failed> {
            let squares = (0..width).step_by(side).map(|left| square(left, top));
            Ok(Tensor::cat(&squares.collect::<Result<Vec<_>, _>>()?, 2)?)
        };
        let rows = (0..height).step_by(side).map(row);
        whole.push(Tensor::cat(&rows.collect::<Result<Vec<_>, _>>()?, 1)?);
    }
    Ok(Tensor::stack(&whole, 0)?)
}

/// The side of the largest squares that make up a rectangle: the greatest common divisor.
fn largest_square(height: usize, width: usize) -> usize {
    if width == 0 { height } else { largest_square(width, height % width) }
}

fn head(io: &Tensors) -> Outcome {
    let of = |name: &str| tensor(io, &format!("head.{name}")).cloned();
    let head = Head {
        linear: Linear { weight: of("linear.weight")?, bias: of("linear.bias")? },
        scale: of("bn.weight")?,
        shift: of("bn.bias")?,
        mean: of("bn.running_mean")?,
        variance: of("bn.running_var")?,
    };
    let features = tensor(io, "batch.features")?;
    let (out, _) = head.forward(features, Mode::Evaluate)?;
    near("head in evaluation", &out, tensor(io, "batch.head_eval")?, EVALUATION)?;
    let (out, statistics) = head.forward(features, Mode::Train)?;
    near("head in training", &out, tensor(io, "batch.head_train")?, EVALUATION)?;
    let statistics = statistics.ok_or("the head's statistics did not move")?;
    near("mean", &statistics.mean, tensor(io, "batch.running_mean_after")?, EVALUATION)?;
    near("variance", &statistics.variance, tensor(io, "batch.running_var_after")?, EVALUATION)
}

fn formula(case: &Value, path: &Path) -> Outcome {
    let net = network(case, 64, [64, 128, 256, 512])?;
    let io = read_tensors(path)?;
    let tensors = net.tensors();
    let last = if text(case, "/block")? == "Bottleneck" { ".bn3." } else { ".bn2." };
    check_formula(case, &tensors, last)?;
    let values =
        tensors.iter().map(|t| Ok(Tensor::from_vec(by_formula(&t.name, &t.dims, last), &*t.dims, &Device::Cpu)?));
    let values: Vec<Tensor> = values.collect::<Result<_, Failed>>()?;
    let (out, stages) = net.forward_with_stages(&values, tensor(&io, "input")?, Mode::Evaluate)?;
    for (name, stage) in &stages {
        let expected = number(case, &format!("/layer_mean_abs/{name}"))?;
        let mean = f64::from(stage.abs()?.mean_all()?.to_scalar::<f32>()?);
        if (mean / expected - 1.0).abs() > EVALUATION {
            return Err(format!("{name}: the mean size is {mean}, expected {expected}").into());
        }
    }
    let name = text(case, "/name")?;
    near("features", &out.features, tensor(&io, &format!("{name}.features"))?, EVALUATION)
}

/// Holds the formula itself against the numbers that the case has of some tensors.
fn check_formula(case: &Value, tensors: &[BackboneTensor], last: &str) -> Outcome {
    let checks = case["tensor_checks"].as_object().ok_or("no tensors to check")?;
    for (name, check) in checks {
        let dims = wholes(check, "/shape")?;
        if let Some(tensor) = tensors.iter().find(|tensor| tensor.name == *name) {
            same(name, &tensor.dims, &dims)?;
        }
        let values = by_formula(name, &dims, last);
        let first = list(check, "/first4")?.iter().filter_map(Value::as_f64);
        let expected = first.chain([number(check, "/last")?]);
        let found = values.iter().take(4).chain(values.last()).map(|&value| f64::from(value));
        let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
        let off = found.zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        if off > 1e-8 || (sum - number(check, "/sum_f64")?).abs() > 1e-6 {
            return Err(format!("the formula of {name}: off by {off}, or the sum {sum} is another").into());
        }
    }
    Ok(())
}

/// The values that a tensor of this name and shape has by the formula of `golden/caption/README.md`, section 5; the last
/// normalisation of a block is called `last`.
fn by_formula(name: &str, dims: &[usize], last: &str) -> Vec<f32> {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let fan_in: usize = dims.iter().skip(1).product();
    let value = |u: f64| -> f64 {
        let t = 2.0 * u - 1.0;
        match name {
            "fc.weight" => t / (fan_in as f64).sqrt(),
            _ if dims.len() == 4 => t * (6.0 / fan_in as f64).sqrt(),
            _ if name.ends_with("running_var") => 0.75 + 0.5 * u,
            _ if name.ends_with("running_mean") || name.ends_with("bias") => 0.1 * t,
            _ if name.contains(last) => 0.25 * (0.75 + 0.5 * u),
            _ => 0.75 + 0.5 * u,
        }
    };
    let count: usize = dims.iter().product();
    let number = |i: usize| {
        let mut z = hash.wrapping_add((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        value((z >> 40) as f64 / 16_777_216.0) as f32
    };
    (1..=count).map(number).collect()
}
