//! `caption/`: the stages of the captioning pipeline.
//!
//! Some of these files hold sentences that may not be passed on, and are in the full set only; what a directory does not
//! have is named.

mod batches;
mod metrics;
mod resize;
mod resnet;
mod words;

use std::path::Path;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{Outcome, failing, not_covered, number, read_json};

/// One test per file, and one per image.
pub fn trials(dir: &Path) -> Vec<Trial> {
    type Check = fn(&Path, &Value) -> Outcome;
    let checks: [(&str, &str, Check); 6] = [
        ("tokenize", "tokenize.json", words::tokens),
        ("vocabulary", "vocab.json", words::vocabulary),
        ("metrics", "metrics.json", metrics::scores),
        ("ptb_strings", "metrics.json", metrics::strings),
        ("sampler", "sampler.json", batches::sampler),
        ("sequence", "sequence.json", batches::sequence),
    ];
    let mut trials = Vec::new();
    for (name, file, check) in checks {
        let name = format!("caption/{name}");
        let path = dir.join(file);
        if path.exists() {
            trials.push(Trial::test(name, move || check(&path, &read_json(&path)?)));
        } else {
            not_covered(&name, &format!("{file} is not in this directory"));
        }
    }
    let resize = dir.join("resize");
    if resize.exists() {
        trials.extend(resize::trials(&resize));
    } else {
        not_covered("caption/resize", "is not in this directory");
    }
    trials.extend(resnet::trials(&dir.join("resnet")));
    trials
}

/// A list at a JSON pointer; an empty one is an error, since nothing would be tested.
fn list<'a>(value: &'a Value, pointer: &str) -> Result<&'a [Value], Failed> {
    match value.pointer(pointer).and_then(Value::as_array) {
        Some(list) if !list.is_empty() => Ok(list),
        _ => Err(format!("there is nothing at {pointer}").into()),
    }
}

/// A text at a JSON pointer.
fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str, Failed> {
    value.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("there is no text at {pointer}").into())
}

/// A list of texts at a JSON pointer.
fn texts<'a>(value: &'a Value, pointer: &str) -> Result<Vec<&'a str>, Failed> {
    let list = value.pointer(pointer).and_then(Value::as_array).ok_or_else(|| format!("no list at {pointer}"))?;
    list.iter().map(|item| text(item, "")).collect()
}

/// A list of whole numbers at a JSON pointer.
fn wholes(value: &Value, pointer: &str) -> Result<Vec<usize>, Failed> {
    let whole = |item: &Value| item.as_u64().map(|number| number as usize).ok_or("not a whole number".into());
    list(value, pointer)?.iter().map(whole).collect()
}

/// Fails with both sides where they differ.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Outcome {
    if actual == expected { Ok(()) } else { Err(format!("{what}: is {actual:?}, expected {expected:?}").into()) }
}
