//! Reports of a made-up run: every file is read back.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use ccdni::report;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// A finished unit with these validation errors, one per epoch, and its drawings moved by `shift`.
fn add_unit(run: &Path, seed: u64, errors: &[f64], shift: f32) -> PathBuf {
    let dir = run.join("seeds").join(seed.to_string());
    fs::create_dir_all(&dir).unwrap();
    let unit = json!({
        "seed": seed,
        "state": "done",
        "metrics": [{"name": "mse", "unit": "squared distance", "direction": "lower"}],
        "best_epoch": 2,
        "kept_epoch": errors.len(),
        "test": [0.25],
        "numerics": 1,
    });
    fs::write(dir.join("unit.json"), unit.to_string()).unwrap();
    let mut table = "seed,epoch,train_loss,train_loss_original,val_mse,seconds,cosine\n".to_owned();
    for (index, error) in errors.iter().enumerate() {
        table += &format!("{seed},{},{},{},{error},0.125,0.5\n", index + 1, error / 2.0, error / 4.0);
    }
    fs::write(dir.join("metrics.csv"), table).unwrap();

    let targets: Vec<f32> = vec![0., 0., 1., 0., 2., 0., 0., 0., 0., 1., 0., 2.]; // [2 patterns, 3 steps, 2]
    let bytes = |offset: f32| targets.iter().flat_map(|x| (x + offset).to_le_bytes()).collect::<Vec<u8>>();
    let (predictions, targets) = (bytes(shift), bytes(0.0));
    let view = |data| TensorView::new(Dtype::F32, vec![2, 3, 2], data).unwrap();
    let tensors = [("predictions", view(&predictions)), ("targets", view(&targets))];
    let metadata = HashMap::from([("labels".to_owned(), json!(["right", "up"]).to_string())]);
    fs::write(dir.join("showcase.safetensors"), safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap();
    dir
}

/// Seeds 7 and 12, the first of which stopped early; and what is no finished unit.
fn run() -> tempfile::TempDir {
    let run = tempfile::tempdir().unwrap();
    add_unit(run.path(), 12, &[4.0, 1.0, 2.0], 0.5);
    add_unit(run.path(), 7, &[3.0, 1.5], 0.25);
    fs::create_dir_all(run.path().join("seeds/3")).unwrap();
    fs::write(run.path().join("seeds/3/metrics.csv"), "an unfinished unit").unwrap();
    let old = add_unit(run.path(), 5, &[9.0, 9.0, 9.0, 9.0], 0.0);
    fs::rename(old, run.path().join("seeds/5.old")).unwrap();
    run
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn tables_hold_every_epoch_and_one_row_a_seed() {
    let run = run();
    report::write_all(run.path()).unwrap();
    let read = |name: &str| fs::read_to_string(run.path().join(name)).unwrap();
    assert_eq!(
        read("metrics.csv"),
        "seed,epoch,train_loss,train_loss_original,val_mse,seconds,cosine\n\
         7,1,1.5,0.75,3,0.125,0.5\n\
         7,2,0.75,0.375,1.5,0.125,0.5\n\
         12,1,2,1,4,0.125,0.5\n\
         12,2,0.5,0.25,1,0.125,0.5\n\
         12,3,1,0.5,2,0.125,0.5\n"
    );
    assert_eq!(
        read("results.csv"),
        "seed,epochs,best_epoch,kept_epoch,train_loss,train_loss_original,val_mse,best_val_mse,test_mse\n\
         7,2,2,2,0.75,0.375,1.5,1.5,0.25\n\
         12,3,2,3,1,0.5,2,1,0.25\n"
    );
}

#[test]
fn scores_are_padded_with_nan_and_name_their_axes() {
    let run = run();
    report::write_all(run.path()).unwrap();
    let scores = Tensor::read_npy(run.path().join("scores.npy")).unwrap();
    assert_eq!(scores.dims(), [2, 1, 4, 3]);
    let scores = scores.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let expected = [
        [0.75, 0.375, f64::NAN, 1.5, 0.75, f64::NAN, 3.0, 1.5, f64::NAN, 0.5, 0.5, f64::NAN],
        [1.0, 0.25, 0.5, 2.0, 0.5, 1.0, 4.0, 1.0, 2.0, 0.5, 0.5, 0.5],
    ]
    .concat();
    assert_eq!(scores.len(), expected.len());
    assert!(scores.iter().zip(&expected).all(|(a, b)| a == b || a.is_nan() && b.is_nan()), "{scores:?}");
    let axes = read_json(&run.path().join("scores.json"));
    assert_eq!(axes["axes"], json!(["seeds", "models", "metrics", "epochs"]));
    assert_eq!(axes["seeds"], json!([7, 12]));
    assert_eq!(axes["metrics"], json!(["train_loss_original", "train_loss", "val_mse", "cosine"]));
    assert_eq!(axes["epochs"], json!([1, 2, 3]));
    assert_eq!(axes["models"].as_array().unwrap().len(), 1);
}

#[test]
fn predictions_and_targets_are_those_of_the_seeds() {
    let run = run();
    report::write_all(run.path()).unwrap();
    let read = |name: &str| Tensor::read_npy(run.path().join(name)).unwrap();
    let (predictions, targets) = (read("predictions.npy"), read("targets.npy"));
    assert_eq!((predictions.dims(), targets.dims()), ([2, 2, 3, 2].as_slice(), [2, 2, 3, 2].as_slice()));
    let shifts = (predictions - targets).unwrap().reshape((2, 12)).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(shifts, [[0.25; 12], [0.5; 12]], "seeds ascend");
    assert_eq!(read_json(&run.path().join("predictions.json"))["patterns"], json!(["right", "up"]));
}

#[test]
fn plots_show_the_curves_and_the_lines() {
    let run = run();
    report::write_all(run.path()).unwrap();
    for (name, texts) in [
        ("learning", vec!["Training", "Validation", "Epoch", "mse (squared distance)", "(2 seeds)", "cosine"]),
        ("drawings", vec!["Seed 7 (best)", "Seed 12", "right", "up", "target"]),
    ] {
        let path = run.path().join("plots").join(name);
        let svg = fs::read_to_string(path.with_extension("svg")).unwrap();
        for text in texts {
            assert!(svg.contains(text), "{name}.svg lacks {text:?}");
        }
        let png = image::load_from_memory(&fs::read(path.with_extension("png")).unwrap()).unwrap().to_rgb8();
        let (mut inked, all) = (0, png.pixels().count());
        png.pixels().for_each(|pixel| inked += usize::from(pixel.0 != [255; 3]));
        assert!(inked * 100 > all && inked * 2 < all, "{name}.png: {inked} of {all} pixels are not white");
        let (width, height) = (png.width() / 2, png.height() / 2);
        let size = format!("width=\"{width}\" height=\"{height}\"");
        assert!(svg.contains(&size), "both files are of one size");
    }
}

/// Adds images, one black pixel in each, to what a unit shows.
fn add_images(unit: &Path, shape: &[usize]) {
    let path = unit.join("showcase.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
    let mut pixels = vec![0u8; shape.iter().product()];
    pixels.iter_mut().step_by(6).for_each(|pixel| *pixel = 255);
    tensors.insert("images".into(), Tensor::from_vec(pixels, shape, &candle_core::Device::Cpu).unwrap());
    let metadata = HashMap::from([("labels".to_owned(), json!(["right", "up"]).to_string())]);
    fs::write(path, safetensors::serialize(&tensors, Some(metadata)).unwrap()).unwrap();
}

#[test]
fn what_was_drawn_is_shown_beside_the_image_that_was_read() {
    let run = run();
    report::write_all(run.path()).unwrap();
    let figure = run.path().join("plots/pictures.svg");
    assert!(!figure.exists(), "without images there is no such figure");
    ["seeds/7", "seeds/12"].iter().for_each(|unit| add_images(&run.path().join(unit), &[2, 2, 3]));
    report::write_all(run.path()).unwrap();
    let svg = fs::read_to_string(&figure).unwrap();
    for text in ["Seed 7, the best of 2", "target", "drawn", "right", "up"] {
        assert!(svg.contains(text), "pictures.svg lacks {text:?}");
    }
    assert_eq!(svg.matches("fill=\"#000000\"").count(), 2, "one black pixel per image");
    let png = image::load_from_memory(&fs::read(figure.with_extension("png")).unwrap()).unwrap().to_luma8();
    assert!(png.pixels().any(|pixel| pixel.0 == [0]), "and they are in the PNG");
    assert_eq!(Tensor::read_npy(run.path().join("predictions.npy")).unwrap().dims(), [2, 2, 3, 2]);
}

#[test]
fn images_that_do_not_fit_are_named() {
    let run = run();
    add_images(&run.path().join("seeds/7"), &[3, 2, 3]);
    let message = report::write_all(run.path()).unwrap_err().to_string();
    assert!(message.contains("seeds/7/showcase.safetensors") && message.contains("[3, 2, 3]"), "{message}");
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let run = run();
    let all_bytes = || -> Vec<(PathBuf, Vec<u8>)> {
        report::write_all(run.path()).unwrap();
        let entries = [run.path().to_owned(), run.path().join("plots")].map(|dir| fs::read_dir(dir).unwrap());
        let mut files: Vec<_> = entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    let first = all_bytes();
    assert_eq!(first.len(), 7 + 4, "nothing but reports: {:?}", first.iter().map(|(path, _)| path).collect::<Vec<_>>());
    assert!(first == all_bytes());
}

#[test]
fn drawings_are_of_the_best_the_median_and_the_worst_seed() {
    let run = run();
    // Seed 12 was better than seed 7 at its best epoch, which is not the one that was kept.
    add_unit(run.path(), 99, &[5.0, f64::NAN], 0.0);
    add_unit(run.path(), 4, &[1.5, 1.5], 0.0);
    report::write_all(run.path()).unwrap();
    let svg = fs::read_to_string(run.path().join("plots/drawings.svg")).unwrap();
    // In order: 4, which equals 7 and is lower, 7, 12, and 99, whose NaN is worse than anything.
    for title in ["Seed 4 (best)", "Seed 12 (median)", "Seed 99 (worst)"] {
        assert!(svg.contains(title), "{title}");
    }
}

#[test]
fn a_run_without_a_finished_unit_has_no_reports() {
    let run = tempfile::tempdir().unwrap();
    fs::create_dir_all(run.path().join("seeds/1")).unwrap();
    report::write_all(run.path()).unwrap();
    assert_eq!(fs::read_dir(run.path()).unwrap().count(), 1);
}

#[test]
fn a_single_seed_of_one_epoch_without_showcase_or_validation_can_be_reported() {
    let run = tempfile::tempdir().unwrap();
    let dir = add_unit(run.path(), 1, &[1.0], 0.0);
    fs::write(dir.join("metrics.csv"), "seed,epoch,train_loss,train_loss_original,seconds\n1,1,2,3,0.1\n").unwrap();
    fs::remove_file(dir.join("showcase.safetensors")).unwrap();
    let unit = json!({"seed": 1, "state": "done", "metrics": [], "best_epoch": 1, "kept_epoch": 1, "test": []});
    fs::write(dir.join("unit.json"), unit.to_string()).unwrap();
    report::write_all(run.path()).unwrap();
    assert_eq!(Tensor::read_npy(run.path().join("scores.npy")).unwrap().dims(), [1, 1, 2, 1]);
    assert!(run.path().join("plots/learning.png").exists() && !run.path().join("plots/drawings.png").exists());
    assert!(!run.path().join("predictions.npy").exists());
}

#[test]
fn a_damaged_file_is_named() {
    for (name, content, says) in [
        ("unit.json", "{\"seed\": 7", "EOF"),
        (
            "unit.json",
            "{\"seed\": 8, \"state\": \"done\", \"metrics\": [], \"best_epoch\": 1, \"kept_epoch\": 1, \"test\": []}",
            "of seed 8",
        ),
        ("metrics.csv", "seed,epoch\n7,1\n", "columns"),
        (
            "metrics.csv",
            "seed,epoch,train_loss,train_loss_original,val_mse,seconds,cosine\n7,1,x,1,1,1,1\n",
            "line 2: `x`",
        ),
        ("metrics.csv", "seed,epoch,train_loss,train_loss_original,val_mse,seconds,cosine\n7,1,1\n", "record"),
        (
            "metrics.csv",
            "seed,epoch,train_loss,train_loss_original,val_mse,seconds,cosine\n8,1,1,1,1,1,1\n",
            "of seed 8",
        ),
        ("metrics.csv", "seed,epoch,train_loss,train_loss_original,val_mse,seconds,cosine\n", "no epochs"),
        ("metrics.csv", "seed,epoch,train_loss,train_loss_original,val_nll,seconds\n7,1,1,1,1,1\n", "val_nll"),
        ("showcase.safetensors", "no tensors", "showcase.safetensors"),
    ] {
        let run = run();
        fs::write(run.path().join("seeds/7").join(name), content).unwrap();
        let error = report::write_all(run.path()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("seeds/") && message.contains(says) && message.contains("--force"), "{message}");
        assert_eq!(error.exit_code(), 2, "{message}");
        assert!(!run.path().join("metrics.csv").exists(), "nothing is written from damaged files");
    }
}
