//! Blocks: shapes, gradients against finite differences, evaluation row by row, and weights that are saved and loaded.

use candle_core::{DType, Device, Tensor, Var};
use serde_json::{Value, json};

use super::{BATCH_SIZE, broken, check_keys, learning, read};
use crate::data::digits::{Glyphs, Source};
use crate::error::{Error, Result};
use crate::nn::blocks::{Block, BlockParameter, BlockPass};
use crate::nn::{Mode, init};
use crate::plugins::{Catalogue, Plugin};
use crate::rng::Stream;
use crate::spec::Spec;
use crate::tasks::{Classify, Task};
use crate::train::Plugins;

const ROWS: usize = 6;
const TARGETS: usize = 3;
/// The samples that a block may read: vectors, and feature maps.
const SAMPLES: [&[usize]; 2] = [&[6], &[2, 7, 7]];

/// Checks that a block of feed-forward networks meets the requirements of the rest of the crate.
///
/// `keys` are those of the block in its table, without `kind`. It has to take vectors of 6 numbers, or maps of 2 channels and 7 x 7
/// pixels; what follows is checked with each that it takes:
///
/// - the keys, as those of a task;
/// - its parameters have distinct names, nonzero sizes and finite initial values;
/// - outputs have the shape of [`Block::output`] in training and in evaluation, and are finite;
/// - gradients of all learned parameters and of the input agree with finite differences;
/// - running statistics are noted in training alone, keep their shape, and have no gradient;
/// - in evaluation each row depends on that row alone, and nothing is drawn;
/// - a small network with the block: every parameter learns, a run that is stopped and resumed ends with the same bits, and saved
///   weights, loaded into another network, measure the same.
///
/// # Errors
/// [`Error::Training`] with the first violation, or an error of the block itself.
///
/// ```
/// # fn main() -> ccdni::Result<()> {
/// ccdni::testing::check_block::<ccdni::nn::blocks::Linear>(serde_json::json!({"units": 4}))
/// # }
/// ```
pub fn check_block<B: Plugin + Block>(keys: Value) -> Result<()> {
    let filled = check_keys::<B>(keys)?;
    let block = read::<B>(filled.clone())?;
    let mut refusals = Vec::new();
    for sample in SAMPLES {
        match block.output(sample, TARGETS) {
            Ok(output) => {
                Check::new(B::KIND, &block, sample, output)?.run()?;
                check_learning::<B>(&filled, sample)?;
            }
            Err(why) => refusals.push(why),
        }
    }
    match refusals.len() == SAMPLES.len() || refusals.iter().any(String::is_empty) {
        true => Err(broken(B::KIND, format!("takes neither {SAMPLES:?}, or does not state why not: {refusals:?}"))),
        false => Ok(()),
    }
}

struct Check<'a> {
    kind: &'static str,
    block: &'a dyn Block,
    shapes: Vec<BlockParameter>,
    /// `[ROWS, ...output]`
    output: Vec<usize>,
    parameters: Vec<Var>,
    /// `[ROWS, ...sample]`
    x: Var,
}

impl<'a> Check<'a> {
    fn new(kind: &'static str, block: &'a dyn Block, sample: &[usize], output: Vec<usize>) -> Result<Self> {
        let shapes = block.parameters(sample, TARGETS);
        for (index, shape) in shapes.iter().enumerate() {
            let name = shape.name;
            if name.is_empty() || shapes[..index].iter().any(|other| other.name == name) {
                return Err(broken(kind, format!("has two parameters `{name}`, or one without a name")));
            }
            if shape.dims.contains(&0) || !initial(shape).iter().all(|value| value.is_finite()) {
                return Err(broken(kind, format!("`{name}` is empty, or not finite at first")));
            }
        }
        let near_initial = |shape: &BlockParameter| -> Result<Var> {
            let start = Tensor::from_vec(initial(shape), shape.dims.as_slice(), &Device::Cpu)?;
            Ok(Var::from_tensor(&(start + (random(&shape.dims, shape.name)? * 0.5)?)?)?)
        };
        let parameters = shapes.iter().map(near_initial).collect::<Result<_>>()?;
        let x = Var::from_tensor(&random(&rows_of(sample), "x")?)?;
        Ok(Check { kind, block, shapes, output: rows_of(&output), parameters, x })
    }

    fn run(&self) -> Result<()> {
        let (y, statistics) = self.forward(Mode::Train)?;
        for (place, value) in statistics {
            if self.shapes.get(place).is_none_or(|shape| shape.learned || shape.dims != value.dims()) {
                return Err(broken(self.kind, format!("notes a statistic of shape {:?} at {place}", value.dims())));
            }
        }
        self.differences(&y)?;
        self.evaluation()
    }

