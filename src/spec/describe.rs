//! JSON Schemas in words, for error messages.

use figment::value::Value;
use serde_json::Value as Json;

use super::forms::{alternatives, below};
use super::provenance::step;

/// The constants of alternatives that are all constants.
pub(super) fn words<'a>(alternatives: &[&'a Json]) -> Option<Vec<&'a str>> {
    let words: Option<Vec<&str>> = alternatives.iter().map(|alternative| alternative["const"].as_str()).collect();
    words.filter(|words| !words.is_empty())
}

/// What a schema expects, as the end of a sentence that begins with "expected".
pub(super) fn describe(schema: &Json) -> String {
    if let Some(alternatives) = alternatives(schema) {
        if let Some(words) = words(&alternatives) {
            let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            return if quoted.len() == 1 { quoted[0].clone() } else { format!("one of {}", quoted.join(", ")) };
        }
        let mut phrases: Vec<String> = Vec::new();
        for alternative in alternatives {
            // A list among several alternatives may have a description of its items.
            let phrase = match alternative["description"].as_str().filter(|_| alternative["type"] == "array") {
                Some(text) => lower_first(text.trim_end_matches('.')),
                None => describe(alternative),
            };
            if !phrases.contains(&phrase) {
                phrases.push(phrase);
            }
        }
        return phrases.join(", or ");
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("`{word}`");
    }
    let name = match &schema["type"] {
        Json::Array(names) => names.iter().filter_map(Json::as_str).find(|name| *name != "null").unwrap_or(""),
        name => name.as_str().unwrap_or(""),
    };
    match name {
        "integer" => format!("a whole number{}", bounds(schema).phrase()),
        "number" => format!("a number{}", bounds(schema).phrase()),
        "boolean" => "`true` or `false`".into(),
        "string" => match (schema.get("pattern"), schema["description"].as_str()) {
            (Some(_), Some(text)) => format!("text: {}", lower_first(text.trim_end_matches('.'))),
            _ if schema["minLength"].as_u64() > Some(0) => "text that is not empty".into(),
            _ => "text".into(),
        },
        "array" => list(schema),
        "object" => {
            let keys = schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str());
            format!("a table with keys such as `{}`", keys.take(3).collect::<Vec<_>>().join("`, `"))
        }
        _ => "something else".into(),
    }
}

fn list(schema: &Json) -> String {
    let items = match describe(&schema["items"]) {
        items if items.starts_with("a table") => "tables".into(),
        items => format!("items that are each {items}"),
    };
    match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
        (Some(least), Some(most)) if least == most => format!("a list of {least} {items}"),
        (Some(1), None) => format!("a list of {items}, at least one"),
        (Some(1), Some(most)) => format!("a list of {items}, at least one and at most {most}"),
        _ => format!("a list of {items}"),
    }
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// The meaning and default of a key of the merged value, the help where there is none more specific. Items of a list are explained
/// by their list.
pub(super) fn meaning(schema: &Json, merged: &Value, path: &str) -> Option<String> {
    let found = path.split('.').try_fold((schema, Some(merged)), |(schema, value), key| {
        let word = |key: &str| value?.as_dict()?.get(key)?.as_str();
        Some((below(schema, key, word)?, value.and_then(|value| step(value, key))))
    });
    let explained = found.and_then(|(found, _)| Some((found, found["description"].as_str()?)));
    let Some((found, text)) = explained else {
        return path.rfind('.').and_then(|end| meaning(schema, merged, &path[..end]));
    };
    let optional = found["type"].as_array().is_some_and(|names| names.contains(&"null".into()))
        || found["anyOf"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "null"));
    Some(match found.get("default") {
        Some(default) => format!("{text} Leave it out for the default, `{}`.", super::yaml::line(default)),
        None if optional => format!("{text} It may be left out."),
        None => format!("{text} It has no default: choose another value."),
    })
}

/// The range of a number.
pub(super) struct Bounds {
    least: Option<f64>,
    above: Option<f64>,
    most: Option<f64>,
    below: Option<f64>,
}

/// The range that a schema allows.
pub(super) fn bounds(schema: &Json) -> Bounds {
    Bounds {
        least: schema["minimum"].as_f64(),
        above: schema["exclusiveMinimum"].as_f64(),
        most: schema["maximum"].as_f64(),
        below: schema["exclusiveMaximum"].as_f64(),
    }
}

impl Bounds {
    /// Whether a number lies in it.
    pub fn hold(&self, number: f64) -> bool {
        self.least.is_none_or(|bound| number >= bound)
            && self.above.is_none_or(|bound| number > bound)
            && self.most.is_none_or(|bound| number <= bound)
            && self.below.is_none_or(|bound| number < bound)
    }

    fn phrase(&self) -> String {
        let low = match (self.least, self.above) {
            (Some(bound), _) => Some(format!("of at least {bound}")),
            (_, Some(bound)) => Some(format!("above {bound}")),
            _ => None,
        };
        let high = match (self.most, self.below) {
            (Some(bound), _) => Some(format!("at most {bound}")),
            (_, Some(bound)) => Some(format!("below {bound}")),
            _ => None,
        };
        match (low, high) {
            (Some(low), Some(high)) => format!(" {low} and {high}"),
            (Some(one), None) | (None, Some(one)) => format!(" {one}"),
            (None, None) => String::new(),
        }
    }
}
