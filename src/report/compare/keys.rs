//! Keys of specs: those in which runs differ, and those that an abbreviation stands for.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::spec::{Spec, nearest, with_force_forget};

/// The parts of a spec that legends and comparisons refer to, with the name.
pub(crate) fn tree(spec: &Spec) -> Value {
    let mut model = with_force_forget(&spec.model);
    for dni in model.layers.iter_mut().filter_map(|layer| layer.dni.as_mut()) {
        // Neither a default derived from another key nor one that is left out is a difference.
        dni.frozen_in_norm.get_or_insert_default();
        let default = if dni.learn { "zero" } else { "uniform" };
        dni.keys.retain(|key, value| key != "init_last" || *value != default);
    }
    let mut written = serde_json::to_value(&model).unwrap_or_default();
    for (index, layer) in model.layers.iter().enumerate() {
        if let Some(dni) = &layer.dni {
            // The default is left out of specs.
            written["layers"][index]["dni"]["kind"] = dni.kind.as_str().into();
        }
    }
    let mut tree = Map::new();
    let mut part = |key: &str, value: Value| tree.insert(key.to_owned(), value);
    part("model", written);
    part("train", serde_json::to_value(&spec.train).unwrap_or_default());
    part("task", serde_json::to_value(&spec.task).unwrap_or_default());
    part("record", serde_json::to_value(&spec.record).unwrap_or_default());
    part("name", serde_json::to_value(&spec.name).unwrap_or_default());
    Value::Object(tree)
}

/// The papers' name of a network without a synthesizer.
pub(super) const CRNN: &str = "cRNN";
/// The papers' name of a network with a synthesizer.
pub const CCRNN: &str = "ccRNN";

/// The papers' name of a spec's network, or that it is a feed-forward one.
pub fn network(spec: &Spec) -> &'static str {
    network_of(&tree(spec))
}

/// The papers' name of a run's network, the value of `model`.
pub(super) fn network_of(tree: &Value) -> &'static str {
    let decoupled = |parts: &Value| {
        let mut parts = parts.as_array().into_iter().flatten();
        parts.any(|part| part.get("dni").is_some_and(Value::is_object))
    };
    match (&tree["model"]["blocks"], &tree["model"]["layers"]) {
        (Value::Array(_), Value::Null) if decoupled(&tree["model"]["blocks"]) => "decoupled feed-forward",
        (Value::Array(_), Value::Null) => "feed-forward",
        (_, layers) if decoupled(layers) => CCRNN,
        _ => CRNN,
    }
}

/// The value at a dotted path; `None` if it is absent or `null`.
pub(super) fn at<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = tree;
    for key in path.split('.') {
        value = match value {
            Value::Array(items) => items.get(key.parse::<usize>().ok()?)?,
            table => table.get(key)?,
        };
    }
    Some(value).filter(|value| !value.is_null())
}

/// Whether the table of this key exists: keys of a synthesizer do not apply to a network without one.
pub(super) fn applies(tree: &Value, path: &str) -> bool {
    path.rsplit_once('.').is_none_or(|(table, _)| at(tree, table).is_some())
}

/// Paths of the keys in which specs differ, in the order model, train, task. Recordings, which affect no number, and names
/// are not compared.
pub(super) fn differing(trees: &[&Value]) -> Vec<String> {
    let mut paths = Vec::new();
    for part in ["model", "train", "task"] {
        differ(part, &trees.iter().map(|tree| at(tree, part)).collect::<Vec<_>>(), &mut paths);
    }
    // Layers that differ in the same way between runs are listed once.
    let mut distinct: Vec<String> = Vec::new();
    for path in paths {
        let alike = |other: &String| {
            let (Some(a), Some(b)) = (below_layer(&path), below_layer(other)) else { return false };
            a == b && trees.iter().all(|tree| at(tree, &path) == at(tree, other))
        };
        if !distinct.iter().any(alike) {
            distinct.push(path);
        }
    }
    distinct
}

