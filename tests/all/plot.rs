//! `ccdni plot`: runs of the real program, side by side.

use std::fs;
use std::path::Path;

use crate::lab::Lab;

const EPOCHS: &str = "train.epochs=3";

/// Trains the small spec with these changes, and gives the run's hash.
fn train(lab: &Lab, seeds: &str, set: &[&str]) -> String {
    let mut arguments = vec!["run", "spec.yaml", "--seeds", seeds, "--set", EPOCHS, "--set", "record=null"];
    set.iter().for_each(|set| arguments.extend(["--set", set]));
    lab.ccdni(&arguments).exits(0);
    arguments[0] = "hash";
    arguments.drain(2..4);
    lab.ccdni(&arguments).exits(0).trim().to_owned()
}

fn svg(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in:\n{text}"));
}

#[track_caller]
fn assert_png(path: &Path) {
    let png = image::load_from_memory(&fs::read(path).unwrap()).unwrap().to_rgb8();
    let inked = png.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
    assert!(inked * 200 > png.pixels().len(), "{} is nearly empty", path.display());
}

#[test]
fn runs_are_drawn_with_a_legend_of_what_differs() {
    let lab = Lab::new();
    let intact = train(&lab, "1..2", &[]);
    let plain = train(&lab, "1..2", &["model.layers.0.dni=null"]);
    let lesion = train(&lab, "1..2", &["model.layers.0.dni.lesion_at=2"]);

    // By a part of the hash, whole, and as a directory.
    let directory = format!("outputs/{lesion}");
    let said = lab.ccdni(&["plot", &plain[..8], &intact, &directory, "--out", "figures/lesions"]).exits(0);
    assert_has(
        &said,
        &["cRNN", "ccRNN, intact", "ccRNN, lesion at epoch 2", &plain, "val_mse", "±", "figures/lesions.svg"],
    );
    let drawn = svg(&lab.path("figures/lesions.svg"));
    assert_has(&drawn, &["cRNN", "ccRNN, intact", "ccRNN, lesion at epoch 2", "lesion or freezing begins"]);
    assert_has(&drawn, &["mean ± s.e.m., 2 seeds", "validation mse (squared distance)", "Epoch"]);
    assert_png(&lab.path("figures/lesions.png"));

    let said =
        lab.ccdni(&["plot", &intact, &lesion, "--label", "lesion_at,bptt", "--metric", "train_loss", "--log"]).exits(0);
    assert_has(&said, &["bptt 1, intact", "lesion at epoch 2, bptt 1", "outputs/plots/comparison.png", "train_loss"]);
    assert_has(&svg(&lab.path("outputs/plots/comparison.svg")), &["training loss (squared distance)"]);

    // Runs without anything that happens have no such line, and one format is one file.
    lab.ccdni(&["plot", &intact, &plain, "--seeds", "2", "--out", "one.svg"]).exits(0);
    let drawn = svg(&lab.path("one.svg"));
    assert!(!drawn.contains("begins") && drawn.contains("one seed each") && !lab.path("one.png").exists());
}

#[test]
fn panels_have_a_title_each_and_a_reference_in_all() {
    let lab = Lab::new();
    let mut runs = Vec::new();
    for bptt in ["3", "1"] {
        for dni in ["{hidden: [8]}", "null"] {
            let set = [format!("train.bptt={bptt}"), format!("model.layers.0.dni={dni}")];
            runs.push(train(&lab, "1", &set.each_ref().map(String::as_str)));
        }
    }
    let full = train(&lab, "1", &["train.bptt=null", "model.layers.0.dni=null"]);
    let mut arguments = vec!["plot", "--panels", "bptt", "--reference", &full, "--out", "grid"];
    arguments.extend(runs.iter().map(String::as_str));
    let said = lab.ccdni(&arguments).exits(0);
    assert_has(&said, &["bptt 10 %: ccRNN", "bptt 30 %: cRNN", "cRNN, full BPTT"]);
    let drawn = svg(&lab.path("grid.svg"));
    assert_has(&drawn, &["bptt 10 %", "bptt 30 %", "cRNN, full BPTT", "one seed each"]);
    let at = |text: &str| drawn.find(text).unwrap();
    assert!(at("bptt 10 %") < at("bptt 30 %"), "panels are in the order of their values, not of the command");
    assert_eq!(drawn.matches("validation mse (squared distance)").count(), 2, "one axis a panel");
    let lines = drawn.lines().filter(|line| line.trim() == "ccRNN").count();
    assert_eq!(lines, 1, "one legend for all panels:\n{drawn}");

    // Windows as panels of their own; the whole sequence comes last.
    arguments.drain(3..5);
    arguments.push(&full);
    lab.ccdni(&arguments).exits(0);
    let drawn = svg(&lab.path("grid.svg"));
    assert!(drawn.find("bptt 30 %").unwrap() < drawn.find("bptt 100 %").unwrap());
}

