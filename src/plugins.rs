//! Plug-ins: parts of an experiment that a spec chooses by name, such as tasks and cells.
//!
//! A plug-in is one type. Its fields are its keys in a spec, deserialised by serde and described by its JSON Schema; its
//! behaviour is a second, object-safe trait, such as `Task`. [`Kinds`] is the registry of one category of plug-ins.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Problem, Result};

/// The keys of a plug-in's table in a spec.
pub type Keys = serde_json::Map<String, Value>;

/// A part of an experiment that is chosen by name. Its fields are its keys: defaults come from serde, descriptions from doc
/// comments. Refuse unknown fields (`#[serde(deny_unknown_fields)]`).
pub trait Plugin: Serialize + DeserializeOwned + JsonSchema + 'static {
    /// Its name in a spec.
    const KIND: &'static str;
    /// A one-line description, for listings.
    const ABOUT: &'static str;

    /// Problems beyond the types and ranges of single keys; keys are relative to the plug-in's table.
    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// Names, descriptions and schemas of the plug-ins of one category.
pub trait Catalogue {
    /// Every registered name, in the order of registration.
    fn kinds(&self) -> Vec<&'static str>;

    /// The one-line description of a plug-in.
    fn about(&self, kind: &str) -> Option<&'static str>;

    /// The JSON Schema of a plug-in's keys.
    fn schema(&self, kind: &str) -> Option<Value>;

    /// A plug-in's keys with its defaults filled in.
    ///
    /// # Errors
    /// All problems found; keys are relative to the plug-in's table.
    fn fill(&self, kind: &str, keys: &Keys) -> Result<Keys, Vec<Problem>>;
}

/// The registered plug-ins of one category; `P` is their behaviour, such as `dyn Task`.
pub struct Kinds<P: ?Sized> {
    /// The category's name in messages, such as "task".
    category: &'static str,
    entries: Vec<Entry<P>>,
}

/// One registered plug-in, its type erased.
struct Entry<P: ?Sized> {
    kind: &'static str,
    about: &'static str,
    schema: fn() -> Value,
    fill: fn(&Keys) -> Result<Keys, Vec<Problem>>,
    read: Box<Read<P>>,
}

/// Deserialises a plug-in from its keys.
type Read<P> = dyn Fn(&Keys) -> serde_json::Result<Box<P>> + Send + Sync;

impl<P: ?Sized + 'static> Kinds<P> {
    /// An empty registry; `category` is its name in messages.
    pub fn new(category: &'static str) -> Self {
        Kinds { category, entries: Vec::new() }
    }

    /// Adds a plug-in; `boxed` is `|plugin| Box::new(plugin)`.
    ///
    /// # Panics
    /// If its name is taken, which is a programming error.
    pub fn register<T: Plugin>(&mut self, boxed: fn(T) -> Box<P>) {
        assert!(!self.kinds().contains(&T::KIND), "the {} `{}` is registered twice", self.category, T::KIND);
        self.entries.push(Entry {
            kind: T::KIND,
            about: T::ABOUT,
            schema: || {
                let generator = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true).into_generator();
                generator.into_root_schema_for::<T>().to_value()
            },
            fill: fill::<T>,
            read: Box::new(move |keys| serde_json::from_value(Value::Object(keys.clone())).map(boxed)),
        });
    }

    /// The plug-in of this name with these keys.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none, or if its keys are invalid.
    pub fn open(&self, kind: &str, keys: &Keys) -> Result<Box<P>> {
        let entry = self.entry(kind).ok_or_else(|| self.missing(kind))?;
        (entry.read)(keys).map_err(|error| Error::Usage(format!("{} `{kind}`: {error}", self.category)))
    }

    fn entry(&self, kind: &str) -> Option<&Entry<P>> {
        self.entries.iter().find(|entry| entry.kind == kind)
    }

    fn missing(&self, kind: &str) -> Error {
        let category = self.category;
        Error::Usage(format!("there is no {category} `{kind}`; there are: {}", self.kinds().join(", ")))
    }
}

impl<P: ?Sized + 'static> Catalogue for Kinds<P> {
    fn kinds(&self) -> Vec<&'static str> {
        self.entries.iter().map(|entry| entry.kind).collect()
    }

    fn about(&self, kind: &str) -> Option<&'static str> {
        self.entry(kind).map(|entry| entry.about)
    }

    fn schema(&self, kind: &str) -> Option<Value> {
        self.entry(kind).map(|entry| (entry.schema)())
    }

    fn fill(&self, kind: &str, keys: &Keys) -> Result<Keys, Vec<Problem>> {
        match self.entry(kind) {
            Some(entry) => (entry.fill)(keys),
            None => Err(vec![Problem::new("", self.missing(kind).to_string())]),
        }
    }
}

fn fill<T: Plugin>(keys: &Keys) -> Result<Keys, Vec<Problem>> {
    let unreadable = |error: serde_json::Error| vec![Problem::new("", error.to_string())];
    let plugin: T = serde_json::from_value(Value::Object(keys.clone())).map_err(unreadable)?;
    let problems = plugin.check();
    if !problems.is_empty() {
        return Err(problems);
    }
    match serde_json::to_value(plugin).map_err(unreadable)? {
        Value::Object(keys) => Ok(keys),
        _ => Err(vec![Problem::new("", format!("`{}` is not a table of keys", T::KIND))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    trait Animal {
        fn legs(&self) -> usize;
    }

    /// An insect.
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    struct Insect {
        /// Legs that it has lost.
        lost: usize,
    }

    impl Plugin for Insect {
        const KIND: &'static str = "insect";
        const ABOUT: &'static str = "six legs";

        fn check(&self) -> Vec<Problem> {
            if self.lost > 6 { vec![Problem::new("lost", "there are only 6")] } else { Vec::new() }
        }
    }

    impl Animal for Insect {
        fn legs(&self) -> usize {
            6 - self.lost
        }
    }

    fn keys(value: Value) -> Keys {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_plugin_is_found_by_name_filled_in_and_opened() -> Result<()> {
        let mut animals = Kinds::<dyn Animal>::new("animal");
        animals.register::<Insect>(|insect| Box::new(insect));
        assert_eq!(animals.kinds(), ["insect"]);
        assert_eq!(animals.about("insect"), Some("six legs"));
        assert_eq!(animals.fill("insect", &Keys::new()).ok(), Some(keys(json!({"lost": 0}))));
        assert_eq!(animals.open("insect", &keys(json!({"lost": 1})))?.legs(), 5);
        let described = &animals.schema("insect").unwrap()["properties"]["lost"]["description"];
        assert_eq!(described, "Legs that it has lost.");
        Ok(())
    }

    #[test]
    fn problems_with_keys_are_reported() {
        let mut animals = Kinds::<dyn Animal>::new("animal");
        animals.register::<Insect>(|insect| Box::new(insect));
        let problem = |kind: &str, value: Value| {
            let problems = animals.fill(kind, &keys(value)).unwrap_err();
            problems.into_iter().map(|problem| (problem.key, problem.message)).next().unwrap()
        };
        assert_eq!(problem("insect", json!({"lost": 7})), ("lost".into(), "there are only 6".into()));
        assert!(problem("insect", json!({"lots": 7})).1.contains("unknown field `lots`"));
        assert_eq!(problem("bird", json!({})).1, "there is no animal `bird`; there are: insect");
        assert!(animals.open("bird", &Keys::new()).is_err());
    }
}