    fn values(&self) -> Vec<Tensor> {
        self.parameters.iter().map(|parameter| parameter.as_tensor().clone()).collect()
    }

    /// The output, after its shape and values were checked, and the statistics that were noted.
    fn forward(&self, mode: Mode) -> Result<(Tensor, Vec<(usize, Tensor)>)> {
        let draw = |p: f64, dims: &[usize]| match mode {
            Mode::Train => Ok(((random(dims, "mask")? * 0.5)? + 0.5)?.ge(p)?.to_dtype(DType::F32)?),
            Mode::Evaluate => Err(broken(self.kind, "draws a mask in evaluation")),
        };
        let mut pass = BlockPass::new(mode, &draw);
        let y = self.block.forward(&self.values(), self.x.as_tensor(), &mut pass)?;
        if y.dims() != self.output {
            return Err(broken(self.kind, format!("gives {:?}, and declares {:?}", y.dims(), self.output)));
        }
        match y.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
            true => Ok((y, pass.into_statistics())),
            false => Err(broken(self.kind, "gives numbers that are not finite")),
        }
    }

    /// Central differences along each gradient.
    fn differences(&self, y: &Tensor) -> Result<()> {
        let cotangent = random(&self.output, "cotangent")?;
        let value = || -> Result<f64> {
            let y = self.forward(Mode::Train)?.0.to_dtype(DType::F64)?;
            Ok((y * cotangent.to_dtype(DType::F64)?)?.sum_all()?.to_scalar()?)
        };
        let store = (y * &cotangent)?.sum_all()?.backward()?;
        let named = self.shapes.iter().map(|shape| (shape.name, shape.learned)).chain([("the input", true)]);
        for ((name, learned), var) in named.zip(self.parameters.iter().chain([&self.x])) {
            let gradient = match (store.get(var), learned) {
                (Some(gradient), true) => gradient,
                (None, false) => continue,
                (Some(_), false) => return Err(broken(self.kind, format!("the statistic `{name}` has a gradient"))),
                (None, true) => return Err(broken(self.kind, format!("there is no gradient of {name}"))),
            };
            let norm = f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt();
            if norm < 1e-6 {
                continue;
            }
            let before = var.as_tensor().copy()?;
            let mut ends = [0.0; 2];
            for (end, sign) in ends.iter_mut().zip([1.0, -1.0]) {
                var.set(&(&before + (gradient * (sign * 1e-3 / norm))?)?)?;
                *end = value()?;
            }
            var.set(&before)?;
            let slope = (ends[0] - ends[1]) / 2e-3;
            let off = (slope / norm - 1.0).abs();
            if off.is_nan() || off > 0.03 {
                return Err(broken(self.kind, format!("the gradient of {name} is {norm}, and the slope {slope}")));
            }
        }
        Ok(())
    }

    fn evaluation(&self) -> Result<()> {
        let (all, statistics) = self.forward(Mode::Evaluate)?;
        if !statistics.is_empty() {
            return Err(broken(self.kind, "notes statistics in evaluation"));
        }
        let nothing = |_: f64, _: &[usize]| Err(Error::Training("a mask in evaluation".into()));
        let some = self.x.narrow(0, 2, 3)?;
        let some = self.block.forward(&self.values(), &some, &mut BlockPass::new(Mode::Evaluate, &nothing))?;
        let off = (some - all.narrow(0, 2, 3)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        let scale = all.abs()?.max_all()?.to_scalar::<f32>()?;
        match off <= 1e-5 * (1.0 + scale) {
            true => Ok(()),
            false => Err(broken(self.kind, format!("a row in evaluation depends on others, by up to {off}"))),
        }
    }
}

/// Trains a small network with the block, which reads samples of this shape.
fn check_learning<B: Plugin + Block>(keys: &Value, sample: &[usize]) -> Result<()> {
    let mut plugins = Plugins::built_in();
    if !plugins.model.blocks.kinds().contains(&B::KIND) {
        plugins.model.blocks.register::<B>(|block| Box::new(block));
    }
    let mut block = keys.clone();
    block["kind"] = json!(B::KIND);
    let below = match *sample {
        [width] => json!([{ "kind": "flatten" }, { "kind": "linear", "units": width }]),
        _ => json!([{ "kind": "pool", "size": 4 }, { "kind": "conv", "channels": sample[0], "kernel": 1 }]),
    };
    let mut blocks = below.as_array().cloned().unwrap_or_default();
    blocks.extend([block, json!({ "kind": "flatten" }), json!({ "kind": "linear" })]);
    let task = Classify { source: Source::Glyphs(Glyphs { train: 12, test: 4, draw: 1 }), ..Classify::default() };
    let spec: Spec = serde_json::from_value(json!({
        "task": { "kind": Classify::KIND },
        "model": { "blocks": blocks },
        "train": { "epochs": 2, "batch_size": BATCH_SIZE, "optimizer": { "kind": "adam", "lr": 0.01 } },
    }))
    .map_err(|error| broken(B::KIND, format!("has keys that a spec cannot hold: {error}")))?;
    learning::check(B::KIND, &plugins, &spec, &task.shape(), &|seed| task.open(seed))
}

