//! What `ccdni run` does to a directory of results, seen from outside: the program itself on a small spec.

use std::fs;

use crate::lab::{EPOCHS, Lab};

#[test]
fn a_run_leaves_its_directory_and_a_second_one_finds_it_finished() {
    let lab = Lab::new();
    let said = lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let run = lab.run();
    for path in [run.0.clone(), run.0.join("plots"), run.0.join("decoder.safetensors")] {
        let shown = path.strip_prefix(lab.dir.path()).unwrap().display().to_string();
        assert!(path.exists() && said.contains(&shown), "{shown}: {said}");
    }
    assert_eq!(said.matches("seed 1: epoch ").count(), EPOCHS, "{said}");
    for name in ["spec.yaml", "manifest.json", "metrics.csv", "results.csv", "scores.npy", "scores.json", "log.txt"] {
        assert!(run.0.join(name).is_file(), "{name}");
    }
    let unit = run.json("seeds/1/unit.json");
    assert_eq!((&unit["state"], &unit["epochs"]), (&"done".into(), &EPOCHS.into()));
    assert_eq!(run.json("manifest.json")["seeds"]["1"]["state"], "done");
    assert_eq!(run.json("manifest.json")["best_seed"], 1);
    assert_eq!(fs::read(run.0.join("seeds/1/lock")).unwrap(), b"", "an orderly end leaves no name");
    assert_eq!(
        fs::read(run.0.join("decoder.safetensors")).unwrap(),
        fs::read(run.0.join("seeds/1/decoder.safetensors")).unwrap()
    );

    let before = run.log();
    let said = lab.ccdni(&["run", "spec.yaml"]).exits(0);
    assert!(said.contains("finished already; `--force` trains it anew") && said.contains("outputs/"), "{said}");
    // The resolved spec in the directory is the same run.
    let own = run.0.join("spec.yaml");
    let said = lab.ccdni(&["run", own.to_str().unwrap()]).exits(0);
    assert!(said.contains("finished already"), "{said}");
    assert_eq!(run.log(), before, "nothing was trained");
}

#[test]
fn more_seeds_train_only_the_missing_ones_for_any_number_of_jobs() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "2"]).exits(0);
    lab.ccdni(&["run", "spec.yaml", "--seeds", "1..3", "--jobs", "2"]).exits(0);
    let run = lab.run();
    assert_eq!([1, 2, 3].map(|seed| run.times_done(seed)), [1, 1, 1]);
    let rows = fs::read_to_string(run.0.join("metrics.csv")).unwrap();
    let seeds: Vec<&str> = rows.lines().skip(1).filter_map(|row| row.split(',').next()).collect();
    assert_eq!(seeds, [["1"; EPOCHS], ["2"; EPOCHS], ["3"; EPOCHS]].concat());

    let other = Lab::new();
    other.ccdni(&["run", "spec.yaml", "--seeds", "3,1,2", "--jobs", "1"]).exits(0);
    run.assert_equals(&other.run());
}

#[test]
fn a_lost_or_stale_aggregate_is_made_again() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let run = lab.run();
    for name in [
        "metrics.csv",
        "results.csv",
        "scores.npy",
        "scores.json",
        "predictions.npy",
        "targets.npy",
        "predictions.json",
        "decoder.safetensors",
        "plots/learning.svg",
        "plots/drawings.png",
    ] {
        let path = run.0.join(name);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        lab.ccdni(&["run", "spec.yaml"]).exits(0);
        assert!(fs::read(&path).unwrap() == whole, "{name}");
        fs::write(&path, "").unwrap();
        lab.ccdni(&["run", "spec.yaml"]).exits(0);
        assert!(fs::read(&path).unwrap() == whole, "{name}");
    }
}

#[test]
fn a_finished_run_can_be_looked_at_without_writing() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let lock = lab.run().0.join(".lock");
    fs::remove_file(&lock).unwrap();
    // Nobody can lock a directory, whatever the user may do.
    fs::create_dir(&lock).unwrap();
    let said = lab.ccdni(&["run", "spec.yaml"]).exits(0);
    assert!(said.contains("finished already"), "{said}");
}

