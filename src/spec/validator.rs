//! Validates the merged value against the schema: reports every unknown key, wrong type and value out of range.
//!
//! serde stops at its first error, so this runs first. Invalid values are replaced by valid placeholders, so that the rest of the
//! spec can still be deserialised and validated.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use figment::value::{Dict, Num, Tag, Value};
use regex::Regex;
use serde_json::Value as Json;

use super::describe::{bounds, describe, words};
use super::forms::{Forms, alternatives, chosen, constant, property};
use super::layers::{Layers, nearest};
use super::merge::is_item_table;
use super::yaml::{join, line};
use crate::error::Problem;

/// The message for an unknown key.
pub(super) const UNKNOWN_KEY: &str = "there is no such key";

/// Most problems listed: each takes a while to be explained, and nobody reads thousands.
const MOST_PROBLEMS: usize = 100;

/// A walk over one merged value.
pub(super) struct Validator<'a> {
    layers: &'a Layers,
    schema: &'a Json,
    /// All problems.
    pub problems: Vec<Problem>,
    /// Paths that now hold placeholders.
    pub broken: Vec<String>,
}

impl<'a> Validator<'a> {
    pub fn new(layers: &'a Layers, schema: &'a Json) -> Self {
        Validator { layers, schema, problems: Vec::new(), broken: Vec::new() }
    }

    /// Validates the whole value, and replaces what is invalid by placeholders.
    pub fn run(&mut self, value: &mut Value) {
        let schema = self.schema;
        self.value("", value, schema);
    }

    fn value(&mut self, path: &str, value: &mut Value, schema: &Json) {
        let Some(alternatives) = alternatives(schema) else { return self.plain(path, value, schema) };
        if let Some(words) = words(&alternatives) {
            self.word(path, value, schema, &words);
        } else if let Some(forms) = Forms::of(schema) {
            self.tagged(path, value, &forms);
        } else if let Some(text) = value.as_str() {
            // The text has none of the alternative forms, so the message lists all.
            if !alternatives.iter().any(|alternative| takes(text, alternative)) {
                self.mismatch(path, value, schema);
            }
        } else if let Some(fitting) = alternatives.iter().find(|alternative| fits(value, alternative)) {
            self.value(path, value, fitting);
        } else {
            self.mismatch(path, value, schema);
        }
    }

    /// One of several words. YAML reads an unquoted `true` as a Boolean where the schema has it as a word.
    fn word(&mut self, path: &str, value: &mut Value, schema: &Json, words: &[&str]) {
        if let Value::Bool(tag, truth) = value {
            *value = Value::String(*tag, truth.to_string());
        }
        if value.as_str().is_some_and(|word| words.contains(&word)) {
            return;
        }
        let help = value.as_str().and_then(|word| did_you_mean(word, words));
        self.refuse(path, value, schema, &format!("expected {}", describe(schema)), help);
    }

    /// A table whose forms are alternatives.
    fn tagged(&mut self, path: &str, value: &mut Value, forms: &Forms) {
        let first = forms.all.first().map(|(_, form)| *form);
        let Some(table) = value.as_dict() else {
            return self.mismatch(path, value, first.unwrap_or(&Json::Null));
        };
        let chosen = table.get(forms.selector);
        let word = chosen.and_then(Value::as_str);
        if let Some(form) = word.and_then(|word| forms.form(word)) {
            return self.value(path, value, form);
        }
        let words: Vec<&str> = forms.all.iter().map(|(word, _)| *word).collect();
        let expected = format!("expected one of {}", quoted(&words));
        let key = join(path, forms.selector);
        match chosen {
            Some(value) => {
                let help = word.and_then(left_out).or_else(|| did_you_mean(word?, &words));
                let help = help.or_else(|| Some("choose one of these".into()));
                self.problem(&key, Some(value), value.tag(), &expected, help);
            }
            None => {
                let help = Some(format!("add `{key}`"));
                let tag = self.layers.remover(&key).unwrap_or(value.tag());
                self.problem(&key, None, tag, &format!("is missing: {expected}"), help);
            }
        }
        self.broken.push(path.to_owned());
        *value = first.map_or_else(|| unknown_kind(value.tag()), placeholder);
    }

    fn plain(&mut self, path: &str, value: &mut Value, schema: &Json) {
        match type_of(schema) {
            _ if schema.get("const").is_some() => {
                if schema["const"].as_str() != value.as_str() || value.as_str().is_none() {
                    self.mismatch(path, value, schema);
                }
            }
            "object" if value.as_dict().is_some() => self.table(path, value, schema),
            "array" if value.as_array().is_some() => self.list(path, value, schema),
            "array" if value.as_dict().is_some_and(is_item_table) => {
                let message = "items are given by number, but there is no list here to merge them into";
                self.refuse(path, value, schema, message, Some("write the whole list: `[...]`".into()));
            }
            "integer" | "number" => self.number(path, value, schema),
            "string" if value.as_str().is_some() => self.text(path, value, schema),
            "boolean" if value.to_bool().is_some() => {}
            "" => {}
            _ => self.mismatch(path, value, schema),
        }
    }

