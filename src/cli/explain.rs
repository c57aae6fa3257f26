//! `ccdni explain`: the meaning of a spec's key, from the schema.

use std::fmt::Write as _;

use clap::Args as Arguments;
use serde_json::Value;

use super::tasks::{is_required, meaning, plain, spaced, table, type_of};
use crate::error::{Error, Result};
use crate::spec::{self, Forms, Plugins, constant};
use crate::tasks::Registry;

/// Print what a key of a spec means: its values, its default, and the keys below it.
#[derive(Arguments)]
#[command(after_help = "Examples:\n  ccdni explain train.bptt\n  ccdni explain model.layers.0.dni\n  \
                        ccdni explain task --task linedraw")]
pub(super) struct Args {
    /// The key as for `--set`: names and list indices, separated by dots.
    key: String,
    /// Only this task's keys.
    #[arg(long, value_name = "KIND")]
    task: Option<String>,
}

/// Prints every declaration of the key.
pub(super) fn execute(args: &Args, registry: &Registry) -> Result<()> {
    let schema = schema(registry, args.task.as_deref())?;
    let mut places = vec![Place { node: schema.clone(), required: false, of: String::new() }];
    let mut path = String::new();
    for part in args.key.split('.') {
        let below = merged(places.iter().flat_map(|place| place.below(part)));
        if below.is_empty() {
            return Err(unknown(&path, part, &places, &schema));
        }
        path = join(&path, part);
        places = below;
    }
    let texts: Vec<String> = places.iter().map(|place| place.describe(&path)).collect();
    super::print(&texts.join("\n"))
}

/// The schema of a spec and of the other blocks of a file.
fn schema(registry: &Registry, task: Option<&str>) -> Result<Value> {
    let mut schema = spec::file_schema(registry);
    for (key, strict) in registry.schema()["properties"].as_object().into_iter().flatten() {
        schema["properties"][key] = strict.clone();
    }
    schema["required"] = registry.schema()["required"].clone();
    if let (Some(only), Some(tasks)) = (task, schema["properties"]["task"]["oneOf"].as_array_mut()) {
        let kinds: Vec<String> = tasks.iter().filter_map(constant).map(|(_, kind)| kind.into()).collect();
        tasks.retain(|task| constant(task).is_some_and(|(_, kind)| kind == only));
        if tasks.is_empty() {
            return Err(Error::Usage(format!("there is no task `{only}`; there are: {}", kinds.join(", "))));
        }
    }
    Ok(schema)
}

/// A declaration of a key. Where a table has several forms, a key may have several declarations.
struct Place {
    node: Value,
    required: bool,
    /// The condition under which it applies: `kind: adam`.
    of: String,
}

impl Place {
    /// The declarations of a key or list item below it.
    fn below(&self, part: &str) -> Vec<Place> {
        if let Some(forms) = Forms::of(&self.node) {
            return self.in_forms(&forms, part);
        }
        let place = |node: &Value, required| vec![Place { node: node.clone(), required, of: self.of.clone() }];
        let (items, any) = (&self.node["items"], &self.node["additionalProperties"]);
        if let Some(node) = self.node["properties"].get(part) {
            place(node, is_required(&self.node, part))
        } else if items.is_object() && part.parse::<usize>().is_ok() {
            place(items, false)
        } else if any.is_object() {
            place(any, false)
        } else {
            let alternative = |node: &Value| Place { node: node.clone(), required: false, of: self.of.clone() };
            alternatives(&self.node).flat_map(|node| alternative(node).below(part)).collect()
        }
    }

    /// The declarations of a key of a table with forms: one if it is common to all, otherwise that of each form that has it.
    fn in_forms(&self, forms: &Forms, part: &str) -> Vec<Place> {
        if part == forms.selector {
            return vec![Place { node: forms.choice(), required: true, of: self.of.clone() }];
        }
        if let Some(node) = self.node["properties"].get(part) {
            return vec![Place { node: node.clone(), required: is_required(&self.node, part), of: self.of.clone() }];
        }
        let of_form = |(word, form): &(&str, &Value)| {
            let comma = if self.of.is_empty() { "" } else { ", " };
            let of = format!("{}{comma}{}: {word}", self.of, forms.selector);
            Some(Place { node: form["properties"].get(part)?.clone(), required: is_required(form, part), of })
        };
        forms.all.iter().filter_map(of_form).collect()
    }

