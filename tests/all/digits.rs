//! Images of digits: those drawn are hard for a linear classifier, those from files are checked before anything begins.

use std::path::PathBuf;

use ccdni::data::digits::{Digits, Glyphs, Idx, Source, Use};
use ccdni::data::{BatchIndex, Inputs, Split, Targets};
use ccdni::tasks::Task;
use ccdni::tasks::seqmnist::{SeqMnist, SplitBy};

use crate::lab::Lab;

#[test]
fn a_linear_classifier_is_not_enough_for_drawn_digits() {
    let lab = Lab::new();
    let spec = "
task: {kind: classify}
model: {blocks: [{kind: flatten}, {kind: linear}]}
train: {epochs: 8, batch_size: 50, optimizer: {kind: adam, lr: 1e-3}}
run: {device: cpu}
";
    lab.write("spec.yaml", spec);
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    // NLL and accuracy. An LSTM of 30 units is right on more than nine of ten (docs/fidelity.md).
    let test = &lab.run().json("seeds/1/unit.json")["test"];
    let accuracy = test[1].as_f64().expect("an accuracy");
    assert!((0.55..0.72).contains(&accuracy), "{test}");
}

#[test]
fn drawn_digits_are_the_same_for_the_same_keys() {
    let drawn = |train, test, draw| Digits::open(&Source::Glyphs(Glyphs { train, test, draw })).unwrap();
    let (one, more) = (drawn(40, 10, 1), drawn(60, 20, 1));
    for index in 0..40 {
        assert_eq!((one.pixels(index), one.label(index)), (more.pixels(index), more.label(index)));
    }
    for index in 0..10 {
        assert_eq!(one.pixels(one.test().start + index), more.pixels(more.test().start + index));
    }
    assert_eq!(one, drawn(40, 10, 1));
    assert_ne!(one.pixels(0), drawn(40, 10, 2).pixels(0));

    // The mean shade of each class shows that the drawing has changed, and with it every result.
    let many = drawn(2000, 0, 1);
    let mean = |class: usize| {
        let of_class: Vec<usize> = many.train().filter(|&index| many.label(index) == class).collect();
        assert!((150..250).contains(&of_class.len()), "{class}: {}", of_class.len());
        let sum: f64 = of_class.iter().flat_map(|&index| many.pixels(index)).map(|&pixel| f64::from(pixel)).sum();
        (sum / (of_class.len() * 784) as f64).round() as u32
    };
    let means: Vec<u32> = (0..10).map(mean).collect();
    insta::assert_compact_debug_snapshot!(means, @"[25, 14, 23, 22, 21, 22, 23, 19, 26, 22]");
}

fn big_endian(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().copied().flat_map(u32::to_be_bytes).collect()
}

/// A file of images of one shade per pixel, counted through.
fn images(lab: &Lab, name: &str, count: u32, side: u32) {
    let mut pixels = big_endian(&[0x0803, count, side, side]);
    pixels.extend((0..count * side * side).map(|index| (index % 251) as u8));
    std::fs::create_dir_all(lab.path("digits")).unwrap();
    std::fs::write(lab.path(&format!("digits/{name}")), pixels).unwrap();
}

/// A file of labels.
fn labels(lab: &Lab, name: &str, labels: &[u8]) {
    let bytes = [big_endian(&[0x0801, labels.len() as u32]), labels.to_vec()].concat();
    std::fs::write(lab.path(&format!("digits/{name}")), bytes).unwrap();
}

/// The files of a part with so many images and labels.
fn part(lab: &Lab, name: &str, count: u32, classes: &[u8]) {
    images(lab, &format!("{name}-images-idx3-ubyte"), count, 28);
    labels(lab, &format!("{name}-labels-idx1-ubyte"), classes);
}

fn lab() -> Lab {
    let lab = Lab::new();
    let spec = "
task: {kind: seqmnist, source: {kind: idx, dir: digits}, row: 196}
model: {layers: [{cell: tanh, hidden: 3}]}
train: {epochs: 2, batch_size: 4}
run: {device: cpu}
";
    lab.write("spec.yaml", spec);
    part(&lab, "train", 20, &[3; 20]);
    part(&lab, "t10k", 10, &[7; 10]);
    lab
}