fn rows_of(sample: &[usize]) -> Vec<usize> {
    [&[ROWS], sample].concat()
}

fn initial(shape: &BlockParameter) -> Vec<f32> {
    let count = shape.dims.iter().product();
    shape.initial.values(&mut Stream::new(1, "testing.block", 0, 0), count)
}

fn random(dims: &[usize], purpose: &str) -> Result<Tensor> {
    let values = init::uniform(&mut Stream::new(1, purpose, 0, 0), dims.iter().product(), 1.0);
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::nn::blocks::{BatchNorm, Conv, Dropout, Flatten, Initial, Linear, Pool, Relu, Tanh};

    #[test]
    fn every_block_of_the_engine_conforms() -> Result<()> {
        check_block::<Linear>(json!({ "units": 4 }))?;
        check_block::<Linear>(json!({ "bias": false }))?;
        check_block::<Conv>(json!({ "channels": 3, "kernel": 3, "stride": 2, "padding": 1 }))?;
        check_block::<Conv>(json!({ "channels": 2, "kernel": 2, "bias": false }))?;
        check_block::<BatchNorm>(json!({}))?;
        check_block::<BatchNorm>(json!({ "running_momentum": 0.3 }))?;
        check_block::<Relu>(json!({}))?;
        check_block::<Tanh>(json!({}))?;
        check_block::<Pool>(json!({ "size": 2 }))?;
        check_block::<Dropout>(json!({ "p": 0.3 }))?;
        check_block::<Dropout>(json!({ "channels": true }))?;
        check_block::<Flatten>(json!({}))
    }

    /// A factor per feature, with a fault by number.
    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Faulty<const FAULT: usize> {}

    impl<const FAULT: usize> Plugin for Faulty<FAULT> {
        const KIND: &'static str = "faulty";
        const ABOUT: &'static str = "a block with a fault";
    }

    impl<const FAULT: usize> Block for Faulty<FAULT> {
        fn output(&self, input: &[usize], _: usize) -> Result<Vec<usize>, String> {
            match (input, FAULT) {
                ([width], 1) => Ok(vec![width + 1]),
                ([width], 2..) => Ok(vec![*width]),
                ([_], _) => Err(String::new()),
                _ => Err("expected vectors".into()),
            }
        }

        fn parameters(&self, input: &[usize], _: usize) -> Vec<BlockParameter> {
            let initial = Initial::Constant(1.0);
            vec![BlockParameter { name: "factor", dims: input.to_vec(), initial, learned: true }]
        }

        fn forward(&self, parameters: &[Tensor], x: &Tensor, pass: &mut BlockPass<'_>) -> Result<Tensor> {
            let factor = if FAULT == 2 { parameters[0].detach() } else { parameters[0].clone() };
            let y = x.broadcast_mul(&factor)?;
            match FAULT {
                3 => Ok((&y + (&y - y.detach())?)?),
                4 if pass.mode == Mode::Evaluate => Ok(y.broadcast_sub(&y.mean_keepdim(0)?)?),
                5 if pass.mode == Mode::Evaluate => Ok((&y * pass.mask(0.5, y.dims())?)?),
                _ => Ok(y),
            }
        }
    }

    #[test]
    fn faults_are_found() {
        let checks = [
            check_block::<Faulty<0>>,
            check_block::<Faulty<1>>,
            check_block::<Faulty<2>>,
            check_block::<Faulty<3>>,
            check_block::<Faulty<4>>,
            check_block::<Faulty<5>>,
        ];
        let says =
            ["takes neither", "declares", "no gradient of factor", "the slope", "depends on others", "in evaluation"];
        for (check, says) in checks.into_iter().zip(says) {
            let error = check(json!({})).unwrap_err().to_string();
            assert!(error.contains("`faulty`") && error.contains(says), "{says}: {error}");
        }
    }
}