#[test]
fn a_done_unit_whose_files_are_gone_or_damaged_is_named() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "1,2"]).exits(0);
    let run = lab.run();
    for name in ["decoder.safetensors", "metrics.csv", "unit.json"] {
        let path = run.0.join("seeds/2").join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let said = lab.ccdni(&["run", "spec.yaml", "--seeds", "1,2"]).exits(2);
        assert!(said.contains(&format!("seeds/2/{name}: is damaged")), "{said}");
        let outputs = run.0.parent().unwrap().file_name().unwrap().to_string_lossy();
        let run = format!("{outputs}/{}", run.0.file_name().unwrap().to_string_lossy());
        let command = format!("ccdni run {run}/spec.yaml --outputs {outputs} --force --seeds 2");
        assert!(said.contains(&format!("train this seed again with `{command}`")), "{said}");
        if name == "unit.json" {
            let said = lab.ccdni(&["list"]).exits(0);
            assert!(said.lines().next().unwrap().len() < 90 && said.contains("\n\n"), "{said}");
            break;
        }
        fs::remove_file(&path).unwrap();
        let said = lab.ccdni(&["run", "spec.yaml", "--seeds", "1,2"]).exits(2);
        assert!(said.contains(&format!("seeds/2/{name}: is missing")), "{said}");
        fs::write(&path, whole).unwrap();
    }
    lab.ccdni(&["run", "spec.yaml", "--force", "--seeds", "2"]).exits(0);
    assert_eq!([1, 2].map(|seed| run.times_done(seed)), [1, 2]);
}

#[test]
fn spec_and_manifest_of_a_directory_are_written_again() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let run = lab.run();
    let spec = fs::read(run.0.join("spec.yaml")).unwrap();
    for (name, left) in [("spec.yaml", None), ("manifest.json", None), ("manifest.json", Some("{"))] {
        fs::remove_file(run.0.join(name)).unwrap();
        if let Some(text) = left {
            fs::write(run.0.join(name), text).unwrap();
        }
        if name == "manifest.json" {
            let said = lab.ccdni(&["show", &run.0.file_name().unwrap().to_string_lossy()]).exits(2);
            assert!(said.contains("manifest.json: is ") && said.contains("makes it again"), "{said}");
        }
        let said = lab.ccdni(&["run", "spec.yaml"]).exits(0);
        assert!(said.contains("finished already"), "{said}");
        assert_eq!(fs::read(run.0.join("spec.yaml")).unwrap(), spec);
        assert_eq!(run.json("manifest.json")["seeds"]["1"]["state"], "done");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn progress_fits_a_terminal_of_80_columns() {
    let lab = Lab::new();
    let program = lab.command(&[]).get_program().to_string_lossy().into_owned();
    let script = format!("stty cols 80 rows 24; '{program}' run spec.yaml --set train.epochs=100");
    let mut terminal = std::process::Command::new("script");
    terminal.args(["-qec", &script, "/dev/null"]).current_dir(lab.dir.path()).stdin(std::process::Stdio::null());
    let Ok(ended) = terminal.output() else { return };
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    // Each escape sequence begins a new piece; a bar is one that ends in an epoch's numbers.
    let bars: Vec<&str> = said.split(['\r', '\n', '\u{1b}']).filter(|piece| piece.contains("/100  train")).collect();
    assert!(!bars.is_empty() && said.contains("seed 1: done"), "{said}");
    for bar in bars {
        let value = bar.split("val_mse ").nth(1).and_then(|text| text.trim_end().split_once('.')).unwrap_or_default();
        assert!(bar.chars().count() <= 84 && value.1.len() == 4, "{bar:?}");
    }
}

#[test]
fn what_cannot_be_printed_is_an_error_and_no_panic() {
    let lab = Lab::new();
    for arguments in [&["check", "spec.yaml"][..], &["hash", "spec.yaml"], &["schema"]] {
        let full = fs::File::options().write(true).open("/dev/full");
        let Ok(full) = full else { continue };
        let ended = lab.command(arguments).stdout(full).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(1) && said.contains("cannot write to standard output"), "{said}");
        // A reader that has gone is no error.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = lab.command(arguments).stdout(writer).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
    }
}