#[test]
fn local_files_are_used_and_named_by_content() {
    let lab = lab();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let data = lab.run().json("manifest.json")["data"].as_object().unwrap().clone();
    assert_eq!(data.len(), 4, "{data:?}");
    assert!(data.contains_key("digits/t10k-labels-idx1-ubyte"), "{data:?}");

    part(&lab, "t10k", 10, &[8; 10]);
    let said = lab.ccdni(&["run", "spec.yaml", "--seeds", "2"]).exits(2);
    assert!(said.contains("digits/t10k-labels-idx1-ubyte") && said.contains("content changed"), "{said}");
}

#[test]
fn a_directory_with_one_pair_is_enough_where_the_spec_says_so() {
    let lab = lab();
    std::fs::remove_file(lab.path("digits/train-images-idx3-ubyte")).unwrap();
    let said = lab.ccdni(&["run", "spec.yaml"]).exits(2);
    assert!(
        said.contains("digits: holds neither `train-images-idx3-ubyte` nor `train-images-idx3-ubyte.gz`"),
        "{said}"
    );
    assert!(said.contains("task.source.use: test"), "{said}");
    lab.ccdni(&["run", "spec.yaml", "--set", "task.source.use=test", "--set", "task.split=ordered"]).exits(0);
    let results = std::fs::read_to_string(lab.run().0.join("results.csv")).unwrap();
    assert!(!results.contains("test_"), "{results}");
}

#[test]
fn an_empty_path_is_a_mistake_and_home_is_where_it_is() {
    let lab = lab();
    let said = lab.ccdni(&["check", "spec.yaml", "--set", "task.source.dir=''"]).exits(2);
    assert!(said.contains("`task.source.dir` is `''`: expected text that is not empty"), "{said}");
    let home = std::env::home_dir().unwrap().join("no-such-digits");
    let said = lab.ccdni(&["run", "spec.yaml", "--set", "task.source.dir=~/no-such-digits"]).exits(2);
    assert!(said.contains(&format!("{}: there is no such directory", home.display())), "{said}");
}

#[test]
fn files_are_found_under_the_names_that_others_give_them() {
    let lab = lab();
    let rename = |from: &str, to: &str| std::fs::rename(lab.path(from), lab.path(to)).unwrap();
    rename("digits/train-images-idx3-ubyte", "digits/Train-Images.idx3-ubyte");
    rename("digits/train-labels-idx1-ubyte", "digits/train labels-idx1-ubyte");
    for name in ["t10k-images.idx3-ubyte", "t10k-labels-idx1-ubyte"] {
        rename(&format!("digits/{}", name.replace('.', "-")), "digits/moved");
        std::fs::create_dir(lab.path(&format!("digits/{name}"))).unwrap();
        rename("digits/moved", &format!("digits/{name}/{name}"));
    }
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    rename("digits/train labels-idx1-ubyte", "digits/my-labels-ubyte");
    let said = lab.ccdni(&["run", "spec.yaml", "--seeds", "2"]).exits(2);
    assert!(said.contains("it holds `Train-Images.idx3-ubyte`, `my-labels-ubyte`"), "{said}");
}

/// The files of EMNIST's letters: 26 classes, counted from 1.
fn letters() -> Lab {
    let lab = lab();
    std::fs::remove_dir_all(lab.path("digits")).unwrap();
    for (part, count) in [("train", 52), ("test", 26)] {
        let classes: Vec<u8> = (0..count).map(|index| index % 26 + 1).collect();
        images(&lab, &format!("emnist-letters-{part}-images-idx3-ubyte"), count.into(), 28);
        labels(&lab, &format!("emnist-letters-{part}-labels-idx1-ubyte"), &classes);
    }
    lab
}

