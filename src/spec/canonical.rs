//! The normal form of a spec, its canonical JSON, and the hash that names it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::task_shape::TaskShape;
use super::{Bptt, DniSpec, FrozenInNorm, InitFrom, Spec};

/// Part of what is hashed. Raised when a default changes, so that old names keep their meaning.
///
/// A key added later is left out of the canonical form while it has the value that reproduces the older behaviour.
const FORMAT: u32 = 1;

/// Hex digits of a hash that name a run.
const DIGITS: usize = 12;

/// Makes different ways to say one thing the same.
pub(super) fn normalise(spec: &mut Spec, shape: &TaskShape) {
    let layers = &mut spec.model.layers;
    if let Some(top) = layers.last_mut() {
        top.dropout = 0.0;
    }
    let mut sharers: BTreeMap<String, usize> = BTreeMap::new();
    for dni in layers.iter().filter_map(|layer| layer.dni.as_ref()) {
        if let Some(name) = &dni.share {
            *sharers.entry(name.clone()).or_default() += 1;
        }
    }
    for layer in layers {
        let Some(dni) = &mut layer.dni else { continue };
        *dni = normal_dni(dni);
        // A layer that shares with nobody has a synthesizer of its own.
        dni.share = dni.share.take().filter(|name| sharers[name] > 1);
    }

    let train = &mut spec.train;
    train.feedback_every = train.feedback_every.filter(|every| *every != 1);
    if let Some(steps) = shape.steps {
        // From one sequence length on, only the first step is left.
        train.feedback_every = train.feedback_every.map(|every| every.min(steps)).filter(|every| *every > 1);
        let window = train.window(steps);
        train.bptt = (window < steps).then_some(Bptt::Steps(window));
    }

    if let Some(record) = &mut spec.record {
        record.what.sort_by_key(|what| *what as u8);
        record.what.dedup();
        if record.what.is_empty() && !record.cosine {
            // Nothing is recorded from training batches, so it does not matter from which.
            record.every = 1;
            if !record.certainty {
                spec.record = None;
            }
        }
    }
}

/// The normal form of a synthesizer whose own keys are in theirs.
pub(super) fn normal_dni(dni: &DniSpec) -> DniSpec {
    let frozen_in_norm = if dni.is_ever_frozen() { dni.frozen_in_norm } else { FrozenInNorm::default() };
    DniSpec { frozen_in_norm, ..dni.clone() }
}

/// The canonical JSON of a normalised spec: what was asked, and nothing else. `init_run` is the hash of the run in
/// `train.init_from`.
pub(super) fn canonical(spec: &Spec, init_run: Option<&str>) -> String {
    let mut asked =
        json!({ "format": FORMAT, "task": spec.task, "model": spec.model.as_written(), "train": spec.train });
    if let Some(record) = &spec.record {
        asked["record"] = json!(record);
    }
    if let (Some(run), Some(from)) = (init_run, &spec.train.init_from) {
        let seed = match from {
            InitFrom::Run(_) => None,
            InitFrom::Seed(named) => Some(named.seed),
        };
        asked["train"]["init_from"] = json!({ "run": run, "seed": seed });
    }
    // Names of shared synthesizers say only who shares with whom: number them from the bottom.
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for (index, layer) in spec.model.layers.iter().enumerate() {
        let Some(dni) = &layer.dni else { continue };
        let table = &mut asked["model"]["layers"][index]["dni"];
        if let Some(name) = &dni.share {
            let next = numbers.len();
            table["share"] = json!(*numbers.entry(name.clone()).or_insert(next));
        }
        if let (false, Some(table)) = (dni.is_ever_frozen(), table.as_object_mut()) {
            table.remove("frozen_in_norm");
        }
    }
    let mut text = String::new();
    write_sorted(&asked, &mut text);
    text
}

/// The name of a canonical text.
pub(super) fn hash(canonical: &str) -> String {
    let mut digits = blake3::hash(canonical.as_bytes()).to_hex().to_string();
    digits.truncate(DIGITS);
    digits
}

/// JSON without spaces, with sorted keys and the shortest numbers that read back the same. Does not lean on the order of
/// serde_json's tables, which depends on the features that other crates ask for.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(table) => {
            let mut keys: Vec<_> = table.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in keys.into_iter().enumerate() {
                let _ = write!(out, "{}{}:", if index == 0 { "" } else { "," }, Value::from(key.as_str()));
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, value) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write_sorted(value, out);
            }
            out.push(']');
        }
        // Minus zero is zero: no number of a result depends on its sign.
        Value::Number(number) if number.as_f64() == Some(0.0) && number.is_f64() => out.push_str("0.0"),
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_is_sorted_and_short() {
        let mut text = String::new();
        write_sorted(&json!({ "b": [1.0, 1, 1e-9, -0.0, 0.1, null], "a": { "d": "x\"", "c": true } }), &mut text);
        assert_eq!(text, r#"{"a":{"c":true,"d":"x\""},"b":[1.0,1,1e-9,0.0,0.1,null]}"#);
    }

    #[test]
    fn a_hash_has_twelve_digits_of_blake3() {
        assert_eq!(hash(""), "af1349b9f5f9");
    }
}