#[test]
fn what_cannot_be_drawn_is_said_and_nothing_is_written() {
    let lab = Lab::new();
    let one = train(&lab, "1..2", &[]);
    let other = train(&lab, "1", &["model.layers.0.hidden=5"]);
    lab.ccdni(&["run", "spec.yaml", "--set", EPOCHS]).exits(0);
    let recorded = lab.ccdni(&["hash", "spec.yaml", "--set", EPOCHS]).exits(0).trim().to_owned();
    fs::create_dir(lab.path("outputs/empty")).unwrap();
    for (arguments, says) in [
        (vec!["nothing"], "no run in outputs begins with `nothing`"),
        (vec![""], "no run in outputs"),
        (vec!["outputs/empty"], "holds no `spec.yaml`"),
        (vec![&one, &one[..6]], "is named twice"),
        (vec![&one, "--reference", "nothing"], "begins with `nothing`"),
        (vec![&one, "--metric", "val_msa"], "did you mean `val_mse`?"),
        (vec![&one, "--label", "lesion"], "--label lesion: no spec of these runs has this key"),
        (vec![&one, "--label", "learns"], "did you mean `learn`?"),
        (vec![&one, "--panels", "train.btt"], "did you mean `train.bptt`?"),
        (vec![&one, "--panels", "hidden"], "give more of its path"),
        (vec![&one, "--seeds", "1..3"], "--seeds 3` trains what is missing"),
        (vec![&one, &other, "--seeds", "2"], "is not finished (seed 2: waiting)"),
        (vec![&recorded, &one, "--metric", "cosine"], "the runs' metrics differ"),
        (vec![&recorded, "--metric", "cosine", "--log"], "no logarithm"),
        (vec![&one, "--out", "fig.pdf"], "`.svg` or `.png`"),
        (vec![&one, "--out", "outputs"], "is a directory"),
        (vec![&one, "--outputs", "elsewhere"], "elsewhere"),
    ] {
        let mut all = vec!["plot"];
        if !arguments.contains(&"--out") {
            all.extend(["--out", "fig"]);
        }
        let arguments = [all, arguments].concat();
        let said = lab.ccdni(&arguments).exits(2);
        assert!(said.contains(says), "{arguments:?}: {said}");
        assert!(!lab.path("fig.svg").exists() && !lab.path("fig.png").exists(), "{arguments:?}");
    }
    lab.ccdni(&["plot"]).exits(2);

    // An ambiguous prefix: a directory that begins like another.
    let twin = format!("{}{}", &one[..4], if one.ends_with("00000000") { "11111111" } else { "00000000" });
    fs::create_dir(lab.path("outputs").join(&twin)).unwrap();
    fs::copy(lab.path("outputs").join(&one).join("spec.yaml"), lab.path("outputs").join(&twin).join("spec.yaml"))
        .unwrap();
    let said = lab.ccdni(&["plot", &one[..4]]).exits(2);
    assert_has(&said, &[&one, &twin, "give more digits"]);
}

#[test]
fn unfinished_and_damaged_runs_are_named() {
    let lab = Lab::new();
    let hash = train(&lab, "1..2", &[]);
    let run = lab.run();
    // One of two seeds is drawn, and that it is one of two is said.
    fs::remove_dir_all(run.0.join("seeds/2")).unwrap();
    let said = lab.ccdni(&["plot", &hash, "--out", "fig"]).exits(0);
    assert_has(&said, &["note:", "1 of 2 seeds finished (seed 2: waiting)"]);
    fs::remove_file(lab.path("fig.svg")).unwrap();

    fs::write(run.0.join("seeds/1/metrics.csv"), "seed,epoch\n").unwrap();
    assert_has(&lab.ccdni(&["plot", &hash, "--out", "fig"]).exits(2), &["seeds/1/metrics.csv", "--force"]);
    fs::write(run.0.join("spec.yaml"), "task: [").unwrap();
    assert_has(&lab.ccdni(&["plot", &hash, "--out", "fig"]).exits(2), &["spec.yaml"]);
    fs::remove_dir_all(run.0.join("seeds")).unwrap();
    assert_has(
        &lab.ccdni(&["plot", &hash, "--out", "fig"]).exits(2),
        &["is not finished", "seed 1: waiting", "ccdni run"],
    );
    assert!(!lab.path("fig.svg").exists());
}