/// The part of a path below its layer.
fn below_layer(path: &str) -> Option<&str> {
    path.strip_prefix("model.layers.")?.split_once('.').map(|(_, key)| key)
}

fn differ(path: &str, values: &[Option<&Value>], paths: &mut Vec<String>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|value| value == first) {
        return;
    }
    let present: Vec<&Value> = values.iter().copied().flatten().collect();
    let tables: Option<Vec<&Map<String, Value>>> = present.iter().map(|value| value.as_object()).collect();
    if let Some(tables) = tables {
        if present.len() < values.len() {
            paths.push(path.to_owned());
        }
        let mut keys: Vec<&String> = tables.iter().flat_map(|table| table.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        // Different kinds have different keys, which `kind` represents: a key is compared between the tables that have it.
        let kinds = tables.iter().any(|table| table.get("kind") != tables[0].get("kind"));
        for key in keys {
            let with = tables.iter().filter(|table| !kinds || table.contains_key(key));
            let below: Vec<Option<&Value>> =
                with.map(|table| table.get(key).filter(|value| !value.is_null())).collect();
            differ(&format!("{path}.{key}"), &below, paths);
        }
        return;
    }
    let lists: Option<Vec<&Vec<Value>>> = values.iter().map(|value| value.and_then(Value::as_array)).collect();
    let alike = |lists: &&Vec<&Vec<Value>>| {
        lists.iter().all(|list| list.len() == lists[0].len() && list.iter().all(Value::is_object))
    };
    match lists.as_ref().filter(alike) {
        Some(lists) => {
            for index in 0..lists[0].len() {
                let items: Vec<Option<&Value>> = lists.iter().map(|list| list.get(index)).collect();
                differ(&format!("{path}.{index}"), &items, paths);
            }
        }
        None => paths.push(path.to_owned()),
    }
}

