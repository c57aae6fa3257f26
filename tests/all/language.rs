//! Language models: the program from a spec to a continued text, and text that is none.

use std::fs;

use crate::lab::Lab;

const MODEL: &str = "
task: {kind: language, steps: 6, columns: 2, source: {kind: grammar, train: 60, valid: 20, test: 20}}
model:
  embed: {size: 8, range: 0.1}
  readout: tied
  input_dropout: 0.1
  output_dropout: 0.1
  layers: [{cell: lstm, hidden: 8, dni: {hidden: [9]}}]
train: {epochs: 2, batch_size: 4, bptt: 3, keep_hidden: true, optimizer: {kind: adam, lr: 0.01}}
run: {device: cpu}
";

#[test]
fn the_program_trains_a_language_model_and_continues_a_text() {
    let lab = Lab::new();
    lab.write("spec.yaml", MODEL);
    let output = lab.command(&["run", "spec.yaml"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = fs::read_dir(lab.path("outputs")).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read_to_string(run.join("metrics.csv")).unwrap().contains("val_perplexity"));
    let sample = |more: &[&str]| {
        let decoder = run.to_str().unwrap();
        lab.command(&[&["sample", "--decoder", decoder], more].concat()).output().unwrap()
    };
    let (one, two) =
        (sample(&["--prompt", "the dog", "--tokens", "9"]), sample(&["--prompt", "the dog", "--tokens", "9"]));
    let text = String::from_utf8_lossy(&one.stdout).into_owned();
    assert!(one.status.success() && text.starts_with("the dog") && one.stdout == two.stdout, "{text}");
    assert_eq!(text.replace('\n', " <eos> ").split_whitespace().count().saturating_sub(2).min(9), 9, "{text}");
    for (arguments, says) in [(vec!["--prompt", "the zebra"], "`zebra`"), (vec![], "--prompt TEXT")] {
        let refused = sample(&arguments);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && error.contains(says), "{error}");
    }
}

#[test]
fn a_text_that_is_none_is_refused_before_anything_is_written() {
    let lab = Lab::new();
    lab.write("spec.yaml", MODEL);
    let write = |train: &[u8]| {
        fs::create_dir_all(lab.path("text")).unwrap();
        for (name, text) in [("train.txt", train), ("valid.txt", b"a b c d e f\n"), ("test.txt", b"a b c d e f\n")] {
            fs::write(lab.path("text").join(name), text).unwrap();
        }
    };
    let long = vec![b'x'; 3 << 20];
    for (train, says) in [
        (&b""[..], "train.txt: is empty"),
        (b"a\0b\n", "line 1: a NUL byte"),
        (&long, "without a line break"),
        (b"a\n", "`train.batch_size`"),
    ] {
        write(train);
        let output =
            lab.command(&["run", "spec.yaml", "--set", "task.source={kind: files, dir: text}"]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(says), "{error}");
        assert!(!lab.path("outputs").exists(), "{says}");
    }
}