#[test]
fn an_error_that_nobody_can_hear_still_has_its_exit_code() {
    let lab = Lab::new();
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else { return };
    let ended = lab.command(&["check", "nowhere.yaml"]).stderr(full).status().unwrap();
    assert_eq!(ended.code(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_name_need_not_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let lab = Lab::new();
    let name = std::ffi::OsStr::from_bytes(b"s\xff.yaml");
    fs::rename(lab.path("spec.yaml"), lab.dir.path().join(name)).unwrap();
    let ended = lab.command(&["run", "--set", "train.epochs=1"]).arg(name).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

#[test]
fn force_trains_anew_and_keeps_the_old_unit_beside() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let run = lab.run();
    let before = run.results();
    lab.ccdni(&["run", "spec.yaml", "--force"]).exits(0);
    assert_eq!(run.times_done(1), 2);
    assert_eq!(run.began_at(1), [(1, 1), (1, 1)]);
    assert!(run.0.join("seeds/1.old-1/decoder.safetensors").exists());
    assert!(run.results() == before);
}

#[test]
fn numbers_of_another_version_are_refused_without_force() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let run = lab.run();
    run.edit("seeds/1/unit.json", "\"numerics\": ", "\"numerics\": 9");
    for seeds in ["1", "1,2", "2"] {
        let said = lab.ccdni(&["run", "spec.yaml", "--seeds", seeds]).exits(2);
        assert!(said.contains("seed 1") && said.contains("--force"), "{said}");
    }
    lab.ccdni(&["run", "spec.yaml", "--force"]).exits(0);
    assert_eq!(run.times_done(1), 2);
}

#[test]
fn a_loss_that_is_no_number_fails_the_seed_and_keeps_its_checkpoint() {
    let lab = Lab::new();
    let diverges = ["--set", "train.optimizer={kind: sgd, lr: 100.0}", "--set", "train.clip=null"];
    let arguments = [&["run", "spec.yaml"], &diverges[..]].concat();
    let said = lab.ccdni(&arguments).exits(1);
    assert!(said.contains("seed 1: epoch 1, batch"), "{said}");
    assert!(said.contains("--force") && !said.contains("run again"), "{said}");
    let run = lab.run();
    let unit = run.json("seeds/1/unit.json");
    assert_eq!(unit["state"], "failed");
    assert!(unit["reason"].as_str().unwrap().contains("batch"), "{unit}");
    let checkpoint = fs::read(run.0.join("seeds/1/checkpoint.safetensors")).unwrap();
    assert!(!checkpoint.is_empty() && !run.0.join("decoder.safetensors").exists());
    assert_eq!(run.json("manifest.json")["seeds"]["1"]["state"], "failed");

    // It goes on from the checkpoint, and fails again; with --force it starts again.
    lab.ccdni(&arguments).exits(1);
    lab.ccdni(&[&arguments[..], &["--force"]].concat()).exits(1);
    assert_eq!(run.log().matches("seed 1: goes on from its checkpoint").count(), 1, "{}", run.log());
    // The second attempt failed in its first batch: only the first and the forced one came to train from the start.
    assert_eq!(run.began_at(1), [(1, 1), (1, 1)]);
}

#[test]
fn a_seed_that_cannot_write_is_unfinished_and_goes_on() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "2"]).exits(0);
    let run = lab.run();
    fs::create_dir(run.0.join("seeds/1")).unwrap();
    // Nothing can be written there, whatever the user may do.
    let recordings = run.0.join("seeds/1/recordings");
    fs::write(&recordings, "").unwrap();
    let arguments = ["run", "spec.yaml", "--seeds", "1"];
    let said = lab.ccdni(&arguments).exits(1);
    assert!(said.contains("run again to go on") && !said.contains("--force"), "{said}");
    assert_eq!(run.json("seeds/1/unit.json")["state"], "unfinished");
    fs::remove_file(&recordings).unwrap();
    lab.ccdni(&arguments).exits(0);
    let began = run.began_at(1);
    assert!(began.len() == 2 && began[1] > (1, 1), "{began:?}");
}

#[test]
fn only_what_may_pass_is_to_be_run_again() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "2"]).exits(0);
    let run = lab.run();
    fs::create_dir(run.0.join("seeds/1")).unwrap();
    // It cannot be recorded as failed: the seed has no record yet.
    fs::write(run.0.join("seeds/1/checkpoint.safetensors"), "nonsense").unwrap();
    let said = lab.ccdni(&["run", "spec.yaml", "--seeds", "1"]).exits(1);
    assert!(said.contains("--force --seeds 1`") && !said.contains("run again"), "{said}");
}

#[test]
fn a_seed_that_a_worker_could_not_record_as_failed_is_recorded() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--seeds", "2"]).exits(0);
    let run = lab.run();
    // The worker reads it when it writes the trained weights.
    fs::write(run.0.join("tokenizer.json"), "nonsense").unwrap();
    let said = lab.ccdni(&["run", "spec.yaml", "--seeds", "1"]).exits(1);
    assert!(said.contains("tokenizer.json") && !said.contains("run again"), "{said}");
    let unit = run.json("seeds/1/unit.json");
    assert_eq!(unit["state"], "failed");
    assert!(unit["reason"].as_str().unwrap().contains("tokenizer.json"), "{unit}");
}