    fn table(&mut self, path: &str, value: &mut Value, schema: &Json) {
        let tag = value.tag();
        let Value::Dict(_, table) = value else { return };
        let form = chosen(schema, |key| table.get(key).and_then(Value::as_str));
        let properties = Properties { schema, form };
        if schema["additionalProperties"] == false || schema["unevaluatedProperties"] == false {
            let unknown: Vec<String> = table.keys().filter(|key| properties.get(key).is_none()).cloned().collect();
            for key in unknown {
                if let Some(value) = table.remove(&key) {
                    self.unknown_key(path, &key, &value, properties);
                }
            }
        }
        for (key, property) in properties.all() {
            if let Some(value) = table.get_mut(key) {
                self.value(&join(path, key), value, property);
            }
        }
        let required = [Some(schema), form].into_iter().flatten().filter_map(|table| table["required"].as_array());
        for key in required.flatten().filter_map(Json::as_str) {
            if let (false, Some(property)) = (table.contains_key(key), properties.get(key)) {
                let tag = self.layers.remover(&join(path, key)).unwrap_or(tag);
                let mut value = Value::Dict(tag, Dict::new());
                self.missing(&join(path, key), &mut value, property, tag);
                table.insert(key.to_owned(), value);
            }
        }
    }

    fn missing(&mut self, path: &str, value: &mut Value, schema: &Json, tag: Tag) {
        if Forms::of(schema).is_some() || type_of(schema) == "object" {
            // An empty table gives a more precise message.
            return self.value(path, value, schema);
        }
        let help = Some(format!("it has no default: add `{path}`"));
        self.problem(path, None, tag, &format!("is missing: expected {}", describe(schema)), help);
        self.broken.push(path.to_owned());
        *value = placeholder(schema);
    }

    fn unknown_key(&mut self, path: &str, key: &str, value: &Value, known: Properties<'_>) {
        if self.problems.len() > MOST_PROBLEMS {
            return;
        }
        let owners = known.owners(key);
        if let Some((selector, ..)) = owners.first() {
            // Without a form it is unknown whether the key belongs here; a default value has no effect.
            if known.form.is_some() && !owners.iter().any(|(.., default)| default.is_some_and(|d| is_default(value, d)))
            {
                let words: Vec<&str> = owners.iter().map(|(_, word, _)| *word).collect();
                let message = format!("only {} has this key", quoted(&words));
                let help = format!("leave `{key}` out, or use `{selector}: {}`", words.join("` or `"));
                self.problem(&join(path, key), Some(value), value.tag(), &message, Some(help));
            }
            return;
        }
        let names: Vec<&str> = known.all().map(|(key, _)| key.as_str()).collect();
        // A key of the same table may belong to another `kind`; it is then in the right place.
        let elsewhere = find_key(self.schema, key, "").filter(|elsewhere| *elsewhere != join(path, key));
        let hint = match (did_you_mean(key, &names), elsewhere) {
            _ if key.contains('.') => "levels are tables within tables here; dots are for `--set`. ".into(),
            (Some(hint), _) => format!("{hint} "),
            (None, Some(elsewhere)) => format!("did you mean `{elsewhere}`? "),
            (None, None) => String::new(),
        };
        let help = format!("{hint}Known here: {}", quoted(&names));
        self.problem(&join(path, key), Some(value), value.tag(), UNKNOWN_KEY, Some(help));
    }