#[test]
fn any_number_of_classes_is_recognised_or_becomes_a_line() {
    let lab = letters();
    let run = |more: &[&str]| lab.ccdni(&[&["run", "spec.yaml", "--set", "task.val_split=0"][..], more].concat());
    let said = run(&[]).exits(2);
    assert!(said.contains("emnist-letters-train-labels-idx1-ubyte") && said.contains("label 9 is 10"), "{said}");
    assert!(said.contains("from 1 to 26: set `task.source.classes` to 26") && !said.contains("again"), "{said}");
    assert!(!lab.path("outputs").exists());

    let classes = ["--set", "task.source.classes=26", "--set", "task.source.transpose=true"];
    run(&classes).exits(0);
    let decoder = std::fs::read(lab.run().0.join("decoder.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&decoder).unwrap();
    assert!(tensors.tensors().iter().any(|(_, tensor)| tensor.shape() == [26, 3]), "{:?}", tensors.names());

    run(&[&classes[..], &["--set", "task.mode=lines", "--outputs", "lines"]].concat()).exits(0);
    let scores = std::fs::read(lab.only_run("lines").join("targets.npy")).unwrap();
    assert!(String::from_utf8_lossy(&scores[..80]).contains("26, 4, 2"), "one line for each class");

    let said = run(&[&classes[..], &["--set", "task.mode=digits", "--outputs", "digits-drawn"]].concat()).exits(2);
    assert!(said.contains("drawings of the ten digits") && said.contains("task.numbers"), "{said}");
    let said = run(&["--set", "task.numbers=[3, 12]"]).exits(2);
    assert!(said.contains("10 classes, from 0 to 9, and so no 12") && said.contains("source.classes"), "{said}");
}

#[test]
fn several_data_sets_in_one_directory_are_refused() {
    let lab = letters();
    images(&lab, "emnist-balanced-train-images-idx3-ubyte", 4, 28);
    let said = lab.ccdni(&["run", "spec.yaml", "--set", "task.source.classes=26"]).exits(2);
    assert!(said.contains("several files of training data") && said.contains("emnist-balanced-train"), "{said}");
}

#[test]
fn images_of_other_sizes_are_read_and_transposed() {
    let lab = lab();
    for (name, count) in [("train", 20), ("t10k", 10)] {
        images(&lab, &format!("{name}-images-idx3-ubyte"), count, 32);
    }
    let said = lab.ccdni(&["run", "spec.yaml"]).exits(2);
    assert!(said.contains("images of 32 x 32 pixels") && said.contains("set it to 32"), "{said}");
    let said = lab.ccdni(&["run", "spec.yaml", "--set", "task.source.side=32"]).exits(2);
    assert!(said.contains("does not divide the 1024 pixels") && said.contains("choose one of 1, 2, 4, 8"), "{said}");
    let side = ["--set", "task.source.side=32", "--set", "task.row=256"];
    lab.ccdni(&[&["run", "spec.yaml"][..], &side].concat()).exits(0);

    let read = |transpose| {
        let dir = lab.path("digits");
        Digits::open(&Source::Idx(Idx { dir, r#use: Use::Train, classes: 10, side: 32, transpose })).unwrap()
    };
    let (rows, columns) = (read(false), read(true));
    for (row, column) in [(0, 1), (31, 5), (7, 7)] {
        assert_eq!(rows.pixels(3)[row * 32 + column], columns.pixels(3)[column * 32 + row]);
    }
}

#[test]
fn labels_of_qmnist_are_read() {
    let lab = lab();
    std::fs::remove_dir_all(lab.path("digits")).unwrap();
    for (part, count) in [("train", 20u32), ("test", 10)] {
        images(&lab, &format!("qmnist-{part}-images-idx3-ubyte"), count, 28);
        let row = |index: u32| [index % 10, 1, 2000 + index, index, 0, 0, index, 0];
        let bytes = big_endian(&[&[0x0c02, count, 8][..], &(0..count).flat_map(row).collect::<Vec<_>>()].concat());
        std::fs::write(lab.path(&format!("digits/qmnist-{part}-labels-idx2-int")), bytes).unwrap();
    }
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let source =
        Source::Idx(Idx { dir: lab.path("digits"), r#use: Use::Test, classes: 10, side: 28, transpose: false });
    let digits = Digits::open(&source).unwrap();
    assert_eq!(digits.train().map(|index| digits.label(index)).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

#[test]
fn bad_files_are_named_before_anything_begins() {
    let write = |name: &'static str, bytes: Vec<u8>| {
        move |lab: &Lab| std::fs::write(lab.path(&format!("digits/{name}")), &bytes).unwrap()
    };
    let remove =
        |name: &'static str| move |lab: &Lab| std::fs::remove_file(lab.path(&format!("digits/{name}"))).unwrap();
    let gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x63];
    type Damage = Box<dyn Fn(&Lab)>;
    let cases: Vec<(Damage, &str, &str)> = vec![
        (Box::new(write("t10k-images-idx3-ubyte", gzip)), "t10k-images-idx3-ubyte", "cut off"),
        (Box::new(write("train-images-idx3-ubyte", b"not MNIST".to_vec())), "train-images-idx3-ubyte", "no IDX file"),
        (Box::new(remove("train-labels-idx1-ubyte")), "digits", "`train-labels-idx1-ubyte.gz`"),
        (Box::new(|lab| part(lab, "train", 20, &[11; 20])), "train-labels-idx1-ubyte", "label 0 is 11"),
        (Box::new(|lab| part(lab, "t10k", 0, &[])), "t10k-images-idx3-ubyte", "holds no images"),
        (Box::new(|lab| part(lab, "train", 20, &[1; 19])), "train-labels-idx1-ubyte", "do not belong together"),
        (Box::new(|lab| std::fs::remove_dir_all(lab.path("digits")).unwrap()), "digits", "no such directory"),
    ];
    for (damage, file, says) in cases {
        let lab = lab();
        damage(&lab);
        let said = lab.ccdni(&["run", "spec.yaml"]).exits(2);
        assert!(said.contains(file) && said.contains(says), "{said}: should name {file} and say {says:?}");
        assert!(!lab.path("outputs").exists());
    }
    let lab = lab();
    let said = lab.ccdni(&["run", "spec.yaml", "--set", "task.numbers=[1,2]"]).exits(2);
    assert!(said.contains("0 training images") && said.contains("task.numbers"), "{said}");
}

#[test]
#[cfg(not(feature = "hub"))]
fn a_program_without_the_hub_says_how_to_get_one_that_has_it() {
    let lab = lab();
    let said = lab.ccdni(&["run", "spec.yaml", "--set", "task.source={kind: hub}"]).exits(2);
    for text in ["default features", "kind: glyphs", "kind: idx"] {
        assert!(said.contains(text), "{said}");
    }
    assert!(!lab.path("outputs").exists());
}

#[test]
fn the_real_images_are_read_and_divided_as_the_original_does() {
    let Some(dir) = std::env::var_os("CCDNI_MNIST").map(PathBuf::from) else {
        eprintln!("skipped: CCDNI_MNIST does not name a directory with MNIST's test images");
        return;
    };
    let source = Source::Idx(Idx { dir, r#use: Use::Test, classes: 10, side: 28, transpose: false });
    let digits = Digits::open(&source).unwrap();
    let mut counts = [0; 10];
    digits.train().for_each(|index| counts[digits.label(index)] += 1);
    assert_eq!(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    assert_eq!(digits.test().len(), 0);
    assert_eq!((0..5).map(|index| digits.label(index)).collect::<Vec<_>>(), [7, 2, 1, 0, 4]);

    let spec = SeqMnist { source, split: SplitBy::Ordered, ..SeqMnist::default() };
    let data = spec.open(1).unwrap();
    assert_eq!([Split::Train, Split::Validation, Split::Test].map(|split| data.batches(split, 50)), [160, 4, 0]);
    let batch =
        data.batch(BatchIndex { split: Split::Validation, epoch: 1, index: 0, batch_size: 50, level: 0 }).unwrap();
    let (Inputs::Dense(inputs), Targets::FinalClass(classes)) = (batch.inputs, batch.targets) else {
        panic!("dense inputs and a class");
    };
    assert_eq!(inputs.dims(), [500, 28, 28]);
    let first = inputs.get(0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let same = digits.pixels(8000).iter().zip(&first).all(|(&pixel, &input)| f32::from(pixel) / 255.0 == input);
    assert!(same, "the last 2,000 validate, in the order of the file");
    assert_eq!(classes.get(0).unwrap().to_scalar::<u32>().unwrap() as usize, digits.label(8000));
}