#[test]
fn initial_weights_come_from_another_run_whose_files_must_not_change() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    let source = lab.run();
    let relative = format!("outputs/{}", source.0.file_name().unwrap().to_string_lossy());
    let from = format!("train.init_from={relative}");
    let arguments = ["run", "spec.yaml", "--outputs", "second", "--set", &from];
    let said = lab.ccdni(&[&arguments[..], &["--seeds", "1,2"]].concat()).exits(2);
    assert!(said.contains("no trained seed 2") && !lab.path("second").exists(), "{said}");

    lab.ccdni(&arguments).exits(0);
    let hash = fs::read_dir(lab.path("second")).unwrap().next().unwrap().unwrap().path();
    assert_ne!(hash.file_name(), source.0.file_name());
    let manifest = fs::read_to_string(hash.join("manifest.json")).unwrap();
    let key = format!("{}/seeds/1/decoder.safetensors", source.0.file_name().unwrap().to_string_lossy());
    assert!(manifest.contains(&format!("\"{key}\"")), "{manifest}");

    // The run may be moved, and is then named anew.
    lab.ccdni(&["run", "spec.yaml", "--seeds", "2"]).exits(0);
    fs::rename(&source.0, lab.path("moved")).unwrap();
    let moved = ["run", "spec.yaml", "--outputs", "second", "--set", "train.init_from=moved", "--seeds", "1,2"];
    lab.ccdni(&moved).exits(0);
    assert_eq!(fs::read_dir(lab.path("second")).unwrap().count(), 1);
    assert!(hash.join("seeds/2/decoder.safetensors").exists());

    // Other bytes are refused wherever they lie.
    let mut weights = fs::read(lab.path("moved/seeds/1/decoder.safetensors")).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    fs::write(lab.path("moved/seeds/1/decoder.safetensors"), weights).unwrap();
    let said = lab.ccdni(&moved).exits(2);
    assert!(said.contains("decoder.safetensors") && said.contains("changed"), "{said}");
}

#[test]
fn initial_weights_that_cannot_fit_are_refused_before_anything_is_written() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml", "--set", "train.epochs=1"]).exits(0);
    let from = format!("train.init_from={}", lab.run().0.display());
    for model in ["model.layers.0.hidden=7", "model.layers.0.cell=gru"] {
        for command in [&["run", "spec.yaml", "--outputs", "second"][..], &["check", "spec.yaml"]] {
            let said = lab.ccdni(&[command, &["--set", &from, "--set", model]].concat()).exits(2);
            assert!(said.contains("train.init_from") && said.contains("do not fit"), "{said}");
            assert!(!said.contains("run again") && !lab.path("second").exists(), "{said}");
        }
    }
}

#[test]
fn nothing_is_written_where_something_is_wrong() {
    let lab = Lab::new();
    lab.write("file", "");
    for (arguments, says) in [
        (&["--outputs", "file"][..], "is a file"),
        (&["--outputs", "file/below"], "is a file"),
        (&["--set", "run.device=cuda", "--set", "run.jobs=1"], "cuda"),
        (&["--seeds", "3..1"], "--seeds"),
        (&["--jobs", "0"], "--jobs"),
        (&["--set", "train.epochs=0"], "train.epochs"),
    ] {
        if says == "cuda" && cfg!(feature = "cuda") {
            continue;
        }
        let said = lab.ccdni(&[&["run", "spec.yaml"], arguments].concat()).exits(2);
        assert!(said.contains(says), "{said}");
        let left: Vec<_> = fs::read_dir(lab.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{arguments:?} left {left:?}");
    }
}

#[test]
fn a_changed_spec_in_a_run_directory_is_noticed() {
    let lab = Lab::new();
    lab.ccdni(&["run", "spec.yaml"]).exits(0);
    lab.run().edit("spec.yaml", "batch_size: 4", "batch_size: 5");
    let said = lab.ccdni(&["run", "spec.yaml"]).exits(2);
    assert!(said.contains("spec.yaml") && said.contains("restore"), "{said}");
}

#[test]
fn list_and_show_read_directories_back() {
    let lab = Lab::new();
    let said = lab.ccdni(&["list"]).exits(2);
    assert!(said.contains("--outputs"), "{said}");
    lab.ccdni(&["run", "spec.yaml", "--seeds", "1,2"]).exits(0);
    lab.ccdni(&["run", "spec.yaml", "--set", "train.epochs=1"]).exits(0);
    let said = lab.ccdni(&["list"]).exits(0);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[1..].iter().all(|line| line.contains("linedraw") && line.ends_with("tiny")), "{said}");

    let hash = lines[1].split_whitespace().next().unwrap();
    let said = lab.ccdni(&["show", &hash[..11]]).exits(0);
    for expected in [hash, "numerics", "batch_size: 4", "done", "decoder.safetensors"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    for (prefix, says) in [("zz", "no run"), ("", "no run")] {
        let said = lab.ccdni(&["show", prefix]).exits(2);
        assert!(said.contains(says), "{said}");
    }
    assert!(lab.ccdni(&["completions", "bash"]).exits(0).contains("ccdni"));
}
