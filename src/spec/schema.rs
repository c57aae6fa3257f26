//! The JSON Schema of a spec, for validation and for completion in editors.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::layers::FOR_PEOPLE;
use super::{Blocks, PluginTable, Plugins, Spec};
use crate::plugins::{Catalogue, json_schema};

/// Makes the schema of a spec after merging: the typed spec, with the keys of every registered plug-in.
pub fn make_schema(plugins: &dyn Plugins) -> Value {
    let mut schema = json_schema::<Spec>();
    schema["properties"]["task"] = json!({
        "description": "The task: `kind`, and the keys of that task.",
        "oneOf": alternatives(plugins.tasks()),
    });
    let optimizer = &mut schema["properties"]["train"]["properties"]["optimizer"];
    let mut default = Value::Null;
    // The typed default has only `kind`: the plug-in adds its own keys.
    if let Some(kind) = optimizer["default"]["kind"].as_str() {
        let keys = plugins.optimizers().fill(kind, &Map::new()).unwrap_or_default();
        default = json!(PluginTable { kind: kind.into(), keys });
    }
    *optimizer = json!({
        "description": optimizer["description"],
        "oneOf": alternatives(plugins.optimizers()),
        "default": default,
    });
    add_forms(&mut schema["properties"]["train"]["properties"]["rule"], "kind", plugins.rules());
    let layer = &mut schema["properties"]["model"]["properties"]["layers"]["items"];
    add_forms(layer, "cell", plugins.cells());
    add_forms(&mut layer["properties"]["dni"], "kind", plugins.synthesizers());
    let model = &mut schema["properties"]["model"]["properties"];
    add_block_forms(&mut model["blocks"]["items"], plugins);
    if let Some(encoder) = alternative_of(&mut model["encoder"], "blocks") {
        add_block_forms(&mut encoder["properties"]["blocks"]["items"], plugins);
    }
    schema
}

/// Adds the keys of blocks, and of the synthesizers of their interfaces, to the table of a block.
fn add_block_forms(block: &mut Value, plugins: &dyn Plugins) {
    add_forms(block, "kind", plugins.blocks());
    let interface = &mut block["properties"]["dni"];
    add_forms(&mut interface["properties"]["forward"], "kind", plugins.synthesizers());
    add_forms(interface, "kind", plugins.synthesizers());
}

/// The alternative of a table whose `kind` is this.
fn alternative_of<'s>(schema: &'s mut Value, kind: &str) -> Option<&'s mut Value> {
    if schema["properties"]["kind"]["const"] == kind {
        return Some(schema);
    }
    let key = ["anyOf", "oneOf"].into_iter().find(|key| schema.get(key).is_some())?;
    schema[key].as_array_mut()?.iter_mut().find_map(|alternative| alternative_of(alternative, kind))
}

/// The tables that name one of these plug-ins.
fn alternatives(catalogue: &dyn Catalogue) -> Vec<Value> {
    let kinds = catalogue.kinds().into_iter();
    kinds.map(|kind| alternative(kind, catalogue.schema(kind).unwrap_or_default())).collect()
}

/// Adds the keys of plug-ins to a table: one form per value of its key `selector`.
fn add_forms(table: &mut Value, selector: &str, plugins: &dyn Catalogue) {
    let word = |kind: &&str| json!({ "type": "string", "const": kind, "description": plugins.about(kind) });
    let form = |kind: &&str| {
        let schema = plugins.schema(kind).unwrap_or_default();
        let mut form = json!({ "properties": { selector: { "type": "string", "const": kind } } });
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            form["properties"][key] = property.clone();
        }
        if let Some(required) = schema.get("required") {
            form["required"] = required.clone();
        }
        form
    };
    let kinds = plugins.kinds();
    if let Some(selector) = table["properties"][selector].as_object_mut() {
        selector.remove("type");
        selector.insert("oneOf".into(), kinds.iter().map(word).collect());
    }
    if let Some(table) = table.as_object_mut() {
        table.remove("additionalProperties");
        table.insert("unevaluatedProperties".into(), json!(false));
        table.insert("oneOf".into(), kinds.iter().map(form).collect());
    }
}

/// A plug-in's keys as one alternative of its table.
fn alternative(kind: &str, schema: Value) -> Value {
    let mut table = match schema {
        Value::Object(table) => table,
        _ => Map::new(),
    };
    table.remove("$schema");
    // The name of the Rust type.
    table.remove("title");
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

/// The schema of the blocks besides a spec.
pub(super) fn blocks() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema::<Blocks>);
    &SCHEMA
}

/// The schema of a spec *file*, relaxed for layering: any key may be left to another layer, any value may be `null`, lists may be
/// tables of items, and `extends` names other files.
pub fn file_schema(plugins: &dyn Plugins) -> Value {
    let mut schema = plugins.schema().clone();
    for (name, block) in blocks()["properties"].as_object().into_iter().flatten() {
        schema["properties"][name] = block.clone();
    }
    relax(&mut schema);
    schema["title"] = json!("ccdni spec");
    schema["properties"]["extends"] = json!({
        "description": "Spec files that this one builds on, weakest first; relative to this file.",
        "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }, { "type": "null" }],
    });
    schema["patternProperties"] =
        json!({ format!("^{FOR_PEOPLE}"): { "description": "For people: ignored, and not hashed." } });
    schema
}

fn relax(schema: &mut Value) {
    let Some(table) = schema.as_object_mut() else { return };
    table.remove("required");
    // Rust's formats (`uint`, `double`) are unknown to editors.
    table.remove("format");
    // YAML reads these words as Booleans unless they are quoted, and the quotes are optional in a spec.
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
            if key != "kind" && property.get("const").is_none() {
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
