//! `ccdni data` and `ccdni score` through the real program: what they make, what they say, and what they refuse.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ccdni::data::captions::CaptionSet;
use ccdni::data::captions::results::{self, CaptionResult};
use ccdni::data::captions::vocabulary::Vocabulary;
use ccdni::data::images;
use image::{ImageFormat, RgbImage};

use crate::lab::Lab;

const CAPTIONS: &str = r#"{"images": [{"id": 7, "file_name": "a.png"}, {"id": 3, "file_name": "b.png"}, {"id": 5, "file_name": "c.png"}],
  "annotations": [{"id": 1, "image_id": 7, "caption": "A dog runs."}, {"id": 2, "image_id": 7, "caption": "The dog can't run."},
  {"id": 3, "image_id": 3, "caption": "A red ball."}, {"id": 4, "image_id": 3, "caption": ""}]}"#;

fn image(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 3) as u8, (y * 5) as u8, 90]));
    images::encode(&image, format, 95).unwrap()
}

/// Names and contents of the files in a directory.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

#[test]
fn a_vocabulary_is_made_of_captions() {
    let lab = Lab::new();
    lab.write("captions.json", CAPTIONS);
    let vocab = ["data", "vocab", "captions.json", "--threshold", "2"];
    let said = lab.ccdni(&[&vocab[..], &["--lengths", "lengths.csv"]].concat()).exits(0);
    for part in ["4 captions of 3 images", "1 captions without words", "1 images without captions", "tokenizer.json"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let vocabulary = Vocabulary::load(&lab.path("tokenizer.json")).unwrap();
    assert_eq!(vocabulary.words()[4..], ["a", "dog", "."]);
    let lengths = fs::read_to_string(lab.path("lengths.csv")).unwrap();
    assert_eq!(lengths, "caption_id,image_id,length\n1,7,6\n2,7,8\n3,3,6\n4,3,2\n");

    // On any number of threads the same bytes.
    let before = fs::read(lab.path("tokenizer.json")).unwrap();
    lab.ccdni(&[&vocab[..], &["--threads", "3"]].concat()).exits(0);
    assert_eq!(fs::read(lab.path("tokenizer.json")).unwrap(), before);

    lab.write("list.txt", "b.png\n");
    lab.ccdni(&["data", "vocab", "captions.json", "--images", "list.txt", "--threshold", "1", "--out", "b.json"])
        .exits(0);
    assert_eq!(Vocabulary::load(&lab.path("b.json")).unwrap().words()[4..], ["a", "red", "ball", "."]);
}

#[test]
fn captions_that_are_none_leave_nothing_behind() {
    let lab = Lab::new();
    lab.write("broken.json", "{\"images\": [");
    lab.write("some.json", CAPTIONS);
    lab.write("none.json", r#"{"images": [], "annotations": []}"#);
    for (arguments, says) in [
        (vec!["nowhere.json"], "nowhere.json"),
        (vec!["broken.json"], "broken.json"),
        (vec!["none.json"], "has no captions"),
        (vec!["none.json", "--out", "nowhere/t.json"], "nowhere is not a directory"),
        (vec!["some.json", "--threads", "0"], "`--threads` is 0"),
    ] {
        let code = if arguments[0] == "nowhere.json" { 1 } else { 2 };
        let ran = lab.ccdni(&[&["data", "vocab"][..], &arguments].concat());
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert_eq!(ran.code, Some(code), "{arguments:?}: {said}");
        assert!(!lab.path("tokenizer.json").exists());
    }
}

#[test]
fn a_table_with_bars_may_have_lost_one() {
    let lab = Lab::new();
    let table =
        |row: &str| format!("image_name| comment_number| comment\na.jpg| 0| Dogs run .\n{row}\nb.jpg| 0| A cat .\n");
    lab.write("bars.csv", &table("a.jpg| 4   A dog runs ."));
    let vocab = ["data", "vocab", "bars.csv", "--threshold", "1"];
    let said = lab.ccdni(&vocab).exits(0);
    assert!(said.contains("3 captions of 2 images"), "{said}");
    assert_eq!(
        Vocabulary::load(&lab.path("tokenizer.json")).unwrap().words()[4..],
        ["dogs", "run", ".", "a", "dog", "runs", "cat"]
    );
    lab.write("bars.csv", &table("a.jpg  A dog runs ."));
    let said = lab.ccdni(&vocab).exits(2);
    assert!(said.contains("bars.csv: line 3") && said.contains("3 columns"), "{said}");
}

#[test]
fn a_split_is_chosen_by_name() {
    let lab = Lab::new();
    lab.write(
        "splits.json",
        r#"{"images": [{"imgid": 1, "filename": "a.png", "split": "train", "sentences": [{"raw": "A dog runs ."}]},
            {"imgid": 2, "filename": "b.png", "split": "test", "sentences": [{"raw": "A red ball ."}]}]}"#,
    );
    lab.write("splits.csv", "filename,split,caption\na.png,train,A dog runs .\nb.png,test,A red ball .\n");
    results::write(&lab.path("results.json"), &[CaptionResult { image_id: 2, caption: "a ball".into() }]).unwrap();
    for captions in ["splits.json", "splits.csv"] {
        let vocab = |more: &[&str]| lab.ccdni(&[&["data", "vocab", captions, "--threshold", "1"][..], more].concat());
        let said = vocab(&[]).exits(2);
        assert!(said.contains("has the splits test, train; choose, as in `--split train`"), "{said}");
        assert!(vocab(&["--split", "dev"]).exits(2).contains("no split `dev`"));
        vocab(&["--split", "train"]).exits(0);
        assert_eq!(Vocabulary::load(&lab.path("tokenizer.json")).unwrap().words()[4..], ["a", "dog", "runs", "."]);
        vocab(&["--split", "test + train"]).exits(0);
        assert_eq!(Vocabulary::load(&lab.path("tokenizer.json")).unwrap().words().len(), 4 + 6);

        let score = |more: &[&str]| lab.ccdni(&[&["score", "results.json", captions][..], more].concat());
        assert!(score(&[]).exits(0).contains("1 of 2 images"));
        assert!(score(&["--split", "test"]).exits(0).contains("1 of 1 images"));
        assert!(score(&["--split", "train"]).exits(2).contains("the image 2 has no caption"));
    }
}

