//! The JSON Schema of a spec: the one declaration that specs are checked against and editors complete from.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Blocks, Plugins, Spec};

/// The schema of a spec whose layers have been merged: the typed spec, with the keys of every registered task.
pub fn schema(plugins: &dyn Plugins) -> Value {
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    let mut schema = generator.into_root_schema_for::<Spec>().to_value();
    let tasks = plugins.tasks();
    let tasks = tasks.kinds().into_iter().map(|kind| task(kind, tasks.schema(kind).unwrap_or_default()));
    schema["properties"]["task"] = json!({
        "description": "The task: `kind`, and the keys of that task.",
        "oneOf": tasks.collect::<Vec<_>>(),
    });
    schema
}

/// A task's keys as one alternative of the `task` table.
fn task(kind: &str, schema: Value) -> Value {
    let mut table = match schema {
        Value::Object(table) => table,
        _ => Map::new(),
    };
    table.remove("$schema");
    table.insert("type".into(), json!("object"));
    table.insert("additionalProperties".into(), json!(false));
    let mut properties = Map::from_iter([("kind".to_owned(), json!({ "type": "string", "const": kind }))]);
    if let Some(Value::Object(keys)) = table.remove("properties") {
        properties.extend(keys);
    }
    table.insert("properties".into(), Value::Object(properties));
    let mut required = vec![json!("kind")];
    if let Some(Value::Array(keys)) = table.remove("required") {
        required.extend(keys);
    }
    table.insert("required".into(), Value::Array(required));
    Value::Object(table)
}

/// The schema of the blocks beside a spec.
pub(super) fn blocks() -> Value {
    let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    generator.into_root_schema_for::<Blocks>().to_value()
}

/// The schema of a spec *file*: the same, relaxed by what layering allows. Any key may be left to another layer, any value
/// may be `null`, lists may be tables of items, and `extends` names other files.
pub fn file_schema(plugins: &dyn Plugins) -> Value {
    let mut schema = schema(plugins);
    for (name, block) in blocks()["properties"].as_object().into_iter().flatten() {
        schema["properties"][name] = block.clone();
    }
    relax(&mut schema);
    schema["title"] = json!("ccdni spec");
    schema["properties"]["extends"] = json!({
        "description": "Spec files that this one builds on, weakest first; relative to this file.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }, { "type": "null" }],
    });
    schema
}

fn relax(schema: &mut Value) {
    let Some(table) = schema.as_object_mut() else { return };
    table.remove("required");
    // Formats are Rust's (`uint`, `double`), which editors do not know.
    table.remove("format");
    // YAML takes these words for truth values where they are not in quotes, and a spec may leave the quotes out.
    if let Some(truth @ ("true" | "false")) = table.get("const").and_then(Value::as_str) {
        let both = json!([truth, truth == "true"]);
        table.retain(|key, _| key == "description");
        table.insert("enum".into(), both);
    }
    // Without `required`, a table that leaves out its `kind` fits several alternatives.
    if let Some(alternatives) = table.remove("oneOf") {
        table.insert("anyOf".into(), alternatives);
    }
    if let Some(Value::Object(properties)) = table.get_mut("properties") {
        for (key, property) in properties {
            relax(property);
            if key != "kind" {
                allow_null(property);
            }
        }
    }
    if let Some(Value::Array(alternatives)) = table.get_mut("anyOf") {
        alternatives.iter_mut().for_each(relax);
    }
    if let Some(items) = table.get_mut("items") {
        relax(items);
        let items = items.clone();
        let by_number =
            json!({ "type": "object", "patternProperties": { "^[0-9]+$": items }, "additionalProperties": false });
        let description = table.remove("description");
        let list = std::mem::take(table);
        table.insert("anyOf".into(), json!([list, by_number]));
        table.extend(description.map(|text| ("description".to_owned(), text)));
    }
}

fn allow_null(schema: &mut Value) {
    let Some(table) = schema.as_object_mut() else { return };
    let null = json!({ "type": "null" });
    if let Some(Value::Array(alternatives)) = table.get_mut("anyOf") {
        if !alternatives.contains(&null) {
            alternatives.push(null);
        }
    } else if let Some(Value::String(kind)) = table.get("type") {
        let kinds = json!([kind, "null"]);
        table.insert("type".into(), kinds);
    }
}