    fn describe(&self, path: &str) -> String {
        let of = if self.of.is_empty() { String::new() } else { format!(" ({})", self.of) };
        let mut text = format!("{path}{of}\n  {}\n", meaning(&self.node));
        let _ = writeln!(text, "  values   {}", type_of(&self.node));
        let default = match self.node.get("default") {
            Some(value) => plain(value),
            None if self.required => "none, a value is required".into(),
            None => "none, optional".into(),
        };
        let _ = writeln!(text, "  default  {default}");
        if let Some(figure) = self.node["x-figure"].as_str() {
            let _ = writeln!(text, "  figure   {figure}");
        }
        describe_below(&self.node, &mut text);
        text
    }
}

/// The values and keys of a declaration, with their meanings.
fn describe_below(node: &Value, text: &mut String) {
    if node["properties"].is_object() {
        let _ = write!(text, "\n{}", table(node));
    } else if let Some(value) = node["const"].as_str() {
        let _ = writeln!(text, "    {value}: {}", meaning(node));
    }
    if let Some(forms) = Forms::of(node) {
        for (word, form) in &forms.all {
            let _ = writeln!(text, "\n  {}: {word}  {}", forms.selector, spaced(&forms.meaning(word)));
            let own = table(form);
            if !own.is_empty() {
                let _ = write!(text, "\n{own}");
            }
        }
        return;
    }
    if node["items"].is_object() {
        describe_below(&node["items"], text);
    }
    alternatives(node).for_each(|node| describe_below(node, text));
}

/// Merges equal declarations.
fn merged(places: impl Iterator<Item = Place>) -> Vec<Place> {
    let mut merged: Vec<Place> = Vec::new();
    for place in places {
        match merged.iter_mut().find(|other| other.node == place.node) {
            Some(other) => other.of = format!("{} or {}", other.of, place.of),
            None => merged.push(place),
        }
    }
    merged
}

/// The alternatives of a declaration besides null.
fn alternatives(node: &Value) -> impl Iterator<Item = &Value> {
    let alternatives = node["anyOf"].as_array().or(node["oneOf"].as_array());
    alternatives.into_iter().flatten().filter(|node| node["type"] != "null")
}

/// The keys of all alternatives of a declaration.
fn keys(node: &Value) -> Vec<&str> {
    let own = node["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    own.chain(alternatives(node).flat_map(keys)).collect()
}

fn unknown(path: &str, part: &str, places: &[Place], schema: &Value) -> Error {
    let mut keys: Vec<&str> = places.iter().flat_map(|place| keys(&place.node)).collect();
    keys.sort_unstable();
    keys.dedup();
    let is_list = places.iter().any(|place| place.node["items"].is_object());
    let help = if keys.is_empty() && !is_list {
        format!("`{path}` is a value and has no keys")
    } else if let Some(key) = spec::nearest(part, keys.iter().copied()) {
        format!("did you mean `{}`?", join(path, key))
    } else if let Some(elsewhere) = places
        .iter()
        .find_map(|place| spec::find_key(&place.node, part, path))
        .or_else(|| spec::find_key(schema, part, ""))
    {
        format!("did you mean `{}`?", elsewhere.replace("[]", ".0"))
    } else if is_list {
        format!("`{path}` is a list, whose first item is `{path}.0`")
    } else {
        format!("known here: {}", keys.join(", "))
    };
    Error::Usage(format!("there is no key `{}`: {help}", join(path, part)))
}

fn join(path: &str, part: &str) -> String {
    if path.is_empty() { part.into() } else { format!("{path}.{part}") }
}
