//! Bad specs and overrides through the real program: exit code 2, the key named, a next step, and nothing created.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// Commands that must refuse them all. `run` is given an output directory, which must not appear.
const COMMANDS: [&[&str]; 2] = [&["check"], &["run"]];

/// A spec with which nothing is wrong.
const GOOD: &str = "\
task: {kind: linedraw}
model:
  layers:
    - {cell: lstm, hidden: 50, dni: {hidden: [40]}}
train: {epochs: 10, batch_size: 50, bptt: 1}
";

/// One bad request: what is laid over [`GOOD`], and what the message must say.
struct Bad {
    spec: Option<&'static str>,
    set: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
}

const fn set(set: &'static [&'static str], says: &'static [&'static str]) -> Bad {
    Bad { spec: None, set, env: &[], says }
}

const fn env(env: &'static [(&'static str, &'static str)], says: &'static [&'static str]) -> Bad {
    Bad { spec: None, set: &[], env, says }
}

const fn text(spec: &'static str, says: &'static [&'static str]) -> Bad {
    Bad { spec: Some(spec), set: &[], env: &[], says }
}

#[rustfmt::skip] // one line a mistake
const BAD: &[Bad] = &[
    // Typing errors.
    set(&["train.bptt_=5"], &["`train.bptt_`", "did you mean `bptt`?"]),
    set(&["trian.bptt=5"], &["`trian`", "did you mean `train`?"]),
    set(&["bptt=5"], &["`bptt`", "did you mean `train.bptt`?"]),
    set(&["task.point=5"], &["`task.point`", "did you mean `points`?"]),
    set(&["model.layers.0.cel=gru"], &["`model.layers.0.cel`", "did you mean `cell`?"]),
    set(&["model.layers.0.dni.hiden=[1]"], &["`model.layers.0.dni.hiden`", "did you mean `hidden`?"]),
    set(&["model.layers.0.cell=lstmm"], &["`model.layers.0.cell`", "did you mean `lstm`?"]),
    set(&["task.kind=linedrow"], &["`task.kind`", "did you mean `linedraw`?"]),
    set(&["train.optimizer.kind=adamm"], &["`train.optimizer.kind`", "did you mean `adam`?"]),
    set(&["train.optimizer={kind: sparseadam}"], &["`train.optimizer.kind`", "use `adam`", "sparse", "left out"]),
    set(&["train.optimizer.momentum=0.5"], &["`train.optimizer.momentum`", "help: Known here: `betas`"]),
    text("extends: good.yaml\ntrain.bptt: 3", &["s.yaml:2:1: `train.bptt`", "tables within tables"]),
    set(&["run.device=gpu"], &["`run.device`", "`cuda`"]),
    set(&["train.keep=first"], &["`train.keep`", "one of `last`, `best`"]),
    // Removed by null: who removed it is named.
    set(&["train.epochs="], &["--set train.epochs=", "`train.epochs`", "is missing"]),
    set(&["train=null"], &["--set train=null", "`train.epochs`", "`train.batch_size`"]),
    set(&["task.kind=null"], &["--set task.kind=null", "`task.kind`", "is missing"]),
    env(&[("CCDNI__TRAIN__EPOCHS", "null")], &["CCDNI__TRAIN__EPOCHS: `train.epochs`", "is missing"]),
    text("extends: good.yaml\ntrain:\n  epochs: null", &["s.yaml:3:3: `train.epochs`", "is missing"]),
    // Wrong types.
    set(&["train.epochs=many"], &["`train.epochs` is `many`", "a whole number"]),
    set(&["train.epochs='10'"], &["`train.epochs`", "leave out the quotes"]),
    set(&["train.epochs=10.0"], &["`train.epochs`", "write `10`"]),
    set(&["train.epochs=[10]"], &["`train.epochs`", "a whole number"]),
    set(&["train.keep_hidden=yes"], &["`train.keep_hidden`", "write `true`"]),
    set(&["train.optimizer.lr=fast"], &["`train.optimizer.lr`", "a number"]),
    set(&["train.optimizer.lr=.nan"], &["`train.optimizer.lr`", "finite"]),
    set(&["model.layers.0.dni.scale=.inf"], &["`model.layers.0.dni.scale`", "finite"]),
    set(&["train.optimizer.betas=[0.9]"], &["`train.optimizer.betas`", "a list of 2"]),
    set(&["train.optimizer=adam"], &["`train.optimizer`", "a table"]),
    set(&["model.layers={}"], &["`model.layers`", "a list of tables"]),
    set(&["model.layers.0.dni.hidden=400"], &["`model.layers.0.dni.hidden`", "write `[400]`"]),
    set(&["name=2021"], &["`name`", "put it in quotes"]),
    set(&["train=5"], &["`train`", "a table"]),
    set(&["seeds=5"], &["`seeds`", "write `[5]`"]),
    set(&["train.bptt=20 %%"], &["`train.bptt`", "20%"]),
    // Out of range.
    set(&["train.epochs=0"], &["`train.epochs`", "at least 1"]),
    set(&["train.batch_size=0"], &["`train.batch_size`", "at least 1"]),
    set(&["train.epochs=18446744073709551615"], &["`train.epochs`", "at most 1000000000"]),
    set(&["train.batch_size=1000000000000"], &["`train.batch_size`", "at most 1000000"]),
    set(&["model.layers.0.hidden=1000000000"], &["`model.layers.0.hidden`", "at most 1000000"]),
    set(&["model.layers.0.dni.hidden=[10000000000000]"], &["`model.layers.0.dni.hidden.0`", "at most 1000000"]),
    set(&["run.threads=99999"], &["`run.threads`", "at most 1024"]),
    set(&["train.bptt=0"], &["`train.bptt`", "at least 1"]),
    set(&["train.bptt=-1"], &["`train.bptt`", "at least 1"]),
    set(&["train.bptt=150%"], &["`train.bptt`", "at most 100%"]),
    set(&["model.layers.0.dropout=1"], &["`model.layers.0.dropout`", "below 1"]),
    set(&["model.layers.0.init_scale=0"], &["`model.layers.0.init_scale`", "above 0"]),
    set(&["train.optimizer.lr=-0.1"], &["`train.optimizer.lr`", "above 0"]),
    set(&["train.optimizer.betas=[0.9, 1]"], &["`train.optimizer.betas.1`", "below 1"]),
    set(&["task.seq_len=0"], &["`task.seq_len`", "at least"]),
    set(&["task.val_split=1.5"], &["`task.val_split`", "below 1"]),
    set(&["run.jobs=0"], &["`run.jobs`", "at least 1"]),
    set(&["run.checkpoint_every=often"], &["`run.checkpoint_every`", "`10s`"]),
    set(&["run.checkpoint_every=10"], &["`run.checkpoint_every`", "`10s`", "help: How often"]),
    set(&["run.checkpoint_every={epochs: 0}"], &["`run.checkpoint_every.epochs`", "at least 1"]),
    set(&["model.layers=[]"], &["`model.layers`", "at least one"]),
    set(&["model.layers.1.hidden=5"], &["`model.layers.1`", "beyond the end"]),
    set(&["model.layers.0=null"], &["`model.layers.0`", "whole list"]),
    set(&["model.layers.0.dni.hidden.7=5"], &["`model.layers.0.dni.hidden.7`", "beyond the end"]),
    // Seeds.
    set(&["seeds=[1, 2, 1]"], &["`seeds`", "seed 1 is named twice"]),
    set(&["seeds=[1..3, 2]"], &["`seeds`", "seed 2 is named twice"]),
    set(&["seeds=3..1"], &["`seeds`", "`1..3`"]),
    set(&["seeds=[]"], &["`seeds`", "at least one"]),
    set(&["seeds=[-1]"], &["`seeds.0`", "at least 0"]),
    set(&["seeds=1..99999999999"], &["`seeds`", "more than"]),
    // Combinations that cannot work.
    set(&["model.layers.0.cell=gru", "model.layers.0.force_forget=true"], &["`model.layers.0.force_forget`", "`cell: lstm`"]),
    set(&["model.layers.0.dni.kind=mpl"], &["`model.layers.0.dni.kind`", "expected one of `mlp`, `conv`"]),
    set(&["model.layers.0.dni.hiden=[4]"], &["`model.layers.0.dni.hiden`", "did you mean `hidden`"]),
    set(&["model.layers.0.dni.fibres=101"], &["`model.layers.0.dni.fibres`", "at most 100"]),
    set(&["model.layers.0.dni={learn: false, init_last: zero}"], &["`model.layers.0.dni.init_last`", "leave `init_last` out"]),
    set(&["model.layers.0.dni={learn: false, freeze_at: 3}"], &["`model.layers.0.dni.freeze_at`", "leave `freeze_at` out"]),
    set(&["model.layers.0.dni.lesion_at=11"], &["`model.layers.0.dni.lesion_at`", "train.epochs"]),
    set(&["model.layers.0.dni={freeze_at: 5, lesion_at: 3}"], &["`model.layers.0.dni.freeze_at`", "before the lesion"]),
    set(&["model.layers=[{cell: gru, hidden: 4, dni: {share: a}}, {cell: gru, hidden: 5, dni: {share: a}}]"], &["`model.layers.1.dni.share`", "`hidden`"]),
    set(&["task.val_split=0", "train.keep=best"], &["`train.keep`", "--set train.keep=best", "validation"]),
    set(&["task.val_split=0", "train.early_stopping.patience=3"], &["`train.early_stopping`", "validation"]),
    set(&["task.val_split=0", "train.schedule.kind=reduce_on_plateau"], &["`train.schedule`", "validation"]),
    set(&["model.embed={size: 4}"], &["`model.embed`", "leave `embed` out"]),
    set(&["model.layers.0.dni=null", "record.what=[synthetic]"], &["`record.what.0`", "`dni`"]),
    set(&["model.layers.0.dni=null", "record.cosine=true"], &["`record.cosine`", "--set record=null"]),
    set(&["record.certainty=true"], &["`record.certainty`", "classes"]),
    set(&["record.what=[hidden, hidden]"], &["`record.what.1`", "once"]),
    set(&["train.init_from=nowhere"], &["`train.init_from`", "outputs/"]),
    set(&["train.schedule={kind: reduce_on_plateau, min_lr: 1}"], &["`train.schedule.min_lr`", "`train.optimizer.lr`"]),
    // Flags and variables that are none.
    set(&["train.bptt"], &["`train.bptt`", "path=value"]),
    set(&[""], &["path=value", "--set train.bptt=5"]),
    set(&["=5"], &["--set =5", "dots"]),
    set(&["train..bptt=5"], &["`train..bptt`", "empty"]),
    set(&["train.bptt=[1"], &["`train.bptt`", "YAML"]),
    set(&["extends=other.yaml"], &["`extends`", "files only"]),
    env(&[("CCDNI__TRAIN__BPTT", "x")], &["`train.bptt`", "CCDNI__TRAIN__BPTT", "a whole number of at least 1, or text"]),
    env(&[("CCDNI__SEEDS", "3")], &["`seeds`", "expected a list of whole numbers, such as `[1, 2]`, or text", "write `[3]`"]),
    env(&[("CCDNI__TRAIN__BTPT", "1")], &["`train.btpt`", "did you mean `bptt`?"]),
    env(&[("CCDNI__MODEL__LAYERS__3__HIDDEN", "1")], &["`model.layers.3`", "beyond the end"]),
    env(&[("CCDNI__TRAIN____BPTT", "1")], &["two underscores"]),
    env(&[("CCDNI__TRAIN__BPTT", "1"), ("CCDNI__train__bptt", "2")], &["same key", "unset"]),
    // Files.
    text("", &["`task.kind`", "`model.layers`", "`train.epochs`"]),
    text("- a\n- b", &["table of keys", "s.yaml"]),
    text("train: {bptt: 1", &["s.yaml:", "YAML", "brackets"]),
    text("train:\n\tbptt: 1", &["s.yaml:2", "YAML"]),
    text("extends: good.yaml\ntrain: {bptt: 1, bptt: 2}", &["s.yaml:2", "bptt", "duplicate"]),
    text("extends: good.yaml\ntrain: {bptt: 0}", &["s.yaml:2:9", "`train.bptt`"]),
    text("extends: goood.yaml", &["`extends`", "s.yaml:1:1", "did you mean", "good.yaml"]),
    text("extends: [good.yaml, 5]", &["`extends.1`", "path"]),
    text("extends: circle.yaml", &["circle", "circle.yaml:1:1", "third"]),
    text("extends: good.yaml\ntrue: 1", &["no key", "s.yaml"]),
    text("extends: good.yaml\nname: !secret x", &["!secret", "leave it out"]),
    text("extends: good.yaml\nseeds: [18446744073709551616]", &["s.yaml:2"]),
    text("task: {}\nmodel: {layers: [{}]}\ntrain: {}", &["`task.kind`", "`model.layers.0.cell`", "`model.layers.0.hidden`", "`train.batch_size`"]),
];

fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything_in(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// Runs a command on a spec in a folder, and returns what it said on standard error.
fn refused(command: &[&str], folder: &Path, spec: &str, bad: &Bad) -> String {
    let mut program = Command::cargo_bin("ccdni").unwrap();
    program.current_dir(folder).args(command).arg(spec);
    if command == ["run"] {
        program.args(["--outputs", "outputs"]);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CCDNI__")) {
        program.env_remove(name);
    }
    program.envs(bad.env.iter().copied());
    for value in bad.set {
        program.arg(format!("--set={value}"));
    }
    let before = everything_in(folder);
    let output = program.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let what = format!("{command:?} {:?} {:?} {:?}\n{said}", bad.set, bad.env, bad.spec);
    assert_eq!(output.status.code(), Some(2), "{what}");
    assert!(output.stdout.is_empty(), "{what}");
    assert_eq!(everything_in(folder), before, "something was created: {what}");
    for expected in bad.says {
        assert!(said.contains(expected), "`{expected}` is not in: {what}");
    }
    said
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good.yaml"), GOOD).unwrap();
    std::fs::write(folder.path().join("circle.yaml"), "extends: s.yaml").unwrap();
    folder
}

#[test]
fn every_bad_spec_is_refused_with_a_next_step_and_creates_nothing() {
    assert!(BAD.len() >= 40);
    for command in COMMANDS {
        for bad in BAD {
            let folder = folder();
            std::fs::write(folder.path().join("s.yaml"), bad.spec.unwrap_or(GOOD)).unwrap();
            let said = refused(command, folder.path(), "s.yaml", bad);
            assert!(said.contains("help: "), "no next step: {said}");
        }
    }
}

#[test]
fn a_spec_that_cannot_be_read_is_refused() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    std::fs::write(folder.path().join("run/spec.yaml"), GOOD).unwrap();
    std::fs::write(folder.path().join("image.yaml"), [0xff, 0xd8, 0xff, 0xe0]).unwrap();
    for command in COMMANDS {
        refused(command, folder.path(), "god.yaml", &set(&[], &["no such file", "did you mean `good.yaml`?"]));
        refused(command, folder.path(), "run", &set(&[], &["directory", "did you mean `run/spec.yaml`?"]));
        let said = refused(command, folder.path(), "image.yaml", &set(&[], &["not a text file"]));
        assert!(!said.contains("did you mean"), "{said}");
    }
}

#[test]
fn an_output_directory_that_cannot_be_made_is_refused() {
    let folder = folder();
    std::fs::write(folder.path().join("outputs"), "a file is in the way").unwrap();
    refused(&["run"], folder.path(), "good.yaml", &set(&[], &["outputs is a file", "--outputs DIR"]));
}

#[test]
fn all_mistakes_are_shown_in_one_go() {
    let folder = folder();
    let many = set(&["train.bpt=1", "train.epochs=0", "model.layers.0.dni.fibres=101"], &[]);
    insta::assert_snapshot!(refused(COMMANDS[0], folder.path(), "good.yaml", &many));
}

#[test]
fn one_bad_value_is_one_problem_with_every_alternative_once() {
    let folder = folder();
    const VALUES: [&[&str]; 5] =
        [&["seeds=3"], &["seeds=1...10"], &["seeds=[1, 1...10]"], &["train.bptt=foo"], &["run.checkpoint_every=often"]];
    for value in VALUES {
        let bad = set(value, &[]);
        let said = refused(COMMANDS[0], folder.path(), "good.yaml", &bad);
        assert_eq!(said.matches("expected").count(), 1, "{said}");
        assert!(said.matches("text: a range").count() <= 1, "{said}");
        assert_eq!(said.matches("help: ").count(), 1, "{said}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_spec() {
    let folder = folder();
    std::fs::write(folder.path().join("marked.yaml"), format!("\u{feff}{GOOD}")).unwrap();
    Command::cargo_bin("ccdni").unwrap().current_dir(folder.path()).args(["check", "marked.yaml"]).assert().success();
    std::fs::write(folder.path().join("wrong.yaml"), format!("\u{feff}trian: 1\n{GOOD}")).unwrap();
    refused(COMMANDS[0], folder.path(), "wrong.yaml", &set(&[], &["wrong.yaml:1:1: `trian`"]));
}

#[test]
fn the_good_spec_is_good() {
    let folder = folder();
    Command::cargo_bin("ccdni").unwrap().current_dir(folder.path()).args(["check", "good.yaml"]).assert().success();
}