    fn list(&mut self, path: &str, value: &mut Value, schema: &Json) {
        let count = value.as_array().map_or(0, <[Value]>::len) as u64;
        if schema["minItems"].as_u64().is_some_and(|least| count < least)
            || schema["maxItems"].as_u64().is_some_and(|most| count > most)
        {
            return self.mismatch(path, value, schema);
        }
        let Value::Array(_, items) = value else { return };
        for (index, item) in items.iter_mut().enumerate() {
            self.value(&join(path, &index.to_string()), item, &schema["items"]);
        }
        if schema["uniqueItems"] == true {
            let mut seen: Vec<&Value> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                if !seen.contains(&item) {
                    seen.push(item);
                    continue;
                }
                let path = join(path, &index.to_string());
                self.problem(&path, Some(item), item.tag(), "is given twice", Some("once is enough".into()));
            }
        }
    }

    fn number(&mut self, path: &str, value: &mut Value, schema: &Json) {
        let whole = type_of(schema) == "integer";
        let Value::Num(_, number) = value else {
            return self.mismatch(path, value, schema);
        };
        let (float, is_float) = as_f64(*number);
        if !float.is_finite() {
            return self.refuse(path, value, schema, &format!("expected {}, and finite", describe(schema)), None);
        }
        if whole && is_float {
            let help = (float.fract() == 0.0 && float.abs() < 1e15)
                .then(|| format!("write `{}`: a whole number has no point and no exponent", float as i64));
            return self.refuse(path, value, schema, &format!("expected {}", describe(schema)), help);
        }
        if !bounds(schema).hold(float) {
            self.refuse(path, value, schema, &format!("expected {}", describe(schema)), None);
        }
    }

    fn text(&mut self, path: &str, value: &mut Value, schema: &Json) {
        if !value.as_str().is_some_and(|text| takes(text, schema)) {
            self.mismatch(path, value, schema);
        }
    }

    /// A value with a type other than the schema's.
    fn mismatch(&mut self, path: &str, value: &mut Value, schema: &Json) {
        let types = alternatives(schema).unwrap_or_else(|| vec![schema]);
        let can_be = |name: &str| types.iter().any(|schema| type_of(schema) == name);
        let help = match &*value {
            Value::String(_, text) if can_be("integer") || can_be("number") => {
                text.trim().parse::<f64>().is_ok().then(|| format!("leave out the quotes: `{}`", text.trim()))
            }
            Value::String(_, text) if can_be("boolean") => match text.to_lowercase().as_str() {
                "yes" | "on" | "true" => Some("write `true`".into()),
                "no" | "off" | "false" => Some("write `false`".into()),
                _ => None,
            },
            // Quoting does not help where the text needs a certain form.
            Value::Num(..) | Value::Bool(..)
                if types.iter().any(|schema| type_of(schema) == "string" && takes(&line(value), schema))
                    && !can_be("array") =>
            {
                Some(format!("put it in quotes if it is meant: `\"{}\"`", line(value)))
            }
            Value::String(..) if can_be("string") => None,
            Value::Num(..) | Value::String(..) if can_be("array") => {
                Some(format!("for a list of one, write `[{}]`", line(value)))
            }
            Value::Empty(..) => Some("leave the item out".into()),
            _ => None,
        };
        self.refuse(path, value, schema, &format!("expected {}", describe(schema)), help);
    }

    /// Reports a value and replaces it by a placeholder.
    fn refuse(&mut self, path: &str, value: &mut Value, schema: &Json, message: &str, help: Option<String>) {
        self.problem(path, Some(value), value.tag(), message, help);
        self.broken.push(path.to_owned());
        *value = placeholder(schema);
    }

    fn problem(&mut self, path: &str, value: Option<&Value>, tag: Tag, message: &str, help: Option<String>) {
        if self.problems.len() >= MOST_PROBLEMS {
            if self.problems.len() == MOST_PROBLEMS {
                self.problems.push(Problem::new("", format!("there are more than {MOST_PROBLEMS} problems")));
            }
            return;
        }
        self.problems.push(Problem {
            key: path.to_owned(),
            value: value.map(line),
            message: message.to_owned(),
            origin: self.layers.place(tag, path),
            help,
        });
    }
}

/// The keys of a table.
#[derive(Clone, Copy)]
struct Properties<'s> {
    schema: &'s Json,
    /// The table's form, if it has several.
    form: Option<&'s Json>,
}

impl<'s> Properties<'s> {
    fn get(self, key: &str) -> Option<&'s Json> {
        property(self.schema, self.form, key)
    }

    /// Every key, the form's own last.
    fn all(self) -> impl Iterator<Item = (&'s String, &'s Json)> {
        let common = self.schema["properties"].as_object();
        let own = self.form.and_then(|form| form["properties"].as_object()).into_iter().flatten();
        let own = own.filter(move |(key, _)| common.is_none_or(|common| !common.contains_key(*key)));
        common.into_iter().flatten().chain(own)
    }

    /// The forms that have this key: selector, its value, and the key's default.
    fn owners(self, key: &str) -> Vec<(&'s str, &'s str, Option<&'s Json>)> {
        let Some(Forms { selector, all, .. }) = Forms::of(self.schema) else { return Vec::new() };
        let owner = |(word, form): (&'s str, &'s Json)| {
            form["properties"].get(key).map(|property| (selector, word, property.get("default")))
        };
        all.into_iter().filter_map(owner).collect()
    }
}

/// The help for a `kind` that is deliberately not supported.
fn left_out(kind: &str) -> Option<String> {
    (kind == "sparseadam").then(|| {
        "use `adam`: SparseAdam is left out, since gradients would have to be sparse (the original could not run it either)"
            .into()
    })
}

