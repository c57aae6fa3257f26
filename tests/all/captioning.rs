//! Captioning, from drawn images to sentences and their scores, with the real program.

use std::path::{Path, PathBuf};

use ccdni::data::captions::CaptionSet;

use crate::lab::Lab;

/// A few scenes, a small network and an encoder that learns with it. It writes a checkpoint after every batch.
const SPEC: &str = "
name: tiny-captions
task:
  kind: captioning
  source: {kind: scenes, dir: scenes, train: 60, validation: 12, size: 32}
  threshold: 2
  lengths: [11, 18]
  resize: 32
  validation_batch_size: 4
  by_position: true
  scores: true
model:
  encoder: {kind: conv, channels: [4, 6]}
  embed: {size: 8}
  layers: [{cell: lstm, hidden: 10, dni: {hidden: [12]}}]
train: {epochs: 2, batch_size: 5, bptt: 5, step_every: window, keep: best}
run: {device: cpu, checkpoint_every: 0s}
";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("spec.yaml", SPEC);
    lab
}

/// A lab with a trained network, and the path of its run.
fn trained(more: &[&str]) -> (Lab, String) {
    let lab = lab();
    let mut arguments = vec!["run", "spec.yaml"];
    arguments.extend(more);
    lab.ccdni(&arguments).exits(0);
    let run = lab.run().0.strip_prefix(lab.dir.path()).unwrap().display().to_string();
    (lab, run)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_network_is_trained_scored_and_asked() {
    let (lab, run) = trained(&[]);
    let file = |name: &str| lab.path(&format!("{run}/{name}"));
    let results = read(&file("results.csv"));
    for column in ["val_nll", "val_perplexity", "val_nll_01", "val_nll_11", "Bleu_4", "ROUGE_L", "CIDEr"] {
        assert!(results.lines().next().unwrap().split(',').any(|name| name == column), "{column}: {results}");
    }
    let manifest = json(&read(&file("manifest.json")));
    assert!(manifest["data"]["pictures/train"].is_string(), "{manifest}");
    for name in ["tokenizer.json", "encoder.safetensors", "decoder.safetensors", "plots/learning.png"] {
        assert!(file(name).exists(), "{name}");
    }

    // The captions at the end are those that the files give, and so are their scores.
    let decoder = format!("{run}/decoder.safetensors");
    let set = ["--captions", "scenes/captions_validation.json", "--images", "scenes/validation"];
    let mut arguments = vec!["caption-set", "--decoder", &decoder, "--out", "results.json"];
    arguments.extend(set);
    lab.ccdni(&arguments).exits(0);
    assert_eq!(json(&read(&lab.path("results.json"))), json(&read(&file("captions.json"))));
    let said = lab.ccdni(&["score", "results.json", set[1], "--out", "scores.json"]).exits(0);
    let scored = json(&read(&lab.path("scores.json")))["corpus"]["CIDEr"].as_f64().unwrap();
    let row: Vec<&str> = results.lines().nth(1).unwrap().split(',').collect();
    assert!((scored - row.last().unwrap().parse::<f64>().unwrap()).abs() < 1e-12, "{said}");

    // By path, directory and hash; an image alone, several, a folder, and one from standard input.
    let hash = run.rsplit('/').next().unwrap();
    let image = "scenes/validation/000061.png";
    let one = lab.ccdni(&["sample", "--decoder", &decoder, "--image", image]).exits(0);
    assert_eq!(one.lines().count(), 1, "{one}");
    for named in [run.as_str(), &hash[..6], &format!("{run}/seeds/1/decoder.safetensors")] {
        assert_eq!(lab.ccdni(&["sample", "--decoder", named, "--image", image]).exits(0), one, "{named}");
    }
    let folder = lab.ccdni(&["sample", "--decoder", hash, "--image", "scenes/validation", image]).exits(0);
    let lines: Vec<&str> = folder.lines().collect();
    assert_eq!(lines.len(), 13);
    assert_eq!(lines[0], format!("{image}\t{}", one.trim_end()));
    let mut piped = lab.command(&["sample", "--decoder", hash, "--image", "-"]);
    piped.stdin(std::fs::File::open(lab.path(image)).unwrap());
    assert_eq!(String::from_utf8(piped.output().unwrap().stdout).unwrap(), one);
}

#[test]
fn sentences_are_chosen_as_asked() {
    let (lab, run) = trained(&["--set", "train.epochs=1", "--set", "task.scores=false"]);
    let ask = |more: &[&str]| {
        let mut arguments = vec!["sample", "--decoder", &run, "--image", "scenes/validation/000061.png"];
        arguments.extend(more);
        lab.ccdni(&arguments)
    };
    let greedy = json(&ask(&["--json"]).exits(0));
    let [sentence] = greedy[0]["sentences"].as_array().unwrap().as_slice() else { panic!("one sentence: {greedy}") };
    let tokens = sentence["tokens"].as_array().unwrap();
    let sum: f64 = tokens.iter().map(|token| token["log_probability"].as_f64().unwrap()).sum();
    assert!((sum - sentence["log_probability"].as_f64().unwrap()).abs() < 1e-9 && sum < 0.0);
    assert!(tokens.len() <= 21 && tokens.iter().all(|token| token["token"] != "<start>"), "{greedy}");

    let beam = json(&ask(&["--json", "--beam", "4"]).exits(0));
    assert_eq!(beam[0]["sentences"].as_array().unwrap().len(), 4);
    assert_eq!(ask(&["--beam", "1"]).exits(0), ask(&[]).exits(0));
    assert_eq!(ask(&["--temperature", "1e-6"]).exits(0), ask(&[]).exits(0));
    let drawn = |seed: &str| ask(&["--temperature", "3", "--seed", seed]).exits(0);
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
    for (flags, says) in [
        (&["--temperature", "0"][..], "--temperature"),
        (&["--top-p", "1.5"], "--top-p"),
        (&["--beam", "0"], "--beam"),
        (&["--beam", "2", "--temperature", "1"], "--temperature"),
    ] {
        assert!(ask(flags).exits(2).contains(says), "{flags:?}");
    }
}

#[test]
fn bad_images_and_lost_files_are_named() {
    let (lab, run) = trained(&["--set", "train.epochs=1", "--set", "task.scores=false"]);
    let decoder = format!("{run}/decoder.safetensors");
    let ask = |more: &[&str]| {
        let mut arguments = vec!["sample", "--decoder", &decoder];
        arguments.extend(more);
        lab.ccdni(&arguments)
    };
    assert!(ask(&[]).exits(2).contains("--image FILE"));
    lab.write("broken.png", "no image");
    let both = ask(&["--image", "broken.png", "scenes/validation/000061.png"]);
    assert!(both.stdout.contains("000061.png\t") && both.stderr.contains("broken.png"), "{both:?}");
    both.exits(2);
    assert!(ask(&["--image", "nowhere.png"]).exits(2).contains("nowhere.png"));
    std::fs::create_dir(lab.path("empty")).unwrap();
    assert!(ask(&["--image", "empty"]).exits(2).contains("without images"));

    // A decoder alone says one by one what it misses, and goes with flags.
    std::fs::create_dir_all(lab.path("far/from/home")).unwrap();
    std::fs::copy(lab.path(&decoder), lab.path("far/from/home/decoder.safetensors")).unwrap();
    let mut arguments: Vec<String> =
        ["sample", "--decoder", "far/from/home/decoder.safetensors", "--image", "scenes/validation/000061.png"]
            .map(String::from)
            .into();
    for (flag, name) in
        [("--spec", "spec.yaml"), ("--vocabulary", "tokenizer.json"), ("--encoder", "encoder.safetensors")]
    {
        let said = lab.ccdni(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).exits(2);
        assert!(said.contains(name) && said.contains(flag), "{said}");
        arguments.extend([flag.into(), format!("{run}/{name}")]);
    }
    let moved = lab.ccdni(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
    assert_eq!(moved, ask(&["--image", "scenes/validation/000061.png"]).exits(0));

    // Words of another vocabulary, and weights of another network.
    let words = read(&lab.path(&format!("{run}/tokenizer.json")));
    let shorter = json(&words);
    let vocabulary = shorter["model"]["vocab"].as_object().unwrap();
    let last = vocabulary.iter().max_by_key(|(_, id)| id.as_u64()).unwrap().0.clone();
    let mut other = shorter.clone();
    other["model"]["vocab"].as_object_mut().unwrap().remove(&last);
    lab.write("other.json", &other.to_string());
    // As many words in another order would be sentences of wrong words.
    let mut swapped = shorter.clone();
    let ids = swapped["model"]["vocab"].as_object_mut().unwrap();
    let other_word = ids.keys().find(|word| !word.starts_with('<') && **word != last).unwrap().clone();
    let (one, two) = (ids[&last].clone(), ids[&other_word].clone());
    ids.insert(last, two);
    ids.insert(other_word, one);
    lab.write("swapped.json", &swapped.to_string());
    for name in ["other.json", "swapped.json"] {
        let said = ask(&["--image", "broken.png", "--vocabulary", name]).exits(2);
        assert!(said.contains(&format!("{name}: holds other words")) && said.contains("decoder.safetensors"), "{said}");
    }
    lab.write("torn.safetensors", "no weights");
    let said = ask(&["--image", "broken.png", "--encoder", "torn.safetensors"]).exits(2);
    assert!(said.contains("torn.safetensors"), "{said}");
}

#[test]
fn an_interrupted_run_ends_with_the_same_bits() {
    let (whole, run) = trained(&[]);
    let stopped = lab();
    let mut running = stopped.start(&["run", "spec.yaml"]);
    assert!(running.saw_epochs(1));
    running.signal("INT");
    running.end();
    stopped.ccdni(&["run", "spec.yaml"]).exits(0);
    for name in
        ["decoder.safetensors", "encoder.safetensors", "captions.json", "tokenizer.json", "seeds/1/captions.jpg"]
    {
        let of = |lab: &Lab| std::fs::read(lab.path(&format!("{run}/{name}"))).unwrap();
        assert!(of(&whole) == of(&stopped), "{name} differs");
    }
}

#[test]
fn captions_of_recorded_epochs_are_kept_with_one_sheet_of_pictures() {
    let (lab, run) = trained(&["--set", "record.outputs=1"]);
    let captions = |name: &str| json(&read(&lab.path(&format!("{run}/seeds/1/{name}captions.json"))));
    assert_eq!(captions("outputs/epoch-0002/"), captions(""), "the last epoch is the best here");
    assert_ne!(captions("outputs/epoch-0001/"), captions(""));
    let sheet = image::open(lab.path(&format!("{run}/seeds/1/captions.jpg"))).unwrap().into_rgb8();
    assert_eq!(sheet.dimensions(), (960, 192), "twelve pictures in rows of ten");
    let first = image::open(lab.path("scenes/validation/000061.png")).unwrap().into_rgb8();
    let middle = |image: &image::RgbImage, x, y| image.get_pixel(x, y).0.map(i32::from);
    let (shown, drawn) = (middle(&sheet, 48, 48), middle(&first, 16, 16));
    assert!(shown.iter().zip(drawn).all(|(a, b)| (a - b).abs() < 40), "{shown:?} {drawn:?}");
    assert!(!lab.path(&format!("{run}/seeds/1/outputs/epoch-0001/captions.jpg")).exists());
    let said = lab.ccdni(&["run", "spec.yaml", "--set", "record.outputs=1", "--set", "task.scores=false"]).exits(2);
    assert!(said.contains("record.outputs") && said.contains("no captions"), "{said}");
}

#[test]
fn a_frozen_backbone_is_read_from_the_cache() {
    let lab = lab();
    let frozen = ["run", "spec.yaml", "--set", "model.encoder.trainable=projection", "--set", "task.scores=false"];
    let first = lab.ccdni(&frozen).exits(0);
    assert!(first.contains("features of images"), "{first}");
    let stores = || -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(lab.path("datasets/cache"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"))
            .collect();
        all.sort();
        all
    };
    let before = stores();
    assert_eq!(before.len(), 2, "one to train, one to validate with");
    // Another seed, and another network on the same features.
    for more in [&["--seeds", "2"][..], &["--set", "train.bptt=3"]] {
        let said = lab.ccdni(&[&frozen[..], more].concat()).exits(0);
        assert!(!said.contains("features of images"), "{said}");
    }
    assert_eq!(stores(), before);
    // Other views are other features; by hand, ahead of a run.
    let set = ["--set", "model.encoder.trainable=projection", "--set", "task.crop=28", "--set", "task.variants=2"];
    let said = lab.ccdni(&[&["data", "features", "spec.yaml"][..], &set].concat()).exits(0);
    assert!(said.contains("72 images are ready"), "{said}");
    assert_eq!(stores().len(), 4);
    // The backbone alone is not in the file: what was trained is.
    let hash = lab.ccdni(&[&["hash"], &frozen[1..]].concat()).exits(0);
    let encoder = std::fs::read(lab.path(&format!("outputs/{}/encoder.safetensors", hash.trim()))).unwrap();
    let names = safetensors::SafeTensors::deserialize(&encoder).unwrap();
    let mut names: Vec<_> = names.names().into_iter().collect();
    names.sort();
    assert_eq!(names, ["bn.bias", "bn.running_mean", "bn.running_var", "bn.weight", "linear.bias", "linear.weight"]);
}

#[test]
fn images_that_cannot_be_read_are_left_out_and_missing_ones_are_an_error() {
    let lab = lab();
    lab.ccdni(&["data", "scenes", "--out", "scenes", "--train", "60", "--validation", "12", "--size", "32"]).exits(0);
    let source = "task.source={kind: files, train: {captions: scenes/captions_train.json, images: scenes/train}, \
                  validation: {captions: scenes/captions_validation.json, images: scenes/validation}}";
    lab.write("scenes/train/000003.png", "no image");
    let said = lab.ccdni(&["run", "spec.yaml", "--set", source, "--set", "train.epochs=1"]).exits(0);
    assert!(said.contains("1 of 60 images cannot be read") && said.contains("000003.png"), "{said}");

    std::fs::remove_file(lab.path("scenes/train/000003.png")).unwrap();
    let said = lab.ccdni(&["run", "spec.yaml", "--set", source, "--outputs", "second"]).exits(2);
    assert!(said.contains("000003.png") && said.contains("is missing"), "{said}");
    assert!(!lab.path("second").exists(), "nothing is begun");
}

#[test]
fn splits_and_lists_choose_images() {
    let lab = lab();
    lab.ccdni(&["data", "scenes", "--out", "scenes", "--train", "60", "--validation", "12", "--size", "32"]).exits(0);
    // All captions in one file, as in Karpathy's splits.
    let mut images = Vec::new();
    for (folder, split) in [("train", "train"), ("validation", "val")] {
        let set = CaptionSet::open(&lab.path(&format!("scenes/captions_{folder}.json"))).unwrap();
        images.extend(set.images.iter().enumerate().map(|(index, image)| {
            let captions = set.captions.iter().filter(|caption| caption.image == index);
            let sentences: Vec<_> = captions.map(|caption| serde_json::json!({ "raw": caption.text })).collect();
            serde_json::json!({ "imgid": image.id, "filepath": folder, "filename": image.file_name, "split": split,
                "sentences": sentences })
        }));
    }
    lab.write("all.json", &serde_json::json!({ "images": images }).to_string());
    let names = |range: std::ops::RangeInclusive<usize>, folder: &str| -> String {
        range.map(|number| format!("{folder}/{number:06}.png\n")).collect()
    };
    lab.write("fifty.txt", &names(1..=50, "train"));
    lab.write("three.txt", &names(61..=63, "validation"));

    let source = |train: &str| {
        format!(
            "task.source={{kind: files, train: {{captions: all.json, images: scenes, {train}}}, \
             validation: {{captions: all.json, images: scenes, split: val}}}}"
        )
    };
    let more = ["--set", "train.epochs=1", "--set", "task.scores=false"];
    let go = |command: &[&str], train: &str| lab.ccdni(&[command, &["--set", &source(train)], &more].concat());
    let said = go(&["run", "spec.yaml"], "only: fifty.txt, split: dev").exits(2);
    assert!(said.contains("no split `dev`; it has train, val"), "{said}");
    let said = go(&["run", "spec.yaml"], "only: fifty.txt").exits(2);
    assert!(said.contains("has the splits train, val; choose, as in `split: train`"), "{said}");
    assert!(!lab.path("outputs").exists());
    let said = go(&["data", "features", "spec.yaml"], "split: train, only: fifty.txt").exits(0);
    assert!(said.contains("62 images are ready"), "{said}");
    go(&["run", "spec.yaml"], "split: train, only: fifty.txt").exits(0);

    let decoder = lab.only_run("outputs").display().to_string();
    let caption = ["caption-set", "--decoder", &decoder, "--captions", "all.json", "--images", "scenes"];
    let said = lab.ccdni(&caption).exits(2);
    assert!(said.contains("choose, as in `--split train`") && !lab.path("results.json").exists(), "{said}");
    assert!(lab.ccdni(&[&caption[..], &["--split", "val"]].concat()).exits(0).contains("12 captions"));
    let said = lab.ccdni(&["score", "results.json", "all.json", "--split", "val"]).exits(0);
    assert!(said.contains("12 of 12 images"), "{said}");
    let few = [&caption[..], &["--split", "val", "--only", "three.txt"]].concat();
    assert!(lab.ccdni(&few).exits(0).contains("3 captions"));
}

#[test]
fn a_run_begins_from_another_with_the_same_words_alone() {
    let (lab, run) = trained(&["--set", "train.epochs=1", "--set", "task.scores=false"]);
    let from = format!("train.init_from={run}");
    let go =
        |more: &[&str]| lab.ccdni(&[&["run", "spec.yaml", "--set", &from, "--outputs", "second"][..], more].concat());
    go(&["--set", "train.epochs=1", "--set", "task.scores=false"]).exits(0);
    let said = go(&["--set", "task.threshold=30"]).exits(2);
    assert!(said.contains("task.vocabulary") && said.contains("tokenizer.json"), "{said}");
}

#[test]
fn a_trained_backbone_goes_on_frozen_and_is_known_again() {
    let (lab, run) = trained(&["--seeds", "1,2", "--set", "train.epochs=1", "--set", "task.scores=false"]);
    std::fs::copy(lab.path(&format!("{run}/seeds/1/encoder.safetensors")), lab.path("backbone.safetensors")).unwrap();
    let frozen =
        ["--set", "model.encoder={kind: conv, channels: [4, 6], weights: backbone.safetensors, trainable: projection}"];
    let more = ["--set", "train.epochs=1", "--set", "task.scores=false", "--outputs", "second"];
    lab.ccdni(&[&["run", "spec.yaml"][..], &frozen, &more].concat()).exits(0);
    let decoder = lab.only_run("second").join("decoder.safetensors").display().to_string();
    let ask = |more: &[&str]| {
        lab.ccdni(&[&["sample", "--decoder", &decoder, "--image", "scenes/validation/000061.png"], more].concat())
    };
    let before = ask(&[]).exits(0);

    // Other weights of the same shapes under the same name.
    std::fs::rename(lab.path("backbone.safetensors"), lab.path("elsewhere.safetensors")).unwrap();
    assert!(ask(&[]).exits(2).contains("--backbone FILE"));
    std::fs::copy(lab.path(&format!("{run}/seeds/2/encoder.safetensors")), lab.path("backbone.safetensors")).unwrap();
    let said = ask(&[]).exits(2);
    assert!(said.contains("backbone.safetensors") && said.contains("other weights"), "{said}");
    assert_eq!(ask(&["--backbone", "elsewhere.safetensors"]).exits(0), before);
    let said = ask(&["--backbone", "random"]).exits(2);
    assert!(said.contains("`random` gives other weights") && said.contains("`backbone.safetensors`"), "{said}");
    let said = ask(&["--backbone", "hub:nobody"]).exits(2);
    assert!(said.contains("`--backbone`: ") && !said.contains("model.encoder"), "{said}");
    let image = "scenes/validation/000061.png";
    let said = lab.ccdni(&["sample", "--decoder", &run, "--image", image, "--backbone", "random"]).exits(2);
    assert!(said.contains("`--backbone` is for a frozen backbone"), "{said}");

    // A frozen backbone of random weights is not to be exchanged for a file.
    let random = "model.encoder={kind: conv, channels: [4, 6], weights: random, trainable: projection}";
    lab.ccdni(&[&["run", "spec.yaml", "--set", random][..], &more[..4], &["--outputs", "random"]].concat()).exits(0);
    let decoder = lab.only_run("random").display().to_string();
    let ask = |from: &str| lab.ccdni(&["sample", "--decoder", &decoder, "--image", image, "--backbone", from]);
    ask("random").exits(0);
    let said = ask("elsewhere.safetensors").exits(2);
    assert!(said.contains("`elsewhere.safetensors` gives other weights") && said.contains("(`random`)"), "{said}");

    // What was trained behind one backbone means nothing behind another.
    let from = format!("train.init_from={run}");
    let go = |encoder: &str| {
        let set = format!("model.encoder={{kind: conv, channels: [4, 6], {encoder}}}");
        lab.ccdni(
            &[&["run", "spec.yaml", "--set", &from, "--set", &set][..], &more[..4], &["--outputs", "third"]].concat(),
        )
    };
    let said = go("trainable: projection").exits(2);
    assert!(said.contains("train.init_from") && said.contains("another backbone"), "{said}");
    assert!(!lab.path("third").exists());
    go("trainable: all").exits(0);
}

#[test]
fn what_cannot_work_is_said_before_anything_is_written() {
    let lab = lab();
    for (set, says) in [
        ("model.encoder=null", "model.encoder"),
        ("model.encoder={kind: resnet, depth: 20, weights: random}", "18, 34, 50, 101, 152"),
        ("task.crop=40", "task.crop"),
        ("train.batch_size=1", "train.batch_size"),
        ("task.lengths=[30, 31]", "of 30 to 31"),
        ("task.vocabulary=nowhere.json", "nowhere.json"),
        ("task.variants=3", "task.variants"),
        ("model.encoder.weights=resnet50", "resnet50: cannot be read"),
        ("model.encoder.weights=hub:resnet50", "--set model.encoder.weights=hub:resnet50"),
        ("model.encoder.trainable=some", "`none`, `projection`, `all`"),
    ] {
        let said = lab.ccdni(&["run", "spec.yaml", "--set", set]).exits(2);
        assert!(said.contains(says), "{set}: {said}");
        assert!(!lab.path("outputs").exists(), "{set}");
    }
}