/// Resolves a key to a path: a whole path, or an unambiguous suffix.
///
/// # Errors
/// [`Error::Usage`] naming `flag`, and the nearest key if none has this suffix.
pub(super) fn resolve(flag: &str, key: &str, trees: &[&Value]) -> Result<String> {
    let mut paths = Vec::new();
    trees.iter().for_each(|tree| collect("", tree, &mut paths));
    paths.sort_unstable();
    paths.dedup();
    if paths.iter().any(|path| path == key) {
        return Ok(key.to_owned());
    }
    let ending: Vec<&String> = paths.iter().filter(|path| path.ends_with(&format!(".{key}"))).collect();
    match ending.as_slice() {
        [path] => Ok((*path).clone()),
        [] => {
            let ends = paths.iter().flat_map(|path| {
                let deep = path.matches('.').count() + 1;
                path.match_indices('.').map(|(dot, _)| &path[dot + 1..]).chain([path.as_str()]).take(deep)
            });
            let help = nearest(key, ends).map_or_else(
                || "`ccdni show` prints the spec of a run with all its keys".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            Err(Error::Usage(format!("{flag} {key}: no spec of these runs has this key; {help}")))
        }
        several => {
            let named: Vec<String> = several.iter().map(|path| format!("`{path}`")).collect();
            Err(Error::Usage(format!("{flag} {key}: may be any of {}; give more of its path", named.join(", "))))
        }
    }
}

/// Every path in a tree, including tables and lists of tables.
fn collect(path: &str, value: &Value, paths: &mut Vec<String>) {
    if !path.is_empty() {
        paths.push(path.to_owned());
    }
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| collect(&join(key), value, paths)),
        Value::Array(items) if items.iter().all(Value::is_object) => {
            items.iter().enumerate().for_each(|(index, item)| collect(&join(&index.to_string()), item, paths));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(dni: Value, train: Value) -> Value {
        json!({
            "model": {"layers": [{"cell": "lstm", "hidden": 50, "dni": dni}]}, "train": train,
            "task": {"kind": "linedraw"}, "record": null, "name": null,
        })
    }

    fn differing_of(runs: &[Value]) -> Vec<String> {
        differing(&runs.iter().collect::<Vec<_>>())
    }

    #[test]
    fn only_keys_that_differ_are_found_and_a_missing_table_is_one_key() {
        let plain = run(json!(null), json!({"bptt": 1}));
        let dni = run(json!({"hidden": [400], "scale": 0.1}), json!({"bptt": 1}));
        let full = run(json!(null), json!({}));
        assert!(differing_of(&[plain.clone(), plain.clone()]).is_empty());
        assert_eq!(differing_of(&[plain.clone(), dni.clone()]), ["model.layers.0.dni"]);
        assert_eq!(differing_of(&[plain.clone(), full]), ["train.bptt"]);
        let lesion = run(json!({"hidden": [400], "scale": 0.1, "lesion_at": 5}), json!({"bptt": 1}));
        assert_eq!(differing_of(&[plain, dni, lesion]), ["model.layers.0.dni", "model.layers.0.dni.lesion_at"]);
    }

    #[test]
    fn kinds_stand_for_their_keys() {
        let adam = run(json!(null), json!({"optimizer": {"kind": "adam", "lr": 0.1, "betas": [0.9, 0.98]}}));
        let sgd = run(json!(null), json!({"optimizer": {"kind": "sgd", "lr": 0.2, "momentum": 0.9}}));
        let keys = ["train.optimizer.kind", "train.optimizer.lr", "train.optimizer.momentum"];
        assert_eq!(differing_of(&[adam.clone(), sgd.clone()]), keys[..2]);
        let other = run(json!(null), json!({"optimizer": {"kind": "sgd", "lr": 0.2, "momentum": 0.5}}));
        assert_eq!(differing_of(&[adam, sgd, other]), keys);
    }

    #[test]
    fn the_default_kind_of_a_synthesizer_is_compared_with_others() {
        let spec = |dni: Value| -> Spec {
            let layers = json!([{"cell": "lstm", "hidden": 5, "dni": dni}]);
            let train = json!({"epochs": 1, "batch_size": 2});
            serde_json::from_value(json!({"task": {"kind": "linedraw"}, "model": {"layers": layers}, "train": train}))
                .unwrap()
        };
        let trees = [tree(&spec(json!({"hidden": [9]}))), tree(&spec(json!({"kind": "linear"})))];
        assert_eq!(differing_of(&trees), ["model.layers.0.dni.kind"]);
        assert_eq!(at(&trees[0], "model.layers.0.dni.kind"), Some(&json!("mlp")));
    }

    #[test]
    fn stacks_of_different_height_are_one_key() {
        let one = json!({"model": {"layers": [{"hidden": 1}]}});
        let two = json!({"model": {"layers": [{"hidden": 1}, {"hidden": 1}]}});
        assert_eq!(differing(&[&one, &two]), ["model.layers"]);
    }

    #[test]
    fn a_key_is_found_by_its_suffix_and_a_typo_is_named() {
        let run = run(json!({"hidden": [400], "lesion_at": 5}), json!({"bptt": 1}));
        let found = |key| resolve("--label", key, &[&run]);
        assert_eq!(found("train.bptt").unwrap(), "train.bptt");
        assert_eq!(found("bptt").unwrap(), "train.bptt");
        assert_eq!(found("dni.hidden").unwrap(), "model.layers.0.dni.hidden");
        assert_eq!(found("model").unwrap(), "model");
        for (key, expected) in [
            ("bppt", "did you mean `bptt`?"),
            ("train.bpt", "did you mean `train.bptt`?"),
            ("lesionat", "did you mean `lesion_at`?"),
            ("hidden", "`model.layers.0.dni.hidden`, `model.layers.0.hidden`"),
            ("xyz", "ccdni show"),
        ] {
            let error = found(key).unwrap_err();
            assert!(error.to_string().contains(expected) && error.exit_code() == 2, "{error}");
            assert!(error.to_string().starts_with("--label"), "{error}");
        }
    }
}
