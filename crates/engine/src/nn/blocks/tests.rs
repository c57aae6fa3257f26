use candle_core::{DType, Device, Var};

use super::*;
use crate::error::Error;

fn no_mask(_: f64, _: &[usize]) -> Result<Tensor> {
    Err(Error::Training("nothing is dropped here".into()))
}

fn numbers(dims: &[usize], purpose: &str) -> Tensor {
    let values = init::uniform(&mut Stream::new(1, purpose, 0, 0), dims.iter().product(), 1.0);
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

/// Each block with the shape of its samples.
fn blocks() -> Vec<(Box<dyn Block>, Vec<usize>)> {
    vec![
        (Box::new(Linear { units: Some(4), bias: true }), vec![5]),
        (Box::new(Linear { units: None, bias: false }), vec![5]),
        (Box::new(Conv { channels: 3, kernel: 3, stride: 2, padding: 1, bias: true }), vec![2, 6, 5]),
        (Box::new(Conv { channels: 2, kernel: 2, stride: 1, padding: 0, bias: false }), vec![2, 4, 4]),
        (Box::new(BatchNorm { running_momentum: 0.1 }), vec![5]),
        (Box::new(BatchNorm { running_momentum: 0.3 }), vec![2, 3, 3]),
        (Box::new(Relu {}), vec![7]),
        (Box::new(Tanh {}), vec![2, 2, 2]),
        (Box::new(Pool { size: 2 }), vec![2, 5, 4]),
        (Box::new(Flatten {}), vec![2, 3, 2]),
    ]
}

#[test]
fn outputs_have_the_declared_shape_and_gradients_are_those_of_finite_differences() {
    for (block, input) in blocks() {
        let mut dims = vec![6];
        dims.extend(&input);
        let x = Var::from_tensor(&numbers(&dims, "x")).unwrap();
        let shapes = block.parameters(&input, 3);
        let parameters: Vec<Var> =
            shapes.iter().map(|p| Var::from_tensor(&(numbers(&p.dims, p.name) + 1.5).unwrap()).unwrap()).collect();
        let output = |x: &Tensor, parameters: &[Var]| {
            let parameters: Vec<Tensor> = parameters.iter().map(|p| p.as_tensor().clone()).collect();
            block.forward(&parameters, x, &mut BlockPass::new(Mode::Train, &no_mask)).unwrap()
        };
        let y = output(&x, &parameters);
        assert_eq!(y.dims()[1..], block.output(&input, 3).unwrap(), "{block:?}");
        let weights = numbers(y.dims(), "cotangent");
        let value = |y: Tensor| {
            let y = (y.to_dtype(DType::F64).unwrap() * weights.to_dtype(DType::F64).unwrap()).unwrap();
            y.sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        let gradients = (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        for (at, var) in parameters.iter().chain([&x]).enumerate() {
            if shapes.get(at).is_some_and(|shape| !shape.learned) {
                assert!(gradients.get(var).is_none(), "{block:?}: a statistic learns");
                continue;
            }
            let gradient = gradients.get(var).unwrap();
            let norm = f64::from(gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt();
            let before = var.as_tensor().copy().unwrap();
            let ends = [1.0, -1.0].map(|sign| {
                var.set(&(&before + (gradient * (sign * 1e-3 / norm)).unwrap()).unwrap()).unwrap();
                value(output(&x, &parameters))
            });
            var.set(&before).unwrap();
            let slope = (ends[0] - ends[1]) / 2e-3;
            assert!((slope / norm - 1.0).abs() < 0.03, "{block:?}, {at}: {slope} {norm}");
        }
    }
}

#[test]
fn dropout_multiplies_by_the_mask_in_training_alone() {
    let x = numbers(&[2, 3, 2, 2], "x");
    let mask = Tensor::new(&[[0f32, 2., 2.], [2., 0., 2.]], &Device::Cpu).unwrap();
    let draw = |p: f64, dims: &[usize]| {
        assert_eq!((p, dims), (0.5, &[2, 3][..]));
        Ok(mask.clone())
    };
    let block = Dropout { p: 0.5, channels: true };
    let run = |mode| block.forward(&[], &x, &mut BlockPass::new(mode, &draw)).unwrap();
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(flat(&run(Mode::Evaluate)), flat(&x));
    let dropped = flat(&run(Mode::Train));
    for (at, (y, x)) in dropped.iter().zip(flat(&x)).enumerate() {
        let factor = [[0., 2., 2.], [2., 0., 2.]][at / 12][at / 4 % 3];
        assert_eq!(*y, x * factor);
    }
}

#[test]
fn samples_of_another_shape_are_refused() {
    for (block, input, says) in [
        (Box::new(Linear { units: Some(2), bias: true }) as Box<dyn Block>, vec![1, 2, 2], "add a `flatten` block"),
        (Box::new(Conv { channels: 1, kernel: 3, stride: 1, padding: 0, bias: true }), vec![9], "expected images"),
        (Box::new(Conv { channels: 1, kernel: 3, stride: 1, padding: 0, bias: true }), vec![1, 2, 5], "does not fit"),
        (Box::new(Pool { size: 4 }), vec![1, 3, 8], "do not fit"),
        (Box::new(Dropout { p: 0.1, channels: true }), vec![9], "expected images"),
    ] {
        let error = block.output(&input, 2).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}