#[test]
#[cfg(unix)]
fn a_step_goes_on_when_its_terminal_is_gone() {
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::process::Stdio;
    use std::ptr::null_mut;

    let lab = Lab::new();
    fs::create_dir(lab.path("in")).unwrap();
    let bytes = image(640, 480, ImageFormat::Png);
    for index in 0..30 {
        fs::write(lab.path(&format!("in/{index}.png")), &bytes).unwrap();
    }
    let (mut terminal, mut stderr) = (0, 0);
    // SAFETY: both numbers live longer than the call; null pointers stand for defaults.
    let opened = unsafe { libc::openpty(&mut terminal, &mut stderr, null_mut(), null_mut(), null_mut()) };
    assert_eq!(opened, 0);
    // SAFETY: both were opened just now, and nothing else closes them.
    let (terminal, stderr) = unsafe { (OwnedFd::from_raw_fd(terminal), OwnedFd::from_raw_fd(stderr)) };
    let mut command = lab.command(&["data", "resize", "in", "--out", "out", "--threads", "1"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
    drop(command);
    while !lab.path("out/0.png").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(terminal);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(files(&lab.path("out")).len(), 31);
}

#[test]
fn a_caption_of_ten_thousand_words_is_a_caption() {
    let lab = Lab::new();
    lab.write("long.txt", &format!("a.jpg#0\t{}\na.jpg#1\tshort\n", "word, (and) ".repeat(5_000)));
    let said = lab.ccdni(&["data", "vocab", "long.txt", "--threshold", "1"]).exits(0);
    assert!(said.contains(" >40: 1"), "{said}");
}

#[test]
fn images_are_resized_once_and_bad_ones_are_listed() {
    let lab = Lab::new();
    fs::create_dir(lab.path("in")).unwrap();
    let jpeg = image(70, 40, ImageFormat::Jpeg);
    fs::write(lab.path("in/good.jpg"), &jpeg).unwrap();
    fs::write(lab.path("in/good.png"), image(20, 90, ImageFormat::Png)).unwrap();
    fs::write(lab.path("in/cut.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    fs::write(lab.path("in/empty.png"), "").unwrap();
    fs::write(lab.path("in/moving.gif"), b"GIF89a\x04\0\x04\0 and so on").unwrap();
    let resize = ["data", "resize", "in", "--out", "out", "--size", "32"];
    let said = lab.ccdni(&resize).exits(0);
    for part in
        ["2 images resized", "3 bad files", "cut.jpg: is cut short", "empty.png: is empty", "moving.gif: is damaged"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let made = files(&lab.path("out"));
    assert_eq!(made.keys().collect::<Vec<_>>(), ["bad-files.tsv", "good.jpg", "good.png", "resized.json"]);
    for name in ["good.jpg", "good.png"] {
        assert_eq!(images::read(&lab.path("out").join(name)).unwrap().dimensions(), (32, 32));
    }
    assert!(lab.ccdni(&resize).exits(0).contains("0 images resized"));
    assert_eq!(files(&lab.path("out")), made);

    let said = lab.ccdni(&[&resize[..], &["--strict"]].concat()).exits(2);
    assert!(said.contains("in/") && said.contains("is "), "{said}");
    let said = lab.ccdni(&["data", "resize", "in", "--out", "out", "--size", "16"]).exits(2);
    assert!(said.contains("32 x 32"), "{said}");
    let said = lab.ccdni(&["data", "resize", "nowhere", "--out", "new"]).exits(1);
    assert!(said.contains("nowhere") && !lab.path("new").exists(), "{said}");
}

#[test]
fn an_interrupted_resize_goes_on_and_comes_to_the_same() {
    let lab = Lab::new();
    fs::create_dir(lab.path("in")).unwrap();
    let bytes = image(640, 480, ImageFormat::Png);
    for index in 0..60 {
        fs::write(lab.path(&format!("in/{index}.png")), &bytes).unwrap();
    }
    let resize = |out: &'static str| ["data", "resize", "in", "--out", out, "--threads", "1"];
    lab.ccdni(&resize("whole")).exits(0);
    for (signal, out) in [("KILL", "killed"), ("INT", "asked")] {
        let running = lab.start(&resize(out));
        // It listens by the time that something is there.
        while !lab.path(out).join("0.png").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        running.signal(signal);
        let ran = running.end();
        if signal == "INT" && ran.code != Some(0) {
            assert_eq!(ran.code, Some(130), "{ran:?}");
        }
        lab.ccdni(&resize(out)).exits(0);
        assert_eq!(files(&lab.path(out)), files(&lab.path("whole")), "{signal}");
    }
}

#[test]
fn scenes_are_captions_that_the_other_steps_read() {
    let lab = Lab::new();
    let scenes = ["data", "scenes", "--train", "20", "--validation", "5", "--size", "32"];
    let said = lab.ccdni(&scenes).exits(0);
    assert!(said.contains("25 images drawn, 125 captions"), "{said}");
    assert!(lab.ccdni(&scenes).exits(0).contains("there already"));
    let said = lab.ccdni(&[&scenes[..], &["--seed", "2"]].concat()).exits(2);
    assert!(said.contains("holds other scenes"), "{said}");
    lab.ccdni(&["data", "vocab", "datasets/scenes/captions_train.json"]).exits(0);
    let set = CaptionSet::open(&lab.path("datasets/scenes/captions_validation.json")).unwrap();
    assert_eq!((set.images.len(), set.captions.len()), (5, 25));
    for image in &set.images {
        let path = lab.path("datasets/scenes/validation").join(&image.file_name);
        assert_eq!(images::read(&path).unwrap().dimensions(), (32, 32));
    }
}

#[test]
fn captions_are_scored_against_references() {
    let lab = Lab::new();
    lab.write("captions.json", CAPTIONS);
    let result = |image_id, caption: &str| CaptionResult { image_id, caption: caption.into() };
    let score = ["score", "results.json", "captions.json"];
    let write = |rows: &[CaptionResult]| results::write(&lab.path("results.json"), rows).unwrap();

    write(&[result(3, "a red ball"), result(7, "the dog can't run")]);
    let said = lab.ccdni(&[&score[..], &["--out", "scores.json"]].concat()).exits(0);
    assert!(said.contains("Bleu_4") && said.contains("2 of 2 images"), "{said}");
    let scores: serde_json::Value = serde_json::from_slice(&fs::read(lab.path("scores.json")).unwrap()).unwrap();
    assert!((scores["corpus"]["ROUGE_L"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{scores}");
    assert_eq!(scores["images"][1]["image_id"], 7);
    // At white space, "can't" is one word and the period belongs to "run".
    let simple = lab.ccdni(&[&score[..], &["--words", "simple"]].concat()).exits(0);
    assert_ne!(simple, said);

    write(&[result(3, "a red ball")]);
    assert!(lab.ccdni(&score).exits(0).contains("1 of 2 images"));
    write(&[result(5, "x")]);
    assert!(lab.ccdni(&score).exits(2).contains("the image 5 has no caption"));
    write(&[]);
    assert!(lab.ccdni(&score).exits(2).contains("nothing to score"));
    lab.write("results.json", "{}");
    assert!(lab.ccdni(&score).exits(2).contains("expected a list"));
}