/// The type that a schema expects besides null; empty for any.
fn type_of(schema: &Json) -> &str {
    match &schema["type"] {
        Json::String(name) => name,
        Json::Array(names) => names.iter().filter_map(Json::as_str).find(|name| *name != "null").unwrap_or(""),
        _ => "",
    }
}

/// Whether a value has the type of an alternative, and its form if both have one, so that it is validated against it.
pub(super) fn fits(value: &Value, schema: &Json) -> bool {
    if let Some((selector, word)) = constant(schema)
        && let Some(value) = value.find_ref(selector)
    {
        return value.as_str() == Some(word);
    }
    match type_of(schema) {
        "object" => value.as_dict().is_some(),
        "array" => value.as_array().is_some() || value.as_dict().is_some_and(is_item_table),
        "integer" | "number" => matches!(value, Value::Num(..)),
        "string" => value.as_str().is_some(),
        "boolean" => value.to_bool().is_some(),
        _ => true,
    }
}

/// Whether a schema accepts a text.
fn takes(text: &str, schema: &Json) -> bool {
    match (schema["const"].as_str(), schema["pattern"].as_str()) {
        (Some(word), _) => word == text,
        (None, Some(pattern)) => matches(text, pattern),
        (None, None) => {
            matches!(type_of(schema), "string" | "") && text.len() as u64 >= schema["minLength"].as_u64().unwrap_or(0)
        }
    }
}

/// Whether a text matches a pattern of a schema. Each is compiled once: that takes longer than everything else about a value.
fn matches(text: &str, pattern: &str) -> bool {
    static COMPILED: Mutex<BTreeMap<String, Option<Regex>>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let found = compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
    found.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// Whether a value equals its default, however its numbers are written.
pub(super) fn is_default(value: &Value, default: &Json) -> bool {
    match (value, default) {
        (Value::Num(_, number), Json::Number(default)) => Some(as_f64(*number).0) == default.as_f64(),
        (Value::Array(_, items), Json::Array(defaults)) => {
            items.len() == defaults.len() && items.iter().zip(defaults).all(|(item, default)| is_default(item, default))
        }
        (value, default) => serde_json::to_value(value).is_ok_and(|value| value == *default),
    }
}

/// A number as f64, and whether it was written as a float.
fn as_f64(number: Num) -> (f64, bool) {
    match number {
        Num::F32(number) => (number.into(), true),
        Num::F64(number) => (number, true),
        whole => (whole.to_u128().map(|n| n as f64).or(whole.to_i128().map(|n| n as f64)).unwrap_or(f64::NAN), false),
    }
}

fn did_you_mean(written: &str, words: &[&str]) -> Option<String> {
    nearest(written, words.iter().copied()).map(|word| format!("did you mean `{word}`?"))
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The path of a key of this name anywhere in the schema, for keys in the wrong table.
pub(crate) fn find_key(schema: &Json, key: &str, path: &str) -> Option<String> {
    if let Some(properties) = schema["properties"].as_object() {
        let has = |(_, form): &(&str, &Json)| form["properties"].get(key).is_some();
        let own = || Forms::of(schema).is_some_and(|forms| forms.all.iter().any(has));
        if !path.is_empty() && (properties.contains_key(key) || own()) {
            return Some(join(path, key));
        }
        return properties.iter().find_map(|(name, property)| find_key(property, key, &join(path, name)));
    }
    if !schema["items"].is_null() {
        return find_key(&schema["items"], key, &format!("{path}[]"));
    }
    alternatives(schema)?.into_iter().find_map(|alternative| find_key(alternative, key, path))
}

/// A valid value for a schema, to continue with.
fn placeholder(schema: &Json) -> Value {
    if let Some(default) = schema.get("default") {
        return super::yaml::parse(&default.to_string()).unwrap_or_else(|_| Value::from(0u64));
    }
    if let Some(first) = alternatives(schema).and_then(|alternatives| alternatives.first().copied()) {
        return placeholder(first);
    }
    if let Some(word) = schema["const"].as_str() {
        return Value::from(word);
    }
    match type_of(schema) {
        "integer" => Value::from(schema["minimum"].as_u64().unwrap_or(1).max(1)),
        "number" => Value::from(if bounds(schema).hold(1.0) { 1.0 } else { 0.5 }),
        "boolean" => Value::from(false),
        "array" => {
            let count = schema["minItems"].as_u64().unwrap_or(0);
            Value::from((0..count).map(|_| placeholder(&schema["items"])).collect::<Vec<_>>())
        }
        "object" => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
            Value::from(required.map(|key| (key.to_owned(), placeholder(&schema["properties"][key]))).collect::<Dict>())
        }
        _ => Value::from(""),
    }
}

/// The placeholder for a table without any registered kind.
fn unknown_kind(tag: Tag) -> Value {
    Value::Dict(tag, Dict::from([("kind".to_owned(), Value::from(""))]))
}
