use candle_core::Device;

use super::*;

fn numbers(dims: &[usize], purpose: &str) -> Tensor {
    let values = init::uniform(&mut Stream::new(1, purpose, 0, 0), dims.iter().product(), 1.0);
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
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
