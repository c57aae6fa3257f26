//! Tables with several forms: one key, the selector, determines which other keys a table has.
//!
//! A schema declares them in one of two ways: as alternatives (`oneOf`), each a whole table in which the selector is a constant;
//! or as a table whose `properties` are common to all forms, and whose `oneOf` has the keys of each form.

use serde_json::{Value as Json, json};

/// Every selector in a spec.
const SELECTORS: [&str; 2] = ["kind", "cell"];

/// Sort key of paths that are set together: tables come before their keys, and a selector before its siblings, which it would
/// drop otherwise.
pub(super) fn order(path: &str) -> (usize, bool) {
    let last = path.rsplit('.').next().unwrap_or_default();
    (path.matches('.').count(), !SELECTORS.contains(&last))
}

/// The forms of a table.
pub(crate) struct Forms<'s> {
    schema: &'s Json,
    /// The key that determines the form: `kind`, `cell`.
    pub selector: &'s str,
    /// The selector's values, each with the schema of its form.
    pub all: Vec<(&'s str, &'s Json)>,
}

impl<'s> Forms<'s> {
    /// The forms of a table with this schema, if it has several.
    pub fn of(schema: &'s Json) -> Option<Self> {
        let forms = match schema.get("properties") {
            Some(_) => list(schema)?.iter().collect(),
            None => alternatives(schema)?,
        };
        let selector = match forms.first() {
            Some(form) => constant(form)?.0,
            // Nothing is registered.
            None => SELECTORS[0],
        };
        let named = |form| constant(form).filter(|(key, _)| *key == selector).map(|(_, word)| (word, form));
        let all = forms.into_iter().map(named).collect::<Option<_>>()?;
        Some(Forms { schema, selector, all })
    }

    /// The form with this value of the selector.
    pub fn form(&self, word: &str) -> Option<&'s Json> {
        self.all.iter().find(|(other, _)| *other == word).map(|(_, form)| *form)
    }

    /// The value of the selector where it is left out.
    pub fn default(&self) -> Option<&'s str> {
        let own = self.schema["properties"][self.selector]["default"].as_str();
        own.or_else(|| self.schema["default"][self.selector].as_str())
    }

    /// Whether a key is declared for all forms together, as the selector may be.
    pub fn is_common(&self, key: &str) -> bool {
        self.schema["properties"].get(key).is_some()
    }

    /// The schema of the selector.
    pub fn choice(&self) -> Json {
        if let Some(declared) = self.schema["properties"].get(self.selector) {
            return declared.clone();
        }
        let word = |(word, form): &(&str, &Json)| json!({ "const": word, "description": form["description"] });
        let words: Vec<Json> = self.all.iter().map(word).collect();
        let mut choice = json!({ "description": "Determines the other keys of the table.", "oneOf": words });
        if let Some(default) = self.default() {
            choice["default"] = default.into();
        }
        choice
    }

    /// The meaning of a value of the selector.
    pub fn meaning(&self, word: &str) -> String {
        let choice = self.choice();
        let words = choice["oneOf"].as_array().into_iter().flatten();
        let found = words.filter(|one| one["const"] == word).find_map(|one| one["description"].as_str());
        found.unwrap_or_default().to_owned()
    }
}

/// The selector of a form and its value there.
pub(crate) fn constant(form: &Json) -> Option<(&str, &str)> {
    let mut properties = form["properties"].as_object()?.iter();
    properties.find_map(|(key, property)| Some((key.as_str(), property["const"].as_str()?)))
}

/// The alternatives of a schema (`anyOf`, `oneOf`, nested ones flattened, null left out), if it has any.
pub(super) fn alternatives(schema: &Json) -> Option<Vec<&Json>> {
    if schema.get("properties").is_some() {
        return None;
    }
    let mut all = Vec::new();
    for alternative in list(schema)?.iter().filter(|alternative| alternative["type"] != "null") {
        match alternatives(alternative) {
            Some(nested) => all.extend(nested),
            None => all.push(alternative),
        }
    }
    Some(all)
}

fn list(schema: &Json) -> Option<&Vec<Json>> {
    schema["anyOf"].as_array().or(schema["oneOf"].as_array())
}

/// The form of a table; `value` looks up one of its keys.
pub(super) fn chosen<'s, 'v>(schema: &'s Json, value: impl Fn(&str) -> Option<&'v str>) -> Option<&'s Json> {
    let forms = Forms::of(schema)?;
    forms.form(value(forms.selector).or(forms.default())?)
}

/// The schema of a key of a table with this form.
pub(super) fn property<'s>(schema: &'s Json, form: Option<&'s Json>, key: &str) -> Option<&'s Json> {
    schema["properties"].get(key).or_else(|| form?["properties"].get(key))
}

/// The schema of a key of a table, or of an item of a list; `value` looks up one of the table's keys.
pub(super) fn below<'s, 'v>(
    schema: &'s Json,
    key: &str,
    value: impl Fn(&str) -> Option<&'v str> + Copy,
) -> Option<&'s Json> {
    let form = chosen(schema, value);
    let own = property(schema, form, key);
    if own.is_some() || form.is_some() {
        return own;
    }
    if key.bytes().all(|byte| byte.is_ascii_digit()) && schema.get("items").is_some() {
        return schema.get("items");
    }
    alternatives(schema)?.into_iter().find_map(|alternative| below(alternative, key, value))
}
