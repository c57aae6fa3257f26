//! `ccdni tasks`: the registered tasks and their keys.

use std::fmt::Write as _;

use clap::Args as Arguments;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::plugins::Catalogue;
use crate::spec::{Forms, Plugins};
use crate::tasks::Registry;

/// List the registered tasks and their keys.
#[derive(Arguments)]
#[command(after_help = "Examples:\n  ccdni tasks\n  ccdni tasks linedraw")]
pub(super) struct Args {
    /// Only this task.
    kind: Option<String>,
}

pub(super) fn execute(args: &Args, registry: &Registry) -> Result<()> {
    let catalogue = registry.tasks();
    let kinds = catalogue.kinds();
    if let Some(kind) = args.kind.as_deref().filter(|kind| !kinds.contains(kind)) {
        return Err(Error::Usage(format!("there is no task `{kind}`; there are: {}", kinds.join(", "))));
    }
    let wanted = |kind: &str| args.kind.as_deref().is_none_or(|only| only == kind);
    let tasks: Vec<String> = kinds.iter().filter(|kind| wanted(kind)).map(|kind| describe(kind, catalogue)).collect();
    super::print(&tasks.join("\n"))
}

/// One line for the task, and one for each of its keys.
fn describe(kind: &str, catalogue: &dyn Catalogue) -> String {
    let schema = catalogue.schema(kind).unwrap_or_default();
    format!("{kind}: {}\n{}", catalogue.about(kind).unwrap_or_default(), table(&schema))
}

/// One line per key of a table that all its forms have: name, type, default, meaning. Tables with forms are listed within it.
pub(super) fn table(schema: &Value) -> String {
    let mut rows = Vec::new();
    add_rows(schema, "", &mut rows);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for [key, kind, default, meaning] in &rows {
        let [a, b, c] = widths;
        let line = format!("  {key:a$}  {kind:b$}  {default:c$}  {meaning}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn add_rows(table: &Value, indent: &str, rows: &mut Vec<[String; 4]>) {
    // A constant is the selector of a form, which is its heading.
    let keys = table["properties"].as_object().into_iter().flatten().filter(|(_, key)| key.get("const").is_none());
    for (key, property) in keys {
        rows.push([format!("{indent}{key}"), type_of(property), default_of(table, key), meaning(property)]);
        let Some(forms) = Forms::of(property) else { continue };
        add_rows(property, &format!("{indent}  "), rows);
        for (word, form) in &forms.all {
            let heading = format!("{indent}  {}: {word}", forms.selector);
            rows.push([heading, String::new(), String::new(), spaced(&forms.meaning(word))]);
            add_rows(form, &format!("{indent}    "), rows);
        }
    }
}

fn default_of(table: &Value, key: &str) -> String {
    match table["properties"][key].get("default") {
        Some(value) => format!("({})", plain(value)),
        None if is_required(table, key) => "required".into(),
        None => "optional".into(),
    }
}

/// Whether a table requires a key.
pub(super) fn is_required(table: &Value, key: &str) -> bool {
    table["required"].as_array().is_some_and(|keys| keys.iter().any(|required| required == key))
}

/// The meaning of a declaration, on one line.
pub(super) fn meaning(property: &Value) -> String {
    spaced(property["description"].as_str().unwrap_or_default())
}

/// A text on one line.
pub(super) fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The type of a value in words: `whole number >= 1`, `adam | sgd`.
pub(super) fn type_of(property: &Value) -> String {
    if let Some(choices) = property["enum"].as_array() {
        return choices.iter().map(plain).collect::<Vec<_>>().join(" | ");
    }
    if let Some(value) = property.get("const") {
        return plain(value);
    }
    // The alternatives of a table with properties are its forms.
    let choices = property["anyOf"].as_array().or(property["oneOf"].as_array());
    if let Some(choices) = choices.filter(|_| property.get("properties").is_none()) {
        let mut types: Vec<String> = choices.iter().map(type_of).collect();
        types.dedup();
        return types.join(" | ");
    }
    let names: Vec<String> = match &property["type"] {
        Value::String(name) => vec![named(name, property)],
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(|name| named(name, property)).collect(),
        _ => vec!["any".into()],
    };
    names.join(" | ")
}

/// The bounds of a number: ` >= 1`, ` 0 to < 1`.
fn range(property: &Value) -> String {
    let bound = |inclusive: &str, exclusive: &str, sign: &str| {
        let exclusive = property.get(exclusive).map(|limit| format!("{sign} {}", plain(limit)));
        exclusive.or_else(|| property.get(inclusive).map(plain))
    };
    let (low, high) = (bound("minimum", "exclusiveMinimum", ">"), bound("maximum", "exclusiveMaximum", "<"));
    match (low, high) {
        (Some(low), Some(high)) => format!(" {low} to {high}"),
        (Some(low), None) if low.starts_with('>') => format!(" {low}"),
        (Some(low), None) => format!(" >= {low}"),
        (None, Some(high)) if high.starts_with('<') => format!(" {high}"),
        (None, Some(high)) => format!(" <= {high}"),
        (None, None) => String::new(),
    }
}

fn named(name: &str, property: &Value) -> String {
    match name {
        "integer" => format!("whole number{}", range(property)),
        "number" => format!("number{}", range(property)),
        "boolean" => "true | false".into(),
        "string" => "text".into(),
        "object" => "table".into(),
        "array" => match property.get("items") {
            Some(items) => format!("list of {}", type_of(items)),
            None => "list".into(),
        },
        other => other.into(),
    }
}

/// A value as YAML, without quotes; whole numbers without a decimal point.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // A table's keys are listed with their own defaults.
        Value::Object(table) if table.contains_key("kind") => format!("kind: {}", plain(&table["kind"])),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_task_is_described() {
        let registry = Registry::built_in();
        let tasks = registry.tasks();
        let text: Vec<String> = tasks.kinds().into_iter().map(|kind| describe(kind, tasks)).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn types_read_as_people_say_them() {
        for (schema, text) in [
            (r#"{"type": "integer", "minimum": 1}"#, "whole number >= 1"),
            (r#"{"type": "number", "minimum": 0.0, "exclusiveMaximum": 1.0}"#, "number 0 to < 1"),
            (r#"{"type": "number", "exclusiveMinimum": 0.0}"#, "number > 0"),
            (r#"{"type": ["string", "null"]}"#, "text | null"),
            (r#"{"type": ["integer", "null"], "minimum": 8, "maximum": 64}"#, "whole number 8 to 64 | null"),
            (r#"{"type": "array", "items": {"type": "number"}}"#, "list of number"),
            (r#"{"oneOf": [{"const": "idx"}, {"const": "hub"}]}"#, "idx | hub"),
            (r#"{"enum": ["lines", "digits"]}"#, "lines | digits"),
            (r#"{"anyOf": [{"oneOf": [{"type": "object"}, {"type": "object"}]}, {"type": "null"}]}"#, "table | null"),
            (r#"{"type": ["object", "null"], "properties": {}, "oneOf": [{"properties": {}}]}"#, "table | null"),
        ] {
            assert_eq!(type_of(&serde_json::from_str(schema).unwrap()), text);
        }
    }
}
