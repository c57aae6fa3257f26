//! The merged value with the origin of each part: the source of the typed spec, and of the origins of values and problems.

use std::path::Path;

use figment::value::Value;
use serde_json::Value as Json;

use super::forms::{alternatives, chosen, constant, property};
use super::layers::Layers;
use super::validator::{fits, is_default};
use super::{Spec, describe, yaml};
use crate::error::Problem;

/// The merged value of layers, with its schema and origins.
pub(super) struct Provenance<'a> {
    pub layers: &'a Layers,
    pub schema: &'a serde_json::Value,
    pub merged: &'a Value,
    pub file: &'a Path,
}

impl Provenance<'_> {
    /// Deserialises the typed spec. Values that pass the schema but not the types (duplicate seeds) are reported and removed.
    pub fn extract(&self, mut value: Value, broken: &mut Vec<String>, problems: &mut Vec<Problem>) -> Option<Spec> {
        loop {
            let error = match value.deserialize::<Spec>() {
                Ok(spec) => return Some(spec),
                Err(error) => error,
            };
            let key = error.path.join(".");
            // Placeholders are not reported.
            if !broken.iter().any(|broken| broken.strip_prefix(&key).is_some_and(|rest| rest.starts_with('.'))) {
                problems.push(Problem::new(key.clone(), error.kind.to_string()));
            }
            if !remove(&mut value, &error.path) {
                return None;
            }
            broken.push(key);
        }
    }

    /// Adds value, origin and help to problems that lack them.
    pub fn finish(&self, mut problems: Vec<Problem>) -> Vec<Problem> {
        for problem in &mut problems {
            let found = find(self.merged, &problem.key);
            if problem.origin.is_none() {
                let around = || innermost(self.merged, &problem.key).map(Value::tag);
                let tags = match found {
                    Some(found) => [Some(found.tag()), self.layers.remover(&problem.key)],
                    None => [self.layers.remover(&problem.key), around()],
                };
                let place = tags.into_iter().flatten().find_map(|tag| self.layers.place(tag, &problem.key));
                problem.origin = place.or_else(|| Some(self.file.display().to_string()));
            }
            if problem.value.is_none() {
                problem.value = found.map(yaml::line);
            }
            if problem.help.is_none() {
                problem.help = describe::meaning(self.schema, self.merged, &problem.key);
            }
        }
        problems
    }

    /// Every value that a layer set to something other than its default, and where.
    pub fn origins(&self) -> Vec<(String, String)> {
        let mut origins = Vec::new();
        self.collect("", self.merged, self.schema, None, &mut origins);
        origins
    }

    fn collect(
        &self,
        path: &str,
        value: &Value,
        schema: &Json,
        default: Option<&Json>,
        origins: &mut Vec<(String, String)>,
    ) {
        let schema = fitting(schema, value);
        match value {
            Value::Dict(_, table) if !table.is_empty() => {
                let default = default.filter(|default| constant(schema).is_none_or(|(key, word)| default[key] == word));
                let form = chosen(schema, |key| table.get(key).and_then(Value::as_str));
                for (key, value) in table {
                    let property = property(schema, form, key).unwrap_or(&Json::Null);
                    let default = property.get("default").or_else(|| default?.get(key));
                    self.collect(&yaml::join(path, key), value, property, default, origins);
                }
            }
            Value::Array(_, items) if items.iter().any(|item| item.as_dict().is_some()) => {
                for (index, item) in items.iter().enumerate() {
                    self.collect(&yaml::join(path, &index.to_string()), item, &schema["items"], None, origins);
                }
            }
            leaf if default.is_some_and(|default| is_default(leaf, default)) => {}
            leaf => origins.extend(self.layers.place(leaf.tag(), path).map(|place| (path.to_owned(), place))),
        }
    }
}

/// The alternative of a schema that fits a value.
fn fitting<'s>(schema: &'s Json, value: &Value) -> &'s Json {
    alternatives(schema).unwrap_or_default().into_iter().find(|alternative| fits(value, alternative)).unwrap_or(schema)
}

/// The value at a dotted path.
fn find<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').filter(|key| !key.is_empty()).try_fold(value, step)
}

/// The innermost existing ancestor of a path.
fn innermost<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.match_indices('.').rev().find_map(|(end, _)| find(value, &path[..end]))
}

/// The value of a key, or an item.
pub(super) fn step<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    match value {
        Value::Dict(_, table) => table.get(key),
        Value::Array(_, items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Removes the value at a path of table keys; returns whether there was one.
fn remove(value: &mut Value, path: &[String]) -> bool {
    let Some((last, tables)) = path.split_last() else { return false };
    let mut value = value;
    for key in tables {
        let Value::Dict(_, table) = value else { return false };
        let Some(next) = table.get_mut(key) else { return false };
        value = next;
    }
    let Value::Dict(_, table) = value else { return false };
    table.remove(last).is_some()
}
