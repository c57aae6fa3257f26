//! `ccdni explain`: the meaning of a spec's key, from the schema.

use std::fmt::Write as _;

use clap::Args as Arguments;
use serde_json::Value;

use super::tasks::{is_required, meaning, plain, table, type_of};
use crate::error::{Error, Result};
use crate::spec;
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
    let mut places = vec![Place { node: &schema, required: false, of: String::new() }];
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
    for (key, strict) in spec::schema(registry)["properties"].as_object().into_iter().flatten() {
        schema["properties"][key] = strict.clone();
    }
    if let (Some(only), Some(tasks)) = (task, schema["properties"]["task"]["oneOf"].as_array_mut()) {
        let kinds: Vec<String> = tasks.iter().filter_map(tag).map(|(_, kind)| kind.into()).collect();
        tasks.retain(|task| tag(task).is_some_and(|(_, kind)| kind == only));
        if tasks.is_empty() {
            return Err(Error::Usage(format!("there is no task `{only}`; there are: {}", kinds.join(", "))));
        }
    }
    Ok(schema)
}

/// A declaration of a key. If a `kind` determines the keys of a table, a key may have several.
struct Place<'a> {
    node: &'a Value,
    required: bool,
    /// The condition under which it applies: `kind: adam`.
    of: String,
}

impl<'a> Place<'a> {
    /// The declarations of a key or list item below it.
    fn below(&self, part: &str) -> Vec<Place<'a>> {
        let of = match tag(self.node) {
            Some((key, kind)) if self.of.is_empty() => format!("{key}: {kind}"),
            Some((key, kind)) => format!("{}, {key}: {kind}", self.of),
            None => self.of.clone(),
        };
        let (items, any) = (&self.node["items"], &self.node["additionalProperties"]);
        let mut found = Vec::new();
        if let Some(node) = self.node["properties"].get(part) {
            found.push(Place { node, required: is_required(self.node, part), of });
        } else if items.is_object() && part.parse::<usize>().is_ok() {
            found.push(Place { node: items, required: false, of });
        } else if any.is_object() {
            found.push(Place { node: any, required: false, of });
        }
        for node in alternatives(self.node) {
            found.extend(Place { node, required: false, of: self.of.clone() }.below(part));
        }
        found
    }

    fn describe(&self, path: &str) -> String {
        let of = if self.of.is_empty() { String::new() } else { format!(" ({})", self.of) };
        let mut text = format!("{path}{of}\n  {}\n", meaning(self.node));
        let _ = writeln!(text, "  values   {}", type_of(self.node));
        let default = match self.node.get("default") {
            Some(value) => plain(value),
            None if self.required => "none, a value is required".into(),
            None => "none, optional".into(),
        };
        let _ = writeln!(text, "  default  {default}");
        if let Some(figure) = self.node["x-figure"].as_str() {
            let _ = writeln!(text, "  figure   {figure}");
        }
        describe_below(self.node, &mut text);
        text
    }
}

/// The values and keys of a declaration, with their meanings.
fn describe_below(node: &Value, text: &mut String) {
    if let Some((key, kind)) = tag(node) {
        let _ = writeln!(text, "\n  {key}: {kind}  {}", meaning(node));
    }
    if node["properties"].is_object() {
        let _ = write!(text, "\n{}", table(node));
    } else if let Some(value) = node["const"].as_str() {
        let _ = writeln!(text, "    {value}: {}", meaning(node));
    }
    if node["items"].is_object() {
        describe_below(&node["items"], text);
    }
    alternatives(node).for_each(|node| describe_below(node, text));
}

/// Merges equal declarations.
fn merged<'a>(places: impl Iterator<Item = Place<'a>>) -> Vec<Place<'a>> {
    let mut merged: Vec<Place> = Vec::new();
    for place in places {
        match merged.iter_mut().find(|other| other.node == place.node) {
            Some(other) => other.of = format!("{} or {}", other.of, place.of),
            None => merged.push(place),
        }
    }
    merged
}

/// The key whose value selects this table, and that value.
fn tag(node: &Value) -> Option<(&str, &str)> {
    node["properties"].as_object()?.iter().find_map(|(key, property)| Some((key.as_str(), property["const"].as_str()?)))
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
    let keys: Vec<&str> = places.iter().flat_map(|place| keys(place.node)).collect();
    let is_list = places.iter().any(|place| place.node["items"].is_object());
    let help = if keys.is_empty() && !is_list {
        format!("`{path}` is a value and has no keys")
    } else if let Some(key) = spec::nearest(part, keys.iter().copied()) {
        format!("did you mean `{}`?", join(path, key))
    } else if let Some(elsewhere) = spec::find_key(schema, part, "") {
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
