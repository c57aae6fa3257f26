//! The normal form of a spec, its canonical JSON, and the hash that names it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::task_shape::TaskShape;
use super::{Bptt, DniSpec, InitFrom, ModelSpec, Spec};

/// Format version, part of the hash: raised when a default changes, so that existing hashes keep their meaning. A key added later
/// is left out of the canonical form while its value reproduces the older behaviour.
const FORMAT: u32 = 1;

/// Number of hex digits in a run's hash.
const DIGITS: usize = 12;

/// Maps equivalent specs to one normal form.
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
        // A name used by a single layer shares nothing.
        dni.share = dni.share.take().filter(|name| sharers[name] > 1);
    }

    let train = &mut spec.train;
    train.feedback_every = train.feedback_every.filter(|every| *every != 1);
    if let Some(steps) = shape.steps {
        // Intervals of at least the sequence length keep the first step only.
        train.feedback_every = train.feedback_every.map(|every| every.min(steps)).filter(|every| *every > 1);
        let window = train.window(steps);
        train.bptt = (window < steps).then_some(Bptt::Steps(window));
    }

    if let Some(record) = &mut spec.record {
        record.what.sort_by_key(|what| *what as u8);
        record.what.dedup();
        if !record.has_batches() {
            // Nothing is recorded from training batches, so the interval has no effect.
            record.every = 1;
            if !record.certainty && !record.batches && record.outputs.is_none() {
                spec.record = None;
            }
        }
    }
}

/// The normal form of a synthesizer whose own keys are already normalised: `frozen_in_norm` is given where something is frozen, and
/// there alone.
pub(super) fn normal_dni(dni: &DniSpec) -> DniSpec {
    let frozen_in_norm = dni.is_ever_frozen().then(|| dni.frozen_in_norm.unwrap_or_default());
    let gamma = dni.gamma.filter(|gamma| *gamma != dni.scale);
    DniSpec { frozen_in_norm, gamma, ..dni.clone() }
}

/// The model with `force_forget` in every layer, whatever its cell: the form that is hashed and compared.
pub(crate) fn with_force_forget(model: &ModelSpec) -> ModelSpec {
    let mut model = model.clone();
    for layer in &mut model.layers {
        layer.keys.entry("force_forget").or_insert(false.into());
    }
    model
}

/// The canonical JSON of a normalised spec. `init_run` is the hash of the run in `train.init_from`.
pub(super) fn canonical(spec: &Spec, init_run: Option<&str>) -> String {
    let model = with_force_forget(&spec.model);
    let mut content = json!({ "format": FORMAT, "task": spec.task, "model": model, "train": spec.train });
    if let Some(record) = &spec.record {
        content["record"] = json!(record);
    }
    if let (Some(run), Some(from)) = (init_run, &spec.train.init_from) {
        let seed = match from {
            InitFrom::Run(_) => None,
            InitFrom::Seed(named) => Some(named.seed),
        };
        content["train"]["init_from"] = json!({ "run": run, "seed": seed });
    }
    // Names of shared synthesizers only define which layers share: number them from the bottom.
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for (index, layer) in spec.model.layers.iter().enumerate() {
        if let Some(name) = layer.dni.as_ref().and_then(|dni| dni.share.as_ref()) {
            let next = numbers.len();
            content["model"]["layers"][index]["dni"]["share"] = json!(*numbers.entry(name.clone()).or_insert(next));
        }
    }
    let mut text = String::new();
    write_sorted(&content, &mut text);
    text
}

/// The hash of a canonical text.
pub(super) fn hash(canonical: &str) -> String {
    let mut digits = blake3::hash(canonical.as_bytes()).to_hex().to_string();
    digits.truncate(DIGITS);
    digits
}

/// Emits JSON without spaces, with sorted keys and the shortest numbers that round-trip. The order of serde_json's maps is not
/// relied on: it depends on features that other crates enable.
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
        // Negative zero is written as zero: no result depends on its sign.
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
